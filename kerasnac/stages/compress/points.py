"""Compressed models with the costs and remarks that are recorded with them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from kerasnac.adapters.rtl.adder_graph import adder_graph_costs
from kerasnac.core.data.dataset import Task
from kerasnac.core.hardware.boards import board
from kerasnac.core.hardware.estimators import SOURCES
from kerasnac.core.network.origin import PointOrigin
from kerasnac.core.network.trained import Trained
from kerasnac.core.settings import CompressSettings
from kerasnac.core.store.journal import Journal
from kerasnac.core.store.keys import content_key
from kerasnac.core.store.memo import Memo, Shape
from kerasnac.core.store.places import owners
from kerasnac.core.store.progress import Step
from kerasnac.errors import ConversionError

#: Name of the journal in the run folder.
JOURNAL = "compress.jsonl"


@dataclass(frozen=True)
class Point:
    """One compressed model, with what is recorded of it besides.

    Attributes:
        model: The quantized, pruned model.
        costs: Metrics of its adder graph; empty if they were not asked for, or if it has none.
        note: A remark for tables: why there is no adder graph, why pruning changed nothing.
        suffix: What the name of its folder has after the name of the model, see :mod:`kerasnac.core.store.places`.
    """

    model: Trained
    costs: Mapping[str, float] = field(default_factory=dict)
    note: str = ""
    suffix: str = ""


def point_origin(model: Trained) -> PointOrigin:
    """Return the origin of a compressed model."""
    assert isinstance(model.origin, PointOrigin)
    return model.origin


def recorded_values(task: Task) -> dict[str, Any]:
    """Return the types of what every point has in its record, for :class:`kerasnac.core.store.memo.Shape`."""
    costs = dict.fromkeys((f"{name}?" for name in SOURCES["adder_graph"]), float)
    numbers = dict.fromkeys((task.metric, "loss", "sparsity", "bops", "seconds"), float)
    return {**numbers, **costs, "adder_graph?": str, "reason?": str, "note?": str}


def with_graph_costs(settings: CompressSettings, model: Trained, record: Mapping[str, Any]) -> dict[str, Any]:
    """Return a point's record with the costs of its adder graph, if asked for, or the reason why it has none."""
    # The key is a hash of all that decides the costs of given weights.
    own = content_key("adder graph", board=settings.board, settings=settings.adder_graph.identity)
    if not settings.adder_graphs or record.get("adder_graph") == own:
        return dict(record)
    plain = {name: value for name, value in record.items() if name not in (*SOURCES["adder_graph"], "reason")}
    try:
        costs = adder_graph_costs(model.architecture, model.weights, settings.adder_graph, board(settings.board))
    except ConversionError as reason:
        return {**plain, "adder_graph": own, "reason": str(reason)}
    return {**plain, "adder_graph": own, **costs}


def recorded_point(settings: CompressSettings, model: Trained, record: Mapping[str, Any], suffix: str) -> Point:
    """Return a model with the costs and remarks of its record."""
    costs = {name: record[name] for name in SOURCES["adder_graph"] if name in record} if settings.adder_graphs else {}
    if settings.clock is not None:
        costs = settings.clock.timed(costs)
    reason = record.get("reason", "") if settings.adder_graphs else ""
    return Point(model, costs, "; ".join(filter(None, (record.get("note", ""), reason))), suffix)


def points_to_json(points: Sequence[Point]) -> list[dict[str, Any]]:
    """Return points as the journal of the stages has them."""
    return [
        {
            "model": p.model.name,
            "digest": p.model.digest,
            "costs": dict(p.costs),
            "note": p.note,
            **({"suffix": p.suffix} if p.suffix else {}),
        }
        for p in points
    ]


def known_points(folder: Path, recorded: Sequence[Mapping[str, Any]] | None) -> tuple[Point, ...] | None:
    """Return points that an earlier call has found, without any worker; None if one of them has to be made again.

    Args:
        folder: Run folder.
        recorded: Of :func:`points_to_json`; None if nothing is recorded.
    """
    found: list[Point] = []
    for one in () if recorded is None else recorded:
        suffix = one.get("suffix", "")
        model = Trained.find_same(folder / "compressed" / f"{one['model']}{suffix}", one["digest"], one["model"])
        if model is None:
            return None
        found.append(Point(model, one["costs"], one["note"], suffix))
    return None if recorded is None else tuple(found)


def first_keys(memo: Memo) -> dict[str, str]:
    """Return, for the beginning of the names of points up to their number, the key that has their plain folders."""
    return owners(memo.records, lambda record: str(record["model"]).rpartition("-")[0])


def compress_memo(folder: Path, task: Task) -> Memo:
    """Open the journal of all compressed points of a run."""
    shape = Shape({"key": str, "model": str, "iteration": int, **recorded_values(task)})
    return Memo(Journal(folder / JOURNAL), shape, lambda record: record["key"])


def point_facts(record: Mapping[str, Any], *, known: bool) -> dict[str, Any]:
    """Return what there is to tell of a point; see :data:`kerasnac.core.store.progress.FACTS`.

    Args:
        record: Of the point.
        known: True if an earlier call has recorded it.
    """
    values = {name: value for name, value in record.items() if isinstance(value, float) and name != "seconds"}
    return {"model": record["model"], "metrics": values, "known": known}


class NewPoints:
    """Tells of points that appear in a journal.

    Args:
        memo: The journal, which others refresh; what is there now is known.
        keys: Of the records.
    """

    def __init__(self, memo: Memo, keys: Sequence[str]) -> None:
        self._memo, self._keys, self._told = memo, keys, 0
        self._known = len(memo.all(*keys))

    def __call__(self, step: Step) -> list[Step]:
        """Return a step for every point since the last call, with its facts; the given one alone if there is none.

        Args:
            step: How far the stage is.
        """
        records = self._memo.all(*self._keys)
        first, self._told = self._told, len(records)
        facts = [point_facts(r, known=n < self._known) for n, r in enumerate(records[first:], start=first)]
        return [replace(step, kind="point", facts=own) for own in facts] or [step]


def found_model(folder: Path, record: Mapping[str, Any]) -> Trained | None:
    """Return the model of a record.

    None if its folder is damaged or missing, or if a call of an earlier version with other settings has saved its own model
    there since: the model is trained again, with the same result.
    """
    model = Trained.find(folder, record["model"])
    if model is None:
        return None
    recorded = [record.get(name, np.nan) for name in model.metrics]
    return model if np.array_equal(recorded, list(model.metrics.values()), equal_nan=True) else None


def made_point(
    settings: CompressSettings,
    known: Mapping[str, Any] | None,
    *,
    find: Callable[[Mapping[str, Any]], Trained | None],
    train: Callable[[], tuple[Trained, dict[str, Any]]],
    add: Callable[[Mapping[str, Any]], None],
    suffix: str = "",
) -> Point:
    """Return a point with its costs: read if it is recorded, else trained and saved; what is new is recorded.

    Args:
        settings: Which costs are asked for.
        known: Its record, if there is one.
        find: Reads the model of a record; None if it has to be trained again.
        train: Trains and saves the model; returns its record, too.
        add: Appends a record to the journal.
        suffix: Of the folder, see :class:`Point`.
    """
    model, record = (None if known is None else find(known)), dict(known or {})
    if model is None:
        model, record = train()
    record = with_graph_costs(settings, model, record)
    if record != known:
        add(record)
    return recorded_point(settings, model, record, suffix)
