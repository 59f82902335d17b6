"""Masks hold exactly, and keep what they should."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from kerasnac.adapters.keras.member import Member
from kerasnac.adapters.keras.pruning import (
    fit_gradually_pruned,
    fit_pruned,
    prunable_kernels,
    pruned_fractions,
)
from kerasnac.adapters.keras.train import fit, quantized_start, train
from kerasnac.core.data.dataset import Dataset
from kerasnac.core.network.architecture import Architecture
from kerasnac.core.network.training import Training
from kerasnac.core.network.weights import Weights, quantized_weights
from tests.networks import mlp, normal_weights

NETWORK = mlp(6, 10, 8, 3)
TRAINING = Training(epochs=2, batch_size=64, learning_rate=0.01)
HIDDEN = ("dense_0", "dense_1")


@pytest.fixture(scope="module")
def begin(vector_classes: Dataset, keras: Any) -> tuple[Architecture, Weights]:
    """A quantized network and random weights, the second layer's far smaller than the first's."""
    weights = normal_weights(NETWORK)
    weights["dense_1/kernel"] *= 0.3
    data = vector_classes.development
    return quantized_start(NETWORK, weights, data, weight_bits=6, activation_bits=6, clip_quantile=1e-3)


def masks(weights: Weights) -> dict[str, Any]:
    return {name: weights[f"{name}/kernel"] != 0 for name in (*HIDDEN, "dense_2")}


def test_the_output_layer_is_pruned_only_if_asked_for(begin: tuple[Architecture, Weights]) -> None:
    assert tuple(prunable_kernels(*begin, prune_output=False)) == HIDDEN
    assert tuple(prunable_kernels(*begin, prune_output=True)) == (*HIDDEN, "dense_2")


def test_a_binary_kernel_is_left_alone_and_the_others_are_pruned(vector_classes: Dataset, keras: Any) -> None:
    layers = [replace(layer, params=(*layer.params, ("weight_bits", "binary"))) for layer in NETWORK.layers[:1]]
    network, data = replace(NETWORK, layers=(*layers, *NETWORK.layers[1:])), vector_classes.development
    quantized, start = quantized_start(
        network, normal_weights(network), data, weight_bits="ternary", activation_bits=1, clip_quantile=1e-3
    )
    kernels = prunable_kernels(quantized, start, prune_output=False)
    assert tuple(kernels) == ("dense_1",)
    result = fit_gradually_pruned(quantized, data, TRAINING, seed=1, start=start, fractions={"dense_1": 0.5})
    values = quantized_weights(quantized, result.weights)
    assert (values["dense_0/kernel"] != 0).all()
    assert np.mean(result.weights["dense_1/kernel"] == 0) == 0.5
    assert np.isfinite(result.loss)


def test_a_global_threshold_prunes_the_smallest_weights_of_all() -> None:
    kernels = {"a": np.array([[1.0, -5.0], [6.0, 7.0]]), "b": np.array([[-2.0, 3.0, 4.0, 8.0]])}
    assert pruned_fractions(kernels, 0.5, "layer") == {"a": 0.5, "b": 0.5}
    assert pruned_fractions(kernels, 0.5, "global") == {"a": 0.25, "b": 0.75}
    assert pruned_fractions(kernels, 0.0, "global") == {"a": 0.0, "b": 0.0}
    assert pruned_fractions({}, 0.5, "global") == {}


def test_no_layer_is_pruned_away() -> None:
    kernels = {"large": np.full((4, 4), 9.0), "small": np.full((2, 2), 0.1)}
    assert pruned_fractions(kernels, 0.5, "global") == {"large": 0.0, "small": 0.75}


@pytest.mark.slow
@pytest.mark.parametrize(("ranking", "rewinds"), [("layer", True), ("global", False)])
def test_masks_are_exact_and_nested(
    ranking: Any, rewinds: bool, begin: tuple[Architecture, Weights], vector_classes: Dataset
) -> None:
    quantized, start = begin
    trained: Weights = start
    for sparsity in (0.3, 0.7):
        kernels = prunable_kernels(quantized, trained, prune_output=False)
        fractions = pruned_fractions(kernels, sparsity, ranking)
        smallest = {name: np.sort(np.abs(k), axis=None)[round(fractions[name] * k.size)] for name, k in kernels.items()}
        rewind = start if rewinds else trained
        result = fit_pruned(
            quantized, vector_classes.development, TRAINING, seed=1, start=rewind, trained=trained, fractions=fractions
        ).weights
        for name, kernel in kernels.items():
            np.testing.assert_array_equal(masks(result)[name], np.abs(kernel) >= smallest[name])
            assert not (masks(result)[name] & ~masks(trained)[name]).any()
        total = sum(k.size for k in kernels.values())
        assert sum((~masks(result)[name]).sum() for name in HIDDEN) == pytest.approx(sparsity * total, abs=1)
        assert masks(result)["dense_2"].all()
        trained = result
    counts = [masks(trained)[name].mean() for name in HIDDEN]
    assert (counts[0] > 1.5 * counts[1]) == (ranking == "global")


def test_what_is_zero_stays_zero(begin: tuple[Architecture, Weights], vector_classes: Dataset) -> None:
    """More zeros than are asked for: the threshold is zero itself."""
    quantized, start = begin
    kernel = start["dense_0/kernel"] * (np.abs(start["dense_0/kernel"]) > 0.7)
    trained = {**start, "dense_0/kernel": kernel}
    assert (kernel == 0).mean() > 0.4
    fractions = dict.fromkeys(HIDDEN, 0.2)
    result = fit_pruned(
        quantized, vector_classes.development, TRAINING, seed=1, start=start, trained=trained, fractions=fractions
    )
    np.testing.assert_array_equal(masks(result.weights)["dense_0"], kernel != 0)


@pytest.mark.parametrize("epochs", [1, 3])
def test_gradual_pruning_ends_at_its_targets(epochs: int, begin: tuple[Architecture, Weights], vector_classes: Dataset) -> None:
    quantized, start = begin
    fractions = {"dense_0": 0.5, "dense_1": 0.9}
    training = TRAINING.with_(epochs=epochs, batch_size=256 if epochs == 1 else 4)
    result = fit_gradually_pruned(
        quantized, vector_classes.development, training, seed=1, start=start, fractions=fractions
    ).weights
    for name, fraction in fractions.items():
        assert (~masks(result)[name]).sum() == round(fraction * start[f"{name}/kernel"].size)
    assert masks(result)["dense_2"].all()


def test_a_snapshot_changes_nothing(begin: tuple[Architecture, Weights], vector_classes: Dataset) -> None:
    quantized, start = begin
    data = vector_classes.development
    watched = train(Member(quantized, TRAINING, 1, start, snapshot_epoch=1), data)
    early = watched.snapshot
    one, two = (fit(quantized, data, TRAINING.with_(epochs=n), seed=1, start=start) for n in (1, 2))
    for key in start:
        np.testing.assert_array_equal(watched.weights[key], two.weights[key])
        np.testing.assert_array_equal(early[key], one.weights[key])
    assert watched.metric == two.metric
    assert any((early[key] != watched.weights[key]).any() for key in start)
