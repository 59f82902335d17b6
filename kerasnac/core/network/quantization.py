"""Number formats for every tensor of a trained float network."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from kerasnac.core.network.activations import ACTIVATIONS
from kerasnac.core.network.architecture import Architecture, Node
from kerasnac.core.network.exactness import (
    FLOAT32_BITS,
    KERNEL_KINDS,
    NOT_IN_FIRMWARE,
    QUANTIZED_ONLY,
    averaged,
    check_unscaled,
)
from kerasnac.core.network.kinds import TABLES
from kerasnac.core.network.layer_norms import GAIN_BITS, TABLE_BITS, normalised, table_formats
from kerasnac.core.network.layers import PASSING_KINDS, LayerSpec, Unsupported
from kerasnac.core.network.learned_tables import holds
from kerasnac.core.network.means import needs_reciprocal, reciprocal_format
from kerasnac.core.network.precision import Binary, Odd, Precision
from kerasnac.core.network.weights import Weights
from kerasnac.core.network.widths import BINARY, TABLE_INPUT_BITS, Width, bits_of, weight_format
from kerasnac.errors import ConfigError, ConversionError

#: Fraction of an activation's values that may exceed its format, at each end, where nothing else is asked for.
CLIP_QUANTILE = 1e-3

#: Kinds whose quantized form rounds its output to a format.
ROUNDING_KINDS = ("activation", "softmax", "masked_softmax", "lookup", "layer_norm")

#: Widest bias; it only has to resolve the accumulator it is added to.
BIAS_BITS = 16

#: Largest exponent of a step or a bound, up or down. QKeras scales by powers of two in float32; beyond 2**110 or so they
#: become zero or infinity, and its results NaN.
MAX_EXPONENT = 100


#: Kinds that round what they read.
ROUNDING_READERS = ("activation", "layer_norm")


@dataclass(frozen=True)
class ActivationRange:
    """Range of the inputs and outputs of an activation or layer norm on training data, without the tail that saturates.

    Attributes:
        inputs: (low, high) of the inputs of the activation function.
        outputs: (low, high) of its outputs.
        spreads: (low, high) of the spreads of a layer norm, see :mod:`kerasnac.core.network.layer_norms`.
        magnitude: Mean magnitude of the outputs that are not zero, which decides the step of an output of one bit; None for
            half of the range.
    """

    inputs: tuple[float, float]
    outputs: tuple[float, float]
    spreads: tuple[float, float] = (0.0, 0.0)
    magnitude: float | None = None


def quantize(
    architecture: Architecture,
    weights: Weights,
    observed: Mapping[str, ActivationRange],
    *,
    input_grid: Precision,
    weight_bits: Width,
    activation_bits: int,
    tie_free: bool = False,
) -> Architecture:
    """Give every tensor of a float network a format of the bit width that is asked for.

    The split between integer and fractional bits comes from the data: activations cover the observed range,
    kernels take the split with the least squared error, biases resolve their accumulator.

    The number of integer bits follows from the range and not from the width, and may exceed it. So there is a format of
    every width from 2 bits that holds a finite range, to half a step: too few bits cost resolution, never range. Formats
    that fail all the same are found by :func:`check_representable`; weights that are not finite have no range.

    Args:
        architecture: Float, after :func:`kerasnac.core.network.weights.fold`.
        weights: Its trained weights.
        observed: Range of every activation, layer norm and of :func:`rounded_layers`, by name.
        input_grid: Format of the network's input.
        weight_bits: Width of the kernels: bits, at least 2, ``ternary`` or ``binary``; a layer's own one wins.
        activation_bits: Bit width of the activations; a layer's own one wins. With one bit, the output of a function with
            negative values is the sign of its input times a step, that of any other a step or zero.
        tie_free: True for biases of :func:`odd_bias_format` where activations alone round the sums.

    Returns:
        The quantized architecture. What reads a table gains a linear layer before it that holds its input grid, and
        :func:`rounded_layers` gain one behind them.

    Raises:
        ConfigError: If a bit width is too small.
        ConversionError: If a layer has no formats, as a norm; names the layer.
    """
    if not isinstance(weight_bits, str) and weight_bits < 2:
        raise ConfigError(f"weight width {weight_bits} is too small: at least 2 bits, or ternary or binary")
    if activation_bits < 1:
        raise ConfigError(f"activation width {activation_bits} is too small: at least 1 bit")
    fractional: dict[int, int] = {-1: input_grid.fractional}  # bits of the outputs of the nodes
    chains: dict[str, tuple[LayerSpec, ...]] = {}
    widths = (weight_bits, activation_bits)
    given = _Given(weights, observed, *widths, architecture, rounded_layers(architecture), input_grid, chains, tie_free)
    for i, node in enumerate(architecture.nodes):
        rule = QUANTIZED[node.layer.kind]
        if isinstance(rule, Unsupported):
            raise ConversionError(f"{node.name}: {rule.reason}")
        chains[node.name], fractional[i] = rule(node, [fractional[source] for source in node.inputs], given)
    return architecture.rewritten(lambda node: chains[node.name], input=input_grid)


def rounded_layers(architecture: Architecture) -> frozenset[str]:
    """Return the names of the layers behind which quantization puts a linear activation that rounds.

    Their outputs have the bits of two factors, as those of scales and means, and layers read them that do not round.

    Args:
        architecture: Float, batch norms folded.
    """
    nodes = architecture.nodes

    def exposed(i: int) -> bool:
        readers = [j for j, node in enumerate(nodes) if i in node.inputs]
        kinds = ((j, nodes[j].layer.kind) for j in readers)
        return any(exposed(j) if kind in PASSING_KINDS else kind not in ROUNDING_READERS for j, kind in kinds)

    return frozenset(node.name for i, node in enumerate(nodes) if _multiplies(node) and exposed(i))


def _multiplies(node: Node) -> bool:
    """Return True if the outputs have the bits of two factors, and are not those of a kernel."""
    mean = node.layer.kind == "pool" and node.layer["op"] == "mean"
    return node.layer.kind in ("scale", "masked_mean") or (mean and needs_reciprocal(averaged(node.layer, node.shapes[0])))


def check_representable(architecture: Architecture) -> None:
    """Refuse formats that QKeras cannot compute with in float32: no working network has ranges so small or large.

    Args:
        architecture: Quantized.

    Raises:
        ConversionError: Naming the layer and the format.
    """
    for name, layer in zip(architecture.names, architecture.layers, strict=True):
        for what in ("weight", "bias", "activation"):
            grid: Precision | None = getattr(layer, what)
            if grid and max(abs(grid.integer), abs(grid.fractional)) > MAX_EXPONENT:
                raise ConversionError(
                    f"{name}: the observed range of its {what} needs the format {grid}, and float32 cannot scale by "
                    f"2**{MAX_EXPONENT} or more; train again, with less weight decay or another scale of the data"
                )


def kernel_format(kernel: NDArray[np.float32], width: Width) -> Precision:
    """Return the signed format of a width that rounds a kernel with the least squared error."""
    covering = Precision.covering(float(kernel.min()), float(kernel.max()), max(2, bits_of(width)), signed=True)
    # Two or three values have to be where most weights are, far within the range.
    octaves = range(-1, 8) if isinstance(width, str) else range(4)
    candidates = [weight_format(width, covering.integer - fewer) for fewer in octaves]
    return min(candidates, key=lambda grid: float(np.sum((grid.quantize(kernel) - kernel) ** 2)))


def bias_format(bias: NDArray[np.float32], fractional: int) -> Precision:
    """Return a signed format with the accumulator's resolution and room for the bias to grow fourfold in training."""
    reach = max(4 * float(np.abs(bias).max()), 1.0)
    integer = Precision.covering(-reach, reach, BIAS_BITS).integer
    return Precision(max(2, min(integer + fractional, BIAS_BITS)), integer)


