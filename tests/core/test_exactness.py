from __future__ import annotations

from contextlib import suppress
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kerasnac.core.architecture import Architecture
from kerasnac.core.exactness import check_exact, output_formats
from kerasnac.core.layers import LayerSpec
from kerasnac.core.precision import Precision
from kerasnac.core.weights import Weights
from kerasnac.errors import ConversionError


def dense(units: int, weight: str = "fixed<6,1>", bias: str = "fixed<10,3>") -> LayerSpec:
    return replace(LayerSpec.of("dense", units=units), weight=Precision.parse(weight), bias=Precision.parse(bias))


def activation(fn: str, grid: str) -> LayerSpec:
    return replace(LayerSpec.of("activation", fn=fn), activation=Precision.parse(grid))


def network(*layers: LayerSpec, grid: str = "fixed<8,3>", size: int = 4) -> Architecture:
    return Architecture((size,), layers, Precision.parse(grid))


def random_weights(architecture: Architecture, seed: int = 0, scale: float = 1.0) -> Weights:
    rng = np.random.default_rng(seed)
    return {
        f"{node.name}/{part}": rng.normal(0, scale, weight.shape).astype(np.float32)
        for node in architecture.nodes
        for part, weight in node.weights.items()
    }


def refusal(architecture: Architecture) -> str:
    with pytest.raises(ConversionError) as caught:
        check_exact(architecture, random_weights(architecture))
    return str(caught.value)


def test_a_usual_network_is_accepted() -> None:
    usual = network(dense(8), activation("none", "fixed<6,3>"), activation("gelu", "fixed<6,3>"), dense(3))
    formats = output_formats(usual, random_weights(usual))
    assert list(formats) == list(usual.names)
    assert formats["activation_1"] == Precision(6, 3)
    assert formats["dense_0"].fractional == 5 + 5


def test_layers_without_activation_pass_their_accumulator_on() -> None:
    linear = network(dense(3, "fixed<3,1>"), dense(2, "fixed<3,1>"))
    formats = output_formats(linear, random_weights(linear))
    assert formats["dense_1"].fractional == 2 + formats["dense_0"].fractional


@given(st.integers(0, 10_000), st.booleans(), st.integers(2, 8), st.integers(2, 8), st.integers(-2, 3), st.integers(1, 5))
def test_accumulators_hold_the_worst_case_and_not_a_bit_more(
    seed: int, signed: bool, weight_bits: int, input_bits: int, integer: int, size: int
) -> None:
    layer = dense(2, f"fixed<{weight_bits},{integer}>", "fixed<8,2>")
    one = network(layer, grid=f"{'' if signed else 'u'}fixed<{input_bits},{integer}>", size=size)
    weights = random_weights(one, seed)
    accumulator = output_formats(one, weights)["dense_0"]
    assert one.input is not None
    assert layer.weight is not None
    assert layer.bias is not None
    kernel, bias = layer.weight.quantize(weights["dense_0/kernel"]), layer.bias.quantize(weights["dense_0/bias"])
    extremes = np.stack([kernel * one.input.minimum, kernel * one.input.maximum])
    high = (extremes.max(axis=0).sum(axis=0) + np.maximum(bias, 0)).max()
    low = (extremes.min(axis=0).sum(axis=0) + np.minimum(bias, 0)).min()
    assert accumulator.quantize([low, high]).tolist() == [low, high]
    if accumulator.bits > 2:
        smaller = replace(accumulator, bits=accumulator.bits - 1, integer=accumulator.integer - 1)
        assert smaller.minimum > low or smaller.maximum < high


@given(st.integers(0, 10_000), st.integers(2, 12), st.integers(2, 12), st.integers(1, 300))
def test_float32_sums_of_accepted_layers_are_exact(seed: int, weight_bits: int, input_bits: int, size: int) -> None:
    layer = dense(1, f"fixed<{weight_bits},1>", "fixed<8,3>")
    one = network(layer, grid=f"fixed<{input_bits},3>", size=size)
    weights = random_weights(one, seed)
    with suppress(ConversionError):
        check_exact(one, weights)
        assert_exact_in_float32(one, layer, weights)


