"""Boosted trees in whole numbers: what they compute, and how they are kept."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from kerasnac.core.network.precision import Precision
from kerasnac.core.trees.ensemble import Ensemble, Node, Round, Split, split
from kerasnac.errors import DataError, RunError
from tests.networks import grid_samples
from tests.trees import random_ensemble

GRID = Precision(5, 3)

#: x0 >= 0.5 ? (x1 >= -1 ? 3 : 1) : 0, and twice the leaves of x1 >= 0 ? 1 : 0, in halves.
SMALL = Ensemble(
    GRID, 2, 1, (-1,), (Round((Split(0, 2, 0, Split(1, -4, 1, 3)),), 0, 0), Round((Split(1, 0, 0, 1),), 1, offset=-1))
)


def leaf_of(node: Node, sample: Any) -> int:
    while isinstance(node, Split):
        node = node.high if sample[node.feature] >= node.threshold else node.low
    return node


@pytest.mark.parametrize(("x", "y"), [((0.25, 0.0), -0.5), ((0.5, -1.25), -1.0), ((0.5, -1.0), 0.0), ((3.75, 3.75), 1.0)])
def test_an_output_is_the_sum_of_leaves(x: tuple[float, float], y: float) -> None:
    assert SMALL.predict(np.array([x])).tolist() == [[y]]
    assert SMALL.first(0).predict(np.array([x])).tolist() == [[-0.5]]


@pytest.mark.parametrize("grid", [GRID, Precision(4, 6), Precision(6, 0, signed=False)])
def test_all_outputs_are_those_of_one_sample_after_the_other(grid: Precision) -> None:
    trees = random_ensemble(grid, outputs=3, rounds=4, offset=-2)
    x = grid_samples(grid, (4,), 100, scale=grid.maximum)
    expected = np.array([trees.start] * 100) + sum(
        np.array([[(leaf_of(tree, raw) + one.offset) << one.shift for tree in one.trees] for raw in trees.raw(x)])
        for one in trees.rounds
    )
    assert np.array_equal(trees.predict(x) * 4, expected)
    after = list(trees.sums(x))
    assert np.array_equal(after[-1], expected)
    assert np.array_equal(trees.values(after[1]), trees.first(2).predict(x))
    low, high = zip(*trees.limits, strict=True)
    assert (expected >= low).all()
    assert (expected <= high).all()
    assert trees.output.contains(trees.predict(x)).all()


@pytest.mark.parametrize(
    ("start", "greatest", "expected"),
    [
        (-3, 0, "ap_fixed<3,2>"),
        (0, 4, "ap_ufixed<3,2>"),
        (-4, 3, "ap_fixed<3,2>"),
        (-1, 0, "ap_fixed<2,1>"),
        (0, 0, "ap_ufixed<1,0>"),
    ],
)
def test_the_output_is_no_wider_than_it_must_be(start: int, greatest: int, expected: str) -> None:
    trees = Ensemble(GRID, 1, 1, (start,), (Round((Split(0, 0, 0, greatest - min(start, 0)),), 0, 0),))
    assert str(trees.output) == expected


def test_equal_sides_are_no_comparison() -> None:
    assert split(0, 1, 2, split(1, 1, 2, 2)) == 2
    assert random_ensemble(GRID, 2, 3).comparisons == tuple(sorted(set(random_ensemble(GRID, 2, 3).comparisons)))


@pytest.mark.parametrize(
    ("x", "message"),
    [
        (np.zeros((3, 4)), "do not fit trees of 2 features"),
        (np.array([[0.0, 0.1]]), "sample 0, feature 1: .*0.1.* is not on the input grid"),
        (np.array([[0.0, 0.0], [np.nan, 0.0]]), "sample 1, feature 0: .*nan.* is not on the input grid"),
        (np.array([[4.0, 0.0]]), "sample 0, feature 0: .*4.0.* is not on the input grid"),
    ],
)
def test_samples_that_do_not_fit(x: np.ndarray[Any, Any], message: str) -> None:
    with pytest.raises(DataError, match=message):
        SMALL.predict(x)


def test_a_file_holds_all(tmp_path: Path) -> None:
    trees = random_ensemble(Precision(8, 3), 3, 5, offset=-1)
    trees.save(tmp_path / "new" / "trees.json")
    assert Ensemble.load(tmp_path / "new" / "trees.json") == trees


DAMAGES: dict[str, tuple[tuple[Any, ...], Any]] = {
    "schema": (("schema",), 7),
    "grid": (("grid",), "float"),
    "feature": (("rounds", 0, "trees", 0, 0), 2),
    "leaf": (("rounds", 0, "trees", 0, 2), -1),
    "threshold": (("rounds", 0, "trees", 0, 1), 0.5),
    "parts": (("rounds", 0, "trees", 0), [0, 1, 2]),
    "outputs": (("start",), [0, 0]),
    "shift": (("rounds", 1, "shift"), True),
    "rounds": (("rounds",), 3),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_file_is_one_error_that_names_it(damage: str, tmp_path: Path) -> None:
    (*place, last), value = DAMAGES[damage]
    data = inner = json.loads(json.dumps(SMALL.to_dict()))
    for part in place:
        inner = inner[part]
    inner[last] = value
    (tmp_path / "trees.json").write_text(json.dumps(data))
    with pytest.raises(RunError, match=r"trees\.json: these are no boosted trees"):
        Ensemble.load(tmp_path / "trees.json")


def test_an_endless_tree_is_refused(tmp_path: Path) -> None:
    data = SMALL.to_dict()
    for _ in range(20):
        data["rounds"][0]["trees"][0] = [0, 1, 0, data["rounds"][0]["trees"][0]]
    with pytest.raises(RunError, match="deeper than 10"):
        Ensemble.from_dict(data)
