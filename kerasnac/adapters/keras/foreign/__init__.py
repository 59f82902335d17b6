"""Keras and QKeras models that others have built, as networks of ours."""
