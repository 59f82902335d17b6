"""Functions of one variable in adder graphs: looked up where that is cheaper, with the same numbers."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import pytest

from kerasnac.adapters.rtl.adder_graph import unroll
from kerasnac.adapters.rtl.functions import MOST_NUMBERS, Functions, Known, all_numbers
from kerasnac.adapters.rtl.layer_rules import input_variables
from kerasnac.core.network.architecture import Architecture
from kerasnac.core.network.precision import Precision
from tests.integers import predict_in_integers
from tests.networks import Arrays, activation, dense, layer, normal_weights

pytest.importorskip("da4ml")

ONE_INPUT = {
    "dense": (dense(4, "fixed<5,2>", "fixed<8,3>"), activation("relu", "ufixed<4,2>"), dense(3, "fixed<4,2>", "fixed<6,3>")),
    "signs": (dense(4, "fixed<5,2>", "fixed<8,3>"), activation("tanh", "binary<1>"), dense(2, "fixed<4,2>", "fixed<6,3>")),
    "tables": (
        layer("tables", "fixed<4,2>", units=4, grid="ap_fixed<6,3>"),
        activation("none", "fixed<4,2>"),
        layer("tables", "fixed<4,2>", units=3, grid="ap_fixed<4,2>"),
    ),
}


def one_input_each(network: Architecture) -> Arrays:
    """Weights of which the first layer's units read one input each, and the first none."""
    weights = normal_weights(network)
    first = next(iter(weights))
    mask = np.eye(weights[first].shape[-2], weights[first].shape[-1]) * (np.arange(weights[first].shape[-1]) > 0)
    return {**weights, first: (weights[first] * mask).astype(np.float32)}


@contextmanager
def nothing_known(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    with monkeypatch.context() as patch:
        patch.setattr(Functions, "_origin", lambda self, v: Known(v, v, all_numbers(v), (v,)))
        yield


@pytest.mark.parametrize("name", ONE_INPUT)
@pytest.mark.parametrize("bits", [4, 6, 8, 10])
def test_units_with_one_input_are_exact_and_never_larger(name: str, bits: int, monkeypatch: pytest.MonkeyPatch) -> None:
    grid = Precision(bits, 3)
    fits = (activation("none", "fixed<6,3>"),) if name == "tables" else ()
    network = Architecture((4,), (*fits, *ONE_INPUT[name]), grid)
    weights = one_input_each(network)
    x = grid.quantize(np.random.default_rng(0).normal(0, 2, (500, 4)))
    graph = unroll(network, weights)
    np.testing.assert_array_equal(graph.predict(x), predict_in_integers(network, weights, x))
    with nothing_known(monkeypatch):
        plain = unroll(network, weights)
    np.testing.assert_array_equal(plain.predict(x), graph.predict(x))
    assert graph.luts <= plain.luts


def test_what_puts_inputs_on_a_grid_is_part_of_the_tables(monkeypatch: pytest.MonkeyPatch) -> None:
    grid = Precision(6, 3)
    clipped = (activation("none", "fixed<5,2>"), layer("tables", "fixed<4,2>", units=2, grid="ap_fixed<5,2>"))
    network = Architecture((6,), clipped, grid)
    weights = normal_weights(network)
    graph = unroll(network, weights)
    with nothing_known(monkeypatch):
        assert graph.luts < unroll(network, weights).luts
    wide = Architecture((6,), (*clipped[:1], layer("tables", "fixed<4,2>", units=40, grid="ap_fixed<5,2>")), Precision(8, 3))
    many = normal_weights(wide)
    tables_alone = Architecture((6,), wide.layers[1:], Precision(5, 2))
    assert unroll(wide, many).luts > unroll(tables_alone, many).luts, "rounding once is cheaper than 40 larger tables"


def test_variables_of_many_numbers_are_no_functions() -> None:
    (v,) = input_variables((1,), Precision(9, 3))
    assert all_numbers(v) is None
    known = Functions()
    known.add(-v, v, np.negative)
    assert known.cheapest(v, -v, np.negative).low == -v.high
    (narrow,) = input_variables((1,), Precision(8, 3))
    numbers = all_numbers(narrow)
    assert numbers is not None
    assert len(numbers) == MOST_NUMBERS
    assert (numbers[0], numbers[-1]) == (-4.0, 4 - 2**-5)
