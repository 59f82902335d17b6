"""Ensembles of decision trees in whole numbers, and what they cost on an FPGA."""