def odd_bias_format(bias: NDArray[np.float32], fractional: int) -> Precision:
    """Return a format of odd multiples of half the last bit of the accumulator, with as much room for the bias to grow.

    No sum is then halfway between two numbers of a coarser grid, and to round half to even is to add half a step and drop
    bits: the firmware needs nothing for ties. Where float32 does not hold all these numbers, it is :func:`bias_format`.

    Args:
        bias: Latent, of any shape.
        fractional: Fractional bits of the accumulator without its bias.
    """
    plain = bias_format(bias, fractional)
    bits = max(1, plain.integer + fractional)
    return Odd(bits, bits - fractional) if bits < FLOAT32_BITS else plain


@dataclass(frozen=True)
class _Given:
    """Arguments of :func:`quantize` that the rules for layers read."""

    weights: Weights
    observed: Mapping[str, ActivationRange]
    weight_bits: Width
    activation_bits: int
    architecture: Architecture
    rounded: frozenset[str]
    input_grid: Precision
    chains: Mapping[str, tuple[LayerSpec, ...]]
    tie_free: bool

    def grid_of_input(self, node: Node) -> Precision | None:
        """Return the format to which the first input of a node is rounded already; None for an accumulator."""
        origin = self.architecture.origin(node.inputs[0])
        if origin < 0:
            return self.input_grid
        before = self.architecture.nodes[origin]
        return self.chains[before.name][-1].activation if before.layer.kind in ROUNDING_KINDS else None

    def grid_of_tables(self, node: Node) -> Precision | None:
        """Return the format over which all have their tables that read a node, or its activation; None if there is none."""
        nodes, grids = self.architecture.nodes, set[Precision | None]()
        index = nodes.index(node)
        for other in (other for other in nodes if index in other.inputs):
            activated = other.layer.kind == "activation" and node.layer.kind != "activation"
            grids.add(
                TABLES.grid(other.layer) if other.layer.kind == "tables" else self.grid_of_tables(other) if activated else None
            )
        return grids.pop() if len(grids) == 1 else None

    def rounds(self, node: Node, fractional: int) -> bool:
        """Return True if activations alone read a node, and all of them round so many fractional bits to fewer."""
        nodes, index = self.architecture.nodes, self.architecture.nodes.index(node)
        readers = [other for other in nodes if index in other.inputs]

        def drops_bits(reader: Node) -> bool:
            if reader.layer.kind in PASSING_KINDS:
                return self.rounds(reader, fractional)
            if reader.layer.kind != "activation":
                return False
            first = _activation(reader, [fractional], self)[0][0].activation
            return first is not None and not isinstance(first, Binary) and first.fractional < fractional

        return bool(readers) and all(map(drops_bits, readers))

    def result_bits(self, node: Node) -> int:
        """Return the width of the widest activation that rounds the outputs of a node."""
        nodes = self.architecture.nodes
        index = nodes.index(node)
        readers = [other for other in nodes if index in other.inputs]
        return max(
            self.result_bits(other) if other.layer.kind in PASSING_KINDS else other.layer.activation_bits(self.activation_bits)
            for other in readers or [node]
        )


