"""Trained networks on disk."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from kerasnac.core.network.architecture import Architecture
from kerasnac.core.network.layers import LayerSpec
from kerasnac.core.network.origin import CompressionOrigin
from kerasnac.core.network.precision import Precision
from kerasnac.core.network.trained import Trained
from kerasnac.core.network.training import Training
from kerasnac.core.store.keys import content_key
from kerasnac.errors import RunError

LAYER = LayerSpec.of("dense", units=2)
WEIGHTS = {
    "dense_0/kernel": np.array([[0.1, 0.5], [0.0, -1.0]], np.float32),
    "dense_0/bias": np.array([1e-30, 2.0], np.float32),
}
FLOAT = Trained("toy", Architecture((2,), (LAYER,)), WEIGHTS, Training(epochs=3), {"accuracy": 0.5}, seed=4)
QUANTIZED = replace(
    FLOAT, architecture=Architecture((2,), (replace(LAYER, weight=Precision(3, 1), bias=Precision(8, 3)),), Precision(8, 3))
)


@pytest.mark.parametrize("model", [FLOAT, QUANTIZED])
def test_round_trip(model: Trained, tmp_path: Path) -> None:
    again = Trained.load(model.save(tmp_path / "model"))
    assert again == model
    assert again.weights.keys() == model.weights.keys()
    for key, value in model.weights.items():
        np.testing.assert_array_equal(again.weights[key], value)
        assert again.weights[key].dtype == value.dtype


def test_a_model_has_the_same_hash_as_when_it_was_saved(tmp_path: Path) -> None:
    model = replace(FLOAT, metrics={"loss": 1.0, "accuracy": 0.5}, origin=CompressionOrigin("toy", 6, 4, 3))
    assert content_key("model", **Trained.load(model.save(tmp_path / "model")).identity) == content_key(
        "model", **model.identity
    )


def test_sparsity_and_bops_count_the_zeros_of_the_rounded_kernel() -> None:
    assert (FLOAT.sparsity, QUANTIZED.sparsity) == (0.25, 0.5)
    assert QUANTIZED.bops == 4 * (0.5 * 3 * 8 + 3 + 8 + 1)


def test_a_float_network_has_32_bits_whatever_it_is_to_be_quantized_to() -> None:
    chosen = Architecture((2,), (LayerSpec.of("dense", units=2, weight_bits=3, sparsity=0.5),))
    assert replace(FLOAT, architecture=chosen).bops == FLOAT.bops == 4 * (0.75 * 32 * 32 + 32 + 32 + 1)


@pytest.mark.parametrize("missing", ["model.json", "weights.npz"])
def test_an_incomplete_folder_is_refused(missing: str, tmp_path: Path) -> None:
    folder = FLOAT.save(tmp_path / "model")
    (folder / missing).unlink()
    with pytest.raises(RunError, match=f"model.*{missing}"):
        Trained.load(folder)


@pytest.mark.parametrize("name", ["model.json", "weights.npz"])
@pytest.mark.parametrize("part", [0, 0.5])
def test_a_truncated_file_is_named(name: str, part: float, tmp_path: Path) -> None:
    path = FLOAT.save(tmp_path / "model") / name
    content = path.read_bytes()
    path.write_bytes(content[: int(part * len(content))])
    with pytest.raises(RunError, match=f"model.*{name}"):
        Trained.load(path.parent)


def test_every_flipped_byte_of_the_weights_is_an_error_or_nothing(tmp_path: Path) -> None:
    folder = FLOAT.save(tmp_path / "model")
    content = (folder / "weights.npz").read_bytes()
    refused = 0
    for index in range(len(content)):
        (folder / "weights.npz").write_bytes(content[:index] + bytes([content[index] ^ 0x5A]) + content[index + 1 :])
        try:
            again = Trained.load(folder)
        except RunError:
            refused += 1
        else:
            for key, value in WEIGHTS.items():
                np.testing.assert_array_equal(again.weights[key], value)
    assert refused > len(content) / 2


@pytest.mark.parametrize("change", [{"dense_0/kernel": np.zeros((3, 2), np.float32)}, {"dense_0/bias": None}])
def test_weights_of_another_network_are_refused(change: dict[str, np.ndarray | None], tmp_path: Path) -> None:
    folder = FLOAT.save(tmp_path / "model")
    np.savez(folder / "weights.npz", **{k: v for k, v in (WEIGHTS | change).items() if v is not None})  # type: ignore[arg-type]
    with pytest.raises(RunError, match=rf"weights\.npz.*{next(iter(change))}"):
        Trained.load(folder)
