"""Pure Python and NumPy: architectures, spaces, costs, data, journal. Nothing here imports TensorFlow."""
