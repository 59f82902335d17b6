"""Learned values as networks with formats: nothing is lost, and nothing is wider than it has to be."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from kerasnac.core.network.architecture import Architecture
from kerasnac.core.network.layers import LayerSpec
from kerasnac.core.network.learned import channel_format, exact_format, rounding_of, to_grid, with_places
from kerasnac.core.network.precision import Precision
from kerasnac.errors import ConversionError
from tests.networks import activation, dense, mlp

whole = st.integers(-300, 300)


@given(arrays(np.int64, 5, elements=whole), st.integers(-4, 6))
def test_the_format_of_weights_is_the_narrowest_that_holds_them(steps: np.ndarray, fractional: int) -> None:
    values = np.ldexp(steps.astype(np.float64), -fractional)
    grid = exact_format(values)
    np.testing.assert_array_equal(grid.quantize(values), values)
    if grid.bits > 2:
        narrower = (Precision(grid.bits - 1, grid.integer), Precision(grid.bits - 1, grid.integer - 1))
        assert all((other.quantize(values) != values).any() for other in narrower)


@given(whole, whole, st.integers(-3, 8), st.booleans())
def test_the_format_of_a_channel_holds_its_numbers(low: int, high: int, fractional: int, signed: bool) -> None:
    low, high = (min(low, high), max(low, high)) if signed else (0, abs(high))
    ends = np.ldexp([float(low), float(high)], -fractional)
    grid = channel_format(fractional + 0.3, *ends, signed=signed)
    if low == high == 0:
        assert grid is None
        return
    assert grid is not None
    assert (grid.fractional, grid.signed) == (fractional, signed)
    np.testing.assert_array_equal(grid.quantize(ends), ends)
    if grid.bits > 1 + signed:
        narrower = Precision(grid.bits - 1, grid.integer - 1, signed)
        assert (narrower.quantize(ends) != ends).any()


def test_numbers_are_rounded_half_up_to_their_own_bits() -> None:
    values = np.array([0.5, -0.5, 0.3, 0.3, 3.0, 0.2], np.float32)
    bits = np.array([0, 0, 2.4, 1, -1, 0], np.float32)
    assert to_grid(values, bits).tolist() == [1, 0, 0.25, 0.5, 4, 0]


def test_widths_have_places_before_all_kernels() -> None:
    made = with_places(Architecture((4,), (dense(3), dense(3), activation("relu"), dense(2))))
    assert [layer.kind for layer in made.layers] == ["activation", "dense", "activation", "dense", "activation", "dense"]
    assert [rounding_of(made, node) for node in made.nodes if node.layer.kind == "activation"] == ["down", "half_up", "half_up"]


def test_inputs_are_rounded_down_behind_a_flatten() -> None:
    made = with_places(Architecture((4, 2), (LayerSpec.of("flatten"), dense(3))))
    assert [rounding_of(made, node) for node in made.nodes if node.layer.kind == "activation"] == ["down"]


def test_maps_keep_the_widths_of_the_activation_before_a_pool() -> None:
    conv = LayerSpec.of("conv2d", filters=2, kernel=3, stride=1, padding="same")
    layers = (conv, activation("relu"), LayerSpec.of("pool", op="max", size=2), LayerSpec.of("flatten"), dense(2))
    assert [layer.kind for layer in with_places(Architecture((4, 4, 1), layers)).layers][1:] == [layer.kind for layer in layers]


@pytest.mark.parametrize(
    ("network", "complaint"),
    [
        (mlp(3, 4, 2, fn="tanh"), "activation_0: widths are learned behind none and relu alone, not behind tanh; use relu"),
        (
            Architecture((6, 2), (LayerSpec.of("pool", op="mean", size=3), LayerSpec.of("flatten"), dense(2))),
            "pool_0: widths are not learned behind means of 3 values, no power of two; use op: max",
        ),
        (Architecture((4,), (LayerSpec.of("layer_norm", axes="all"), dense(2))), "layer_norm_0: widths are not learned for"),
    ],
)
def test_other_layers_are_refused_by_name(network: Architecture, complaint: str) -> None:
    with pytest.raises(ConversionError, match=complaint):
        with_places(network)
