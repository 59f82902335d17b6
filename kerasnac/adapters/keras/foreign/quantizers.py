"""Values and number formats behind the quantizers of QKeras."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kerasnac.adapters.keras.runtime import tensorflow
from kerasnac.core.network.exactness import FLOAT32_BITS
from kerasnac.core.network.parameters import MAX_TABLE_BITS
from kerasnac.core.network.precision import FARTHEST, Precision
from kerasnac.errors import ConversionError

#: Element-wise function of float32 arrays.
Function = Callable[[NDArray[np.float32]], NDArray[np.float32]]

#: Values at which a function on a wide grid is compared with itself on a narrower one.
PROBES = 2**16


def exact_format(values: NDArray[Any], *, signed: bool | None = None) -> Precision | None:
    """Return the narrowest format that holds some numbers as they are; None if it were wider than float32 holds.

    Args:
        values: Finite numbers of any shape.
        signed: True for a signed format in any case; by default signed if a number is negative.
    """
    numbers = np.unique(np.asarray(values, np.float64))
    sign = bool(signed) or bool(numbers.min() < 0)
    mantissas, exponents = np.frexp(numbers[numbers != 0])
    if not mantissas.size:
        return Precision(1 + sign, 1 + sign, sign)
    whole = np.ldexp(mantissas, FLOAT32_BITS + 1)
    if not np.array_equal(whole, np.round(whole)):
        return None
    zeros = np.log2(whole.astype(np.int64) & -whole.astype(np.int64)).astype(int)  # at the end of each mantissa
    fractional = int((FLOAT32_BITS + 1 - exponents - zeros).max())
    largest = Precision.covering(float(numbers.min()), float(numbers.max()), FLOAT32_BITS, signed=sign)
    integer = min(
        (integer for integer in range(largest.integer - 1, largest.integer + 2) if _holds(integer, fractional, sign, numbers)),
        default=None,
    )
    if integer is None or max(abs(integer), abs(fractional)) > FARTHEST:
        return None
    return Precision(integer + fractional, integer, sign)


def _holds(integer: int, fractional: int, signed: bool, numbers: NDArray[np.float64]) -> bool:
    if not 1 + signed <= integer + fractional <= FLOAT32_BITS:
        return False
    grid = Precision(integer + fractional, integer, signed)
    return bool(numbers.min() >= grid.minimum and numbers.max() <= grid.maximum)


def is_quantizer(thing: Any) -> bool:
    """Return True for a quantizer of QKeras."""
    return any(base.__module__.startswith("qkeras") and base.__name__ == "BaseQuantizer" for base in type(thing).__mro__)


def described(quantizer: Any) -> str:
    """Return a quantizer as it is written."""
    return "no quantizer" if quantizer is None else str(quantizer) if is_quantizer(quantizer) else repr(quantizer)


def declared_format(quantizer: Any) -> tuple[str, Precision] | None:
    """Return the activation, ``none`` or ``relu``, and the format that a quantizer is; None if it is anything else."""
    kind = type(quantizer).__name__
    plain = not getattr(quantizer, "use_stochastic_rounding", False) and float(getattr(quantizer, "qnoise_factor", 1)) == 1
    if not is_quantizer(quantizer) or not plain:
        return None
    if kind == "quantized_bits":
        unscaled = quantizer.alpha is None or (
            not isinstance(quantizer.alpha, str) and np.all(np.asarray(quantizer.alpha) == 1)
        )
        if not unscaled or quantizer.symmetric or quantizer.bits - bool(quantizer.keep_negative) < 1:
            return None
        bits, integer = int(quantizer.bits), int(quantizer.integer)
        if quantizer.keep_negative:
            return "none", Precision(bits, integer + 1)
        return "relu", Precision(bits, integer, signed=False)
    if kind == "quantized_relu":
        clipped = quantizer.is_quantized_clip and not quantizer.use_sigmoid and not quantizer.negative_slope
        return ("relu", Precision(int(quantizer.bits), int(quantizer.integer), signed=False)) if clipped else None
    return None


def depends_on_batch(quantizer: Any) -> bool:
    """Return True if a quantizer scales by what it is given: fine for weights, not for activations."""
    return isinstance(getattr(quantizer, "alpha", None), str) or (
        type(quantizer).__name__ in ("binary", "ternary", "stochastic_binary", "stochastic_ternary") and quantizer.alpha is None
    )


def quantized_values(
    array: Any, quantizer: Any, what: str, *, refuse: bool = True
) -> tuple[NDArray[np.float32], Precision | None]:
    """Return weights as their layer computes with them, and their signed format.

    Args:
        array: Latent weights, a variable or an array.
        quantizer: The layer's quantizer for them; None if it has none.
        what: Layer and array, for messages.
        refuse: False to return None for the format of values that lie on no grid.

    Raises:
        ConversionError: If the values lie on no grid that float32 holds, or are drawn anew every time.
    """
    values = np.asarray(array, np.float32)
    if not np.isfinite(values).all():
        raise ConversionError(f"{what} holds NaN or infinity; train again, with a smaller learning rate")
    if quantizer is not None:
        rounded, again = (np.asarray(quantizer(tensorflow().constant(values)), np.float32) for _ in range(2))
        if not np.array_equal(rounded, again):
            raise ConversionError(f"{what}: {described(quantizer)} draws at random; use a quantizer that rounds")
        values = rounded
    declared = declared_format(quantizer)
    if declared is not None and declared[1].signed:
        rounded = declared[1].quantize(values).astype(np.float32)
        # QKeras computes x + (round(x) - x), which float32 can miss by its last bit.
        if np.allclose(rounded, values, rtol=1e-6, atol=declared[1].step * 1e-4):
            return rounded, declared[1]
    found = exact_format(values, signed=True)
    if found is None and refuse:
        remedy = "use alpha=1 or alpha='auto_po2'" if quantizer is not None else "give it one, as quantized_bits(8, 0, alpha=1)"
        raise ConversionError(
            f"{what} lies on no fixed-point grid, with {described(quantizer)}: {remedy}, or set float_bits=16 to round it"
        )
    return values, found


def composed(functions: tuple[Any, ...]) -> Function:
    """Return Keras functions and quantizers in a row as one function of arrays, computed by TensorFlow."""

    def compute(values: NDArray[np.float32]) -> NDArray[np.float32]:
        tensor = tensorflow().constant(values, "float32")
        for function in functions:
            tensor = function(tensor)
        return np.asarray(tensor, np.float32)

    return compute


def tabulated(function: Function, grid: Precision, what: str) -> tuple[Precision, NDArray[np.float32], Precision]:
    """Tabulate an element-wise function over a number format.

    Args:
        function: The function.
        grid: Format of its inputs.
        what: The layer, for messages.

    Returns:
        The format to round and saturate the inputs to, which changes nothing; the values for its numbers in the order of
        :meth:`Precision.grid`; their format.

    Raises:
        ConversionError: If the table is too large, or the values lie on no grid.
    """
    some = _probes(grid).astype(np.float32)
    if not np.array_equal(function(some), function(some), equal_nan=True):
        raise ConversionError(f"{what} draws at random; use a quantizer that rounds")
    index = _index(function, grid, what)
    values = function(index.grid().astype(np.float32))
    if not np.isfinite(values).all():
        raise ConversionError(f"{what} is NaN or infinite for some of its inputs, which are {grid}")
    outputs = exact_format(values)
    if outputs is None:
        raise ConversionError(
            f"{what}: its outputs lie on no fixed-point grid; use a quantizer such as quantized_bits(8, 2, alpha=1)"
        )
    return index, values, outputs


def _index(function: Function, grid: Precision, what: str) -> Precision:
    """Return a narrow format to which the inputs of a function can be rounded and saturated without a change of its values.

    All numbers of the grid are tried if they are few. If they are many, these are tried: both ends of what is rounded to each
    number, which is a proof for monotonic functions, as all quantizers are; and a selection of all.
    """
    probes = grid.grid() if grid.bits <= MAX_TABLE_BITS else _probes(grid)
    integer = _integer(function, grid, probes)
    for fractional in range(1 + grid.signed - integer, min(grid.fractional, MAX_TABLE_BITS - integer) + 1):
        index = Precision(integer + fractional, integer, grid.signed)
        if _equal(function, index, probes) and _equal(function, index, _edges(index, grid)):
            return index
    raise ConversionError(
        f"{what}: it reads {grid}, and a table for {integer + grid.fractional} bits would be too large: put a quantizer of at "
        f"most {MAX_TABLE_BITS} bits before it, as QActivation('quantized_bits(12, {max(integer - 1, 0)}, alpha=1)')"
    )


def _integer(function: Function, grid: Precision, probes: NDArray[np.float64]) -> int:
    """Return the fewest integer bits beyond which a function is constant, as far as a grid goes."""
    fewest = max(1 + grid.signed - grid.fractional, grid.integer - grid.bits + 1)
    for integer in range(fewest, grid.integer):
        if _equal(function, Precision(integer + grid.fractional, integer, grid.signed), probes):
            return integer
    return grid.integer


def _equal(function: Function, index: Precision, x: NDArray[np.float64]) -> bool:
    """Return True if a function has the same values for some numbers and for what they are rounded to."""
    return np.array_equal(function(x.astype(np.float32)), function(index.quantize(x).astype(np.float32)))


def _edges(index: Precision, grid: Precision) -> NDArray[np.float64]:
    """Return the numbers of a grid at both ends of what is rounded to each number of a coarser format."""
    half = index.step / 2
    moved = [index.grid() + shift for shift in (-half - grid.step, -half, -half + grid.step, half)]
    return np.unique(grid.quantize(np.concatenate(moved)))


def _probes(grid: Precision) -> NDArray[np.float64]:
    """Return numbers of a wide grid: every power of two with its neighbours, and as many even steps as a table has."""
    powers = np.ldexp(1.0, np.arange(-grid.fractional, grid.integer))
    steps = np.linspace(grid.minimum, grid.maximum, PROBES)
    around = np.concatenate([powers - grid.step, powers, powers + grid.step])
    numbers = np.concatenate([steps, around, -around])
    return np.unique(grid.quantize(numbers))


def power_of_two(value: float) -> bool:
    """Return True for a power of two."""
    return value > 0 and math.frexp(value)[0] == 0.5
