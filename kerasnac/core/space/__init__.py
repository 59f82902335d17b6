"""Search spaces: blocks, genomes, widths, and networks that are known beforehand."""
