"""Keras layers that Keras and QKeras lack: activations from tables, an exact softmax, products of activations."""

from __future__ import annotations

from functools import cache
from types import SimpleNamespace
from typing import Any

from kerasnac.adapters.keras.runtime import tensorflow
from kerasnac.adapters.keras.table import SoftmaxTables, table
from kerasnac.core.network.activations import ACTIVATIONS
from kerasnac.core.network.precision import Precision


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
            slope = ACTIVATIONS[self.fn].slope
            smooth = tf.nn.leaky_relu(x, slope) if slope else tf.keras.activations.get(ACTIVATIONS[self.fn].keras)(x)
            return _straight_through(smooth, tf.gather(values, _raw(x, self.inputs)))

        def get_config(self) -> dict[str, Any]:
            return {**super().get_config(), "fn": self.fn, "inputs": str(self.inputs), "outputs": str(self.outputs)}

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

    def _straight_through(smooth: Any, exact: Any) -> Any:
        """Return the exact values with the gradient of the smooth ones.

        Args:
            smooth: Float tensor.
            exact: Tensor of the same shape and dtype.
        """
        # smooth - smooth is exactly zero.
        return tf.stop_gradient(exact) + (smooth - tf.stop_gradient(smooth))

    return SimpleNamespace(TableActivation=TableActivation, Lookup=Lookup, TableSoftmax=TableSoftmax, MatMul=MatMul)
