"""States of a qubit from traces of I and Q without a network: a matched filter, and a boxcar."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]


@dataclass(frozen=True)
class Filter:
    """A weighted sum of some samples of I and Q, and a threshold.

    Attributes:
        start: First sample.
        weights: Shape (length, 2).
        threshold: From here on the second state is called.
    """

    start: int
    weights: Array
    threshold: float

    def __call__(self, x: Array) -> Array:
        """Return logits of the two states, shape (traces, 2), of traces (traces, samples, 2)."""
        above = _sums(x, self.start, self.weights) - self.threshold
        return np.stack([-above, above], axis=1)


def matched_filter(x: Array, y: Array, start: int, length: int) -> Filter:
    """Return the filter that is best against white noise: the difference of the mean traces (Turin, IRE Trans. IT-6, 1960).

    Args:
        x: Training traces, shape (traces, samples, 2).
        y: 0 or 1, shape (traces,).
        start: First sample of the window.
        length: Number of samples.
    """
    window = x[:, start : start + length]
    difference = window[y == 1].mean(axis=0, dtype=np.float64) - window[y == 0].mean(axis=0, dtype=np.float64)
    weights = difference / max(float(np.abs(difference).max()), 1e-30)
    return Filter(start, weights, _threshold(_sums(x, start, weights), y))


def boxcar(x: Array, y: Array, start: int, length: int) -> Filter:
    """Return the best line between the means of I and Q over a window (Fisher's discriminant); arguments as above."""
    means = x[:, start : start + length].mean(axis=1, dtype=np.float64)
    within = sum(np.cov(means[y == state], rowvar=False) for state in (0, 1))
    direction = np.linalg.lstsq(within, means[y == 1].mean(axis=0) - means[y == 0].mean(axis=0), rcond=None)[0]
    direction = direction / max(float(np.abs(direction).max()), 1e-30)
    weights = np.tile(direction / length, (length, 1))
    return Filter(start, weights, _threshold(_sums(x, start, weights), y))


def _sums(x: Array, start: int, weights: Array) -> Array:
    window = x[:, start : start + len(weights)]
    return np.asarray(window.reshape(len(x), -1) @ weights.ravel().astype(x.dtype), np.float64)


def _threshold(sums: Array, y: Array) -> float:
    """Return the threshold between two sums of the training traces with the most right calls."""
    order = np.argsort(sums, kind="stable")
    values, excited = sums[order], (y[order] == 1).astype(np.int64)
    # With the threshold before place i, the i lower ones are called 0.
    right = np.concatenate([[0], np.cumsum(1 - excited)]) + excited.sum() - np.concatenate([[0], np.cumsum(excited)])
    place = int(np.argmax(right))
    around = np.concatenate([[values[0] - 1], values, [values[-1] + 1]])[place : place + 2]
    return float(np.mean(around))
