"""Loaders of arrays and files: the same data by every way, and one clear error for all that is wrong."""

from __future__ import annotations

import inspect
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pandas as pd
import pytest

from kerasnac.core.data.dataset import Array, Dataset, Task
from kerasnac.core.network.precision import Precision
from kerasnac.datasets import from_arrays, from_csv, from_hdf5, from_npz
from kerasnac.datasets.loaders import Options
from kerasnac.errors import ConfigError, DataError, EnvironmentProblem

N = 120
RNG = np.random.default_rng(2)
X = RNG.normal(size=(N, 3)).astype(np.float32)
Y = np.arange(N) % 3
NAMES = ("cat", "dog", "emu")
TEXT = np.array(NAMES)[Y]
COLUMNS = ("a", "b", "c")


def fingerprint(dataset: Dataset) -> str:
    return dataset.development.fingerprint


def write_npz(path: Path, **arrays: Any) -> Path:
    np.savez(path / "toy.npz", **arrays)
    return path / "toy.npz"


def write_hdf5(path: Path, **arrays: Any) -> Path:
    with h5py.File(path / "toy.h5", "w") as file:
        for name, array in arrays.items():
            file[name] = array.tolist() if array.dtype.kind == "U" else array
    return path / "toy.h5"


def write_csv(path: Path, x: Array = X, **columns: Any) -> Path:
    pd.DataFrame({**dict(zip(COLUMNS, x.T, strict=True)), **columns}).to_csv(path / "toy.csv", index=False)
    return path / "toy.csv"


def test_every_file_gives_the_same_as_the_arrays(tmp_path: Path) -> None:
    expected = fingerprint(from_arrays(X, Y))
    for dataset in (
        from_npz(write_npz(tmp_path, x=X, y=Y)),
        from_hdf5(write_hdf5(tmp_path, x=X, y=Y)),
        from_csv(write_csv(tmp_path, y=Y), label="y"),
    ):
        assert dataset.name == "toy"
        assert fingerprint(dataset) == expected


def test_text_labels_become_sorted_classes_everywhere(tmp_path: Path) -> None:
    datasets = [
        from_arrays(X, TEXT),
        from_arrays(X, TEXT.astype(object)),
        from_arrays(X, TEXT.astype(bytes)),
        from_npz(write_npz(tmp_path, x=X, y=TEXT)),
        from_hdf5(write_hdf5(tmp_path, x=X, y=TEXT)),
        from_csv(write_csv(tmp_path, kind=TEXT), label="kind"),
    ]
    assert {dataset.task for dataset in datasets} == {Task("classification", 3, names=NAMES)}
    assert len({fingerprint(dataset) for dataset in datasets}) == 1
    np.testing.assert_array_equal(datasets[0].open_test().y, from_arrays(X, Y).open_test().y)


def test_text_labels_follow_the_names_of_the_task() -> None:
    task = Task("classification", 3, names=NAMES[::-1])
    np.testing.assert_array_equal(from_arrays(X, TEXT, task=task).open_test().y, 2 - from_arrays(X, Y).open_test().y)
    with pytest.raises(DataError, match="labels have dtype"):
        from_arrays(X, TEXT, task="regression")
    with pytest.raises(DataError, match=r"'emu' .*cat, dog"):
        from_arrays(X, TEXT, task=Task("classification", 2, names=("cat", "dog")))


@pytest.mark.parametrize("labels", [Y[:, np.newaxis], np.eye(3)[Y], Y.astype(float), Y.astype(np.uint8)])
def test_forms_of_class_labels(labels: Array) -> None:
    assert fingerprint(from_arrays(X, labels)) == fingerprint(from_arrays(X, Y))


def test_booleans_are_numbers() -> None:
    dataset = from_arrays(X > 0, X[:, 0] > 0)
    assert dataset.task.outputs == 2
    np.testing.assert_array_equal(np.unique(dataset.open_test().x), [0, 1])


def test_regression_counts_its_outputs(tmp_path: Path) -> None:
    assert from_arrays(X, X[:, 0], task="regression").task == Task("regression", 1)
    assert from_arrays(X, X[:, :2], task="regression").task == Task("regression", 2)
    table = from_csv(write_csv(tmp_path), label=["a", "b"], task="regression")
    assert table.input_shape == (1,)
    assert table.development.train.y.shape == (84, 2)


def test_input_grid_as_text_or_object() -> None:
    for grid in ("ap_fixed<12,4>", Precision(12, 4)):
        assert from_arrays(X, Y, input_grid=grid).input_grid == Precision(12, 4)
    assert from_arrays(X, Y, input_bits=9).input_grid.bits == 9
    with pytest.raises(ConfigError, match="not a number format"):
        from_arrays(X, Y, input_grid="int8")


def test_images_and_nested_hdf5(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "toy.h5", "w") as file:
        file["raw/images"] = X.reshape(N, 3, 1, 1)
        file["raw/labels"] = Y
        file["entry/images"] = h5py.SoftLink("/raw/images")
    by_path = from_hdf5(tmp_path / "toy.h5", x="raw/images", y="/raw/labels")
    by_link = from_hdf5(tmp_path / "toy.h5", x="entry/images", y="raw/labels")
    assert by_path.input_shape == (3, 1, 1)
    assert fingerprint(by_path) == fingerprint(by_link)


