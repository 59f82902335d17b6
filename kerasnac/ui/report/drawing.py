"""Drawings of networks: one row per layer, as wide as its output, with formats, zeros and bit operations."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from kerasnac.core.network.architecture import Architecture, short
from kerasnac.core.network.bops import costs
from kerasnac.core.network.trained import Trained
from kerasnac.stages.results.story import LayerFacts, layers_of, nonzero_parameters
from kerasnac.ui.figures import COLORS

#: Layers beyond which a drawing is cut.
MOST_LAYERS = 120

#: Colours of groups of kinds of layers; the colour says what a layer spends: weights, tables, nothing.
_WEIGHTS, _TABLES, _NONE = COLORS["compress"], COLORS["trees"], "#8a8f98"


@dataclass(frozen=True)
class Row:
    """A layer in a drawing.

    Attributes:
        name: Of the layer.
        text: The layer in a word.
        output: Shape of its output, ``11x11x8``.
        width: Width of its box, from 0 to 1: the logarithm of the number of outputs.
        color: By what it spends.
        weight: Format of its weights and biases.
        activation: Format of its outputs.
        bits: Mean width of its weights; None without any.
        zeros: Fraction of zero weights; None without any.
        weights: Number of weights.
        bops: Bit operations; None where nothing is multiplied.
        share: Its fraction of all bit operations.
        reads: Numbers of the rows it reads, other than the one before; -1 is the input.
    """

    name: str
    text: str
    output: str
    width: float
    color: str
    weight: str
    activation: str
    bits: float | None
    zeros: float | None
    weights: int
    bops: float | None
    share: float
    reads: tuple[int, ...]


@dataclass(frozen=True)
class Drawing:
    """A network, drawn.

    Attributes:
        key: Its place on a page, and the name of its file.
        title: Name of the model, and what it is.
        input: Shape and format of the input.
        rows: The layers in order.
        note: Sums.
    """

    key: str
    title: str
    input: str
    rows: tuple[Row, ...]
    note: str


def drawing(model: Trained, what: str) -> Drawing:
    """Return the drawing of a trained network.

    Args:
        model: The network.
        what: What it is, for the title: its stage, its accuracy.
    """
    network = model.architecture
    widths = "" if network.quantized else " at 32 bits"
    left = f"{nonzero_parameters(model):,} of {network.parameters:,} parameters are not zero"
    rows, cut = _rows(network, list(layers_of(model)))
    note = f"{cut}{left}; {model.bops:,.0f} BOPs{widths}"
    return Drawing(f"network-{model.name}", f"{model.name}: {what}", _input(network), rows, note)


def untrained(network: Architecture) -> Drawing:
    """Return the drawing of a network without weights, with bit operations at 32 bits where it has no formats."""
    spent = {cost.layer: cost for cost in costs(network)}
    facts = []
    for node in network.nodes:
        weights = sum(math.prod(weight.shape) for weight in node.weights.values() if weight.prunable)
        weight, bias, activation = (str(one or "") for one in (node.layer.weight, node.layer.bias, node.layer.activation))
        cost = spent.get(node.name)
        bops = None if cost is None else cost.bops
        facts.append(
            LayerFacts(node.name, short(node.layer), node.output, weight, bias, activation, weights=weights, bops=bops)
        )
    rows, cut = _rows(network, facts)
    total = sum(cost.bops for cost in spent.values())
    note = f"{cut}{network.parameters:,} parameters; {total:,.0f} BOPs" + ("" if network.quantized else " at 32 bits")
    return Drawing(f"network-{network.id}", network.id, _input(network), rows, note)


def _input(network: Architecture) -> str:
    grid = "" if network.input is None else f", {network.input}"
    return f"input {'x'.join(map(str, network.input_shape))}{grid}"


def _rows(network: Architecture, facts: Sequence[LayerFacts]) -> tuple[tuple[Row, ...], str]:
    """Return the rows of a drawing, and a remark if it is cut."""
    total = sum(one.bops or 0.0 for one in facts) or 1.0
    widest = max((math.log2(1 + math.prod(one.output)) for one in facts), default=1.0)
    rows = []
    for number, (one, node) in enumerate(zip(facts[:MOST_LAYERS], network.nodes, strict=False)):
        formats = [one.weight, "" if one.bias in ("", one.weight) else f"bias {one.bias}"]
        rows.append(
            Row(
                one.name,
                one.text,
                "x".join(map(str, one.output)),
                math.log2(1 + math.prod(one.output)) / widest,
                _TABLES if node.layer.kind in ("tables", "lookup") else _WEIGHTS if one.weights else _NONE,
                ", ".join(filter(None, formats)),
                one.activation,
                one.weight_bits,
                one.zeros,
                one.weights,
                one.bops,
                (one.bops or 0.0) / total,
                tuple(source for source in node.inputs if source != number - 1),
            )
        )
    cut = f"{len(facts) - MOST_LAYERS} further layers are not drawn; " if len(facts) > MOST_LAYERS else ""
    return tuple(rows), cut
