"""Boosting: what is learned, in whole numbers of few bits, the same every time."""

from __future__ import annotations

import sys
from dataclasses import replace

import numpy as np
import pytest

from kerasnac.adapters.trees.boosting import Recipe, boost, candidates
from kerasnac.core.data.dataset import Development, Split
from kerasnac.core.trees.ensemble import Ensemble, leaves
from kerasnac.core.trees.ensemble import Split as Comparison
from kerasnac.errors import EnvironmentProblem
from tests.trees import steps

RECIPE = Recipe(depth=3, leaf_bits=2, thresholds=8, learning_rate=0.6, rounds=6, subsample=500)


@pytest.fixture(scope="module")
def data() -> Development:
    return steps().development


@pytest.fixture(scope="module")
def trees(data: Development) -> Ensemble:
    return boost(data, RECIPE, seed=1)


def depth(node: object) -> int:
    return 1 + max(depth(node.low), depth(node.high)) if isinstance(node, Comparison) else 0


def test_every_round_learns_more(data: Development, trees: Ensemble) -> None:
    split, entropies = data.validation, []
    for sums in trees.sums(split.x):
        p = np.exp(trees.values(sums))
        entropies.append(-np.log((p / p.sum(axis=1, keepdims=True))[np.arange(len(p)), split.y]).mean())
    assert data.task.score(trees.predict(split.x), split.y) > 0.9
    assert (np.diff(entropies[:4]) < -0.03).all()
    assert entropies[-1] < 0.35


def test_leaves_depths_and_thresholds_are_as_asked(data: Development, trees: Ensemble) -> None:
    every = [tree for one in trees.rounds for tree in one.trees]
    assert len(trees.rounds) == 6
    assert {leaf for tree in every for leaf in leaves(tree)} == {0, 1, 2, 3}
    assert max(map(depth, every)) == 3
    for feature in range(4):
        assert len({threshold for one, threshold in trees.comparisons if one == feature}) <= 8
    # Every comparison tells training samples apart.
    raw = trees.raw(data.train.x)
    assert all(0 < (raw[:, feature] >= threshold).mean() < 1 for feature, threshold in trees.comparisons)


def test_of_three_classes_alike_no_constant_is_left(trees: Ensemble) -> None:
    assert min(trees.start) == 0
    assert trees.base == trees.start
    assert not trees.output.signed


def test_the_same_seed_gives_the_same_trees(data: Development, trees: Ensemble) -> None:
    assert boost(data, RECIPE, seed=1) == trees
    assert boost(data, RECIPE, seed=2) != trees
    assert boost(data, replace(RECIPE, rounds=2), seed=1) == trees.first(2)


def test_of_two_classes_only_one_has_trees() -> None:
    data = steps(outputs=2).development
    trees = boost(data, RECIPE, seed=0)
    assert all(isinstance(one.trees[0], int) and isinstance(one.trees[1], Comparison) for one in trees.rounds)
    outputs = trees.predict(data.validation.x)
    assert len(np.unique(outputs[:, 0])) == 1
    assert data.task.score(outputs, data.validation.y) > 0.9


def test_a_regression_corrects_the_rounding_of_its_leaves() -> None:
    data = steps("regression").development
    trees = boost(data, replace(RECIPE, rounds=15), seed=0)
    errors = [np.abs(trees.values(sums) - data.validation.y).mean(axis=0) for sums in trees.sums(data.validation.x)]
    assert (errors[-1] < [0.5, 0.65]).all()
    assert (errors[-1] < 0.7 * errors[0]).all()
    assert (np.abs(trees.base) > 0).all()  # One mean is 100.


def test_weights_say_what_counts(data: Development, trees: Ensemble) -> None:
    train = data.train
    weight = np.where(train.y == 1, 1, 0.02).astype(np.float32)
    weighed = boost(replace(data, train=Split(train.x, train.y, weight)), RECIPE, seed=1)
    share = (weighed.predict(data.validation.x).argmax(axis=1) == 1).mean()
    assert share > (trees.predict(data.validation.x).argmax(axis=1) == 1).mean() + 0.05
    same = boost(replace(data, train=Split(train.x, train.y, np.ones(len(train), np.float32))), RECIPE, seed=1)
    assert same == trees


def test_features_that_say_nothing_are_not_compared(data: Development) -> None:
    nothing = replace(data, train=Split(np.zeros_like(data.train.x), data.train.y))
    assert boost(nothing, RECIPE, seed=0).comparisons == ()


def test_thresholds_are_those_with_the_fewest_bits_in_the_gaps_between_quantiles() -> None:
    values = np.arange(-100, 100)
    assert candidates(values, 4).tolist() == [-64, -32, 0, 64]
    assert candidates(values, 1000).tolist() == list(range(-99, 100))
    assert candidates(np.full(5, 3), 4).tolist() == []


def test_without_scikit_learn(data: Development, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sklearn.tree", None)
    with pytest.raises(EnvironmentProblem, match="pip install scikit-learn"):
        boost(data, RECIPE, seed=0)
