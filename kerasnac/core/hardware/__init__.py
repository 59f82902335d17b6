"""Boards that networks run on, options of their projects, and sources of their costs."""
