"""Means as sums times a quantized reciprocal of the number of values."""

from __future__ import annotations

from collections.abc import Iterable

from kerasnac.core.network.precision import Precision


def needs_reciprocal(count: int) -> bool:
    """Return True if the mean of so many values is no shift of their sum: unless the number is a power of two."""
    return bool(count & (count - 1))


def reciprocal_format(counts: Iterable[int], bits: int) -> Precision:
    """Return the narrowest unsigned format for the reciprocals of some numbers.

    With ``r`` in the place of ``1 / n`` a mean is off by its own value times ``|r n - 1|``. A result of some ``bits`` is
    below ``2**bits`` steps, so that a relative error below ``2**-(bits + 1)`` moves it by less than half a step.

    Args:
        counts: The numbers of values, each at least 1.
        bits: Width of the result that is rounded to.
    """
    numbers = tuple(counts)
    fractional = 0
    while any(_error(count, fractional) >= 2.0 ** -(bits + 1) for count in numbers):
        fractional += 1
    width = max(round(2**fractional / count).bit_length() for count in numbers)
    return Precision(width, width - fractional, signed=False)


def reciprocals(most: int, grid: Precision) -> tuple[float, ...]:
    """Return the reciprocals of all numbers up to one, rounded to a format; that of zero is zero."""
    return (0.0, *(reciprocal(count, grid) for count in range(1, most + 1)))


def _error(count: int, fractional: int) -> float:
    """Return the relative error of ``1 / count`` with so many fractional bits."""
    scale = 2.0**fractional
    return abs(round(scale / count) * count / scale - 1)


def reciprocal(count: int, grid: Precision) -> float:
    """Return ``1 / count``, rounded to a format."""
    rounded: float = grid.quantize(1 / count).item()
    return rounded
