"""Activations of the cells of a mold, and the rounding to formats."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from kerasnac.adapters.keras.runtime import tensorflow
from kerasnac.adapters.keras.table import RECIPROCAL_BITS
from kerasnac.adapters.keras.whole_numbers import Rounding, Table, softmax
from kerasnac.core.network.activations import ACTIVATIONS
from kerasnac.core.network.cells import reads_table
from kerasnac.core.network.mold import Place

Tensor = Any  # TensorFlow has no type stubs


def _rounded(x: Tensor, grid: Tensor, odd: Tensor | None = None) -> Tensor:
    """Round half to even and saturate, or take the sign.

    Args:
        x: float32 of any shape.
        grid: The step, the smallest and largest value in steps, and 1 for the sign, where zero is positive.
        odd: True to round to the odd multiples of half a step.
    """
    tf = tensorflow()
    scaled = x / grid[0]
    nearest = tf.round(scaled) if odd is None else tf.where(odd, tf.floor(scaled) + 0.5, tf.round(scaled))
    return tf.where(grid[3] > 0, _signed(x), tf.clip_by_value(nearest, grid[1], grid[2])) * grid[0]


def _signed(x: Tensor) -> Tensor:
    tf = tensorflow()
    return tf.where(x < 0, -1.0, 1.0)


def straight(x: Tensor, grid: Tensor, odd: Tensor | None = None) -> Tensor:
    """Round to a format as :func:`_rounded` does, with the gradient of the identity; a step of zero stands for no format."""
    tf = tensorflow()
    return tf.grad_pass_through(lambda values: tf.where(grid[0] > 0, _rounded(values, grid, odd), values))(x)


#: Derivatives of the smooth functions of single values.
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
    "softmax": lambda x: tensorflow().nn.softmax(x),
}


def _normal_cdf(x: Tensor) -> Tensor:
    return 0.5 * (1 + tensorflow().math.erf(x * 0.7071067811865476))


def activation(place: Place, own: Mapping[str, Tensor], x: Tensor, quantized: bool) -> Tensor:
    """Apply the activation of the network and no other: through a choice, TensorFlow would compute the gradients of all.

    Args:
        place: Place of the cell.
        own: Its choices, see :meth:`kerasnac.adapters.keras.engine.padding.Fitted.choices`.
        x: float32, shape (samples, *place.output), with zeros for the channels that the network lacks.
        quantized: True for networks with formats.

    Returns:
        float32 of the same shape, with the same zeros.
    """
    tf = tensorflow()
    names, grid = place.cell.functions, own["grid_format"]
    if quantized and "table" in own:
        x = straight(x, grid)

    def value(name: str, x: Tensor, out: Tensor) -> Tensor:
        if not quantized:
            return _FUNCTIONS[name](x)
        if reads_table(name):
            # Without any table, the function is one of other networks, or the sign.
            found = x if "table" not in own else _table_softmax(own, x, out) if name == "softmax" else _table(own).at(x)
            return tf.where(out[3] > 0, _signed(x) * out[0], found)
        return tf.where(out[0] > 0, _rounded(x, out), x)

    def gradient(name: str, x: Tensor, out: Tensor, upstream: Tensor) -> Tensor:
        if name == "softmax":
            found = tf.nn.softmax(x)
            return found * (upstream - tf.reduce_sum(found * upstream, -1, keepdims=True))
        if quantized and name == "relu":
            return tf.where((x > 0) & (x <= out[2] * out[0]), upstream, 0.0)
        return upstream * _SLOPES[name](x)

    # What the gradient reads has to be an argument, made in the same branch: it is computed in another graph.
    @tf.custom_gradient  # type: ignore[untyped-decorator]
    def chosen(x: Tensor, index: Tensor, out: Tensor) -> tuple[Tensor, Callable[[Tensor], Any]]:
        def backward(upstream: Tensor) -> tuple[Tensor, None, None]:
            return tf.switch_case(index, [lambda name=name: gradient(name, x, out, upstream) for name in names]), None, None

        return tf.switch_case(index, [lambda name=name: value(name, x, out) for name in names]), backward

    found = chosen(x, tf.identity(own["function"]), tf.identity(own["activation_format"]))
    # The sigmoid alone makes something of nothing, and any activation of one bit.
    return found * own["mask"] if quantized or "sigmoid" in names else found


def _table(own: Mapping[str, Tensor]) -> Table:
    return Table(own["table"], own["grid_format"][0], own["table_size"])


def _table_softmax(own: Mapping[str, Tensor], x: Tensor, out: Tensor) -> Tensor:
    """Compute the softmax over the last axis of scores on their grid, with the format of the result."""
    reciprocals = Table(own["reciprocals"], 2.0**-RECIPROCAL_BITS, own["reciprocals"].shape[0])
    return softmax(x, exponentials=_table(own), reciprocals=reciprocals, out=rounding(out))


def rounding(grid: Tensor) -> Rounding:
    """Return the rounding to a format: an array of its step, its smallest and its largest value in steps."""
    step, low, high, *_ = tensorflow().unstack(tensorflow().cast(grid, tensorflow().float64))
    return Rounding(step, low, high)
