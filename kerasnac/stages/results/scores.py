"""Scores on the test split, in a journal: no model is scored twice."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from pydantic import Field

from kerasnac.core.data.bootstrap import Score
from kerasnac.core.data.curves import Curves, curves_from_dict, curves_to_dict
from kerasnac.core.data.dataset import Dataset
from kerasnac.core.network.trained import Trained
from kerasnac.core.store.journal import Journal
from kerasnac.core.store.keys import content_key
from kerasnac.core.store.memo import Memo, Shape
from kerasnac.core.trees.ensemble import Ensemble

#: Name of the journal in the run folder.
JOURNAL = "scores.jsonl"

_Interval = Annotated[list[float], Field(min_length=3, max_length=3)]

#: Shape of a record: a metric is its value and the ends of its interval.
SHAPE = Shape(
    {
        "key": str,
        "model": str,
        "digest": str,
        "metrics": Annotated[dict[str, _Interval], Field(min_length=1)],
        "curves?": dict[str, Any],
    }
)

#: What has a score: a network, boosted trees, or anything else by a key of its content.
Scored = Trained | Ensemble | str


class ScoreRecords:
    """Scores of a run.

    Args:
        folder: Run folder.
        data: Its dataset, of which the test split is read.
        seed: Of the resampling.
    """

    def __init__(self, folder: Path, data: Dataset, seed: int) -> None:
        self._memo = Memo(Journal(folder / JOURNAL), SHAPE, lambda record: record["key"] if is_sound(record) else None)
        digest = hashlib.sha256()
        data.open_test().hash_into(digest)
        self._own = {"data": data.development.fingerprint, "test": digest.hexdigest(), "seed": seed}

    def get(self, model: Scored) -> Score | None:
        """Return the score of a model; None if it is not recorded."""
        record = self._memo.get(self._key(model))
        return None if record is None else score_of(record)

    def curves(self, model: Scored) -> Curves | None:
        """Return the curves of a model; None if there are none, or it is not recorded."""
        record = self._memo.get(self._key(model))
        return None if record is None else recorded_curves(record)

    def add(self, name: str, model: Scored, score: Score, curves: Curves | None = None) -> None:
        """Record the score of a model, and its curves."""
        metrics = {"": [score.value, score.low, score.high]}
        metrics |= {metric: [one.value, one.low, one.high] for metric, one in score.further.items()}
        record: dict[str, Any] = {"key": self._key(model), "model": name, "metrics": metrics}
        record |= {} if curves is None else {"curves": curves_to_dict(curves)}
        self._memo.add(record | {"digest": _digest(record)})

    def _key(self, model: Scored) -> str:
        if isinstance(model, str):
            return content_key("score", **self._own, other=model)
        if isinstance(model, Ensemble):
            return content_key("score", **self._own, trees=model.to_dict())
        weights = hashlib.sha256()
        for name in sorted(model.weights):
            weights.update(name.encode() + np.ascontiguousarray(model.weights[name]).tobytes())
        return content_key("score", **self._own, model=model.identity, weights=weights.hexdigest())


def score_of(record: Mapping[str, Any]) -> Score:
    """Return the score of a record."""
    others = {name: Score(value, low, high) for name, (value, low, high) in record["metrics"].items() if name}
    value, low, high = record["metrics"][""]
    return Score(value, low, high, others)


def recorded_curves(record: Mapping[str, Any]) -> Curves | None:
    """Return the curves of a record; None if it has none, or none that this version knows."""
    try:
        return curves_from_dict(record["curves"]) if "curves" in record else None
    except (LookupError, TypeError, ValueError):
        return None


def is_sound(record: Mapping[str, Any]) -> bool:
    """Return False for a record that has changed since it was written."""
    return "" in record["metrics"] and bool(record["digest"] == _digest(record))


def _digest(record: Mapping[str, Any]) -> str:
    return content_key("scored", **{name: record[name] for name in ("key", "model", "metrics", "curves") if name in record})
