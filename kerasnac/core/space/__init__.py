"""Search spaces: blocks, genomes, bit widths of layers, and networks that are known beforehand."""
