"""Molds: the common form of networks that one compiled training serves."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from itertools import groupby
from typing import Any, Literal, TypeVar

from kerasnac.core.network.activations import ACTIVATIONS
from kerasnac.core.network.architecture import COMPRESSION_PARAMS, Architecture, Node
from kerasnac.core.network.layers import PREVIOUS, LayerSpec, Shape, Unsupported, Weight, kind_of

Item = TypeVar("Item")

#: For every kind: its part in a cell.
PARTS: Mapping[str, Literal["head", "norm", "activation"] | Unsupported] = {
    "dense": "head",
    "conv1d": "head",
    "conv2d": "head",
    "flatten": "head",
    "reshape": Unsupported("a mold cannot reshape padded channels"),
    "pool": "head",
    "window": "head",
    "batch_norm": "norm",
    "layer_norm": "norm",
    "activation": "activation",
    "softmax": Unsupported("a mold has no softmax"),
    "concatenate": Unsupported("a mold is a chain, and it reads two layers"),
    "lookup": Unsupported("a mold has no tables but those of activations"),
    "matmul": Unsupported("a mold is a chain, and it reads two layers"),
    "add": Unsupported("a mold is a chain, and it reads two layers"),
}

#: Parameter with the number of units, by kind of head.
_UNITS = {"dense": "units", "conv1d": "filters", "conv2d": "filters"}


class NoMold(Exception):
    """A network fits no mold; the message names the layer and the reason."""


@dataclass(frozen=True)
class Cell:
    """Layer of a network with what follows it and keeps its shape.

    Attributes:
        head: The first layer.
        norm: Its norm.
        grid: The linear layer that puts the input of a table on its grid.
        activation: The activation.
    """

    head: Node
    norm: Node | None = None
    grid: Node | None = None
    activation: Node | None = None

    @property
    def nodes(self) -> tuple[Node, ...]:
        """All its layers."""
        return tuple(node for node in (self.head, self.norm, self.grid, self.activation) if node is not None)

    @property
    def fn(self) -> str:
        """Name of the activation, ``none`` without one."""
        return "none" if self.activation is None else self.activation.layer["fn"]


@dataclass(frozen=True)
class MoldCell:
    """Place for cells.

    Attributes:
        head: The head with the largest number of units of all members.
        optional: True if members may lack the cell: their values pass on unchanged.
        norms: The norms that members have.
        functions: Names of the activations that members have, ``none`` for a cell without.
    """

    head: LayerSpec
    optional: bool
    norms: tuple[LayerSpec, ...]
    functions: tuple[str, ...]

    @property
    def units(self) -> int:
        """Number of units; 0 for a head without weights."""
        return _units(self.head)

    @property
    def label(self) -> LayerSpec:
        """What the heads of all members have in common."""
        return _label(self.head)

    def widened(self, channels: int) -> MoldCell:
        """Return a cell that has at least so many units, so that it can pass on values as they are."""
        return self if self.units >= channels else replace(self, head=_with_units(self.head, channels))

    def holds(self, cell: Cell) -> bool:
        """Return True if a cell fits."""
        fits = _label(cell.head.layer) == self.label and _units(cell.head.layer) <= self.units and cell.fn in self.functions
        return fits and (cell.norm is None or cell.norm.layer in self.norms)

    def merged(self, other: MoldCell) -> MoldCell:
        """Return a place for the cells of both."""
        return MoldCell(
            max(self.head, other.head, key=_units),
            self.optional or other.optional,
            tuple(sorted({*self.norms, *other.norms}, key=str)),
            tuple(sorted({*self.functions, *other.functions})),
        )


@dataclass(frozen=True)
class Mold:
    """Form in which networks are trained by one compiled function.

    Members differ in units, depth, norms, activations, number formats and pruning. Units are padded to the largest, and
    cells that a member lacks are passed by.

    Attributes:
        input_shape: Shape of one sample.
        cells: The cells in order.
        quantized: True for networks with number formats.
    """

    input_shape: Shape
    cells: tuple[MoldCell, ...]
    quantized: bool

    @property
    def quantized_form(self) -> Mold:
        """Form of the same networks with number formats, which have no norms: they are folded before."""
        return replace(self, cells=tuple(replace(cell, norms=()) for cell in self.cells), quantized=True)

    def capped(self, units: int) -> Mold:
        """Return the form of those of its networks that have no layer with more units."""
        return replace(
            self, cells=tuple(replace(cell, head=_with_units(cell.head, min(cell.units, units))) for cell in self.cells)
        )

    @cached_property
    def runs(self) -> list[tuple[LayerSpec, list[MoldCell]]]:
        """The cells in runs of one label."""
        return _runs(self.cells, lambda cell: cell.label)

    def place(self, architecture: Architecture) -> dict[int, Cell] | None:
        """Return the cells of a network by the index of their places; None if it does not fit."""
        if (self.input_shape, self.quantized) != (architecture.input_shape, architecture.quantized):
            return None
        try:
            runs = _runs(cells_of(architecture), lambda cell: _label(cell.head.layer))
        except NoMold:
            return None
        if _pattern(runs) != _pattern(self.runs):
            return None
        placed: dict[int, Cell] = {}
        first = 0
        for (_, cells), (_, free) in zip(runs, self.runs, strict=True):
            last = first + len(free) - 1
            # The last cell of a run has the last place: an output layer is an output layer at any depth.
            placed |= dict(zip(range(first, last), cells[:-1], strict=False)) | {last: cells[-1]}
            if len(cells) > len(free):
                return None
            first = last + 1
        held = all(self.cells[i].holds(cell) for i, cell in placed.items())
        complete = all(cell.optional for i, cell in enumerate(self.cells) if i not in placed)
        return placed if held and complete else None


@dataclass(frozen=True)
class Place:
    """Cell of a mold in its place.

    Attributes:
        cell: The cell.
        shape: Padded shape of its input.
    """

    cell: MoldCell
    shape: Shape

    @cached_property
    def output(self) -> Shape:
        """Padded shape of the output."""
        return kind_of(self.cell.head).output_shape(self.cell.head, self.shape)

    @cached_property
    def weights(self) -> dict[str, Weight]:
        """Parts and padded shapes of the weight arrays."""
        found = dict(kind_of(self.cell.head).weights(self.cell.head, self.shape))
        for i, norm in enumerate(self.cell.norms):
            found |= {f"norm_{i}/{part}": w for part, w in kind_of(norm).weights(norm, self.output).items()}
        return found

    @property
    def macs(self) -> int:
        """Multiply-accumulates of its head."""
        products = kind_of(self.cell.head).products(self.cell.head, self.shape)
        return 0 if products is None else products.macs


def places(mold: Mold) -> tuple[Place, ...]:
    """Return the cells of a mold with the shapes of what they read."""
    found: list[Place] = []
    shape = mold.input_shape
    for cell in mold.cells:
        found.append(Place(cell.widened(shape[-1]) if cell.optional else cell, shape))
        shape = found[-1].output
    return tuple(found)


def macs(mold: Mold, architecture: Architecture | None = None) -> int:
    """Return the multiply-accumulates of a sample in a mold: of one network that it holds, padded, or with all its cells."""
    placed = None if architecture is None else mold.place(architecture)
    return sum(place.macs for i, place in enumerate(places(mold)) if placed is None or i in placed)


def cells_of(architecture: Architecture) -> list[Cell]:
    """Return the cells of a network, in order.

    Raises:
        NoMold: If it is no chain of cells.
    """
    cells: list[Cell] = []
    for node in architecture.nodes:
        part = PARTS[node.layer.kind]
        if isinstance(part, Unsupported):
            raise NoMold(f"{node.name}: {part.reason}")
        if not architecture.quantized and any((node.layer.weight, node.layer.bias, node.layer.activation)):
            raise NoMold(f"{node.name}: it has a number format, and the network has none")
        if node.layer.inputs != PREVIOUS:
            raise NoMold(f"{node.name}: it does not read the layer before it, and a mold is a chain")
        if part == "head":
            cells.append(Cell(node))
            continue
        if not cells:
            raise NoMold(f"{node.name}: it is the first layer")
        cell = cells[-1]
        if part == "norm" and len(cell.nodes) == 1:
            cells[-1] = replace(cell, norm=node)
        elif part == "activation" and cell.activation is None:
            cells[-1] = replace(cell, activation=node)
        elif part == "activation" and cell.grid is None and cell.fn == "none" and ACTIVATIONS[node.layer["fn"]].table:
            cells[-1] = replace(cell, grid=cell.activation, activation=node)
        else:
            raise NoMold(f"{node.name}: it follows {cell.nodes[-1].name}")
    if architecture.quantized:
        for cell in cells:
            _check_formats(cell)
    return cells


def _check_formats(cell: Cell) -> None:
    """Refuse an activation whose formats are none that quantization gives."""
    if cell.activation is None:
        return
    fn, out = ACTIVATIONS[cell.fn], cell.activation.layer.activation
    if fn.table and (out is None or cell.grid is None or cell.grid.layer.activation is None):
        raise NoMold(f"{cell.activation.name}: a table needs a format, and a linear layer with one before it")
    if not fn.table and (cell.fn != "none" if out is None else out.signed != fn.signed):
        raise NoMold(f"{cell.activation.name}: its format is {out}")


def molds(architectures: Iterable[Architecture]) -> tuple[Mold, ...]:
    """Return the smallest molds that hold some networks; those that fit none are left out.

    Networks share a mold if their heads are alike and in the same order. There may be more or fewer of them in a row, if they
    leave the shape of a map as it is.
    """
    merged: dict[Any, Mold] = {}
    for architecture in architectures:
        try:
            own = _own(architecture)
        except NoMold:
            continue
        key = (own.input_shape, own.quantized, tuple(_pattern(own.runs)))
        merged[key] = _merged(merged.get(key, own), own)
    return tuple(merged.values())


def fitting(molds: Iterable[Mold], architecture: Architecture) -> Mold | None:
    """Return the first of some molds of float networks that holds a network, in the form for it; None if none does."""
    forms = (mold.quantized_form if architecture.quantized else mold for mold in molds)
    return next((form for form in forms if form.place(architecture) is not None), None)


def _own(architecture: Architecture) -> Mold:
    cells = cells_of(architecture)
    own = tuple(
        MoldCell(_shape_only(cell.head.layer), False, () if cell.norm is None else (cell.norm.layer,), (cell.fn,))
        for cell in cells
    )
    return Mold(architecture.input_shape, own, architecture.quantized)


def _merged(a: Mold, b: Mold) -> Mold:
    cells: list[MoldCell] = []
    for (_, run), (_, other) in zip(a.runs, b.runs, strict=True):
        short, long = sorted((run, other), key=len)
        cells += [one.merged(two) for one, two in zip(short[:-1], long, strict=False)]
        cells += [replace(cell, optional=True) for cell in long[len(short) - 1 : -1]]
        cells.append(short[-1].merged(long[-1]))
    return replace(a, cells=tuple(cells))


def _runs(items: Sequence[Item], label: Callable[[Item], LayerSpec]) -> list[tuple[LayerSpec, list[Item]]]:
    return [(shared, list(run)) for shared, run in groupby(items, label)]


def _pattern(runs: Iterable[tuple[LayerSpec, Sequence[Any]]]) -> list[tuple[LayerSpec, int]]:
    """Return what the runs of networks have in common that share a mold: the heads, and how many where the number matters."""
    return [(label, 0 if _keeps_shape(label) else len(cells)) for label, cells in runs]


def _keeps_shape(head: LayerSpec) -> bool:
    """Return True if a head changes nothing but the number of channels, so that a network may lack it."""
    if head.kind in ("conv1d", "conv2d"):
        return bool(head["stride"] == 1 and (head["kernel"] == 1 or head["padding"] == "same"))
    return head.kind == "dense"


def _shape_only(head: LayerSpec) -> LayerSpec:
    return LayerSpec(head.kind, tuple(p for p in head.params if p[0] not in COMPRESSION_PARAMS))


@lru_cache(maxsize=4096)
def _label(head: LayerSpec) -> LayerSpec:
    return _with_units(_shape_only(head), 1)


def _with_units(head: LayerSpec, units: int) -> LayerSpec:
    return LayerSpec(head.kind, tuple((name, units if name == _UNITS.get(head.kind) else value) for name, value in head.params))


def _units(head: LayerSpec) -> int:
    return int(head[_UNITS[head.kind]]) if head.kind in _UNITS else 0


def table_bits(cells: Iterable[Cell]) -> int:
    """Return the width of the input of the widest table of an activation; 0 for none."""
    grids = (cell.grid.layer.activation for cell in cells if cell.grid is not None)
    return max((grid.bits for grid in grids if grid is not None), default=0)
