"""Recorded I/Q traces in the layouts that people have."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from kerasnac.core.data.dataset import Array
from kerasnac.datasets import qubit_readout
from kerasnac.errors import DataError

N, LENGTH = 120, 6
STATES = np.arange(N) % 2
TRACES = np.random.default_rng(5).normal(scale=300, size=(N, LENGTH, 2)).astype(np.int16)
FLAT = TRACES.reshape(N, -1)


def save(folder: Path, **arrays: Array) -> Path:
    folder.mkdir(exist_ok=True)
    for name, array in arrays.items():
        np.save(folder / f"{name}.npy", array)
    return folder


def test_every_layout_gives_the_same(tmp_path: Path) -> None:
    qick = save(tmp_path / "qick", **{"0528_X_train_0_6": FLAT, "0528_y_train_0_6": STATES})
    places = [
        (qick, "taken for I/Q traces of 6 samples (0528_X_train_0_6.npy, 0528_y_train_0_6.npy), no test split of its own"),
        ([qick / "0528_X_train_0_6.npy"], "no test split of its own"),
        (save(tmp_path / "two", iq=FLAT, states=np.eye(2)[STATES]), "with labels in states.npy"),
        ([tmp_path / "two" / "iq.npy", tmp_path / "two" / "states.npy"], "with labels in states.npy"),
        (save(tmp_path / "last", all=np.column_stack([FLAT, STATES])), "with labels in the last column"),
        (save(tmp_path / "first", all=np.column_stack([STATES, FLAT])), "with labels in the first column"),
        (save(tmp_path / "pairs", X_train=TRACES, y_train=STATES[:, np.newaxis]), "X_train.npy"),
    ]
    expected = qubit_readout(path=qick).development
    for path, layout in places:
        found = qubit_readout(path=path)
        assert found.development.fingerprint == expected.fingerprint
        assert layout in found.taken_for
        assert found.taken_for.endswith("divided by 2^8")
    assert (found.input_shape, str(found.input_grid)) == ((LENGTH, 2), "ap_fixed<8,3>")
    assert np.sqrt(np.mean(found.development.train.x**2)) == pytest.approx(300 / 256, rel=0.1)
    assert not (found.development.train.x * 2**5 % 1).any()


def test_a_test_split_of_its_own(tmp_path: Path) -> None:
    parts = {"X_train_val": FLAT[:90], "y_train_val": STATES[:90], "X_test": FLAT[90:], "y_test": STATES[90:]}
    found = qubit_readout(60, path=save(tmp_path / "a", **parts), samples=4)
    sizes = [len(found.development.train), len(found.development.validation), len(found.open_test())]
    assert (sizes, found.input_shape) == ([49, 11, 30], (4, 2))
    np.testing.assert_array_equal(found.open_test().y, STATES[90:])
    assert "30 of them for the test" in found.describe()


def test_refused_files(tmp_path: Path) -> None:
    def refused(message: str, *paths: Path, **options: int) -> None:
        with pytest.raises(DataError, match=message):
            qubit_readout(path=list(paths), **options)

    refused(r"none: there is no such file or folder; expected a folder with X_train", tmp_path / "none")
    refused(r"empty: holds no npy file; expected", save(tmp_path / "empty"))
    refused(r"x: there is X_train\.npy, but no file with y_train", save(tmp_path / "x", X_train=FLAT))
    three = save(tmp_path / "t", X_train=FLAT, y_train=STATES, X_test=FLAT)
    refused(r"t: there is .*X_test\.npy.* but no file with y_test", three)
    both = save(tmp_path / "b", X_train=FLAT, y_train=STATES, a_X_train=FLAT)
    refused(r"b: X_train\.npy and a_X_train\.npy are both x_train: give one", both)
    assert qubit_readout(path=both / "X_train.npy").development.input_shape == (LENGTH, 2)
    shorter = save(tmp_path / "s", X_train=FLAT, y_train=STATES, X_test=FLAT[:9, :4], y_test=STATES[:9])
    refused(r"s: the traces of X_train\.npy and X_test\.npy have 6 and 2 samples", shorter)
    refused(
        r"f.y_train\.npy: has shape \(119,\); expected the states of 120",
        save(tmp_path / "f", X_train=FLAT, y_train=STATES[1:]),
    )
    refused(r"e.all\.npy: has shape \(120, 12\), which leaves no column", save(tmp_path / "e", all=FLAT))
    refused(r"o.all\.npy: neither the first nor the last of its 11 columns", save(tmp_path / "o", all=FLAT[:, 1:]))
    refused(r"odd\.npy \(traces\)|\(120, 11\)", save(tmp_path / "d", X_train=FLAT[:, 1:], y_train=STATES))
    refused(r"a: 3 paths; expected", *[save(tmp_path / "a")] * 3)
    with pytest.raises(DataError, match=r"samples = 7, but the traces have only 6"):
        qubit_readout(path=both / "X_train.npy", samples=7)
    with pytest.raises(DataError, match=r"label 2 of sample 2"):
        qubit_readout(path=save(tmp_path / "l", X_train=FLAT, y_train=np.arange(N) % 3))
