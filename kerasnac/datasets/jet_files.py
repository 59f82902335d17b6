"""Files of jets in the layouts that people have, recognised by their content."""

from __future__ import annotations

import warnings
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from kerasnac.core.data.dataset import Array
from kerasnac.datasets.files import (
    array_names,
    column,
    open_hdf5,
    optional,
    read_arrays,
    read_npy,
    read_table,
    require,
)
from kerasnac.datasets.labels import class_indices
from kerasnac.datasets.loaders import plain
from kerasnac.errors import DataError

#: Classes of the hls4ml jets in the order of the tutorial's one-hot columns: gluon, light quark, top, W, Z.
HLS4ML_CLASSES = ("g", "q", "t", "w", "z")

#: Classes in the order of the last columns but one of ``jets`` in the files of particle lists.
LHC_CLASSES = ("g", "q", "w", "z", "t")

#: Features of the hls4ml jets by the names of the files of particle lists, with their usual columns.
LHC_FEATURES = {
    "j_zlogz": 12,
    "j_c1_b0_mmdt": 34,
    "j_c1_b1_mmdt": 35,
    "j_c1_b2_mmdt": 36,
    "j_c2_b1_mmdt": 37,
    "j_c2_b2_mmdt": 38,
    "j_d2_b1_mmdt": 39,
    "j_d2_b2_mmdt": 40,
    "j_d2_a1_b1_mmdt": 41,
    "j_d2_a1_b2_mmdt": 42,
    "j_m2_b1_mmdt": 43,
    "j_m2_b2_mmdt": 44,
    "j_n2_b1_mmdt": 45,
    "j_n2_b2_mmdt": 46,
    "j_mass_mmdt": 48,
    "j_multiplicity": 52,
}

#: Columns of a particle in these files: momentum, and angles to the jet axis.
LHC_PARTICLE = {"j1_pt": 5, "j1_etarel": 8, "j1_phirel": 11}

#: Arrays that the hls4ml tutorial saves.
TUTORIAL = ("X_train_val", "y_train_val", "X_test", "y_test")

#: Names of arrays that hold particle lists, and their labels, in files without any other layout.
PARTICLES, LABELS = ("particles", "constituents", "x", "X"), ("label", "labels", "y", "Y")

#: Folders of the files for the test, beside one named ``train``.
_TEST_FOLDERS = ("test", "val")

#: Arrays of the layout of this project.
EXPECTED = "constituents (jets, particles, 3), features (jets, features), label (jets,) and classes (classes,)"

#: All layouts, for messages.
LAYOUTS = (
    f"an npz file with the arrays {EXPECTED}; OpenML's ARFF or CSV table; the arrays {', '.join(TUTORIAL)} of the hls4ml "
    "tutorial; HDF5 files with jets and jetConstituentList, or a folder of such; or particles (jets, particles, 3) with "
    "columns pT, Δη, Δφ, and labels y"
)


@dataclass(frozen=True)
class JetFile:
    """Jets as a file has them.

    Attributes:
        values: Features (jets, features), or the hardest particles (jets, particles, 3) with momentum in GeV and angles.
        labels: Class indices (jets,), or one-hot (jets, classes).
        classes: Names of the classes; none if the file has none.
        source: The arrays, for messages.
        layout: What the file was taken for.
        test: How many jets at the end are those of a test split of its own; 0 for none.
    """

    values: Array
    labels: Array
    classes: tuple[str, ...]
    source: str
    layout: str
    test: int = 0


def read_jets(path: str | Path, constituents: int | None, samples: int | None = None) -> JetFile:
    """Read jets from files of any known layout.

    Args:
        path: A file, or a folder of files.
        constituents: Read this many of the hardest particles; None reads features.
        samples: Read only that many jets, the first; those of a test split of its own are read all.

    Raises:
        DataError: With the file, if it has no known layout, or lacks what is asked for.
        EnvironmentProblem: If a package that reads it is missing.
    """
    path = Path(path)
    if not path.exists():
        raise DataError(f"{path}: there is no such file or folder; expected {LAYOUTS}")
    found = _recognised(path, constituents, samples)
    if constituents is None and found.values.ndim != 2:
        raise DataError(
            f"{path}: taken for {found.layout}, which holds particles and no features: give constituents, such as 8"
        )
    if constituents is not None and found.values.ndim != 3:
        raise DataError(f"{path}: taken for {found.layout}, which holds features and no particles: leave out constituents")
    if constituents is not None:
        found = replace(found, values=_hardest(path, found, constituents))
    return _first_jets(path, found, samples)


