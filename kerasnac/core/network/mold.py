"""Molds: the common form of networks that one compiled training serves."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from itertools import accumulate, groupby
from typing import Any, Generic, TypeVar

from kerasnac.core.network.architecture import COMPRESSION_PARAMS, Architecture
from kerasnac.core.network.cells import PARTS, Cell, NoMold, cells_of, drops, plain_norm
from kerasnac.core.network.kinds import MATMUL, Shape, Weight
from kerasnac.core.network.layers import PREVIOUS, LayerSpec, kind_of

#: Parameter with the number of units, by kind of head.
_UNITS = {"dense": "units", "conv1d": "filters", "conv2d": "filters"}

#: What segments of networks have in common that may take the same place: heads, and what they read.
Label = tuple[tuple[LayerSpec, tuple[int, ...]], ...]


@dataclass(frozen=True)
class MoldCell:
    """Place for cells.

    Attributes:
        head: The head with the largest number of units of all members.
        optional: True if members may lack the cell: their values pass on unchanged.
        norms: The norms that members have.
        functions: Names of the activations that members have, ``none`` for a cell without.
        reads: Which cells it reads, as offsets.
    """

    head: LayerSpec
    optional: bool
    norms: tuple[LayerSpec, ...]
    functions: tuple[str, ...]
    reads: tuple[int, ...] = PREVIOUS

    @property
    def units(self) -> int:
        """Number of units, or of the heads of a product; 0 for a head that has neither."""
        return _units(self.head)

    @property
    def drops(self) -> bool:
        """True if its values may be subject to dropout."""
        return any(map(drops, self.functions))

    @property
    def aligns(self) -> bool:
        """True if it compares the channels of its inputs, so that those with fewer of them need padding."""
        return self.head.kind == "add" or (self.head.kind == "matmul" and bool(self.head["transpose"]))

    @property
    def normalises(self) -> bool:
        """True if it has norms, or is one."""
        return bool(self.norms) or PARTS[self.head.kind] == "norm"

    def widened(self, channels: int) -> MoldCell:
        """Return a cell that has at least so many units, so that it can pass on values as they are."""
        return self if self.units >= channels else replace(self, head=_with_units(self.head, channels))

    def holds(self, cell: Cell) -> bool:
        """Return True if a cell with a head of the same label fits."""
        fits = _units(cell.head.layer) <= self.units and cell.fn in self.functions
        return fits and (cell.norm is None or cell.plain_norm in self.norms)

    def merged(self, other: MoldCell) -> MoldCell:
        """Return a place for the cells of both."""
        return MoldCell(
            max(self.head, other.head, key=_units),
            self.optional or other.optional,
            tuple(sorted({*self.norms, *other.norms}, key=str)),
            tuple(sorted({*self.functions, *other.functions})),
            self.reads,
        )


@dataclass(frozen=True)
class Mold:
    """Form in which networks are trained by one compiled function.

    It is a chain of segments: single cells, and cells between which values also take other ways, as in a residual or an
    attention. Members differ in units, depth, norms, activations, number formats and pruning. Units are padded to the
    largest, and cells that a member lacks are passed by.

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
        """Form of the same networks with number formats, which have no batch norms: they are folded before, or are scales."""

        def quantized(cell: MoldCell) -> MoldCell:
            head = LayerSpec.of("scale") if cell.head.kind == "batch_norm" else cell.head
            return replace(cell, head=head, norms=tuple(norm for norm in cell.norms if norm.kind != "batch_norm"))

        cells = map(quantized, self.cells)
        return replace(self, cells=tuple(cells), quantized=True)

    def capped(self, units: int) -> Mold:
        """Return the form of those of its networks that have no layer with more units."""
        return replace(
            self, cells=tuple(replace(cell, head=_with_units(cell.head, min(cell.units, units))) for cell in self.cells)
        )

    @cached_property
    def runs(self) -> list[_Run[MoldCell]]:
        """The segments in runs of one label."""
        return _runs(self.cells)

    def place(self, architecture: Architecture) -> dict[int, Cell] | None:
        """Return the cells of a network by the index of their places; None if it does not fit."""
        if (self.input_shape, self.quantized) != (architecture.input_shape, architecture.quantized):
            return None
        try:
            runs = _runs(cells_of(architecture))
        except NoMold:
            return None
        if _pattern(runs) != _pattern(self.runs):
            return None
        placed: dict[int, Cell] = {}
        first = 0
        for run, free in zip(runs, self.runs, strict=True):
            if len(run.segments) > len(free.segments):
                return None
            # The last segment of a run has the last place: an output layer is an output layer at any depth.
            at = [*range(len(run.segments) - 1), len(free.segments) - 1]
            size = len(run.label)
            for i, segment in zip(at, run.segments, strict=True):
                placed |= dict(enumerate(segment, first + i * size))
            first += size * len(free.segments)
        held = all(self.cells[i].holds(cell) for i, cell in placed.items())
        complete = all(cell.optional for i, cell in enumerate(self.cells) if i not in placed)
        return placed if held and complete else None


