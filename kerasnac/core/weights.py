"""Weights as plain arrays, and what is done to them without a framework."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kerasnac.core.architecture import Architecture
from kerasnac.core.layers import LayerSpec, kind_of

#: ``"dense_0/kernel"`` -> array, for every array of :func:`kerasnac.core.layers.Kind.weights`.
Weights = Mapping[str, NDArray[Any]]

#: Added to the variance by every batch norm that kerasnac builds (the Keras default).
BATCH_NORM_EPSILON = 1e-3


def fold_batch_norm(architecture: Architecture, weights: Weights) -> tuple[Architecture, dict[str, NDArray[Any]]]:
    """Moves every batch norm into the dense or convolution layer before it.

    The result computes the same function. Folding before quantization is what makes batch norm exact in
    firmware: its scale and offset become part of quantized weights instead of a rounded product.

    Raises:
        ValueError: If a batch norm does not follow a layer with a kernel.
    """
    folded = dict(weights)
    before: str | None = None
    layers: list[LayerSpec] = []
    for name, layer, _ in architecture.walk():
        if layer.kind != "batch_norm":
            layers.append(layer)
            before = name if f"{name}/kernel" in weights else None
            continue
        if before is None:
            raise ValueError(f"{name} does not follow a dense or convolution layer: it cannot be folded")
        gamma, beta, mean, variance = (
            folded.pop(f"{name}/{part}") for part in ("gamma", "beta", "moving_mean", "moving_variance")
        )
        scale = gamma / np.sqrt(variance + BATCH_NORM_EPSILON)
        folded[f"{before}/kernel"] = folded[f"{before}/kernel"] * scale
        folded[f"{before}/bias"] = (folded[f"{before}/bias"] - mean) * scale + beta
        before = None
    return replace(architecture, layers=tuple(layers)), folded


def quantized_weights(architecture: Architecture, weights: Weights) -> dict[str, NDArray[Any]]:
    """The weights that the firmware holds: every array rounded to its layer's format."""
    result = dict(weights)
    for name, layer, _ in architecture.walk():
        for part, grid in (("kernel", layer.weight), ("bias", layer.bias)):
            if grid is not None:
                result[f"{name}/{part}"] = grid.quantize(weights[f"{name}/{part}"]).astype(np.float32)
    return result


def sparsity(architecture: Architecture, weights: Weights) -> tuple[float, dict[str, float]]:
    """Zeros among the prunable weights, after quantization where the network is quantized.

    Returns:
        The fraction over the whole network, and by layer name.
    """
    values = quantized_weights(architecture, weights)
    kernels = {
        name: values[f"{name}/{part}"]
        for name, layer, shape in architecture.walk()
        for part, weight in kind_of(layer).weights(layer, shape).items()
        if weight.prunable
    }
    by_layer = {name: float(np.mean(kernel == 0)) for name, kernel in kernels.items()}
    total = sum(kernel.size for kernel in kernels.values())
    return sum(by_layer[name] * kernel.size for name, kernel in kernels.items()) / total, by_layer
