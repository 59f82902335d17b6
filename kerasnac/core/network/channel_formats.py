"""Layers with a number format for every channel, as networks with learned widths have them.

A quantizer rounds half up, or down, and saturates: channel by channel, ``clip(floor(x / step + 1/2) * step)``. Rounding half
up is free on a chip, where half a step is part of the bias; rounding down needs no adder at all. Unsigned formats make a ReLU
of it. A channel without bits is zero.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from kerasnac.core.network.architecture import Architecture
from kerasnac.core.network.bops import MeanBits
from kerasnac.core.network.layers import PASSING_KINDS, LayerSpec
from kerasnac.core.network.precision import Precision
from kerasnac.core.network.weights import Weights

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


def limits_of(formats: Sequence[Precision | None]) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Return the steps, the smallest and the largest numbers of some formats; those of None are 1, 0 and 0.

    Returns:
        Three float64 arrays, one entry per format.
    """
    rows = [(1.0, 0.0, 0.0) if grid is None else (grid.step, grid.minimum, grid.maximum) for grid in formats]
    steps, low, high = np.array(rows).T
    return steps, low, high


def mean_bits(architecture: Architecture, weights: Weights) -> dict[str, MeanBits]:
    """Return the mean widths of the layers that read channels with formats of their own, by name.

    A weight has the bits from the first to the last one that is set.

    Args:
        architecture: Quantized.
        weights: Its quantized weights.
    """
    found: dict[str, MeanBits] = {}
    known: dict[int, NDArray[np.float64]] = {}  # Widths of the numbers of one sample, by node.
    for i, node in enumerate(architecture.nodes):
        incoming = known.get(node.inputs[0])
        if node.layer.kind == "quantizer":
            known[i] = np.broadcast_to(np.asarray(node.layer["channel_bits"], np.float64), node.output)
        elif incoming is not None and node.layer.kind in PASSING_KINDS:
            known[i] = incoming.reshape(node.output)
        elif incoming is not None and node.layer.kind == "pool":
            positions, size = node.shapes[0][:-1], node.layer["size"]
            count = size ** len(positions) if size else math.prod(positions)
            more = math.log2(count) if node.layer["op"] == "mean" else 0.0  # A sum has the bits of its terms, and some more.
            known[i] = np.broadcast_to(incoming.reshape(-1, incoming.shape[-1]).mean(axis=0) + more, node.output)
        elif incoming is not None and f"{node.name}/kernel" in weights and node.products is not None:
            kernel = _set_bits(weights[f"{node.name}/kernel"])
            inputs = incoming if node.layer.kind == "dense" else incoming.reshape(-1, incoming.shape[-1]).mean(axis=0)
            found[node.name] = MeanBits(float((kernel * inputs[:, None]).mean()), float(kernel.mean()), float(inputs.mean()))
    return found


def _set_bits(values: NDArray[Any]) -> NDArray[np.float64]:
    """Return the bits of numbers from the first to the last one that is set; none for zero."""
    numbers, places = np.unique(values, return_inverse=True)
    ratios = [abs(float(number)).as_integer_ratio() for number in numbers]
    bits = [(whole // (whole & -whole)).bit_length() if whole else 0 for whole, _ in ratios]
    return np.asarray(bits, np.float64)[places].reshape(values.shape)
