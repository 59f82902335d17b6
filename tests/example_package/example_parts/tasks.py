"""A kind of tasks."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

import kerasnac as kn
from kerasnac.errors import DataError


def counted(x: NDArray[np.float32], y: NDArray[np.float32], outputs: int, name: str) -> NDArray[np.float32]:
    """Return counts as columns of float32, shape (samples, outputs)."""
    y = y.reshape(len(y), -1)
    if y.shape[1] != outputs or np.any(y < 0) or np.any(y != np.round(y)):
        raise DataError(f"{name}: labels must be {outputs} counts per sample: whole numbers from 0 on")
    return y.astype(np.float32)


def logarithms(y: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return what networks learn: a count of a thousand may be wrong by more than one of three."""
    return np.log1p(y)


def of_counts(outputs: NDArray[np.float32], y: NDArray[np.float32]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return outputs and labels as metrics get them: the logarithms of both."""
    return outputs, np.log1p(y)


COUNTS = kn.TaskKind("mae", "log_cosh", counted, targets=logarithms, measured=of_counts)
