"""What a network with learned widths computes, and its effective bit operations, as TensorFlow operations."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from kerasnac.adapters.keras.learned import tables
from kerasnac.adapters.keras.learned.widths import LN2, integer_bits, rounded, saturated, whole
from kerasnac.adapters.keras.runtime import tensorflow
from kerasnac.core.network.architecture import Architecture, Node
from kerasnac.core.network.exactness import averaged
from kerasnac.core.network.kinds import CONV1D, CONV2D, POOL, TABLES, Shape
from kerasnac.core.network.learned import place_of, read_by_tables, rounding_of

Tensor = Any  # TensorFlow has no type stubs

#: Added to the size of a weight before its logarithm is taken.
LEAST_WEIGHT = 1e-4

#: Numbers, and their bits if they are rounded.
_Rounded = tuple[Tensor, Tensor | None]


def shapes_of(network: Architecture) -> dict[str, Shape]:
    """Return the shapes of all that is learned, by ``layer/part``; see :func:`kerasnac.core.network.learned.with_formats`."""
    shapes: dict[str, Shape] = {}
    for node in network.nodes:
        if node.layer.kind == "activation":
            shapes |= {f"{node.name}/{part}": node.output[-1:] for part in ("bits", "integer")}
        if node.layer.kind == "tables":
            kernel = node.weights["kernel"].shape
            shapes |= {f"{node.name}/kernel": kernel, f"{node.name}/kernel_bits": kernel[1:]}
            shapes |= dict.fromkeys((f"{node.name}/bias", f"{node.name}/bias_bits"), node.output)
            continue
        for part, weight in node.weights.items():
            shapes |= {f"{node.name}/{part}": weight.shape, f"{node.name}/{part}_bits": weight.shape}
    return shapes


def range_shapes(network: Architecture) -> dict[str, Shape]:
    """Return the shapes of the smallest and largest numbers of all channels, by ``activation/low`` and ``activation/high``."""
    places = [node for node in network.nodes if node.layer.kind == "activation"]
    return {f"{node.name}/{end}": node.output[-1:] for node in places for end in ("low", "high")}


class Result(NamedTuple):
    """What :func:`compute` returns.

    Attributes:
        outputs: float32, shape (samples, *output_shape).
        operations: Effective bit operations, a number.
        ranges: Smallest and largest numbers of all channels, see :func:`range_shapes`.
        roughness: Of all learned tables, a number.
        tables: Learned tables with one value for every cell of their inputs, not rounded; by ``layer/kernel``.
    """

    outputs: Tensor
    operations: Tensor
    ranges: dict[str, Tensor]
    roughness: Tensor
    tables: dict[str, Tensor]


@dataclass
class _Pass:
    """State of one computation."""

    network: Architecture
    values: Mapping[str, Tensor]
    known: Mapping[str, Tensor]
    operations: Tensor
    roughness: Tensor
    ranges: dict[str, Tensor] = field(default_factory=dict)
    tables: dict[str, Tensor] = field(default_factory=dict)


def compute(network: Architecture, values: Mapping[str, Tensor], known: Mapping[str, Tensor], x: Tensor) -> Result:
    """Compute the outputs of a network.

    Args:
        network: Of :func:`kerasnac.core.network.learned.with_places`.
        values: What is learned, see :func:`shapes_of`.
        known: Ranges that are known already, see :func:`range_shapes`; those of the samples widen them.
        x: float32, shape (samples, *input_shape), on the input grid.
    """
    tf = tensorflow()
    state = _Pass(network, values, known, tf.constant(0.0), tf.constant(0.0))
    tensors: dict[int, Tensor] = {-1: x}
    bits: dict[int, Tensor] = {}  # Of the numbers of one sample, where they are rounded.
    for i, node in enumerate(network.nodes):
        sources = [tensors[source] for source in node.inputs]
        tensors[i], bits[i] = RULES[node.layer.kind](state, node, sources, [bits.get(source) for source in node.inputs])
    return Result(tensors[len(network.nodes) - 1], state.operations, state.ranges, state.roughness, state.tables)


# Functions of one signature: the numbers that leave a layer, and their bits in the shape of one sample, None where they are
# not rounded; from the state, the node, and the numbers and bits that enter.


def _kernel(state: _Pass, node: Node, sources: Sequence[Tensor], bits: Sequence[Tensor | None]) -> tuple[Tensor, None]:
    tf, (x,), (incoming,) = tensorflow(), sources, bits
    assert incoming is not None, f"{node.name} reads numbers that are not rounded"
    assert node.products is not None
    kernel, kernel_bits = _weights(state, node, "kernel")
    bias, bias_bits = _weights(state, node, "bias")
    if node.layer.kind == "dense":
        state.operations += tf.reduce_sum(incoming[:, None] * kernel_bits) + tf.reduce_sum(bias_bits)
        return tf.matmul(x, kernel) + bias, None
    positions = node.products.positions
    channels = tf.reduce_mean(incoming, list(range(len(node.shapes[0]) - 1)))
    state.operations += positions * (tf.reduce_sum(channels[:, None] * kernel_bits) + tf.reduce_sum(bias_bits))
    kind = CONV1D if node.layer.kind == "conv1d" else CONV2D
    strides = kind.sizes(node.layer, "stride")
    return tf.nn.convolution(x, kernel, strides=strides, padding=node.layer["padding"].upper()) + bias, None


def _weights(state: _Pass, node: Node, part: str) -> tuple[Tensor, Tensor]:
    """Return the rounded weights of a layer, and their bits, whose gradient for a weight is that of its logarithm."""
    tf, fractional = tensorflow(), state.values[f"{node.name}/{part}_bits"]
    values = state.values[f"{node.name}/{part}"]
    weights = rounded(values, fractional)
    size = tf.math.log(tf.abs(values) + LEAST_WEIGHT) / LN2
    smaller = size - tf.stop_gradient(size)
    return weights, tf.nn.relu(whole(fractional) + integer_bits(tf.abs(weights)) + smaller)


def _tables(state: _Pass, node: Node, sources: Sequence[Tensor], bits: Sequence[Tensor | None]) -> tuple[Tensor, None]:
    tf, (x,), (incoming,), grid = tensorflow(), sources, bits, TABLES.grid(node.layer)
    assert incoming is not None, f"{node.name} reads numbers that are not rounded"
    values, key = state.values[f"{node.name}/kernel"], f"{node.name}/kernel"
    place = place_of(state.network, node)
    holds = read_by_tables(state.network, place)
    assert holds is not None

    def by_input(channels: Tensor) -> Tensor:
        return tf.reshape(tf.broadcast_to(channels, place.output), (-1,))

    step = tf.pow(2.0, -tf.round(tf.minimum(by_input(state.values[f"{place.name}/bits"]), float(holds.fractional))))
    channels = tables.Channels(holds, step, _half(state, place))
    low, high = (by_input(state.ranges[f"{place.name}/{end}"]) for end in ("low", "high"))
    # The mean is that of all numbers: it must not change with the range that the samples reach.
    centred = values - tf.reduce_mean(values, 0)
    state.tables[key] = tf.einsum("kni,niu->kiu", channels.members(grid, low, high), centred)
    fractional = state.values[f"{node.name}/kernel_bits"]
    entries = rounded(state.tables[key], fractional)
    width, there = tables.entry_bits(state.tables[key], entries, fractional)
    bias, bias_bits = _weights(state, node, "bias")
    # Reading, and an adder as wide as the entry.
    luts = width * (tables.look_ups(incoming)[:, None] + 1) + tables.EACH * there
    state.operations += tf.reduce_sum(luts) + tf.reduce_sum(bias_bits)
    state.roughness += tables.roughness(values, grid)
    return tables.read(x, entries, grid, step) + bias, None


def _half(state: _Pass, place: Node) -> float:
    return 0.5 if rounding_of(state.network, place) == "half_up" else 0.0


def _activation(state: _Pass, node: Node, sources: Sequence[Tensor], bits: Sequence[Tensor | None]) -> tuple[Tensor, Tensor]:
    tf, (x,) = tensorflow(), sources
    signed, holds = node.layer["fn"] == "none", read_by_tables(state.network, node)
    fractional, integer = state.values[f"{node.name}/bits"], state.values[f"{node.name}/integer"]
    x, counted = x if signed else tf.nn.relu(x), whole(fractional)
    if holds is None:
        x = rounded(x, fractional, _half(state, node))
    else:
        x, counted = tables.rounded_channels(x, fractional, holds, _half(state, node)), tables.counted_bits(fractional, holds)
        fractional = tf.minimum(fractional, float(holds.fractional))
    x = saturated(x, integer, fractional, signed=signed)
    axes = list(range(len(x.shape) - 1))
    low = tf.minimum(tf.stop_gradient(tf.reduce_min(x, axes)), state.known[f"{node.name}/low"])
    high = tf.maximum(tf.stop_gradient(tf.reduce_max(x, axes)), state.known[f"{node.name}/high"])
    state.ranges |= {f"{node.name}/low": low, f"{node.name}/high": high}
    reached = tf.minimum(whole(integer), integer_bits(tf.maximum(high, -low)))
    needed = tf.broadcast_to(tf.nn.relu(counted + reached + float(signed)), node.output)
    if holds is not None:
        state.operations += tf.reduce_sum(needed)  # It saturates at the ends of a grid, which takes a LUT for every bit.
    return x, needed


def _reshape(state: _Pass, node: Node, sources: Sequence[Tensor], bits: Sequence[Tensor | None]) -> _Rounded:
    tf, (x,), (incoming,) = tensorflow(), sources, bits
    return tf.reshape(x, (-1, *node.output)), None if incoming is None else tf.reshape(incoming, node.output)


def _pool(state: _Pass, node: Node, sources: Sequence[Tensor], bits: Sequence[Tensor | None]) -> _Rounded:
    tf, (x,), (incoming,), layer = tensorflow(), sources, bits, node.layer
    rank, mean = len(node.shapes[0]) - 1, layer["op"] == "mean"
    count = averaged(layer, node.shapes[0])
    if layer["size"] == 0:
        x = (tf.reduce_mean if mean else tf.reduce_max)(x, list(range(1, rank + 1)))
    else:
        sizes, strides = [layer["size"]] * rank, [POOL.stride(layer)] * rank
        x = tf.nn.pool(x, sizes, "AVG" if mean else "MAX", strides, "VALID")
    if incoming is None:
        return x, None
    channels = tf.reduce_mean(incoming, list(range(rank)))
    return x, tf.broadcast_to(channels + (math.log2(count) if mean else 0.0), node.output)


def _add(state: _Pass, node: Node, sources: Sequence[Tensor], bits: Sequence[Tensor | None]) -> tuple[Tensor, None]:
    left, right = sources
    return left + right, None


def _concatenate(state: _Pass, node: Node, sources: Sequence[Tensor], bits: Sequence[Tensor | None]) -> tuple[Tensor, None]:
    return tensorflow().concat(sources, -1), None


def _window(state: _Pass, node: Node, sources: Sequence[Tensor], bits: Sequence[Tensor | None]) -> _Rounded:
    (x,), (incoming,), start = sources, bits, node.layer["start"]
    part = slice(start, start + node.output[0])
    return x[:, part], None if incoming is None else incoming[part]


#: For every kind of :data:`kerasnac.core.network.learned.LEARNED_KINDS`.
RULES: Mapping[str, Callable[..., _Rounded]] = {
    "dense": _kernel,
    "conv1d": _kernel,
    "conv2d": _kernel,
    "tables": _tables,
    "activation": _activation,
    "flatten": _reshape,
    "reshape": _reshape,
    "pool": _pool,
    "add": _add,
    "concatenate": _concatenate,
    "window": _window,
}
