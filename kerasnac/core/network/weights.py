"""Weights as plain arrays, and operations on them that need no framework."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kerasnac.core.network.architecture import Architecture

#: ``"dense_0/kernel"`` -> array, for every array of :func:`kerasnac.core.network.layers.Kind.weights`.
Weights = Mapping[str, NDArray[Any]]

#: Added to the variance by every batch norm that kerasnac builds (the Keras default).
BATCH_NORM_EPSILON = 1e-3

#: Part of its moving statistics that a batch norm keeps at every step. Keras keeps 99 %: too slow for the few hundred steps
#: of a short evaluation.
BATCH_NORM_MOMENTUM = 0.9

#: Added to the variance by every layer norm.
LAYER_NORM_EPSILON = 1e-3


def initial_weights(architecture: Architecture, seed: int) -> dict[str, NDArray[np.float32]]:
    """Draw the weights with which a training starts: kernels as Glorot and Bengio (2010), uniform; the rest neutral.

    Args:
        architecture: Float or quantized.
        seed: Seed of the kernels.

    Returns:
        float32 arrays keyed ``layer/part``.
    """
    neutral = {"gamma": 1.0, "moving_variance": 1.0}
    weights = {}
    for i, node in enumerate(architecture.nodes):
        for part, weight in node.weights.items():
            if weight.prunable:
                *window, inputs, units = weight.shape
                limit = math.sqrt(6 / (math.prod(window) * (inputs + units)))
                values = np.random.default_rng([seed, i]).uniform(-limit, limit, weight.shape)
            else:
                values = np.full(weight.shape, neutral.get(part, 0.0))
            weights[f"{node.name}/{part}"] = values.astype(np.float32)
    return weights


def fold_batch_norm(architecture: Architecture, weights: Weights) -> tuple[Architecture, dict[str, NDArray[Any]]]:
    """Move every batch norm into the dense or convolution layer before it.

    The result computes the same function. Folding before quantization is what makes batch norm exact in
    firmware: its scale and offset become part of quantized weights instead of a rounded product.

    Raises:
        ValueError: If a batch norm does not follow a layer with a kernel.
    """
    folded = dict(weights)
    nodes = architecture.nodes
    for node in nodes:
        if node.layer.kind != "batch_norm":
            continue
        before = nodes[node.inputs[0]].name if node.inputs[0] >= 0 else "the input"
        if f"{before}/kernel" not in weights:
            raise ValueError(f"{node.name} follows {before}, not a dense or convolution layer: it cannot be folded")
        if sum(node.inputs[0] in other.inputs for other in nodes) > 1:
            raise ValueError(f"{node.name} cannot be folded into {before}, which other layers read too")
        gamma, beta, mean, variance = (folded.pop(f"{node.name}/{part}") for part in node.weights)
        scale = gamma / np.sqrt(variance + BATCH_NORM_EPSILON)
        folded[f"{before}/kernel"] = folded[f"{before}/kernel"] * scale
        folded[f"{before}/bias"] = (folded[f"{before}/bias"] - mean) * scale + beta
    return architecture.rewritten(lambda node: () if node.layer.kind == "batch_norm" else (node.layer,)), folded


def quantized_weights(architecture: Architecture, weights: Weights) -> dict[str, NDArray[Any]]:
    """Return the weights that the firmware holds: every array rounded to its layer's format.

    Returns:
        float32 arrays keyed ``layer/part``; float64 where float32 does not hold a number of the format.
    """
    result = dict(weights)
    for name, layer in zip(architecture.names, architecture.layers, strict=True):
        formats = {"kernel": layer.weight, "gamma": layer.weight, "bias": layer.bias, "beta": layer.bias}
        for part, grid in (*formats.items(), ("values", layer.activation)):
            if grid is not None and f"{name}/{part}" in weights:
                exact = grid.quantize(weights[f"{name}/{part}"])
                single = exact.astype(np.float32)
                result[f"{name}/{part}"] = single if np.array_equal(single, exact, equal_nan=True) else exact
    return result


def sparsity(architecture: Architecture, weights: Weights) -> tuple[float, dict[str, float]]:
    """Count zeros among the prunable weights, after quantization where the network is quantized.

    Returns:
        The fraction over the whole network, and by layer name.
    """
    values = quantized_weights(architecture, weights)
    kernels = {
        node.name: values[f"{node.name}/{part}"]
        for node in architecture.nodes
        for part, weight in node.weights.items()
        if weight.prunable
    }
    by_layer = {name: float(np.mean(kernel == 0)) for name, kernel in kernels.items()}
    total = sum(kernel.size for kernel in kernels.values())
    return sum(by_layer[name] * kernel.size for name, kernel in kernels.items()) / total, by_layer
