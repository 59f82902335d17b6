"""Tables, layer norms and softmaxes on fixed-point grids, exact: in float64, where float32 has too few bits.

Formats and tables are numbers for the Keras layer of one network, and tensors for the engine, which computes many networks.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from kerasnac.adapters.keras.runtime import tensorflow
from kerasnac.core.network.precision import Precision

Tensor = Any  # TensorFlow has no type stubs


class Table(NamedTuple):
    """Table over a grid.

    Attributes:
        entries: Floats of shape (count,), or more that are not read.
        step: Step of the grid.
        count: Number of values of the grid.
    """

    entries: Tensor
    step: Any
    count: Any

    @classmethod
    def over(cls, grid: Precision, entries: Tensor) -> Table:
        """Return a table over a grid that is known."""
        return cls(entries, grid.step, 2**grid.bits)

    def at(self, x: Tensor) -> Tensor:
        """Return the entries, in their own dtype, for values on the grid: those at the patterns of two's complement."""
        tf = tensorflow()
        return tf.gather(self.entries, tf.math.floormod(tf.cast(tf.round(x / self.step), tf.int32), self.count))

    def below(self, x: Tensor) -> Tensor:
        """Return the entries, as float64, for float64 values that are not negative, rounded down and saturated."""
        tf = tensorflow()
        index = tf.minimum(tf.floor(x / self.step), tf.cast(self.count, tf.float64) - 1)
        return tf.cast(tf.gather(self.entries, tf.cast(index, tf.int32)), tf.float64)


class Rounding(NamedTuple):
    """Rounding of float64 values half to even, and to the ends of a format.

    Attributes:
        step: Step of the format.
        low: Its smallest value, in steps.
        high: Its largest value, in steps.
    """

    step: Any
    low: Any
    high: Any

    @classmethod
    def to(cls, grid: Precision) -> Rounding:
        """Return the rounding to a format that is known."""
        return cls(grid.step, grid.minimum / grid.step, grid.maximum / grid.step)

    def of(self, x: Tensor) -> Tensor:
        """Round a tensor of any shape."""
        tf = tensorflow()
        return tf.clip_by_value(tf.round(x / self.step), self.low, self.high) * self.step


def layer_norm(
    x: Tensor, axes: Sequence[int], size: Any, *, roots: Table, gain: Tensor, offset: Tensor, out: Rounding
) -> Tensor:
    """Compute a layer norm, see :mod:`kerasnac.core.network.layer_norms`.

    Args:
        x: Float tensor of shape (samples, ..., channels), on a grid.
        axes: Axes over which it normalises.
        size: Number of values that it normalises together.
        roots: Reciprocal roots by spread.
        gain: Factors, on their grid.
        offset: Offsets, likewise.
        out: Rounding of the result.

    Returns:
        Tensor of the same shape and dtype.
    """
    tf = tensorflow()
    # Squares and products have more bits than float32: they are exact in float64 only.
    values = tf.cast(x, tf.float64)
    total = tf.reduce_sum(values, axes, keepdims=True)
    spread = size * tf.reduce_sum(values * values, axes, keepdims=True) - total * total
    normalised = (size * values - total) * roots.below(spread)
    exact = normalised * tf.cast(gain, tf.float64) + tf.cast(offset, tf.float64)
    return tf.cast(out.of(exact), x.dtype)


def softmax(x: Tensor, *, exponentials: Table, reciprocals: Table, out: Rounding, mask: Tensor = 1.0) -> Tensor:
    """Compute a softmax over the last axis from tables, see :class:`kerasnac.adapters.keras.table.SoftmaxTables`.

    Args:
        x: Scores on their grid, float tensor of shape (..., size).
        exponentials: Exponentials by distance from the maximum.
        reciprocals: Reciprocals of their sum.
        out: Rounding of the result.
        mask: Ones for the scores that count, float64.

    Returns:
        Tensor of the same shape and dtype.
    """
    tf = tensorflow()
    difference = tf.reduce_max(x, axis=-1, keepdims=True) - x
    # Sums and products have more bits than float32: they are exact in float64 only.
    terms = tf.cast(exponentials.at(difference), tf.float64) * mask
    total = tf.reduce_sum(terms, axis=-1, keepdims=True)
    factor = reciprocals.below(total + reciprocals.step / 2)  # The nearest, AP_RND
    return tf.cast(out.of(terms * factor), x.dtype)
