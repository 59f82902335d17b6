"""What is kept on disk, and how: journals, whole files, keys, seeds, versions, progress."""
