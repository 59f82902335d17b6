#ifndef NNET_QUANTIZER_H_
#define NNET_QUANTIZER_H_

#include "hls_stream.h"
#include "nnet_common.h"

namespace nnet {

// A number plus half a step, cut to the last bit of res_T, without the bits that its channel lacks, between two limits.
template <class data_T, class res_T, class half_T, class shift_T, class limit_T>
inline res_T to_channel_format(data_T x, half_T half, shift_T shift, limit_T low, limit_T high) {
    #pragma HLS INLINE
    const int fractional = res_T::width - res_T::iwidth;
    // Wide enough for any sum; at least one bit is left of a number that is smaller than a step.
    const int whole = (data_T::iwidth > res_T::iwidth ? data_T::iwidth : res_T::iwidth) + 2;
    const int width = whole + fractional;
    ap_fixed<width, whole> sum = x + half;
    ap_int<width> steps = sum.range(width - 1, 0);
    steps = (steps >> shift) << shift;
    ap_int<width> bottom = low;
    ap_int<width> top = high;
    if (steps < bottom)
        steps = bottom;
    if (steps > top)
        steps = top;
    res_T result;
    result.range(res_T::width - 1, 0) = steps.range(res_T::width - 1, 0);
    return result;
}

template <class data_T, class res_T, typename CONFIG_T>
void quantizer(data_T data[CONFIG_T::n_in], res_T res[CONFIG_T::n_in], typename CONFIG_T::offset_t offset[CONFIG_T::n_filt],
               typename CONFIG_T::shift_t shift[CONFIG_T::n_filt], typename CONFIG_T::low_t low[CONFIG_T::n_filt],
               typename CONFIG_T::high_t high[CONFIG_T::n_filt]) {
    #pragma HLS PIPELINE
    for (unsigned i = 0; i < CONFIG_T::n_in; i++) {
        #pragma HLS UNROLL
        const unsigned c = i % CONFIG_T::n_filt;
        res[i] = to_channel_format<data_T, res_T>(data[i], offset[c], shift[c], low[c], high[c]);
    }
}

template <class data_T, class res_T, typename CONFIG_T>
void quantizer(hls::stream<data_T> &data, hls::stream<res_T> &res, typename CONFIG_T::offset_t offset[CONFIG_T::n_filt],
               typename CONFIG_T::shift_t shift[CONFIG_T::n_filt], typename CONFIG_T::low_t low[CONFIG_T::n_filt],
               typename CONFIG_T::high_t high[CONFIG_T::n_filt]) {
    for (unsigned i = 0; i < CONFIG_T::n_in / res_T::size; i++) {
        #pragma HLS PIPELINE
        data_T in = data.read();
        res_T out;
        PRAGMA_DATA_PACK(out)
        for (unsigned j = 0; j < res_T::size; j++) {
            #pragma HLS UNROLL
            const unsigned c = j % CONFIG_T::n_filt;
            out[j] = to_channel_format<typename data_T::value_type, typename res_T::value_type>(in[j], offset[c], shift[c],
                                                                                               low[c], high[c]);
        }
        res.write(out);
    }
}

} // namespace nnet

#endif
