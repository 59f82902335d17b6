#ifndef NNET_SIGN_H_
#define NNET_SIGN_H_

#include "hls_stream.h"
#include "nnet_common.h"

namespace nnet {

// The smallest step of a type for numbers that are not negative, its negative for the others.
template <class data_T, class res_T> inline res_T signed_step(data_T x) {
    #pragma HLS INLINE
    res_T step = 0;
    step[0] = 1;
    res_T minus = -step;
    return x < 0 ? minus : step;
}

template <class data_T, class res_T, typename CONFIG_T>
void sign(data_T data[CONFIG_T::n_in], res_T res[CONFIG_T::n_in]) {
    #pragma HLS PIPELINE
    for (unsigned i = 0; i < CONFIG_T::n_in; i++) {
        #pragma HLS UNROLL
        res[i] = signed_step<data_T, res_T>(data[i]);
    }
}

template <class data_T, class res_T, typename CONFIG_T>
void sign(hls::stream<data_T> &data, hls::stream<res_T> &res) {
    for (unsigned i = 0; i < CONFIG_T::n_in / res_T::size; i++) {
        #pragma HLS PIPELINE
        data_T in = data.read();
        res_T out;
        PRAGMA_DATA_PACK(out)
        for (unsigned j = 0; j < res_T::size; j++) {
            #pragma HLS UNROLL
            out[j] = signed_step<typename data_T::value_type, typename res_T::value_type>(in[j]);
        }
        res.write(out);
    }
}

} // namespace nnet

#endif
