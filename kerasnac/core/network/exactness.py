"""Proof, from its formats, that a quantized network computes the same numbers in Keras and in firmware.

Keras computes on a fixed-point grid with floating-point numbers, the firmware with integers. Both are exact, hence
equal, as long as every number on the way fits both: every partial sum of a layer is a whole number of steps and
stays within the steps that Keras counts without gaps, whatever the inputs and the order of summation: 2**24 in float32,
2**53 in float64. Formats are proved for float64; :mod:`kerasnac.core.network.arithmetic` says which networks need it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from kerasnac.core.network.activations import ACTIVATIONS
from kerasnac.core.network.architecture import Architecture, Node
from kerasnac.core.network.channel_formats import channel_formats
from kerasnac.core.network.kinds import MATMUL, TABLES, Shape
from kerasnac.core.network.layer_norms import LayerNormTables
from kerasnac.core.network.layers import PASSING_KINDS, LayerSpec, Unsupported
from kerasnac.core.network.learned_tables import holds, reached
from kerasnac.core.network.means import needs_reciprocal, reciprocal
from kerasnac.core.network.parameters import MAX_TABLE_BITS
from kerasnac.core.network.precision import WIDEST, Precision
from kerasnac.core.network.weights import Weights, quantized_weights
from kerasnac.errors import ConversionError

#: float32 holds every whole number up to 2**24, float64 up to 2**53.
FLOAT32_BITS, FLOAT64_BITS = 24, 53

#: Kinds with a matrix or a filter as a kernel, and a bias: their output is an accumulator.
KERNEL_KINDS = ("dense", "conv1d", "conv2d")

#: Kinds whose kernel has a bit width: those, and a scale with a factor for every channel.
WEIGHT_KINDS = (*KERNEL_KINDS, "scale")

#: Format of a mask: zero or one.
MASK = Precision(1, 1, signed=False)

#: Kinds that are taken out before conversion, so that a network with them can become firmware.
REMOVED_KINDS = ("batch_norm", "window")

#: Kinds that float networks never have.
QUANTIZED_ONLY: Mapping[str, Unsupported] = {
    "lookup": Unsupported("its table is over a number format: it is for quantized networks alone"),
    "quantizer": Unsupported("it rounds to number formats: it is for quantized networks alone"),
}

#: Kinds that the firmware never has.
NOT_IN_FIRMWARE: Mapping[str, Unsupported] = {
    "batch_norm": Unsupported("a batch_norm is not in the firmware: fold it, or make it a scale, before quantizing (fold)"),
    "window": Unsupported(
        "a window is not in the firmware: cut it from the samples (without_window); it must be the first layer"
    ),
}


def check_exact(architecture: Architecture, weights: Weights) -> None:
    """Refuse a network whose firmware may differ from Keras in a bit.

    Args:
        architecture: Quantized, batch norms folded.
        weights: Its latent or quantized weights.

    Raises:
        ConversionError: Naming the layer, the reason and the remedy.
    """
    output_formats(architecture, weights)


def output_formats(architecture: Architecture, weights: Weights) -> dict[str, Precision]:
    """Return the exact format of every layer's output, by layer name, proved not to overflow or round.

    For a layer with a kernel it is the accumulator, which is passed on unrounded: the narrowest format that
    none of its partial sums can overflow with these very weights, whatever the inputs.

    Args:
        architecture: Quantized, batch norms folded.
        weights: Its latent or quantized weights.

    Raises:
        ConversionError: If exactness cannot be proved; names the layer, the reason and the remedy.
    """
    if architecture.input is None:
        raise ConversionError("the network is not quantized: it has no number formats; compress it before making firmware")
    if architecture.input.fixed != architecture.input:
        raise ConversionError(f"input: samples cannot be {architecture.input}: give them {architecture.input.fixed}")
    _check_width("input", architecture.input)
    values = _finite(quantized_weights(architecture, weights))
    formats = {-1: architecture.input}
    for i, node in enumerate(architecture.nodes):
        rule = _rule(node.layer)
        if isinstance(rule, Unsupported):
            raise ConversionError(f"{node.name}: {rule.reason}")
        if reason := unsupported_reason(node.layer):
            raise ConversionError(f"{node.name}: {reason}")
        formats[i] = rule(node, [formats[source] for source in node.inputs], values)
        _check_table_input(node, architecture)
    return {node.name: formats[i] for i, node in enumerate(architecture.nodes)}


def unsupported_reason(layer: LayerSpec, *, first: bool = True) -> str:
    """Return the reason why a layer has no exact firmware, whatever its formats; empty if it may have.

    Search spaces and conversion both refuse layers by this list alone.

    Args:
        layer: The layer.
        first: True if it is the first layer of the network.
    """
    if layer.kind == "window" and not first:
        return "a window is cut from the samples before they reach the firmware; make it the first block"
    rule = _rule(layer)
    return rule.reason if isinstance(rule, Unsupported) and layer.kind not in REMOVED_KINDS else ""


def unsupported_reasons(architecture: Architecture) -> list[str]:
    """Return the reasons of all layers of a network that cannot have exact firmware, each with its layer's name."""
    nodes = architecture.nodes
    reasons = ((node.name, unsupported_reason(node.layer, first=node is nodes[0])) for node in nodes)
    return [f"{name}: {reason}" for name, reason in reasons if reason]


