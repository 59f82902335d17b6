"""Variables of an adder graph that are functions of one other variable, so that they can be read from a table."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kerasnac.adapters.rtl.library import da4ml

#: Most numbers over which a table is considered.
MOST_NUMBERS = 2**8

#: Values of a function at some numbers; float64, of the same length.
Function = Callable[[NDArray[np.float64]], NDArray[np.float64]]


class Functions:
    """Functions of one variable of few numbers, which are computed or looked up: whichever da4ml says takes fewer LUTs.

    What is looked up in the place of adders need not be computed if nothing else reads it: da4ml leaves it out.
    """

    def __init__(self) -> None:
        self._known: dict[int, tuple[Any, Any, NDArray[np.float64]]] = {}

    def add(self, result: Any, source: Any, function: Function) -> None:
        """Note that a variable is a function of another one, and so of that of which this one is a function."""
        origin, numbers = self._origin(source)
        if numbers is not None:
            self._known[id(result)] = (result, origin, function(numbers))  # As long as it is held, nothing else has its id.

    def cheapest(self, source: Any, result: Any, function: Function) -> Any:
        """Return a function of a variable, as it is computed or from a table.

        Args:
            source: The variable.
            result: The function of it, computed.
            function: The function.
        """
        self.add(result, source, function)
        origin, values = self._origin(result)
        if values is None or origin is result:
            return result
        found = looked_up(origin, values)
        if found.cost >= _cost(result, origin):
            return result
        self._known[id(found)] = (found, origin, values)
        return found

    def read(self, source: Any, tables: Callable[[NDArray[np.float64]], NDArray[np.float64]]) -> list[tuple[Any, float]]:
        """Read some tables at a variable, or at that of which it is a function.

        Args:
            source: The variable, of at most :data:`MOST_NUMBERS` numbers.
            tables: Gives the entries of all tables at some numbers of it, shape (numbers, tables).

        Returns:
            By table, a variable that is never negative, and what has to be added to it to get the entry.
        """
        numbers = all_numbers(source)
        assert numbers is not None
        found = _read(source, tables(numbers))
        origin, values = self._origin(source)
        if origin is source or values is None:
            return found
        other = _read(origin, tables(values))
        direct, composed = (sum(variable.cost for variable, _ in way) for way in (found, other))
        return other if composed < direct + _cost(source, origin) else found

    def _origin(self, v: Any) -> tuple[Any, NDArray[np.float64] | None]:
        """Return the variable of which one is a function, and the values for all its numbers; None if these are too many."""
        _, origin, values = self._known.get(id(v), (v, v, all_numbers(v)))
        return origin, values


def all_numbers(v: Any) -> NDArray[np.float64] | None:
    """Return the numbers that a variable may be, from the smallest on; None if there are more than :data:`MOST_NUMBERS`."""
    low, step = float(v.low), float(v.step)
    count = (float(v.high) - low) / step + 1
    return np.asarray(low + step * np.arange(round(count)), np.float64) if count <= MOST_NUMBERS else None


def looked_up(v: Any, entries: NDArray[np.float64]) -> Any:
    """Look up the entry for a variable.

    Args:
        v: The variable.
        entries: For each number that it may be, from the smallest on.
    """
    return literal(entries[0]) if (entries == entries[0]).all() else v.lookup(entries)


def literal(value: float) -> Any:
    """Return a variable that is one number."""
    return da4ml().FixedVariable.from_const(float(value), hwconf=da4ml().HWConfig(1, -1, -1))


def constant_luts(value: Decimal | int) -> float:
    """Return the LUTs of adding a constant, as da4ml counts them: the bits from its first to its last one."""
    numerator, _ = Decimal(value).as_integer_ratio()
    return float(odd_part(abs(numerator)).bit_length()) if numerator else 0.0


def odd_part(number: int) -> int:
    """Return a number without its factors of two."""
    return number // (number & -number)


def _read(v: Any, entries: NDArray[np.float64]) -> list[tuple[Any, float]]:
    """Look up in tables, shape (numbers, tables), without what their entries have in common."""
    return [(looked_up(v, table - table.min()), float(table.min())) for table in entries.T]


def _cost(result: Any, origin: Any) -> float:
    """Return the LUTs of everything between two variables, the first included and the second not."""
    seen, open_, total = {origin.id}, [result], 0.0
    while open_:
        v = open_.pop()
        if v.id not in seen:
            seen.add(v.id)
            total += constant_luts(v._data) if v.opr == "cadd" else float(v.cost)
            open_ += v._from
    return total
