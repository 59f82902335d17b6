#ifndef NNET_EXACT_MEAN_H_
#define NNET_EXACT_MEAN_H_

#include "ap_fixed.h"
#include "hls_stream.h"
#include "nnet_common.h"

namespace nnet {

// Means over windows of a map as sums times a constant. All types hold their values exactly. Series have one row.

template <class data_T, class res_T, typename CONFIG_T>
void exact_mean(data_T data[CONFIG_T::in_height * CONFIG_T::in_width * CONFIG_T::n_filt],
                res_T res[CONFIG_T::out_height * CONFIG_T::out_width * CONFIG_T::n_filt],
                typename CONFIG_T::reciprocal_t reciprocal[1]) {
    #pragma HLS PIPELINE
Windows:
    for (unsigned window = 0; window < CONFIG_T::out_height * CONFIG_T::out_width; window++) {
        #pragma HLS UNROLL
        const unsigned top = window / CONFIG_T::out_width * CONFIG_T::stride;
        const unsigned left = window % CONFIG_T::out_width * CONFIG_T::stride;
    Channels:
        for (unsigned c = 0; c < CONFIG_T::n_filt; c++) {
            #pragma HLS UNROLL
            typename CONFIG_T::accum_t sum = 0;
            for (unsigned i = 0; i < CONFIG_T::pool_height; i++) {
                #pragma HLS UNROLL
                for (unsigned j = 0; j < CONFIG_T::pool_width; j++) {
                    #pragma HLS UNROLL
                    sum += data[((top + i) * CONFIG_T::in_width + left + j) * CONFIG_T::n_filt + c];
                }
            }
            res[window * CONFIG_T::n_filt + c] = sum * reciprocal[0];
        }
    }
}

// Packs of channels come in one after the other, and are added to the sums of all windows that they are in: at most `ways`
// of them along each axis, as windows may overlap. A sum leaves with the last value of its window.
template <class data_T, class res_T, typename CONFIG_T>
void exact_mean(hls::stream<data_T> &data, hls::stream<res_T> &res, typename CONFIG_T::reciprocal_t reciprocal[1]) {
    typename CONFIG_T::accum_t sums[CONFIG_T::ways][CONFIG_T::out_width][CONFIG_T::n_filt];
    #pragma HLS ARRAY_PARTITION variable=sums complete dim=1
    #pragma HLS ARRAY_PARTITION variable=sums complete dim=3
Rows:
    for (unsigned row = 0; row < CONFIG_T::in_height; row++) {
    Columns:
        for (unsigned column = 0; column < CONFIG_T::in_width; column++) {
            data_T in = data.read();
            for (unsigned a = 0; a < CONFIG_T::ways; a++) {
                for (unsigned b = 0; b < CONFIG_T::ways; b++) {
                    // The window that is `a` above and `b` before the last one that this value may be in.
                    const unsigned above = row / CONFIG_T::stride, before = column / CONFIG_T::stride;
                    if (a > above || b > before) {
                        continue;
                    }
                    const unsigned i = above - a, j = before - b;
                    const unsigned y = row - i * CONFIG_T::stride, x = column - j * CONFIG_T::stride;
                    if (i >= CONFIG_T::out_height || j >= CONFIG_T::out_width || y >= CONFIG_T::pool_height ||
                        x >= CONFIG_T::pool_width) {
                        continue;
                    }
                    res_T out;
                    PRAGMA_DATA_PACK(out)
                    for (unsigned c = 0; c < CONFIG_T::n_filt; c++) {
                        #pragma HLS UNROLL
                        typename CONFIG_T::accum_t &sum = sums[i % CONFIG_T::ways][j][c];
                        typename CONFIG_T::accum_t first = 0;
                        sum = (y == 0 && x == 0 ? first : sum) + in[c];
                        out[c] = sum * reciprocal[0];
                    }
                    if (y == CONFIG_T::pool_height - 1 && x == CONFIG_T::pool_width - 1) {
                        res.write(out);
                    }
                }
            }
        }
    }
}

} // namespace nnet

#endif
