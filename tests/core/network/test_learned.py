"""Learned values as networks with formats: nothing is lost, and nothing is wider than it has to be."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from kerasnac.core.network.architecture import Architecture
from kerasnac.core.network.channel_formats import quantizer
from kerasnac.core.network.layers import LayerSpec
from kerasnac.core.network.learned import (
    channel_format,
    entry_bits,
    exact_format,
    place_of,
    read_by_tables,
    rounding_of,
    to_grid,
    with_places,
)
from kerasnac.core.network.precision import Precision
from kerasnac.core.network.trained import Trained
from kerasnac.core.network.training import Training
from kerasnac.errors import ConversionError
from tests.networks import activation, dense, layer, mlp

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


def tables(grid: str) -> LayerSpec:
    return layer("tables", units=3, grid=grid)


def test_tables_read_activations_that_fit_their_grid() -> None:
    layers = (tables("ap_fixed<5,2>"), tables("ap_ufixed<4,2>"), activation("relu"), tables("ap_fixed<6,4>"), dense(2))
    made = with_places(Architecture((4,), layers))
    places = {node.name: node for node in made.nodes if node.layer.kind == "activation"}
    assert [node.layer["fn"] for node in places.values()] == ["none", "relu", "relu", "none"]
    held = [read_by_tables(made, node) for node in places.values()]
    assert [None if grid is None else str(grid) for grid in held] == ["ap_fixed<5,2>", "ap_ufixed<4,2>", "ap_ufixed<5,3>", None]
    assert {place_of(made, node).name for node in made.nodes if node.layer.kind == "tables"} == set(places) - {"activation_3"}


def test_two_layers_of_tables_read_what_both_grids_have() -> None:
    first, second = (replace(tables(grid), inputs=(-i,)) for i, grid in enumerate(("ap_fixed<6,2>", "ap_ufixed<5,3>"), 1))
    joined = LayerSpec.of("concatenate", inputs=(-2, -1))
    made = Architecture((4,), (activation("relu"), first, second, joined))
    assert str(read_by_tables(with_places(made), made.nodes[0])) == "ap_ufixed<3,1>"


def test_entries_have_the_bits_in_which_they_differ() -> None:
    columns = [[0.5, 0.5, 0.5], [1.25, 1.25, 1.5], [3.0, 4.0, 9.0], [-0.5, 0.0, 1.0]]
    np.testing.assert_array_equal(entry_bits(np.array(columns, np.float32).T.reshape(3, 2, 2)), [[0, 1], [3, 2]])


def test_bit_operations_of_tables_are_those_of_their_own_widths() -> None:
    grid = Precision(4, 2)
    kernel = np.zeros((16, 2, 3), np.float32)
    kernel[3, 0], kernel[:, 1, 0] = 1.75, 0.25  # Three tables of three bits; three constants.
    inputs = quantizer([Precision(4, 2), Precision(3, 2)], "down", signed=True)
    network = Architecture((2,), (inputs, replace(tables(str(grid)), weight=exact_format(kernel.astype(np.float64)))), grid)
    (cost,) = Trained("tables", network, {"tables_0/kernel": kernel}, Training(), {}, 0).layer_costs
    assert (cost.weight_bits, cost.activation_bits, cost.sparsity) == (3, 3.5, 0.5)
    assert cost.bops == 3 * (3 + 1)


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