def firmware_meaning(gene: str, value: object) -> str:
    """Return what a choice means for firmware: ``exact``, or its condition.

    Args:
        gene: Name of the gene; its last part names the choice.
        value: The value.
    """
    choice = gene.rsplit(".", 1)[-1]
    if choice.endswith("_bits") and value == 16:
        return "exact; where sums need more than 24 bits it equals QKeras in float64, beyond 53 refused with the layer's name"
    return "exact"


def averaged(layer: LayerSpec, shape: Shape) -> int:
    """Return the number of values in a pooling window."""
    size, positions = layer["size"], shape[:-1]
    return size ** len(positions) if size else math.prod(positions)


def check_unscaled(node: Node) -> None:
    """Refuse scaled scores in a quantized network: the quotient would be on no grid.

    Raises:
        ConversionError: Naming the layer and the remedy.
    """
    if node.layer.kind == "matmul" and MATMUL.scaled(node.layer):
        raise ConversionError(f"{node.name}: its scores are scaled; fold the factor into the queries before quantizing (fold)")


def _finite(values: Weights) -> Weights:
    for key, array in values.items():
        if not np.isfinite(array).all():
            raise ConversionError(
                f"{key.split('/')[0]}: {key} holds NaN or infinity; train again, with a smaller learning rate"
            )
    return values


def _accumulator(node: Node, inputs: Sequence[Precision], values: Weights) -> Precision:
    """Return the narrowest format of all partial sums of a layer.

    The sum over any subset of the products and the bias lies between the sum of all negative and the sum of all
    positive extremes, so this covers every order of summation, and the zeros of padding too.
    """
    name, layer, (incoming,) = node.name, node.layer, inputs
    if layer.weight is None or layer.bias is None:
        raise ConversionError(f"{name}: the layer is float in a quantized network; give its kernel and its bias a format")
    if not (layer.weight.signed and layer.bias.signed):
        raise ConversionError(f"{name}: QKeras has no unsigned weights; use ap_fixed for kernel and bias")
    fractional = max(layer.weight.fractional + incoming.fractional, layer.bias.fixed.fractional)
    kernel = values[f"{name}/kernel"].astype(np.float64).reshape(-1, values[f"{name}/kernel"].shape[-1])
    bias = values[f"{name}/bias"].astype(np.float64)
    positive, negative = np.maximum(kernel, 0).sum(axis=0), np.minimum(kernel, 0).sum(axis=0)
    high = (positive * incoming.maximum + negative * incoming.minimum + np.maximum(bias, 0)).max()
    low = (positive * incoming.minimum + negative * incoming.maximum + np.minimum(bias, 0)).min()
    steps = math.ldexp(max(high, -low), fractional)
    if steps >= 2**FLOAT64_BITS:  # a bound that had to be rounded is there, or beyond
        raise ConversionError(
            f"{name}: sums of {layer.weight} weights with {incoming} inputs need up to {math.log2(steps):.1f} bits, "
            f"more than the {FLOAT64_BITS} that float64 adds exactly in Keras; use fewer weight or activation bits, or prune"
        )
    return narrowest(low, high, fractional)


