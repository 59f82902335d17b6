"""Boosted trees beside networks, in table and plot."""

from __future__ import annotations

from dataclasses import replace

import pytest

from kerasnac.core.data.bootstrap import Score
from kerasnac.core.data.task import Task
from kerasnac.core.network.origin import CompressionOrigin, TuningOrigin
from kerasnac.core.network.precision import Precision
from kerasnac.core.network.trained import Trained
from kerasnac.core.network.training import Training
from kerasnac.stages.compress.result import CompressResult
from kerasnac.stages.references.result import TreesPoint, TreesResult
from kerasnac.ui.plots import boosted_trees
from kerasnac.ui.references import networks_of, table
from kerasnac.ui.tables import as_text
from tests.networks import mlp, normal_weights
from tests.trees import random_ensemble

TASK = Task("classification", 3)


def point(rounds: int, accuracy: float, luts: float) -> TreesPoint:
    costs = {
        "estimated_luts": luts + 7,
        "yosys_luts": luts,
        "ffs": 50.0,
        "carry": 2.0,
        "muxes": 1.0,
        "cycles": 4.0,
        "samples": 100.0,
    }
    ensemble = random_ensemble(Precision(8, 3), 3, rounds)
    return TreesPoint(f"trees-d3-b2-t16-r00{rounds}", ensemble, {"accuracy": accuracy}, costs)


TREES = TreesResult((point(1, 0.6, 111), point(2, 0.65, 222), point(3, 0.62, 333)), TASK, "yosys_luts")


@pytest.fixture
def networks() -> CompressResult:
    architecture = mlp(4, 3, 3)
    parent = Trained("a", architecture, normal_weights(architecture), Training(), {"accuracy": 0.66}, 0, TuningOrigin("a", ()))
    model = replace(parent, name="a-w6a6-i00", metrics={"accuracy": 0.64}, origin=CompressionOrigin("a", 6, 6, 0))
    costs = {model.name: {"adder_luts": 1234.0}}
    return CompressResult((model,), (parent,), TASK, cost="adder_luts", costs=costs)


def test_counts_and_estimates_stand_in_columns_of_their_own(networks: CompressResult) -> None:
    trees = replace(TREES, networks={"a-w6a6-i00": 999.0})
    text = as_text(table(trees, {"trees-d3-b2-t16-r002": Score(0.63, 0.62, 0.64)}, networks))
    cells = ([cell.strip() for cell in line.split("│")[1:-1]] for line in text.splitlines() if "│" in line)
    rows = {name: others for name, *others in cells}
    assert rows["trees-d3-b2-t16-r001"] == ["0.6000", "", "111", "", "1", "50", "4"]
    assert rows["a-w6a6-i00"] == ["0.6400", "", "999", "1,234", "", "", ""]
    assert rows["trees-d3-b2-t16-r002"] == ["0.6500", "0.6300 [0.6200, 0.6400]", "222", "", "1", "50", "4"]
    assert list(rows)[-3:] == [
        "trees-d3-b2-t16-r001",
        "a-w6a6-i00",
        "trees-d3-b2-t16-r002",
    ]  # by accuracy; r003 is not on the front
    assert "100 of 100 samples equal" in text


def test_estimates_are_called_so() -> None:
    text = as_text(table(replace(TREES, cost="estimated_luts"), {}))
    assert "118" in text
    assert "LUT, estimated" in text
    assert "the estimate is no count" in text
    assert "adder graph" not in text


def test_the_plot_shows_both(networks: CompressResult) -> None:
    def labels(result: TreesResult, compressed: CompressResult | None) -> list[str]:
        return [text.get_text() for text in boosted_trees(result, compressed).axes[0].get_legend().get_texts()]

    trees = ["boosted trees", "front of boosted trees, LUT, Yosys"]
    assert labels(TREES, networks) == [*trees, "networks, LUTs of the adder graph (estimate)"]
    assert labels(replace(TREES, networks={"a-w6a6-i00": 999.0}), networks)[3:] == ["networks, LUTs (Yosys)"]
    assert labels(TREES, None) == trees
    assert networks_of(None) == []
