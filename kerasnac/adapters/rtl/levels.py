"""Levels of logic in an adder graph, and where registers cut it so that no path between two of them is too long.

da4ml counts additions, choices, tables and products as levels, and constants that are added, biases and the like, as none.
These have a carry chain like any adder, so that the paths of a graph that is cut by da4ml's levels are longer than they
seem: five of its levels are seven adders in a row in a typical network. Here they count as one each. A ReLU counts as none:
it goes into the look-up tables of the adder behind it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

#: Codes of da4ml's operations.
INPUT, ADD_CONSTANT, CONSTANT, CHOICE = -1, 4, 5, 6


def own_levels(ops: Sequence[Any]) -> list[float]:
    """Return the levels of every operation by itself.

    Args:
        ops: Operations of da4ml, each behind those that it reads.
    """
    return [_own(ops, op) for op in ops]


def deepest(ops: Sequence[Any], levels: Sequence[float], cutoff: int) -> int:
    """Return the levels on the longest path between two registers.

    Args:
        ops: Operations of da4ml, each behind those that it reads.
        levels: Their own levels.
        cutoff: At which multiples of latency da4ml's ``to_pipeline`` puts registers.
    """
    stages = [math.floor(op.latency / (cutoff + 1e-9)) for op in ops]  # As it has it.
    arrival = [0.0] * len(ops)
    for i, op in enumerate(ops):
        here = [arrival[source] for source in _operands(ops, op) if stages[source] == stages[i]]
        arrival[i] = levels[i] + max(here, default=0.0)
    return math.ceil(max(arrival, default=0.0))


def spaced(ops: Sequence[Any], levels: Sequence[float], depth: int) -> list[Any]:
    """Return the same operations with latencies by which da4ml's ``to_pipeline`` makes no stage deeper than it must be.

    An operation that would cross a register begins behind it. One that is deeper than a stage may be has its own.

    Args:
        ops: Operations of da4ml, each behind those that it reads.
        levels: Their own levels.
        depth: Levels of a stage, at most.
    """
    latency = [0.0] * len(ops)
    read = [math.inf] * len(ops)
    for i, op in enumerate(ops):
        begin = max((latency[source] for source in _operands(ops, op)), default=0.0)
        own = min(levels[i], depth)
        end_of_stage = depth * max(1, math.ceil(begin / depth))
        latency[i] = own + (begin if begin + own <= end_of_stage else end_of_stage)
        for source in _sources(op):
            read[source] = min(read[source], latency[i])
    # A constant needs no registers: it is where it is read.
    where = [at if op.opcode == CONSTANT and at < math.inf else own for op, at, own in zip(ops, read, latency, strict=True)]
    return [op._replace(latency=at) for op, at in zip(ops, where, strict=True)]


def _own(ops: Sequence[Any], op: Any) -> float:
    if op.opcode == ADD_CONSTANT:
        return 1.0
    sources = _operands(ops, op)
    return float(op.latency - max(ops[source].latency for source in sources)) if sources else 0.0


def _operands(ops: Sequence[Any], op: Any) -> list[int]:
    """Return the indices of the operations that one reads, but for constants, which have the latency of their reader."""
    return [source for source in _sources(op) if ops[source].opcode != CONSTANT]


def _sources(op: Any) -> list[int]:
    if op.opcode == INPUT:
        return []
    condition = [op.data & 0xFFFFFFFF] if abs(op.opcode) == CHOICE else []
    return [index for index in (op.id0, op.id1, *condition) if index >= 0]
