"""Samples with their splits, and confidence intervals of metrics on them."""
