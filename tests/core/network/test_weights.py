"""Weights as arrays: folding, rounding, counting zeros."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kerasnac.core.network.architecture import Architecture
from kerasnac.core.network.layers import LayerSpec
from kerasnac.core.network.precision import Precision
from kerasnac.core.network.weights import BATCH_NORM_EPSILON, fold, fold_batch_norm, quantized_weights, sparsity
from kerasnac.core.space.blocks import Attention
from kerasnac.errors import ConversionError
from tests.networks import normal_weights, only

NORMED = Architecture(
    (4,),
    (
        LayerSpec.of("dense", units=3),
        LayerSpec.of("batch_norm"),
        LayerSpec.of("activation", fn="relu"),
        LayerSpec.of("dense", units=2),
        LayerSpec.of("batch_norm"),
    ),
)


def arrays(seed: int = 0) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    weights = {"dense_0/kernel": rng.normal(size=(4, 3)), "dense_0/bias": rng.normal(size=3)}
    weights |= {"dense_1/kernel": rng.normal(size=(3, 2)), "dense_1/bias": rng.normal(size=2)}
    for name, channels in (("batch_norm_0", 3), ("batch_norm_1", 2)):
        weights |= {f"{name}/{part}": rng.normal(size=channels) for part in ("gamma", "beta", "moving_mean")}
        weights[f"{name}/moving_variance"] = rng.uniform(0.01, 4, size=channels)
    return weights


def normed_by_hand(x: np.ndarray, w: dict[str, np.ndarray]) -> np.ndarray:
    for i in (0, 1):
        x = x @ w[f"dense_{i}/kernel"] + w[f"dense_{i}/bias"]
        norm = {part: w[f"batch_norm_{i}/{part}"] for part in ("gamma", "beta", "moving_mean", "moving_variance")}
        x = norm["gamma"] * (x - norm["moving_mean"]) / np.sqrt(norm["moving_variance"] + 1e-3) + norm["beta"]
        x = np.maximum(x, 0) if i == 0 else x
    return x


@given(st.integers(0, 1000))
def test_folding_computes_the_same_function(seed: int) -> None:
    weights = arrays(seed)
    folded, moved = fold_batch_norm(NORMED, weights)
    x = np.random.default_rng(seed).normal(size=(20, 4))
    hidden = np.maximum(x @ moved["dense_0/kernel"] + moved["dense_0/bias"], 0)
    np.testing.assert_allclose(hidden @ moved["dense_1/kernel"] + moved["dense_1/bias"], normed_by_hand(x, weights), atol=1e-9)
    assert [layer.kind for layer in folded.layers] == ["dense", "activation", "dense"]
    assert set(moved) == {f"dense_{i}/{part}" for i in (0, 1) for part in ("kernel", "bias")}


def test_folding_leaves_its_input_alone() -> None:
    weights = arrays()
    before = {key: value.copy() for key, value in weights.items()}
    fold_batch_norm(NORMED, weights)
    assert weights.keys() == before.keys()
    for key, value in weights.items():
        np.testing.assert_array_equal(value, before[key])


def test_folding_without_batch_norms_changes_nothing() -> None:
    network = replace(NORMED, layers=tuple(layer for layer in NORMED.layers if layer.kind != "batch_norm"))
    weights = {key: value for key, value in arrays().items() if key.startswith("dense")}
    assert fold_batch_norm(network, weights) == (network, weights)


def test_a_batch_norm_without_a_kernel_of_its_own_before_it_becomes_a_scale() -> None:
    norm, relu, dense = LayerSpec.of("batch_norm"), LayerSpec.of("activation", fn="relu"), LayerSpec.of("dense", units=3)
    shared = LayerSpec.of("add", inputs=(-1, -2))
    network = Architecture((3,), (norm, norm, dense, norm, shared, relu, LayerSpec.of("scale"), norm))
    rng = np.random.default_rng(0)
    shapes = {f"{node.name}/{part}": weight.shape for node in network.nodes for part, weight in node.weights.items()}
    weights = {key: rng.uniform(0.5, 2, shape).astype(np.float32) for key, shape in shapes.items()}
    folded, moved = fold_batch_norm(network, weights)
    # The input and a layer that others read too have a scale; two in a row, and a scale of the network itself, are one.
    assert [layer.kind for layer in folded.layers] == ["scale", "dense", "scale", "add", "activation", "scale"]
    assert folded.layers[3].inputs == (-1, -2)
    assert {key: array.shape for key, array in moved.items()} == {
        f"{node.name}/{part}": weight.shape for node in folded.nodes for part, weight in node.weights.items()
    }
    gamma, beta, mean, variance = (weights[f"batch_norm_2/{part}"] for part in network.nodes[3].weights)
    scale = gamma / np.sqrt(variance + BATCH_NORM_EPSILON)
    np.testing.assert_allclose(moved["scale_1/kernel"], scale, rtol=1e-6)
    np.testing.assert_allclose(moved["scale_1/bias"], beta - mean * scale, rtol=1e-5)


CONV = {"filters": 6, "kernel": 1, "stride": 1, "padding": "valid"}


@pytest.mark.parametrize("shape", [(3, 4, 2), (6, 2)])
def test_factors_of_scores_become_part_of_the_queries(shape: tuple[int, ...]) -> None:
    scaled, plain = (only(shape, Attention(width=3, heads=2, scaled=scaled)) for scaled in (True, False))
    weights = normal_weights(scaled)
    folded, moved = fold(scaled, weights)
    assert folded == plain
    query = f"conv{len(shape) - 1}d_0"
    for key, value in weights.items():
        factor = 3**-0.5 if key.startswith(f"{query}/") else 1
        np.testing.assert_allclose(moved[key], value * factor, rtol=1e-6)
        assert moved[key].dtype == value.dtype


def test_batch_norms_of_queries_are_folded_before_their_factors() -> None:
    query, key, scores = LayerSpec.of("conv1d", **CONV), LayerSpec.of("conv1d", **CONV, inputs=(-3,)), {"transpose": True}
    network = Architecture(
        (6, 2), (query, LayerSpec.of("batch_norm"), key, LayerSpec.of("matmul", **scores, scaled=True, inputs=(-2, -1)))
    )
    weights = {name: abs(array) for name, array in normal_weights(network).items()}
    _, normed = fold_batch_norm(network, weights)
    folded, moved = fold(network, weights)
    assert [layer.kind for layer in folded.layers] == ["conv1d", "conv1d", "matmul"]
    np.testing.assert_allclose(moved["conv1d_0/kernel"] * 6**0.5, normed["conv1d_0/kernel"], rtol=1e-6)
    np.testing.assert_array_equal(moved["conv1d_1/kernel"], normed["conv1d_1/kernel"])


SCORES = {"transpose": True, "scaled": True}


@pytest.mark.parametrize(
    ("layers", "message"),
    [
        (
            (LayerSpec.of("conv1d", **CONV), LayerSpec.of("matmul", **SCORES, inputs=(-1, -1))),
            "matmul_0: its factor cannot be folded into conv1d_0, which is read twice; leave out scaled, or",
        ),
        (
            (
                LayerSpec.of("conv1d", **CONV),
                LayerSpec.of("activation", fn="relu"),
                LayerSpec.of("conv1d", **CONV),
                LayerSpec.of("matmul", **SCORES, inputs=(-2, -1)),
            ),
            "matmul_0: its factor cannot be folded into activation_0, which is read twice",
        ),
        (
            (
                LayerSpec.of("conv1d", **CONV),
                LayerSpec.of("conv1d", **CONV, inputs=(-2,)),
                LayerSpec.of("activation", fn="relu"),
                LayerSpec.of("matmul", **SCORES, inputs=(-1, -3)),
            ),
            "matmul_0: its factor cannot be folded through activation_0, which is not linear",
        ),
        ((LayerSpec.of("matmul", **SCORES, inputs=(-1, -1)),), "matmul_0: .* no layer with a kernel makes its first input"),
    ],
)
def test_a_factor_without_queries_of_its_own_is_refused(layers: tuple[LayerSpec, ...], message: str) -> None:
    network = Architecture((6, 2), layers)
    with pytest.raises(ConversionError, match=message):
        fold(network, normal_weights(network))


QUANTIZED = Architecture(
    (4,),
    (replace(LayerSpec.of("dense", units=3), weight=Precision(3, 1), bias=Precision(6, 2)), LayerSpec.of("dense", units=2)),
    Precision(8, 3),
)


def test_weights_are_rounded_to_the_formats_of_their_layer() -> None:
    weights = {key: value for key, value in arrays().items() if key.startswith("dense")}
    rounded = quantized_weights(QUANTIZED, weights)
    assert set(rounded) == set(weights)
    np.testing.assert_array_equal(rounded["dense_0/kernel"], np.clip(np.round(weights["dense_0/kernel"] * 4), -4, 3) / 4)
    np.testing.assert_array_equal(rounded["dense_0/bias"], np.clip(np.round(weights["dense_0/bias"] * 16), -32, 31) / 16)
    np.testing.assert_array_equal(rounded["dense_1/kernel"], weights["dense_1/kernel"])


def test_sparsity_counts_zeros_of_the_rounded_kernels() -> None:
    weights = {
        "dense_0/kernel": np.full((4, 3), 0.1),  # rounds to zero in steps of 1/4
        "dense_0/bias": np.zeros(3),
        "dense_1/kernel": np.array([[0.1, 0.0]] * 3),
        "dense_1/bias": np.zeros(2),
    }
    weights["dense_0/kernel"][0, 0] = 0.2
    total, by_layer = sparsity(QUANTIZED, weights)
    assert by_layer == {"dense_0": 11 / 12, "dense_1": 0.5}
    assert total == pytest.approx(14 / 18)
