"""Samples for a network: from files, and random ones."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from kerasnac.core.network.architecture import Architecture
from kerasnac.core.network.layers import LayerSpec
from kerasnac.core.network.precision import Precision
from kerasnac.datasets.samples import fitted, random_samples, read_samples
from kerasnac.errors import ConversionError, DataError

GRID = Precision(4, 2)
NETWORK = Architecture((4,), (LayerSpec.of("dense", units=2),), GRID)


def test_random_ones_reach_the_corners() -> None:
    x = random_samples(NETWORK, 100)
    assert (x.shape, x.dtype) == ((100, 4), np.float32)
    assert (x[0] == GRID.minimum).all()
    assert (x[1] == GRID.maximum).all()
    assert (GRID.quantize(x) == x).all()
    assert len(np.unique(x)) > 10
    assert random_samples(NETWORK, 1).shape == (1, 4)


def test_there_is_no_grid_of_a_float_network() -> None:
    with pytest.raises(ConversionError, match="not quantized"):
        random_samples(Architecture(NETWORK.input_shape, NETWORK.layers), 10)


def test_those_of_a_file(tmp_path: Path) -> None:
    x = np.arange(12.0).reshape(6, 2)
    np.save(tmp_path / "x.npy", x)
    np.savez(tmp_path / "data.npz", x=x)
    for name in ("x.npy", "data.npz"):
        assert (read_samples(tmp_path / name, 4) == x[:4]).all()


@pytest.mark.parametrize(("name", "content"), [("notes.npy", "nothing"), ("x.CSV", "0.5,1e-3\n1,2\n"), ("x.csv", "a,b\n")])
def test_a_file_without_samples_is_named(tmp_path: Path, name: str, content: str) -> None:
    """A table without names of columns would lose its first sample."""
    (tmp_path / name).write_text(content)
    with pytest.raises(DataError, match=name.replace(".", r"\.")):
        read_samples(tmp_path / name)


def test_a_single_value_is_no_array_of_samples(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.float32(1))
    with pytest.raises(DataError, match=r"x\.npy"):
        read_samples(tmp_path / "x.npy")


def test_a_number_may_be_the_name_of_one_column(tmp_path: Path) -> None:
    (tmp_path / "x.csv").write_text("a,2\n1,2\n")
    assert read_samples(tmp_path / "x.csv").tolist() == [[1, 2]]


def test_flat_ones_get_the_shape_of_the_input() -> None:
    maps = Architecture((2, 2, 1), (LayerSpec.of("flatten"),), GRID)
    assert fitted(np.arange(8.0).reshape(2, 4), maps, "mine").shape == (2, 2, 2, 1)


@pytest.mark.parametrize("samples", [np.zeros((3, 5)), np.zeros((0, 4)), np.array([["a"] * 4]), np.float32(1)], ids=str)
def test_those_that_do_not_fit_are_refused_with_their_source(samples: np.ndarray) -> None:
    with pytest.raises(DataError, match=r"^mine\.npy: "):
        fitted(np.asarray(samples), NETWORK, "mine.npy")
