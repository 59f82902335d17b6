"""Quantization-aware training with pruning, and mixed precision."""
