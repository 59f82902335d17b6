"""Samples for a network: the user's, from files, or random ones on its input grid."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kerasnac.core.network.architecture import Architecture
from kerasnac.datasets.files import column, read_arrays, read_npy, read_table
from kerasnac.errors import ConversionError, DataError


def read_samples(path: Path, count: int | None = None) -> NDArray[Any]:
    """Read the first samples of an ``.npy`` file, of the array ``x`` of an ``.npz`` or HDF5 file, or of a table.

    Args:
        path: The file. Of a table (``.csv``, ``.arff``) all columns are taken.
        count: How many at most.

    Raises:
        DataError: If the file cannot be read.
    """
    kind = path.suffix.lower()
    if kind in (".csv", ".arff"):
        table = read_table(path).iloc[:count]
        if table.empty:
            raise DataError(f"{path}: the table is empty")
        if kind == ".csv":
            _check_header(path)
        return np.stack([column(table[name], path) for name in table.columns], axis=1)
    samples = read_npy(path) if kind == ".npy" else read_arrays(path, ["x"])[0]
    if samples.ndim == 0:
        raise DataError(f"{path}: holds a single value of {samples.dtype}, not an array of samples")
    return samples[:count]


def _check_header(path: Path) -> None:
    """Refuse a table whose first line is a sample: read as names of the columns, it would be lost without a word."""
    with path.open(encoding="utf-8", errors="replace") as lines:
        first = lines.readline().strip()
    try:
        [float(name.strip(" \"'")) for name in first.split(",")]
    except ValueError:
        return
    raise DataError(f"{path}: the first line is numbers, {first[:40]!r}: put a line with the names of the columns above it")


def fitted(samples: NDArray[Any], architecture: Architecture, source: str) -> NDArray[Any]:
    """Return samples in the shape of a network's input; flat ones are reshaped.

    Args:
        samples: Shape (samples, ...).
        architecture: The network.
        source: Where the samples are from, for messages.

    Raises:
        DataError: If they do not fit, are none, or are no numbers.
    """
    shape = architecture.input_shape
    if samples.ndim < 1 or len(samples) == 0 or samples.dtype.kind not in "biuf":
        raise DataError(f"{source}: holds no samples of numbers, but an array of shape {samples.shape} of {samples.dtype}")
    if samples.shape[1:] != shape and int(np.prod(samples.shape[1:])) != int(np.prod(shape)):
        raise DataError(f"{source}: samples of shape {samples.shape[1:]} do not fit the network, whose input is {shape}")
    return samples.reshape(len(samples), *shape)


def random_samples(architecture: Architecture, count: int, *, seed: int = 0) -> NDArray[np.float32]:
    """Draw samples on the input grid: its lowest and highest values everywhere, random corners, and quiet and loud noise.

    Args:
        architecture: A quantized network.
        count: How many.
        seed: For the random ones.

    Returns:
        Shape (count, ...), float32.

    Raises:
        ConversionError: If the network is not quantized.
    """
    grid, shape = architecture.input, architecture.input_shape
    if grid is None:
        raise ConversionError("the network is not quantized: it has no number formats; compress it before making Verilog")
    rng = np.random.default_rng(seed)
    values = rng.uniform(grid.minimum, grid.maximum, (count, *shape))
    values *= rng.choice([1.0, 0.5, 0.25, 0.125], (count, *[1] * len(shape)))
    corners = rng.choice([grid.minimum, grid.maximum], (len(values[::4]), *shape))
    values[::4] = corners
    values[:2] = np.array([grid.minimum, grid.maximum]).reshape(2, *[1] * len(shape))[:count]
    return grid.quantize(values).astype(np.float32)
