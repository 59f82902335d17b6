"""The report of a run: one HTML file that needs nothing else; its figures and tables as files."""
