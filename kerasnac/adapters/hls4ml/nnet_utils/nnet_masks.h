#ifndef NNET_MASKS_H_
#define NNET_MASKS_H_

#include "ap_fixed.h"
#include "hls_stream.h"
#include "nnet_common.h"

namespace nnet {

// Masks of particles that are there, and what reads them. All types hold their values exactly, but those that round.

// 1 for a particle with any feature other than zero.
template <class data_T, class res_T, typename CONFIG_T>
void particle_mask(data_T data[CONFIG_T::n_in * CONFIG_T::n_filt], res_T res[CONFIG_T::n_in]) {
    #pragma HLS PIPELINE
    for (unsigned i = 0; i < CONFIG_T::n_in; i++) {
        #pragma HLS UNROLL
        bool there = false;
        for (unsigned c = 0; c < CONFIG_T::n_filt; c++) {
            #pragma HLS UNROLL
            there = there || data[i * CONFIG_T::n_filt + c] != 0;
        }
        res[i] = there ? 1 : 0;
    }
}

template <class data_T, class res_T, typename CONFIG_T>
void particle_mask(hls::stream<data_T> &data, hls::stream<res_T> &res) {
    for (unsigned i = 0; i < CONFIG_T::n_in; i++) {
        #pragma HLS PIPELINE
        data_T in = data.read();
        res_T out;
        PRAGMA_DATA_PACK(out)
        bool there = false;
        for (unsigned c = 0; c < CONFIG_T::n_filt; c++) {
            #pragma HLS UNROLL
            there = there || in[c] != 0;
        }
        out[0] = there ? 1 : 0;
        res.write(out);
    }
}

// Sums over the particles that are there, times the reciprocal of their number, which is looked up.
template <class data_T, class mask_T, class res_T, typename CONFIG_T>
void masked_mean(data_T data[CONFIG_T::n_in * CONFIG_T::n_filt], mask_T mask[CONFIG_T::n_in], res_T res[CONFIG_T::n_filt],
                 typename CONFIG_T::reciprocal_t reciprocal[CONFIG_T::n_in + 1]) {
    #pragma HLS PIPELINE
    unsigned count = 0;
    for (unsigned i = 0; i < CONFIG_T::n_in; i++) {
        #pragma HLS UNROLL
        count += mask[i] != 0;
    }
    for (unsigned c = 0; c < CONFIG_T::n_filt; c++) {
        #pragma HLS UNROLL
        typename CONFIG_T::accum_t sum = 0;
        for (unsigned i = 0; i < CONFIG_T::n_in; i++) {
            #pragma HLS UNROLL
            if (mask[i] != 0) {
                sum += data[i * CONFIG_T::n_filt + c];
            }
        }
        res[c] = sum * reciprocal[count];
    }
}

template <class data_T, class mask_T, class res_T, typename CONFIG_T>
void masked_mean(hls::stream<data_T> &data, hls::stream<mask_T> &mask, hls::stream<res_T> &res,
                 typename CONFIG_T::reciprocal_t reciprocal[CONFIG_T::n_in + 1]) {
    typename CONFIG_T::accum_t sums[CONFIG_T::n_filt];
    #pragma HLS ARRAY_PARTITION variable=sums complete
    unsigned count = 0;
    for (unsigned i = 0; i < CONFIG_T::n_in; i++) {
        #pragma HLS PIPELINE
        data_T in = data.read();
        const bool there = mask.read()[0] != 0;
        for (unsigned c = 0; c < CONFIG_T::n_filt; c++) {
            #pragma HLS UNROLL
            if (i == 0) {
                sums[c] = 0;
            }
            if (there) {
                sums[c] += in[c];
            }
        }
        count += there;
    }
    res_T out;
    PRAGMA_DATA_PACK(out)
    for (unsigned c = 0; c < CONFIG_T::n_filt; c++) {
        #pragma HLS UNROLL
        out[c] = sums[c] * reciprocal[count];
    }
    res.write(out);
}

// Softmax over the particles that are there: exp(x - largest) and 1 / sum from tables, then their product. The index of the
// second table rounds half up and saturates, the result half to even. Without any particle all results are zero.
template <class data_T, class mask_T, class res_T, typename CONFIG_T>
void masked_softmax(data_T data[CONFIG_T::n_outer * CONFIG_T::n_in], mask_T mask[CONFIG_T::n_in],
                    res_T res[CONFIG_T::n_outer * CONFIG_T::n_in],
                    typename CONFIG_T::exponential_t exponential[CONFIG_T::exponentials],
                    typename CONFIG_T::reciprocal_t reciprocal[CONFIG_T::reciprocals]) {
    #pragma HLS PIPELINE
Rows:
    for (unsigned row = 0; row < CONFIG_T::n_outer; row++) {
        #pragma HLS UNROLL
        data_T largest = 0;
        bool any = false;
    Largest:
        for (unsigned i = 0; i < CONFIG_T::n_in; i++) {
            #pragma HLS UNROLL
            if (mask[i] != 0 && (!any || data[row * CONFIG_T::n_in + i] > largest)) {
                largest = data[row * CONFIG_T::n_in + i];
                any = true;
            }
        }
        typename CONFIG_T::exponential_t entries[CONFIG_T::n_in];
        #pragma HLS ARRAY_PARTITION variable=entries complete
        typename CONFIG_T::sum_t sum = 0;
    Exponentials:
        for (unsigned i = 0; i < CONFIG_T::n_in; i++) {
            #pragma HLS UNROLL
            typename CONFIG_T::difference_t difference = largest - data[row * CONFIG_T::n_in + i];
            entries[i] = 0;
            if (mask[i] != 0) {
                entries[i] = exponential[(unsigned)difference.range(CONFIG_T::difference_t::width - 1, 0)];
            }
            sum += entries[i];
        }
        typename CONFIG_T::index_t index = sum;
        typename CONFIG_T::reciprocal_t factor = reciprocal[(unsigned)index.range(CONFIG_T::index_t::width - 1, 0)];
    Results:
        for (unsigned i = 0; i < CONFIG_T::n_in; i++) {
            #pragma HLS UNROLL
            res[row * CONFIG_T::n_in + i] = entries[i] * factor;
        }
    }
}

} // namespace nnet

#endif
