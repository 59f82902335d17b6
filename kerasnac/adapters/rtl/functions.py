"""Variables of an adder graph that are functions of few bits, so that they can be read from a table."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kerasnac.adapters.rtl.library import da4ml

#: Most numbers over which a table is considered.
MOST_NUMBERS = 2**8

#: Values of a function at some numbers; float64, of the same length.
Function = Callable[[NDArray[np.float64]], NDArray[np.float64]]


@dataclass(frozen=True, eq=False)
class Known:
    """What is known of a variable.

    Attributes:
        variable: The variable; as long as it is held, nothing else has its id.
        origin: The one of which it is a function, or itself.
        values: Its values, for every number that its origin may be; None if these are too many.
        leaves: Variables of which the origin is made without any LUT: itself, or those whose bits it has.
    """

    variable: Any
    origin: Any
    values: NDArray[np.float64] | None
    leaves: Sequence[Any]


class Functions:
    """Functions of variables of few numbers, which are computed or looked up: whichever da4ml says takes fewer LUTs.

    What is looked up in the place of adders need not be computed if nothing else reads it: da4ml leaves it out.
    """

    def __init__(self) -> None:
        self._known: dict[int, Known] = {}

    def add(self, result: Any, source: Any, function: Function) -> None:
        """Note that a variable is a function of another one, and so of that of which this one is a function."""
        known = self._origin(source)
        if known.values is not None:
            self._note(result, known, function(known.values))

    def add_joint(self, result: Any, index: Any, leaves: Sequence[Any], values: NDArray[np.float64]) -> None:
        """Note that a variable is a function of several.

        Args:
            result: The variable.
            index: The one whose bits are theirs.
            leaves: The several variables.
            values: For every number of the index.
        """
        self._known[id(result)] = Known(result, index, values, leaves)

    def cheapest(self, source: Any, result: Any, function: Function) -> Any:
        """Return a function of a variable, as it is computed or from a table.

        Args:
            source: The variable.
            result: The function of it, computed.
            function: The function.
        """
        self.add(result, source, function)
        known = self._origin(result)
        if known.values is None or known.origin is result:
            return result
        found = looked_up(known.origin, known.values)
        if found.cost >= luts_between([result], known.leaves):
            return result
        self._note(found, known, known.values)
        return found

    def read(
        self, source: Any, tables: Callable[[NDArray[np.float64]], NDArray[np.float64]]
    ) -> tuple[Any, NDArray[np.float64]]:
        """Return which variable some tables are best read at: a given one, or the one of which it is a function.

        Args:
            source: The given variable, of at most :data:`MOST_NUMBERS` numbers.
            tables: Gives the entries of all tables at some numbers of it, shape (numbers, tables).

        Returns:
            The variable, and the entries for every number that it may be, shape (numbers, tables).
        """
        direct, known = tables(known_numbers(source)), self._origin(source)
        if known.origin is source or known.values is None:
            return source, direct
        composed = tables(known.values)
        saved = _tables_luts(source, direct) + luts_between([source], known.leaves) - _tables_luts(known.origin, composed)
        return (known.origin, composed) if saved > 0 else (source, direct)

    def _note(self, result: Any, source: Known, values: NDArray[np.float64]) -> None:
        self._known[id(result)] = Known(result, source.origin, values, source.leaves)

    def _origin(self, v: Any) -> Known:
        return self._known.get(id(v)) or Known(v, v, all_numbers(v), (v,))


def all_numbers(v: Any) -> NDArray[np.float64] | None:
    """Return the numbers that a variable may be, from the smallest on; None if there are more than :data:`MOST_NUMBERS`."""
    low, step = float(v.low), float(v.step)
    count = (float(v.high) - low) / step + 1
    return np.asarray(low + step * np.arange(round(count)), np.float64) if count <= MOST_NUMBERS else None


def known_numbers(v: Any) -> NDArray[np.float64]:
    """Return the numbers that a variable of at most :data:`MOST_NUMBERS` may be, from the smallest on."""
    numbers = all_numbers(v)
    assert numbers is not None
    return numbers


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


def _tables_luts(v: Any, entries: NDArray[np.float64]) -> float:
    """Return the LUTs of tables, shape (numbers, tables), without what the entries of each have in common."""
    return sum(float(looked_up(v, table - table.min()).cost) for table in entries.T)


def luts_between(results: Iterable[Any], leaves: Iterable[Any]) -> float:
    """Return the LUTs of everything between variables, the results included and the leaves not."""
    seen, open_, total = {v.id for v in leaves}, list(results), 0.0
    while open_:
        v = open_.pop()
        if v.id not in seen:
            seen.add(v.id)
            total += constant_luts(v._data) if v.opr == "cadd" else float(v.cost)
            open_ += v._from
    return total
