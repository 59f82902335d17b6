"""Bit operations as published studies count them, so that a network of ours can stand in their column.

``docs/bops.md`` says why these counts differ from :mod:`kerasnac.core.network.bops`. With 32-bit weights and activations and
nothing pruned, the rules give the published totals:

* ``nac``: Weitz et al., arXiv:2501.05515, 1,106 MBOPs for BraggNN and 85 for NAC's base network;
* ``nac_dense``: the qubit study of SNAC-Pack (arXiv:2605.16138), 3,487,250 for 800-4-1; its logarithm stands once per output;
* ``weights``: the jet study of SNAC-Pack, whose "BOPs" are numbers of weights: 4,768 for 24-64-32-16-32-5.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

from kerasnac.core.network.architecture import Architecture, Node
from kerasnac.core.network.bops import LayerCost

#: Patches for which the softmax of an attention is counted; all else is counted for one.
BATCH = 256


def published_bops(rule: str, architecture: Architecture, rows: Sequence[LayerCost]) -> float | None:
    """Return the bit operations of a network by the rule of a study; None where the rule knows no such layers.

    Args:
        rule: A key of :data:`RULES`.
        architecture: The network.
        rows: Its cost by layer, whose widths and zeros are taken.
    """
    by_layer = published_by_layer(rule, architecture, rows)
    return None if by_layer is None else sum(by_layer.values())


def published_by_layer(rule: str, architecture: Architecture, rows: Sequence[LayerCost]) -> dict[str, float] | None:
    """Return the bit operations of every layer that the rule of a study counts; None where it knows no such layers."""
    known, count = RULES[rule]
    costs = {row.layer: row for row in rows}
    if any(node.layer.kind not in known for node in architecture.nodes if node.name in costs):
        return None
    found = ((node.name, count(node, architecture.nodes, costs)) for node in architecture.nodes if node.layer.kind in known)
    return {name: amount for name, amount in found if amount}


def _products(weights: float, inputs: float, cost: LayerCost) -> float:
    """Return the bit operations of products with so many weights whose sums have so many inputs."""
    kept = (1 - cost.sparsity) * cost.weight_bits * cost.activation_bits
    return weights * (kept + cost.weight_bits + cost.activation_bits + math.log2(inputs))


def _nac(node: Node, nodes: Sequence[Node], costs: Mapping[str, LayerCost]) -> float:
    kind = node.layer.kind
    if kind == "softmax":
        positions, bits = node.output[-1], max(cost.activation_bits for cost in costs.values())
        return BATCH * (1.5 * positions**2 * (bits - 1) + positions * (positions - 1) + positions**2)
    cost = costs.get(node.name)
    if cost is None or kind == "layer_norm":
        return 0.0
    if kind == "conv2d":
        if node.inputs == (-1,):
            return 0.0  # The convolution that reads the patch is left out.
        *window, channels, filters = node.weights["kernel"].shape
        inputs = channels * math.prod(window) ** 2
        return _products(inputs * filters, inputs, cost)
    if kind == "dense":
        inputs, units = node.weights["kernel"].shape
        return _products(inputs * units, inputs, cost)
    # Products of an attention: between the channels of its map, and between its positions.
    scores = bool(node.layer["transpose"])
    channels, positions = _channels(node, nodes), node.output[-2]
    rows, inner = (channels, positions) if scores else (positions, channels)
    return rows * rows * (inner * cost.weight_bits * cost.activation_bits + (inner - 1) * cost.activation_bits)


def _channels(node: Node, nodes: Sequence[Node]) -> int:
    """Return the channels of the map that an attention reads: those that its values are made of."""
    at = node
    while "kernel" not in at.weights:
        at = nodes[at.inputs[-1]]
    return at.weights["kernel"].shape[-2]


def _nac_dense(node: Node, nodes: Sequence[Node], costs: Mapping[str, LayerCost]) -> float:
    cost, (inputs, units) = costs[node.name], node.weights["kernel"].shape
    kept = (1 - cost.sparsity) * cost.weight_bits * cost.activation_bits
    sums = inputs * (kept + cost.weight_bits + cost.activation_bits)
    return float(units * (sums + math.log2(inputs) * cost.weight_bits))


def _weights(node: Node, nodes: Sequence[Node], costs: Mapping[str, LayerCost]) -> float:
    return math.prod(node.weights["kernel"].shape) * (1 - costs[node.name].sparsity)


#: Rule -> kinds of layers that it knows, and the count of one of them.
RULES: Mapping[str, tuple[frozenset[str], Callable[[Node, Sequence[Node], Mapping[str, LayerCost]], float]]] = {
    "nac": (frozenset({"conv2d", "dense", "matmul", "softmax", "layer_norm"}), _nac),
    "nac_dense": (frozenset({"dense"}), _nac_dense),
    "weights": (frozenset({"dense"}), _weights),
}
