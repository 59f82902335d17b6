"""Networks as adder graphs with da4ml: every multiplication by a weight unrolled into shifts and additions.

The graph is what an FPGA computes in one pass, one new sample per clock cycle and no multiplier or memory for the
weights. It is traced from the formats and weights of a quantized network, and computes the numbers that Keras does.
"""

from __future__ import annotations

import decimal
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache, cached_property
from types import SimpleNamespace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kerasnac.adapters.keras.table import SoftmaxTables, table
from kerasnac.core.network.activations import ACTIVATIONS
from kerasnac.core.network.architecture import Architecture, Node
from kerasnac.core.network.exactness import NOT_IN_FIRMWARE, averaged, output_formats
from kerasnac.core.network.layers import Unsupported
from kerasnac.core.network.precision import Precision
from kerasnac.core.network.weights import Weights, quantized_weights
from kerasnac.core.settings.costs import Effort
from kerasnac.errors import ConversionError, EnvironmentProblem

#: An array of da4ml's symbolic fixed-point variables.
Variables = NDArray[Any]

#: da4ml finds the last bit of a constant within 32 bits of the binary point; rounding takes one more bit.
MAX_FRACTIONAL = 30

#: Digits of the decimals in which da4ml keeps bounds and scales. The scales of all layers multiply up, and the usual 28
#: digits make constants wrong by one step after some ten layers.
DECIMAL_DIGITS = 400

#: Most LUTs that are expected of a network which is traced at all: about a minute and a gigabyte.
MAX_LUTS = 400_000

#: Codes of da4ml's operations.
_ADD_CONSTANT, _CONSTANT = 4, 5

_SOLVER: Mapping[Effort, Mapping[str, Any]] = {"fast": {"hard_dc": 0, "search_all_decompose_dc": False}, "full": {}}


@dataclass(frozen=True)
class AdderGraph:
    """A traced network.

    Attributes:
        logic: da4ml's ``CombLogic``, for writing RTL. It keeps inputs that nothing reads: every input has its place.
        input: Format of every input.
    """

    logic: Any
    input: Precision

    @cached_property
    def luts(self) -> float:
        """da4ml's estimate of the look-up tables of the FPGA: one per bit of an adder."""
        return float(self.logic.cost)

    @cached_property
    def levels(self) -> int:
        """Adders in a row on the longest path; a look-up table or a product counts as several."""
        return math.ceil(float(self.logic.latency[1]))

    def pipeline(self, latency_cutoff: int) -> Any:
        """da4ml's ``Pipeline``: the logic cut after every so many levels, for writing RTL."""
        pipeline = _da4ml().to_pipeline(self.logic, latency_cutoff, retiming=False, verbose=False)
        # da4ml's interpreter cannot read a stage with an empty list of tables.
        stages = (stage._replace(lookup_tables=stage.lookup_tables or None) for stage in pipeline.solutions)
        return pipeline._replace(solutions=tuple(stages))

    def stages(self, latency_cutoff: int) -> int:
        """Pipeline stages: clock cycles from the register of the inputs to that of the outputs."""
        return len(self.pipeline(latency_cutoff).solutions)

    def register_bits(self, latency_cutoff: int) -> int:
        """Bits of all registers: of the inputs, between the stages, and of the outputs."""
        return int(self.pipeline(latency_cutoff).reg_bits)

    def costs(self, latency_cutoff: int, board_luts: int) -> dict[str, float]:
        """The metrics of the source ``adder_graph``; see :data:`kerasnac.core.hardware.estimators.SOURCES`."""
        pipeline = self.pipeline(latency_cutoff)
        return {
            "adder_luts": self.luts,
            "adder_percent": 100 * self.luts / board_luts,
            "adder_levels": float(self.levels),
            "adder_stages": float(len(pipeline.solutions)),
            "adder_registers": float(pipeline.reg_bits),
        }

    def predict(self, x: NDArray[Any]) -> NDArray[np.float32]:
        """What the graph computes, with da4ml's integer interpreter.

        Args:
            x: Samples on the input grid, cut to the network's window; shape (samples, ...).

        Returns:
            Shape (samples, outputs).
        """
        samples = np.ascontiguousarray(np.asarray(x, np.float64).reshape(len(x), -1))
        return np.asarray(self.logic.predict(samples, n_threads=1), np.float32).reshape(len(x), -1)


