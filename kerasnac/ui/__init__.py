"""User interface: the command line, progress, tables and plots."""
