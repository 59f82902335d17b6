"""Heads of the cells of a mold: layers as TensorFlow operations on padded tensors."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from kerasnac.adapters.keras.runtime import tensorflow
from kerasnac.adapters.keras.windows import window_parts
from kerasnac.core.network.kinds import MATMUL, zeros_around
from kerasnac.core.network.layers import LayerSpec
from kerasnac.core.network.mold import Place

Tensor = Any  # TensorFlow has no type stubs


def head_of(
    place: Place, inputs: Sequence[Tensor], kernel: Tensor | None, own: Mapping[str, Tensor], *, quantized: bool
) -> Tensor:
    """Compute a head, without its bias.

    Args:
        place: Place of the cell.
        inputs: float32 tensors (samples, *shape) that it reads, with zeros for the channels that the network lacks.
        kernel: Padded kernel; None for a head without one.
        own: Choices of the cell, see :meth:`kerasnac.adapters.keras.engine.padding.Fitted.choices`.
        quantized: True for networks with formats.

    Returns:
        float32, shape (samples, *place.output).
    """
    head = place.cell.head
    if kernel is not None:
        return _WITH_KERNEL[head.kind](head, inputs[0], kernel)
    if quantized and "reciprocal" in own:
        return _sum(head, inputs[0]) * own["reciprocal"]
    factors = (padded(x, shape[-1]) for x, shape in zip(inputs, place.shapes, strict=True))
    return _matmul(head, own, *factors) if head.kind == "matmul" else _WITHOUT_KERNEL[head.kind](head, *factors)


def padded(x: Tensor, channels: int) -> Tensor:
    """Return values with zeros for the channels that they do not have."""
    missing = channels - x.shape[-1]
    return tensorflow().pad(x, [[0, 0]] * (len(x.shape) - 1) + [[0, missing]]) if missing else x


# The layer, float32 tensors (samples, *shape), and the kernel where there is one.


def _dense(head: LayerSpec, x: Tensor, kernel: Tensor) -> Tensor:
    return tensorflow().matmul(x, kernel)


def _conv(head: LayerSpec, x: Tensor, kernel: Tensor) -> Tensor:
    """Unfold the windows of a map, and multiply them by the kernel: on a CPU, XLA has no fast gradients of convolutions."""
    tf, size, stride = tensorflow(), head["kernel"], head["stride"]
    if head["padding"] == "same":
        rank = len(x.shape) - 2
        x = tf.pad(x, [(0, 0), *zeros_around(x.shape[1:-1], [size] * rank, [stride] * rank), (0, 0)])
    parts = window_parts(x, size, stride)
    unfolded = tf.concat(parts, -1) if len(parts) > 1 else parts[0]
    return tf.tensordot(unfolded, tf.reshape(kernel, (-1, kernel.shape[-1])), 1)


def _scale(head: LayerSpec, x: Tensor, kernel: Tensor) -> Tensor:
    return x * kernel


def _pool(head: LayerSpec, x: Tensor) -> Tensor:
    tf = tensorflow()
    axes = list(range(1, len(x.shape) - 1))
    if head["size"] == 0:
        return (tf.reduce_max if head["op"] == "max" else tf.reduce_mean)(x, axes)
    size = head["size"]
    if head["op"] == "mean":
        return tf.nn.pool(x, [size] * len(axes), "AVG", [size] * len(axes))
    # XLA has no deterministic gradient of this pool. Among equals the first one is taken, as by Keras.
    first, *rest = window_parts(x, size, size)
    for other in rest:
        first = tf.where(other > first, other, first)
    return first


def _sum(head: LayerSpec, x: Tensor) -> Tensor:
    """Sum over the windows of a pool."""
    tf = tensorflow()
    if head["size"] == 0:
        return tf.reduce_sum(x, list(range(1, len(x.shape) - 1)))
    return tf.add_n(window_parts(x, head["size"], head["size"]))


def _flatten(head: LayerSpec, x: Tensor) -> Tensor:
    return tensorflow().reshape(x, (x.shape[0], -1))


def _window(head: LayerSpec, x: Tensor) -> Tensor:
    return x[:, head["start"] : head["start"] + head["length"]]


def _reshape(head: LayerSpec, x: Tensor) -> Tensor:
    return tensorflow().reshape(x, (x.shape[0], *head["shape"]))


def _matmul(head: LayerSpec, own: Mapping[str, Tensor], x: Tensor, y: Tensor) -> Tensor:
    """Multiply, for every head, by zeros wherever the channels are those of other heads: where they lie, the member says."""
    tf, heads, transpose = tensorflow(), MATMUL.heads(head), head["transpose"]
    if heads > 1:
        y = y[:, None] * own["heads"][:, None]  # Shape (samples, heads, positions, channels).
        if transpose:
            x = x[:, None]
        else:
            x = tf.reshape(tf.transpose(x, [0, 2, 1, 3]), (x.shape[0], x.shape[2], -1))
            y = tf.reshape(y, (y.shape[0], -1, y.shape[3]))
    product = tf.matmul(x, y, transpose_b=transpose)
    return product / own["divisor"] if transpose else product


def _add(head: LayerSpec, x: Tensor, y: Tensor) -> Tensor:
    return x + y


_WITH_KERNEL: Mapping[str, Callable[[LayerSpec, Tensor, Tensor], Tensor]] = {
    "dense": _dense,
    "conv1d": _conv,
    "conv2d": _conv,
    "scale": _scale,
}

_WITHOUT_KERNEL: Mapping[str, Callable[..., Tensor]] = {
    "pool": _pool,
    "flatten": _flatten,
    "reshape": _reshape,
    "window": _window,
    "add": _add,
}