#: The layers in the place of one, and the fractional bits of their result.
_Chain = tuple[tuple[LayerSpec, ...], int]


def _with_kernel(node: Node, incoming: Sequence[int], given: _Given) -> _Chain:
    layer, name = node.layer, node.name
    width = layer.weight_bits(given.weight_bits)
    if width == BINARY:  # No weight is zero, whatever the sparsity of the others.
        layer = replace(layer, params=tuple(p for p in layer.params if p[0] != "sparsity"))
    kernel = kernel_format(given.weights[f"{name}/kernel"], width)
    fractional = kernel.fractional + incoming[0]
    odd = given.tie_free and layer.kind in KERNEL_KINDS and given.rounds(node, fractional)
    bias = (odd_bias_format if odd else bias_format)(given.weights[f"{name}/bias"], fractional)
    return (replace(layer, weight=kernel, bias=bias),), fractional


def _tables(node: Node, incoming: Sequence[int], given: _Given) -> _Chain:
    """Put the values on the grid of the tables, unless they are, and choose the format of the entries.

    Entries of tables that are read by tables alone have the step of the grid of these: their sum needs no rounding, and
    reaches every number of the grid.
    """
    layer, grid = node.layer, TABLES.grid(node.layer)
    incoming_grid = given.grid_of_input(node)
    before: tuple[LayerSpec, ...] = ()
    if incoming_grid is None or not holds(grid, incoming_grid.fixed):
        before = (replace(LayerSpec.of("activation", fn="none" if grid.signed else "relu"), activation=grid),)
    following = given.grid_of_tables(node)
    width = layer.weight_bits(given.weight_bits)
    if following is None:
        entries = kernel_format(given.weights[f"{node.name}/kernel"], width)
    else:
        bits = bits_of(width)
        entries = Precision(bits, bits - following.fractional)
    return (*before, replace(layer, weight=entries)), entries.fractional


def _scale(node: Node, incoming: Sequence[int], given: _Given) -> _Chain:
    return _rounded(node, _with_kernel(node, incoming, given), given)


def _rounded(node: Node, chain: _Chain, given: _Given) -> _Chain:
    """Append a linear activation that rounds, if the layer is one of :func:`rounded_layers`."""
    if node.name not in given.rounded:
        return chain
    bits = TABLE_INPUT_BITS if given.activation_bits == 1 else given.activation_bits
    grid = Precision.covering(*given.observed[node.name].outputs, bits, signed=True)
    return (*chain[0], replace(LayerSpec.of("activation", fn="none"), activation=grid)), grid.fractional


def _pool(node: Node, incoming: Sequence[int], given: _Given) -> _Chain:
    if not _multiplies(node):
        return (node.layer,), incoming[0]
    weight = reciprocal_format([averaged(node.layer, node.shapes[0])], given.result_bits(node))
    return _rounded(node, ((replace(node.layer, weight=weight),), incoming[0] + weight.fractional), given)


def _masked_mean(node: Node, incoming: Sequence[int], given: _Given) -> _Chain:
    weight = reciprocal_format(range(1, node.shapes[0][0] + 1), given.result_bits(node))
    return _rounded(node, ((replace(node.layer, weight=weight),), incoming[0] + weight.fractional), given)


def _mask(node: Node, incoming: Sequence[int], given: _Given) -> _Chain:
    return (node.layer,), 0


