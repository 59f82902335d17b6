"""Weights as plain arrays, and operations on them that need no framework."""

from __future__ import annotations

import hashlib
import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kerasnac.core.network.architecture import Architecture, Node
from kerasnac.core.network.kinds import MATMUL, TABLES
from kerasnac.core.network.layers import LayerSpec
from kerasnac.core.network.learned_tables import rising, spreads
from kerasnac.errors import ConversionError

#: ``"dense_0/kernel"`` -> array, for every array of :func:`kerasnac.core.network.kinds.Kind.weights`.
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
    neutral = {"gamma": 1.0, "moving_variance": 1.0, "kernel": 1.0}
    weights = {}
    for i, node in enumerate(architecture.nodes):
        for part, weight in node.weights.items():
            if weight.prunable and node.layer.kind != "tables":
                values = _drawn(weight.shape, [seed, i])
            elif node.layer.kind == "tables":  # They start as the products of a dense layer.
                values = rising(TABLES.grid(node.layer))[:, None, None] * _drawn(weight.shape[1:], [seed, i])
            else:
                values = np.full(weight.shape, neutral.get(part, 0.0))
            weights[f"{node.name}/{part}"] = values.astype(np.float32)
    return weights


def _drawn(shape: tuple[int, ...], seed: list[int]) -> NDArray[np.float64]:
    """Draw a kernel of some shape, (*window, inputs, units)."""
    *window, inputs, units = shape
    limit = math.sqrt(6 / (math.prod(window) * (inputs + units)))
    return np.random.default_rng(seed).uniform(-limit, limit, shape)


def fold(architecture: Architecture, weights: Weights) -> tuple[Architecture, dict[str, NDArray[Any]]]:
    """Move batch norms and the factors of scaled scores into other layers: what precedes every quantization.

    The result computes the same function.

    Args:
        architecture: Float.
        weights: Its weights, arrays keyed ``layer/part``.

    Raises:
        ConversionError: If a factor cannot be folded; names the layers and the remedy.
    """
    return _fold_factors(*fold_batch_norm(architecture, weights))


def fold_batch_norm(architecture: Architecture, weights: Weights) -> tuple[Architecture, dict[str, NDArray[Any]]]:
    """Move every batch norm into the layer with a kernel before it, or make it a layer of kind ``scale``.

    The result computes the same function. Folding before quantization is what makes batch norm exact in
    firmware: its factor and offset become part of quantized weights instead of a rounded product. A batch norm that
    follows another layer (an activation, a sum, a pool, the input), or one that others read too, keeps its place.

    Args:
        architecture: Float.
        weights: Arrays keyed ``layer/part``; those of layers that it has not are passed on.

    Returns:
        The network without batch norms, and its weights.
    """
    nodes = architecture.nodes
    normed = {node.name for node in nodes if node.layer.kind in ("batch_norm", "scale")}
    folded = {key: array for key, array in weights.items() if key.split("/")[0] not in normed}
    readers = Counter(source for node in nodes for source in node.inputs)
    holders: dict[int, str] = {}  # Name, in the result, of the layer that computes a node.
    removed: set[str] = set()
    count = 0
    for i, node in enumerate(nodes):
        holders[i] = node.name
        if node.name not in normed:
            continue
        before = holders.get(node.inputs[0], "")
        if node.layer.kind == "batch_norm" and f"{before}/kernel" in folded and readers[node.inputs[0]] == 1:
            holders[i] = before
            removed.add(node.name)
        else:
            holders[i] = before = f"scale_{count}"
            folded |= {f"{before}/kernel": np.ones((), np.float32), f"{before}/bias": np.zeros((), np.float32)}
            count += 1
        parts = [weights[f"{node.name}/{part}"] for part in node.weights]
        kernel, bias = (folded[f"{before}/{part}"] for part in ("kernel", "bias"))
        if node.layer.kind == "batch_norm":
            gamma, beta, mean, variance = parts
            scale = gamma / np.sqrt(variance + BATCH_NORM_EPSILON)
            parts = [kernel * scale, (bias - mean) * scale + beta]
        folded |= {f"{before}/{part}": array for part, array in zip(("kernel", "bias"), parts, strict=True)}

    def replacement(node: Node) -> tuple[LayerSpec, ...]:
        if node.layer.kind != "batch_norm":
            return (node.layer,)
        return () if node.name in removed else (LayerSpec.of("scale"),)

    return architecture.rewritten(replacement), folded


