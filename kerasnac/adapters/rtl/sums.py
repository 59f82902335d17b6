"""Sums in adder graphs: products with constants, entries of tables, and tables of several variables in their place."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kerasnac.adapters.rtl.functions import Function, Functions, known_numbers, literal, luts_between
from kerasnac.adapters.rtl.joint import WIDEST, Indices, Term, added, groups
from kerasnac.adapters.rtl.library import da4ml
from kerasnac.core.network.weights import Weights

#: An array of da4ml's symbolic fixed-point variables.
Variables = NDArray[Any]

#: Parts of the adders of a unit that no other unit shares, with each of which tables are tried in their place.
OWN_ADDERS = (1.0, 0.6)


@dataclass
class Solver:
    """Multiplies variables by constant matrices; what was solved once is not solved again.

    Attributes:
        options: Of da4ml's ``solve``.
        solved: Solutions by matrix, ranges and latencies: the positions of a convolution mostly share one.
    """

    options: Mapping[str, Any]
    solved: dict[Any, Any] = field(default_factory=dict)

    def multiply(self, x: Variables, matrix: NDArray[np.float64]) -> Variables:
        """Return ``x @ matrix``, of shape (outputs,).

        Args:
            x: Shape (inputs,).
            matrix: Shape (inputs, outputs), float64, exact numbers of the weights' format.
        """
        known = np.array([v.low == v.high for v in x])
        fixed = np.array([float(v.low) for v in x[known]]) @ matrix[known]
        outputs = np.array([literal(value) for value in fixed])
        rows = ~known & matrix.any(axis=1)
        columns = matrix[rows].any(axis=0)
        if columns.any():
            outputs[columns] = self._solution(x[rows], matrix[rows][:, columns])(x[rows]) + fixed[columns]
        return outputs

    def scale(self, v: Any, factor: float) -> Any:
        """Return a variable times a constant."""
        return self.multiply(np.array([v]), np.array([[factor]])).item()

    def _solution(self, x: Variables, matrix: NDArray[np.float64]) -> Any:
        ranges, latencies = [v.qint for v in x], [float(v.latency) for v in x]
        key = (matrix.shape, matrix.tobytes(), tuple(ranges), tuple(latencies))
        if key not in self.solved:
            kernel = np.ascontiguousarray(matrix, np.float32)
            sizes = {"adder_size": 1, "carry_size": -1}
            self.solved[key] = da4ml().solve(kernel, qintervals=ranges, latencies=latencies, **sizes, **self.options)
        return self.solved[key]


@dataclass(frozen=True)
class Tracer:
    """Weights and solver, which all rules share.

    Attributes:
        values: The quantized weights, by ``<node>/<part>``.
        solver: Multiplies by kernels.
        functions: What is known to be a function of few bits.
        indices: Variables that index tables of several others.
        grouped: What :func:`_grouped` has found, by matrix and ranges: the positions of a convolution mostly share it.
        joint: Look several variables up together where that seems to take fewer LUTs.
    """

    values: Weights
    solver: Solver
    functions: Functions = field(default_factory=Functions)
    indices: Indices = field(default_factory=Indices)
    grouped: dict[Any, Any] = field(default_factory=dict)
    joint: bool = True


def affine(tracer: Tracer, x: Variables, matrix: NDArray[np.float64], bias: NDArray[np.float64]) -> Variables:
    """Return ``x @ matrix + bias`` from adders, or from adders and tables: whichever da4ml says takes fewer LUTs.

    Args:
        tracer: Solver, and what is known.
        x: Shape (inputs,).
        matrix: Shape (inputs, outputs), exact numbers of the weights' format.
        bias: Shape (outputs,), likewise.

    Returns:
        Shape (outputs,).
    """
    ways = [tracer.solver.multiply(x, matrix) + bias]
    for own in OWN_ADDERS if tracer.joint else ():
        chosen = _grouped(tracer, x, matrix, own)
        if any(chosen):
            ways.append(_with_tables(tracer, x, matrix, bias, chosen))
    sums = min(ways, key=lambda way: luts_between(way, x)) if len(ways) > 1 else ways[0]
    fixed = np.array([v.low == v.high for v in x])
    known = np.array([float(v.low) if v.low == v.high else 0.0 for v in x]) @ matrix + bias
    for j, column in enumerate(matrix.T):
        rows = np.flatnonzero((column != 0) & ~fixed)
        _note(tracer, sums[j], [x[i] for i in rows], [np.poly1d([column[i], 0.0]) for i in rows], known[j])
    return sums


def sum_of_tables(tracer: Tracer, read: Sequence[tuple[Any, NDArray[np.float64]]], unit: int) -> Any:
    """Return the sum of an entry of every table, looked up one by one or several together.

    Args:
        tracer: What is known.
        read: For every table a variable and the entries for all its numbers, shape (numbers, units).
        unit: Which of the units.
    """
    tables: dict[int, tuple[Any, NDArray[np.float64]]] = {}
    for v, entries in read:  # Several inputs may be functions of one variable.
        tables[id(v)] = v, entries[:, unit] + tables[id(v)][1] if id(v) in tables else entries[:, unit]
    live = [(v, column) for v, column in tables.values() if np.ptp(column) > 0]
    constant = sum(float(column[0]) for _, column in tables.values() if np.ptp(column) == 0)
    chosen = groups([Term.of(v, column, 0.0).looked_up for v, column in live]) if tracer.joint else []
    alone = [(i,) for i in range(len(live)) if not any(i in group for group in chosen)]
    found = [tracer.indices.look_up(*zip(*(live[i] for i in group), strict=True)) for group in (*alone, *chosen)]
    result = _total([v for v, _ in found], constant + sum(least for _, least in found))
    _note(tracer, result, [v for v, _ in live], [_by_number(v, column) for v, column in live], constant)
    return result


def _grouped(tracer: Tracer, x: Variables, matrix: NDArray[np.float64], own: float) -> list[list[tuple[int, ...]]]:
    """Return the inputs of every unit that are looked up together, as groups of their numbers."""
    key = (matrix.shape, matrix.tobytes(), tuple(v.qint for v in x), own)
    if key not in tracer.grouped:
        narrow = np.array([i for i, v in enumerate(x) if v.low != v.high and sum(v.kif) < WIDEST], np.int64)
        tracer.grouped[key] = [_of_unit(x, column, narrow[column[narrow] != 0], own) for column in matrix.T]
    found: list[list[tuple[int, ...]]] = tracer.grouped[key]
    return found


def _of_unit(x: Variables, column: NDArray[np.float64], rows: NDArray[np.int64], own: float) -> list[tuple[int, ...]]:
    adders = [own * (_digits(column[i]) - 1) * (sum(x[i].kif) + 1) for i in rows]
    terms = [Term.of(x[i], known_numbers(x[i]) * column[i], luts) for i, luts in zip(rows, adders, strict=True)]
    return [tuple(int(rows[k]) for k in group) for group in groups(terms, own)]


def _with_tables(
    tracer: Tracer,
    x: Variables,
    matrix: NDArray[np.float64],
    bias: NDArray[np.float64],
    chosen: Sequence[Sequence[tuple[int, ...]]],
) -> Variables:
    """Return ``x @ matrix + bias``, some inputs of every unit being looked up together."""
    rest = matrix.copy()
    for j, unit in enumerate(chosen):
        for group in unit:
            rest[list(group), j] = 0.0
    sums = tracer.solver.multiply(x, rest)
    for j, unit in enumerate(chosen):
        parts, constant = [sums[j]], float(bias[j])
        for group in unit:
            values = [known_numbers(x[i]) * matrix[i, j] for i in group]
            found, least = tracer.indices.look_up([x[i] for i in group], values)
            parts, constant = [*parts, found], constant + least
        sums[j] = _total(parts, constant)
    return sums


def _total(parts: Sequence[Any], constant: float) -> Any:
    """Return the sum of variables and a constant."""
    live = [v for v in parts if v.low != v.high]
    constant += sum(float(v.low) for v in parts if v.low == v.high)
    if not live:
        return literal(constant)
    return np.sum(da4ml().FixedVariableArray(np.array(live)), keepdims=True)._vars.item() + constant


def _note(tracer: Tracer, result: Any, variables: Sequence[Any], functions: Sequence[Function], constant: float) -> None:
    """Note that a variable is a constant plus functions of one variable each, if these have few bits in all."""
    if len(variables) == 1:
        tracer.functions.add(result, variables[0], lambda numbers: functions[0](numbers) + constant)
    elif tracer.joint and variables and sum(sum(v.kif) for v in variables) <= WIDEST:
        values = [function(known_numbers(v)) for function, v in zip(functions, variables, strict=True)]
        tracer.functions.add_joint(result, tracer.indices.of(variables), variables, added(variables, values) + constant)


def _by_number(v: Any, values: NDArray[np.float64]) -> Function:
    """Return the function that has these values at the numbers that a variable may be."""
    low, step = float(v.low), float(v.step)
    return lambda numbers: values[np.round((numbers - low) / step).astype(np.int64)]


def _digits(weight: float) -> int:
    """Return the signed digits of a weight that are not zero, in the canonical form, which has the fewest."""
    numerator = abs(float(weight).as_integer_ratio()[0])
    return (numerator ^ 3 * numerator).bit_count()
