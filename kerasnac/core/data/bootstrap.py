"""Confidence intervals of metrics on some samples."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from kerasnac.core.data.metrics import Array, Metric
from kerasnac.core.data.task import Task
from kerasnac.errors import MetricError

#: Scores drawn at once: bounds the memory, whatever the number of samples.
_BATCH = 4_000_000

#: Resamples of a metric that is a mean over samples, and of any other, which takes as many calls of its function.
RESAMPLES, FEWER_RESAMPLES = 2000, 500


@dataclass(frozen=True)
class Score:
    """A metric with its confidence interval.

    Attributes:
        value: On the samples as they are.
        low: Lower end of the interval.
        high: Upper end.
        further: The further metrics of the task, by name.
    """

    value: float
    low: float
    high: float
    further: Mapping[str, Score] = field(default_factory=dict)

    def __str__(self) -> str:
        return f"{number(self.value)} [{number(self.low)}, {number(self.high)}]"


def number(value: float) -> str:
    """Return a metric as tables show it."""
    return f"{value:.4f}" if not abs(value) >= 100 else f"{value:.5g}"


def score(task: Task, outputs: Array, labels: Array, *, seed: int, confidence: float = 0.95) -> Score:
    """Return the metrics of a task, each with a percentile bootstrap interval (Efron, Ann. Statist. 7, 1 (1979)).

    It says how much the metric would vary with other test samples of the same kind; not with another training.

    Args:
        task: Its metrics.
        outputs: Network outputs, shape (samples, outputs).
        labels: Shape (samples,) or (samples, outputs).
        seed: Of the resampling. Equal seeds draw the same samples for equal numbers of them.
        confidence: Probability that an interval is to have.

    Returns:
        All NaN if an output is not finite.

    Raises:
        MetricError: If a metric's function does not return finite numbers.
    """
    outputs, labels = task.seen(outputs, labels)

    def interval(measured: Metric) -> Score:
        if measured.averaged:
            return bootstrap(task.sample_values(measured, outputs, labels), seed=seed, confidence=confidence)
        return _resampled(task, measured, outputs, labels, seed, confidence)

    main, *others = task.measured
    found = interval(main)
    return Score(found.value, found.low, found.high, {one.name: interval(one) for one in others})


def bootstrap(scores: NDArray[np.float64], *, seed: int, resamples: int = RESAMPLES, confidence: float = 0.95) -> Score:
    """Return the mean of some scores, with a percentile bootstrap interval.

    Args:
        scores: One per sample, shape (samples,); see :meth:`kerasnac.core.data.task.Task.scores`.
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


def _resampled(task: Task, measured: Metric, outputs: Array, labels: Array, seed: int, confidence: float) -> Score:
    """Return a metric that is no mean over samples, with the interval of its values on samples drawn with replacement."""
    value, rng = task.value(measured, outputs, labels), np.random.default_rng(seed)
    if len(labels) < 2 or np.isnan(value):
        return Score(value, value, value)
    values = []
    for _ in range(FEWER_RESAMPLES):
        drawn = rng.integers(len(labels), size=len(labels))
        try:
            values.append(task.value(measured, outputs[drawn], labels[drawn]))
        except MetricError:  # Few samples may be drawn without any of a class, which says nothing about the others.
            continue
    if not values:
        return Score(value, value, value)
    low, high = np.quantile(values, ((1 - confidence) / 2, (1 + confidence) / 2))
    return Score(value, float(low), float(high))
