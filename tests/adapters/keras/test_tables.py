"""Layers of learned tables in Keras: interpolation, gradients, pruning of whole tables, and firmware."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from kerasnac.adapters.keras.build import load_keras, save_keras
from kerasnac.adapters.keras.custom import custom
from kerasnac.adapters.keras.predict import model_outputs, predict
from kerasnac.adapters.keras.pruning import fit_gradually_pruned, fit_pruned, prunable_kernels, pruned_fractions
from kerasnac.adapters.keras.runtime import tensorflow
from kerasnac.adapters.keras.train import fit, quantized_start
from kerasnac.core.data.dataset import Dataset
from kerasnac.core.network.architecture import Architecture
from kerasnac.core.network.layers import LayerSpec
from kerasnac.core.network.learned_tables import rising, spreads
from kerasnac.core.network.precision import Precision
from kerasnac.core.network.training import Training
from kerasnac.core.network.weights import magnitudes
from tests.networks import activation, assert_emulated, assert_exact, dense, layer, quantized_randomly, trained_weights

pytestmark = pytest.mark.usefixtures("keras")


def tables(units: int, grid: str, weight: str = "", **params: Any) -> LayerSpec:
    return layer("tables", weight, units=units, grid=grid, **params)


#: Tables that follow tables, before and after a dense layer, at an unsigned activation and at what reads a table itself.
NETWORK = Architecture(
    (5,),
    (
        *(
            tables(4, "ap_fixed<5,2>"),
            tables(3, "ap_fixed<4,2>", weight_bits=3),
            activation("relu"),
            tables(3, "ap_fixed<4,2>"),
        ),
        *(activation("none"), dense(3), activation("gelu"), tables(2, "ap_fixed<6,4>")),
    ),
)

TRAINING = Training(epochs=2, batch_size=64, learning_rate=0.01)


@pytest.mark.parametrize("grid", ["ap_fixed<4,2>", "ap_ufixed<3,1>"])
def test_float_tables_are_interpolated_and_end_flat(grid: str) -> None:
    network = Architecture((3,), (tables(2, grid),))
    kernel = trained_weights(network, np.random.default_rng(0))["tables_0/kernel"]
    x = np.random.default_rng(1).uniform(-4, 4, (50, 3)).astype(np.float32)
    numbers = rising(Precision.parse(grid))
    expected = [[sum(np.interp(v[i], numbers, kernel[:, i, j]) for i in range(3)) for j in range(2)] for v in x]
    np.testing.assert_allclose(predict(network, {"tables_0/kernel": kernel}, x), expected, atol=1e-5)


def test_the_gradient_of_an_entry_is_the_slope_between_its_neighbours() -> None:
    tf, grid = tensorflow(), Precision(3, 2)
    made = custom().Tables(1, str(grid), "ap_fixed<6,4>", between=False)
    x = tf.constant(grid.quantize(rising(grid))[:, None], tf.float32)
    made.build(x.shape)
    entries = np.array([0, 1, 3, 2, -4, 0, 1, 1.1], np.float32)
    made.set_weights([entries.reshape(8, 1, 1)])
    with tf.GradientTape(persistent=True) as tape:
        tape.watch(x)
        out = made(x)
        weighted = tf.reduce_sum(out * tf.range(8, dtype=tf.float32)[:, None])
    rounded = np.array([0, 1, 3, 2, -4, 0, 1, 1], np.float32)
    np.testing.assert_array_equal(out[:, 0], rounded)
    ends = np.concatenate([rounded[:1], rounded, rounded[-1:]])
    np.testing.assert_allclose(tape.gradient(out, x)[:, 0], (ends[2:] - ends[:-2]) / (2 * grid.step))
    np.testing.assert_allclose(tape.gradient(weighted, made.kernel)[:, 0, 0], np.arange(8))


@pytest.mark.parametrize(("seed", "weight_bits", "activation_bits"), [(1, 2, 7), (2, 6, 2)])
def test_keras_and_adder_graphs_compute_whole_numbers(seed: int, weight_bits: int, activation_bits: int) -> None:
    assert_exact(*quantized_randomly(NETWORK, seed, weight_bits, activation_bits))


@pytest.mark.parametrize("io_type", ["io_parallel", pytest.param("io_stream", marks=pytest.mark.slow)])
def test_the_firmware_is_bit_exact(io_type: str, tmp_path: Path) -> None:
    assert_emulated(*quantized_randomly(NETWORK, 3), tmp_path, io_type=io_type)


def test_models_can_be_saved(tmp_path: Path) -> None:
    quantized, weights, x = quantized_randomly(NETWORK, 5)
    for network in (NETWORK, quantized):
        save_keras(network, weights, tmp_path / "model.keras")
        np.testing.assert_array_equal(
            model_outputs(load_keras(tmp_path / "model.keras"), x)[0], predict(network, weights, x, dtype="float32")
        )


CLASSIFIER = Architecture((6,), (tables(5, "ap_fixed<5,3>", weight_bits=3, sparsity=0.6), tables(3, "ap_fixed<4,1>")))


@pytest.fixture(scope="module")
def begin(vector_classes: Dataset, keras: Any) -> tuple[Architecture, Any, float]:
    """A classifier after a float training, quantized; its weights, and its accuracy in float."""
    data = vector_classes.development
    trained = fit(CLASSIFIER, data, TRAINING.with_(epochs=5), seed=0)
    network, weights = quantized_start(CLASSIFIER, trained.weights, data, weight_bits=5, activation_bits=6, clip_quantile=0)
    return network, weights, trained.metric


def test_whole_tables_are_pruned_while_training(begin: tuple[Architecture, Any, float], vector_classes: Dataset) -> None:
    network, start, accuracy = begin
    found = fit_gradually_pruned(
        network, vector_classes.development, TRAINING.with_(epochs=5), seed=0, start=start, fractions=network.sparsities
    )
    flat, zero = (
        measure(found.weights["tables_0/kernel"], axis=0) == 0 for measure in (np.ptp, lambda k, axis: np.abs(k).max(axis))
    )
    np.testing.assert_array_equal(flat, zero)
    assert zero.sum() == 18
    assert (np.ptp(found.weights["tables_1/kernel"], axis=0) > 0).all()
    assert found.metric > accuracy - 0.1


def test_the_flattest_tables_are_pruned_first(begin: tuple[Architecture, Any, float], vector_classes: Dataset) -> None:
    network, start, _ = begin
    kernels = prunable_kernels(network, start, prune_output=True)
    assert {name: kernel.shape for name, kernel in kernels.items()} == {"tables_0": (6, 5), "tables_1": (5, 3)}
    fractions = pruned_fractions(kernels, 0.4, "global")
    assert sum(fractions[name] * kernel.size for name, kernel in kernels.items()) == pytest.approx(18)
    found = fit_pruned(
        network, vector_classes.development, TRAINING, seed=0, start=start, trained=start, fractions=fractions
    ).weights
    for name, before in kernels.items():
        kept = np.sort(before, axis=None)[round(fractions[name] * before.size) :].min()
        np.testing.assert_array_equal(spreads(found[f"{name}/kernel"]) > 0, before >= kept)


def test_magnitudes_are_those_of_what_is_pruned() -> None:
    kernel = np.random.default_rng(0).normal(size=(8, 3, 2))
    np.testing.assert_allclose(magnitudes(tables(2, "ap_fixed<3,1>"), kernel), kernel.std(axis=0))
    np.testing.assert_array_equal(magnitudes(dense(2), kernel), np.abs(kernel))