def _tables(node: Node, inputs: Sequence[Precision], values: Weights) -> Precision:
    """Return the narrowest format of all partial sums of the entries of learned tables."""
    name, layer, (incoming,) = node.name, node.layer, inputs
    if layer.weight is None:
        raise ConversionError(f"{name}: the tables are float in a quantized network; give their entries a format")
    if not layer.weight.signed:
        raise ConversionError(f"{name}: entries of tables are signed; use ap_fixed")
    grid = TABLES.grid(layer)
    if not holds(grid, incoming.fixed):
        raise ConversionError(
            f"{name}: its tables are over {grid}, which does not hold all numbers of its input {incoming}; "
            f"put an activation {'none' if grid.signed else 'relu'} with the format {grid} before it"
        )
    entries = reached(values[f"{name}/kernel"].astype(np.float64), grid, incoming)
    high = np.maximum(entries.max(axis=0), 0).sum(axis=0).max()
    low = np.minimum(entries.min(axis=0), 0).sum(axis=0).min()
    return _sum(name, float(low), float(high), layer.weight.fractional)


def _matmul(node: Node, inputs: Sequence[Precision], values: Weights) -> Precision:
    """Return the narrowest format of all partial sums of products of activations."""
    check_unscaled(node)
    left, right = inputs
    products = node.products
    assert products is not None
    corners = [a * b for a in (left.minimum, left.maximum) for b in (right.minimum, right.maximum)]
    low, high = (products.inputs * bound for bound in (min(0.0, *corners), max(0.0, *corners)))
    return _sum(node.name, low, high, left.fractional + right.fractional)


def _add(node: Node, inputs: Sequence[Precision], values: Weights) -> Precision:
    low, high = sum(grid.minimum for grid in inputs), sum(grid.maximum for grid in inputs)
    return _sum(node.name, low, high, max(grid.fractional for grid in inputs))


def _concatenate(node: Node, inputs: Sequence[Precision], values: Weights) -> Precision:
    """Return the narrowest format that holds all numbers of both inputs."""
    inputs = [grid.fixed for grid in inputs]
    signed = any(grid.signed for grid in inputs)
    integer = max(grid.integer + (signed and not grid.signed) for grid in inputs)
    joined = Precision(integer + max(grid.fractional for grid in inputs), integer, signed)
    if joined.bits > FLOAT64_BITS:
        raise ConversionError(f"{node.name}: {joined} has more than the {FLOAT64_BITS} bits that float64 holds; use fewer")
    return joined


def _lookup(node: Node, inputs: Sequence[Precision], values: Weights) -> Precision:
    """Return the format of a table's entries."""
    (incoming,), out = inputs, node.layer.activation
    if out is None:
        raise ConversionError(f"{node.name}: its entries have no format")
    if incoming.fixed.bits != node.layer["bits"]:
        raise ConversionError(f"{node.name}: its table is for inputs of {node.layer['bits']} bits, they are {incoming}")
    _check_width(node.name, out)
    return out


def _quantizer(node: Node, inputs: Sequence[Precision], values: Weights) -> Precision:
    """Return the format that holds all numbers of a layer with a format for every channel."""
    name, out = node.name, node.layer.activation
    if out is None:
        raise ConversionError(f"{name}: it has no format that holds those of its channels; quantize it anew")
    _check_width(name, out)
    for channel, grid in enumerate(channel_formats(node.layer)):
        if grid is not None and (grid.fractional > out.fractional or grid.maximum > out.maximum or grid.minimum < out.minimum):
            raise ConversionError(f"{name}: channel {channel} is {grid}, whose numbers {out} does not hold; quantize it anew")
    return out


