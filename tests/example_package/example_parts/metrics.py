"""A metric."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

import kerasnac as kn


def gap(outputs: NDArray[np.float32], labels: NDArray[np.int64]) -> NDArray[np.float32]:
    """Return by how much the logit of the label is above the largest other one, shape (samples,)."""
    rows = np.arange(len(labels))
    others = outputs.copy()
    others[rows, labels] = -np.inf
    return outputs[rows, labels] - others.max(axis=1)


GAP = kn.Metric(gap, "gap", "max", averaged=True)
