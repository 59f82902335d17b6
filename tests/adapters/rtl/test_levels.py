"""Adders in a row between two registers."""

from __future__ import annotations

import pytest

from kerasnac.adapters.rtl.adder_graph import unroll
from kerasnac.core.settings import AdderGraphSettings
from tests.adapters.rtl.test_adder_graph import NETWORKS, samples
from tests.networks import loud_weights

pytestmark = pytest.mark.usefixtures("da4ml")


@pytest.mark.parametrize("name", ["coarse", "tables", "conv1d", "residual", "softmax", "attention"])
def test_a_graph_that_is_cut_by_depth_keeps_it_and_computes_the_same(name: str) -> None:
    network = NETWORKS[name]
    weights, x = loud_weights(network), samples(network, 20)
    plain = unroll(network, weights)
    whole = unroll(network, weights, AdderGraphSettings(max_depth=1000))
    assert whole.stages == 1
    assert whole.depth >= plain.levels
    deepest_of_one = max(plain._own_levels)
    for depth in (1, 3, 7):
        cut = unroll(network, weights, AdderGraphSettings(max_depth=depth))
        assert cut.depth <= max(depth, deepest_of_one)
        assert cut.stages >= whole.depth / cut.depth
        assert (cut.luts, cut.levels) == (plain.luts, plain.levels)
        outputs = x.reshape(len(x), -1)
        for stage in cut.pipeline.solutions:
            outputs = stage.predict(outputs.astype(float), n_threads=1)
        assert (outputs.reshape(len(x), -1) == plain.predict(x)).all()


def test_constants_that_are_added_are_adders() -> None:
    network = NETWORKS["coarse"]
    graph = unroll(network, loud_weights(network), AdderGraphSettings(latency_cutoff=3))
    assert graph.costs()["adder_depth"] == graph.depth > 3
