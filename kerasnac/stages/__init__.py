"""The stages of a run. Each takes what the one before it returned, and writes its results to the run folder."""