def trace(architecture: Architecture, weights: Weights, *, effort: Effort = "fast") -> AdderGraph:
    """Unrolls a quantized network.

    Args:
        architecture: Quantized, batch norms folded. A window is left out: the graph reads samples that are cut to it.
        weights: Its latent or quantized weights.
        effort: How hard da4ml searches for common subexpressions.

    Raises:
        ConversionError: If the network has no exact adder graph; names the layer and the reason.
        EnvironmentProblem: If da4ml is missing.
    """
    network = architecture.without_window()
    formats = output_formats(network, weights)
    assert network.input is not None
    for name, grid in {"input": network.input, **formats}.items():
        if abs(grid.fractional) > MAX_FRACTIONAL:
            raise ConversionError(
                f"{name}: {grid} has {grid.fractional} fractional bits; da4ml counts from -{MAX_FRACTIONAL} to "
                f"{MAX_FRACTIONAL}: scale the data, or use other widths"
            )
    values = quantized_weights(network, weights)
    expected = expected_luts(network, values)
    if expected > MAX_LUTS:
        raise ConversionError(
            f"the network is too large to unroll: about {expected:,.0f} LUTs, more than the {MAX_LUTS:,} that are traced; "
            "prune it, or use fewer bits, layers, units or positions"
        )
    with decimal.localcontext() as context:
        context.prec = DECIMAL_DIGITS
        tracer = _Tracer(values, _Solver(_SOLVER[effort]))
        inputs = _inputs(network)
        tensors, grids = {-1: inputs}, {-1: network.input}
        for i, node in enumerate(network.nodes):
            sources = [tensors[source] for source in node.inputs]
            rule = RULES[node.layer.kind]
            assert not isinstance(rule, Unsupported), f"{node.name} has an exact format: {formats[node.name]}"
            tensors[i] = rule(tracer, node, grids[node.inputs[0]], *sources)
            grids[i] = formats[node.name]
        logic = _da4ml().comb_trace(inputs, tensors[i], keep_dead_inputs=True)
    return AdderGraph(logic._replace(ops=[_corrected(op) for op in logic.ops]), network.input)


def expected_luts(architecture: Architecture, weights: Weights) -> float:
    """A quick guess at :attr:`AdderGraph.luts`, without tracing.

    Two LUTs per bit of every nonzero weight at every position (1.7 to 3.3 in measurements with 4 to 8 bits and up to
    80 % of the weights pruned, most per weight when pruned), the bits of both factors for products of activations,
    and what da4ml counts for tables: two outputs of a LUT with five inputs.

    Args:
        architecture: Quantized.
        weights: Its quantized weights.
    """
    total = 0.0
    bits = {-1: architecture.input.bits if architecture.input else 0}
    for i, node in enumerate(architecture.nodes):
        layer, incoming, count = node.layer, bits[node.inputs[0]], math.prod(node.output)
        bits[i] = layer.activation.bits if layer.activation else incoming
        products, entries = node.products, 2 ** max(incoming - 5, 0) * bits[i] / 2
        if layer.weight and products:
            total += 2 * layer.weight.bits * np.count_nonzero(weights[f"{node.name}/kernel"]) * products.positions
        elif products:
            total += products.macs * incoming * bits[node.inputs[1]]
        elif layer.kind == "softmax":
            total += count * (2 * entries + bits[i] ** 2)
        elif layer.kind == "activation" and ACTIVATIONS[layer["fn"]].table:
            total += count * entries
    return total


def _corrected(op: Any) -> Any:
    """An operation of da4ml with a constant, written down with the constant's true last bit.

    The graph holds every number times a power of two that changes from layer to layer, and da4ml looks for the last bit
    of a constant no further than 32 bits from the binary point. Beyond, its interpreter computes other numbers, and the
    cost of adding a constant is wrong.
    """
    if op.opcode == _ADD_CONSTANT:
        return op._replace(cost=float(_odd(abs(op.data)).bit_length()))
    if op.opcode == _CONSTANT and op.qint.min:
        numerator, _ = float(op.qint.min).as_integer_ratio()
        data = _odd(numerator)
        return op._replace(data=data, qint=op.qint._replace(step=op.qint.min / data))
    return op


def _odd(number: int) -> int:
    """The number without its factors of two."""
    return number // (number & -number)


def _inputs(network: Architecture) -> Variables:
    grid = network.input
    assert grid is not None
    sign = int(grid.signed)
    shape = network.input_shape
    formats = (np.full(shape, sign), np.full(shape, grid.integer - sign), np.full(shape, grid.fractional))
    return _da4ml().FixedVariableArray.from_kif(*formats, hwconf=_da4ml().HWConfig(1, -1, -1))._vars  # type: ignore[no-any-return]


