"""A dataset."""

from __future__ import annotations

import numpy as np

import kerasnac as kn


def blobs(n: int = 300, seed: int = 0) -> kn.Dataset:
    """Three classes of points around three centres, with six features."""
    rng = np.random.default_rng(seed)
    y = np.arange(n) % 3
    x = rng.normal(size=(3, 6))[y] + 0.5 * rng.normal(size=(n, 6))
    return kn.datasets.from_arrays(x, y, name="blobs", seed=seed)
