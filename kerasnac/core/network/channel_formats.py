"""Layers with a number format for every channel, as networks with learned widths have them.

A quantizer rounds half up, or down, and saturates: channel by channel, ``clip(floor(x / step + 1/2) * step)``. Rounding half
up is free on a chip, where half a step is part of the bias; rounding down needs no adder at all. Unsigned formats make a ReLU
of it. A channel without bits is zero.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from kerasnac.core.network.layers import LayerSpec
from kerasnac.core.network.precision import Precision

#: Ways to round: to the nearest number, ties up; or to the next one below.
RoundingMode = Literal["half_up", "down"]


def formats_of(bits: Sequence[int], integer: Sequence[int], *, signed: bool) -> tuple[Precision | None, ...]:
    """Return the format of every channel; None for one without bits.

    Args:
        bits: Total widths.
        integer: Bits left of the binary point, sign included.
        signed: False for unsigned formats, a ReLU.
    """
    return tuple(Precision(b, i, signed) if b else None for b, i in zip(bits, integer, strict=True))


def channel_formats(layer: LayerSpec) -> tuple[Precision | None, ...]:
    """Return the format of every channel of a quantizer; None for one without bits."""
    assert layer.activation is not None, "a quantizer has a format that holds those of its channels"
    return formats_of(layer["channel_bits"], layer["channel_integer"], signed=layer.activation.signed)


def quantizer(formats: Sequence[Precision | None], rounding: RoundingMode, *, signed: bool) -> LayerSpec:
    """Return the layer that rounds to some formats.

    Args:
        formats: Of every channel, all signed or all unsigned; None for one that is zero.
        rounding: How to round.
        signed: False for a ReLU.
    """
    grids = [grid for grid in formats if grid is not None]
    fewest = 1 + signed
    integer = max((grid.integer for grid in grids), default=fewest)
    fractional = max((grid.fractional for grid in grids), default=0)
    params = {
        "rounding": rounding,
        "channel_bits": tuple(0 if grid is None else grid.bits for grid in formats),
        "channel_integer": tuple(0 if grid is None else grid.integer for grid in formats),
    }
    holds_all = Precision(max(fewest, integer + fractional), max(integer, fewest - fractional), signed)
    return LayerSpec("quantizer", tuple(params.items()), activation=holds_all)


def limits_of(
    formats: Sequence[Precision | None], common: Precision
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Return the steps, the smallest and the largest numbers of some formats.

    Args:
        formats: Of every channel. One without bits has limits of zero, and the step of the common format.
        common: The format that holds those of all channels.

    Returns:
        Three float64 arrays, one entry per format.
    """
    rows = [(common.step, 0.0, 0.0) if grid is None else (grid.step, grid.minimum, grid.maximum) for grid in formats]
    steps, low, high = np.array(rows).T
    return steps, low, high