@dataclass
class _Solver:
    """Multiplies variables by constant matrices; what was solved once is not solved again.

    Attributes:
        options: Of da4ml's ``solve``.
        solved: Solutions by matrix, ranges and latencies: the positions of a convolution mostly share one.
    """

    options: Mapping[str, Any]
    solved: dict[Any, Any] = field(default_factory=dict)

    def multiply(self, x: Variables, matrix: NDArray[np.float64]) -> Variables:
        """``x @ matrix`` for shapes (inputs,) and (inputs, outputs)."""
        constant = np.array([v.low == v.high for v in x])
        fixed = np.array([float(v.low) for v in x[constant]]) @ matrix[constant]
        outputs = np.array([_constant(value) for value in fixed])
        rows = ~constant & matrix.any(axis=1)
        columns = matrix[rows].any(axis=0)
        if columns.any():
            outputs[columns] = self._solution(x[rows], matrix[rows][:, columns])(x[rows]) + fixed[columns]
        return outputs

    def _solution(self, x: Variables, matrix: NDArray[np.float64]) -> Any:
        ranges, latencies = [v.qint for v in x], [float(v.latency) for v in x]
        key = (matrix.shape, matrix.tobytes(), tuple(ranges), tuple(latencies))
        if key not in self.solved:
            kernel = np.ascontiguousarray(matrix, np.float32)
            sizes = {"adder_size": 1, "carry_size": -1}
            self.solved[key] = _da4ml().solve(kernel, qintervals=ranges, latencies=latencies, **sizes, **self.options)
        return self.solved[key]


def _constant(value: float) -> Any:
    return _da4ml().FixedVariable.from_const(float(value), hwconf=_da4ml().HWConfig(1, -1, -1))


@dataclass(frozen=True)
class _Tracer:
    """What the rules for layers share."""

    values: Weights
    solver: _Solver


def _dense(tracer: _Tracer, node: Node, grid: Precision, x: Variables) -> Variables:
    return _affine(tracer, node, x)