def _recognised(path: Path, constituents: int | None, samples: int | None) -> JetFile:
    """Read the jets of a file or folder by what it holds; more particles than asked for are still there."""
    files, test = _hdf5_files(path), list[Path]()
    if not files and path.is_dir() and (path / "train").is_dir():
        files = _hdf5_files(path / "train")
        test = next((there for name in _TEST_FOLDERS if (there := _hdf5_files(path / name))), [])
    names = array_names(files[0] if files else path)
    if names is None:
        return _table_of(path)
    if {"jets", "jetConstituentList"} <= set(names):
        return _lhc(path, files, test, constituents, samples)
    if set(TUTORIAL) <= set(names):
        return _tutorial_of(path)
    if "label" in names and {"features", "constituents"} & set(names):
        return _own(path, constituents)
    if any(name in PARTICLES for name in names):
        return _lists(path, names, constituents)
    raise DataError(f"{path}: holds {', '.join(names[:12]) or 'nothing'}, which is no known layout; expected {LAYOUTS}")


def tutorial(path: str | Path) -> list[Array]:
    """Read the arrays that the hls4ml tutorial saves, with features (jets, 16) and one-hot labels (jets, 5).

    Raises:
        DataError: If one is missing, or has another shape.
    """
    arrays = read_arrays(path, TUTORIAL)
    for key, array, width in zip(TUTORIAL, arrays, (len(LHC_FEATURES), len(HLS4ML_CLASSES)) * 2, strict=True):
        if array.ndim != 2 or array.shape[1] != width:
            raise DataError(f"{path}: {key} has shape {array.shape}; expected (jets, {width})")
    for first in (0, 2):
        if len(arrays[first]) != len(arrays[first + 1]):
            keys = f"{TUTORIAL[first]} and {TUTORIAL[first + 1]}"
            raise DataError(f"{path}: {keys} have {len(arrays[first])} and {len(arrays[first + 1])} jets")
    return arrays


def table(path: str | Path) -> tuple[Array, Array]:
    """Read features (jets, 16) and class indices (jets,) of OpenML's table.

    Raises:
        DataError: If a column is missing, has gaps or is of the wrong kind.
    """
    frame = read_table(path)
    if len(frame.columns) != len(LHC_FEATURES) + 1:
        raise DataError(
            f"{path}: there are {len(frame.columns)} columns; expected {len(LHC_FEATURES)} features and, last, "
            f"the class ({', '.join(HLS4ML_CLASSES)})"
        )
    *features, last = (frame[name] for name in frame.columns)
    labels = plain(column(last, path, text=True), f"{path}: column {last.name!r}: classes")
    if labels.dtype.kind != "U":
        raise DataError(f"{path}: column {last.name!r} holds numbers; expected the classes {', '.join(HLS4ML_CLASSES)}")
    indices, _ = class_indices(labels, HLS4ML_CLASSES, f"{path}: column {last.name!r}")
    return np.column_stack([column(feature, path) for feature in features]), indices


def _table_of(path: Path) -> JetFile:
    if path.suffix.lower() not in (".arff", ".csv"):
        raise DataError(f"{path}: is no known layout; expected {LAYOUTS}")
    x, y = table(path)
    return JetFile(x, y, HLS4ML_CLASSES, "features, class", f"OpenML's table of the hls4ml jets ({path.suffix[1:].upper()})")


def _tutorial_of(path: Path) -> JetFile:
    x, y, x_test, y_test = tutorial(path)
    classes = _classes(path / "classes.npy") if path.is_dir() and (path / "classes.npy").is_file() else HLS4ML_CLASSES
    layout = f"the arrays of the hls4ml tutorial, {len(x_test):,} jets of X_test for the test"
    return JetFile(
        np.concatenate([x, x_test]), np.concatenate([y, y_test]), classes, ", ".join(TUTORIAL), layout, test=len(x_test)
    )


