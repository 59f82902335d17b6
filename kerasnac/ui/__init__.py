"""What people see: the command line, progress, tables and plots."""
