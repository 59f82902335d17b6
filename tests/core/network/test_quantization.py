"""From observed ranges and trained weights to number formats."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from kerasnac.core.network.activations import ACTIVATIONS
from kerasnac.core.network.architecture import Architecture
from kerasnac.core.network.layers import LayerSpec
from kerasnac.core.network.precision import Binary, Precision, Ternary
from kerasnac.core.network.quantization import BIAS_BITS, ActivationRange, bias_format, kernel_format, quantize
from kerasnac.core.network.widths import Width
from kerasnac.errors import ConfigError
from tests.networks import mlp

INPUT = Precision(12, 4)
bits = st.integers(2, 12)
kernels = hnp.arrays(np.float32, st.integers(1, 60), elements=st.floats(-4, 4, width=32))


def weights(seed: int = 0) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    return {
        "dense_0/kernel": rng.normal(size=(4, 3)),
        "dense_0/bias": rng.normal(size=3),
        "dense_1/kernel": rng.normal(size=(3, 2)),
        "dense_1/bias": rng.normal(size=2),
    }


def quantized(fn: str, observed: ActivationRange, *, weight_bits: Width = 6, activation_bits: int = 8) -> Architecture:
    return quantize(
        mlp(4, 3, 2, fn=fn),
        weights(),
        {"activation_0": observed},
        input_grid=INPUT,
        weight_bits=weight_bits,
        activation_bits=activation_bits,
    )


@given(bits, st.floats(0.01, 10))
def test_relu_outputs_cover_the_observed_range(width: int, high: float) -> None:
    _, activation, _ = quantized("relu", ActivationRange((-high, high), (0, high)), activation_bits=width).layers
    grid = activation.activation
    assert grid is not None
    assert (grid.bits, grid.signed) == (width, False)
    assert grid.contains(high)
    assert not Precision(width, grid.integer - 1, signed=False).contains(high)


@pytest.mark.parametrize("fn", [name for name, fn in ACTIVATIONS.items() if fn.table])
def test_table_activations_gain_a_grid_before_them(fn: str) -> None:
    layers = quantized(fn, ActivationRange((-3, 5), (0.1, 0.9))).layers
    assert [layer.kind for layer in layers] == ["dense", "activation", "activation", "dense"]
    assert [layer["fn"] for layer in layers[1:3]] == ["none", fn]
    before, after = layers[1].activation, layers[2].activation
    low, high = np.clip((-3, 5), *ACTIVATIONS[fn].reach)
    assert before == Precision.covering(low, high, 8, signed=True)
    assert after is not None
    assert after.signed == ACTIVATIONS[fn].signed


@pytest.mark.parametrize(
    ("fn", "grid"),
    [("tanh", Precision(8, 5)), ("sigmoid", Precision(8, 5)), ("gelu", Precision(8, 6)), ("leaky_relu", Precision(8, 6))],
)
def test_tables_reach_as_far_as_their_function_is_not_flat(fn: str, grid: Precision) -> None:
    """tanh and sigmoid are flat beyond 8; gelu and leaky ReLU go on rising."""
    assert quantized(fn, ActivationRange((-10, 20), (0, 1))).layers[1].activation == grid


def test_gelu_is_flat_on_the_negative_side() -> None:
    assert quantized("gelu", ActivationRange((-100, 3), (-0.2, 3))).layers[1].activation == Precision(8, 4)
    assert quantized("leaky_relu", ActivationRange((-100, 3), (-1, 3))).layers[1].activation == Precision(8, 8)


@pytest.mark.parametrize("fn", ACTIVATIONS)
def test_narrow_formats_cover_wide_outputs_all_the_same(fn: str) -> None:
    low = -500 if ACTIVATIONS[fn].signed else 0
    out = quantized(fn, ActivationRange((-500, 500), (low, 500)), activation_bits=4).layers[-2].activation
    assert out is not None
    assert out.contains(np.array([low, 500])).all()


def test_a_dead_activation_gets_a_format() -> None:
    layers = quantized("relu", ActivationRange((-3, -1), (0, 0))).layers
    assert layers[1].activation is not None
    assert layers[1].activation.contains(0.0)


@given(st.integers(2, 12), st.integers(2, 12))
def test_widths_are_the_asked_ones(weight_bits: int, activation_bits: int) -> None:
    network = quantized("tanh", ActivationRange((-2, 2), (-1, 1)), weight_bits=weight_bits, activation_bits=activation_bits)
    assert network.input == INPUT
    assert {layer.weight.bits for layer in network.layers if layer.weight} == {weight_bits}
    assert {layer.activation.bits for layer in network.layers if layer.activation} == {activation_bits}
    assert all((layer.weight is None) == (layer.bias is None) == (layer.kind != "dense") for layer in network.layers)


def test_biases_have_the_resolution_of_their_accumulator() -> None:
    first, activation, second = quantized("relu", ActivationRange((-1, 1), (0, 0.9)), weight_bits=4, activation_bits=4).layers
    assert first.bias
    assert first.weight
    assert second.bias
    assert second.weight
    assert activation.activation
    assert first.bias.fractional == min(first.weight.fractional + INPUT.fractional, BIAS_BITS - first.bias.integer)
    assert second.bias.fractional == second.weight.fractional + activation.activation.fractional


@given(kernels, bits)
def test_kernel_format_is_at_least_as_good_as_covering_the_range(kernel: np.ndarray, width: int) -> None:
    covering = Precision.covering(float(kernel.min()), float(kernel.max()), width, signed=True)
    chosen = kernel_format(kernel, width)
    assert chosen.bits == width
    assert chosen.signed
    assert squared_error(chosen, kernel) <= squared_error(covering, kernel)


@pytest.mark.parametrize("width", range(2, 9))
@pytest.mark.parametrize("scale", [0.003, 0.1, 1.0, 7.0])
@pytest.mark.parametrize("draw", ["normal", "laplace", "uniform"])
def test_no_format_rounds_a_usual_kernel_better(width: int, scale: float, draw: str) -> None:
    rng = np.random.default_rng(0)
    kernel = rng.uniform(-scale, scale, size=(64, 32)) if draw == "uniform" else getattr(rng, draw)(scale=scale, size=(64, 32))
    best = min(squared_error(Precision(width, integer), kernel) for integer in range(-16, 8))
    assert squared_error(kernel_format(kernel, width), kernel) == best


def squared_error(grid: Precision, kernel: np.ndarray) -> float:
    return float(np.sum((grid.quantize(kernel) - kernel) ** 2))


@given(hnp.arrays(np.float32, st.integers(1, 20), elements=st.floats(-50, 50, width=32)), st.integers(0, 20))
def test_biases_may_grow_fourfold(bias: np.ndarray, fractional: int) -> None:
    grid = bias_format(bias, fractional)
    assert grid.contains(4 * bias).all()
    assert grid.contains([-1, 1]).all()
    assert grid.bits <= BIAS_BITS
    assert grid.fractional <= fractional


@pytest.mark.parametrize(
    ("widths", "message"), [((1, 8), "weight width 1 is too small"), ((8, 0), "activation width 0 is too small")]
)
def test_widths_that_hold_nothing_are_refused(widths: tuple[int, int], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        quantized("relu", ActivationRange((-1, 1), (0, 1)), weight_bits=widths[0], activation_bits=widths[1])


def test_formats_pass_through_layers_without_weights() -> None:
    flat = Architecture((2, 2), (LayerSpec.of("flatten"), *mlp(4, 3, 2, fn="relu").layers))
    layers = quantize(
        flat, weights(), {"activation_0": ActivationRange((-1, 1), (0, 1))}, input_grid=INPUT, weight_bits=6, activation_bits=8
    ).layers
    assert layers[0] == LayerSpec.of("flatten")
    assert layers[1:] == quantized("relu", ActivationRange((-1, 1), (0, 1))).layers


def test_quantizing_keeps_the_shape_of_the_network() -> None:
    before, after = mlp(4, 3, 2, fn="relu"), quantized("relu", ActivationRange((-1, 1), (0, 1)))
    stripped = tuple(replace(layer, weight=None, bias=None, activation=None) for layer in after.layers)
    assert replace(after, layers=stripped, input=None) == before
    assert after.parameters == before.parameters


class TestFewValues:
    """Ternary and binary kernels, and outputs of one bit."""

    @given(kernels, st.sampled_from(["ternary", "binary"]))
    def test_kernels_have_the_step_of_the_least_squared_error(self, kernel: np.ndarray, width: Width) -> None:
        kernel = np.where(np.abs(kernel) < 0.02, 0.02, kernel)
        made = kernel_format(kernel, width)
        kind = {"ternary": Ternary, "binary": Binary}[str(width)]
        assert isinstance(made, kind)
        assert squared_error(made, kernel) == min(squared_error(kind(integer), kernel) for integer in range(-16, 8))

    def test_a_kernel_of_zeros_has_a_format(self) -> None:
        assert isinstance(kernel_format(np.zeros(3, np.float32), "binary"), Binary)

    @pytest.mark.parametrize("fn", [name for name, fn in ACTIVATIONS.items() if fn.signed])
    def test_one_bit_of_a_function_with_a_sign_is_the_sign_of_its_input(self, fn: str) -> None:
        layers = quantized(fn, ActivationRange((-3, 5), (-1, 1), magnitude=0.6), activation_bits=1).layers
        assert [layer.kind for layer in layers] == ["dense", "activation", "dense"]
        assert layers[1].activation == Binary(0)
        assert layers[1].signs

    @given(st.floats(1e-3, 1e3))
    def test_the_step_of_a_sign_is_the_power_of_two_next_to_the_mean_magnitude(self, mean: float) -> None:
        layers = quantized("none", ActivationRange((-1, 1), (-1, 1), magnitude=mean), activation_bits=1).layers
        step = layers[1].activation.step  # type: ignore[union-attr]
        assert abs(step - mean) <= min(abs(2 * step - mean), abs(step / 2 - mean))

    def test_one_bit_without_a_sign_is_a_step_or_zero(self) -> None:
        _, relu, _ = quantized("relu", ActivationRange((-3, 5), (0, 5), magnitude=1.0), activation_bits=1).layers
        assert relu.activation == Precision(1, 2, signed=False)
        _, before, sigmoid, _ = quantized("sigmoid", ActivationRange((-3, 5), (0, 1), magnitude=0.5), activation_bits=1).layers
        assert sigmoid.activation == Precision(1, 1, signed=False)
        assert before.activation == Precision(4, 4)

    def test_a_network_of_dead_units_has_formats(self) -> None:
        for fn in ("relu", "none", "sigmoid"):
            assert quantized(fn, ActivationRange((0, 0), (0, 0), magnitude=0.0), activation_bits=1).quantized

    def test_a_binary_kernel_loses_the_sparsity(self) -> None:
        float_network = Architecture((4,), (LayerSpec.of("dense", units=3, sparsity=0.5), LayerSpec.of("dense", units=2)))
        for width, sparsities in (("binary", {}), ("ternary", {"dense_0": 0.5})):
            made = quantize(float_network, weights(), {}, input_grid=INPUT, weight_bits=width, activation_bits=4)  # type: ignore[arg-type]
            assert made.sparsities == sparsities
            assert Architecture.from_json(made.to_json()) == made

    @pytest.mark.parametrize(
        ("make", "message"),
        [
            (lambda: LayerSpec.of("dense", units=2, weight_bits="binary", sparsity=0.5), "leave sparsity out"),
            (lambda: LayerSpec.of("dense", units=2, weight_bits=1), "ternary, binary, or a number of bits from 2 to 16"),
            (lambda: replace(LayerSpec.of("dense", units=2), bias=Ternary(1)), "a bias cannot be ternary<1>"),
            (lambda: replace(LayerSpec.of("activation", fn="relu"), activation=Ternary(1)), "an output cannot be ternary<1>"),
            (lambda: replace(LayerSpec.of("softmax"), activation=Binary(1)), "an output cannot be binary<1>"),
            (lambda: replace(LayerSpec.of("layer_norm", axes="all"), weight=Binary(1)), "its weights cannot be binary<1>"),
        ],
    )
    def test_what_makes_no_sense_is_refused(self, make: Callable[[], LayerSpec], message: str) -> None:
        with pytest.raises(ConfigError, match=message):
            make()