def _activation(node: Node, incoming: Sequence[int], given: _Given) -> _Chain:
    layer, bits = node.layer, node.layer.activation_bits(given.activation_bits)
    *before, out = _activation_formats(layer, given.observed[node.name], bits)
    if grid := given.grid_of_tables(node):
        signed = ACTIVATIONS[layer["fn"]].signed
        out = grid if signed == grid.signed else Precision(grid.bits - 1, grid.integer - 1, signed=False)
    inserted = [replace(LayerSpec.of("activation", fn="none"), activation=grid) for grid in before]
    return (*inserted, replace(layer, activation=out)), out.fractional


def _softmax(node: Node, incoming: Sequence[int], given: _Given) -> _Chain:
    out = Precision(node.layer.activation_bits(given.activation_bits), 0, signed=False)
    return (replace(node.layer, activation=out),), out.fractional


def _layer_norm(node: Node, incoming: Sequence[int], given: _Given) -> _Chain:
    """Put the values on a grid, unless they are, and choose the formats of the table, the gains, the offsets and the result."""
    layer, name, observed = node.layer, node.name, given.observed[node.name]
    bits = layer.activation_bits(given.activation_bits)
    fractional, before = incoming[0], tuple[LayerSpec, ...]()
    if given.grid_of_input(node) is None:
        grid = Precision.covering(*observed.inputs, bits, signed=True)
        fractional, before = grid.fractional, (replace(LayerSpec.of("activation", fn="none"), activation=grid),)
    table_bits = int(dict(layer.params).get("table_bits", TABLE_BITS))  # type: ignore[arg-type]
    index, root = table_formats(fractional, normalised(node), observed.spreads, table_bits)
    params = {**dict(layer.params), "spread": str(index), "root": str(root)}
    out = Precision.covering(*observed.outputs, bits, signed=True)
    gain = kernel_format(given.weights[f"{name}/gamma"], GAIN_BITS)
    offset = bias_format(given.weights[f"{name}/beta"], out.fractional + 2)
    quantized = replace(layer, params=tuple(params.items()), weight=gain, bias=offset, activation=out)
    return (*before, quantized), out.fractional


def _product(node: Node, incoming: Sequence[int], given: _Given) -> _Chain:
    check_unscaled(node)
    return (node.layer,), sum(incoming)


def _unchanged(node: Node, incoming: Sequence[int], given: _Given) -> _Chain:
    return (node.layer,), max(incoming)


#: For every kind: the layers with formats in the place of one, from the node, the fractional bits of its inputs and the
#: arguments of :func:`quantize`.
QUANTIZED: Mapping[str, Callable[[Node, Sequence[int], _Given], _Chain] | Unsupported] = {
    "dense": _with_kernel,
    "conv1d": _with_kernel,
    "conv2d": _with_kernel,
    "scale": _scale,
    "tables": _tables,
    "activation": _activation,
    "softmax": _softmax,
    "mask": _mask,
    "masked_mean": _masked_mean,
    "masked_softmax": _softmax,
    "matmul": _product,
    "add": _unchanged,
    "concatenate": _unchanged,
    **QUANTIZED_ONLY,
    "pool": _pool,
    "flatten": _unchanged,
    "reshape": _unchanged,
    "window": _unchanged,
    "batch_norm": NOT_IN_FIRMWARE["batch_norm"],
    "layer_norm": _layer_norm,
}


def _activation_formats(layer: LayerSpec, observed: ActivationRange, bits: int) -> tuple[Precision, ...]:
    """Return the format of the output, preceded by that of the input for a table activation."""
    fn = ACTIVATIONS[layer["fn"]]
    if bits == 1:
        output = _one_bit(observed, signed=fn.signed)
    else:
        output = Precision.covering(*observed.outputs, bits, signed=fn.signed)
    if not fn.table or isinstance(output, Binary):
        return (output,)
    low, high = np.clip(observed.inputs, *fn.reach)
    return Precision.covering(float(low), float(high), TABLE_INPUT_BITS if bits == 1 else bits, signed=True), output


def _one_bit(observed: ActivationRange, *, signed: bool) -> Precision:
    """Return the format of an output of one bit, whose step is the power of two next to the best one.

    The squared error of ``-step`` and ``step`` is least for a step that is the mean magnitude, whatever the distribution. That
    of 0 and ``step``, of values above half a step that are then ``step``, is least for 1.5 times the mean of the values that
    are not zero if they are half of a normal distribution, and for 2 times it if they are an exponential one.
    """
    magnitude = max(map(abs, observed.outputs)) / 2 if observed.magnitude is None else observed.magnitude
    best = magnitude if signed else 1.5 * magnitude
    exponent = math.floor(math.log2(best / 1.5)) + 1 if best > 0 and math.isfinite(best) else 0
    return Binary(exponent + 1) if signed else Precision(1, exponent + 1, signed=False)
