"""Scores on the test split, in a journal: no model is scored twice."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from pydantic import Field

from kerasnac.core.data.bootstrap import Score
from kerasnac.core.data.curves import Curves, Details, curves_from_dict, curves_to_dict
from kerasnac.core.data.dataset import Dataset
from kerasnac.core.network.trained import Trained
from kerasnac.core.network.weights import weights_hash
from kerasnac.core.store.journal import Journal
from kerasnac.core.store.keys import content_key
from kerasnac.core.store.memo import Memo, Shape
from kerasnac.stages.references.classical import ClassicalPoint
from kerasnac.stages.references.result import TreesPoint

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
        "confusion?": list[list[Annotated[int, Field(ge=0)]]],
    }
)

#: What a record is guarded by its digest for.
DIGESTED = ("key", "model", "metrics", "curves", "confusion")

#: What has a score.
Scored = Trained | TreesPoint | ClassicalPoint


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
        record = self._memo.get(self.key(model))
        return None if record is None else score_of(record)

    def details(self, model: Scored) -> Details:
        """Return curves and confusion of a model, as far as they are recorded."""
        record = self._memo.get(self.key(model))
        return Details() if record is None else recorded_details(record)

    def add(self, model: Scored, score: Score, details: Details) -> None:
        """Record the score of a model, and what is known of it besides."""
        metrics = {"": [score.value, score.low, score.high]}
        metrics |= {metric: [one.value, one.low, one.high] for metric, one in score.further.items()}
        record: dict[str, Any] = {"key": self.key(model), "model": model.name, "metrics": metrics}
        record |= {} if details.curves is None else {"curves": curves_to_dict(details.curves)}
        record |= {} if details.confusion is None else {"confusion": details.confusion.tolist()}
        self._memo.add(record | {"digest": _digest(record)})

    def key(self, model: Scored) -> str:
        """Return the hash of a model, and of all else that decides its score."""
        if isinstance(model, ClassicalPoint):
            return content_key("score", **self._own, other=model.key)
        if isinstance(model, TreesPoint):
            return content_key("score", **self._own, trees=model.ensemble.to_dict())
        return content_key("score", **self._own, model=model.identity, weights=weights_hash(model.weights))


def score_of(record: Mapping[str, Any]) -> Score:
    """Return the score of a record."""
    others = {name: Score(value, low, high) for name, (value, low, high) in record["metrics"].items() if name}
    value, low, high = record["metrics"][""]
    return Score(value, low, high, others)


def recorded_details(record: Mapping[str, Any]) -> Details:
    """Return curves and confusion of a record, as far as it has them, and this version knows them."""
    rows = record.get("confusion", ())
    square = bool(rows) and {len(row) for row in rows} == {len(rows)}
    return Details(_curves(record), np.array(rows, np.int64) if square else None)


def _curves(record: Mapping[str, Any]) -> Curves | None:
    try:
        return curves_from_dict(record["curves"]) if "curves" in record else None
    except (LookupError, TypeError, ValueError):
        return None


def is_sound(record: Mapping[str, Any]) -> bool:
    """Return False for a record that has changed since it was written."""
    return "" in record["metrics"] and bool(record["digest"] == _digest(record))


def _digest(record: Mapping[str, Any]) -> str:
    return content_key("scored", **{name: record[name] for name in DIGESTED if name in record})
