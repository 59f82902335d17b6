"""What a mold computes, as TensorFlow operations with the choices of its member as tensors."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import product
from typing import Any

from kerasnac.adapters.keras.engine.layout import Layout
from kerasnac.adapters.keras.runtime import tensorflow
from kerasnac.core.network.activations import ACTIVATIONS
from kerasnac.core.network.layers import LayerSpec
from kerasnac.core.network.mold import Place
from kerasnac.core.network.weights import BATCH_NORM_EPSILON, BATCH_NORM_MOMENTUM, LAYER_NORM_EPSILON

Tensor = Any  # TensorFlow has no type stubs


@dataclass
class Step:
    """One step of a training.

    Attributes:
        present: Ones for the samples of the batch, zeros for padding; shape (batch,).
        dropout: By place with a dropout, factors of its values: zero, or what makes up for those that are.
        statistics: New moving statistics by key, filled while the network is computed.
    """

    present: Tensor
    dropout: Mapping[int, Tensor]
    statistics: dict[str, Tensor] = field(default_factory=dict)


def outputs(
    places: Sequence[Place],
    weights: Mapping[str, Tensor],
    choices: Sequence[Mapping[str, Tensor]],
    x: Tensor,
    *,
    quantized: bool,
    step: Step | None = None,
) -> Tensor:
    """Compute the outputs of the network in a mold.

    Args:
        places: Places of the mold.
        weights: Padded arrays.
        choices: See :meth:`kerasnac.adapters.keras.engine.padding.Fitted.choices`.
        x: float32, shape (samples, *input_shape).
        quantized: True for networks with formats.
        step: Step of the training; None for predictions.

    Returns:
        float32, shape (samples, *output_shape).
    """
    tf = tensorflow()
    for i, (place, own) in enumerate(zip(places, choices, strict=True)):
        parts = _below(str(i), weights)
        if not place.cell.optional:
            x, found = _cell(place, parts, own, x, i, quantized, step)
        else:
            x, found = tf.cond(
                own["present"],
                lambda x=x, place=place, parts=parts, own=own, i=i: _cell(place, parts, own, x, i, quantized, step),
                lambda x=x, place=place, parts=parts: (_padded(x, place.output[-1]), _statistics(parts)),
            )
        if step is not None:
            step.statistics |= {f"{i}/{name}": value for name, value in found.items()}
    return x


def _below(prefix: str, arrays: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the arrays whose keys begin with a prefix and a slash, by the rest of their keys."""
    return {key.removeprefix(f"{prefix}/"): value for key, value in arrays.items() if key.startswith(f"{prefix}/")}


def _padded(x: Tensor, channels: int) -> Tensor:
    """Pass values by a cell that the network lacks, with zeros for the channels that they do not have."""
    return tensorflow().pad(x, [[0, 0]] * (len(x.shape) - 1) + [[0, channels - x.shape[-1]]])


def _statistics(parts: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: tensorflow().identity(value) for name, value in parts.items() if name.split("/")[-1].startswith("moving_")}


def _cell(
    place: Place, parts: Mapping[str, Tensor], own: Mapping[str, Tensor], x: Tensor, i: int, quantized: bool, step: Step | None
) -> tuple[Tensor, dict[str, Tensor]]:
    tf = tensorflow()
    kernel, bias = parts.get("kernel"), parts.get("bias")
    if quantized and kernel is not None:
        kernel, bias = _straight(kernel, own["kernel_format"]), _straight(bias, own["bias_format"])
    x = _HEADS[place.cell.head.kind](place.cell.head, x, kernel)
    if bias is not None:
        x = x + bias
    statistics = _statistics(parts)
    plain = x
    for j, norm in enumerate(place.cell.norms):
        # A choice between branches would be compiled ten times as long as the norm itself.
        normed, found = _NORMS[norm.kind](norm, plain, _below(f"norm_{j}", parts), own, step)
        statistics |= {f"norm_{j}/{name}": value for name, value in found.items()}
        x = tf.where(own["norm"] == j + 1, normed, x)
    if place.cell.functions != ("none",) or quantized:
        x = _activation(place, own, x, quantized)
    if step is not None and i in step.dropout:
        x = tf.where(own["drops"], x * step.dropout[i], x)
    return x, statistics


def dropout_factors(places: Sequence[Place], batch: int, rate: Tensor, seed: Tensor) -> dict[int, Tensor]:
    """Draw for the outputs of all activations which of them are dropped, at once: to compile many draws takes long.

    Args:
        places: Places of the mold.
        batch: Number of samples.
        rate: Rate of dropout.
        seed: Two whole numbers.

    Returns:
        By place, float32 of shape (batch, *output_shape).
    """
    tf = tensorflow()
    layout = Layout({str(i): (batch, *p.output) for i, p in enumerate(places) if p.cell.functions != ("none",)})
    # XLA's own choice among the algorithms is thirty times slower on a CPU.
    drawn = tf.cond(
        rate > 0,
        lambda: tf.cast(tf.random.stateless_uniform([layout.size], seed, alg="threefry") >= rate, tf.float32) / (1 - rate),
        lambda: tf.ones([layout.size]),
    )
    return {int(i): factors for i, factors in layout.split_tensor(drawn).items()}


