"""Training in which every weight and every channel learns its own bit width, with the weights.

The method of Sun et al., "Gradient-based Automatic Mixed Precision Quantization for Neural Networks On-Chip"
(arXiv:2405.00645): to round to f fractional bits has the gradient of the identity with respect to the number x, and
ln 2 (x - q) with respect to f, since the error of rounding halves with every bit. The loss of the task has a second term, the
effective bit operations: the sum, over all products, of the bits of the weight times those of the other factor. Its factor
rises during the training, which so walks from wide to narrow networks, and leaves one on every stretch of the way.

Channels learn their integer bits, too: numbers beyond the limit 2**i saturate, and the limit has the gradient of its
exponent. A few numbers beyond it are cheaper than another bit in all products. A channel that takes smaller numbers on the
training samples than it could has the integer bits that these need.

Learned tables count with the look-up tables of an FPGA that their entries and the sums of these take, which is about what
a bit operation of a product takes; see :mod:`kerasnac.adapters.keras.learned.tables`.
"""
