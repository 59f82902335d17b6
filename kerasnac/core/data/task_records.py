"""Tasks in the description of a run: enough to show results, without the data and without any function of others."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any, NoReturn

from kerasnac.core.data.losses import LOSSES, Loss
from kerasnac.core.data.metrics import Array, Metric, with_unit
from kerasnac.core.data.task import TASKS, Task, TaskKind
from kerasnac.core.store.memo import Shape
from kerasnac.errors import ConfigError, RunError

#: Fields of a task that are recorded as they are.
_PLAIN = ("kind", "outputs", "scale", "unit")

_SHAPE = Shape(
    {
        "kind": str,
        "outputs": int,
        "scale": float | int,
        "unit": str,
        "names": list[str],
        "classes": bool,
        "metrics": list[dict[str, str]],
        "loss": str,
    }
)


def task_to_dict(task: Task) -> dict[str, Any]:
    """Return a task as JSON: its metrics by name, sense and unit, the one that stages choose by first."""
    metrics = [{"name": one.name, "sense": one.sense, "unit": with_unit(one, task.unit).unit} for one in task.measured]
    plain = {name: getattr(task, name) for name in _PLAIN}
    return {**plain, "names": list(task.names), "classes": task.classes, "metrics": metrics, "loss": task.loss.name}


def task_from_dict(data: Mapping[str, Any]) -> Task:
    """Return the task of :func:`task_to_dict`, for showing results: it knows its metrics, but cannot measure them.

    No part of others is imported, whatever the names in a folder say.

    Raises:
        RunError: If it is damaged.
    """
    try:
        _SHAPE.check(data)
        metrics = tuple(
            Metric(partial(_refuse, one["name"]), one["name"], one["sense"], one["unit"]) for one in data["metrics"]
        )
        if not metrics:
            raise ConfigError("it has no metric")
    except (KeyError, TypeError, ConfigError) as error:
        raise RunError(f"the task is damaged: {error}") from error
    task = object.__new__(Task)
    kind, loss = data["kind"], LOSSES.get(data["loss"], Loss(data["loss"]))
    known = {name: data[name] for name in _PLAIN} | {"names": tuple(data["names"]), "loss": loss, "measured": metrics}
    known |= {"metric": metrics[0].name, "metrics": tuple(one.name for one in metrics[1:])}
    known |= {"made_of": TASKS.get(kind) or TaskKind(metrics[0], loss, _no_labels, classes=data["classes"])}
    for name, value in known.items():
        object.__setattr__(task, name, value)
    return task


def _refuse(name: str, outputs: Array, labels: Array) -> NoReturn:
    raise RunError(f"metric {name}: a run that is shown measures nothing; load its data")


def _no_labels(x: Array, y: Array, outputs: int, name: str) -> NoReturn:
    raise RunError(f"{name}: a run that is shown has no data; load them")
