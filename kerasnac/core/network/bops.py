"""Bit operations, the one formula.

Baskin et al., "UNIQ: Uniform Noise Injection for Non-Uniform Quantization of Neural Networks"
(arXiv:1804.10969), with the pruned fraction of Hawks et al., "Ps and Qs" (arXiv:2102.11289):

    BOPs = m n ((1 - p) b_w b_a + b_w + b_a + log2 n)     per output position

for n inputs per output, m outputs, weight and activation widths b_w and b_a, pruned fraction p. Where every weight and channel
has a width of its own, these are means: b_w and b_a over all weights and inputs, (1 - p) b_w b_a over all products, pruned
weights having no bits. A ternary weight has 2 bits, a binary one 1, as has an activation of one bit; that their products need
no multiplier is not counted.

Learned tables have no products, and reading an entry of b_w bits is wiring around one element of logic. Their sums alone are
counted, of the fraction 1 - p of edges that are kept:

    BOPs = m n (1 - p) (b_w + log2 n)
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

from kerasnac.core.network.architecture import Architecture, Node
from kerasnac.core.network.kinds import Products
from kerasnac.core.network.layers import Unsupported
from kerasnac.core.network.precision import Precision
from kerasnac.core.network.widths import Width, bits_of


@dataclass(frozen=True)
class MeanBits:
    """Mean widths of a layer whose weights and inputs have widths of their own.

    Attributes:
        product: Mean, over all products, of the width of the weight times that of the input; pruned weights have no bits.
        weight: Mean width of the weights.
        activation: Mean width of the inputs.
    """

    product: float
    weight: float
    activation: float


@dataclass(frozen=True)
class LayerCost:
    """Cost of one layer that multiplies: a row of the cost table.

    Attributes:
        layer: Name of the layer.
        output_shape: Shape of one output sample.
        macs: Multiply-accumulates; of learned tables, the entries that are added.
        weight_bits: Width of a weight, or of the second factor of a product of activations; a mean where widths differ.
        activation_bits: Width of an input of the layer; likewise.
        sparsity: Pruned fraction of the kernel.
        bops: Bit operations.
        memory: Bits of the layer's weights and biases, zeros included.
    """

    layer: str
    output_shape: tuple[int, ...]
    macs: int
    weight_bits: float
    activation_bits: float
    sparsity: float
    bops: float
    memory: int


def layer_bops(
    products: Products, weight_bits: float, activation_bits: float, sparsity: float = 0.0, *, adds_only: bool = False
) -> float:
    """Return the bit operations of one layer (see the module's formulas, the second one for a layer that only adds)."""
    if adds_only:
        return products.macs * (1 - sparsity) * (weight_bits + math.log2(products.inputs))
    return _bops(products, MeanBits((1 - sparsity) * weight_bits * activation_bits, weight_bits, activation_bits))


def _bops(products: Products, mean: MeanBits) -> float:
    return products.macs * (mean.product + mean.weight + mean.activation + math.log2(products.inputs))


def costs(
    architecture: Architecture,
    *,
    weight_bits: Width = 32,
    activation_bits: int = 32,
    sparsity: float | Mapping[str, float] = 0.0,
    means: Mapping[str, MeanBits] = MappingProxyType({}),
) -> tuple[LayerCost, ...]:
    """Return the cost of every layer that multiplies.

    Batch norms are not counted: they are folded into the layer before them. A layer norm multiplies each of its m values
    n = 3 times (with itself, with the reciprocal root and with its gain), each time by a factor of the width of the root.

    Args:
        architecture: Float or quantized; a layer's own formats or bit widths win over the default ones.
        weight_bits: Width of the weights of layers without their own: bits, ``ternary`` or ``binary``.
        activation_bits: Width of activations without their own, the input's included.
        sparsity: Pruned fraction of the kernels, one for all or by layer name; binary ones have no zeros.
        means: Mean widths of the layers whose weights have widths of their own, by name.
    """
    rows: list[LayerCost] = []
    input_bits = activation_bits if architecture.input is None else architecture.input.bits
    outputs: list[int] = []  # bit widths of the outputs of the nodes
    for node in architecture.nodes:
        incoming = [outputs[source] if source >= 0 else input_bits for source in node.inputs]
        layer, products, second_factor = node.layer, node.products, SECOND_FACTORS[node.layer.kind]
        if not isinstance(second_factor, Unsupported):
            assert products is not None, f"layers of kind {layer.kind} multiply nothing: SECOND_FACTORS has to say so"
            bits = second_factor(node, incoming, weight_bits)
            pruned = sparsity.get(node.name, 0.0) if isinstance(sparsity, Mapping) else sparsity if _prunable(node) else 0.0
            if _prunable(node) and layer.binary(weight_bits):
                pruned = 0.0
            mean = means.get(node.name, MeanBits((1 - pruned) * bits * incoming[0], bits, incoming[0]))
            bias = bits if layer.bias is None else layer.bias.bits
            memory = sum(math.prod(w.shape) * (mean.weight if w.prunable else bias) for w in node.weights.values())
            width = mean.weight
            amount = layer_bops(products, width, 0, pruned, adds_only=True) if layer.kind == "tables" else _bops(products, mean)
            rows.append(LayerCost(node.name, node.output, products.macs, width, mean.activation, pruned, amount, round(memory)))
        unrounded = activation_bits if products is not None else max(incoming)
        outputs.append(layer.activation_bits(unrounded) if layer.activation is None else layer.activation.bits)
    return tuple(rows)


def bops(
    architecture: Architecture,
    *,
    weight_bits: Width = 32,
    activation_bits: int = 32,
    sparsity: float | Mapping[str, float] = 0.0,
) -> float:
    """Return the bit operations of one inference; arguments as for :func:`costs`."""
    rows = costs(architecture, weight_bits=weight_bits, activation_bits=activation_bits, sparsity=sparsity)
    return sum(row.bops for row in rows)


def _prunable(node: Node) -> bool:
    return any(weight.prunable for weight in node.weights.values())


def _weight(node: Node, incoming: Sequence[int], default: Width) -> int:
    return bits_of(node.layer.weight_bits(default)) if node.layer.weight is None else node.layer.weight.bits


def _activation(node: Node, incoming: Sequence[int], default: Width) -> int:
    return incoming[1]


def _root(node: Node, incoming: Sequence[int], default: Width) -> int:
    """Return the width of a reciprocal root: of the table's entries, as wide as its index unless they have a format."""
    params = dict(node.layer.params)
    if "root" in params:
        return Precision.parse(node.layer["root"]).bits
    return int(params["table_bits"]) if "table_bits" in params else bits_of(default)  # type: ignore[arg-type]


_ADDS_ONLY = Unsupported("it adds or compares, and the formula counts multiplications with their sums")
_WIRES = Unsupported("it computes nothing")

#: For every kind that multiplies: the bit width of the second factor, from the node, the bit widths of its inputs, and the
#: default one of weights.
SECOND_FACTORS: Mapping[str, Callable[[Node, Sequence[int], Width], int] | Unsupported] = {
    "dense": _weight,
    "conv1d": _weight,
    "conv2d": _weight,
    "scale": _weight,
    "tables": _weight,
    "matmul": _activation,
    "add": _ADDS_ONLY,
    "concatenate": _WIRES,
    "lookup": Unsupported("it is a look-up table"),
    "quantizer": Unsupported("it compares, and adds a constant"),
    "pool": _ADDS_ONLY,
    "batch_norm": Unsupported("it is folded into the layer before it, or counted as the scale that it becomes"),
    "layer_norm": _root,
    "activation": Unsupported("it compares, or is a look-up table"),
    "softmax": Unsupported("its look-up tables, and one product per value with the reciprocal of the sum, are not counted"),
    "mask": Unsupported("it compares with zero"),
    "masked_mean": _ADDS_ONLY,
    "masked_softmax": Unsupported("it is counted no more than a softmax without a mask"),
    "flatten": _WIRES,
    "reshape": _WIRES,
    "window": _WIRES,
}
