"""What a mold computes, as TensorFlow operations with the choices of its member as tensors."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from kerasnac.adapters.keras.engine.activations import activation, rounding, straight
from kerasnac.adapters.keras.engine.heads import head_of, padded
from kerasnac.adapters.keras.engine.layout import Layout
from kerasnac.adapters.keras.runtime import tensorflow
from kerasnac.adapters.keras.whole_numbers import Table, layer_norm
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
    tf, network, values = tensorflow(), _Network(weights, choices, quantized, step), [x]
    for i, place in enumerate(places):
        inputs = [values[i + 1 + offset] for offset in place.cell.reads]
        if not place.cell.optional:
            x, found = network.cell(i, place, inputs)
        else:
            x, found = tf.cond(
                choices[i]["present"],
                lambda i=i, place=place, inputs=inputs: network.cell(i, place, inputs),
                lambda i=i, place=place, inputs=inputs: (padded(inputs[0], place.output[-1]), network.statistics(i)),
            )
        values.append(x)
        if step is not None:
            step.statistics |= found
    return x


@dataclass(frozen=True)
class _Network:
    """What :func:`outputs` is given for all places."""

    weights: Mapping[str, Tensor]
    choices: Sequence[Mapping[str, Tensor]]
    quantized: bool
    step: Step | None

    def statistics(self, i: int) -> dict[str, Tensor]:
        """Return the old moving statistics of a place by key."""
        return {
            f"{i}/{name}": tensorflow().identity(value)
            for name, value in _below(str(i), self.weights).items()
            if name.split("/")[-1].startswith("moving_")
        }

    def cell(self, i: int, place: Place, inputs: Sequence[Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
        """Compute a place; return its values, and the new moving statistics by key."""
        tf, own, parts, step = tensorflow(), self.choices[i], _below(str(i), self.weights), self.step
        kernel, bias = parts.get("kernel"), parts.get("bias")
        if self.quantized and kernel is not None:
            # A binary kernel is not zero for the channels that the network lacks.
            kernel = straight(kernel, own["kernel_format"]) * own["mask"]
            bias = straight(bias, own["bias_format"], own["bias_is_odd"])
        statistics = self.statistics(i)
        head = place.cell.head
        if head.kind in _NORMS:
            x, found = self._norm(head)(head, inputs[0], parts, own, step)
            statistics |= {f"{i}/{name}": value for name, value in found.items()}
        else:
            x = head_of(place, inputs, kernel, own, quantized=self.quantized)
        if bias is not None:
            x = x + bias
        plain = x
        for j, norm in enumerate(place.cell.norms):
            # A choice between branches would be compiled ten times as long as the norm itself.
            normed, found = self._norm(norm)(norm, plain, _below(f"norm_{j}", parts), own, step)
            statistics |= {f"{i}/norm_{j}/{name}": value for name, value in found.items()}
            x = tf.where(own["norm"] == j + 1, normed, x)
        if place.cell.functions != ("none",) or self.quantized:
            x = activation(place, own, x, self.quantized)
        if step is not None and i in step.dropout:
            x = tf.where(own["drops"], x * step.dropout[i], x)
        return x, statistics

    def _norm(self, norm: LayerSpec) -> Callable[..., tuple[Tensor, dict[str, Tensor]]]:
        return _exact_layer_norm if self.quantized else _NORMS[norm.kind]


def _below(prefix: str, arrays: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the arrays whose keys begin with a prefix and a slash, by the rest of their keys."""
    return {key.removeprefix(f"{prefix}/"): value for key, value in arrays.items() if key.startswith(f"{prefix}/")}


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
    layout = Layout({str(i): (batch, *p.output) for i, p in enumerate(places) if p.cell.drops})
    # XLA's own choice among the algorithms is thirty times slower on a CPU.
    drawn = tf.cond(
        rate > 0,
        lambda: tf.cast(tf.random.stateless_uniform([layout.size], seed, alg="threefry") >= rate, tf.float32) / (1 - rate),
        lambda: tf.ones([layout.size]),
    )
    return {int(i): factors for i, factors in layout.split_tensor(drawn).items()}


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
    tf, (axes, count) = tensorflow(), _normalised(norm, x, own)
    mean = tf.reduce_sum(x, axes, keepdims=True) / count
    centred = (x - mean) * own["mask"]
    variance = tf.reduce_sum(tf.square(centred), axes, keepdims=True) / count
    return centred * tf.math.rsqrt(variance + LAYER_NORM_EPSILON) * parts["gamma"] + parts["beta"], {}


def _normalised(norm: LayerSpec, x: Tensor, own: Mapping[str, Tensor]) -> tuple[list[int], Tensor]:
    """Return the axes over which a layer norm normalises, and the number of values there that the network has."""
    return (list(range(1, len(x.shape))), own["values"]) if norm["axes"] == "all" else ([-1], own["units"])


def _exact_layer_norm(
    norm: LayerSpec, x: Tensor, parts: Mapping[str, Tensor], own: Mapping[str, Tensor], step: Step | None
) -> tuple[Tensor, dict[str, Tensor]]:
    """Compute what ``ExactLayerNorm`` of :mod:`kerasnac.adapters.keras.custom` does, with its gradient."""
    tf = tensorflow()
    x = straight(x, own["norm_grid_format"])
    parts = {"gamma": straight(parts["gamma"], own["gain_format"]), "beta": straight(parts["beta"], own["offset_format"])}
    smooth, found = _layer_norm(norm, x, parts, own, step)
    axes, count = _normalised(norm, x, own)
    roots = Table(own["roots"], own["index_step"], own["last_index"] + 1)
    # Without a format there is no norm, and what is computed here is not used.
    out = rounding(tf.where(own["norm_format"][0] > 0, own["norm_format"], tf.ones_like(own["norm_format"])))
    size = tf.cast(count, tf.float64)
    rounded = layer_norm(x, axes, size, roots=roots, gain=parts["gamma"], offset=parts["beta"], out=out)
    return tf.stop_gradient(rounded) + (smooth - tf.stop_gradient(smooth)), found


_NORMS: Mapping[str, Callable[..., tuple[Tensor, dict[str, Tensor]]]] = {"batch_norm": _batch_norm, "layer_norm": _layer_norm}
