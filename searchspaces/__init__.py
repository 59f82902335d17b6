"""The run files that come with kerasnac."""