def test_csv_features_are_all_others_or_those_named(tmp_path: Path) -> None:
    path = write_csv(tmp_path, y=Y, id=TEXT)
    assert from_csv(path, label="y", features=["c", "a"]).input_shape == (2,)
    with pytest.raises(DataError, match=r"toy\.csv: .*'id'"):
        from_csv(path, label="y")


def test_a_rare_class_is_a_warning_with_its_name() -> None:
    x = np.random.default_rng(0).normal(size=(2000, 2))
    y = np.zeros(2000, int)
    y[:700], y[::100] = 1, 2
    with pytest.warns(UserWarning, match=r"zoo: .*\bemu\b.*[01]\.\d+%"):
        from_arrays(x, y, task=Task("classification", 3, names=NAMES), name="zoo")


def test_even_classes_do_not_warn() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        from_arrays(X, Y)
        from_arrays(X, X, task="regression")


def broken(value: float) -> Array:
    x = X.copy()
    x[5, 1] = value
    return x


@pytest.mark.parametrize(
    ("x", "y", "message"),
    [
        (X, Y + 1, r"labels must be 0, 1, 2, \.\.\. without gaps; these begin 1, 2, 3"),
        (X, Y * 0.5, "these begin 0, 0.5, 1"),
        (X, Y * 0, "labels must be 0, 1"),
        (X, np.array([None, 1] * 60), "labels have dtype object"),
        (X + 1j, Y, "samples have dtype complex"),
        (TEXT[:, np.newaxis], Y, "samples have dtype <U3"),
        (X[:, 0], Y, "samples have shape"),
        (X[:0], Y[:0], "at least one sample"),
        (X[:4], [0, 1, 1, 0], "empty split"),
        (broken(np.nan), Y, "sample 5 is NaN"),
        (X, Y[:-1], "120 samples but labels of shape"),
    ],
)
def test_refused_arrays(x: Array, y: Array, message: str) -> None:
    with pytest.raises(DataError, match=f"^arrays: .*{message}"):
        from_arrays(x, y)


def test_refused_task() -> None:
    with pytest.raises(ConfigError, match=r"task: unknown task 'ranking': one of classification, regression.*got 'ranking'"):
        from_arrays(X, Y, task="ranking")  # type: ignore[arg-type]


@pytest.mark.parametrize(("load", "write"), [(from_npz, write_npz), (from_hdf5, write_hdf5)])
def test_errors_of_array_files_say_where(load: Callable[..., Dataset], write: Callable[..., Path], tmp_path: Path) -> None:
    path = write(tmp_path, x=broken(np.inf), y=Y)
    with pytest.raises(DataError, match=r"toy\..*'x'.*'y'.*mine: sample 5 .*NaN"):
        load(path, name="mine")
    with pytest.raises(DataError, match=r"toy\..*'images'.* x, y"):
        load(path, x="images")
    with pytest.raises(DataError, match="nowhere: there is no such file"):
        load(tmp_path / "nowhere")
    path.write_bytes(b"nothing of the kind")
    with pytest.raises(DataError, match=rf"{path.name}: .*(npz|HDF5)"):
        load(path)


def test_npz_with_pickled_objects(tmp_path: Path) -> None:
    path = write_npz(tmp_path, x=np.array([{}, {}]), y=Y)
    with pytest.raises(DataError, match=r"toy\.npz: cannot be read as npz"):
        from_npz(path)


def test_npz_with_damage(tmp_path: Path) -> None:
    path = write_npz(tmp_path, x=X, y=Y)
    content = bytearray(path.read_bytes())
    content[300] ^= 0xFF
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"toy\.npz: cannot be read as npz"):
        from_npz(path)


def test_errors_of_tables_say_where(tmp_path: Path) -> None:
    path = write_csv(tmp_path, broken(np.inf), y=Y)
    with pytest.raises(DataError, match=r"toy\.csv: .*'b' .*1 of 120 .*sample 5"):
        from_csv(path, label="y")
    with pytest.raises(DataError, match=r"toy\.csv: .*'z'.* a, b, c, y"):
        from_csv(path, label="z")
    with pytest.raises(DataError, match="column 'a'"):
        from_csv(path, label="a", features=["a"])
    with pytest.raises(DataError, match="no column of labels"):
        from_csv(path, label=[])
    with pytest.raises(DataError, match="no column of features"):
        from_csv(path, label="y", features=[])
    with pytest.raises(DataError, match=r"toy\.csv \(labels y\): toy: "):
        from_csv(write_csv(tmp_path, y=Y + 1), label="y")
    with pytest.raises(DataError, match="column 'kind' is not numeric"):
        from_csv(write_csv(tmp_path, kind=TEXT), label=["a", "kind"], task="regression")
    with pytest.raises(DataError, match="nowhere: there is no such file"):
        from_csv(tmp_path / "nowhere", label="y")
    path.write_text("")
    with pytest.raises(DataError, match="cannot be read as CSV"):
        from_csv(path, label="y")


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "h5py", None)
    with pytest.raises(EnvironmentProblem, match="pip install h5py"):
        from_hdf5(tmp_path / "toy.h5")


def test_the_shared_options_are_those_of_from_arrays() -> None:
    parameters = [p for p in inspect.signature(from_arrays).parameters.values() if p.name not in ("weight", "split")]
    assert list(Options.__annotations__) == [p.name for p in parameters if p.kind is p.KEYWORD_ONLY]
    hints = {name: hint.__forward_arg__ for name, hint in Options.__annotations__.items()}
    assert hints == {p.name: p.annotation for p in parameters if p.kind is p.KEYWORD_ONLY}
