"""Results of a run: what its folder holds, read at any time without a lock, and without TensorFlow."""