def _fold_factors(architecture: Architecture, weights: Weights) -> tuple[Architecture, dict[str, NDArray[Any]]]:
    """Multiply the kernels and biases of queries by the factors of their scores, which then are not scaled any more.

    Scores are linear in queries, and queries in these kernels and biases: (q / c) k = q k / c.
    """
    folded = dict(weights)
    for node in architecture.nodes:
        if node.layer.kind == "matmul" and MATMUL.scaled(node.layer):
            name, products = _linear_origin(architecture, node), node.products
            assert products is not None
            for part in ("kernel", "bias"):
                folded[f"{name}/{part}"] = folded[f"{name}/{part}"] / math.sqrt(products.inputs)

    def unscaled(node: Node) -> tuple[LayerSpec, ...]:
        return (replace(node.layer, params=tuple(pair for pair in node.layer.params if pair[0] != "scaled")),)

    return architecture.rewritten(unscaled), folded


def _linear_origin(architecture: Architecture, scores: Node) -> str:
    """Return the name of the layer whose kernel and bias scale the queries of some scores, and nothing else.

    Raises:
        ConversionError: If there is none.
    """
    nodes, remedy = architecture.nodes, "leave out scaled, or make its first input by a linear layer of its own"
    source = scores.inputs[0]
    while source >= 0:
        node = nodes[source]
        if sum(other.inputs.count(source) for other in nodes) > 1:
            raise ConversionError(f"{scores.name}: its factor cannot be folded into {node.name}, which is read twice; {remedy}")
        if "kernel" in node.weights:
            return node.name
        if node.layer.kind != "reshape" and (node.layer.kind != "activation" or node.layer["fn"] != "none"):
            raise ConversionError(
                f"{scores.name}: its factor cannot be folded through {node.name}, which is not linear; {remedy}"
            )
        source = node.inputs[0]
    raise ConversionError(f"{scores.name}: its factor cannot be folded, no layer with a kernel makes its first input; {remedy}")


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


def magnitudes(layer: LayerSpec, kernel: NDArray[Any]) -> NDArray[Any]:
    """Return the magnitudes by which a kernel is pruned: of its weights, or the spreads of its learned tables.

    Args:
        layer: The layer.
        kernel: Its kernel.

    Returns:
        The shape of the kernel, or (inputs, units) for tables, which are pruned as a whole.
    """
    return spreads(kernel) if layer.kind == "tables" else np.abs(kernel)


def weights_hash(weights: Weights) -> str:
    """Return the SHA-256 of all weights with their names, in hexadecimal."""
    digest = hashlib.sha256()
    for name in sorted(weights):
        digest.update(name.encode() + np.ascontiguousarray(weights[name]).tobytes())
    return digest.hexdigest()


def sparsity(architecture: Architecture, weights: Weights) -> tuple[float, dict[str, float]]:
    """Count zeros among the prunable weights, after quantization where the network is quantized; of tables, the constants.

    Returns:
        The fraction over the whole network, and by layer name.
    """
    values = quantized_weights(architecture, weights)
    kernels = {
        node.name: magnitudes(node.layer, values[f"{node.name}/{part}"])
        for node in architecture.nodes
        for part, weight in node.weights.items()
        if weight.prunable
    }
    by_layer = {name: float(np.mean(kernel == 0)) for name, kernel in kernels.items()}
    total = sum(kernel.size for kernel in kernels.values())
    return sum(by_layer[name] * kernel.size for name, kernel in kernels.items()) / total, by_layer