def _classes(path: Path) -> tuple[str, ...]:
    """Return the names in ``classes.npy``; those of the tutorial's encoder, sorted, if it is pickled, which is never read."""
    try:
        names = tuple(str(name) for name in plain(read_npy(path), str(path)).tolist())
    except DataError:
        return HLS4ML_CLASSES
    if sorted(names) != sorted(HLS4ML_CLASSES):
        raise DataError(f"{path}: holds {', '.join(names)[:60]}; expected the classes {', '.join(HLS4ML_CLASSES)}")
    return names


def _own(path: Path, constituents: int | None) -> JetFile:
    """Read features or particles of the layout of this project."""
    source = "features" if constituents is None else "constituents"
    try:
        values, label, classes = read_arrays(path, (source, "label", "classes"))
    except DataError as error:
        raise DataError(f"{error}; expected an npz file with the arrays {EXPECTED}") from error
    good = values.ndim == 2 if constituents is None else values.ndim == 3 and values.shape[2] == 3
    if not good or label.ndim != 1 or classes.ndim != 1:
        shapes = f"{source} {values.shape}, label {label.shape}, classes {classes.shape}"
        raise DataError(f"{path}: the arrays {shapes} are not {EXPECTED}")
    return JetFile(values, label, tuple(map(str, classes.tolist())), source, f"jets with {source}, label and classes")


def _lists(path: Path, names: Sequence[str], constituents: int | None) -> JetFile:
    """Read particles (jets, particles, 3 or more) with the columns pT, Δη, Δφ first, and their labels."""
    x = next(name for name in PARTICLES if name in names)
    y = next((name for name in LABELS if name in names), None)
    if y is None:
        raise DataError(f"{path}: there are particles {x!r} but no labels ({', '.join(LABELS)}); it holds {', '.join(names)}")
    values, labels = read_arrays(path, (x, y))
    classes: tuple[str, ...] = ()
    if "classes" in names:
        classes = tuple(map(str, read_arrays(path, ("classes",))[0].tolist()))
    if values.ndim == 3 and values.shape[2] >= 3 and values.dtype.kind in "iuf":
        values = values[..., :3]
    elif constituents is not None or values.ndim != 2:
        raise DataError(
            f"{path}: {x} has shape {values.shape} and dtype {values.dtype}; expected numbers (jets, particles, 3) with the "
            "columns pT in GeV, Δη, Δφ"
        )
    return JetFile(values, labels, classes, f"{x}, {y}", f"particle lists ({x}: pT, Δη, Δφ; labels {y})")


def _lhc(path: Path, files: Sequence[Path], test: Sequence[Path], constituents: int | None, samples: int | None) -> JetFile:
    """Read the HDF5 files of the LHC jet dataset, https://doi.org/10.5281/zenodo.3602260, with 30 to 150 particles per jet."""
    parts, jets = [], 0
    for file in files:
        if samples is not None and jets >= samples:
            break
        parts.append(_lhc_file(file, constituents))
        jets += len(parts[-1][0])
    own = [_lhc_file(file, constituents) for file in test]
    values, labels = (np.concatenate(arrays) for arrays in zip(*parts, strict=True))
    what = "features" if constituents is None else f"the {constituents} hardest particles with {', '.join(LHC_PARTICLE)}"
    count = f"{len(parts)} of {len(files)} files" if len(files) > 1 else "one file"
    layout = f"jets of the LHC jet dataset (jets, jetConstituentList), {count}: {what}"
    found = _first_jets(path, JetFile(values, labels, LHC_CLASSES, what, layout), samples)
    if not own:
        return found
    x_test, y_test = (np.concatenate(arrays) for arrays in zip(*own, strict=True))
    values, labels = np.concatenate([found.values, x_test]), np.concatenate([found.labels, y_test])
    layout += f"; the {len(x_test):,} jets in {test[0].parent.name}/ for the test"
    return replace(found, values=values, labels=labels, layout=layout, test=len(x_test))


