"""Arrays of a network in the shapes of its mold, and back."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kerasnac.adapters.keras.table import table
from kerasnac.core.network.activations import ACTIVATIONS
from kerasnac.core.network.architecture import Architecture
from kerasnac.core.network.layers import LayerSpec, Shape
from kerasnac.core.network.mold import Cell, Mold, Place, places
from kerasnac.core.network.precision import Precision
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
        self._mold, self._places, self._cells = mold, places(mold), cells
        self._blocks = list(self._find())

    def _find(self) -> Iterator[_Block]:
        # Shapes of what a cell reads, before that was flattened. Cells that are passed by leave it as it is.
        rows = around = self._mold.input_shape
        for i, cell in sorted(self._cells.items()):
            place, head = self._places[i], cell.head
            for part, weight in head.weights.items():
                shape, padded = weight.shape, place.weights[part].shape
                flat = part == "kernel" and head.layer.kind == "dense"
                blocks = ((*rows, shape[-1]), (*around, padded[-1])) if flat else (shape, padded)
                yield _Block(f"{i}/{part}", f"{head.name}/{part}", shape, *blocks)
            flat = head.layer.kind == "flatten"
            rows, around = (head.shapes[0], place.shape) if flat else (head.output, place.output)
            if cell.norm is not None:
                prefix = f"norm_{place.cell.norms.index(cell.norm.layer)}"
                for part, weight in cell.norm.weights.items():
                    padded = place.weights[f"{prefix}/{part}"].shape
                    blocks = (rows, around) if flat else (weight.shape, padded)
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
        """Return the largest magnitude that a training leaves every padded weight: of quantized layers alone it is finite.

        QKeras limits latent weights, not to their format but to its power of two, or to 1 if that is more.
        """
        limits = self.pad({}, around=np.inf)
        for i, cell in self._cells.items():
            for part, grid in (("kernel", cell.head.layer.weight), ("bias", cell.head.layer.bias)):
                if grid is not None:
                    limits[f"{i}/{part}"][...] = max(1.0, math.ldexp(1.0, grid.integer - 1))
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
            steps; the ``table`` of an activation and its size.
        """
        true = place.output if cell is None else cell.head.output
        size = place.output[-1]
        flat = place.cell.head.kind == "flatten"
        mask = np.zeros(place.shape if flat else place.output, np.float32)
        if cell is not None:
            mask[tuple(slice(n) for n in (cell.head.shapes[0] if flat else true))] = 1
        norm = None if cell is None else cell.norm
        head = place.cell.head if cell is None else cell.head.layer
        grid = None if cell is None or cell.grid is None else cell.grid.layer
        activation = None if cell is None or cell.activation is None else cell.activation.layer
        return {
            "present": np.array(cell is not None),
            "mask": mask.reshape(-1, size)[0],
            "values": np.array(math.prod(true), np.float32),
            "units": np.array(true[-1], np.float32),
            "drops": np.array(cell is not None and cell.fn != "none"),
            "norm": np.array(0 if norm is None else 1 + place.cell.norms.index(norm.layer), np.int32),
            "function": np.array(0 if cell is None else place.cell.functions.index(cell.fn), np.int32),
            "kernel_format": _format(head.weight),
            "bias_format": _format(head.bias),
            "grid_format": _format(None if grid is None else grid.activation),
            "activation_format": _format(None if activation is None else activation.activation),
            **_table(grid, activation, table_bits),
        }


def _table(grid: LayerSpec | None, activation: LayerSpec | None, bits: int) -> dict[str, Array]:
    if not bits:
        return {}
    values, size = np.zeros(2**bits, np.float32), 1
    if grid is not None and activation is not None and ACTIVATIONS[activation["fn"]].table:
        assert grid.activation is not None
        assert activation.activation is not None
        size = 2**grid.activation.bits
        values[:size] = table(activation["fn"], grid.activation, activation.activation)
    return {"table": values, "table_size": np.array(size, np.int32)}


def _format(grid: Precision | None) -> Array:
    if grid is None:
        return np.zeros(3, np.float32)
    return np.array([grid.step, grid.minimum / grid.step, grid.maximum / grid.step], np.float32)
