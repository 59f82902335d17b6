"""Jets: features and particles of small files, in the layouts of all sources."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pandas as pd
import pytest

from kerasnac.core.data.dataset import Array, Task
from kerasnac.datasets.jets import hls4ml_jets, jets, particle_jets
from kerasnac.errors import ConfigError, DataError

JETS = 400


def content() -> dict[str, Any]:
    rng = np.random.default_rng(0)
    momentum = np.sort(rng.exponential(60.0, (JETS, 6, 1)), axis=1)[:, ::-1] + 0.5
    particles = np.concatenate([momentum, rng.normal(0, 0.1, (JETS, 6, 2))], axis=2)
    particles[::4, 4:] = 0  # every fourth jet has only four particles
    return {
        "constituents": particles.astype(np.float16),
        "features": rng.normal(7.0, 30.0, (JETS, 16)).astype(np.float32),
        "label": (np.arange(JETS) % 5).astype(np.uint8),
        "classes": np.array(["g", "q", "w", "z", "t"]),
    }


@pytest.fixture
def path(tmp_path: Path) -> Path:
    np.savez(tmp_path / "jets.npz", **content())
    return tmp_path / "jets.npz"


def test_features_are_standardised(path: Path) -> None:
    dataset = jets(path)
    assert dataset.name == "jets"
    assert dataset.input_shape == (16,)
    assert dataset.input_grid.bits == 12
    assert (dataset.task.kind, dataset.task.outputs) == ("classification", 5)
    assert dataset.task.names == ("g", "q", "w", "z", "t")
    np.testing.assert_allclose(dataset.development.train.x.mean(0), 0, atol=0.01)
    np.testing.assert_allclose(dataset.development.train.x.std(0), 1, atol=0.01)


def test_features_as_they_are(path: Path) -> None:
    dataset = jets(path, standardize=False, input_bits=16)
    test = dataset.open_test()
    distance = np.abs(test.x[:, np.newaxis] - content()["features"]).max(axis=2)
    assert distance.min(axis=1).max() <= dataset.input_grid.step


def test_particles_are_scaled_and_padding_stays_zero(path: Path) -> None:
    dataset = jets(path, constituents=5, input_bits=14)
    assert dataset.name == "jets_5"
    assert dataset.input_shape == (5, 3)
    x = dataset.development.train.x
    assert np.abs(x).max() <= 1
    padded = x[:, 4, 0] == 0
    assert 0.15 < padded.mean() < 0.35
    assert not x[padded, 4].any()
    hardest = np.sort(np.log1p(content()["constituents"][:, 0, 0].astype(np.float64)) / 8)
    assert x[:, 0, 0].max() <= hardest[-1] + dataset.input_grid.step
    assert x[:, 0, 0].min() >= hardest[0] - dataset.input_grid.step


def test_samples_are_the_first_of_the_file(path: Path) -> None:
    dataset = jets(path, samples=200)
    development = dataset.development
    assert len(development.train) + len(development.validation) + len(dataset.open_test()) == 200


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"samples": 0}, ConfigError, "jets: samples: .*greater than or equal to 1"),
        ({"constituents": -1}, ConfigError, "jets: constituents: .*greater than or equal to 1"),
        ({"samples": JETS + 1}, DataError, r"jets\.npz: samples = 401, but there are only 400"),
        ({"constituents": 7}, DataError, r"jets\.npz: constituents = 7, but there are only 6"),
    ],
)
def test_refused_options(path: Path, options: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        jets(path, **options)


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"none\.npz: .*constituents"):
        jets(tmp_path / "none.npz")


def test_missing_array(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", features=content()["features"], label=content()["label"])
    with pytest.raises(DataError, match=r"a\.npz: .*'classes'.*features, label.*constituents"):
        jets(tmp_path / "a.npz")


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("features", np.zeros((JETS, 4, 4)), r"features \(400, 4, 4\)"),
        ("features", np.full((JETS, 16), np.nan), "sample 0 is NaN"),
        ("label", np.zeros((JETS, 5)), r"label \(400, 5\)"),
        ("label", np.full(JETS, 5), "label 5 of sample 0 is outside 0..4"),
        ("label", np.zeros(7), "400 samples but labels of shape"),
    ],
)
def test_refused_arrays(tmp_path: Path, key: str, value: Array, message: str) -> None:
    np.savez(tmp_path / "a.npz", **{**content(), key: value})
    with pytest.raises(DataError, match=rf"a\.npz.*{message}"):
        jets(tmp_path / "a.npz")


def test_refused_particle_shape(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", **{**content(), "constituents": np.zeros((JETS, 6, 4))})
    with pytest.raises(DataError, match=r"constituents \(400, 6, 4\)"):
        jets(tmp_path / "a.npz", constituents=2)


FEATURES = np.random.default_rng(3).normal(5.0, 20.0, (JETS, 16)).astype(np.float32)
KINDS = np.array(["g", "q", "w", "z", "t"])[np.arange(JETS) % 5]


def table(path: Path, **columns: Any) -> Path:
    frame = pd.DataFrame({f"f{i}": FEATURES[:, i] for i in range(16)} | {"class": KINDS} | columns)
    frame.to_csv(path / "jets.csv", index=False)
    return path / "jets.csv"


def tutorial() -> dict[str, Any]:
    hot = (KINDS[:, np.newaxis] == np.array(["g", "q", "t", "w", "z"])).astype(np.float64)
    return {"X_train_val": FEATURES[:300], "y_train_val": hot[:300], "X_test": FEATURES[300:], "y_test": hot[300:]}


def test_hls4ml_csv_and_arff_are_the_same(tmp_path: Path) -> None:
    path = table(tmp_path)
    _, _, rows = path.read_text().partition("\n")
    attributes = "".join(f"@ATTRIBUTE f{i} REAL\n" for i in range(16))
    header = f"@RELATION jets\n\n{attributes}@ATTRIBUTE class {{g, q, w, z, t}}\n\n@DATA\n"
    (tmp_path / "jets.arff").write_text(header + rows)
    csv, arff = hls4ml_jets(path), hls4ml_jets(tmp_path / "jets.arff")
    assert csv.development.fingerprint == arff.development.fingerprint
    assert csv.name == "hls4ml_jets"
    assert csv.input_shape == (16,)
    assert csv.task == Task("classification", 5, names=("g", "q", "t", "w", "z"))
    assert [len(csv.development.train), len(csv.development.validation), len(csv.open_test())] == [240, 80, 80]
    np.testing.assert_allclose(csv.development.train.x.mean(0), 0, atol=0.01)


def test_hls4ml_classes_are_those_of_the_jets(tmp_path: Path) -> None:
    test = hls4ml_jets(table(tmp_path), standardize=False, input_bits=20).open_test()
    nearest = np.abs(test.x[:, np.newaxis] - FEATURES).max(axis=2).argmin(axis=1)
    assert [("g", "q", "t", "w", "z")[label] for label in test.y] == KINDS[nearest].tolist()


def test_hls4ml_tutorial_keeps_its_test_split(tmp_path: Path) -> None:
    for key, array in tutorial().items():
        np.save(tmp_path / f"{key}.npy", array)
    np.savez(tmp_path / "all.npz", **tutorial())
    folder, file = (hls4ml_jets(path, standardize=False, input_bits=20) for path in (tmp_path, tmp_path / "all.npz"))
    assert folder.development.fingerprint == file.development.fingerprint
    test = folder.open_test()
    np.testing.assert_allclose(test.x, FEATURES[300:], atol=folder.input_grid.step)
    np.testing.assert_array_equal(test.y, tutorial()["y_test"].argmax(axis=1))
    assert [len(folder.development.train), len(folder.development.validation)] == [225, 75]
    rest = np.concatenate([folder.development.train.x, folder.development.validation.x])
    np.testing.assert_allclose(np.sort(rest[:, 0]), np.sort(FEATURES[:300, 0]), atol=folder.input_grid.step)
    few = hls4ml_jets(tmp_path, samples=200, validation=0.5)
    assert [len(few.development.train), len(few.development.validation), len(few.open_test())] == [100, 100, 100]


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"id": np.arange(JETS)}, "there are 18 columns; expected 16 features and, last, the class"),
        ({"class": np.arange(JETS) % 5}, "column 'class' holds numbers; expected the classes g, q, t, w, z"),
        ({"class": np.where(KINDS == "t", "b", KINDS)}, "column 'class': label 'b' is none of the classes g, q, t, w, z"),
        ({"class": np.where(KINDS == "t", None, KINDS)}, "column 'class' is empty"),
        ({"f3": np.full(JETS, "x")}, "column 'f3' is not numeric"),
        ({"f3": np.ones(JETS)}, r"\(features, class\): hls4ml_jets: feature 3 is constant"),
    ],
)
def test_refused_hls4ml_tables(tmp_path: Path, columns: Any, message: str) -> None:
    with pytest.raises(DataError, match=rf"jets\.csv.*{message}"):
        hls4ml_jets(table(tmp_path, **columns))


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"X_test": FEATURES[300:, :12]}, r"X_test has shape \(100, 12\); expected \(jets, 16\)"),
        ({"y_train_val": np.arange(300) % 5}, r"y_train_val has shape \(300,\); expected \(jets, 5\)"),
        ({"y_test": np.eye(5)}, "X_test and y_test have 100 and 5 jets"),
        ({"y_test": np.ones((100, 5))}, "labels have shape"),
        ({"X_test": np.full((100, 16), np.nan)}, "sample 300 is NaN"),
    ],
)
def test_refused_hls4ml_arrays(tmp_path: Path, arrays: Any, message: str) -> None:
    np.savez(tmp_path / "jets.npz", **{**tutorial(), **arrays})
    with pytest.raises(DataError, match=rf"jets\.npz.*{message}"):
        hls4ml_jets(tmp_path / "jets.npz")


def test_refused_hls4ml_sources_and_options(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"none\.arff: there is no such file"):
        hls4ml_jets(tmp_path / "none.arff")
    with pytest.raises(DataError, match="'X_train_val'"):
        hls4ml_jets(tmp_path)
    path = table(tmp_path)
    with pytest.raises(ConfigError, match=r"hls4ml_jets: validation: .*less than 1"):
        hls4ml_jets(path, validation=1)
    with pytest.raises(DataError, match=r"jets\.csv: samples = 401.* 400"):
        hls4ml_jets(path, samples=JETS + 1)


def write_particles(folder: Path, kind: str, particles: Array, label: Array) -> tuple[Path, dict[str, Any]]:
    """Writes particles in one of the layouts; gives the path and the options to read them."""
    if kind == "hdf5":
        with h5py.File(folder / "jets.h5", "w") as file:
            file["a/x"], file["a/y"] = particles, label
        return folder / "jets.h5", {"x": "a/x", "y": "a/y"}
    if kind == "npz":
        np.savez(folder / "p.npz", x=particles, y=label)
        return folder / "p.npz", {}
    np.save(folder / "px.npy", particles)
    np.save(folder / "py.npy", label)
    return (folder, {"x": "px", "y": "py"}) if kind == "folder" else (folder / "px.npy", {"y": folder / "py.npy"})


@pytest.mark.parametrize("kind", ["npz", "hdf5", "folder", "npy"])
def test_particles_of_every_layout(tmp_path: Path, path: Path, kind: str) -> None:
    particles, label = content()["constituents"], content()["label"]
    source, options = write_particles(tmp_path, kind, particles, np.eye(5)[label])
    scaled = particle_jets(source, particles=5, scaling="physical", input_bits=14, **options)
    assert scaled.input_shape == (5, 3)
    expected = jets(path, constituents=5, input_bits=14).development
    np.testing.assert_array_equal(scaled.development.train.x, expected.train.x)
    np.testing.assert_array_equal(scaled.development.train.y, expected.train.y)
    plain = particle_jets(source, particles=6, input_bits=16, **options)
    assert plain.input_shape == (6, 3)
    assert plain.development.train.x.max() > 50  # GeV


def test_refused_particles(tmp_path: Path) -> None:
    particles, label = content()["constituents"], content()["label"]
    source, _ = write_particles(tmp_path, "npz", particles, label)
    for options, error, message in (
        ({"scaling": "log"}, ConfigError, "scaling: .*'none' or 'physical'"),
        ({"particles": 0}, ConfigError, "particles: .*greater than or equal to 1"),
        ({"particles": 7}, DataError, r"p\.npz: particles = 7, but there are only 6"),
        ({"x": "images"}, DataError, r"p\.npz: there is no array 'images'; there is x, y"),
        (
            {"x": "y", "y": "y"},
            DataError,
            r"p\.npz \(particles 'y', labels 'y'\): .*expected numbers \(jets, particles, 3\)",
        ),
    ):
        with pytest.raises(error, match=message):
            particle_jets(source, **options)
    for wrong in (particles - 1, particles + np.array([0, 7, 0])):
        source, _ = write_particles(tmp_path, "npz", wrong, label)
        with pytest.raises(DataError, match=r"p\.npz .*\(pT, Δη, Δφ\).*scaling"):
            particle_jets(source, particles=6, scaling="physical")
    source, _ = write_particles(tmp_path, "npy", particles, label)
    with pytest.raises(DataError, match=r"none\.npy: there is no such file"):
        particle_jets(source, y=tmp_path / "none.npy")
    with pytest.raises(DataError, match=r"px\.npy \(labels in .*\): .*400 samples but labels of shape"):
        particle_jets(source, y=write_particles(tmp_path, "npy", particles, label[1:])[1]["y"], particles=6)
