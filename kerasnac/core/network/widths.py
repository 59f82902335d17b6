"""Widths of weights and activations: numbers of bits, and the names of the formats of two and three values."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import Field, PlainValidator
from typing_extensions import TypedDict

from kerasnac.core.network.precision import FEW_VALUES, Precision

#: Width of a weight: bits, or the name of a format of few values.
Width = int | Literal["ternary", "binary"]


class Widths(TypedDict):
    """Widths of the kernels and activations of layers that have none of their own."""

    weight_bits: Width
    activation_bits: int


#: The width of weights that are ``-step`` or ``step``: none of them is zero, so that there is nothing to prune.
BINARY: Literal["binary"] = "binary"

#: Bits of a number of a format of few values.
_BITS = {"ternary": 2, "binary": 1}

#: Widest weight and activation of a quantized network, and widest of all where BOPs are counted.
WIDEST_QUANTIZED, WIDEST_FLOAT = 16, 32

#: Width of the input of a table whose output has one bit: fewer would move the step of the function.
TABLE_INPUT_BITS = 4

#: Width of the factors of a scale where the kernels are ternary or binary.
SCALE_BITS = 8


def bits_of(width: Width) -> int:
    """Return the bits of a number of a width: 2 of a ternary one, 1 of a binary one."""
    return _BITS[width] if isinstance(width, str) else width


def values_of(width: Width) -> int:
    """Return the number of values of a width, by which widths are ordered: ternary stands below 2 bits."""
    return {"ternary": 3, "binary": 2}[width] if isinstance(width, str) else 1 << width


def width_of(text: str) -> Width:
    """Return the width that stands in a record as a text.

    Raises:
        ValueError: If it is none.
    """
    return text if text in ("ternary", "binary") else int(text)  # type: ignore[return-value]


def weight_format(width: Width, integer: int) -> Precision:
    """Return the signed format of a width with some integer bits."""
    return FEW_VALUES[width](integer) if isinstance(width, str) else Precision(width, integer)


def _weight_width(most: int) -> Callable[[Any], Width]:
    def checked(value: Any) -> Width:
        value = value.item() if isinstance(value, np.generic) else value
        if isinstance(value, str) and value in FEW_VALUES:
            return value  # type: ignore[return-value]
        if isinstance(value, bool) or not isinstance(value, int) or not 2 <= value <= most:
            raise ValueError(f"a width of weights is ternary, binary, or a number of bits from 2 to {most}")
        return value

    return checked


#: Width of the weights of a quantized network, and the same where BOPs are counted, up to those of a float network.
WeightBits = Annotated[Width, PlainValidator(_weight_width(WIDEST_QUANTIZED))]
FloatWeightBits = Annotated[Width, PlainValidator(_weight_width(WIDEST_FLOAT))]

#: The same of activations: one bit is a step or zero, and of a function with negative values its sign.
ActivationBits = Annotated[int, Field(ge=1, le=WIDEST_QUANTIZED)]
FloatActivationBits = Annotated[int, Field(ge=1, le=WIDEST_FLOAT)]
