"""Learned tables: the order of their entries, their formats, and what is said of them without Keras."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kerasnac.core.network.architecture import Architecture
from kerasnac.core.network.bops import costs
from kerasnac.core.network.exactness import output_formats
from kerasnac.core.network.layers import LayerSpec
from kerasnac.core.network.learned_tables import by_raw, holds, reached, rising
from kerasnac.core.network.precision import Precision
from kerasnac.core.network.quantization import ActivationRange, kernel_format, quantize
from kerasnac.core.network.weights import initial_weights, sparsity
from kerasnac.errors import ConfigError, ConversionError, Infeasible
from tests.networks import activation, dense, layer, normal_weights

GRID = "ap_fixed<5,2>"

formats = st.builds(
    lambda bits, integer, signed: Precision(bits, integer, signed), st.integers(2, 8), st.integers(-2, 4), st.booleans()
)


def tables(units: int, grid: str = GRID, weight: str = "", **params: Any) -> LayerSpec:
    return layer("tables", weight, units=units, grid=grid, **params)


def quantized(*layers: LayerSpec, input: str = "ap_fixed<6,3>") -> Architecture:
    network = Architecture((3,), layers)
    ranges = {node.name: ActivationRange((-3.0, 3.0), (-3.0, 3.0)) for node in network.nodes if node.layer.kind == "activation"}
    grid = Precision.parse(input)
    return quantize(network, normal_weights(network), ranges, input_grid=grid, weight_bits=4, activation_bits=6)


def formats_of(network: Architecture) -> list[str]:
    return [f"{spec.kind} {spec.activation or spec.weight}" for spec in network.layers]


@given(formats)
def test_entries_are_in_the_order_of_their_inputs(grid: Precision) -> None:
    assert (np.diff(rising(grid)) == grid.step).all()
    np.testing.assert_array_equal(by_raw(rising(grid), grid), grid.grid())


@given(formats, formats)
def test_a_grid_holds_what_can_be_looked_up(grid: Precision, inputs: Precision) -> None:
    held = np.isin(inputs.grid(), grid.grid()).all()
    assert held == holds(grid, inputs)
    if held:
        assert len(reached(rising(grid), grid, inputs)) == 2**inputs.bits


def test_inputs_are_put_on_the_grid_unless_they_are() -> None:
    assert formats_of(quantized(tables(2)))[0] == "activation ap_fixed<5,2>"
    assert [spec.kind for spec in quantized(tables(2), input="ap_ufixed<4,1>").layers] == ["tables"]
    assert formats_of(quantized(tables(2, "ap_ufixed<4,2>")))[0] == "activation ap_ufixed<4,2>"
    assert quantized(tables(2, "ap_ufixed<4,2>")).layers[0]["fn"] == "relu"


@pytest.mark.parametrize(("between", "signed"), [((), True), (("none",), True), (("relu",), False), (("gelu",), True)])
def test_entries_have_the_step_of_the_tables_that_read_their_sums(between: tuple[str, ...], signed: bool) -> None:
    network = quantized(tables(2, "ap_fixed<6,3>", weight_bits=3), *map(activation, between), tables(2))
    assert network.layers[0].weight == Precision(3, 0)
    assert network.layers[-2].activation == (Precision(5, 2) if signed else Precision(4, 1, signed=False))


def test_entries_that_others_read_have_the_format_of_the_least_error() -> None:
    network = quantized(tables(2, "ap_fixed<6,3>"), activation("none"), dense(2))
    best = kernel_format(normal_weights(Architecture((3,), network.layers[:1]))["tables_0/kernel"], 4)
    assert network.layers[0].weight == best
    assert network.layers[1].activation == Precision(6, 3)


def test_they_start_as_the_products_of_a_dense_layer() -> None:
    kernel = initial_weights(Architecture((3,), (dense(4),)), 5)["dense_0/kernel"]
    drawn = initial_weights(Architecture((3,), (tables(4),)), 5)["tables_0/kernel"]
    for k, number in enumerate(rising(Precision.parse(GRID))):
        np.testing.assert_allclose(drawn[k], number * kernel, rtol=1e-6)


def test_the_constants_are_the_zeros() -> None:
    kernel = np.zeros((32, 3, 2))
    kernel[:, 0] = 1.0
    kernel[5, 1, 0] = 0.5
    kernel[5, 1, 1] = 0.1
    weights = {"tables_0/kernel": kernel}
    assert sparsity(Architecture((3,), (tables(2),)), weights)[1] == {"tables_0": pytest.approx(4 / 6)}
    assert sparsity(Architecture((3,), (tables(2, weight="ap_fixed<4,3>"),)), weights)[0] == pytest.approx(5 / 6)


def test_sums_alone_are_counted() -> None:
    (row,) = costs(Architecture((4,), (tables(5, weight_bits=3),)), sparsity=0.25)
    assert (row.macs, row.bops) == (20, 20 * 0.75 * (3 + 2))
    assert row.memory == 32 * 20 * 3


def test_sums_are_proved_of_the_entries_that_are_reached() -> None:
    kernel = np.zeros((32, 1, 1))
    kernel[0], kernel[16:20, 0, 0] = -4, (1, 0, 2, 3)
    network = Architecture((1,), (tables(1, weight="ap_fixed<4,4>"),), Precision(5, 2))
    assert output_formats(network, {"tables_0/kernel": kernel})["tables_0"] == Precision(3, 3)
    unsigned = replace(network, input=Precision(2, -1, signed=False))
    assert output_formats(unsigned, {"tables_0/kernel": -kernel})["tables_0"] == Precision(3, 3)


@pytest.mark.parametrize(
    ("layers", "message"),
    [
        ((tables(2, weight="ap_fixed<4,2>"),), r"tables_0: its tables are over ap_fixed<5,2>, which does not hold all .* none"),
        ((activation("none", "ap_fixed<5,2>"), tables(2)), r"tables_0: the tables are float in a quantized network"),
        ((activation("none", "ap_fixed<5,2>"), tables(2, weight="ap_ufixed<4,2>")), r"tables_0: entries of tables are signed"),
        (
            (tables(2, "ap_fixed<6,3>", "ap_fixed<4,2>"), tables(2, weight="ap_fixed<4,2>")),
            r"tables_1: its tables are over ap_fixed<5,2>, which does not hold",
        ),
        (
            (tables(2, "ap_fixed<6,3>", "ap_fixed<3,2>"), tables(2, "ap_fixed<8,6>", "ap_fixed<4,2>")),
            r"tables_1: it reads a table but its input is an unrounded accumulator",
        ),
    ],
)
def test_what_is_not_exact_is_refused(layers: tuple[LayerSpec, ...], message: str) -> None:
    network = Architecture((3,), layers, Precision(6, 3))
    with pytest.raises(ConversionError, match=message):
        output_formats(network, normal_weights(network))


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"grid": "ap_fixed<9,2>"}, r"tables: grid: .*ap_fixed<9,2> has 9 bits, and learned tables are over 8 at most"),
        ({"grid": "ternary<1>"}, r"tables: grid: .*write ap_fixed<2,1>"),
        ({"grid": "coarse"}, r"tables: grid: .*is not a number format"),
        ({"weight_bits": "ternary"}, r"tables: weight_bits"),
    ],
)
def test_parameters_that_make_no_sense_are_refused(params: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        LayerSpec.of("tables", **{"units": 2, "grid": GRID, **params})


def test_tables_wider_than_memory_are_refused() -> None:
    with pytest.raises(
        Infeasible, match=r"tables over ap_fixed<8,3> for 300 inputs x 64 units have 4,915,200 entries, more than"
    ):
        Architecture((300,), (tables(64, "ap_fixed<8,3>"),)).nodes  # noqa: B018


def test_maps_are_refused() -> None:
    with pytest.raises(Infeasible, match="flatten it first"):
        Architecture((3, 2), (tables(2),)).nodes  # noqa: B018


def test_ternary_weights_of_others_leave_two_bits() -> None:
    assert tables(2).weight_bits("ternary") == 2
    assert tables(2).weight_bits("binary") == 2
    assert not tables(2).binary("binary")
    with pytest.raises(ConfigError, match="its weights cannot be"):
        tables(2, weight="ternary<1>")


def test_one_text_of_a_grid_is_one_network() -> None:
    assert tables(2, "fixed< 5, 2 >") == tables(2, "ap_fixed<5,2>")
