"""Networks: layers, formats, weights, training, exactness and bit operations."""
