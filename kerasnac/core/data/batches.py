"""The order in which trainings see their samples."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def batches(count: int, batch_size: int, *, seed: int, epoch: int) -> NDArray[np.int32]:
    """Shuffle the samples of one epoch.

    Args:
        count: Number of samples.
        batch_size: Samples per batch.
        seed: Seed of the training.
        epoch: Number of the epoch, from 0.

    Returns:
        Indices of the samples, int32 of shape (batches, batch_size); the last batch ends with -1 where there are no more.
    """
    order = np.full(-(-count // batch_size) * batch_size, -1, np.int32)
    order[:count] = np.random.default_rng([seed, epoch]).permutation(count)
    return order.reshape(-1, batch_size)
