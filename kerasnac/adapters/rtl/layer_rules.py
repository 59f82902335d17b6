"""The layers of a network on da4ml's symbolic fixed-point variables, one rule per kind of layer."""

from __future__ import annotations

import decimal
import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kerasnac.adapters.keras.table import SoftmaxTables, table
from kerasnac.adapters.rtl.causes import charge
from kerasnac.adapters.rtl.functions import literal, looked_up
from kerasnac.adapters.rtl.library import da4ml
from kerasnac.adapters.rtl.sums import Tracer, Variables, affine, sum_of_tables
from kerasnac.core.network.architecture import Node
from kerasnac.core.network.channel_formats import channel_formats
from kerasnac.core.network.exactness import MASK, NOT_IN_FIRMWARE, averaged
from kerasnac.core.network.kinds import CONV1D, CONV2D, MATMUL, POOL, TABLES, zeros_around
from kerasnac.core.network.layer_norms import LayerNormTables
from kerasnac.core.network.layers import Unsupported
from kerasnac.core.network.means import reciprocal, reciprocals
from kerasnac.core.network.precision import Precision


def input_variables(shape: Sequence[int], grid: Precision) -> Variables:
    """Return one variable for every input.

    Args:
        shape: Shape of the input, without samples.
        grid: Its format.
    """
    sign = int(grid.signed)
    formats = (np.full(shape, sign), np.full(shape, grid.integer - sign), np.full(shape, grid.fractional))
    return da4ml().FixedVariableArray.from_kif(*formats, hwconf=da4ml().HWConfig(1, -1, -1))._vars  # type: ignore[no-any-return]


def _dense(tracer: Tracer, node: Node, grid: Precision, x: Variables) -> Variables:
    return _affine(tracer, node, x)


def _conv(tracer: Tracer, node: Node, grid: Precision, x: Variables) -> Variables:
    layer, rank = node.layer, x.ndim - 1
    kind = CONV1D if rank == 1 else CONV2D
    sizes, strides = kind.sizes(layer, "kernel"), kind.sizes(layer, "stride")
    if layer["padding"] == "same":
        around = [*zeros_around(x.shape[:-1], sizes, strides), (0, 0)]
        x = np.pad(x, around, constant_values=literal(0.0))
    patches = np.moveaxis(_windows(x, sizes, strides), rank, -1)  # channels last, as in the kernel
    rows = patches.reshape(*patches.shape[:rank], -1)
    return np.apply_along_axis(lambda row: _affine(tracer, node, row), -1, rows)


def _affine(tracer: Tracer, node: Node, x: Variables) -> Variables:
    """Multiply by the kernel and add the bias: shape (inputs,) to (outputs,)."""
    kernel, bias = (tracer.values[f"{node.name}/{part}"].astype(np.float64) for part in ("kernel", "bias"))
    return affine(tracer, x, kernel.reshape(-1, kernel.shape[-1]), bias)


def _scale(tracer: Tracer, node: Node, grid: Precision, x: Variables) -> Variables:
    kernel, bias = (tracer.values[f"{node.name}/{part}"].astype(np.float64) for part in ("kernel", "bias"))
    own = zip(x.ravel(), np.resize(kernel, x.size), np.resize(bias, x.size), strict=True)  # Channels are the last axis.
    return np.array([tracer.solver.scale(v, factor) + offset for v, factor, offset in own], dtype=object).reshape(x.shape)


def _tables(tracer: Tracer, node: Node, grid: Precision, x: Variables) -> Variables:
    """Look one entry up for every edge, and add; what the entries of tables have in common is one constant per unit."""
    own = TABLES.grid(node.layer)
    kernel = tracer.values[f"{node.name}/kernel"].astype(np.float64)

    def tables(i: int, numbers: NDArray[np.float64]) -> NDArray[np.float64]:
        return kernel[np.round((numbers - own.minimum) / own.step).astype(np.int64), i]  # type: ignore[no-any-return]

    read = [tracer.functions.read(v, partial(tables, i)) for i, v in enumerate(x)]
    return np.array([sum_of_tables(tracer, read, j) for j in range(kernel.shape[-1])], dtype=object)


