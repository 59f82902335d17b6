"""Keras layers that Keras and QKeras lack: activations from tables, an exact softmax, products of activations."""

from __future__ import annotations

import math
from functools import cache
from types import SimpleNamespace
from typing import Any

from kerasnac.adapters.keras.runtime import tensorflow
from kerasnac.adapters.keras.table import SoftmaxTables, table
from kerasnac.core.network.activations import ACTIVATIONS
from kerasnac.core.network.layer_norms import LayerNormTables
from kerasnac.core.network.precision import Precision
from kerasnac.core.network.weights import LAYER_NORM_EPSILON


@cache
def custom() -> SimpleNamespace:
    """Return the layer classes by name.

    They are defined on first use, since their base class needs TensorFlow.

    Raises:
        EnvironmentProblem: If TensorFlow is missing, or was imported under Keras 3.
    """
    tf = tensorflow()
    register = tf.keras.utils.register_keras_serializable("kerasnac")

    @register
    class TableActivation(tf.keras.layers.Layer):  # type: ignore[misc, name-defined]
        """Activation from a table, with the gradient of the smooth function.

        Args:
            fn: Name of the activation, a key of :data:`kerasnac.core.network.activations.ACTIVATIONS`.
            inputs: Format of the input. The input must lie on its grid: the layer before is a quantizer of this format.
            outputs: Format of the entries of the table.
            options: Of ``tf.keras.layers.Layer``.
        """

        def __init__(self, fn: str, inputs: str, outputs: str, **options: Any) -> None:
            super().__init__(**options)
            self.fn, self.inputs, self.outputs = fn, Precision.parse(inputs), Precision.parse(outputs)

        def call(self, x: Any) -> Any:
            """Look every value up: tensors of any shape in and, of the same dtype, out."""
            values = tf.constant(table(self.fn, self.inputs, self.outputs), x.dtype)
            return _straight_through(_smooth(self.fn, x), tf.gather(values, _raw(x, self.inputs)))

        def get_config(self) -> dict[str, Any]:
            return {**super().get_config(), "fn": self.fn, "inputs": str(self.inputs), "outputs": str(self.outputs)}

    @register
    class Sign(tf.keras.layers.Layer):  # type: ignore[misc, name-defined]
        """Sign of a number, times a step: an activation of one bit, with the gradient of a smooth function. Zero is positive.

        Args:
            fn: Name of the function, a key of :data:`kerasnac.core.network.activations.ACTIVATIONS`, whose values have the sign
                of their argument.
            outputs: Format of the result, :class:`kerasnac.core.network.precision.Binary`.
            options: Of ``tf.keras.layers.Layer``.
        """

        def __init__(self, fn: str, outputs: str, **options: Any) -> None:
            super().__init__(**options)
            self.fn, self.outputs = fn, Precision.parse(outputs)

        def call(self, x: Any) -> Any:
            """Compare every value with zero: tensors of any shape in and, of the same dtype, out."""
            step = tf.constant(self.outputs.step, x.dtype)
            return _straight_through(_smooth(self.fn, x), tf.where(x < 0, -step, step))

        def get_config(self) -> dict[str, Any]:
            return {**super().get_config(), "fn": self.fn, "outputs": str(self.outputs)}

    @register
    class Lookup(tf.keras.layers.Layer):  # type: ignore[misc, name-defined]
        """Table of the values of an element-wise function, with the slope between neighbouring entries for a gradient.

        Args:
            inputs: Format of the input. The input must lie on its grid: the layer before is a quantizer of this format.
            outputs: Format of the entries.
            options: Of ``tf.keras.layers.Layer``.
        """

        def __init__(self, inputs: str, outputs: str, **options: Any) -> None:
            super().__init__(**options)
            self.inputs, self.outputs = Precision.parse(inputs), Precision.parse(outputs)

        def build(self, shape: Any) -> None:
            self.values = self.add_weight("values", (2**self.inputs.bits,), trainable=False)
            super().build(shape)

        def call(self, x: Any) -> Any:
            """Look every value up: tensors of any shape in and, of the same dtype, out."""
            raw, limits = _raw(x, self.inputs), (self.outputs.minimum, self.outputs.maximum)
            rounded = tf.clip_by_value(tf.round(self.values / self.outputs.step) * self.outputs.step, *limits)
            values = _straight_through(self.values, rounded)
            order = tf.argsort(tf.constant(self.inputs.grid()))  # from the smallest input to the largest
            rising = tf.gather(values, order)
            ends = tf.concat([rising[:1], rising, rising[-1:]], 0)
            slopes = tf.gather((ends[2:] - ends[:-2]) / (2 * self.inputs.step), tf.argsort(order))
            return _straight_through(tf.stop_gradient(tf.gather(slopes, raw)) * x, tf.gather(values, raw))

        def get_config(self) -> dict[str, Any]:
            return {**super().get_config(), "inputs": str(self.inputs), "outputs": str(self.outputs)}

    @register
    class TableSoftmax(tf.keras.layers.Layer):  # type: ignore[misc, name-defined]
        """Softmax over the last axis as hls4ml's stable softmax computes it, with the gradient of the real softmax.

        Args:
            inputs: Format of the scores, which must lie on its grid.
            outputs: Format of the result, unsigned.
            options: Of ``tf.keras.layers.Layer``.
        """

        def __init__(self, inputs: str, outputs: str, **options: Any) -> None:
            super().__init__(**options)
            self.inputs, self.outputs = Precision.parse(inputs), Precision.parse(outputs)

        def call(self, x: Any) -> Any:
            """Normalise scores: tensors of shape (..., size) in and, of the same dtype, out."""
            tables = SoftmaxTables(self.inputs, x.shape[-1], self.outputs)
            difference = tf.reduce_max(x, axis=-1, keepdims=True) - x
            # Sums and products have more bits than float32: they are exact in float64 only.
            exponentials = tf.gather(tf.constant(tables.exponentials, tf.float64), _raw(difference, tables.difference))
            total = tf.reduce_sum(exponentials, axis=-1, keepdims=True)
            index = tf.cast(tf.floor(total / tables.index.step + 0.5), tf.int32)  # AP_RND
            index = tf.minimum(index, 2**tables.index.bits - 1)
            reciprocal = tf.gather(tf.constant(tables.reciprocals, tf.float64), index)
            scaled = exponentials * reciprocal / self.outputs.step
            rounded = tf.clip_by_value(tf.round(scaled), 0.0, self.outputs.maximum / self.outputs.step)
            return _straight_through(tf.nn.softmax(x), tf.cast(rounded * self.outputs.step, x.dtype))

        def get_config(self) -> dict[str, Any]:
            return {**super().get_config(), "inputs": str(self.inputs), "outputs": str(self.outputs)}

    @register
    class ExactLayerNorm(tf.keras.layers.Layer):  # type: ignore[misc, name-defined]
        """Layer norm of :mod:`kerasnac.core.network.layer_norms`, with the gradient of the real one.

        Args:
            axes: ``all`` to normalise all values of a sample together, ``last`` for those of every position.
            inputs: Format of the input, which must lie on its grid.
            spread: Format of the index of the table of roots.
            root: Format of its entries.
            gain: Format of gamma; None if it is on its grid already.
            offset: Format of beta; likewise.
            outputs: Format of the result.
            options: Of ``tf.keras.layers.Layer``.
        """

        def __init__(
            self,
            axes: str,
            *,
            inputs: str,
            spread: str,
            root: str,
            gain: str | None,
            offset: str | None,
            outputs: str,
            **options: Any,
        ) -> None:
            super().__init__(**options)
            self.axes, self.texts = axes, {"inputs": inputs, "spread": spread, "root": root, "outputs": outputs}
            self.inputs, self.spread, self.root, self.outputs = map(Precision.parse, self.texts.values())
            self.gain, self.offset = (None if text is None else Precision.parse(text) for text in (gain, offset))

        def build(self, shape: Any) -> None:
            own = shape[1:] if self.axes == "all" else shape[-1:]
            self.gamma = self.add_weight("gamma", own, initializer="ones")
            self.beta = self.add_weight("beta", own, initializer="zeros")
            self.tables = LayerNormTables(self.inputs, math.prod(own), self.spread, self.root)
            super().build(shape)

        def call(self, x: Any) -> Any:
            """Normalise tensors of shape (samples, ..., channels); same shape and dtype."""
            axes = list(range(1, len(x.shape))) if self.axes == "all" else [-1]
            size, tables, out = self.tables.size, self.tables, self.outputs
            gain, offset = _to_format(self.gamma, self.gain), _to_format(self.beta, self.offset)
            # Squares and products have more bits than float32: they are exact in float64 only.
            values = tf.cast(x, tf.float64)
            total = tf.reduce_sum(values, axes, keepdims=True)
            spread = size * tf.reduce_sum(values * values, axes, keepdims=True) - total * total
            index = tf.cast(tf.minimum(tf.floor(spread / self.spread.step), 2.0**self.spread.bits - 1), tf.int32)
            normalised = (size * values - total) * tf.gather(tf.constant(tables.roots, tf.float64), index)
            exact = normalised * tf.cast(gain, tf.float64) + tf.cast(offset, tf.float64)
            rounded = tf.clip_by_value(tf.round(exact / out.step), out.minimum / out.step, out.maximum / out.step) * out.step
            mean, variance = tf.nn.moments(x, axes, keepdims=True)
            smooth = (x - mean) * tf.math.rsqrt(variance + LAYER_NORM_EPSILON) * gain + offset
            return _straight_through(smooth, tf.cast(rounded, x.dtype))

        def get_config(self) -> dict[str, Any]:
            formats = {
                name: None if grid is None else str(grid) for name, grid in (("gain", self.gain), ("offset", self.offset))
            }
            return {**super().get_config(), "axes": self.axes, **self.texts, **formats}

    def _to_format(values: Any, grid: Precision | None) -> Any:
        """Return weights rounded to a format, if there is one, with the gradient of the identity."""
        if grid is None:
            return values
        return _straight_through(values, tf.clip_by_value(tf.round(values / grid.step) * grid.step, grid.minimum, grid.maximum))

    @register
    class MatMul(tf.keras.layers.Layer):  # type: ignore[misc, name-defined]
        """Product of two matrices of activations.

        Args:
            transpose: True if the second one is to be transposed.
            options: Of ``tf.keras.layers.Layer``.
        """

        def __init__(self, transpose: bool, **options: Any) -> None:
            super().__init__(**options)
            self.transpose = transpose

        def call(self, factors: Any) -> Any:
            """Multiply tensors (samples, rows, inner) and (samples, inner, columns), or (samples, columns, inner)."""
            return tf.matmul(*factors, transpose_b=self.transpose)

        def get_config(self) -> dict[str, Any]:
            return {**super().get_config(), "transpose": self.transpose}

    def _raw(x: Any, grid: Precision) -> Any:
        """Return the two's-complement patterns of values on a grid.

        Args:
            x: Float tensor of any shape, on the grid.
            grid: Format of the values.

        Returns:
            int32 tensor of the same shape, from 0 to 2**bits - 1.
        """
        return tf.math.floormod(tf.cast(tf.round(x / grid.step), tf.int32), 2**grid.bits)

    def _smooth(fn: str, x: Any) -> Any:
        """Return the values of a function, unrounded."""
        slope = ACTIVATIONS[fn].slope
        return tf.nn.leaky_relu(x, slope) if slope else tf.keras.activations.get(ACTIVATIONS[fn].keras)(x)

    def _straight_through(smooth: Any, exact: Any) -> Any:
        """Return the exact values with the gradient of the smooth ones.

        Args:
            smooth: Float tensor.
            exact: Tensor of the same shape and dtype.
        """
        # smooth - smooth is exactly zero.
        return tf.stop_gradient(exact) + (smooth - tf.stop_gradient(smooth))

    layers = (TableActivation, Sign, Lookup, TableSoftmax, ExactLayerNorm, MatMul)
    return SimpleNamespace(**{layer.__name__: layer for layer in layers})
