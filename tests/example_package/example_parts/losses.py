"""A loss."""

from __future__ import annotations

from typing import Any


def steep(labels: Any, logits: Any, *, power: float = 2.0) -> Any:
    """Return the cross-entropy of each sample to a power, shape (samples,), which cares for the worst samples most."""
    import tensorflow as tf

    return tf.nn.sparse_softmax_cross_entropy_with_logits(labels, logits) ** power
