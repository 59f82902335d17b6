"""Scores on the test split, in a journal: no model is scored twice."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from pydantic import Field

from kerasnac.core.data.bootstrap import Score
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
SHAPE = Shape({"key": str, "model": str, "digest": str, "metrics": Annotated[dict[str, _Interval], Field(min_length=1)]})


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

    def get(self, model: Trained | Ensemble) -> Score | None:
        """Return the score of a model; None if it is not recorded."""
        record = self._memo.get(self._key(model))
        return None if record is None else score_of(record)

    def add(self, name: str, model: Trained | Ensemble, score: Score) -> None:
        """Record the score of a model."""
        metrics = {"": [score.value, score.low, score.high]}
        metrics |= {metric: [one.value, one.low, one.high] for metric, one in score.further.items()}
        record = {"key": self._key(model), "model": name, "metrics": metrics}
        self._memo.add(record | {"digest": _digest(record)})

    def _key(self, model: Trained | Ensemble) -> str:
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


def is_sound(record: Mapping[str, Any]) -> bool:
    """Return False for a record that has changed since it was written."""
    return "" in record["metrics"] and bool(record["digest"] == _digest(record))


def _digest(record: Mapping[str, Any]) -> str:
    return content_key("scored", **{name: record[name] for name in ("key", "model", "metrics")})
