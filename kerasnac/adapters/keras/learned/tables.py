"""Learned tables while widths are learned: cells of their inputs, widths of their entries, and the LUTs of both.

A table has an entry for every number of its layer's grid. A channel of few bits rounds several of these numbers to one: such
a cell has the mean of their entries, so that all of them learn, and a channel that becomes finer finds them sensible. A table
is learned up to a constant, of which the sum of a unit has one in all, its bias: a table of no bits is constant, and pruned.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from kerasnac.adapters.keras.learned.widths import LN2, bits_gradient, integer_bits, whole
from kerasnac.adapters.keras.runtime import tensorflow
from kerasnac.core.network.learned_tables import rising
from kerasnac.core.network.precision import Precision

Tensor = Any  # TensorFlow has no type stubs

#: Added to the spread of a table before its logarithm is taken, in the units of its entries.
LEAST_SPREAD = 1e-4

#: LUTs of every table besides those of the bits of its entries: sums are wider than their terms, and numbers of LUTs whole.
EACH = 1.5

#: Inputs of half a look-up table of an FPGA: two functions of the same five inputs share one.
HALF_INPUTS = 5


@dataclass(frozen=True, eq=False)
class Channels:
    """Channels that tables read.

    Attributes:
        holds: Format that holds the numbers of all of them.
        step: Step of each, a tensor of shape (channels,).
        half: 0.5 if they round half up, 0 if down.
    """

    holds: Precision
    step: Tensor
    half: float

    @property
    def _end(self) -> float:
        return self.holds.maximum + self.holds.step

    def cells(self, x: Tensor) -> Tensor:
        """Round to the numbers of the channels, the last axis, and saturate; channels without bits are zero."""
        tf, holds, step = tensorflow(), self.holds, self.step
        x = tf.clip_by_value(x, holds.minimum, holds.maximum)
        found = tf.minimum(tf.floor(x / step + self.half) * step, self._end - step)
        return tf.where(step <= self._end / (1 + holds.signed), found, 0.0)

    def within(self, low: Tensor, high: Tensor) -> tuple[Tensor, Tensor]:
        """Return the numbers of the channels that are the next ones below a range and above it."""
        tf, step = tensorflow(), self.step
        return tf.floor(low / step) * step, tf.minimum(tf.math.ceil(high / step) * step, self._end - step)

    def members(self, grid: Precision, low: Tensor, high: Tensor) -> Tensor:
        """Return the part of every number of a grid in the mean that every number reads.

        Args:
            grid: Format over which the tables are.
            low: Smallest number of every channel; those below read what it reads.
            high: Largest one; likewise.

        Returns:
            Shape (2**bits, 2**bits, channels): for every number that is read the parts of those that belong to its cell.
        """
        tf = tensorflow()
        numbers = rising(grid).astype(np.float32)[:, None]
        own = self.cells(tf.constant(numbers) + tf.zeros_like(self.step))
        least, most = self.within(low, high)
        read = tf.maximum(tf.minimum(own, most), least)
        possible = (self.holds.minimum <= numbers) & (numbers <= self.holds.maximum)
        same = tf.cast(tf.equal(read[:, None], own[None]) & possible, tf.float32)
        return same / tf.maximum(tf.reduce_sum(same, 1, keepdims=True), 1.0)


def rounded_channels(x: Tensor, fractional: Tensor, holds: Precision, half: float) -> Tensor:
    """Round what tables read to learned fractional bits, within a format.

    The gradient for the bits is that of :mod:`kerasnac.adapters.keras.learned`, but for the error: tables read cells, and it is
    the distance from the middle of a cell.

    Args:
        x: float32, shape (samples, ..., channels).
        fractional: Learned fractional bits, shape (channels,); no more than those of the format count.
        holds: The format.
        half: 0 to round down.
    """
    tf = tensorflow()
    x = tf.clip_by_value(x, holds.minimum, holds.maximum)

    @tf.custom_gradient  # type: ignore[untyped-decorator]
    def function(x: Tensor, fractional: Tensor) -> tuple[Tensor, Callable[[Tensor], tuple[Tensor, Tensor]]]:
        step = tf.pow(2.0, -tf.round(fractional))
        found = Channels(holds, step, half).cells(x)

        def backward(upstream: Tensor) -> tuple[Tensor, Tensor]:
            middle = found + (0.5 - half) * tf.minimum(step, holds.maximum)
            return upstream, bits_gradient(upstream, x - middle, len(fractional.shape))

        return found, backward

    found: Tensor = function(x, tf.minimum(fractional, float(holds.fractional)))
    return found


def counted_bits(fractional: Tensor, holds: Precision) -> Tensor:
    """Return fractional bits, no more than a format's, with a gradient for those beyond: they too fall under pressure."""
    tf = tensorflow()
    return whole(fractional + tf.stop_gradient(tf.minimum(fractional, float(holds.fractional)) - fractional))