def _pool(node: Node, inputs: Sequence[Precision], values: Weights) -> Precision:
    """Return the format of a maximum, that of its inputs, or of a mean, which is not rounded.

    The mean of 2**k values has k more fractional bits; that of any other number has those of the reciprocal.
    """
    (incoming,), layer = inputs, node.layer
    if layer["op"] == "max":
        return incoming
    count = averaged(layer, node.shapes[0])
    if layer.weight is not None:
        factor = count * reciprocal(count, layer.weight)
        return _sum(
            node.name, factor * incoming.minimum, factor * incoming.maximum, incoming.fractional + layer.weight.fractional
        )
    if needs_reciprocal(count):
        raise ConversionError(f"{node.name}: 1 / {count}, by which its sums are multiplied, has no format; quantize it anew")
    # Keras adds before it divides: the sum, too, must fit.
    _sum(node.name, count * incoming.minimum, count * incoming.maximum, incoming.fractional)
    more = count.bit_length() - 1
    incoming = incoming.fixed
    if incoming.bits + 2 * more > WIDEST:  # hls4ml's accumulator has room for the sum and for the fraction of the mean
        raise ConversionError(f"{node.name}: the mean of {count} values of {incoming} needs more than {WIDEST} bits; use max")
    return Precision(incoming.bits + more, incoming.integer, incoming.signed)


def _softmax(node: Node, inputs: Sequence[Precision], values: Weights) -> Precision:
    out = node.layer.activation
    if out is None or out.signed:
        raise ConversionError(f"{node.name}: softmax needs an unsigned output format in a quantized network, not {out}")
    _check_width(node.name, out)
    _check_table(node.name, inputs[0])
    return out


def _layer_norm(node: Node, inputs: Sequence[Precision], values: Weights) -> Precision:
    """Return the output format of a layer norm, all of whose whole numbers fit float64."""
    name, layer, (incoming,) = node.name, node.layer, inputs
    gain, offset, out = layer.weight, layer.bias, layer.activation
    if gain is None or offset is None or out is None or not {"spread", "root"} <= dict(layer.params).keys():
        raise ConversionError(f"{name}: the layer norm is float in a quantized network; give it formats by quantizing")
    _check_width(name, out)
    tables = LayerNormTables.of(node, incoming)
    _check_table(name, tables.index)
    product = tables.product(gain)
    fractional = max(product.fractional, offset.fractional)
    result = product.bits - product.fractional + fractional
    for what, bits in (("squares", tables.spread_bits), ("products", max(result, offset.integer + fractional) + 1)):
        if bits > FLOAT64_BITS:
            raise ConversionError(
                f"{name}: its {what}, over {tables.size} values of {incoming}, need {bits} bits, more than the {FLOAT64_BITS} "
                "that float64 holds in Keras; use fewer activation bits, or normalise over fewer values"
            )
    return out


def _mask(node: Node, inputs: Sequence[Precision], values: Weights) -> Precision:
    return MASK


def _check_mask(node: Node, inputs: Sequence[Precision]) -> None:
    if inputs[1] != MASK:
        raise ConversionError(f"{node.name}: its second input is no mask, but {inputs[1]}; let it read a layer of kind mask")


def _masked_mean(node: Node, inputs: Sequence[Precision], values: Weights) -> Precision:
    """Return the format of a sum of any number of values, times the reciprocal of this number."""
    _check_mask(node, inputs)
    incoming, weight = inputs[0], node.layer.weight
    if weight is None:
        raise ConversionError(f"{node.name}: the table of its reciprocals has no format; quantize it anew")
    factor = max(count * reciprocal(count, weight) for count in range(1, node.shapes[0][0] + 1))
    return _sum(
        node.name,
        min(0.0, factor * incoming.minimum),
        max(0.0, factor * incoming.maximum),
        incoming.fractional + weight.fractional,
    )


def _masked_softmax(node: Node, inputs: Sequence[Precision], values: Weights) -> Precision:
    _check_mask(node, inputs)
    return _softmax(node, inputs, values)


def _same(node: Node, inputs: Sequence[Precision], values: Weights) -> Precision:
    return inputs[0]


def _sum(name: str, low: float, high: float, fractional: int) -> Precision:
    """Return the format of a sum without weights, proved to fit float64."""
    steps = math.ldexp(max(high, -low), fractional)
    if steps >= 2**FLOAT64_BITS:
        raise ConversionError(
            f"{name}: sums need up to {math.log2(steps):.1f} bits, more than the {FLOAT64_BITS} that float64 adds exactly in "
            "Keras; use fewer activation bits"
        )
    return narrowest(low, high, fractional)


