"""How sure a metric on some samples is."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

#: Indices drawn at once: bounds the memory, whatever the number of samples.
_CHUNK = 4_000_000


@dataclass(frozen=True)
class Score:
    """A metric with its confidence interval.

    Attributes:
        value: On the samples as they are.
        low: Lower end of the interval.
        high: Upper end.
    """

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.value:.4f} [{self.low:.4f}, {self.high:.4f}]"


def bootstrap(scores: NDArray[np.float64], *, seed: int, resamples: int = 2000, confidence: float = 0.95) -> Score:
    """The mean of some scores, with a percentile bootstrap interval (Efron, Ann. Statist. 7, 1 (1979)).

    It says how much the metric would vary with other test samples of the same kind; not with another training.

    Args:
        scores: One per sample, shape (samples,); see :meth:`kerasnac.core.data.dataset.Task.scores`.
        seed: Of the resampling. Equal seeds draw the same samples for equal numbers of scores.
        resamples: How often the samples are drawn, with replacement.
        confidence: Probability that the interval is to have.

    Returns:
        All NaN if a score is.
    """
    rng, count = np.random.default_rng(seed), len(scores)
    value = float(np.mean(scores))
    rows = max(1, _CHUNK // count)
    means = np.concatenate(
        [
            scores[rng.integers(0, count, size=(min(rows, resamples - done), count), dtype=np.int32)].mean(axis=1)
            for done in range(0, resamples, rows)
        ]
    )
    low, high = np.quantile(means, [(1 - confidence) / 2, (1 + confidence) / 2])
    return Score(value, float(low), float(high))
