"""What a network with learned widths computes, and its effective bit operations, as TensorFlow operations."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from kerasnac.adapters.keras.runtime import tensorflow
from kerasnac.core.network.architecture import Architecture, Node
from kerasnac.core.network.exactness import averaged
from kerasnac.core.network.kinds import CONV1D, CONV2D, POOL, Shape
from kerasnac.core.network.learned import rounding_of

Tensor = Any  # TensorFlow has no type stubs

#: Numbers, and their bits if they are rounded.
_Rounded = tuple[Tensor, Tensor | None]

_LN2 = math.log(2.0)


def shapes_of(network: Architecture) -> dict[str, Shape]:
    """Return the shapes of all that is learned, by ``layer/part``; see :func:`kerasnac.core.network.learned.with_formats`."""
    shapes: dict[str, Shape] = {}
    for node in network.nodes:
        if node.layer.kind == "activation":
            shapes |= {f"{node.name}/{part}": node.output[-1:] for part in ("bits", "integer")}
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
    """

    outputs: Tensor
    operations: Tensor
    ranges: dict[str, Tensor]


@dataclass
class _Pass:
    """State of one computation."""

    network: Architecture
    values: Mapping[str, Tensor]
    known: Mapping[str, Tensor]
    operations: Tensor
    ranges: dict[str, Tensor]


def compute(network: Architecture, values: Mapping[str, Tensor], known: Mapping[str, Tensor], x: Tensor) -> Result:
    """Compute the outputs of a network.

    Args:
        network: Of :func:`kerasnac.core.network.learned.with_places`.
        values: What is learned, see :func:`shapes_of`.
        known: Ranges that are known already, see :func:`range_shapes`; those of the samples widen them.
        x: float32, shape (samples, *input_shape), on the input grid.
    """
    tf = tensorflow()
    state = _Pass(network, values, known, tf.constant(0.0), {})
    tensors: dict[int, Tensor] = {-1: x}
    bits: dict[int, Tensor] = {}  # Of the numbers of one sample, where they are rounded.
    for i, node in enumerate(network.nodes):
        sources = [tensors[source] for source in node.inputs]
        tensors[i], bits[i] = RULES[node.layer.kind](state, node, sources, [bits.get(source) for source in node.inputs])
    return Result(tensors[len(network.nodes) - 1], state.operations, state.ranges)


def rounded(x: Tensor, fractional: Tensor, half: float = 0.5) -> Tensor:
    """Round to fractional bits, with the gradients of the module's docstring.

    Args:
        x: float32 of any shape.
        fractional: Learned fractional bits, of the shape of the last axes of ``x``; they are rounded themselves.
        half: 0 to round down.
    """
    tf = tensorflow()

    @tf.custom_gradient  # type: ignore[untyped-decorator]
    def function(x: Tensor, fractional: Tensor) -> tuple[Tensor, Callable[[Tensor], tuple[Tensor, Tensor]]]:
        scale = tf.pow(2.0, tf.round(fractional))
        found = tf.floor(x * scale + half) / scale

        def backward(upstream: Tensor) -> tuple[Tensor, Tensor]:
            slope = upstream * _LN2 * (x - found)
            return upstream, tf.reduce_sum(slope, list(range(len(x.shape) - len(fractional.shape))))

        return found, backward

    found: Tensor = function(x, fractional)
    return found


def saturated(x: Tensor, integer: Tensor, fractional: Tensor, *, signed: bool) -> Tensor:
    """Saturate rounded numbers at learned limits.

    Numbers beyond a limit have no gradient, but the limit 2**i has: that of its exponent.

    Args:
        x: float32, shape (..., channels), rounded to ``fractional`` bits.
        integer: Learned integer bits without the sign, shape (channels,); they are rounded themselves.
        fractional: Learned fractional bits, shape (channels,).
        signed: False behind a ReLU.
    """
    tf = tensorflow()
    limit, step = tf.pow(2.0, _whole(integer)), tf.pow(2.0, -_whole(fractional))
    high, low = limit - step, -limit
    # A channel without bits besides the sign is zero, but keeps its gradients: it may have bits again.
    high += tf.stop_gradient(tf.nn.relu(high) - high)
    low += tf.stop_gradient(tf.where(limit <= step, 0.0, low) - low)
    return tf.minimum(tf.maximum(x, low if signed else 0.0), high)


def _whole(x: Tensor) -> Tensor:
    """Round to whole numbers, with the gradient of the identity."""
    tf = tensorflow()
    return x + tf.stop_gradient(tf.round(x) - x)


def _integer_bits(magnitude: Tensor) -> Tensor:
    """Return the bits left of the binary point that magnitudes need; far below zero for zero, which needs none at all."""
    tf = tensorflow()
    exponent = tf.floor(tf.math.log(tf.maximum(magnitude, 1e-30)) / _LN2 + 1e-6) + 1
    return tf.stop_gradient(tf.where(magnitude > 0, exponent, -1e3))


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
    """Return the rounded weights of a layer, and their bits."""
    tf, fractional = tensorflow(), state.values[f"{node.name}/{part}_bits"]
    weights = rounded(state.values[f"{node.name}/{part}"], fractional)
    return weights, tf.nn.relu(_whole(fractional) + _integer_bits(tf.abs(weights)))


def _activation(state: _Pass, node: Node, sources: Sequence[Tensor], bits: Sequence[Tensor | None]) -> tuple[Tensor, Tensor]:
    tf, (x,) = tensorflow(), sources
    signed = node.layer["fn"] == "none"
    fractional, integer = state.values[f"{node.name}/bits"], state.values[f"{node.name}/integer"]
    x = rounded(x if signed else tf.nn.relu(x), fractional, 0.5 if rounding_of(state.network, node) == "half_up" else 0.0)
    x = saturated(x, integer, fractional, signed=signed)
    axes = list(range(len(x.shape) - 1))
    low = tf.minimum(tf.stop_gradient(tf.reduce_min(x, axes)), state.known[f"{node.name}/low"])
    high = tf.maximum(tf.stop_gradient(tf.reduce_max(x, axes)), state.known[f"{node.name}/high"])
    state.ranges |= {f"{node.name}/low": low, f"{node.name}/high": high}
    whole = tf.minimum(_whole(integer), _integer_bits(tf.maximum(high, -low)))
    needed = tf.nn.relu(_whole(fractional) + whole + float(signed))
    return x, tf.broadcast_to(needed, node.output)


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
    "activation": _activation,
    "flatten": _reshape,
    "reshape": _reshape,
    "pool": _pool,
    "add": _add,
    "concatenate": _concatenate,
    "window": _window,
}
