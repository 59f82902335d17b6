"""Tables of several variables in adder graphs: the same numbers, and never more LUTs."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kerasnac.adapters.rtl import adder_graph
from kerasnac.adapters.rtl.adder_graph import AdderGraph, unroll
from kerasnac.adapters.rtl.functions import known_numbers
from kerasnac.adapters.rtl.joint import WIDEST, Term, added, groups, table_luts
from kerasnac.adapters.rtl.layer_rules import input_variables
from kerasnac.adapters.rtl.sums import Tracer
from kerasnac.core.network.architecture import Architecture
from kerasnac.core.network.precision import Precision
from kerasnac.core.settings.costs import AdderGraphSettings
from tests.integers import predict_in_integers
from tests.networks import activation, dense, layer, normal_weights

pytest.importorskip("da4ml")

W, B = "fixed<4,2>", "fixed<7,3>"


def one_by_one(monkeypatch: pytest.MonkeyPatch, network: Architecture, effort: str = "fast") -> AdderGraph:
    """Unroll without any table of several variables."""
    with monkeypatch.context() as patch:
        patch.setattr(adder_graph, "Tracer", partial(Tracer, joint=False))
        return unroll(network, normal_weights(network), AdderGraphSettings(effort=effort))


NARROW = {
    "dense": (dense(8, W, B), activation("relu", "ufixed<2,1>"), dense(4, W, B)),
    "signed": (dense(8, W, B), activation("none", "fixed<3,2>"), dense(4, W, B)),
    "two layers": (
        dense(6, W, B),
        activation("relu", "ufixed<2,1>"),
        dense(6, W, B),
        activation("relu", "ufixed<1,1>"),
        dense(3, W, B),
    ),
    "tables": (
        dense(6, W, B),
        activation("none", "fixed<2,1>"),
        layer("tables", W, units=4, grid="ap_fixed<2,1>"),
        activation("none", "fixed<3,2>"),
        layer("tables", W, units=3, grid="ap_fixed<3,2>"),
    ),
}


@pytest.mark.parametrize("name", NARROW)
@pytest.mark.parametrize("bits", [2, 5])
def test_they_are_exact_and_never_larger(name: str, bits: int, monkeypatch: pytest.MonkeyPatch) -> None:
    grid = Precision(bits, 2)
    network = Architecture((4,), NARROW[name], grid)
    weights = normal_weights(network)
    x = grid.quantize(np.random.default_rng(0).normal(0, 2, (500, 4)))
    graph, plain = unroll(network, weights), one_by_one(monkeypatch, network)
    np.testing.assert_array_equal(graph.predict(x), predict_in_integers(network, weights, x))
    np.testing.assert_array_equal(plain.predict(x), graph.predict(x))
    assert graph.luts < plain.luts


def test_convolutions_have_them_at_every_position(monkeypatch: pytest.MonkeyPatch) -> None:
    conv = layer("conv1d", W, B, filters=3, kernel=2, stride=1, padding="same")
    network = Architecture((5, 2), (conv, activation("relu", "ufixed<2,1>"), conv, layer("flatten")), Precision(2, 1))
    weights = normal_weights(network)
    x = network.input.quantize(np.random.default_rng(0).normal(0, 2, (300, 5, 2)))  # type: ignore[union-attr]
    graph = unroll(network, weights)
    np.testing.assert_array_equal(graph.predict(x), predict_in_integers(network, weights, x).reshape(300, -1))
    assert graph.luts < one_by_one(monkeypatch, network).luts


def test_a_unit_of_few_bits_is_one_table_with_its_activation() -> None:
    network = Architecture((3,), (dense(1, "fixed<5,2>", B), activation("relu", "ufixed<2,1>")), Precision(2, 1))
    graph = unroll(network, normal_weights(network))
    assert graph.luts == table_luts(6, 2)
    assert {*graph.spent["activation_0"]} == {"tables"}


def test_wide_variables_are_added(monkeypatch: pytest.MonkeyPatch) -> None:
    network = Architecture((4,), (dense(6, W, B), activation("relu", "ufixed<6,1>"), dense(3, W, B)), Precision(8, 2))
    assert unroll(network, normal_weights(network)).luts == one_by_one(monkeypatch, network).luts


def test_what_saves_most_is_looked_up_together() -> None:
    heavy, light = Term(3, 10.5, 0.5, 8.0), Term(3, 7.0, 1.0, 0.0)
    assert groups([light, heavy, heavy]) == [(1, 2)]
    assert groups([Term(2, 3.0, 1.0, 4.0)] * 3) == [(0, 1, 2)]
    assert groups([Term(2, 0.0, 1.0, 4.0)] * 3) == [], "constants"
    assert groups([Term(WIDEST, 255.0, 1.0, 50.0)] * 3) == [], "too wide"


@given(st.lists(st.tuples(st.booleans(), st.integers(2, 3), st.integers(-2, 3)), min_size=1, max_size=3), st.integers(0, 2**32))
@settings(max_examples=40, deadline=None)
def test_entries_are_the_sums(formats: list[tuple[bool, int, int]], seed: int) -> None:
    grids = [Precision(bits, integer, signed=signed) for signed, bits, integer in formats]
    variables = [input_variables((1,), grid)[0] for grid in grids]
    rng = np.random.default_rng(seed)
    values = [rng.normal(size=len(known_numbers(v))) for v in variables]
    entries = added(variables, values)
    places = [rng.integers(len(own)) for own in values]
    index, shift = 0, 0
    for grid, v, place in zip(grids, variables, places, strict=True):
        raw = round(known_numbers(v)[place] / grid.step) % 2**grid.bits
        index, shift = index + (raw << shift), shift + grid.bits
    assert entries[index] == pytest.approx(sum(own[place] for own, place in zip(values, places, strict=True)))


def test_terms_count_what_their_values_have_in_common_once() -> None:
    (v,) = input_variables((1,), Precision(3, 3, signed=False))
    term = Term.of(v, np.arange(8) * 6.0 + 5, 0.0)
    assert (term.bits, term.spread, term.step, term.width) == (3, 42.0, 2.0, 5)