def _lhc_file(path: Path, constituents: int | None) -> tuple[Array, Array]:
    """Return features or particles, float32, and class indices of one file of the LHC jet dataset."""
    with open_hdf5(path, ("jets", "jetConstituentList")) as (jets, particles):
        if jets.ndim != 2 or particles.ndim != 3 or len(jets) != len(particles):
            raise DataError(
                f"{path}: jets has shape {jets.shape}, jetConstituentList {particles.shape}; expected (jets, values) and "
                "(jets, particles, values)"
            )
        places = _columns(jets, "jetFeatureNames", {f"j_{name}": i - 6 for i, name in enumerate(LHC_CLASSES)}, path)
        hot = np.stack([np.asarray(jets[:, place]) for place in places], axis=1)
        if constituents is None:
            values = np.stack([np.asarray(jets[:, i]) for i in _columns(jets, "jetFeatureNames", LHC_FEATURES, path)], axis=1)
        else:
            columns = _columns(particles, "particleFeatureNames", LHC_PARTICLE, path)
            values = np.stack([np.asarray(particles[:, :, i]) for i in columns], axis=2)
            values = _sorted(path, values, constituents)
    kept = (hot.sum(axis=1) == 1) & ((hot == 0) | (hot == 1)).all(axis=1)
    if not kept.any():
        raise DataError(f"{path}: no jet has exactly one of the origins {', '.join(LHC_CLASSES)} in the columns of jets")
    if not kept.all():
        warnings.warn(f"{path}: dropped {np.sum(~kept)} of {len(kept)} jets without exactly one origin", stacklevel=2)
    return values[kept].astype(np.float32), hot[kept].argmax(axis=1)


def _columns(node: Any, key: str, usual: dict[str, int], path: Path) -> list[int]:
    """Return the columns with some names, by the HDF5 dataset of names if there is one, else the usual ones.

    Raises:
        DataError: If a name is missing, or there are fewer columns.
    """
    width = node.shape[-1]
    if key in node.file:
        names = [name.decode() if isinstance(name, bytes) else str(name) for name in node.file[key][()]][:width]
        require(list(usual), names, path, f"column ({key})")
        return [names.index(name) for name in usual]
    if any(not -width <= place < width for place in usual.values()):
        raise DataError(f"{path}: there is no {key}, and {width} columns are too few for the usual {', '.join(usual)}")
    return [place % width for place in usual.values()]


def _hardest(path: Path, found: JetFile, count: int) -> Array:
    """Return the hardest particles of a file's."""
    values = found.values
    if not np.isfinite(values.astype(np.float32)).all():
        return _first(path, values, count)  # Said later, with the number of the jet.
    if (values[..., 0] < 0).any() or (np.abs(values[..., 1:].astype(np.float32)) > np.pi).any():
        raise DataError(
            f"{path} ({found.source}): a first column below 0 or another one beyond ±π is not (pT, Δη, Δφ): give the "
            "momentum in GeV and the angles to the jet axis, or use the source particle_jets with scaling: none"
        )
    return _sorted(path, values, count)


def _sorted(path: Path, values: Array, count: int) -> Array:
    """Return the first particles by descending momentum, shape (jets, count, 3); equal ones keep their order."""
    order = np.argsort(-values[..., 0].astype(np.float32), axis=1, kind="stable")
    return np.take_along_axis(values, _first(path, order, count)[..., np.newaxis], axis=1)


def _first(path: Path, values: Array, count: int) -> Array:
    if count > values.shape[1]:
        raise DataError(f"{path}: constituents = {count}, but there are only {values.shape[1]}")
    return values[:, :count]


def _first_jets(path: Path, found: JetFile, samples: int | None) -> JetFile:
    """Return the first jets, and all of a test split."""
    given = len(found.values) - found.test
    if samples is None or samples == given:
        return found
    if samples > given:
        raise DataError(f"{path}: samples = {samples}, but there are only {given}")
    chosen = np.r_[:samples, given : len(found.values)]
    return replace(found, values=found.values[chosen], labels=found.labels[chosen])


def _hdf5_files(path: Path) -> list[Path]:
    """Return the HDF5 files of a folder, sorted, or the file itself if it is one; nothing where there is none."""
    if path.is_dir():
        return sorted(file for file in path.iterdir() if file.suffix in (".h5", ".hdf5") and file.is_file())
    if zipfile.is_zipfile(path) or path.suffix.lower() in (".arff", ".csv", ".npy"):
        return []
    return [path] if optional("h5py").is_hdf5(path) else []