# Heads: the layer, float32 tensors (samples, *shape), and the kernel where there is one.


def _dense(head: LayerSpec, x: Tensor, kernel: Tensor) -> Tensor:
    return tensorflow().matmul(x, kernel)


def _conv(head: LayerSpec, x: Tensor, kernel: Tensor) -> Tensor:
    """Unfold the windows of a map, and multiply them by the kernel: on a CPU, XLA has no fast gradients of convolutions."""
    tf, size, stride = tensorflow(), head["kernel"], head["stride"]
    if head["padding"] == "same":
        sizes = x.shape[1:-1]
        missing = [max(0, (-(-n // stride) - 1) * stride + size - n) for n in sizes]
        x = tf.pad(x, [[0, 0], *([n // 2, n - n // 2] for n in missing), [0, 0]])
    parts = _window_parts(x, size, stride)
    unfolded = tf.concat(parts, -1) if len(parts) > 1 else parts[0]
    return tf.tensordot(unfolded, tf.reshape(kernel, (-1, kernel.shape[-1])), 1)


def _window_parts(x: Tensor, size: int, stride: int) -> list[Tensor]:
    """Return, for every place in a window, the values of a map that are at this place of all windows."""
    sides = x.shape[1:-1]
    return [
        x[(slice(None), *(slice(at, at + side - size + 1, stride) for at, side in zip(offset, sides, strict=True)))]
        for offset in product(range(size), repeat=len(sides))
    ]


def _pool(head: LayerSpec, x: Tensor, kernel: None) -> Tensor:
    tf = tensorflow()
    axes = list(range(1, len(x.shape) - 1))
    if head["size"] == 0:
        return (tf.reduce_max if head["op"] == "max" else tf.reduce_mean)(x, axes)
    size = head["size"]
    if head["op"] == "mean":
        return tf.nn.pool(x, [size] * len(axes), "AVG", [size] * len(axes))
    # XLA has no deterministic gradient of this pool. Among equals the first one is taken, as by Keras.
    first, *rest = _window_parts(x, size, size)
    for other in rest:
        first = tf.where(other > first, other, first)
    return first


def _flatten(head: LayerSpec, x: Tensor, kernel: None) -> Tensor:
    return tensorflow().reshape(x, (x.shape[0], -1))


def _window(head: LayerSpec, x: Tensor, kernel: None) -> Tensor:
    return x[:, head["start"] : head["start"] + head["length"]]


_HEADS: Mapping[str, Callable[[LayerSpec, Tensor, Any], Tensor]] = {
    "dense": _dense,
    "conv1d": _conv,
    "conv2d": _conv,
    "pool": _pool,
    "flatten": _flatten,
    "window": _window,
}


# Norms: the layer, the values, its own arrays, the choices of the cell, and the step of the training, None for predictions.
# They return the values, and new moving statistics by name.


def _batch_norm(
    norm: LayerSpec, x: Tensor, parts: Mapping[str, Tensor], own: Mapping[str, Tensor], step: Step | None
) -> tuple[Tensor, dict[str, Tensor]]:
    tf = tensorflow()
    mean, variance = parts["moving_mean"], parts["moving_variance"]
    statistics = {}
    if step is not None:
        axes = list(range(len(x.shape) - 1))
        weight = tf.reshape(step.present, (-1, *[1] * len(axes)))
        count = tf.reduce_sum(step.present) * math.prod(x.shape[1:-1])
        batch_mean = tf.reduce_sum(x * weight, axes) / count
        batch_variance = tf.reduce_sum(tf.square(x - batch_mean) * weight, axes) / count
        # The fused kernel that Keras takes for pictures corrects the variance that it remembers for the size of the sample.
        seen = batch_variance * count / tf.maximum(count - 1, 1) if len(x.shape) == 4 else batch_variance
        statistics = {
            "moving_mean": mean * BATCH_NORM_MOMENTUM + batch_mean * (1 - BATCH_NORM_MOMENTUM),
            "moving_variance": variance * BATCH_NORM_MOMENTUM + seen * (1 - BATCH_NORM_MOMENTUM),
        }
        mean, variance = batch_mean, batch_variance
    scale = tf.math.rsqrt(variance + BATCH_NORM_EPSILON) * parts["gamma"]
    return x * scale + (parts["beta"] - mean * scale), statistics


def _layer_norm(
    norm: LayerSpec, x: Tensor, parts: Mapping[str, Tensor], own: Mapping[str, Tensor], step: Step | None
) -> tuple[Tensor, dict[str, Tensor]]:
    tf = tensorflow()
    everything = norm["axes"] == "all"
    axes = list(range(1, len(x.shape))) if everything else [-1]
    count = own["values"] if everything else own["units"]
    # Padding is not zero after a sigmoid, where a layer without weights follows.
    mean = tf.reduce_sum(x * own["mask"], axes, keepdims=True) / count
    centred = (x - mean) * own["mask"]
    variance = tf.reduce_sum(tf.square(centred), axes, keepdims=True) / count
    return centred * tf.math.rsqrt(variance + LAYER_NORM_EPSILON) * parts["gamma"] + parts["beta"], {}


_NORMS: Mapping[str, Callable[..., tuple[Tensor, dict[str, Tensor]]]] = {"batch_norm": _batch_norm, "layer_norm": _layer_norm}


def _rounded(x: Tensor, grid: Tensor) -> Tensor:
    """Round half to even and saturate; ``grid`` has the step, and the smallest and largest value in steps."""
    tf = tensorflow()
    return tf.clip_by_value(tf.round(x / grid[0]), grid[1], grid[2]) * grid[0]


def _straight(x: Tensor, grid: Tensor) -> Tensor:
    """Round to a format, with the gradient of the identity; a step of zero stands for no format."""
    tf = tensorflow()
    return tf.grad_pass_through(lambda values: tf.where(grid[0] > 0, _rounded(values, grid), values))(x)


#: Derivatives of the smooth functions.
_SLOPES: Mapping[str, Callable[[Tensor], Tensor]] = {
    "none": lambda x: tensorflow().ones_like(x),
    "relu": lambda x: tensorflow().cast(x > 0, x.dtype),
    "leaky_relu": lambda x: tensorflow().where(x > 0, 1.0, ACTIVATIONS["leaky_relu"].slope),
    "gelu": lambda x: _normal_cdf(x) + x * tensorflow().exp(-0.5 * x * x) * 0.3989422804014327,
    "tanh": lambda x: 1 - tensorflow().square(tensorflow().tanh(x)),
    "sigmoid": lambda x: tensorflow().sigmoid(x) * (1 - tensorflow().sigmoid(x)),
}

_FUNCTIONS: Mapping[str, Callable[[Tensor], Tensor]] = {
    "none": lambda x: tensorflow().identity(x),
    "relu": lambda x: tensorflow().nn.relu(x),
    "leaky_relu": lambda x: tensorflow().nn.leaky_relu(x, ACTIVATIONS["leaky_relu"].slope),
    "gelu": lambda x: x * _normal_cdf(x),
    "tanh": lambda x: tensorflow().tanh(x),
    "sigmoid": lambda x: tensorflow().sigmoid(x),
}


def _normal_cdf(x: Tensor) -> Tensor:
    return 0.5 * (1 + tensorflow().math.erf(x * 0.7071067811865476))


def _activation(place: Place, own: Mapping[str, Tensor], x: Tensor, quantized: bool) -> Tensor:
    """Apply the activation of the network and no other: through a choice, TensorFlow would compute the gradients of all."""
    tf = tensorflow()
    names, table, grid, out = place.cell.functions, own.get("table"), own["grid_format"], own["activation_format"]
    if quantized and table is not None:
        x = _straight(x, grid)

    def value(name: str, x: Tensor, out: Tensor) -> Tensor:
        if not quantized:
            return _FUNCTIONS[name](x)
        if ACTIVATIONS[name].table:
            return tf.gather(table, tf.math.floormod(tf.cast(tf.round(x / grid[0]), tf.int32), own["table_size"]))
        return tf.where(out[0] > 0, _rounded(x, out), x)

    def gradient(name: str, x: Tensor, out: Tensor, upstream: Tensor) -> Tensor:
        if quantized and name == "relu":
            return tf.where((x > 0) & (x <= out[2] * out[0]), upstream, 0.0)
        return upstream * _SLOPES[name](x)

    # What the gradient reads has to be an argument, made in the same branch: it is computed in another graph.
    @tf.custom_gradient  # type: ignore[untyped-decorator]
    def chosen(x: Tensor, index: Tensor, out: Tensor) -> tuple[Tensor, Callable[[Tensor], Any]]:
        def backward(upstream: Tensor) -> tuple[Tensor, None, None]:
            return tf.switch_case(index, [lambda name=name: gradient(name, x, out, upstream) for name in names]), None, None

        return tf.switch_case(index, [lambda name=name: value(name, x, out) for name in names]), backward

    return chosen(x, tf.identity(own["function"]), tf.identity(out))
