"""Keras layers that Keras and QKeras lack: activations from tables, an exact softmax, products of activations, scales."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cache
from types import SimpleNamespace
from typing import Any

from kerasnac.adapters.keras.runtime import tensorflow
from kerasnac.adapters.keras.table import SoftmaxTables, table
from kerasnac.adapters.keras.weight_quantizers import latent_limit, odd_bits
from kerasnac.adapters.keras.whole_numbers import Rounding, Table, layer_norm, softmax
from kerasnac.adapters.keras.windows import window_parts
from kerasnac.core.network.activations import ACTIVATIONS
from kerasnac.core.network.channel_formats import RoundingMode, formats_of, limits_of
from kerasnac.core.network.layer_norms import LayerNormTables
from kerasnac.core.network.means import reciprocal, reciprocals
from kerasnac.core.network.precision import Precision
from kerasnac.core.network.weights import LAYER_NORM_EPSILON

#: Factor of the mean squared step between neighbouring entries of learned tables, which is added to the loss: too small to
#: matter where there are data.
SMOOTHNESS = 3e-3


@cache
def custom() -> SimpleNamespace:
    """Return the classes of layers, and of the quantizer, by name.

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
            entries = tf.constant(table(self.fn, self.inputs, self.outputs), x.dtype)
            return _straight_through(_smooth(self.fn, x), Table.over(self.inputs, entries).at(x))

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
            limits = self.outputs.minimum, self.outputs.maximum
            rounded = tf.clip_by_value(tf.round(self.values / self.outputs.step) * self.outputs.step, *limits)
            values = _straight_through(self.values, rounded)
            order = tf.argsort(tf.constant(self.inputs.grid()))  # from the smallest input to the largest
            rising = tf.gather(values, order)
            ends = tf.concat([rising[:1], rising, rising[-1:]], 0)
            slopes = tf.gather((ends[2:] - ends[:-2]) / (2 * self.inputs.step), tf.argsort(order))
            slope, value = (Table.over(self.inputs, entries).at(x) for entries in (slopes, values))
            return _straight_through(tf.stop_gradient(slope) * x, value)

        def get_config(self) -> dict[str, Any]:
            return {**super().get_config(), "inputs": str(self.inputs), "outputs": str(self.outputs)}

    @register
    class Quantizer(tf.keras.layers.Layer):  # type: ignore[misc, name-defined]
        """Formats of all channels, see :mod:`kerasnac.core.network.channel_formats`, with the gradient of the identity.

        Args:
            bits: Width of every channel.
            integer: Bits left of the binary point of every channel.
            outputs: Format that holds those of all channels, signed if they are.
            rounding: ``half_up`` or ``down``.
            options: Of ``tf.keras.layers.Layer``.
        """

        def __init__(
            self, bits: Sequence[int], integer: Sequence[int], outputs: str, rounding: RoundingMode, **options: Any
        ) -> None:
            super().__init__(**options)
            self.bits, self.integer, self.rounding = list(bits), list(integer), rounding
            self.outputs = Precision.parse(outputs)

        def call(self, x: Any) -> Any:
            """Round and saturate: tensors of shape (..., channels) in and, of the same dtype, out."""
            formats = formats_of(self.bits, self.integer, signed=self.outputs.signed)
            steps, low, high = (tf.constant(limits, x.dtype) for limits in limits_of(formats, self.outputs))
            half = 0.5 if self.rounding == "half_up" else 0.0
            rounded = tf.floor(x / steps + half) * steps
            return _straight_through(tf.clip_by_value(x, low, high), tf.clip_by_value(rounded, low, high))

        def get_config(self) -> dict[str, Any]:
            own = {"bits": self.bits, "integer": self.integer, "outputs": str(self.outputs), "rounding": self.rounding}
            return {**super().get_config(), **own}

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
            return _straight_through(tf.nn.softmax(x), _exact_softmax(x, self.inputs, self.outputs))

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
            gain, offset = _to_format(self.gamma, self.gain), _to_format(self.beta, self.offset)
            size, roots = self.tables.size, Table.over(self.tables.index, self.tables.roots)
            exact = layer_norm(x, axes, size, roots=roots, gain=gain, offset=offset, out=Rounding.to(self.outputs))
            mean, variance = tf.nn.moments(x, axes, keepdims=True)
            smooth = (x - mean) * tf.math.rsqrt(variance + LAYER_NORM_EPSILON) * gain + offset
            return _straight_through(smooth, exact)

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
    class Scale(tf.keras.layers.Layer):  # type: ignore[misc, name-defined]
        """Factor and offset for every channel of the last axis.

        Args:
            weight: Format of the factors; None for float ones.
            bias: Format of the offsets; None for float ones.
            options: Of ``tf.keras.layers.Layer``.
        """

        def __init__(self, weight: str | None, bias: str | None, **options: Any) -> None:
            super().__init__(**options)
            self.formats = [None if text is None else Precision.parse(text) for text in (weight, bias)]

        def build(self, shape: Any) -> None:
            parts = zip(("kernel", "bias"), ("ones", "zeros"), self.formats, strict=True)
            self.latent = [
                self.add_weight(name, shape[-1:], initializer=first, constraint=_clipped(grid)) for name, first, grid in parts
            ]
            super().build(shape)

        def call(self, x: Any) -> Any:
            """Multiply and add: tensors of shape (..., channels) in and, of the same dtype, out."""
            kernel, bias = (_to_format(latent, grid) for latent, grid in zip(self.latent, self.formats, strict=True))
            return x * kernel + bias

        def get_config(self) -> dict[str, Any]:
            weight, bias = (None if grid is None else str(grid) for grid in self.formats)
            return {**super().get_config(), "weight": weight, "bias": bias}

    @register
    class Tables(tf.keras.layers.Layer):  # type: ignore[misc, name-defined]
        """Sums of learned functions of one variable, each a table, see :class:`kerasnac.core.network.kinds.Tables`.

        The gradient with respect to an input on the grid is the slope between the neighbours of its entry.

        Args:
            units: Number of sums.
            grid: Format over which the tables are.
            weight: Format of their entries; None if they are on its grid already, and in a float network.
            between: True for inputs on no grid, for which entries are interpolated; else they must lie on it.
            kernel_regularizer: Penalty on the entries.
            options: Of ``tf.keras.layers.Layer``.
        """

        def __init__(
            self,
            units: int,
            grid: str,
            weight: str | None,
            between: bool,
            kernel_regularizer: Any = None,
            **options: Any,
        ) -> None:
            super().__init__(**options)
            self.units, self.grid, self.between = units, Precision.parse(grid), between
            self.weight = None if weight is None else Precision.parse(weight)
            self.kernel_regularizer = tf.keras.regularizers.get(kernel_regularizer)

        def build(self, shape: Any) -> None:
            self.kernel = self.add_weight(
                "kernel",
                (2**self.grid.bits, shape[-1], self.units),
                regularizer=self._penalty,
                constraint=_clipped(self.weight),
            )
            super().build(shape)

        def _penalty(self, kernel: Any) -> Any:
            """Return the penalty on entries, and that on steps between neighbours: those that data hardly reach follow."""
            steps = SMOOTHNESS * tf.reduce_mean(tf.square(kernel[1:] - kernel[:-1]))
            return steps if self.kernel_regularizer is None else steps + self.kernel_regularizer(kernel)

        def get_prunable_weights(self) -> list[Any]:
            """Return what the pruning toolkit prunes."""
            return [self.kernel]

        def call(self, x: Any) -> Any:
            """Read and add entries: tensors of shape (samples, inputs) to (samples, units), of the same dtype."""
            entries, kernel = 2**self.grid.bits, _to_format(self.kernel, self.weight)
            index = tf.clip_by_value((x - self.grid.minimum) / self.grid.step, 0, entries - 1)
            if self.between:
                # How much of each entry there is in a value between two of them.
                parts = tf.nn.relu(1 - tf.abs(index[:, None] - tf.range(entries, dtype=x.dtype)[:, None]))
                return _added(parts, kernel)
            return self._read(x, tf.one_hot(tf.cast(tf.round(index), tf.int32), entries, axis=1, dtype=x.dtype), kernel)

        def _read(self, x: Any, chosen: Any, kernel: Any) -> Any:
            """Add the chosen entries, (samples, entries, inputs) of ones and zeros; x is there for its gradient."""

            def added(x: Any, kernel: Any) -> Any:
                def gradient(upstream: Any) -> Any:
                    ends = tf.concat([kernel[:1], kernel, kernel[-1:]], 0)
                    slopes = tf.reshape((ends[2:] - ends[:-2]) / (2 * self.grid.step), (-1, self.units))
                    by_entry = tf.reshape(tf.matmul(upstream, slopes, transpose_b=True), (-1, *chosen.shape[1:]))
                    rows = tf.reshape(chosen, (-1, chosen.shape[1] * chosen.shape[2]))
                    own = tf.reshape(tf.matmul(rows, upstream, transpose_a=True), kernel.shape)
                    return tf.reduce_sum(by_entry * chosen, 1), own

                return _added(chosen, kernel), gradient

            return tf.custom_gradient(added)(x, tf.convert_to_tensor(kernel))

        def get_config(self) -> dict[str, Any]:
            own = {"units": self.units, "grid": str(self.grid), "weight": None if self.weight is None else str(self.weight)}
            penalty = tf.keras.regularizers.serialize(self.kernel_regularizer)
            return {**super().get_config(), **own, "between": self.between, "kernel_regularizer": penalty}

    @register
    class Mask(tf.keras.layers.Layer):  # type: ignore[misc, name-defined]
        """Ones for the particles of a set with any feature other than zero."""

        def call(self, x: Any) -> Any:
            """Compare tensors of shape (samples, particles, features); (samples, particles, 1) of the same dtype."""
            return tf.cast(tf.reduce_any(x != 0, -1, keepdims=True), x.dtype)

    @register
    class MaskedMean(tf.keras.layers.Layer):  # type: ignore[misc, name-defined]
        """Mean over the particles that a mask marks.

        Args:
            reciprocal: Format of the table of reciprocals of their number; None for float means.
            options: Of ``tf.keras.layers.Layer``.
        """

        def __init__(self, reciprocal: str | None, **options: Any) -> None:
            super().__init__(**options)
            self.reciprocal = None if reciprocal is None else Precision.parse(reciprocal)

        def call(self, inputs: Any) -> Any:
            """Average tensors (samples, particles, channels) by masks (samples, particles, 1): (samples, channels)."""
            x, mask = inputs
            total, count = tf.reduce_sum(x * mask, 1), tf.reduce_sum(mask, 1)
            if self.reciprocal is None:
                return total / tf.maximum(count, 1)
            table = tf.constant(reciprocals(x.shape[1], self.reciprocal), x.dtype)
            return total * tf.gather(table, tf.cast(tf.round(count), tf.int32))

        def get_config(self) -> dict[str, Any]:
            return {**super().get_config(), "reciprocal": None if self.reciprocal is None else str(self.reciprocal)}

    @register
    class MaskedSoftmax(tf.keras.layers.Layer):  # type: ignore[misc, name-defined]
        """Softmax over those of the last axis that a mask marks, as ``TableSoftmax`` computes it; the others become zero.

        Args:
            inputs: Format of the scores, which must lie on its grid; None for a float softmax.
            outputs: Format of the result, unsigned; likewise.
            options: Of ``tf.keras.layers.Layer``.
        """

        def __init__(self, inputs: str | None, outputs: str | None, **options: Any) -> None:
            super().__init__(**options)
            self.inputs, self.outputs = (None if text is None else Precision.parse(text) for text in (inputs, outputs))

        def call(self, inputs: Any) -> Any:
            """Normalise scores (samples, ..., size) by masks (samples, size, 1); same shape and dtype as the scores."""
            x, mask = inputs
            row = tf.reshape(mask, (-1, *[1] * (len(x.shape) - 2), x.shape[-1]))
            smooth = tf.nn.softmax(tf.where(row > 0, x, -1e9)) * row
            if self.inputs is None or self.outputs is None:
                return smooth
            # The least of all scores, which is above no other, in the place of those that do not count.
            scores = tf.where(row > 0, x, self.inputs.minimum)
            return _straight_through(smooth, _exact_softmax(scores, self.inputs, self.outputs, tf.cast(row, tf.float64)))

        def get_config(self) -> dict[str, Any]:
            inputs, outputs = (None if grid is None else str(grid) for grid in (self.inputs, self.outputs))
            return {**super().get_config(), "inputs": inputs, "outputs": outputs}

    @register
    class ExactMean(tf.keras.layers.Layer):  # type: ignore[misc, name-defined]
        """Mean over windows of a map, as a sum times a reciprocal.

        Args:
            size: Positions of a window along every axis; 0 takes the whole map.
            stride: Distance of two windows.
            reciprocal: Format of the reciprocal of the number of values.
            options: Of ``tf.keras.layers.Layer``.
        """

        def __init__(self, size: int, stride: int, reciprocal: str, **options: Any) -> None:
            super().__init__(**options)
            self.size, self.stride, self.reciprocal = size, stride, Precision.parse(reciprocal)

        def call(self, x: Any) -> Any:
            """Average tensors of shape (samples, *positions, channels); they keep their dtype."""
            axes = list(range(1, len(x.shape) - 1))
            if self.size == 0:
                return tf.reduce_sum(x, axes) * reciprocal(math.prod(x.shape[1:-1]), self.reciprocal)
            return tf.add_n(window_parts(x, self.size, self.stride)) * reciprocal(self.size ** len(axes), self.reciprocal)

        def get_config(self) -> dict[str, Any]:
            own = {"size": self.size, "stride": self.stride, "reciprocal": str(self.reciprocal)}
            return {**super().get_config(), **own}

    @register
    class MatMul(tf.keras.layers.Layer):  # type: ignore[misc, name-defined]
        """Product of two matrices of activations, see :class:`kerasnac.core.network.kinds.MatMul`.

        Args:
            transpose: True if the second one is to be transposed.
            heads: Number of products, each of its own part of the channels.
            scaled: True if the product is divided by the square root of its inner size.
            options: Of ``tf.keras.layers.Layer``.
        """

        def __init__(self, transpose: bool, heads: int = 1, scaled: bool = False, **options: Any) -> None:
            super().__init__(**options)
            self.transpose, self.heads, self.scaled = transpose, heads, scaled

        def call(self, factors: Any) -> Any:
            """Multiply tensors (samples, rows, inner) and (samples, inner, columns), or (samples, columns, inner).

            With heads, (samples, rows, heads * inner) and (samples, columns, heads * inner) make (samples, heads, rows,
            columns), and (samples, heads, rows, inner) and (samples, inner, heads * columns) make (samples, rows,
            heads * columns).
            """
            left, right = factors
            inner = left.shape[-1] // self.heads if self.transpose else left.shape[-1]
            if self.heads == 1:
                product = tf.matmul(left, right, transpose_b=self.transpose)
            elif self.transpose:
                product = tf.einsum("nrhi,nchi->nhrc", self._by_heads(left), self._by_heads(right))
            else:
                product = tf.einsum("nhri,nihc->nrhc", left, self._by_heads(right))
                product = tf.reshape(product, (-1, left.shape[2], right.shape[2]))
            return product / math.sqrt(inner) if self.scaled else product

        def _by_heads(self, x: Any) -> Any:
            """Split channels: tensors of shape (samples, positions, heads * size) to (samples, positions, heads, size)."""
            return tf.reshape(x, (-1, x.shape[1], self.heads, x.shape[2] // self.heads))

        def get_config(self) -> dict[str, Any]:
            return {**super().get_config(), "transpose": self.transpose, "heads": self.heads, "scaled": self.scaled}

    def _exact_softmax(x: Any, inputs: Precision, outputs: Precision, mask: Any = 1.0) -> Any:
        """Compute the softmax of scores on the grid ``inputs``; ``mask`` as for the function of this name."""
        tables = SoftmaxTables(inputs, x.shape[-1], outputs)
        exponentials = Table.over(tables.difference, tables.exponentials)
        reciprocals = Table.over(tables.index, tables.reciprocals)
        return softmax(x, exponentials=exponentials, reciprocals=reciprocals, out=Rounding.to(outputs), mask=mask)

    def _added(parts: Any, kernel: Any) -> Any:
        """Add parts (samples, entries, inputs) of entries (entries, inputs, units) up: (samples, units)."""
        _, entries, inputs = parts.shape
        return tf.reshape(parts, (-1, entries * inputs)) @ tf.reshape(kernel, (entries * inputs, -1))

    def _clipped(grid: Precision | None) -> Any:
        """Return the constraint of latent weights that QKeras has; none for weights without a format."""
        if grid is None:
            return None
        limit = latent_limit(grid)
        return lambda weights: tf.clip_by_value(weights, -limit, limit)

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

    norms, masks = (ExactLayerNorm, Scale), (Mask, MaskedMean, MaskedSoftmax)
    classes = (TableActivation, Sign, Lookup, Quantizer, TableSoftmax, Tables, *norms, *masks, ExactMean, MatMul, odd_bits())
    return SimpleNamespace(**{found.__name__: found for found in classes})
