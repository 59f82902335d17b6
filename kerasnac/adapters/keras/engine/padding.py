"""Arrays of a network in the shapes of its mold, and back."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kerasnac.adapters.keras.table import RECIPROCAL_BITS, SoftmaxTables, table
from kerasnac.adapters.keras.weight_quantizers import latent_limit
from kerasnac.core.network.architecture import Architecture
from kerasnac.core.network.cells import Cell, drops
from kerasnac.core.network.exactness import averaged
from kerasnac.core.network.kinds import MATMUL, Shape
from kerasnac.core.network.layer_norms import TABLE_BITS, LayerNormTables
from kerasnac.core.network.means import reciprocal
from kerasnac.core.network.mold import Mold, Place, places
from kerasnac.core.network.precision import Binary, Odd, Precision
from kerasnac.core.network.weights import Weights

Array = NDArray[Any]

#: Arrays of a mold by place and part: ``"2/kernel"``, ``"2/norm_0/gamma"``.
Padded = Mapping[str, Array]


@dataclass(frozen=True)
class _Block:
    """Where an array of a network lies in one of the mold.

    Attributes:
        key: Key of the padded array.
        name: Key of the array, ``layer/part``.
        shape: Its shape.
        inner: Its shape with the axes apart that were flattened into one.
        outer: The same of the padded array, of the first rows of it that the network has.
    """

    key: str
    name: str
    shape: Shape
    inner: Shape
    outer: Shape

    def of(self, padded: Array) -> Array:
        """Return the view of the padded array that holds this one, in the shape ``inner``."""
        first = padded[: math.prod(self.outer) // math.prod(padded.shape[1:])]
        return first.reshape(self.outer)[tuple(slice(size) for size in self.inner)]


class Fitted:
    """Network in a mold that holds it.

    Args:
        mold: The mold.
        architecture: The network.
    """

    def __init__(self, mold: Mold, architecture: Architecture) -> None:
        cells = mold.place(architecture)
        assert cells is not None, f"[{architecture}] does not fit its mold"
        self._architecture = architecture
        self._mold, self._places, self._cells = mold, places(mold), cells
        self._blocks = list(self._find())

    def _find(self) -> Iterator[_Block]:
        # Shapes of what a place reads, before that was flattened: of the network, and around it. Places that are passed by
        # leave it as it is.
        reads = [(self._mold.input_shape, self._mold.input_shape)]
        for i, place in enumerate(self._places):
            cell, (rows, around) = self._cells.get(i), reads[i + 1 + place.cell.reads[0]]
            if cell is not None:
                yield from self._kernels(i, cell, rows, around)
                head = cell.head
                flat = head.layer.kind == "flatten"
                rows, around = (head.shapes[0], place.shape) if flat else (head.output, place.output)
                yield from self._norms(i, cell, rows, around, flat)
            reads.append((rows, around))

    def _kernels(self, i: int, cell: Cell, rows: Shape, around: Shape) -> Iterator[_Block]:
        for part, weight in cell.head.weights.items():
            shape, padded = weight.shape, self._places[i].weights[part].shape
            flat = part == "kernel" and cell.head.layer.kind == "dense"
            blocks = ((*rows, shape[-1]), (*around, padded[-1])) if flat else (shape, padded)
            yield _Block(f"{i}/{part}", f"{cell.head.name}/{part}", shape, *blocks)

    def _norms(self, i: int, cell: Cell, rows: Shape, around: Shape, flat: bool) -> Iterator[_Block]:
        if cell.norm is None:
            return
        place = self._places[i]
        assert cell.plain_norm is not None
        prefix = f"norm_{place.cell.norms.index(cell.plain_norm)}"
        for part, weight in cell.norm.weights.items():
            blocks = (rows, around) if flat else (weight.shape, place.weights[f"{prefix}/{part}"].shape)
            yield _Block(f"{i}/{prefix}/{part}", f"{cell.norm.name}/{part}", weight.shape, *blocks)

    def pad(self, weights: Weights, *, around: float = 0.0) -> dict[str, Array]:
        """Lay arrays into the corners of padded ones.

        Args:
            weights: Arrays keyed ``layer/part``; some may be missing.
            around: Value of all the rest.

        Returns:
            float32 arrays of all places.
        """
        padded = {
            f"{i}/{part}": np.full(weight.shape, around, np.float32)
            for i, place in enumerate(self._places)
            for part, weight in place.weights.items()
        }
        for block in self._blocks:
            if block.name in weights:
                block.of(padded[block.key])[...] = np.reshape(weights[block.name], block.inner)
        return padded

    def unpad(self, padded: Padded) -> dict[str, NDArray[np.float32]]:
        """Return those arrays of the network that are among some padded ones, keyed ``layer/part``."""
        blocks = (block for block in self._blocks if block.key in padded)
        return {b.name: np.array(b.of(padded[b.key]), np.float32).reshape(b.shape) for b in blocks}

    def ones(self) -> dict[str, Array]:
        """Return ones in the shapes of all arrays of the network, keyed ``layer/part``."""
        return {block.name: np.ones(block.shape, np.float32) for block in self._blocks}

    def limits(self) -> dict[str, Array]:
        """Return the largest magnitude that a training leaves every padded weight: of quantized layers alone it is finite."""
        limits = self.pad({}, around=np.inf)
        for i, cell in self._cells.items():
            for part, grid in (("kernel", cell.head.layer.weight), ("bias", cell.head.layer.bias)):
                if grid is not None and f"{i}/{part}" in limits:  # Of a norm, nothing is limited.
                    limits[f"{i}/{part}"][...] = latent_limit(grid)
        return limits

    def choices(self, table_bits: int) -> list[dict[str, Array]]:
        """Return by place what the network is there: see :meth:`_choices`."""
        return [self._choices(place, self._cells.get(i), table_bits) for i, place in enumerate(self._places)]

    def _choices(self, place: Place, cell: Cell | None, table_bits: int) -> dict[str, Array]:
        """Return the choices of one cell.

        Returns:
            ``present``; ``mask``, ones for its own channels; ``values`` and ``units``, the true sizes of a sample and of its
            last axis; ``drops``, true if its values are subject to dropout; ``norm`` and ``function``, indices of the norm (0
            for none) and of the activation; for every format an array of its step, its smallest and its largest value in
            steps, and 1 if it takes the sign; ``bias_is_odd``, true for biases that are odd multiples of half a step; of a
            product ``heads``, ones for the channels of each, and the ``divisor``; the ``reciprocal`` of a mean; the ``table``
            of an activation and its size, and the ``reciprocals`` of a softmax; the ``roots`` of a layer norm, the step of
            their index and the last index.
        """
        true = place.output if cell is None else cell.head.output
        size = place.output[-1]
        flat = place.cell.head.kind == "flatten"
        mask = np.zeros(place.shape if flat else size, np.float32)
        if cell is not None:
            mask[tuple(slice(n) for n in (cell.head.shapes[0] if flat else true[-1:]))] = 1
        norm = None if cell is None else cell.plain_norm
        head = place.cell.head if cell is None else cell.head.layer
        grid, activation = (None, None) if cell is None else (cell.grid, cell.activation)
        return {
            "present": np.array(cell is not None),
            "mask": mask.ravel(),
            "values": np.array(math.prod(true), np.float32),
            "units": np.array(true[-1], np.float32),
            "drops": np.array(cell is not None and drops(cell.fn)),
            "norm": np.array(0 if norm is None else 1 + place.cell.norms.index(norm), np.int32),
            "function": np.array(0 if cell is None else place.cell.functions.index(cell.fn), np.int32),
            "kernel_format": _format(head.weight),
            "bias_format": _format(head.bias),
            "bias_is_odd": np.array(isinstance(head.bias, Odd)),
            "grid_format": _format(None if grid is None else grid.layer.activation),
            "activation_format": _format(None if activation is None else activation.layer.activation),
            **_reciprocal(place, cell),
            **_products(place, cell),
            **_tables(place, cell, table_bits),
            **(self._norm_tables(cell) if self._mold.quantized and place.cell.normalises else {}),
        }

    def _norm_tables(self, cell: Cell | None) -> dict[str, Array]:
        """Return formats and table of a layer norm, or zeros of their sizes for a network that has none there."""
        norm = None if cell is None else cell.any_norm
        layer = None if norm is None else norm.layer
        before = None if cell is None or cell.norm_grid is None else cell.norm_grid.layer.activation
        found = {
            "norm_grid_format": _format(before),
            "gain_format": _format(None if layer is None else layer.weight),
            "offset_format": _format(None if layer is None else layer.bias),
            "norm_format": _format(None if layer is None else layer.activation),
        }
        grid = None if norm is None else self._architecture.rounded(norm.inputs[0])
        tables = None if norm is None or grid is None else LayerNormTables.of(norm, grid)
        roots = np.zeros(1) if tables is None else tables.roots
        # Narrower tables are padded, so that they need no other function.
        size = max(2**TABLE_BITS, len(roots))
        return found | {
            "roots": np.pad(roots, (0, size - len(roots))).astype(np.float32),
            "last_index": np.array(len(roots) - 1.0),
            "index_step": np.array(1.0 if tables is None else tables.index.step),
        }


def _reciprocal(place: Place, cell: Cell | None) -> dict[str, Array]:
    """Return by what a quantized mean multiplies its sums; nothing for other heads."""
    head = place.cell.head if cell is None else cell.head.layer
    if head.kind != "pool" or head["op"] != "mean":
        return {}
    count = averaged(head, place.shape)
    return {"reciprocal": np.array(1 / count if head.weight is None else reciprocal(count, head.weight), np.float32)}


def _products(place: Place, cell: Cell | None) -> dict[str, Array]:
    """Return what a product of activations is divided by, and where the channels of its heads are; nothing of other cells."""
    if place.cell.head.kind != "matmul":
        return {}
    heads, divisor = np.zeros((place.cell.units, place.shapes[1][-1]), np.float32), 1.0
    if cell is not None and cell.head.products is not None:
        layer = cell.head.layer
        divisor = math.sqrt(cell.head.products.inputs) if MATMUL.scaled(layer) else 1.0
        width = cell.head.shapes[1][-1] // MATMUL.heads(layer)
        for i in range(MATMUL.heads(layer)):
            heads[i, width * i : width * (i + 1)] = 1
    return {"heads": heads, "divisor": np.array(divisor, np.float32)}


def _tables(place: Place, cell: Cell | None, bits: int) -> dict[str, Array]:
    """Return the tables of an activation, or zeros of their sizes; none if no activation of the network has one."""
    if not bits:
        return {}
    found = {"table": np.zeros(2**bits, np.float32), "table_size": np.array(1, np.int32)}
    if "softmax" in place.cell.functions:
        found["reciprocals"] = np.zeros(2 ** (place.output[-1].bit_length() + RECIPROCAL_BITS), np.float32)
    if cell is None or cell.grid is None or cell.activation is None:
        return found
    grid, out = cell.grid.layer.activation, cell.activation.layer.activation
    assert grid is not None
    assert out is not None
    grid = grid.fixed
    if cell.fn == "softmax":
        tables = SoftmaxTables(grid, place.output[-1], out)
        values, found["reciprocals"] = tables.exponentials, tables.reciprocals.astype(np.float32)
    else:
        values = table(cell.fn, grid, out)
    found["table"][: len(values)] = values
    return found | {"table_size": np.array(len(values), np.int32)}


def _format(grid: Precision | None) -> Array:
    if grid is None:
        return np.zeros(4, np.float32)
    return np.array([grid.step, grid.minimum / grid.step, grid.maximum / grid.step, isinstance(grid, Binary)], np.float32)
