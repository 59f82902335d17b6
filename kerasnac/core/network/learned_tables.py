"""Learned tables: the weights of layers of kind ``tables``, shape (entries, inputs, units).

Entry k belongs to the k-th smallest number of the format of the inputs.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from kerasnac.core.network.precision import Precision


def rising(grid: Precision) -> NDArray[np.float64]:
    """Return all numbers of a format in the order of the entries of learned tables, from the smallest on."""
    return np.sort(grid.grid())


def by_raw(tables: NDArray[Any], grid: Precision) -> NDArray[Any]:
    """Return tables whose entries are in the order of the two's-complement patterns of their inputs.

    Args:
        tables: Shape (2**bits, ...), in rising order.
        grid: Format of the inputs.
    """
    return np.roll(tables, -(2 ** (grid.bits - 1)), axis=0) if grid.signed else tables


def holds(grid: Precision, inputs: Precision) -> bool:
    """Return True if all numbers of a format are on a grid, so that they need no rounding before its tables."""
    inside = grid.minimum <= inputs.minimum and inputs.maximum <= grid.maximum
    return inside and inputs.fractional <= grid.fractional


def reached(tables: NDArray[Any], grid: Precision, inputs: Precision) -> NDArray[Any]:
    """Return the entries of tables that inputs of a format can reach, in rising order.

    Args:
        tables: Shape (2**bits, ...), in rising order.
        grid: Format over which the tables are; it holds those numbers.
        inputs: Format of the inputs.
    """
    return tables[np.isin(rising(grid), inputs.grid())]


def spreads(tables: NDArray[Any]) -> NDArray[np.float64]:
    """Return the standard deviation of the entries of every table, shape (inputs, units): zero for a constant.

    The flattest tables are the first to be pruned.
    """
    return np.asarray(np.std(tables.astype(np.float64), axis=0))
