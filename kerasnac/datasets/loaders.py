"""Datasets from arrays and files of your own."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Unpack

import numpy as np

from kerasnac.core.checks import AnyPath, Seed, Size, checked
from kerasnac.core.data.dataset import Array, Dataset, Development, make_dataset
from kerasnac.core.data.task import Task, task_kind
from kerasnac.core.network.precision import Precision
from kerasnac.datasets.files import column, read_hdf5, read_npz, read_table, require
from kerasnac.datasets.options import AnyTask, Columns, Fraction, Grid, InputBits, Options, Saturation
from kerasnac.errors import DataError

#: A class with less than this part of the even share of the training samples earns a warning.
RARE = 1 / 20


@checked
def from_arrays(
    x: Array,
    y: Array,
    *,
    task: AnyTask = "classification",
    outputs: Size | None = None,
    name: str = "arrays",
    seed: Seed = 0,
    fractions: tuple[Fraction, Fraction, Fraction] = (0.7, 0.15, 0.15),
    standardize: bool = False,
    input_bits: InputBits = 12,
    input_grid: Grid = None,
    max_saturation: Saturation = 1e-3,
) -> Dataset:
    """Make a dataset of two arrays.

    Args:
        x: Samples, shape (samples, ...), any number or boolean dtype.
        y: Labels. Classification: indices (samples,) or (samples, 1), one-hot (samples, classes), or strings, which
            become indices into the names of the task or, without names, into the sorted strings. Regression:
            (samples,) or (samples, outputs).
        task: Kind of prediction, in one word or as a full :class:`Task`.
        outputs: Number of classes or of regressed values, unless the task says it; by default the labels tell.
        name: For messages and tables.
        seed: Seed of the random split.
        fractions: Train, validation and test fractions; must add up to 1.
        standardize: Shift and scale every feature (last axis) to mean 0 and deviation 1 on the training split.
        input_bits: Width of the input grid, if ``input_grid`` is not given.
        input_grid: Number format of the firmware's input, such as ``"ap_fixed<12,4>"``; by default it is
            fitted to the training split.
        max_saturation: Largest fraction of the training inputs that the grid may clip.

    Returns:
        The dataset, split and on its input grid.

    Raises:
        ConfigError: If there is no such task, or ``input_grid`` is not a number format.
        DataError: If the arrays cannot be used as they are, see :func:`kerasnac.core.data.dataset.make_dataset`.

    Warns:
        UserWarning: For every class that has less than 1/20 of the even share of the training samples.
    """
    x, y = plain(x, f"{name}: samples"), plain(y, f"{name}: labels")
    if y.ndim == 2 and y.shape[1] == 1:
        y = y[:, 0]
    kind, names = (task.kind, task.names) if isinstance(task, Task) else (task, ())
    if task_kind(kind).classes and y.dtype.kind == "U":
        y, names = class_indices(y, names, name)
    dataset = make_dataset(
        x,
        y,
        name=name,
        task=task if isinstance(task, Task) else _task(kind, outputs, names, y, name),
        seed=seed,
        fractions=fractions,
        standardize=standardize,
        input_bits=input_bits,
        input_grid=Precision.parse(input_grid) if isinstance(input_grid, str) else input_grid,
        max_saturation=max_saturation,
    )
    _warn_of_rare_classes(dataset.development)
    return dataset


@checked
def from_npz(path: AnyPath, *, x: str = "x", y: str = "y", **options: Unpack[Options]) -> Dataset:
    """Read samples and labels from an ``.npz`` file.

    Args:
        path: The file.
        x: Name of the array of samples.
        y: Name of the array of labels.
        **options: As for :func:`from_arrays`; the name is by default that of the file.

    Returns:
        The dataset.

    Raises:
        ConfigError: As :func:`from_arrays`.
        DataError: With the file and the array that is wrong or missing.
    """
    samples, labels = read_npz(path, (x, y))
    return from_file(path, samples, labels, f"samples {x!r}, labels {y!r}", **options)


@checked
def from_hdf5(path: AnyPath, *, x: str = "x", y: str = "y", **options: Unpack[Options]) -> Dataset:
    """Read samples and labels from an HDF5 file.

    Args:
        path: The file.
        x: Path of the HDF5 dataset of samples inside the file, such as ``"train/images"``.
        y: Path of the HDF5 dataset of labels.
        **options: As for :func:`from_arrays`; the name is by default that of the file.

    Returns:
        The dataset.

    Raises:
        ConfigError: As :func:`from_arrays`.
        DataError: With the file and the HDF5 dataset that is wrong or missing.
        EnvironmentProblem: If h5py is not installed.
    """
    samples, labels = read_hdf5(path, (x, y))
    return from_file(path, samples, labels, f"samples {x!r}, labels {y!r}", **options)


@checked
def from_csv(
    path: AnyPath,
    *,
    label: Columns,
    features: Columns | None = None,
    **options: Unpack[Options],
) -> Dataset:
    """Read a table with a header, one sample per row.

    Args:
        path: The file, comma separated or ARFF.
        label: Column of the labels (numbers, or strings for classes), or several columns of numbers.
        features: Columns of the features, all numbers; by default all columns that are not labels.
        **options: As for :func:`from_arrays`; the name is by default that of the file.

    Returns:
        The dataset; samples have the shape (features,).

    Raises:
        ConfigError: As :func:`from_arrays`.
        DataError: With the file and the column that is missing, has gaps or is not numeric.
        EnvironmentProblem: If pandas is not installed.
    """
    frame = read_table(path)
    targets = [label] if isinstance(label, str) else list(label)
    inputs = [name for name in frame.columns if name not in targets] if features is None else list(features)
    require(targets + inputs, list(frame.columns), path, "column")
    if not targets or not inputs:
        raise DataError(f"{path}: there is no column of {'features' if targets else 'labels'}")
    for name in inputs:
        if name in targets:
            raise DataError(f"{path}: column {name!r} is both a feature and a label")
    samples = np.column_stack([column(frame[name], path) for name in inputs])
    labels = np.column_stack([column(frame[name], path, text=len(targets) == 1) for name in targets])
    return from_file(path, samples, labels, f"labels {', '.join(targets)}", **options)


def from_file(path: str | Path, x: Array, y: Array, source: str, **options: Unpack[Options]) -> Dataset:
    """Make a dataset of the arrays of a file.

    Args:
        path: The file, which gives the dataset its name unless the options do.
        x: See :func:`from_arrays`.
        y: See :func:`from_arrays`.
        source: Where in the file the arrays are, for messages.
        **options: See :func:`from_arrays`.

    Returns:
        The dataset.

    Raises:
        ConfigError: As :func:`from_arrays`.
        DataError: As :func:`from_arrays`, with the file and the source.
    """
    options.setdefault("name", Path(path).stem)
    with located(path, source):
        return from_arrays(x, y, **options)


@contextmanager
def located(path: str | Path, source: str) -> Iterator[None]:
    """Put a file before the message of every :class:`DataError`.

    Args:
        path: The file.
        source: Where in the file the arrays are.

    Raises:
        DataError: Instead of the one that was raised.
    """
    try:
        yield
    except DataError as error:
        raise DataError(f"{path} ({source}): {error}") from error


def class_indices(labels: Array, names: tuple[str, ...], name: str) -> tuple[Array, tuple[str, ...]]:
    """Return the class indices of text labels, and the names that they index.

    Args:
        labels: Text, shape (samples,).
        names: All class names; by default those that there are, sorted.
        name: Of the dataset, for messages.

    Returns:
        int64 indices (samples,), and the names.

    Raises:
        DataError: If a label is none of the names.
    """
    found, inverse = np.unique(labels, return_inverse=True)
    names = names or tuple(found.tolist())
    for label in found:
        if label not in names:
            raise DataError(f"{name}: label {str(label)!r} is none of the classes {', '.join(names)}")
    return np.array([names.index(label) for label in found])[inverse], names


def plain(values: Any, what: str) -> Array:
    """Return numbers as they are, booleans as 0 and 1, text of any kind as NumPy text.

    Args:
        values: Anything NumPy makes an array of.
        what: Their name in messages.

    Returns:
        An array of integers, floats or text.

    Raises:
        DataError: If the values are anything else.
    """
    array = np.asarray(values)
    if array.dtype.kind == "b":
        return array.astype(np.int8)
    if array.dtype.kind == "S":
        return np.char.decode(array, "utf-8", "replace")
    if array.dtype.kind == "O" and all(isinstance(item, str) for item in array.flat):
        return array.astype(np.str_)
    if array.dtype.kind not in "iufU":
        raise DataError(f"{what} have dtype {array.dtype}; expected real numbers")
    return array


def _task(kind: str, outputs: int | None, names: tuple[str, ...], y: Array, name: str) -> Task:
    """Return the task of a kind, with the number of outputs from the labels unless given."""
    if task_kind(kind).classes:
        return Task(kind, outputs or len(names) or _count_classes(y, name), names=names)
    return Task(kind, outputs or max(1, int(np.prod(y.shape[1:]))))


def _count_classes(y: Array, name: str) -> int:
    if y.ndim == 2:
        return max(1, int(y.shape[1]))
    found = np.unique(y)
    if len(found) == 1 or not np.array_equal(found, np.arange(len(found))):
        listed = ", ".join(f"{label:g}" for label in found[:5])
        raise DataError(
            f"{name}: class labels must be 0, 1, 2, ... without gaps; these begin {listed}: "
            "renumber them, give outputs, or make it a regression"
        )
    return max(1, len(found))  # There are none: that is said of the samples.


def _warn_of_rare_classes(development: Development) -> None:
    task = development.task
    if not task.classes:
        return
    shares = np.bincount(development.train.y, minlength=task.outputs) / len(development.train)
    for index in np.flatnonzero(shares < RARE / task.outputs):
        label = task.names[index] if index < len(task.names) else index
        warnings.warn(
            f"{development.name}: class {label} makes up only {shares[index]:.2%} of the training samples "
            f"(an even share is {1 / task.outputs:.2%}): the accuracy will say little about it",
            stacklevel=3,
        )
