"""Labels of classes, and the tasks that they make."""

from __future__ import annotations

import warnings

import numpy as np

from kerasnac.core.data.dataset import Array, Development
from kerasnac.core.data.task import Task, task_kind
from kerasnac.errors import ConfigError, DataError

#: A class with less than this part of the even share of the training samples earns a warning.
RARE = 1 / 20


def class_indices(labels: Array, names: tuple[str, ...], name: str) -> tuple[Array, tuple[str, ...]]:
    """Return the class indices of text labels, and the names that they index.

    Args:
        labels: Text, shape (samples,).
        names: All class names; by default those that there are, sorted.
        name: Of the dataset, for messages.

    Returns:
        int64 indices (samples,), and the names.

    Raises:
        DataError: If a label is none of the names.
    """
    found, inverse = np.unique(labels, return_inverse=True)
    names = names or tuple(found.tolist())
    for label in found:
        if label not in names:
            raise DataError(f"{name}: label {str(label)!r} is none of the classes {', '.join(names)}")
    return np.array([names.index(label) for label in found])[inverse], names


def anomalies(x: Array, y: Array, task: Task, background: tuple[str, ...], name: str) -> tuple[Array, Task]:
    """Return labels and task of the detection of some classes as anomalies.

    Args:
        x: Samples, shape (samples, values).
        y: Class indices, shape (samples,).
        task: The classification of these classes.
        background: The classes that are none.
        name: Of the dataset, for messages.

    Returns:
        0 for background, 1 and more for the other classes in their order; the task.

    Raises:
        ConfigError: If there is no such class, or no other one.
        DataError: If the labels are no class indices.
    """
    if not task.classes:
        raise ConfigError(f"background: it names classes, and {name} is for {task.kind}; leave one of them out")
    names = task.names or tuple(map(str, range(task.outputs)))
    if unknown := [one for one in background if one not in names]:
        raise ConfigError(f"background: there is no class {unknown[0]!r} in {name}: one of {', '.join(names)}")
    signals = [one for one in names if one not in background]
    if not signals or not background:
        raise ConfigError(f"background: of {', '.join(names)}, some must be background, and others signals")
    indices = task.made_of.labels(x, y, task.outputs, name)
    new = np.array([signals.index(one) + 1 if one in signals else 0 for one in names])
    return new[indices], Task("anomaly", int(np.prod(x.shape[1:])), names=("background", *signals))


def task_of(kind: str, outputs: int | None, names: tuple[str, ...], x: Array, y: Array, name: str) -> Task:
    """Return the task of a kind, with the number of outputs from the labels, or what is reconstructed, unless given."""
    if task_kind(kind).trained is not None:
        return Task(kind, outputs or max(1, int(np.prod(x.shape[1:]))))
    if task_kind(kind).classes:
        return Task(kind, outputs or len(names) or _count_classes(y, name), names=names)
    return Task(kind, outputs or max(1, int(np.prod(y.shape[1:]))))


def _count_classes(y: Array, name: str) -> int:
    if y.ndim == 2:
        return max(1, int(y.shape[1]))
    found = np.unique(y)
    if len(found) == 1 or not np.array_equal(found, np.arange(len(found))):
        listed = ", ".join(f"{label:g}" for label in found[:5])
        raise DataError(
            f"{name}: class labels must be 0, 1, 2, ... without gaps; these begin {listed}: "
            "renumber them, give outputs, or make it a regression"
        )
    return max(1, len(found))  # There are none: that is said of the samples.


def warn_of_rare_classes(development: Development) -> None:
    """Warn of every class that has less than :data:`RARE` of the even share of the training samples."""
    task = development.task
    if not task.classes:
        return
    shares = np.bincount(development.train.y, minlength=task.outputs) / len(development.train)
    for index in np.flatnonzero(shares < RARE / task.outputs):
        label = task.names[index] if index < len(task.names) else index
        warnings.warn(
            f"{development.name}: class {label} makes up only {shares[index]:.2%} of the training samples "
            f"(an even share is {1 / task.outputs:.2%}): the accuracy will say little about it",
            stacklevel=3,
        )
