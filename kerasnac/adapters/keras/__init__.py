"""Keras and QKeras: the only place where an architecture becomes a model."""
