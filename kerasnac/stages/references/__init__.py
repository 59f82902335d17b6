"""Yardsticks: what else is trained on the data of a run, for comparison with its networks."""