def _conv(tracer: _Tracer, node: Node, grid: Precision, x: Variables) -> Variables:
    layer, rank = node.layer, x.ndim - 1
    size, stride = layer["kernel"], layer["stride"]
    if layer["padding"] == "same":
        missing = [max((-(-n // stride) - 1) * stride + size - n, 0) for n in x.shape[:-1]]
        around = [*((m // 2, m - m // 2) for m in missing), (0, 0)]
        x = np.pad(x, around, constant_values=_constant(0.0))
    patches = np.moveaxis(_windows(x, [size] * rank, stride), rank, -1)  # channels last, as in the kernel
    rows = patches.reshape(*patches.shape[:rank], -1)
    return np.apply_along_axis(lambda row: _affine(tracer, node, row), -1, rows)


def _affine(tracer: _Tracer, node: Node, x: Variables) -> Variables:
    kernel, bias = (tracer.values[f"{node.name}/{part}"].astype(np.float64) for part in ("kernel", "bias"))
    return tracer.solver.multiply(x, kernel.reshape(-1, kernel.shape[-1])) + bias


def _windows(x: Variables, sizes: Sequence[int], stride: int) -> Variables:
    """Windows over all axes but the last: shape (*positions, channels, *sizes)."""
    rank = x.ndim - 1
    windows = np.lib.stride_tricks.sliding_window_view(x, sizes, axis=tuple(range(rank)))
    return windows[(slice(None, None, stride),) * rank]


def _pool(tracer: _Tracer, node: Node, grid: Precision, x: Variables) -> Variables:
    size = node.layer["size"]
    sizes = [size] * (x.ndim - 1) if size else x.shape[:-1]
    windows = _windows(x, sizes, size or 1)
    values = _da4ml().FixedVariableArray(windows.reshape(*windows.shape[: x.ndim], -1))
    if node.layer["op"] == "max":
        result = np.amax(values, axis=-1)._vars
    else:
        result = np.sum(values, axis=-1)._vars * (1 / averaged(node.layer, node.shapes[0]))
    return result.reshape(node.output)  # type: ignore[no-any-return]


def _matmul(tracer: _Tracer, node: Node, grid: Precision, left: Variables, right: Variables) -> Variables:
    products = left[:, :, None] * (right.T if node.layer["transpose"] else right)[None]
    return np.sum(_da4ml().FixedVariableArray(products), axis=1)._vars  # type: ignore[no-any-return]


def _add(tracer: _Tracer, node: Node, grid: Precision, left: Variables, right: Variables) -> Variables:
    return left + right


def _reshape(tracer: _Tracer, node: Node, grid: Precision, x: Variables) -> Variables:
    return x.reshape(node.output)


def _activation(tracer: _Tracer, node: Node, grid: Precision, x: Variables) -> Variables:
    fn, out = node.layer["fn"], node.layer.activation
    assert out is not None
    if ACTIVATIONS[fn].table:
        return _each(lambda v: _looked_up(v, table(fn, grid, out), grid), x)
    # A ReLU needs nothing of its own: its output is unsigned, so that negative values saturate at zero.
    return _each(lambda v: _rounded(v, out), x)


def _softmax(tracer: _Tracer, node: Node, grid: Precision, x: Variables) -> Variables:
    """The steps of ``TableSoftmax``, on whole numbers: the entries of its tables have too many fractional bits."""
    out = node.layer.activation
    assert out is not None
    tables = SoftmaxTables(grid, x.shape[-1], out)
    step = tables.entry.step

    def normalised(scores: Variables) -> Variables:
        values = _da4ml().FixedVariableArray(scores)
        difference = _each(lambda v: _wrapped(v, tables.difference), np.amax(values, keepdims=True)._vars - scores)
        exponentials = _each(lambda v: _looked_up(v, tables.exponentials / step, tables.difference), difference)
        total = np.sum(_da4ml().FixedVariableArray(exponentials), keepdims=True)._vars.item() * step
        nearest = _floored(total + tables.index.step / 2, tables.index.fractional)
        index = _saturated(nearest, tables.index)
        reciprocal = _looked_up(index, tables.reciprocals / step, tables.index)
        unit = out.fractional - 2 * tables.entry.fractional  # The product counts steps of 2**(2 * fractional)
        raw = Precision(out.bits, out.bits - unit, signed=False)
        return _each(lambda v: _rounded(v * reciprocal, raw) * step**2, exponentials)

    return np.apply_along_axis(normalised, -1, x)


#: For every kind: the variables that leave a layer, from the tracer, the node, the format of what it reads and the
#: variables that enter.
RULES: Mapping[str, Callable[..., Variables] | Unsupported] = {
    "dense": _dense,
    "conv1d": _conv,
    "conv2d": _conv,
    "pool": _pool,
    "matmul": _matmul,
    "add": _add,
    "flatten": _reshape,
    "reshape": _reshape,
    "activation": _activation,
    "softmax": _softmax,
    **NOT_IN_FIRMWARE,
}


def _each(function: Callable[[Any], Any], x: Variables) -> Variables:
    result = np.empty(x.size, dtype=object)
    result[:] = [function(v) for v in x.ravel()]
    return result.reshape(x.shape)


def _rounded(v: Any, grid: Precision) -> Any:
    """Rounds half to even and saturates.

    da4ml rounds half up at best. Half to even is truncation of ``v + half - last bit``, plus the last bit again where
    the number below ``v`` on the grid is odd.
    """
    if v.low == v.high:
        return _constant(float(grid.quantize(float(v.low))))
    before = v.kif[2]
    if before > grid.fractional:
        half, last = math.ldexp(0.5, -grid.fractional), math.ldexp(1.0, -before)
        odd = v.quantize(0, 1 - grid.fractional, grid.fractional)
        v = _floored(v + (half - last) + odd * (last / grid.step), grid.fractional)
    return _saturated(v, grid)


def _floored(v: Any, fractional: int) -> Any:
    """The next smaller number with so many fractional bits.

    One bit is kept at least: da4ml makes zero of anything smaller than a step, but minus half a step becomes minus one.
    """
    signed, integer, _ = v.kif
    return v.quantize(signed, max(integer, 1 - fractional), fractional)


def _saturated(v: Any, grid: Precision) -> Any:
    return v.quantize(int(grid.signed), grid.integer - grid.signed, grid.fractional, "SAT")


def _wrapped(v: Any, grid: Precision) -> Any:
    return v.quantize(int(grid.signed), grid.integer - grid.signed, grid.fractional)


def _looked_up(v: Any, entries: NDArray[np.float64], grid: Precision) -> Any:
    """The entry of a table over a grid; the variable lies on the grid but need not reach all of it."""
    low, step = float(v.low), float(v.step)
    count = round((float(v.high) - low) / step) + 1
    raw = np.round((low + step * np.arange(count)) / grid.step).astype(np.int64) % 2**grid.bits
    reached = entries[raw]
    return _constant(reached[0]) if (reached == reached[0]).all() else v.lookup(reached)


def require_da4ml() -> None:
    """Checks that adder graphs can be made.

    Raises:
        EnvironmentProblem: If da4ml is missing.
    """
    _da4ml()


@cache
def _da4ml() -> SimpleNamespace:
    """The parts of da4ml that are used here."""
    try:
        from da4ml.cmvm import solve
        from da4ml.trace import FixedVariable, FixedVariableArray, HWConfig, comb_trace, to_pipeline
    except ImportError as error:
        raise EnvironmentProblem(f"adder graphs need the package da4ml ({error}): pip install 'da4ml==0.6.*'") from error
    return SimpleNamespace(
        solve=solve,
        FixedVariable=FixedVariable,
        FixedVariableArray=FixedVariableArray,
        HWConfig=HWConfig,
        comb_trace=comb_trace,
        to_pipeline=to_pipeline,
    )