def assert_exact_in_float32(one: Architecture, layer: LayerSpec, weights: Weights) -> None:
    """Adds the largest possible products up in float32 and in float64."""
    assert one.input is not None
    assert layer.weight is not None
    kernel = layer.weight.quantize(weights["dense_0/kernel"])[:, 0]
    worst = np.where(kernel > 0, one.input.maximum, one.input.minimum)
    single, total = np.float32(0), 0.0
    for weight, value in zip(kernel, worst, strict=True):
        single, total = np.float32(single + np.float32(weight) * np.float32(value)), total + weight * value
        assert single == total


def test_float_networks_are_refused() -> None:
    assert "not quantized" in refusal(Architecture((4,), (LayerSpec.of("dense", units=2),)))


def test_float_layers_in_a_quantized_network_are_refused() -> None:
    assert "dense_0: the layer is float" in refusal(network(LayerSpec.of("dense", units=2)))
    assert "activation_0: the activation is float" in refusal(network(dense(2), LayerSpec.of("activation", fn="relu")))


def test_batch_norm_is_refused() -> None:
    assert refusal(network(dense(2), LayerSpec.of("batch_norm"))).startswith("batch_norm_0: ")


def test_sums_beyond_float32_are_refused() -> None:
    message = refusal(network(dense(4, "fixed<16,1>"), grid="fixed<16,3>"))
    assert message.startswith("dense_0: sums of ap_fixed<16,1> weights with ap_fixed<16,3> inputs need up to")
    wide = network(dense(4, "fixed<4,1>"), activation("relu", "ufixed<16,3>"), dense(2, "fixed<16,1>"))
    assert refusal(wide).startswith("dense_1: ")


def test_zeros_can_bring_a_layer_back_into_range() -> None:
    wide = network(dense(2, "fixed<14,1>", "fixed<14,1>"), grid="fixed<10,3>", size=64)
    weights = random_weights(wide, scale=0.3)
    with pytest.raises(ConversionError):
        check_exact(wide, weights)
    kernel = weights["dense_0/kernel"].copy()
    kernel[2:] = 0
    check_exact(wide, {**weights, "dense_0/kernel": kernel})


def test_clipping_beyond_float32_is_refused() -> None:
    """QKeras leaves the grid here: 0.3 of such outputs are wrong by a rounding of x + (clipped - x)."""
    loud = network(dense(6, "fixed<8,4>"), activation("none", "fixed<18,2>"), grid="fixed<8,8>")
    assert refusal(loud).startswith("activation_0: clipping ")
    check_exact(replace(loud, layers=(loud.layers[0], activation("none", "fixed<12,2>"))), random_weights(loud))
    check_exact(replace(loud, layers=(loud.layers[0], activation("relu", "ufixed<18,2>"))), random_weights(loud))


def test_formats_wider_than_float32_are_refused() -> None:
    assert refusal(network(dense(2), grid="fixed<25,3>")).startswith("input: ap_fixed<25,3> has more than the 24 bits")
    assert refusal(network(dense(2), activation("relu", "ufixed<25,3>"))).startswith("activation_0: ap_ufixed<25,3>")


def test_tables_need_a_grid_to_look_up() -> None:
    assert "put an activation 'none'" in refusal(network(dense(2), activation("tanh", "fixed<4,1>")))
    check_exact(network(activation("tanh", "fixed<4,1>")), {})
    message = refusal(network(activation("none", "fixed<17,3>"), activation("tanh", "fixed<4,1>")))
    assert "a table over ap_fixed<17,3> is too large" in message


@pytest.mark.parametrize(("fn", "grid"), [("none", "ufixed<4,2>"), ("relu", "fixed<4,2>")])
def test_signs_that_qkeras_cannot_give_are_refused(fn: str, grid: str) -> None:
    assert refusal(network(dense(2), activation(fn, grid))).startswith(f"activation_0: {fn} needs a")


def test_unsigned_weights_are_refused() -> None:
    assert "dense_0: QKeras has no unsigned weights" in refusal(network(dense(2, "ufixed<4,1>")))


def test_weights_that_are_no_numbers_are_refused() -> None:
    plain = network(dense(2))
    weights = random_weights(plain) | {"dense_0/bias": np.array([0.0, np.nan], np.float32)}  # type: ignore[operator]
    with pytest.raises(ConversionError, match="dense_0: dense_0/bias holds NaN"):
        check_exact(plain, weights)
