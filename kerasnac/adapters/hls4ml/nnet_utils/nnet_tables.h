#ifndef NNET_TABLES_H_
#define NNET_TABLES_H_

#include "ap_fixed.h"
#include "hls_stream.h"
#include "nnet_common.h"

namespace nnet {

// Sums of learned functions of one variable: one table per input and unit, in this order, each read at the bits of its input.
template <class data_T, class res_T, typename CONFIG_T>
void tables(data_T data[CONFIG_T::n_in], res_T res[CONFIG_T::n_out],
            typename CONFIG_T::kernel_t kernel[CONFIG_T::n_in * CONFIG_T::n_out * CONFIG_T::entries]) {
    #pragma HLS PIPELINE
    #pragma HLS ARRAY_PARTITION variable=kernel block factor=CONFIG_T::n_in * CONFIG_T::n_out
    unsigned index[CONFIG_T::n_in];
    #pragma HLS ARRAY_PARTITION variable=index complete
Indices:
    for (unsigned i = 0; i < CONFIG_T::n_in; i++) {
        #pragma HLS UNROLL
        typename CONFIG_T::index_t on_grid = data[i];
        index[i] = on_grid.range(CONFIG_T::index_t::width - 1, 0);
    }
Units:
    for (unsigned j = 0; j < CONFIG_T::n_out; j++) {
        #pragma HLS UNROLL
        typename CONFIG_T::accum_t sum = 0;
        for (unsigned i = 0; i < CONFIG_T::n_in; i++) {
            #pragma HLS UNROLL
            sum += kernel[(i * CONFIG_T::n_out + j) * CONFIG_T::entries + index[i]];
        }
        res[j] = sum;
    }
}

template <class data_T, class res_T, typename CONFIG_T>
void tables(hls::stream<data_T> &data, hls::stream<res_T> &res,
            typename CONFIG_T::kernel_t kernel[CONFIG_T::n_in * CONFIG_T::n_out * CONFIG_T::entries]) {
    typename data_T::value_type in[CONFIG_T::n_in];
    typename res_T::value_type out[CONFIG_T::n_out];
    #pragma HLS ARRAY_PARTITION variable=in complete
    #pragma HLS ARRAY_PARTITION variable=out complete
    for (unsigned i = 0; i < CONFIG_T::n_in / data_T::size; i++) {
        #pragma HLS PIPELINE
        data_T part = data.read();
        for (unsigned j = 0; j < data_T::size; j++) {
            #pragma HLS UNROLL
            in[i * data_T::size + j] = part[j];
        }
    }
    tables<typename data_T::value_type, typename res_T::value_type, CONFIG_T>(in, out, kernel);
    res_T sums;
    PRAGMA_DATA_PACK(sums)
    for (unsigned j = 0; j < CONFIG_T::n_out; j++) {
        #pragma HLS UNROLL
        sums[j] = out[j];
    }
    res.write(sums);
}

} // namespace nnet

#endif
