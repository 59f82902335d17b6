"""Look-up tables over an input grid, with the same numbers in Keras and in firmware."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from kerasnac.core.network.activations import ACTIVATIONS
from kerasnac.core.network.precision import Precision

#: Constants of Klambauer et al., arXiv:1706.02515.
SELU_ALPHA, SELU_SCALE = 1.6732632423543772, 1.0507009873554805


def table(fn: str, inputs: Precision, outputs: Precision) -> NDArray[np.float64]:
    """Compute the values of an activation for every raw input pattern, rounded to the output grid.

    Computed in float64 with NumPy, so that it does not depend on which vector unit TensorFlow uses.

    Args:
        fn: Name of an activation that is a table, a key of :data:`kerasnac.core.network.activations.ACTIVATIONS`.
        inputs: Format of the input.
        outputs: Format of the entries.

    Returns:
        float64, shape (2**inputs.bits,): entry r belongs to the input whose two's-complement pattern is r.

    Raises:
        KeyError: If the activation is no table.
    """
    from scipy.special import erf, expit  # takes a moment to load

    x = inputs.grid()
    slope = ACTIVATIONS[fn].slope
    functions: Mapping[str, Callable[[], NDArray[np.float64]]] = {
        "leaky_relu": lambda: np.where(x < 0, slope * x, x),
        "gelu": lambda: 0.5 * x * (1 + erf(x / np.sqrt(2))),
        "tanh": lambda: np.tanh(x),
        "sigmoid": lambda: expit(x),
        "elu": lambda: np.where(x < 0, np.expm1(np.minimum(x, 0)), x),
        "selu": lambda: SELU_SCALE * np.where(x < 0, SELU_ALPHA * np.expm1(np.minimum(x, 0)), x),
        "swish": lambda: x * expit(x),
        "softplus": lambda: np.logaddexp(x, 0),
        "hard_sigmoid": lambda: np.clip(0.2 * x + 0.5, 0, 1),
    }
    return outputs.quantize(functions["leaky_relu" if slope else fn]())


@dataclass(frozen=True)
class SoftmaxTables:
    """Formats and tables of hls4ml's stable softmax: exp(x - max) and 1 / sum, looked up, then multiplied.

    Every format is chosen so that nothing but the table entries and the result is rounded: the difference to the
    maximum and the sum of exponentials are exact.

    Attributes:
        inputs: Format of the scores, signed.
        size: Number of scores that are normalised together.
        outputs: Format of the result.
    """

    inputs: Precision
    size: int
    outputs: Precision

    @property
    def difference(self) -> Precision:
        """Format of ``max - x``: as fine as the scores and, unsigned, of twice their range."""
        return Precision(self.inputs.bits, self.inputs.integer, signed=False)

    @property
    def entry(self) -> Precision:
        """Format of the entries of both tables: values up to one, finer than the result."""
        return self.entries_of(self.outputs)

    @staticmethod
    def entries_of(outputs: Precision) -> Precision:
        """Return the format of the entries for that of the result."""
        return Precision(outputs.bits + 4, 1, signed=False)

    @property
    def sum(self) -> Precision:
        """Format of the sum of all exponentials, exact."""
        carry = self.size.bit_length()
        return Precision(self.entry.bits + carry, self.entry.integer + carry, signed=False)

    @property
    def index(self) -> Precision:
        """Format of the sum as an index of the reciprocals, rounded half up."""
        whole = self.size.bit_length()
        return Precision(whole + RECIPROCAL_BITS, whole, signed=False)

    @cached_property
    def exponentials(self) -> NDArray[np.float64]:
        """exp(-d) for every raw ``d``; float64, shape (2**difference.bits,)."""
        return self._rounded(np.exp(-self.difference.grid()))

    @cached_property
    def reciprocals(self) -> NDArray[np.float64]:
        """1 / s for every raw ``s`` of :attr:`index`; float64, shape (2**index.bits,).

        The entry for zero is never read, since the sum is at least one.
        """
        grid = self.index.grid()
        return self._rounded(1 / np.maximum(grid, grid[1]))

    def _rounded(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        """Round values to entries as the firmware does, which makes its tables in float32 and rounds them half up.

        Args:
            values: float64, shape (entries,).

        Returns:
            float64, shape (entries,), on the grid of :attr:`entry`.
        """
        scaled = np.ldexp(values.astype(np.float32).astype(np.float64), self.entry.fractional)
        raw: NDArray[np.float64] = np.minimum(np.floor(scaled + 0.5), 2**self.entry.bits - 1)
        return np.ldexp(raw, -self.entry.fractional)


#: Fractional bits of the sum of exponentials when its reciprocal is looked up.
RECIPROCAL_BITS = 6