def narrowest(low: float, high: float, fractional: int) -> Precision:
    """Return the narrowest signed format of a resolution that holds ``[low, high]``."""
    bottom, top = math.ldexp(low, fractional), math.ldexp(high, fractional)
    bits = max(2, 1 + int(top).bit_length(), 1 + (int(-bottom) - 1).bit_length() if bottom < 0 else 0)
    return Precision(bits, bits - fractional)


def _activation(node: Node, inputs: Sequence[Precision], values: Weights) -> Precision:
    """Return the output format of an activation, checked against its input."""
    name, layer, (incoming,) = node.name, node.layer, inputs
    fn, out = ACTIVATIONS[layer["fn"]], layer.activation
    if out is None:
        raise ConversionError(f"{name}: the activation is float in a quantized network; give it a format")
    _check_width(name, out)
    if layer.signs:
        if not fn.signed:
            raise ConversionError(f"{name}: {layer['fn']} has no negative values for {out}; give it ap_ufixed<1,{out.integer}>")
    elif layer.looks_up:
        _check_table(name, incoming)
    elif out.signed != fn.signed:
        kind = "a signed (ap_fixed)" if fn.signed else "an unsigned (ap_ufixed)"
        raise ConversionError(f"{name}: {layer['fn']} needs {kind} output, not {out}: QKeras computes it so")
    elif fn.keras == "linear":
        _check_clipping(name, out, incoming)
    return out


def _check_table_input(node: Node, architecture: Architecture) -> None:
    """Refuse a layer that reads a table at an unrounded accumulator, which is on no grid that Keras knows of."""
    if not node.layer.looks_up:
        return
    if architecture.rounded(node.inputs[0]) is None:
        raise ConversionError(
            f"{node.name}: it reads a table but its input is an unrounded accumulator; "
            "put an activation 'none' with a format before it"
        )


def _check_width(name: str, grid: Precision) -> None:
    if grid.bits > FLOAT32_BITS:
        raise ConversionError(f"{name}: {grid} has more than the {FLOAT32_BITS} bits that float32 holds in Keras; use fewer")


def _check_table(name: str, incoming: Precision) -> None:
    if incoming.bits > MAX_TABLE_BITS:
        raise ConversionError(f"{name}: a table over {incoming} is too large; use at most {MAX_TABLE_BITS} bits")


def clipping_bits(out: Precision, incoming: Precision) -> float:
    """Return the bits in which QKeras clips to a signed format: of ``x + (clipped - x)``; 0 if nothing is clipped."""
    reach = max(-incoming.minimum, incoming.maximum)
    clips = incoming.minimum < out.minimum or incoming.maximum > out.maximum
    return math.log2(reach) + max(out.fractional, incoming.fractional) if clips else 0.0


def _check_clipping(name: str, out: Precision, incoming: Precision) -> None:
    """Refuse clipping that float64 cannot compute."""
    needed = clipping_bits(out, incoming)
    if needed > FLOAT64_BITS:
        raise ConversionError(
            f"{name}: clipping {incoming} to {out} needs {needed:.1f} bits, more than the {FLOAT64_BITS} that float64 "
            "holds in Keras; use fewer activation bits, or smaller weights before it"
        )


_Rule = Callable[[Node, Sequence[Precision], Weights], Precision]

#: For every kind with exact firmware: the output format from the node, the formats of its inputs and the weights.
OUTPUT_FORMATS: Mapping[str, _Rule | Unsupported] = {
    **dict.fromkeys(WEIGHT_KINDS, _accumulator),
    **dict.fromkeys(PASSING_KINDS, _same),
    "activation": _activation,
    "add": _add,
    "concatenate": _concatenate,
    "layer_norm": _layer_norm,
    "lookup": _lookup,
    "quantizer": _quantizer,
    "tables": _tables,
    "matmul": _matmul,
    "pool": _pool,
    "softmax": _softmax,
    "mask": _mask,
    "masked_mean": _masked_mean,
    "masked_softmax": _masked_softmax,
    **NOT_IN_FIRMWARE,
}


def _rule(layer: LayerSpec) -> _Rule | Unsupported:
    unknown = Unsupported(f"no exact firmware is known for layers of kind {layer.kind!r}; leave it out of the search space")
    return OUTPUT_FORMATS.get(layer.kind, unknown)
