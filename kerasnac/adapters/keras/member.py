"""A network to train, and the result of its training."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kerasnac.core.data.task import Task
from kerasnac.core.network.architecture import Architecture
from kerasnac.core.network.layers import LayerSpec
from kerasnac.core.network.training import Training
from kerasnac.core.network.weights import Weights, initial_weights, magnitudes


def magnitude_mask(kernel: NDArray[Any], fraction: float) -> NDArray[np.float32]:
    """Return ones for the largest weights of a kernel, as the pruning toolkit chooses them.

    Weights that equal the smallest of them are kept too, but for zeros.

    Args:
        kernel: Weights, of any shape.
        fraction: Fraction of zeros; at least one weight is kept.

    Returns:
        float32 of the same shape.
    """
    magnitudes = np.abs(kernel)
    kept = max(1, int(np.round(np.float32(kernel.size) * (np.float32(1) - np.float32(fraction)))))
    mask: NDArray[np.float32] = ((magnitudes >= np.sort(magnitudes, axis=None)[-kept]) & (magnitudes > 0)).astype(np.float32)
    return mask


def kernel_mask(layer: LayerSpec, kernel: NDArray[Any], fraction: float) -> NDArray[np.float32]:
    """Return ones for what pruning keeps of a kernel: the largest weights, or whole tables, those that are least flat.

    Args:
        layer: The layer.
        kernel: Its kernel.
        fraction: Fraction of zeros; at least one weight, or table, is kept.

    Returns:
        float32 of the shape of the kernel.
    """
    return np.broadcast_to(magnitude_mask(magnitudes(layer, kernel), fraction), kernel.shape)


@dataclass(frozen=True)
class Pruning:
    """Zeros that a training keeps or makes, by layer name.

    Attributes:
        masks: Arrays of ones and zeros in the shapes of the kernels; ones by default.
        schedules: TFMOT's schedules of new masks; a mask without one stays.
    """

    masks: Mapping[str, NDArray[Any]] = field(default_factory=dict)
    schedules: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Member:
    """Network to train.

    Attributes:
        architecture: Float or quantized.
        training: Hyperparameters.
        seed: Seed of initial weights, shuffling and dropout.
        start: Weights to start from, arrays keyed ``layer/part``; random ones by default.
        pruning: Zeros of its kernels; None for a training without pruning.
        snapshot_epoch: Number of epochs after which the weights are copied, at most all; 0 for no copy.
        repeated: True if the network is trained several times, so that it pays sooner to compile its training.
    """

    architecture: Architecture
    training: Training
    seed: int
    start: Weights | None = None
    pruning: Pruning | None = None
    snapshot_epoch: int = 0
    repeated: bool = False

    @property
    def first_weights(self) -> Weights:
        """Weights that the training starts from, given or drawn."""
        return initial_weights(self.architecture, self.seed) if self.start is None else self.start


@dataclass(frozen=True)
class Fit:
    """Result of one training.

    Attributes:
        weights: Trained weights, float32 arrays keyed ``layer/part``.
        metric: Task metric on validation; NaN if the training diverged.
        loss: Loss on validation, without penalties and label smoothing.
        epochs: Epochs trained.
        seconds: Wall time of the training.
        further: The further metrics of the task on validation.
        snapshot: Weights after the epochs that the member asks for; empty if it asks for none.
        compiled: True if the training was compiled for a mold; False if it was left to ``fit`` of Keras.
    """

    weights: dict[str, NDArray[np.float32]]
    metric: float
    loss: float
    epochs: int
    seconds: float
    further: Mapping[str, float] = field(default_factory=dict)
    snapshot: dict[str, NDArray[np.float32]] = field(default_factory=dict)
    compiled: bool = False

    def recorded(self, task: Task) -> dict[str, float]:
        """Return all metrics and the loss by name, as journals and models have them."""
        return {task.metric: self.metric, "loss": self.loss, **self.further}