def entry_bits(tables: Tensor, entries: Tensor, fractional: Tensor) -> tuple[Tensor, Tensor]:
    """Return the bits of the entries of every table, without what these have in common, and 1 for each table that has any.

    The gradient is that of the fractional bits, and of the logarithm of the spread: pressure makes tables flat one by one,
    those first that the loss of the task needs least.

    Args:
        tables: Shape (numbers, inputs, units).
        entries: The same, rounded.
        fractional: Learned fractional bits, shape (inputs, units).

    Returns:
        Two tensors of shape (inputs, units).
    """
    tf = tensorflow()
    spread = tf.math.log(tf.math.reduce_variance(tables, 0) + LEAST_SPREAD**2) / (2 * LN2)
    narrower = spread - tf.stop_gradient(spread)
    reach = tf.reduce_max(entries, 0) - tf.reduce_min(entries, 0)
    there = tf.cast(reach > 0, tf.float32)
    return tf.nn.relu(whole(fractional) + integer_bits(reach) + narrower), there * (1 + narrower)


def look_ups(bits: Tensor) -> Tensor:
    """Return the LUTs of one bit of an entry, of tables over channels of so many bits: two tables of up to five share one."""
    tf = tensorflow()
    return tf.pow(2.0, tf.nn.relu(bits - HALF_INPUTS) - 1) * tf.minimum(bits / HALF_INPUTS, 1.0)


def roughness(tables: Tensor, grid: Precision) -> Tensor:
    """Return the integral of the squared slope, summed over all tables: shape (numbers, inputs, units) to a number."""
    tf = tensorflow()
    slopes = (tables[1:] - tables[:-1]) / grid.step
    return grid.step * tf.reduce_sum(slopes**2)


def read(x: Tensor, entries: Tensor, grid: Precision, step: Tensor) -> Tensor:
    """Look one entry up for every edge, and add: (samples, inputs) to (samples, units).

    The gradient for an input is the slope between the entries of the neighbouring cells.

    Args:
        x: Numbers of the grid.
        entries: Shape (numbers, inputs, units).
        grid: Format over which the tables are.
        step: Distance of two cells, shape (inputs,).
    """
    tf = tensorflow()
    count, inputs, units = entries.shape

    @tf.custom_gradient  # type: ignore[untyped-decorator]
    def function(x: Tensor, entries: Tensor) -> tuple[Tensor, Callable[[Tensor], tuple[Tensor, Tensor]]]:
        index = tf.cast(tf.round((x - grid.minimum) / grid.step), tf.int32)
        rows = tf.clip_by_value(index, 0, count - 1) * inputs + tf.range(inputs)

        def backward(upstream: Tensor) -> tuple[Tensor, Tensor]:
            slopes = tf.reshape(_slopes(entries, step, grid), (-1, units))
            repeated = tf.tile(upstream[:, None], (1, inputs, 1))
            own = tf.math.unsorted_segment_sum(tf.reshape(repeated, (-1, units)), tf.reshape(rows, [-1]), count * inputs)
            return tf.reduce_sum(tf.gather(slopes, rows) * repeated, 2), tf.reshape(own, entries.shape)

        return tf.reduce_sum(tf.gather(tf.reshape(entries, (-1, units)), rows), 1), backward

    found: Tensor = function(x, entries)
    return found


def _slopes(entries: Tensor, step: Tensor, grid: Precision) -> Tensor:
    """Return the slopes between the cells below and above, of the shape of the entries."""
    tf = tensorflow()
    count, distance = entries.shape[0], step / grid.step
    own = tf.range(count, dtype=tf.float32)
    by_input = tf.transpose(entries, (1, 0, 2))

    def moved(cells: float) -> Tensor:
        indices = tf.clip_by_value(own + cells * distance[:, None], 0.0, count - 1.0)
        return tf.gather(by_input, tf.cast(indices, tf.int32), batch_dims=1)

    return tf.transpose((moved(1.0) - moved(-1.0)) / (2 * step[:, None, None]), (1, 0, 2))
