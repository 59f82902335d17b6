"""Choosing among the checkpoints of a training with learned widths, and measuring their networks."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from kerasnac.adapters.keras.learned.ramp import Checkpoint, Ramp
from kerasnac.adapters.keras.predict import Scores, predict
from kerasnac.core.data.dataset import Development, Task
from kerasnac.core.network.architecture import Architecture
from kerasnac.core.network.quantization import check_representable
from kerasnac.core.network.weights import Weights


def front(checkpoints: Iterable[Checkpoint], task: Task) -> list[Checkpoint]:
    """Return the checkpoints of which no other is as good with as few operations; of equal ones the first."""
    sign = -1.0 if task.sense == "max" else 1.0
    kept: list[Checkpoint] = []
    for one in sorted(checkpoints, key=lambda one: (one.operations, sign * one.metric, one.cycle)):
        if not kept or task.better(one.metric, kept[-1].metric):
            kept.append(one)
    return sorted(kept, key=lambda one: one.cycle)


def spread(checkpoints: Sequence[Checkpoint], count: int) -> list[Checkpoint]:
    """Choose checkpoints that are evenly spread in the logarithm of their operations.

    Args:
        checkpoints: A front.
        count: How many to choose; the one with the most operations is the first choice, that with the fewest the second.

    Returns:
        At most ``count``, in the given order.
    """
    if count >= len(checkpoints):
        return list(checkpoints)
    sizes = np.log1p([one.operations for one in checkpoints])
    left = list(range(len(checkpoints)))
    for place in np.linspace(sizes.max(), sizes.min(), count):
        left.remove(min(left, key=lambda i: (abs(sizes[i] - place), i)))
    return [one for i, one in enumerate(checkpoints) if i not in left]


def measured(ramp: Ramp, checkpoint: Checkpoint, data: Development) -> tuple[Architecture, Weights, Scores]:
    """Return the quantized network of a checkpoint, its weights, and its scores on validation.

    Raises:
        ConversionError: If QKeras cannot compute with a format of the network.
    """
    network, weights = ramp.network_of(checkpoint)
    check_representable(network)
    return network, weights, Scores.of(predict(network, weights, data.validation.x), data.task, data.validation)
