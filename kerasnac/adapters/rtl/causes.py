"""Look-up tables of an adder graph by layer and by cause: sums, biases, rounding, saturation..."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any

#: Cause of an operation that no rule has charged, by da4ml's code of it; an inversion has the negative code.
BY_OPERATION: Mapping[int, str] = {
    0: "sums",
    1: "sums",
    2: "ReLU",
    3: "negation",
    4: "biases",
    6: "selection",
    7: "products",
    8: "tables",
    9: "logic",
    10: "logic",
}

#: Causes in the order of tables. ``rounding`` has the constant that is added before the last bits are cut, which holds the
#: bias as well where one addition does both; ``ties`` is what rounding to even takes besides; ``selection`` are maxima and
#: signs.
CAUSES = ("sums", "biases", "rounding", "ties", "ReLU", "saturation", "products", "tables", "selection", "negation", "logic")

#: Operations that cost the same whoever asks for them: a saturated ReLU has one as well.
_OWN = frozenset((2, 8))


@dataclass
class Ledger:
    """Layer and cause of every variable of a graph that is being traced.

    Attributes:
        layer: The layer whose rule is running.
        entries: Layer and cause by da4ml's id of a variable; the cause is empty for that of the operation.
    """

    layer: str = "input"
    entries: dict[Any, tuple[str, str]] = field(default_factory=dict)

    def charge(self, cause: str, variables: Iterable[Any]) -> None:
        """Charge all that variables are made of, and that has no entry yet, to a cause in the current layer."""
        waiting = list(variables)
        while waiting:
            variable = waiting.pop()
            if variable.id not in self.entries:
                self.entries[variable.id] = self.layer, cause
                waiting.extend(variable._from)

    def luts(self, variables: Sequence[Any], ops: Sequence[Any]) -> dict[str, dict[str, float]]:
        """Return the look-up tables of a graph by layer and cause.

        Args:
            variables: One for every operation.
            ops: Operations of da4ml, in the same order.
        """
        spent: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
        for variable, op in zip(variables, ops, strict=True):
            if op.cost:
                layer, cause = self.entries[variable.id]
                code = abs(op.opcode)
                spent[layer][BY_OPERATION[code] if code in _OWN or not cause else cause].append(op.cost)
        return {layer: {cause: math.fsum(costs[cause]) for cause in CAUSES if cause in costs} for layer, costs in spent.items()}


_LEDGER: ContextVar[Ledger | None] = ContextVar("ledger", default=None)


@contextmanager
def ledger() -> Iterator[Ledger]:
    """Open the ledger to which :func:`charge` writes."""
    opened = Ledger()
    token = _LEDGER.set(opened)
    try:
        yield opened
    finally:
        _LEDGER.reset(token)


def charge(cause: str, variable: Any) -> Any:
    """Charge what a variable is made of, and that is not charged yet, to a cause; return the variable.

    Args:
        cause: One of :data:`CAUSES`; empty for the cause that every operation has by itself.
        variable: A variable of da4ml.
    """
    if (opened := _LEDGER.get()) is not None:
        opened.charge(cause, [variable])
    return variable
