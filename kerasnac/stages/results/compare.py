"""Fronts of several runs in one box, with hypervolumes that can be compared."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from kerasnac.adapters.search.fronts import nondominated
from kerasnac.adapters.search.nsga2 import Hypervolume
from kerasnac.core.data.task import Task
from kerasnac.core.search.objectives import Objective
from kerasnac.errors import ConfigError
from kerasnac.stages.results.saved import SavedRun

#: What fronts are of.
STAGES = ("search", "compressed")


@dataclass(frozen=True)
class Point:
    """A point of a front.

    Attributes:
        run: Name of the run in the comparison.
        model: Name of the candidate or of the model.
        metric: The task metric on the validation split.
        cost: The cost.
    """

    run: str
    model: str
    metric: float
    cost: float


@dataclass(frozen=True)
class Box:
    """Fronts of one stage of several runs, in one box.

    Attributes:
        stage: ``search``, or ``compressed``.
        task: The task; the runs have its metric in common.
        cost: Name of the cost.
        fronts: Front of metric and cost by run, ascending in cost.
        reference: Metric and cost of the reference point: points beyond add nothing.
        volumes: Hypervolume by run. The cost counts by its logarithm, and the box between the best values of all fronts and
            the reference point has 1.
        joint: Front of all runs together, ascending in cost.
    """

    stage: str
    task: Task
    cost: str
    fronts: Mapping[str, tuple[Point, ...]]
    reference: tuple[float, float]
    volumes: Mapping[str, float]
    joint: tuple[Point, ...]


def different_data(runs: Sequence[SavedRun]) -> str:
    """Return a remark on runs whose data differ, so that their metrics do not mean the same; empty if they do not."""
    data = {run.fingerprint or str(run.folder): run for run in runs}
    if len(data) == 1:
        return ""
    return "the runs have different data, so that their metrics may not be comparable: " + "; ".join(
        f"{run.folder}: {run.dataset}" for run in data.values()
    )


def boxes(runs: Sequence[SavedRun], *, cost: str | None = None, reference: Mapping[str, float] | None = None) -> list[Box]:
    """Return the fronts of the searches, and of the compressions, of some runs.

    Args:
        runs: Runs with the same task metric.
        cost: Name of a cost that all have recorded; by default that of the first run, if all have it, or else BOPs.
        reference: Reference point: ``metric``, or the metric's name, and the cost, by name; what is left out is somewhat
            beyond the ends of the fronts.

    Returns:
        One box per stage of which any run has a front.

    Raises:
        ConfigError: If the runs have different metrics, or none has such a cost, or the reference point names another value.
    """
    names = _named(runs)
    metrics = {run.task.metric: run for run in runs}
    if len(metrics) > 1:
        told = ", ".join(f"{run.folder} has {metric}" for metric, run in metrics.items())
        raise ConfigError(f"runs of different metrics cannot be compared: {told}")
    found = []
    for stage in STAGES:
        values = {name: _values(run, stage) for name, run in zip(names, runs, strict=True)}
        if not any(values.values()):
            continue
        own = cost or _common_cost(runs, stage, values)
        fronts = {name: _front(name, rows, runs[0].task, own) for name, rows in values.items()}
        if any(fronts.values()):
            found.append(_box(stage, runs[0].task, own, fronts, reference or {}))
        elif cost is not None:
            known = sorted({name for rows in values.values() for _, row in rows for name in row})
            raise ConfigError(f"no run has recorded the cost {cost!r}; there are {', '.join(known)}")
    if not found:
        raise ConfigError(f"{', '.join(str(run.folder) for run in runs)} have no fronts yet")
    return found


def _named(runs: Sequence[SavedRun]) -> list[str]:
    """Return names that tell the runs apart: those of their folders, with that above it where they are the same."""
    paths = [run.folder.resolve() for run in runs]
    names = [path.name for path in paths]
    if len(set(names)) < len(names):
        names = [f"{path.parent.name}/{path.name}" for path in paths]
    if len(set(names)) < len(names):
        names = [str(path) for path in paths]
    if len(set(names)) < len(names):
        raise ConfigError(f"{max(names, key=names.count)} stands twice: give different runs")
    return names


#: Name of a model, and its metrics and costs by name.
_Row = tuple[str, Mapping[str, float]]


def _values(run: SavedRun, stage: str) -> list[_Row]:
    """Return metrics and costs of all points of a stage that may be on its front."""
    if stage == "search":
        return [(e.key, e.metrics) for e in run.search.trained] if run.search else []
    result = run.compressed
    return [(model.name, result.values(model)) for model in result.models] if result else []


def _common_cost(runs: Sequence[SavedRun], stage: str, values: Mapping[str, Sequence[_Row]]) -> str:
    results = (run.search if stage == "search" else run.compressed for run in runs)
    wanted = next((result.cost for result in results if result is not None), "bops")
    there = all(any(wanted in row for _, row in rows) for rows in values.values() if rows)
    return wanted if there else "bops"


def _front(run: str, rows: Sequence[_Row], task: Task, cost: str) -> tuple[Point, ...]:
    known = [Point(run, name, row[task.metric], row[cost]) for name, row in rows if cost in row and task.metric in row]
    return _nondominated([one for one in known if np.isfinite([one.metric, one.cost]).all()], task)


def _nondominated(points: Sequence[Point], task: Task) -> tuple[Point, ...]:
    sign = -1 if task.sense == "max" else 1
    losses = np.array([[one.cost, sign * one.metric] for one in points])
    return tuple(points[index] for index in nondominated(losses))


def _box(stage: str, task: Task, cost: str, fronts: Mapping[str, tuple[Point, ...]], reference: Mapping[str, float]) -> Box:
    names = {"metric", task.metric, cost}
    if unknown := set(reference) - names:
        raise ConfigError(f"the reference point has {sorted(unknown)[0]!r}: it is of metric and {cost}")
    metric_of, cost_of = Objective(task.metric, task.sense), Objective(cost, "min", foreign_cost=True)

    def scaled(points: Sequence[Point]) -> NDArray[np.float64]:
        rows = [[metric_of.scaled_loss(one.metric), cost_of.scaled_loss(one.cost)] for one in points]
        return np.array(rows, dtype=np.float64).reshape(-1, 2)

    every = [point for front in fronts.values() for point in front]
    losses = scaled(every)
    worst = losses.max(axis=0) + 0.1 * np.ptp(losses, axis=0)
    sign = -1 if task.sense == "max" else 1
    ends = (
        reference.get("metric", reference.get(task.metric, sign * float(worst[0]))),
        reference.get(cost, float(np.expm1(worst[1]))),
    )
    corner = scaled([Point("", "", *ends)])[0]
    volume = Hypervolume(losses, corner)
    volumes = {name: volume(scaled(front)) if front else 0.0 for name, front in fronts.items()}
    return Box(stage, task, cost, fronts, ends, volumes, _nondominated(every, task))
