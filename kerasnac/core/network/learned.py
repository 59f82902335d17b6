"""Networks whose weights and channels have learned widths: what is learned, and the network with formats that it becomes.

Every weight has a number of fractional bits of its own, and so has every channel of what a kernel reads; see
:mod:`kerasnac.adapters.keras.learned` for how they are learned. A weight that rounds to zero is pruned, a channel without
bits is zero. Integer bits follow from the values: those of weights from the weights, those of channels from the numbers that
they take on the training samples.

A kernel keeps one format, which holds all its weights: a weight of few bits is a number of that format whose last bits are
zero, and costs an adder graph no more than its own bits. Channels have formats one by one, in a layer ``quantizer``.

Learned tables have a width for each table in the place of each weight: that of its entries, without what they have in common.
A table of no bits is constant, and pruned. They keep their grid: a channel of fewer bits, or of a smaller range, reads some of
the entries, and the others repeat these.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kerasnac.core.network.architecture import Architecture, Node
from kerasnac.core.network.bops import MeanBits
from kerasnac.core.network.channel_formats import RoundingMode, quantizer
from kerasnac.core.network.exactness import KERNEL_KINDS, averaged, narrowest
from kerasnac.core.network.kinds import TABLES
from kerasnac.core.network.layers import PASSING_KINDS, LayerSpec
from kerasnac.core.network.means import needs_reciprocal
from kerasnac.core.network.precision import Precision
from kerasnac.core.network.weights import Weights
from kerasnac.errors import ConversionError

#: Kinds that are part of a network whose widths are learned.
LEARNED_KINDS = (*KERNEL_KINDS, "tables", *PASSING_KINDS, "activation", "pool", "add", "concatenate", "window")

#: Functions of activations that formats alone can compute.
LEARNED_FUNCTIONS = ("none", "relu")

#: Widest channel: further fractional bits are cut off.
WIDEST_LEARNED = 16

_LINEAR, _RELU = LayerSpec.of("activation", fn="none"), LayerSpec.of("activation", fn="relu")


def check_learnable(architecture: Architecture) -> None:
    """Check that widths can be learned for all layers of a network.

    Args:
        architecture: Float. Batch norms are passed over: they are folded, or refused as the scales that they become.

    Raises:
        ConversionError: If they cannot; names the layer, and the remedy.
    """
    for node in architecture.nodes:
        name, layer = node.name, node.layer
        if layer.kind not in (*LEARNED_KINDS, "batch_norm"):
            raise ConversionError(f"{name}: widths are not learned for layers of kind {layer.kind}; use another schedule")
        if layer.kind == "activation" and layer["fn"] not in LEARNED_FUNCTIONS:
            raise ConversionError(
                f"{name}: widths are learned behind {' and '.join(LEARNED_FUNCTIONS)} alone, not behind {layer['fn']}; "
                "use relu, or another schedule"
            )
        if layer.kind == "pool" and layer["op"] == "mean" and needs_reciprocal(count := averaged(layer, node.shapes[0])):
            raise ConversionError(
                f"{name}: widths are not learned behind means of {count} values, no power of two; use op: max, another size, "
                "or another schedule"
            )


def with_places(architecture: Architecture) -> Architecture:
    """Return a float network that has an activation wherever widths are learned: before every kernel, and all learned tables.

    Args:
        architecture: Float, batch norms folded.

    Raises:
        ConversionError: If widths cannot be learned for a layer; names it, and the remedy.
    """
    check_learnable(architecture)

    def before(node: Node) -> tuple[LayerSpec, ...]:
        if node.layer.kind == "tables":
            source = _source(architecture, node, PASSING_KINDS)
            signed = TABLES.grid(node.layer).signed
            ready = source is not None and (signed or source.layer["fn"] == "relu")
            return (node.layer,) if ready else (_LINEAR if signed else _RELU, node.layer)
        places = node.layer.kind in KERNEL_KINDS and _source(architecture, node, (*PASSING_KINDS, "pool")) is None
        return (_LINEAR, node.layer) if places else (node.layer,)

    return architecture.rewritten(before)


def _source(architecture: Architecture, node: Node, passing: Collection[str]) -> Node | None:
    """Return the activation that a layer reads, directly or through layers of some kinds; None if there is none."""
    source = node.inputs[0]
    while source >= 0 and architecture.nodes[source].layer.kind in passing:
        source = architecture.nodes[source].inputs[0]
    found = architecture.nodes[source] if source >= 0 else None
    return found if found is not None and found.layer.kind == "activation" else None


def place_of(architecture: Architecture, node: Node) -> Node:
    """Return the activation whose channels learned tables read, in a network of :func:`with_places`."""
    found = _source(architecture, node, PASSING_KINDS)
    assert found is not None, f"{node.name}: with_places puts an activation before it"
    return found


def read_by_tables(architecture: Architecture, place: Node) -> Precision | None:
    """Return the format that holds all numbers of an activation that learned tables read, None if none do.

    It is that of their grid, or of those numbers that the grids of all of them have.
    """
    nodes = [node for node in architecture.nodes if node.layer.kind == "tables"]
    grids = [TABLES.grid(node.layer) for node in nodes if _source(architecture, node, PASSING_KINDS) == place]
    if not grids:
        return None
    signed = place.layer["fn"] == "none"
    integer = min(grid.integer - grid.signed for grid in grids) + signed  # Left of the point, of the numbers alone.
    return Precision(integer + min(grid.fractional for grid in grids), integer, signed)


def rounding_of(architecture: Architecture, node: Node) -> RoundingMode:
    """Return how an activation rounds: down where it reads the input, since that takes no adder, else half up.

    Half a step is part of the bias of the kernel before.
    """
    origin = architecture.origin(node.inputs[0])
    return "down" if origin < 0 or architecture.nodes[origin].layer.kind == "window" else "half_up"


def entry_bits(tables: NDArray[Any]) -> NDArray[np.float64]:
    """Return the bits of the entries of learned tables, without what those of one table have in common; none for a constant.

    Args:
        tables: Exact entries, shape (numbers, inputs, units).

    Returns:
        Shape (inputs, units).
    """
    above = tables.astype(np.float64) - tables.min(axis=0)
    last = np.array([[_fractional(column) for column in row] for row in above.transpose(1, 2, 0)])
    return np.asarray([int(x).bit_length() for x in np.ldexp(above.max(axis=0), last).ravel()], np.float64).reshape(last.shape)


def to_grid(values: NDArray[np.float32], fractional: NDArray[np.float32]) -> NDArray[np.float64]:
    """Round numbers half up, each to its own number of fractional bits.

    Args:
        values: Of any shape.
        fractional: Learned fractional bits, of the same shape; they are rounded themselves.
    """
    steps = np.exp2(-np.round(np.asarray(fractional, np.float64)))
    return np.asarray(np.floor(np.asarray(values, np.float64) / steps + 0.5) * steps)


def exact_format(values: NDArray[np.float64]) -> Precision:
    """Return the narrowest signed format that holds some numbers exactly."""
    return narrowest(min(0.0, values.min()), max(0.0, values.max()), _fractional(values))


def _fractional(values: NDArray[np.float64]) -> int:
    """Return the least number of fractional bits that some numbers need; 0 if all are zero."""
    return max((_fractional_bits(value) for value in np.unique(values[values != 0])), default=0)


def _fractional_bits(value: float) -> int:
    """Return the least number of fractional bits, negative for multiples of two, of a number other than zero."""
    numerator, denominator = float(value).as_integer_ratio()
    return denominator.bit_length() - 1 if denominator > 1 else 1 - (numerator & -numerator).bit_length()


def channel_format(fractional: float, low: float, high: float, *, signed: bool) -> Precision | None:
    """Return the format of a channel; None if it is zero.

    Args:
        fractional: Learned fractional bits.
        low: Smallest number that it takes, rounded.
        high: Largest one.
        signed: False behind a ReLU.
    """
    last = round(float(fractional))
    bottom, top = (round(math.ldexp(float(bound), last)) for bound in (low, high))
    if bottom >= 0 >= top:
        return None
    whole = max(top.bit_length() if top > 0 else 0, (-bottom - 1).bit_length() if bottom < 0 else 0)
    bits = min(max(whole, 1 - signed) + signed, WIDEST_LEARNED)
    return Precision(max(bits, 1 + signed), max(whole, 1) + signed - last, signed)


def with_formats(
    network: Architecture,
    values: Weights,
    ranges: Mapping[str, tuple[NDArray[np.float32], NDArray[np.float32]]],
    *,
    input_grid: Precision,
) -> tuple[Architecture, dict[str, NDArray[np.float32]]]:
    """Return the quantized network that some learned values are, and its weights.

    Args:
        network: Of :func:`with_places`.
        values: Arrays keyed ``layer/part``: of kernels ``kernel``, ``bias`` and, of the same shapes, ``kernel_bits`` and
            ``bias_bits``, their fractional bits; of activations ``bits``, those of every channel. Of learned tables
            likewise, but one number of fractional bits for each; ``kernel`` has the same entry for all numbers that a channel
            rounds to one, and ``bias`` belongs to the sum of the tables of a unit.
        ranges: Smallest and largest rounded number of every channel on the training samples, by the name of the activation.
        input_grid: Format of the network's input.
    """
    weights: dict[str, NDArray[np.float32]] = {}
    formats: dict[str, LayerSpec] = {}
    for node in network.nodes:
        name, layer = node.name, node.layer
        if layer.kind == "activation":
            formats[name] = _rounding_layer(network, node, values[f"{name}/bits"], ranges[name])
        elif f"{name}/kernel" in values:
            parts = {part: to_grid(values[f"{name}/{part}"], values[f"{name}/{part}_bits"]) for part in ("kernel", "bias")}
            if layer.kind == "tables":
                parts["kernel"][:, 0] += parts.pop("bias")  # A constant is as good in one table as in another.
            grids = {part: exact_format(array) for part, array in parts.items()}
            params = tuple(param for param in layer.params if param[0] not in ("weight_bits", "sparsity"))
            formats[name] = replace(layer, params=params, weight=grids["kernel"], bias=grids.get("bias"))
            weights |= {f"{name}/{part}": array.astype(np.float32) for part, array in parts.items()}
    return network.rewritten(lambda node: (formats.get(node.name, node.layer),), input=input_grid), weights


def _rounding_layer(
    network: Architecture, node: Node, bits: NDArray[np.float32], ends: tuple[NDArray[np.float32], NDArray[np.float32]]
) -> LayerSpec:
    """Return the quantizer that an activation becomes.

    Args:
        network: Of :func:`with_places`.
        node: The activation.
        bits: Fractional bits of every channel.
        ends: Smallest and largest number of every channel.
    """
    signed, holds = node.layer["fn"] == "none", read_by_tables(network, node)
    bits = bits if holds is None else np.minimum(bits, holds.fractional)
    grids = [channel_format(*channel, signed=signed) for channel in zip(bits, *ends, strict=True)]
    made = quantizer(grids, rounding_of(network, node), signed=signed)
    return made if holds is None else replace(made, activation=holds)


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
            count = averaged(node.layer, node.shapes[0])
            more = math.log2(count) if node.layer["op"] == "mean" else 0.0  # A sum has the bits of its terms, and some more.
            known[i] = np.broadcast_to(incoming.reshape(-1, incoming.shape[-1]).mean(axis=0) + more, node.output)
        elif incoming is not None and node.layer.kind == "tables":
            widths = entry_bits(weights[f"{node.name}/kernel"])
            mean = float(widths.sum() / max(1, np.count_nonzero(widths)))
            found[node.name] = MeanBits(float(widths.mean()), mean, float(incoming.mean()))
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
