"""Samples from ``tf.data``, pandas and tuples, and splits of one's own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from kerasnac import datasets
from kerasnac.core.data.dataset import Dataset
from kerasnac.core.settings.yaml_files import load_run
from kerasnac.datasets import from_arrays, from_csv, from_hdf5, from_npz, from_splits, load
from kerasnac.errors import DataError

RNG = np.random.default_rng(0)
X = RNG.normal(size=(90, 4)).astype(np.float32)
Y = np.arange(90) % 3
W = RNG.uniform(1, 2, 90).astype(np.float32)
SPLIT = np.repeat(["train", "validation", "test"], [60, 20, 10])
PARTS = {"train": slice(60), "validation": slice(60, 80), "test": slice(80, 90)}


@pytest.fixture(scope="module")
def tf(keras: Any) -> Any:
    from kerasnac.adapters.keras.runtime import tensorflow

    return tensorflow()


def same(one: Dataset, two: Dataset) -> bool:
    return one.development.fingerprint == two.development.fingerprint and np.array_equal(one.open_test().x, two.open_test().x)


def slices(tf: Any, *arrays: Any) -> Any:
    return tf.data.Dataset.from_tensor_slices(arrays)


def test_tf_data_in_batches_or_not(tf: Any) -> None:
    expected = from_arrays(X, Y)
    for given in (slices(tf, X, Y), slices(tf, X, Y).batch(32), slices(tf, X, Y).batch(30, drop_remainder=True).prefetch(1)):
        assert same(from_arrays(given), expected)
    weighted = from_arrays(slices(tf, X, Y, W).batch(7))
    assert same(weighted, from_arrays(X, Y, weight=W))
    assert same(weighted, from_arrays((X, Y, W)))
    assert weighted.development.fingerprint != expected.development.fingerprint
    values = X[:, :2]
    assert same(from_arrays(slices(tf, X, values), task="regression"), from_arrays(X, values, task="regression"))


def test_tf_data_that_is_none(tf: Any) -> None:
    with pytest.raises(DataError, match=r"arrays: the tf.data.Dataset never ends: leave out repeat\(\)"):
        from_arrays(slices(tf, X, Y).repeat())
    with pytest.raises(DataError, match=r"must yield \(samples, labels\)"):
        from_arrays(tf.data.Dataset.from_tensor_slices(X))
    with pytest.raises(DataError, match="must yield"):
        from_arrays(slices(tf, {"a": X, "b": X}, Y))
    with pytest.raises(DataError, match="is empty"):
        from_arrays(slices(tf, X, Y).take(0))
    with pytest.raises(DataError, match="batches, or single samples of 4 values"):
        from_arrays(slices(tf, X, X), task="regression")
    with pytest.raises(DataError, match="give them there"):
        from_arrays(slices(tf, X, Y), weight=W)


def test_pandas() -> None:
    frame = pd.DataFrame(X, columns=list("abcd"))
    assert same(from_arrays(frame, pd.Series(Y)), from_arrays(X, Y))
    words = pd.Series(np.array(["g", "q", "t"])[Y])
    for labels in (words, words.astype("category"), words.to_frame()):
        found = from_arrays(frame, labels, weight=pd.Series(W))
        assert found.task.names == ("g", "q", "t")
        assert found.development.train.weight is not None
    with pytest.raises(DataError, match="arrays: column 'b' is empty or infinite in 1 of 90 samples"):
        from_arrays(frame.assign(b=frame.b.where(frame.index != 3)), Y)
    with pytest.raises(DataError, match="arrays: column 'e' is not numeric"):
        from_arrays(frame.assign(e="x"), Y)


def test_labels_that_are_left_out() -> None:
    with pytest.raises(DataError, match="there are no labels: give y"):
        from_arrays(X)


def test_labels_of_splits() -> None:
    data = from_arrays(X, Y, split=SPLIT, input_grid="ap_fixed<16,4>")
    assert [len(data.development.train), len(data.development.validation), len(data.open_test())] == [60, 20, 10]
    np.testing.assert_allclose(data.open_test().x, X[80:], atol=1e-3)
    assert same(data, from_arrays(X, Y, split=SPLIT, seed=5, input_grid="ap_fixed<16,4>"))


def test_a_split_that_is_left_out_is_drawn() -> None:
    data = from_arrays(X, Y, split=np.where(SPLIT == "validation", "train", SPLIT), fractions=(0.6, 0.2, 0.2))
    assert [len(data.development.train), len(data.development.validation), len(data.open_test())] == [60, 20, 10]
    both = from_arrays(X, Y, split=["train"] * 90, fractions=(0.8, 0.1, 0.1))
    assert [len(both.development.train), len(both.development.validation), len(both.open_test())] == [72, 9, 9]


def test_labels_of_splits_that_are_none() -> None:
    with pytest.raises(DataError, match="sample 60 belongs to the split 'val': there are train, validation, test"):
        from_arrays(X, Y, split=np.where(SPLIT == "validation", "val", SPLIT))
    with pytest.raises(DataError, match=r"labels of splits of shape \(80,\) for 90 samples"):
        from_arrays(X, Y, split=SPLIT[:80])


def test_splits_of_ones_own(tf: Any) -> None:
    parts = [(X[part], Y[part]) for part in PARTS.values()]
    expected = from_arrays(X, Y, split=SPLIT)
    assert same(from_splits(*parts), expected)
    assert same(from_splits(slices(tf, *parts[0]), slices(tf, *parts[1]).batch(3), parts[2]), expected)
    drawn = from_splits(parts[0], None, parts[2])
    assert len(drawn.open_test()) == 10
    with pytest.raises(DataError, match=r"the samples have other shapes: \(10, 3\) in test, \(60, 4\) in train"):
        from_splits(parts[0], parts[1], (parts[2][0][:, :3], parts[2][1]))
    with pytest.raises(DataError, match="some of the splits have weights"):
        from_splits((*parts[0], W[:60]), parts[1], parts[2])


def test_files_with_weights_and_splits(tmp_path: Path) -> None:
    h5py = pytest.importorskip("h5py")
    np.savez(tmp_path / "a.npz", x=X, y=Y, w=W, s=SPLIT)
    with h5py.File(tmp_path / "a.h5", "w") as file:
        for key, array in {"x": X, "y": Y, "w": W}.items():
            file[key] = array
        file["s"] = SPLIT.astype("S")
    table = pd.DataFrame(X.astype(np.float64), columns=list("abcd")).assign(label=Y, w=W.astype(np.float64), s=SPLIT)
    table.to_csv(tmp_path / "a.csv", index=False)
    expected = from_arrays(X, Y, weight=W, split=SPLIT)
    assert same(from_npz(tmp_path / "a.npz", weight="w", split="s"), expected)
    assert same(from_hdf5(tmp_path / "a.h5", weight="w", split="s"), expected)
    assert same(from_csv(tmp_path / "a.csv", label="label", weight="w", split="s"), expected)
    with pytest.raises(DataError, match=r"a\.npz: there is no array 'weights'"):
        from_npz(tmp_path / "a.npz", weight="weights")
    with pytest.raises(DataError, match="column 'w' is both a feature and one of weights"):
        from_csv(tmp_path / "a.csv", label="label", features=["a", "w"], weight="w")


def test_separate_files_in_a_run_file(tmp_path: Path) -> None:
    for name, part in PARTS.items():
        np.savez(tmp_path / f"{name}.npz", x=X[part], y=Y[part])
    (tmp_path / "run.yaml").write_text(
        "space: {input: 4, outputs: 3, blocks: [{block: mlp, widths: [[2, 4]]}]}\n"
        "dataset: {source: npz, path: train.npz, validation_path: validation.npz, test_path: test.npz}\n"
    )
    options = load_run(tmp_path / "run.yaml").dataset.options
    assert same(load("npz", **options), from_arrays(X, Y, split=SPLIT))
    missing = {**options, "test_path": str(tmp_path / "none.npz")}
    with pytest.raises(DataError, match=r"none\.npz: there is no such file"):
        load("npz", **missing)


@pytest.mark.parametrize(("name", "options"), [("digits", {}), ("bragg_peaks", {"n": 200}), ("qubit_readout", {"n": 200})])
def test_the_published_fractions(name: str, options: Any) -> None:
    data = datasets.load(name, fractions=[0.8, 0.1, 0.1], **options)
    sizes = np.array([len(data.development.train), len(data.development.validation), len(data.open_test())])
    np.testing.assert_allclose(sizes / sizes.sum(), [0.8, 0.1, 0.1], atol=1e-3)
