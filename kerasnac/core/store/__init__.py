"""Storage of a run: journals, locks, whole files, keys, seeds, versions, progress."""
