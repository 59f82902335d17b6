"""Cells: layers of a network with what follows them and keeps their shape."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from kerasnac.core.network.activations import ACTIVATIONS
from kerasnac.core.network.architecture import Architecture, Node
from kerasnac.core.network.kinds import MATMUL, POOL
from kerasnac.core.network.layers import PREVIOUS, LayerSpec, Unsupported

_NO_MASKS = Unsupported("a mold pads channels, and has no masks of particles")

#: For every kind: its part in a cell. A norm that cannot follow the head of one is a head itself.
PARTS: Mapping[str, Literal["head", "norm", "activation"] | Unsupported] = {
    "dense": "head",
    "conv1d": "head",
    "conv2d": "head",
    "scale": "head",
    "flatten": "head",
    "reshape": "head",
    "pool": "head",
    "window": "head",
    "matmul": "head",
    "add": "head",
    "batch_norm": "norm",
    "layer_norm": "norm",
    "activation": "activation",
    "softmax": "activation",
    "concatenate": Unsupported("a mold pads channels, so that those of two layers would lie apart"),
    "mask": _NO_MASKS,
    "masked_mean": _NO_MASKS,
    "masked_softmax": _NO_MASKS,
    "lookup": Unsupported("a mold has no tables but those of activations"),
    "quantizer": Unsupported("a mold has one format for all channels"),
    "tables": Unsupported("a mold has no tables but those of activations"),
}

#: Functions that a mold computes.
FUNCTIONS = ("none", "relu", "leaky_relu", "gelu", "tanh", "sigmoid", "softmax")


class NoMold(Exception):
    """A network fits no mold; the message names the layer and the reason."""


@dataclass(frozen=True)
class Cell:
    """Layer of a network with what follows it and keeps its shape.

    Attributes:
        head: The first layer; a norm where that follows other layers, or a layer that others read too.
        norm: Its norm.
        norm_grid: The linear layer that puts the input of a quantized layer norm on a grid.
        grid: The linear layer that puts the input of a table on its grid.
        activation: The activation, or the softmax.
        reads: Which cells it reads, as offsets: -1 is the cell before it (the network's input for the first).
    """

    head: Node
    norm: Node | None = None
    norm_grid: Node | None = None
    grid: Node | None = None
    activation: Node | None = None
    reads: tuple[int, ...] = PREVIOUS

    @property
    def nodes(self) -> tuple[Node, ...]:
        """All its layers."""
        every = (self.head, self.norm_grid, self.norm, self.grid, self.activation)
        return tuple(node for node in every if node is not None)

    @property
    def any_norm(self) -> Node | None:
        """Its norm, or its head where that is one."""
        return self.head if PARTS[self.head.layer.kind] == "norm" else self.norm

    @property
    def plain_norm(self) -> LayerSpec | None:
        """Its norm without formats and bit widths."""
        return None if self.norm is None else plain_norm(self.norm.layer)

    @property
    def fn(self) -> str:
        """Name of the activation, ``none`` without one."""
        return "none" if self.activation is None else function_of(self.activation.layer)


def plain_norm(norm: LayerSpec) -> LayerSpec:
    """Return a norm without formats and bit widths."""
    return LayerSpec(norm.kind, tuple(param for param in norm.params if param[0] == "axes"))


def function_of(layer: LayerSpec) -> str:
    """Return the name of the function of an activation or a softmax."""
    return "softmax" if layer.kind == "softmax" else str(layer["fn"])


def drops(fn: str) -> bool:
    """Return True if a dropout follows a function."""
    return fn not in ("none", "softmax")


def reads_table(fn: str) -> bool:
    """Return True if a quantized function looks its values up."""
    return fn == "softmax" or ACTIVATIONS[fn].table


def cells_of(architecture: Architecture) -> list[Cell]:
    """Return the cells of a network, in order.

    Raises:
        NoMold: If its layers make no cells, or the arithmetic of a mold would not be exact for them.
    """
    cells: list[Cell] = []
    ends = {-1: -1}  # Index of the last layer of every cell -> index of the cell.
    readers = Counter(source for node in architecture.nodes for source in node.inputs)
    for i, node in enumerate(architecture.nodes):
        part = PARTS[node.layer.kind]
        if isinstance(part, Unsupported):
            raise NoMold(f"{node.name}: {part.reason}")
        _check_parameters(node)
        if not architecture.quantized and any((node.layer.weight, node.layer.bias, node.layer.activation)):
            raise NoMold(f"{node.name}: it has a number format, and the network has none")
        alone = node.layer.inputs == PREVIOUS and readers[i - 1] == 1
        if part == "head" or (part == "norm" and not (alone and cells and _takes_norm(cells[-1], node))):
            unknown = next((source for source in node.inputs if source not in ends), None)
            if unknown is not None:
                raise NoMold(
                    f"{node.name}: it reads {architecture.names[unknown]}, and a layer that follows takes its values on"
                )
            cells.append(Cell(node, reads=tuple(ends[source] - len(cells) for source in node.inputs)))
        elif node.layer.inputs != PREVIOUS:
            raise NoMold(f"{node.name}: it does not read the layer before it")
        elif not cells:
            raise NoMold(f"{node.name}: it is the first layer")
        else:
            cells[-1] = _followed(cells[-1], node)
            del ends[i - 1]
        ends[i] = len(cells) - 1
    for i, cell in enumerate(cells):
        if architecture.quantized:
            _check_formats(cell)
        _check_channels(cell, [cells[i + offset] for offset in cell.reads if i + offset >= 0])
    _check_heads(cells)
    return cells


def _check_parameters(node: Node) -> None:
    """Refuse what a mold does not compute."""
    layer = node.layer
    if layer.kind == "activation" and layer["fn"] not in FUNCTIONS:
        raise NoMold(f"{node.name}: a mold does not compute {layer['fn']}")
    if layer.kind in ("conv1d", "conv2d") and any(isinstance(layer[name], tuple) for name in ("kernel", "stride")):
        raise NoMold(f"{node.name}: the kernels of a mold have one size and stride for all axes")
    if layer.kind == "pool" and layer["size"] and POOL.stride(layer) != layer["size"]:
        raise NoMold(f"{node.name}: the windows of a mold do not overlap")


def _takes_norm(cell: Cell, node: Node) -> bool:
    """Return True if a norm is part of a cell which it follows: of a head, or of one with the grid of a layer norm."""
    on_grid = node.layer.kind == "layer_norm" and cell.activation is not None and cell.fn == "none"
    return len(cell.nodes) == 1 or (len(cell.nodes) == 2 and on_grid)


def _followed(cell: Cell, node: Node) -> Cell:
    """Return a cell with one layer more, which follows it."""
    part = PARTS[node.layer.kind]
    if part == "norm":
        return replace(cell, norm=node, norm_grid=cell.activation, activation=None)
    if part == "activation" and cell.activation is None:
        return replace(cell, activation=node)
    if part == "activation" and cell.grid is None and cell.fn == "none" and reads_table(function_of(node.layer)):
        return replace(cell, grid=cell.activation, activation=node)
    raise NoMold(f"{node.name}: it follows {cell.nodes[-1].name}")


def _check_formats(cell: Cell) -> None:
    """Refuse an activation or a norm whose formats are none that quantization gives."""
    norm = cell.any_norm
    if norm is not None and (norm.layer.kind != "layer_norm" or norm.layer.activation is None):
        raise NoMold(f"{norm.name}: it has no formats, and the network has some")
    if cell.norm_grid is not None and cell.norm_grid.layer.activation is None:
        raise NoMold(f"{cell.norm_grid.name}: it has no format")
    if cell.activation is None:
        return
    fn, out = cell.fn, cell.activation.layer.activation
    if cell.activation.layer.signs and ACTIVATIONS[fn].signed:
        return
    if reads_table(fn):
        if out is None or cell.grid is None or cell.grid.layer.activation is None:
            raise NoMold(f"{cell.activation.name}: a table needs a format, and a linear layer with one before it")
    elif fn != "none" if out is None else out.signed != ACTIVATIONS[fn].signed:
        raise NoMold(f"{cell.activation.name}: its format is {out}")


def _check_channels(cell: Cell, sources: Sequence[Cell]) -> None:
    """Refuse what padded channels would disturb: in a mold, the last axis has zeros behind the values of the network."""
    head = cell.head
    if head.layer.kind == "reshape" and (
        min(len(head.output), len(head.shapes[0])) < 2 or head.output[-1] != head.shapes[0][-1]
    ):
        raise NoMold(f"{head.name}: it moves channels, which a mold pads")
    if head.layer.kind == "matmul" and not head.layer["transpose"] and not (sources and _has_scores(sources[0])):
        raise NoMold(f"{head.name}: it multiplies channels by positions, and a mold pads channels")
    verbs = {"add": "adds", "scale": "scales", "batch_norm": "scales", "layer_norm": "normalises"}
    if head.layer.kind in verbs and any(source.head.layer.kind == "flatten" for source in sources):
        raise NoMold(f"{head.name}: it {verbs[head.layer.kind]} a flattened map, whose values lie apart in a mold")
    if cell.fn == "softmax" and not _has_scores(cell):
        raise NoMold(f"{cell.nodes[-1].name}: it normalises over channels, which a mold pads")


def _check_heads(cells: Sequence[Cell]) -> None:
    """Refuse what padded heads would disturb: in a mold, scores have heads behind those of the network."""
    for i, cell in enumerate(cells):
        if not _has_scores(cell):
            continue
        if cell.norm is not None:
            raise NoMold(f"{cell.norm.name}: it normalises scores, and a mold pads their heads")
        readers = [other for j, other in enumerate(cells) if i - j in other.reads]
        attends = readers and all(reader.head.layer.kind == "matmul" for reader in readers)
        if MATMUL.heads(cell.head.layer) > 1 and not attends:
            raise NoMold(f"{cell.head.name}: no attention reads its heads, and a mold pads them")


def _has_scores(cell: Cell) -> bool:
    """Return True if the last axis of a cell are positions."""
    return cell.head.layer.kind == "matmul" and bool(cell.head.layer["transpose"])


def table_bits(cells: Iterable[Cell]) -> int:
    """Return the width of the input of the widest table of an activation; 0 for none."""
    grids = (cell.grid.layer.activation for cell in cells if cell.grid is not None)
    return max((grid.fixed.bits for grid in grids if grid is not None), default=0)
