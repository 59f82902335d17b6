"""Tables of several variables: functions of variables of few bits, added up, are one table where that takes fewer LUTs.

A look-up table of an FPGA is any function of six bits. Three variables of two bits, each times a weight, take two adders and
more for weights of several digits; their sum as a table takes one LUT for every bit, whatever the weights are.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kerasnac.adapters.rtl.functions import known_numbers, looked_up

#: Most bits of the variables of one table: each beyond the sixth doubles its LUTs.
WIDEST = 8

#: Places of terms that are looked up together.
_Group = tuple[int, ...]

#: Inputs of half a look-up table of an FPGA: two functions of the same five inputs share one.
_HALF_INPUTS = 5


@dataclass(frozen=True, eq=False)
class Term:
    """A function of one variable, which is part of a sum.

    Attributes:
        bits: Bits of the variable.
        spread: Largest value less the smallest one.
        step: Largest power of two of which all differences between its values are multiples.
        luts: LUTs of computing it alone.
    """

    bits: int
    spread: float
    step: float
    luts: float

    @classmethod
    def of(cls, variable: Any, values: NDArray[np.float64], luts: float) -> Term:
        """Return the term with these values, one for each number that the variable may be."""
        return cls(sum(variable.kif), float(np.ptp(values)), _step(values), luts)

    @property
    def width(self) -> int:
        """Bits of the values less the smallest of them."""
        return math.ceil(math.log2(self.spread / self.step + 1))

    @property
    def looked_up(self) -> Term:
        """The same, computed by a table."""
        return replace(self, luts=table_luts(self.bits, self.width))

    def with_(self, other: Term) -> Term:
        """Return the sum of two terms, looked up in one table."""
        return Term(self.bits + other.bits, self.spread + other.spread, min(self.step, other.step), 0.0).looked_up

    def adder(self, other: Term) -> float:
        """Return the LUTs of adding another term to it: one for every bit in which both overlap, and those above."""
        return max(self.with_(other).width - abs(math.log2(self.step / other.step)), 1.0)


def table_luts(index: int, width: int) -> float:
    """Return the LUTs of a table, as da4ml counts them, from the bits of its index and of its entries."""
    return math.ldexp(math.ceil(width / 2), max(index - _HALF_INPUTS, 0)) * min(index / _HALF_INPUTS, 1.0)


def groups(terms: Sequence[Term], own: float = 1.0) -> list[tuple[int, ...]]:
    """Return the terms of a sum that are looked up together, as indices.

    Greedy: the two terms or groups that save most become one, until none saves anything.

    Args:
        terms: The terms. Those of no spread are constants, and in no group.
        own: Part of the adders of the sum that no other sum shares.
    """
    open_: dict[_Group, Term] = {(i,): term for i, term in enumerate(terms) if term.spread > 0}
    queue = [entry for pair in combinations(open_, 2) if (entry := _saving(*pair, open_, own))]
    heapq.heapify(queue)
    while queue:
        _, left, right = heapq.heappop(queue)
        if left not in open_ or right not in open_:
            continue
        merged = (*left, *right)
        both = open_.pop(left).with_(open_.pop(right))
        others = list(open_)
        open_[merged] = both
        for other in others:
            if entry := _saving(other, merged, open_, own):
                heapq.heappush(queue, entry)
    return sorted(tuple(sorted(group)) for group in open_ if len(group) > 1)


def _saving(left: _Group, right: _Group, terms: Mapping[_Group, Term], own: float) -> tuple[float, _Group, _Group] | None:
    """Return minus the LUTs that one table saves, with the two groups; None if it saves none."""
    a, b = terms[left], terms[right]
    if a.bits + b.bits > WIDEST:
        return None
    saved = a.luts + b.luts + own * a.adder(b) - a.with_(b).luts
    return (-saved, left, right) if saved > 0 else None


class Indices:
    """Variables that index tables of several variables; each is made once."""

    def __init__(self) -> None:
        self._known: dict[tuple[int, ...], tuple[Any, Sequence[Any]]] = {}

    @property
    def used(self) -> bool:
        """True if there are any."""
        return bool(self._known)

    def of(self, variables: Sequence[Any]) -> Any:
        """Return the variable whose bits are those of some variables, the first one's lowest: wires, without any LUT."""
        key = tuple(id(v) for v in variables)
        if key not in self._known:
            self._known[key] = _concatenated(variables), variables  # As long as they are held, nothing else has their ids.
        return self._known[key][0]

    def look_up(self, variables: Sequence[Any], values: Sequence[NDArray[np.float64]]) -> tuple[Any, float]:
        """Look up the sum of functions of some variables.

        Args:
            variables: The variables.
            values: Of each function, for every number that its variable may be.

        Returns:
            A variable that is never negative, and what has to be added to it to get the sum.
        """
        entries = values[0] if len(variables) == 1 else added(variables, values)
        least = float(entries.min())
        return looked_up(variables[0] if len(variables) == 1 else self.of(variables), entries - least), least


def added(variables: Sequence[Any], values: Sequence[NDArray[np.float64]]) -> NDArray[np.float64]:
    """Return the sums of functions for every number of the index of their variables.

    Args:
        variables: The variables.
        values: Of each function, for every number that its variable may be.

    Returns:
        Shape (2**bits,), for the bits of all variables; numbers that a variable never is have a sum that it may have.
    """
    total = np.zeros(1)
    for variable, own in zip(variables, values, strict=True):
        total = np.add.outer(own[_places(variable)], total).ravel()  # The first variable's bits are the lowest.
    return total


def _places(variable: Any) -> NDArray[np.int64]:
    """Return which of the numbers that a variable may be has which bits."""
    signed, integer, fractional = variable.kif
    bits = int(signed) + integer + fractional
    raw = np.arange(2**bits)
    raw = np.where(signed & (raw >= 2 ** (bits - 1)), raw - 2**bits, raw)
    numbers = known_numbers(variable)
    nearest = np.round((np.ldexp(1.0, -fractional) * raw - numbers[0]) / float(variable.step))
    places: NDArray[np.int64] = np.clip(nearest, 0, len(numbers) - 1).astype(np.int64)
    return places


def _concatenated(variables: Sequence[Any]) -> Any:
    found, bits = None, 0
    for variable in variables:
        signed, integer, fractional = variable.kif
        width = int(signed) + integer + fractional
        raw = (variable * 2.0**fractional).quantize(0, width, 0) * 2.0**bits
        bits += width
        if found is None:
            found = raw
            continue
        latency = max(found.latency, raw.latency)
        found = found.binary_bit_op(raw, "or")._with(cost=0.0, latency=latency, renew_id=False)
    return found


def _step(values: NDArray[np.float64]) -> float:
    """Return the largest power of two of which all differences are multiples; 1 if there are none."""
    mantissas, exponents = np.frexp(np.unique(values - values.min())[1:])
    if not len(mantissas):
        return 1.0
    whole = np.ldexp(mantissas, 53).astype(np.int64)
    last = np.log2((whole & -whole).astype(np.float64)).astype(np.int64)
    return math.ldexp(1.0, int((exponents - 53 + last).min()))
