"""Samples with their splits, and how sure a metric on them is."""
