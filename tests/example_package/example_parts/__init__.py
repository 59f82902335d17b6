"""Parts for kerasnac that another package brings."""
