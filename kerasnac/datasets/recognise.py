"""Data files of unknown layout: which dataset reads them, and with which options."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from kerasnac.core.data.dataset import Array, Dataset
from kerasnac.datasets import load
from kerasnac.datasets.files import array_names, open_hdf5, read_arrays, read_table
from kerasnac.datasets.jet_files import EXPECTED
from kerasnac.errors import DataError, KerasnacError

#: Names of samples and of labels, the likeliest first; in lower case.
SAMPLES = ("x", "samples", "images", "features", "inputs", "data", "x_train", "particles", "traces")
LABELS = ("y", "labels", "label", "targets", "target", "class", "classes", "y_train", "is_signal", "truth")

#: Different values of whole numbers up to which labels are taken for classes.
MOST_CLASSES = 100


@dataclass(frozen=True)
class Recognised:
    """What a data file is taken for.

    Attributes:
        source: Name of the dataset.
        options: Its options, the path among them.
        data: The dataset itself.
        reasons: How that was found out, one line each.
    """

    source: str
    options: dict[str, Any]
    data: Dataset
    reasons: tuple[str, ...]


def recognise(path: Path, *, task: str | None = None, samples: str | None = None, labels: str | None = None) -> Recognised:
    """Find the dataset that reads a file or a folder, and load it.

    Layouts that are known by name, as those of jets, come first; then an npz, HDF5, CSV or ARFF file of samples and labels.

    Args:
        path: The file or folder.
        task: Kind of prediction; by default the labels tell: whole numbers and texts are classes.
        samples: Name of the array of samples; by default the likeliest, as ``x``.
        labels: Name of the array, or of the column, of the labels; by default the likeliest, as ``y``.

    Raises:
        DataError: If it cannot be read, or nothing in it is known for samples or labels: names what there is.
        ConfigError: If the labels are not for the task.
    """
    if not path.exists():
        raise DataError(f"{path}: there is no such file or folder")
    if task is None and samples is None and labels is None:
        for found in _known_layouts(path):
            return found
    names = array_names(path)
    return _table(path, task, labels) if names is None else _arrays(path, names, task, samples, labels)


def _known_layouts(path: Path) -> Iterator[Recognised]:
    """Yield the datasets of known layouts that read a file."""
    own = {part.split()[0] for part in EXPECTED.replace(" and ", ", ").split(", ") if "(" in part}
    names = None if path.suffix.lower() in (".npy",) else array_names(path)
    tried: list[tuple[str, dict[str, Any]]] = []
    if names is None or not {"x", "y"} <= {*names} or own & {*names}:
        tried += [("jets", {})]
    if path.is_dir() or path.suffix.lower() in (".h5", ".hdf5"):
        tried += [("bragg_peaks", {})]
    if path.suffix.lower() == ".npy" or path.is_dir():
        tried += [("qubit_readout", {})]
    for source, options in tried:
        given = {"path": str(path.resolve()), **options}
        try:
            data = load(source, **given)
        except (KerasnacError, ValueError):
            continue  # It is none of this layout, which says why; another one may fit.
        yield Recognised(source, given, data, (data.taken_for,) if data.taken_for else ())


def _arrays(path: Path, names: Sequence[str], task: str | None, samples: str | None, labels: str | None) -> Recognised:
    """Return the dataset of a file with arrays."""
    if path.is_dir():
        raise DataError(f"{path}: is a folder in none of the layouts that are known; give one npz, HDF5 or CSV file")
    x = samples or _named(names, SAMPLES)
    y = labels or _named([name for name in names if name != x], LABELS)
    if x is None or y is None:
        what, option = ("samples", "--x") if x is None else ("labels", "--y")
        raise DataError(f"{path}: which array holds the {what}? There are {', '.join(names)}: name it with {option}")
    source = "npz" if path.suffix.lower() == ".npz" else "hdf5"
    (values,) = read_arrays(path, [y])
    kind, reason = _kind(values, task, f"the array {y!r}")
    options = {"path": str(path.resolve()), "x": x, "y": y, **_task(kind), **_scale(_first(path, x, source))}
    reasons = (f"samples are the array {x!r}, labels the array {y!r}", reason)
    return Recognised(source, options, load(source, **options), reasons)


def _table(path: Path, task: str | None, label: str | None) -> Recognised:
    """Return the dataset of a table."""
    frame = read_table(path)
    columns = [str(name) for name in frame.columns]
    label = label or _named(columns, LABELS) or (columns[-1] if columns else None)
    if label is None or len(columns) < 2:
        raise DataError(f"{path}: a table needs a column of labels and one of features at least")
    if label not in columns:
        raise DataError(f"{path}: there is no column {label!r}; there is {', '.join(columns)}")
    kind, reason = _kind(np.asarray(frame[label]), task, f"the column {label!r}")
    options = {"path": str(path.resolve()), "label": label, **_task(kind), "standardize": True}
    reasons = (f"labels are the column {label!r}, features the {len(columns) - 1} others", reason)
    return Recognised("csv", options, load("csv", **options), reasons)


def _named(names: Sequence[str], known: Sequence[str]) -> str | None:
    """Return the name that is most likely meant."""
    short = {name: name.rpartition("/")[2].lower() for name in names}
    return next((name for wanted in known for name in names if short[name] == wanted), None)


def _kind(labels: Array, task: str | None, what: str) -> tuple[str, str]:
    """Return the kind of prediction, and why."""
    if task is not None:
        return task, f"the task is {task}, as asked for"
    if labels.dtype.kind not in "biuf":
        return "classification", f"{what} holds texts: classes"
    values = np.unique(labels)
    one_hot = labels.ndim == 2 and labels.shape[1] > 1 and set(values.tolist()) == {0, 1} and (labels.sum(axis=1) == 1).all()
    if one_hot:
        return "classification", f"{what} is one-hot: {labels.shape[1]} classes"
    if labels.size == len(labels) and len(values) <= MOST_CLASSES and np.array_equal(values, np.arange(len(values))):
        return "classification", f"{what} holds the whole numbers 0 to {len(values) - 1}: classes"
    return "regression", f"{what} holds other numbers than 0, 1, 2, ...: values to regress"


def _task(kind: str) -> dict[str, Any]:
    return {} if kind == "classification" else {"task": kind}


def _first(path: Path, name: str, source: str) -> Array:
    """Return some of the samples."""
    if source == "hdf5":
        with open_hdf5(path, [name]) as (node,):
            return np.asarray(node[:1000])
    (values,) = read_arrays(path, [name])
    return values[:1000]


def _scale(samples: Array) -> dict[str, Any]:
    """Return the option that brings features of very different sizes to the same one; images keep their values."""
    if samples.dtype.kind not in "biuf" or samples.ndim not in (2, 3):
        return {}
    spread = samples.reshape(-1, samples.shape[-1]).std(axis=0)
    known = spread[spread > 0]
    different = known.size > 0 and (known.max() / known.min() > 10 or not 0.1 < known.mean() < 10)
    return {"standardize": True} if different and known.size == spread.size else {}
