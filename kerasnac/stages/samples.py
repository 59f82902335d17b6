"""Samples of the user's, from files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kerasnac.core.architecture import Architecture
from kerasnac.datasets.files import column, read_arrays, read_npy, read_table
from kerasnac.errors import DataError


def read_samples(path: Path, count: int | None = None) -> NDArray[Any]:
    """The first samples of an ``.npy`` file, of the array ``x`` of an ``.npz`` or HDF5 file, or of a table.

    Args:
        path: The file. Of a table (``.csv``, ``.arff``) all columns are taken.
        count: How many at most.

    Raises:
        DataError: If the file cannot be read.
    """
    if path.suffix == ".npy":
        return read_npy(path)[:count]
    if path.suffix in (".csv", ".arff"):
        table = read_table(path).iloc[:count]
        if table.empty:
            raise DataError(f"{path}: the table is empty")
        return np.stack([column(table[name], path) for name in table.columns], axis=1)
    return read_arrays(path, ["x"])[0][:count]


def fitted(samples: NDArray[Any], architecture: Architecture, source: str) -> NDArray[Any]:
    """Samples in the shape of a network's input; flat ones are reshaped.

    Raises:
        DataError: If they do not fit, are none, or are no numbers.
    """
    shape = architecture.input_shape
    if samples.ndim < 1 or len(samples) == 0 or samples.dtype.kind not in "biuf":
        raise DataError(f"{source}: holds no samples of numbers, but an array of shape {samples.shape} of {samples.dtype}")
    if samples.shape[1:] != shape and int(np.prod(samples.shape[1:])) != int(np.prod(shape)):
        raise DataError(f"{source}: samples of shape {samples.shape[1:]} do not fit the network, whose input is {shape}")
    return samples.reshape(len(samples), *shape)