@dataclass(frozen=True)
class Place:
    """Cell of a mold in its place.

    Attributes:
        cell: The cell.
        shapes: Padded shapes of its inputs, with equally many channels where it compares them.
    """

    cell: MoldCell
    shapes: tuple[Shape, ...]

    @property
    def shape(self) -> Shape:
        """Padded shape of its first input."""
        return self.shapes[0]

    @cached_property
    def output(self) -> Shape:
        """Padded shape of the output."""
        return kind_of(self.cell.head).output_shape(self.cell.head, *self.shapes)

    @cached_property
    def weights(self) -> dict[str, Weight]:
        """Parts and padded shapes of the weight arrays."""
        found = dict(kind_of(self.cell.head).weights(self.cell.head, *self.shapes))
        for i, norm in enumerate(self.cell.norms):
            found |= {f"norm_{i}/{part}": w for part, w in kind_of(norm).weights(norm, self.output).items()}
        return found

    @property
    def macs(self) -> int:
        """Multiply-accumulates of its head."""
        products = kind_of(self.cell.head).products(self.cell.head, *self.shapes)
        return 0 if products is None else products.macs


def places(mold: Mold) -> tuple[Place, ...]:
    """Return the cells of a mold with the shapes of what they read."""
    found: list[Place] = []
    for i, cell in enumerate(mold.cells):
        shapes = [found[i + offset].output if i + offset >= 0 else mold.input_shape for offset in cell.reads]
        channels = max(shape[-1] for shape in shapes)
        if cell.head.kind == "matmul":
            most = channels if cell.aligns else shapes[-1][-1]
            channels = -(-most // cell.units) * cell.units  # As many for every head.
            shapes[-1] = (*shapes[-1][:-1], channels)
        if cell.aligns:
            shapes = [(*shape[:-1], channels) for shape in shapes]
        if cell.head.kind == "reshape":
            cell = replace(cell, head=_with_units(cell.head, channels))
        elif cell.optional:
            cell = cell.widened(channels)
        found.append(Place(cell, tuple(shapes)))
    return tuple(found)


def macs(mold: Mold, architecture: Architecture | None = None) -> int:
    """Return the multiply-accumulates of a sample in a mold: of one network that it holds, padded, or with all its cells."""
    placed = None if architecture is None else mold.place(architecture)
    return sum(place.macs for i, place in enumerate(places(mold)) if placed is None or i in placed)


def molds(architectures: Iterable[Architecture]) -> tuple[Mold, ...]:
    """Return the smallest molds that hold some networks; those that fit none are left out.

    Networks share a mold if their segments are alike and in the same order. There may be more or fewer of them in a row, if
    they leave the shape of a map as it is.
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
    norms = [() if cell.plain_norm is None else (cell.plain_norm,) for cell in cells]
    own = tuple(
        MoldCell(_shape_only(cell.head.layer), False, norm, (cell.fn,), cell.reads)
        for cell, norm in zip(cells, norms, strict=True)
    )
    return Mold(architecture.input_shape, own, architecture.quantized)


def _merged(a: Mold, b: Mold) -> Mold:
    cells: list[MoldCell] = []
    for run, other in zip(a.runs, b.runs, strict=True):
        short, long = sorted((run.segments, other.segments), key=len)
        extra = [[replace(cell, optional=True) for cell in segment] for segment in long[len(short) - 1 : -1]]
        filled = [*short[:-1], *extra, short[-1]]
        cells += [
            one.merged(two) for mine, theirs in zip(filled, long, strict=True) for one, two in zip(mine, theirs, strict=True)
        ]
    return replace(a, cells=tuple(cells))


Item = TypeVar("Item", Cell, MoldCell)


@dataclass(frozen=True)
class _Run(Generic[Item]):
    """Segments of one label in a row."""

    label: Label
    segments: list[list[Item]]

    @property
    def keeps_shape(self) -> bool:
        """True if a segment changes nothing but the number of channels, so that a network may lack it."""
        # Residuals and attention would do so, too. But a choice between branches writes zeros in the place of all that the
        # other branch computes for the gradients, and this takes as long as an attention.
        (head, _), *more = self.label
        if more:
            return False
        if head.kind in ("conv1d", "conv2d"):
            return bool(head["stride"] == 1 and (head["kernel"] == 1 or head["padding"] == "same"))
        return head.kind == "dense"


def _runs(cells: Sequence[Item]) -> list[_Run[Item]]:
    return [_Run(label, list(run)) for label, run in groupby(_segments(cells), _segment_label)]


def _segments(cells: Sequence[Item]) -> list[list[Item]]:
    """Cut cells in order wherever nothing but the values of the last one passes to those behind."""
    # The first cell that any of those from here on reads.
    first = [*accumulate((i + min(cells[i].reads) for i in reversed(range(len(cells)))), min)][::-1]
    found: list[list[Item]] = []
    for i, cell in enumerate(cells):
        if first[i] == i - 1:
            found.append([])
        found[-1].append(cell)
    return found


def _segment_label(segment: Sequence[Cell | MoldCell]) -> Label:
    heads = [cell.head.layer if isinstance(cell, Cell) else cell.head for cell in segment]
    return tuple((_label(head), cell.reads) for head, cell in zip(heads, segment, strict=True))


def _pattern(runs: Iterable[_Run[Any]]) -> list[tuple[Label, int]]:
    """Return what the runs of networks have in common that share a mold: labels, and how many where the number matters."""
    return [(run.label, 0 if run.keeps_shape else len(run.segments)) for run in runs]


def _shape_only(head: LayerSpec) -> LayerSpec:
    if PARTS[head.kind] == "norm":
        return plain_norm(head)
    # What scores are divided by is an argument, as are number formats.
    return _plain(head, {name: value for name, value in head.params if name not in (*COMPRESSION_PARAMS, "scaled")})


@lru_cache(maxsize=4096)
def _label(head: LayerSpec) -> LayerSpec:
    return _with_units(_shape_only(head), 1)


def _with_units(head: LayerSpec, units: int) -> LayerSpec:
    params = dict(head.params)
    if head.kind == "reshape":
        params["shape"] = (*head["shape"][:-1], units)
    elif head.kind == "matmul":
        params = {"transpose": head["transpose"], **({"heads": units} if units > 1 else {})}
    elif head.kind in _UNITS:
        params[_UNITS[head.kind]] = units
    return _plain(head, params)


def _plain(head: LayerSpec, params: Mapping[str, Any]) -> LayerSpec:
    """Return a layer without formats, which reads no layer in particular."""
    return LayerSpec(head.kind, tuple(params.items()), inputs=PREVIOUS * len(head.inputs))


def _units(head: LayerSpec) -> int:
    if head.kind == "reshape":
        return int(head["shape"][-1])
    if head.kind == "matmul":
        return MATMUL.heads(head)
    return int(head[_UNITS[head.kind]]) if head.kind in _UNITS else 0
