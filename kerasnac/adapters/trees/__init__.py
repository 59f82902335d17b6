"""Decision trees by scikit-learn."""
