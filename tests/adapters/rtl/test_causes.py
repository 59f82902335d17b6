"""LUTs of an adder graph by layer and cause."""

from __future__ import annotations

from collections import Counter

import pytest

from kerasnac.adapters.rtl.adder_graph import unroll
from kerasnac.adapters.rtl.causes import CAUSES
from kerasnac.core.network.channel_formats import quantizer
from kerasnac.core.network.precision import Precision
from tests.adapters.rtl.test_adder_graph import INPUT, NETWORKS, act, dense
from tests.networks import Architecture, loud_weights

pytestmark = pytest.mark.usefixtures("da4ml")


def spent(architecture: Architecture) -> dict[str, Counter[str]]:
    graph = unroll(architecture, loud_weights(architecture))
    return {layer: Counter(luts) for layer, luts in graph.spent.items()}


@pytest.mark.parametrize("name", ["coarse", "tables", "conv1d", "residual", "attention", "softmax", "constant table"])
def test_every_lut_has_one_cause(name: str) -> None:
    graph = unroll(NETWORKS[name], loud_weights(NETWORKS[name]))
    luts = [luts for causes in graph.spent.values() for luts in causes.values()]
    assert sum(luts) == pytest.approx(graph.luts)
    assert all(luts)
    assert {cause for causes in graph.spent.values() for cause in causes} <= {*CAUSES}
    assert {*graph.spent} <= {*NETWORKS[name].names}


def test_causes_of_a_small_network() -> None:
    found = spent(Architecture((4,), (dense(6), act("relu", "ufixed<3,2>"), dense(3)), INPUT))
    assert {*found["dense_0"]} == {"sums", "biases"}
    assert {*found["dense_1"]} == {"sums", "biases", "tables"}  # Two channels of three bits go into one LUT.
    assert {*found["activation_0"]} == {"rounding", "ties", "ReLU", "saturation"}


def test_what_a_network_does_not_need_costs_nothing() -> None:
    wide = spent(Architecture((4,), (dense(6), act("relu", "ufixed<16,8>"), dense(3)), INPUT))
    assert {*wide["activation_0"]} == {"ReLU"}
    wide = spent(Architecture((4,), (dense(6), act("none", "fixed<16,8>"), dense(3)), INPUT))
    assert "activation_0" not in wide


def test_tables_and_products_are_charged_to_their_layers() -> None:
    assert {*spent(NETWORKS["tables"])["activation_1"]} == {"tables"}
    assert {*spent(NETWORKS["square"])["matmul_0"]} == {"products", "sums"}
    assert "tables" in spent(NETWORKS["softmax"])["softmax_0"]
    assert {*spent(NETWORKS["conv1d"])["pool_0"]} == {"sums", "selection"}  # A maximum is a difference and a choice.


def test_rounding_half_up_has_no_ties() -> None:
    half_up = quantizer([Precision(4, 2), None, Precision(3, 1), Precision(4, 2)], "half_up", signed=True)
    found = spent(Architecture((4,), (dense(4), half_up, dense(3)), INPUT))
    causes = {cause for layer, luts in found.items() if "dense" not in layer for cause in luts}
    assert "rounding" in causes
    assert "ties" not in causes
