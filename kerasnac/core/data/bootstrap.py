"""Confidence intervals of metrics on some samples."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

#: Scores drawn at once: bounds the memory, whatever the number of samples.
_BATCH = 4_000_000


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
    """Return the mean of some scores, with a percentile bootstrap interval (Efron, Ann. Statist. 7, 1 (1979)).

    It says how much the metric would vary with other test samples of the same kind; not with another training.

    Args:
        scores: One per sample, shape (samples,); see :meth:`kerasnac.core.data.dataset.Task.scores`.
        seed: Of the resampling. Equal seeds draw the same samples for equal numbers of scores.
        resamples: How often the samples are drawn, with replacement.
        confidence: Probability that the interval is to have.

    Returns:
        All NaN if a score is.
    """
    from scipy import stats  # takes a moment to load

    value = float(np.mean(scores))
    if len(scores) < 2 or np.isnan(value):
        return Score(value, value, value)
    result = stats.bootstrap(
        (scores,),
        np.mean,
        n_resamples=resamples,
        batch=max(1, _BATCH // len(scores)),
        confidence_level=confidence,
        method="percentile",
        rng=np.random.default_rng(seed),
    )
    return Score(value, float(result.confidence_interval.low), float(result.confidence_interval.high))
