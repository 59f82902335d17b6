"""Optimisers: pymoo, and the Bayesian optimisation of keras-tuner."""
