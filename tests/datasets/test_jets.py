"""Jets: features and particles of a small file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from kerasnac.core.data import Array
from kerasnac.datasets.jets import jets
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
        ({"samples": 0}, ConfigError, "samples = 0 must be positive"),
        ({"constituents": -1}, ConfigError, "constituents = -1 must be positive"),
        ({"samples": JETS + 1}, DataError, r"jets\.npz: samples = 401, but there are only 400"),
        ({"constituents": 7}, DataError, r"jets\.npz: constituents = 7, but there are only 6"),
    ],
)
def test_refused_options(path: Path, options: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        jets(path, **options)


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"none\.npz: there is no such file; expected an npz file with the arrays constituents"):
        jets(tmp_path / "none.npz")


def test_missing_array(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", features=content()["features"], label=content()["label"])
    with pytest.raises(
        DataError, match=r"a\.npz: there is no array 'classes'; there is features, label; expected .*constituents"
    ):
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
