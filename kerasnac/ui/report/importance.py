"""Which hyperparameters of the tuning matter."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from kerasnac.core.store.memo import Record

#: Trials below which nothing is said.
FEWEST = 20

#: Hyperparameters that may have been searched, and those of them whose logarithm counts.
SEARCHED = ("learning_rate", "batch_size", "optimizer", "schedule", "weight_decay", "l1", "dropout", "label_smoothing")
_LOGARITHMIC = frozenset({"learning_rate", "batch_size", "weight_decay", "l1"})


@dataclass(frozen=True)
class Importance:
    """Importance of hyperparameters over the trials of all models.

    Attributes:
        values: Mean loss of R² when the values of a hyperparameter are shuffled, by name, the largest first.
        errors: Standard deviation over the shuffles.
        explained: R² of the forest on trials that a tree has not seen (out of bag); at 0 or below, importances mean nothing.
        trials: How many there were.
    """

    values: Mapping[str, float]
    errors: Mapping[str, float]
    explained: float
    trials: int


def importance(trials: Mapping[str, Sequence[Record]], metric: str) -> Importance | None:
    """Return the permutation importance of hyperparameters in a random forest (Breiman, Machine Learning 45, 5 (2001)).

    The forest predicts by how much a trial is better than the median of its model's trials, in units of their spread (half the
    interquartile range), so that trials of all models count together, and single bad ones do not decide.

    Args:
        trials: Records of the tuning by model.
        metric: The task metric.

    Returns:
        The importances; None with fewer than :data:`FEWEST` trials, or if nothing was varied.
    """
    rows, scores = [], []
    for records in trials.values():
        own = [r for r in records if r.get("kind") == "trial" and isinstance(r.get(metric), int | float)]
        own = [r for r in own if np.isfinite(r[metric])]
        values = np.array([record[metric] for record in own])
        if len(values) < 3:
            continue
        low, middle, high = np.quantile(values, (0.25, 0.5, 0.75))
        scores += np.clip((values - middle) / max((high - low) / 2, 1e-12), -5, 5).tolist()
        rows += own
    names = [name for name in SEARCHED if len({str(row.get(name)) for row in rows}) > 1]
    if len(rows) < FEWEST or not names:
        return None
    from sklearn.ensemble import RandomForestRegressor
    from sklearn.inspection import permutation_importance

    x = np.array([[_number(name, row.get(name), rows) for name in names] for row in rows])
    forest = RandomForestRegressor(n_estimators=100, min_samples_leaf=2, oob_score=True, random_state=0).fit(x, scores)
    found = permutation_importance(forest, x, scores, n_repeats=10, random_state=0)
    order = np.argsort(-found.importances_mean)
    return Importance(
        {names[i]: float(found.importances_mean[i]) for i in order},
        {names[i]: float(found.importances_std[i]) for i in order},
        float(forest.oob_score_),
        len(rows),
    )


def _number(name: str, value: Any, rows: Sequence[Record]) -> float:
    """Return a hyperparameter as a number: names by how often they stand there, others as they are, or their logarithm."""
    if isinstance(value, str):
        counts = Counter(str(row.get(name)) for row in rows)
        return float(sorted(counts, key=lambda one: (-counts[one], one)).index(value))
    number = 0.0 if value is None else float(value)
    return float(np.log10(max(number, 1e-12))) if name in _LOGARITHMIC else number