def _windows(x: Variables, sizes: Sequence[int], strides: Sequence[int]) -> Variables:
    """Return the windows over all axes but the last: shape (*positions, channels) to (*moved, channels, *sizes)."""
    rank = x.ndim - 1
    windows = np.lib.stride_tricks.sliding_window_view(x, sizes, axis=tuple(range(rank)))
    return windows[tuple(slice(None, None, stride) for stride in strides)]


def _pool(tracer: Tracer, node: Node, grid: Precision, x: Variables) -> Variables:
    size = node.layer["size"]
    sizes = [size] * (x.ndim - 1) if size else x.shape[:-1]
    windows = _windows(x, sizes, [POOL.stride(node.layer)] * len(sizes))
    values = da4ml().FixedVariableArray(windows.reshape(*windows.shape[: x.ndim], -1))
    if node.layer["op"] == "max":
        result = np.amax(values, axis=-1)._vars
    else:
        count, weight = averaged(node.layer, node.shapes[0]), node.layer.weight
        sums = np.sum(values, axis=-1)._vars
        if weight is None:
            result = sums * (1 / count)
        else:
            result = _each(lambda v: tracer.solver.scale(v, reciprocal(count, weight)), sums)
    return result.reshape(node.output)  # type: ignore[no-any-return]


def _matmul(tracer: Tracer, node: Node, grid: Precision, left: Variables, right: Variables) -> Variables:
    heads = MATMUL.heads(node.layer)
    by_heads = right.reshape(len(right), heads, -1)
    if node.layer["transpose"]:  # Shapes are (heads, rows, columns, inner).
        products = left.reshape(len(left), 1, heads, -1).transpose(2, 0, 1, 3) * by_heads.transpose(1, 0, 2)[:, None]
    else:  # Shapes are (rows, heads, columns, inner).
        rows = left.reshape(heads, -1, len(right)).transpose(1, 0, 2)
        products = rows[:, :, None] * by_heads.transpose(1, 2, 0)
    return np.sum(da4ml().FixedVariableArray(products), axis=-1)._vars.reshape(node.output)  # type: ignore[no-any-return]


def _add(tracer: Tracer, node: Node, grid: Precision, left: Variables, right: Variables) -> Variables:
    return left + right


def _concatenate(tracer: Tracer, node: Node, grid: Precision, left: Variables, right: Variables) -> Variables:
    return np.concatenate([left, right], axis=-1)


def _lookup(tracer: Tracer, node: Node, grid: Precision, x: Variables) -> Variables:
    values = tracer.values[f"{node.name}/values"].astype(np.float64)
    return _each(lambda v: _looked_up(v, values, grid), x)


def _reshape(tracer: Tracer, node: Node, grid: Precision, x: Variables) -> Variables:
    return x.reshape(node.output)


def _activation(tracer: Tracer, node: Node, grid: Precision, x: Variables) -> Variables:
    fn, out = node.layer["fn"], node.layer.activation
    assert out is not None
    if node.layer.signs:
        return _each(lambda v: _signed(v, out.step), x)
    if node.layer.looks_up:
        return _each(lambda v: _looked_up(v, table(fn, grid, out), grid), x)
    # A ReLU needs nothing of its own: its output is unsigned, so that negative values saturate at zero.
    return _each(lambda v: tracer.functions.cheapest(v, _rounded(v, out), out.quantize), x)


