"""Layer normalisation in whole numbers, as Keras and the firmware compute it.

For N values x on a grid, with their sum s, the *spread* q = N sum(x^2) - s^2 is N^2 times their variance, without a division.
So the normalised value is

    (x - mean) / sqrt(variance + epsilon) = (N x - s) / sqrt(q + N^2 epsilon),

a whole number times a reciprocal root. The root is read from a table, whose index is the spread without its last bits. Gain
and offset follow, and the result is rounded once. Nothing else is rounded: the order of summation and the forms in which
products are multiplied out do not matter.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kerasnac.core.network.architecture import Node
from kerasnac.core.network.precision import Precision
from kerasnac.core.network.weights import LAYER_NORM_EPSILON

#: Width of the index of the table of roots and of its entries, where a layer has none of its own.
TABLE_BITS = 10

#: Width of the gains.
GAIN_BITS = 8


def normalised(node: Node) -> int:
    """Return N, the number of values that a layer norm normalises together."""
    shape = node.shapes[0]
    return math.prod(shape) if node.layer["axes"] == "all" else shape[-1]


@dataclass(frozen=True)
class LayerNormTables:
    """Formats and table of an exact layer norm.

    Attributes:
        inputs: Format of the values.
        size: N, number of values that are normalised together.
        index: Format of the spread as the index of the table: rounded down, and saturating.
        root: Format of the entries, unsigned.
    """

    inputs: Precision
    size: int
    index: Precision
    root: Precision

    @classmethod
    def of(cls, node: Node, inputs: Precision) -> LayerNormTables:
        """Return the formats of a quantized layer norm whose input has a format."""
        index, root = (Precision.parse(node.layer[name]) for name in ("spread", "root"))
        return cls(inputs.fixed, normalised(node), index, root)

    @property
    def sum(self) -> Precision:
        """Format of the sum of all values, and of every part of it."""
        carry = (self.size - 1).bit_length()
        return Precision(self.inputs.bits + carry, self.inputs.integer + carry, self.inputs.signed)

    @property
    def squares(self) -> Precision:
        """Format of the sum of all squares."""
        bits = (self.size * self._largest**2).bit_length()
        return Precision(bits, bits - 2 * self.inputs.fractional, signed=False)

    @property
    def spread_bits(self) -> int:
        """Bits of N times the sum of all squares, which neither the spread nor the square of the sum exceeds."""
        return (self.size**2 * self._largest**2).bit_length()

    @property
    def spread(self) -> Precision:
        """Format of the spread, exact; there is none beyond 64 bits."""
        return Precision(self.spread_bits, self.spread_bits - 2 * self.inputs.fractional, signed=False)

    @property
    def _largest(self) -> int:
        """Largest magnitude of a value, in steps of its format."""
        return 1 << (self.inputs.bits - self.inputs.signed)

    @property
    def shift(self) -> int:
        """Number of last bits of the spread that the index does without."""
        return self.squares.fractional - self.index.fractional

    @cached_property
    def roots(self) -> NDArray[np.float64]:
        """Reciprocal root for every index, for the middle of the spreads that have it.

        Returns:
            float64, shape (2**index.bits,), on the grid of :attr:`root`.
        """
        middle = (1 - math.ldexp(1.0, -max(self.shift, 0))) / 2  # of the whole numbers that an index stands for
        spreads = (np.arange(2**self.index.bits) + middle) * self.index.step
        return self.root.quantize(reciprocal_root(spreads, self.size))

    def product(self, gain: Precision) -> Precision:
        """Format of a normalised value times its gain, before it is rounded; the offset has a finer one at most."""
        difference = self.inputs.bits + self.inputs.signed + self.size.bit_length()
        bits = difference + self.root.bits + gain.bits
        return Precision(min(bits, 64), bits - (self.inputs.fractional + self.root.fractional + gain.fractional))


def spreads(values: NDArray[Any], node: Node) -> NDArray[np.float64]:
    """Return the spreads of values that a layer norm gets.

    Args:
        values: Shape (samples, *node.shapes[0]).
        node: The layer norm.

    Returns:
        float64, shape (samples,), or (samples, *positions) where every position is normalised by itself.
    """
    x = values.astype(np.float64)
    axes = tuple(range(1, x.ndim)) if node.layer["axes"] == "all" else (-1,)
    return np.asarray(normalised(node) * np.sum(x * x, axes) - np.sum(x, axes) ** 2)


def reciprocal_root(spread: NDArray[np.float64] | float, size: int) -> NDArray[np.float64]:
    """Return 1 / sqrt(q + N^2 epsilon) for spreads q of N values; float64 of the same shape."""
    return np.asarray(1 / np.sqrt(np.asarray(spread, np.float64) + size**2 * LAYER_NORM_EPSILON))


def table_formats(fractional: int, size: int, spreads: tuple[float, float], bits: int) -> tuple[Precision, Precision]:
    """Choose the formats of a table of roots from the spreads on training data.

    Args:
        fractional: Fractional bits of the values.
        size: N.
        spreads: Smallest and largest spread, without the tails that saturate.
        bits: Width of the index and of the entries.

    Returns:
        Formats of the index and of the entries: the finest that reach the largest spread, and the root of the smallest.
    """
    low, high = spreads
    finest = 2 * fractional  # The spread of the values has no more fractional bits.
    index = Precision.covering(0.0, max(high, math.ldexp(1.0, -finest)), bits, signed=False)
    if index.fractional > finest:
        index = Precision(max(1, bits - (index.fractional - finest)), index.integer, signed=False)
    return index, Precision.covering(0.0, float(reciprocal_root(low, size)), bits, signed=False)
