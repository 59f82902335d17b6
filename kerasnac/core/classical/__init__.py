"""Classical methods that networks are compared with: fits of peaks, filters of readout traces."""
