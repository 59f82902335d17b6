"""Classes that become background and signals of an anomaly detection."""

from __future__ import annotations

import numpy as np

from kerasnac.core.data.dataset import Array
from kerasnac.core.data.task import Task, task_kind
from kerasnac.errors import ConfigError


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
    indices = task_kind(task.kind).labels(x, y, task.outputs, name)
    new = np.array([signals.index(one) + 1 if one in signals else 0 for one in names])
    return new[indices], Task("anomaly", int(np.prod(x.shape[1:])), names=("background", *signals))
