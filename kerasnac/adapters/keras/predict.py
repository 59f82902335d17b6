"""Outputs of networks and their scores, with arrays in and arrays out."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kerasnac.adapters.keras.build import Model, build, set_weights
from kerasnac.adapters.keras.losses import validation_loss
from kerasnac.adapters.keras.runtime import tensorflow
from kerasnac.core.data.dataset import Split, Task
from kerasnac.core.network.architecture import Architecture
from kerasnac.core.network.arithmetic import Dtype, keras_dtype
from kerasnac.core.network.layer_norms import spreads
from kerasnac.core.network.quantization import ActivationRange, rounded_layers
from kerasnac.core.network.weights import Weights

#: Samples per step where nothing is trained.
PREDICT_BATCH = 4096


def model_outputs(model: Model, x: NDArray[Any]) -> list[NDArray[Any]]:
    """Compute all outputs of a model. Its operations are called one by one: to trace them takes longer than to run them."""
    dtype = model.inputs[0].dtype
    parts = [
        model(tensorflow().constant(x[i : i + PREDICT_BATCH], dtype), training=False) for i in range(0, len(x), PREDICT_BATCH)
    ]
    parts = [part if isinstance(part, list) else [part] for part in parts]
    return [np.concatenate([np.asarray(value) for value in values]) for values in zip(*parts, strict=True)]


def score(model: Model, task: Task, split: Split) -> Scores:
    """Score a model on a split.

    Args:
        model: Model with the outputs of the task, logits for a classification.
        task: Classification or regression.
        split: Samples and targets.
    """
    return Scores.of(model_outputs(model, split.x)[0], task, split)


@dataclass(frozen=True)
class Scores:
    """Scores of a network on a split.

    Attributes:
        metric: The task metric; NaN if an output is not finite.
        loss: The loss.
        further: The further metrics of the task, by name.
    """

    metric: float
    loss: float
    further: dict[str, float]

    @classmethod
    def of(cls, outputs: NDArray[Any], task: Task, split: Split) -> Scores:
        """Score the outputs of a network for a split."""
        return cls(task.score(outputs, split.y), validation_loss(outputs, task, split), task.further(outputs, split.y))

    def recorded(self, task: Task) -> dict[str, float]:
        """Return all metrics and the loss by name, as journals and models have them."""
        return {task.metric: self.metric, "loss": self.loss, **self.further}


def predict(architecture: Architecture, weights: Weights, x: NDArray[Any], *, dtype: Dtype | None = None) -> NDArray[Any]:
    """Compute the outputs of a network.

    Args:
        architecture: Float or quantized.
        weights: Arrays keyed ``layer/part``.
        x: Samples of any numeric dtype, shape (samples, *input_shape).
        dtype: Arithmetic of Keras; by default that in which it equals the firmware, see
            :func:`kerasnac.core.network.arithmetic.keras_dtype`.

    Returns:
        Shape (samples, *output_shape), of the dtype.
    """
    model = build(architecture, dtype=dtype or keras_dtype(architecture, weights))
    set_weights(model, architecture, weights)
    return model_outputs(model, x)[0]


def vectors(architecture: Architecture, weights: Weights, x: NDArray[Any], *, dtype: Dtype | None = None) -> NDArray[Any]:
    """Compute the outputs of a network as firmware puts them out: maps are flattened to shape (samples, outputs).

    Arguments are those of :func:`predict`.
    """
    return predict(architecture, weights, x, dtype=dtype).reshape(len(x), -1)


def layer_outputs(architecture: Architecture, weights: Weights, x: NDArray[Any]) -> dict[str, NDArray[Any]]:
    """Compute the outputs of every layer of a network, in the arithmetic in which Keras equals the firmware.

    Args:
        architecture: Float or quantized.
        weights: Arrays keyed ``layer/part``.
        x: Samples of any numeric dtype, shape (samples, *input_shape).

    Returns:
        By layer name, float32 or float64 of shape (samples, values): maps are flattened.
    """
    keras = tensorflow().keras
    model = build(architecture, dtype=keras_dtype(architecture, weights))
    set_weights(model, architecture, weights)
    names = architecture.names
    every = keras.Model(model.input, [model.get_layer(name).output for name in names])
    return {name: array.reshape(len(x), -1) for name, array in zip(names, model_outputs(every, x), strict=True)}


def activation_ranges(
    architecture: Architecture, weights: Weights, x: NDArray[Any], *, clip_quantile: float
) -> dict[str, ActivationRange]:
    """Measure the ranges of all activations and layer norms on some samples.

    Args:
        architecture: Float, batch norms folded.
        weights: Arrays keyed ``layer/part``.
        x: Samples of any numeric dtype, shape (samples, *input_shape).
        clip_quantile: Fraction of the values of an activation that is left out at each end.

    Returns:
        By the name of every layer of kind ``activation`` or ``layer_norm``, and of
        :func:`kerasnac.core.network.quantization.rounded_layers`; empty if there is none.
    """
    keras = tensorflow().keras
    model = build(architecture)
    set_weights(model, architecture, weights)
    rounded = rounded_layers(architecture)
    nodes = [n for n in architecture.nodes if n.layer.kind in ("activation", "layer_norm") or n.name in rounded]
    if not nodes:
        return {}
    layers = [model.get_layer(node.name) for node in nodes]
    tensors = [tensor for layer in layers for tensor in (_first(layer.input), layer.output)]
    values = iter(model_outputs(keras.Model(model.input, tensors), x))

    def ends(array: NDArray[Any]) -> tuple[float, float]:
        low, high = np.quantile(array, (clip_quantile, 1 - clip_quantile))
        return float(low), float(high)

    ranges = {}
    for node in nodes:
        before, after = next(values), next(values)
        magnitude = float(np.abs(after).sum(dtype=np.float64)) / max(1, int(np.count_nonzero(after)))
        ranges[node.name] = ActivationRange(ends(before), ends(after), magnitude=magnitude)
        if node.layer.kind == "layer_norm":
            ranges[node.name] = replace(ranges[node.name], spreads=ends(spreads(before, node)))
    return ranges


def _first(tensors: Any) -> Any:
    """Return the first of several tensors, or the only one."""
    return tensors[0] if isinstance(tensors, list) else tensors
