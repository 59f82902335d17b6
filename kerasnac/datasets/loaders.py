"""Datasets from arrays and files of your own."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Unpack

import numpy as np

from kerasnac.core.checks import AnyPath, Seed, Size, checked
from kerasnac.core.data.dataset import Array, Dataset, make_dataset
from kerasnac.core.data.task import Task, task_kind
from kerasnac.core.network.precision import Precision
from kerasnac.datasets.files import column, read_hdf5, read_npz, read_table, require
from kerasnac.datasets.labels import anomalies, class_indices, task_of, warn_of_rare_classes
from kerasnac.datasets.options import AnyTask, Columns, Fractions, Grid, InputBits, Options, Saturation
from kerasnac.datasets.unpacking import Samples, split_of, unpacked
from kerasnac.errors import DataError


@checked
def from_arrays(
    x: Any,
    y: Any = None,
    *,
    weight: Any = None,
    split: Any = None,
    task: AnyTask = "classification",
    outputs: Size | None = None,
    name: str = "arrays",
    seed: Seed = 0,
    fractions: Fractions = (0.7, 0.15, 0.15),
    standardize: bool = False,
    input_bits: InputBits = 12,
    input_grid: Grid = None,
    max_saturation: Saturation = 1e-3,
    background: Columns | None = None,
) -> Dataset:
    """Make a dataset of arrays, of a pandas frame, or of a ``tf.data.Dataset``.

    Args:
        x: Samples, shape (samples, ...), any number or boolean dtype; or a pandas frame. Without ``y``, a tuple (x, y) or
            (x, y, weight), or a finite ``tf.data.Dataset`` of such, in batches or not, which must yield the same samples in the
            same order every time if runs are to be resumed.
        y: Labels. Classification: indices (samples,) or (samples, 1), one-hot (samples, classes), or strings, which
            become indices into the names of the task or, without names, into the sorted strings. Regression:
            (samples,) or (samples, outputs).
        weight: Factors of the losses of the samples, shape (samples,).
        split: ``train``, ``validation`` or ``test`` for every sample, shape (samples,), in place of a random split. A split
            without any sample is drawn at random from those for training.
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
        background: Classes that are background, by name or index: the task is then to detect all others as anomalies, without
            any of them in the training split. Of a task ``anomaly`` without it, label 0 is background.

    Returns:
        The dataset, split and on its input grid.

    Raises:
        ConfigError: If there is no such task, or ``input_grid`` is not a number format.
        DataError: If the arrays cannot be used as they are, see :func:`kerasnac.core.data.dataset.make_dataset`.

    Warns:
        UserWarning: For every class that has less than 1/20 of the even share of the training samples.
    """
    given = unpacked(x, y, weight, name=name)
    x, y = plain(given.x, f"{name}: samples"), plain(given.y, f"{name}: labels")
    if y.ndim == 2 and y.shape[1] == 1:
        y = y[:, 0]
    kind, names = (task.kind, task.names) if isinstance(task, Task) else (task, ())
    if task_kind(kind).classes and y.dtype.kind == "U":
        y, names = class_indices(y, names, name)
    own = task if isinstance(task, Task) else task_of(kind, outputs, names, x, y, name)
    if background is not None:
        y, own = anomalies(x, y, own, tuple(background), name)
    dataset = make_dataset(
        x,
        y,
        name=name,
        task=own,
        seed=seed,
        weight=given.weight,
        split=None if split is None else split_of(split, fractions, seed, name),
        fractions=fractions,
        standardize=standardize,
        input_bits=input_bits,
        input_grid=Precision.parse(input_grid) if isinstance(input_grid, str) else input_grid,
        max_saturation=max_saturation,
    )
    warn_of_rare_classes(dataset.development)
    return dataset


def from_splits(train: Any, validation: Any, test: Any, **options: Any) -> Dataset:
    """Make a dataset of splits of one's own.

    Args:
        train: A tuple (x, y) or (x, y, weight), or a ``tf.data.Dataset`` of such, see :func:`from_arrays`.
        validation: The same; None draws it at random from the training samples, by ``fractions``.
        test: The same.
        **options: As for :func:`from_arrays`.

    Returns:
        The dataset.

    Raises:
        ConfigError: As :func:`from_arrays`.
        DataError: As :func:`from_arrays`, or if the shapes of the splits differ.
    """
    name = str(options.get("name", "arrays"))
    given = {
        split: unpacked(one, name=f"{name}, {split}") for split, one in (("validation", validation), ("test", test)) if one
    }
    every = unpacked(train, name=f"{name}, train").joined(given, name)
    return from_arrays(every.x, every.y, weight=every.weight, split=every.split, **options)


@checked
def from_npz(
    path: AnyPath,
    *,
    x: str = "x",
    y: str = "y",
    weight: str | None = None,
    split: str | None = None,
    validation_path: AnyPath | None = None,
    test_path: AnyPath | None = None,
    **options: Unpack[Options],
) -> Dataset:
    """Read samples and labels from an ``.npz`` file, or from one for each split.

    Args:
        path: The file.
        x: Name of the array of samples.
        y: Name of the array of labels.
        weight: Name of the array of weights of the samples, if there is one.
        split: Name of an array with ``train``, ``validation`` or ``test`` for every sample, if there is one.
        validation_path: File of the validation split, if it is another one.
        test_path: File of the test split, if it is another one; ``fractions`` say how much of the first file is for
            a split without a file.
        **options: As for :func:`from_arrays`; the name is by default that of the file.

    Returns:
        The dataset.

    Raises:
        ConfigError: As :func:`from_arrays`.
        DataError: With the file and the array that is wrong or missing.
    """
    files = {"train": path, "validation": validation_path, "test": test_path}
    return _from_files(files, partial(_named, read_npz, (x, y, weight, split)), f"samples {x!r}, labels {y!r}", options)


@checked
def from_hdf5(
    path: AnyPath,
    *,
    x: str = "x",
    y: str = "y",
    weight: str | None = None,
    split: str | None = None,
    validation_path: AnyPath | None = None,
    test_path: AnyPath | None = None,
    **options: Unpack[Options],
) -> Dataset:
    """Read samples and labels from an HDF5 file, or from one for each split.

    Args:
        path: The file.
        x: Path of the HDF5 dataset of samples inside the file, such as ``"train/images"``.
        y: Path of the HDF5 dataset of labels.
        weight: Path of the HDF5 dataset of weights, see :func:`from_npz`.
        split: Path of the HDF5 dataset of splits, see :func:`from_npz`.
        validation_path: See :func:`from_npz`.
        test_path: See :func:`from_npz`.
        **options: As for :func:`from_arrays`; the name is by default that of the file.

    Returns:
        The dataset.

    Raises:
        ConfigError: As :func:`from_arrays`.
        DataError: With the file and the HDF5 dataset that is wrong or missing.
        EnvironmentProblem: If h5py is not installed.
    """
    files = {"train": path, "validation": validation_path, "test": test_path}
    return _from_files(files, partial(_named, read_hdf5, (x, y, weight, split)), f"samples {x!r}, labels {y!r}", options)


@checked
def from_csv(
    path: AnyPath,
    *,
    label: Columns,
    features: Columns | None = None,
    weight: str | None = None,
    split: str | None = None,
    validation_path: AnyPath | None = None,
    test_path: AnyPath | None = None,
    **options: Unpack[Options],
) -> Dataset:
    """Read a table with a header, one sample per row, or a table for each split.

    Args:
        path: The file, comma separated or ARFF.
        label: Column of the labels (numbers, or strings for classes), or several columns of numbers.
        features: Columns of the features, all numbers; by default all columns that are nothing else.
        weight: Column of the weights of the samples, if there is one.
        split: Column with ``train``, ``validation`` or ``test`` for every sample, if there is one.
        validation_path: See :func:`from_npz`.
        test_path: See :func:`from_npz`.
        **options: As for :func:`from_arrays`; the name is by default that of the file.

    Returns:
        The dataset; samples have the shape (features,).

    Raises:
        ConfigError: As :func:`from_arrays`.
        DataError: With the file and the column that is missing, has gaps or is not numeric.
        EnvironmentProblem: If pandas is not installed.
    """
    targets = [label] if isinstance(label, str) else list(label)
    columns = _Columns(targets, None if features is None else list(features), weight, split)
    files = {"train": path, "validation": validation_path, "test": test_path}
    return _from_files(files, columns.read, f"labels {', '.join(targets)}", options)


@dataclass(frozen=True)
class _Columns:
    """Names of the columns of a table: of labels, of features (None for all others), of weights and splits (None for none)."""

    labels: list[str]
    features: list[str] | None
    weight: str | None
    split: str | None

    def read(self, path: str | Path) -> Samples:
        """Return the samples of a table.

        Raises:
            DataError: With the file and the column that is missing, has gaps or is not numeric.
        """
        frame = read_table(path)
        others = [name for name in (self.weight, self.split) if name is not None]
        taken = self.labels + others
        inputs = [name for name in frame.columns if name not in taken] if self.features is None else self.features
        require(taken + inputs, list(frame.columns), path, "column")
        if not self.labels or not inputs:
            raise DataError(f"{path}: there is no column of {'features' if self.labels else 'labels'}")
        for name in inputs:
            if name in taken:
                what = "a label" if name in self.labels else "one of weights or splits"
                raise DataError(f"{path}: column {name!r} is both a feature and {what}")
        text = len(self.labels) == 1
        return Samples(
            np.column_stack([column(frame[name], path) for name in inputs]),
            np.column_stack([column(frame[name], path, text=text) for name in self.labels]),
            None if self.weight is None else column(frame[self.weight], path),
            None if self.split is None else column(frame[self.split], path, text=True),
        )


def _named(read: Callable[[str | Path, Sequence[str]], list[Array]], keys: Sequence[str | None], path: str | Path) -> Samples:
    """Return the samples of a file with named arrays: samples, labels, and weights and splits where they have a name."""
    arrays = iter(read(path, [key for key in keys if key is not None]))
    return Samples(*(None if key is None else next(arrays) for key in keys))


def _from_files(
    files: Mapping[str, str | Path | None], read: Callable[[str | Path], Samples], source: str, options: Options
) -> Dataset:
    """Return a dataset of a file, or of one for each split; the training split has one in any case."""
    path = files["train"]
    assert path is not None
    others = {split: read(file) for split, file in files.items() if file is not None and split != "train"}
    with located(path, source):
        every = read(path).joined(others, Path(path).stem)
    return from_file(path, every.x, every.y, source, weight=every.weight, split=every.split, **options)


def from_file(
    path: str | Path,
    x: Array,
    y: Array,
    source: str,
    *,
    weight: Array | None = None,
    split: Array | None = None,
    **options: Unpack[Options],
) -> Dataset:
    """Make a dataset of the arrays of a file.

    Args:
        path: The file, which gives the dataset its name unless the options do.
        x: See :func:`from_arrays`.
        y: See :func:`from_arrays`.
        source: Where in the file the arrays are, for messages.
        weight: See :func:`from_arrays`.
        split: See :func:`from_arrays`.
        **options: See :func:`from_arrays`.

    Returns:
        The dataset.

    Raises:
        ConfigError: As :func:`from_arrays`.
        DataError: As :func:`from_arrays`, with the file and the source.
    """
    options.setdefault("name", Path(path).stem)
    with located(path, source):
        return from_arrays(x, y, weight=weight, split=split, **options)


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
