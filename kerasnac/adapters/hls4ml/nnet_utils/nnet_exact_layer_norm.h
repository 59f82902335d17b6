#ifndef NNET_EXACT_LAYER_NORM_H_
#define NNET_EXACT_LAYER_NORM_H_

#include "ap_fixed.h"
#include "hls_stream.h"
#include "nnet_common.h"

namespace nnet {

// Layer normalisation in whole numbers. All types hold their values exactly, but those of the index, which rounds down
// and saturates, and of the result. The spread is size * sum(x^2) - sum(x)^2.

template <class value_T, class res_T, typename CONFIG_T>
void exact_layer_norm_once(value_T data[CONFIG_T::size], res_T res[CONFIG_T::size],
                           typename CONFIG_T::root_t root[CONFIG_T::table_size],
                           typename CONFIG_T::scale_t scale[CONFIG_T::size],
                           typename CONFIG_T::bias_t bias[CONFIG_T::size]) {
    #pragma HLS INLINE
    const typename CONFIG_T::count_t count = CONFIG_T::size;
    typename CONFIG_T::sum_t sum = 0;
    typename CONFIG_T::squares_t squares = 0;
Sums:
    for (unsigned i = 0; i < CONFIG_T::size; i++) {
        #pragma HLS UNROLL
        sum += data[i];
        squares += data[i] * data[i];
    }
    typename CONFIG_T::index_t index = count * squares - sum * sum;
    typename CONFIG_T::root_t factor = root[(unsigned)index.range(CONFIG_T::index_t::width - 1, 0)];
    // (count * x - sum) * factor, multiplied out: the wide products are the same for all values.
    auto slope = count * factor;
    auto offset = sum * factor;
Values:
    for (unsigned i = 0; i < CONFIG_T::size; i++) {
        #pragma HLS UNROLL
        res[i] = (data[i] * slope - offset) * scale[i] + bias[i];
    }
}

template <class data_T, class res_T, typename CONFIG_T>
void exact_layer_norm(data_T data[CONFIG_T::n_in], res_T res[CONFIG_T::n_in],
                      typename CONFIG_T::root_t root[CONFIG_T::table_size],
                      typename CONFIG_T::scale_t scale[CONFIG_T::size],
                      typename CONFIG_T::bias_t bias[CONFIG_T::size]) {
    #pragma HLS PIPELINE
    #pragma HLS ARRAY_PARTITION variable=scale complete
    #pragma HLS ARRAY_PARTITION variable=bias complete
Groups:
    for (unsigned group = 0; group < CONFIG_T::n_in / CONFIG_T::size; group++) {
        #pragma HLS UNROLL
        exact_layer_norm_once<data_T, res_T, CONFIG_T>(data + group * CONFIG_T::size, res + group * CONFIG_T::size, root,
                                                       scale, bias);
    }
}

// Packs of channels come in one after the other. What is normalised together is kept until the last of it is there.
template <class data_T, class res_T, typename CONFIG_T>
void exact_layer_norm(hls::stream<data_T> &data, hls::stream<res_T> &res,
                      typename CONFIG_T::root_t root[CONFIG_T::table_size],
                      typename CONFIG_T::scale_t scale[CONFIG_T::size],
                      typename CONFIG_T::bias_t bias[CONFIG_T::size]) {
    typename data_T::value_type values[CONFIG_T::size];
    typename res_T::value_type results[CONFIG_T::size];
    #pragma HLS ARRAY_PARTITION variable=values complete
    #pragma HLS ARRAY_PARTITION variable=results complete
    #pragma HLS ARRAY_PARTITION variable=scale complete
    #pragma HLS ARRAY_PARTITION variable=bias complete
Groups:
    for (unsigned group = 0; group < CONFIG_T::n_in / CONFIG_T::size; group++) {
    Read:
        for (unsigned pack = 0; pack < CONFIG_T::size / data_T::size; pack++) {
            data_T in = data.read();
            for (unsigned i = 0; i < data_T::size; i++) {
                #pragma HLS UNROLL
                values[pack * data_T::size + i] = in[i];
            }
        }
        exact_layer_norm_once<typename data_T::value_type, typename res_T::value_type, CONFIG_T>(values, results, root, scale,
                                                                                                 bias);
    Write:
        for (unsigned pack = 0; pack < CONFIG_T::size / res_T::size; pack++) {
            res_T out;
            PRAGMA_DATA_PACK(out)
            for (unsigned i = 0; i < res_T::size; i++) {
                #pragma HLS UNROLL
                out[i] = results[pack * res_T::size + i];
            }
            res.write(out);
        }
    }
}

} // namespace nnet

#endif