def _quantizer(tracer: Tracer, node: Node, grid: Precision, x: Variables) -> Variables:
    formats, half = channel_formats(node.layer), 0.5 if node.layer["rounding"] == "half_up" else 0.0

    def cut(out: Precision, numbers: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.clip(np.floor(numbers / out.step + half) * out.step, out.minimum, out.maximum)

    def once(v: Any, out: Precision | None) -> Any:
        if out is None:
            return literal(0.0)
        computed = _saturated(_floored_sum(v, half * out.step, out.fractional), out)
        return tracer.functions.cheapest(v, computed, partial(cut, out))

    result = np.array([once(v, formats[i % len(formats)]) for i, v in enumerate(x.ravel())], dtype=object)
    return result.reshape(x.shape)


def _softmax(tracer: Tracer, node: Node, grid: Precision, x: Variables) -> Variables:
    out = node.layer.activation
    assert out is not None
    tables = SoftmaxTables(grid, x.shape[-1], out)
    return np.apply_along_axis(lambda scores: _normalised(scores, tables), -1, x)


def _normalised(scores: Variables, tables: SoftmaxTables, mask: Variables | None = None) -> Variables:
    """Repeat the steps of ``TableSoftmax`` on whole numbers: the entries of its tables have too many fractional bits.

    Args:
        scores: Shape (size,).
        tables: Formats and tables.
        mask: Zeros for those that do not count; likewise.
    """
    step, out = tables.entry.step, tables.outputs
    values = da4ml().FixedVariableArray(scores)
    difference = _each(lambda v: _wrapped(v, tables.difference), np.amax(values, keepdims=True)._vars - scores)
    exponentials = _each(lambda v: _looked_up(v, tables.exponentials / step, tables.difference), difference)
    if mask is not None:
        exponentials = exponentials * mask
    total = np.sum(da4ml().FixedVariableArray(exponentials), keepdims=True)._vars.item() * step
    nearest = _floored(total + tables.index.step / 2, tables.index.fractional)
    index = _saturated(nearest, tables.index)
    factor = _looked_up(index, tables.reciprocals / step, tables.index)
    unit = out.fractional - 2 * tables.entry.fractional  # The product counts steps of 2**(2 * fractional)
    raw = Precision(out.bits, out.bits - unit, signed=False)
    return _each(lambda v: _rounded(v * factor, raw) * step**2, exponentials)


def _masked_softmax(tracer: Tracer, node: Node, grid: Precision, x: Variables, mask: Variables) -> Variables:
    out = node.layer.activation
    assert out is not None
    tables, row = SoftmaxTables(grid, x.shape[-1], out), mask[:, 0]
    # The least of all scores, which is above no other, in the place of those that do not count.
    return np.apply_along_axis(lambda scores: _normalised((scores - grid.minimum) * row + grid.minimum, tables, row), -1, x)


def _mask(tracer: Tracer, node: Node, grid: Precision, x: Variables) -> Variables:
    any_feature = np.sum(da4ml().FixedVariableArray(_each(_nonzero, x)), axis=-1, keepdims=True)._vars
    return _each(lambda v: _saturated(v, MASK), any_feature)


def _nonzero(v: Any) -> Any:
    """Return one for a variable that is not zero."""
    if v.low == v.high:
        return literal(float(v.low != 0))
    raw = v * (1 / float(v.step))
    signs = [sign * raw for sign, end in ((1, v.high), (-1, -v.low)) if end > 0]
    return sum(_saturated(side, MASK) for side in signs)


def _masked_mean(tracer: Tracer, node: Node, grid: Precision, x: Variables, mask: Variables) -> Variables:
    assert node.layer.weight is not None
    sums = np.sum(da4ml().FixedVariableArray(x * mask), axis=0)._vars
    count = np.sum(da4ml().FixedVariableArray(mask[:, 0]), keepdims=True)._vars.item()
    bits = len(mask).bit_length()
    entries = np.zeros(2**bits)
    entries[: len(mask) + 1] = reciprocals(len(mask), node.layer.weight)
    return sums * _looked_up(count, entries, Precision(bits, bits, signed=False))  # type: ignore[no-any-return]


#: Widest input whose square is looked up: beyond, a product takes fewer LUTs.
WIDEST_SQUARE = 8


def _layer_norm(tracer: Tracer, node: Node, grid: Precision, x: Variables) -> Variables:
    """Repeat the steps of ``ExactLayerNorm``; roots count their own steps, as the entries of a softmax do."""
    out = node.layer.activation
    assert out is not None
    tables = LayerNormTables.of(node, grid)
    gain, offset = (tracer.values[f"{node.name}/{part}"].astype(np.float64).ravel() for part in ("gamma", "beta"))
    step, unit = tables.root.step, out.fractional - tables.root.fractional
    raw = Precision(out.bits, out.bits - unit)
    squares = grid.grid() ** 2

    def square(v: Any) -> Any:
        return _looked_up(v, squares, grid) if grid.bits <= WIDEST_SQUARE else v * v

    def once(values: Variables) -> Variables:
        total = np.sum(da4ml().FixedVariableArray(values))
        sum_of_squares = np.sum(da4ml().FixedVariableArray(_each(square, values)))
        # da4ml does not see that a square, or the spread, is never negative.
        spread = _wrapped(tables.size * sum_of_squares - _wrapped(total * total, tables.spread), tables.spread)
        index = _saturated(_floored(spread, tables.index.fractional), tables.index)
        root = _looked_up(index, tables.roots / step, tables.index)
        slope, start = root * tables.size, root * total
        products = np.array([v * slope - start for v in values])
        exact = products * gain + offset / step
        return _each(lambda v: _rounded(v, raw) * step, exact)

    groups = x.reshape(-1, tables.size)
    return np.array([once(values) for values in groups]).reshape(x.shape)


#: For every kind: the variables that leave a layer, from the tracer, the node, the format of its first input and the
#: variables that enter; none of them has an axis of samples.
RULES: Mapping[str, Callable[..., Variables] | Unsupported] = {
    "dense": _dense,
    "conv1d": _conv,
    "conv2d": _conv,
    "scale": _scale,
    "tables": _tables,
    "pool": _pool,
    "matmul": _matmul,
    "add": _add,
    "concatenate": _concatenate,
    "layer_norm": _layer_norm,
    "lookup": _lookup,
    "quantizer": _quantizer,
    "flatten": _reshape,
    "reshape": _reshape,
    "activation": _activation,
    "softmax": _softmax,
    "mask": _mask,
    "masked_mean": _masked_mean,
    "masked_softmax": _masked_softmax,
    **NOT_IN_FIRMWARE,
}


def _each(function: Callable[[Any], Any], x: Variables) -> Variables:
    """Apply a function to every variable; the shape stays."""
    result = np.empty(x.size, dtype=object)
    result[:] = [function(v) for v in x.ravel()]
    return result.reshape(x.shape)


def _rounded(v: Any, grid: Precision) -> Any:
    """Round half to even, and saturate.

    da4ml rounds half up at best. Half to even is truncation of ``v + half - last bit``, plus the last bit again where
    the number below ``v`` on the grid is odd.
    """
    if v.low == v.high:
        return literal(float(grid.quantize(float(v.low))))
    before = v.kif[2]
    if before > grid.fractional:
        if _never_tied(v, grid.fractional):
            return _saturated(_floored_sum(v, grid.step / 2, grid.fractional), grid)
        charge("", v)
        half, last = math.ldexp(0.5, -grid.fractional), math.ldexp(1.0, -before)
        odd = v.quantize(0, 1 - grid.fractional, grid.fractional)
        nearly = charge("rounding", v + (half - last))
        v = _floored(charge("ties", nearly + odd * (last / grid.step)), grid.fractional)
    return _saturated(v, grid)


def _never_tied(v: Any, fractional: int) -> bool:
    """Return True if the constant that a variable ends with keeps it off the middles between numbers of so many bits.

    These middles, and the rest of the variable, have fewer bits than the constant.
    """
    rest = v - _added(v)
    return bool(v.kif[2] > max(rest.kif[2], fractional + 1))


def _signed(v: Any, step: float) -> Any:
    """Return the step for a variable that is not negative, else its negative."""
    if v.low >= 0 or v.high < 0:
        return literal(step if v.low >= 0 else -step)
    return v.msb_mux(literal(-step), literal(step))


def _floored(v: Any, fractional: int) -> Any:
    """Round down to so many fractional bits.

    One bit is kept at least: da4ml makes zero of anything smaller than a step, but minus half a step becomes minus one.
    """
    signed, integer, _ = v.kif
    return v.quantize(signed, max(integer, 1 - fractional), fractional)


def _floored_sum(v: Any, constant: float, fractional: int) -> Any:
    """Add a constant, and round down to so many fractional bits.

    The constant and the bias that the variable may end with are one, and bits of it below those of the rest and of the result
    are lost anyway.
    """
    if v.low == v.high:
        return literal(math.floor((float(v.low) + constant) * 2.0**fractional) * 2.0**-fractional)
    if v.kif[2] <= fractional:
        return v
    charge("", v)
    total = v + constant
    plain = total - _added(total)
    step = 2.0 ** -max(plain.kif[2], fractional)
    return _floored(charge("rounding", plain + math.floor(_added(total) / step) * step), fractional)


def _added(v: Any) -> float:
    """Return the constant that a variable ends with; 0 if its last operation is another one."""
    return float(v._data * v._factor) if v.opr == "cadd" else 0.0


def _saturated(v: Any, grid: Precision) -> Any:
    """Clip to the range of a grid that the variable lies on."""
    charge("", v)
    return charge("saturation", _clipped(v, grid))


def _clipped(v: Any, grid: Precision) -> Any:
    """Clip to the range of a grid.

    A number is beyond the range if its upper bits are not all the same: to see this takes fewer LUTs than to compare.
    """
    signed, integer, fractional = int(grid.signed), grid.integer - grid.signed, grid.fractional
    low, high = decimal.Decimal(grid.minimum), decimal.Decimal(grid.maximum)
    coarse = v.kif[2] < -integer
    if (low <= v.low and v.high <= high) or v.low == v.high or v.high <= low or v.low >= high or coarse:
        return v.quantize(signed, integer, fractional, "SAT")
    v = v if signed else v.relu()
    if v.high <= high and v.low >= low:
        return v
    below = v.low < 0
    upper, nearest = v.quantize(int(below), v.kif[1], -integer), literal(grid.maximum)
    if below:
        nearest = upper.msb_mux(literal(grid.minimum), nearest)
        reach = max(upper.high, -upper.low - upper.step)
        upper = upper.msb_mux(~upper, upper, qint=(0.0, float(reach), float(upper.step)))
    return _any(upper).msb_mux(nearest, v.quantize(int(below), integer, fractional))


def _any(v: Any) -> Any:
    """Return one bit that says if any bit of an unsigned variable is set."""
    # da4ml takes the first bit of a variable that is cut from another one from there, and errs where that has no full range.
    return v.unary_bit_op("any") if sum(v.kif) > 1 else v.binary_bit_op(v, "or")


def _wrapped(v: Any, grid: Precision) -> Any:
    """Wrap around at the ends of a grid that the variable lies on."""
    return v.quantize(int(grid.signed), grid.integer - grid.signed, grid.fractional)


def _looked_up(v: Any, entries: NDArray[np.float64], grid: Precision) -> Any:
    """Look up the entry of a table.

    Args:
        v: A variable on the grid; it need not reach all of it.
        entries: Shape (2**bits,), by raw number, in two's complement.
        grid: The grid of the table's inputs.
    """
    low, step = float(v.low), float(v.step)
    count = round((float(v.high) - low) / step) + 1
    raw = np.round((low + step * np.arange(count)) / grid.step).astype(np.int64) % 2**grid.bits
    return looked_up(v, entries[raw])
