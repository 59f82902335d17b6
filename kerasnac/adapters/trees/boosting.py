"""Gradient boosting of scikit-learn's decision trees, whose leaves are rounded before the next round sees them.

Every round is a Newton step (Friedman, Ann. Statist. 29, 1189 (2001), algorithm 6), for which a regression tree is fitted
to the gradients. Each leaf is then rounded to a few bits, and the next round corrects the rounding of the last.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from kerasnac.core.data.dataset import Development, Split
from kerasnac.core.store.seeding import derive_seed, generator
from kerasnac.core.trees import ensemble
from kerasnac.core.trees.ensemble import Ensemble, Node, Round
from kerasnac.errors import EnvironmentProblem

Floats = NDArray[np.float64]

#: Steps of logits are about this part of the learning rate, a power of two: finer ones cost adders and gain nothing on jets.
LOGIT_STEP = 0.4

#: Steps of a regressed value are at most this part of its standard deviation, times the learning rate.
VALUE_STEP = 1 / 20

#: Fewest samples of a leaf, and what is added to the second derivatives of one, so that few samples make no large step.
FEWEST, RIDGE = 20, 1.0

#: Least second derivative of a sample.
LEAST = 1e-3

#: Coarsest step of leaves, as a power of two of the finest.
COARSEST = 5


@dataclass(frozen=True)
class Recipe:
    """Settings of one boosting; see :class:`kerasnac.core.settings.references.BoostedTreesSettings`."""

    depth: int
    leaf_bits: int
    thresholds: int
    learning_rate: float
    rounds: int
    subsample: int

    @property
    def name(self) -> str:
        """Short name, of all that differs between the boostings of a run."""
        return f"trees-d{self.depth}-b{self.leaf_bits}-t{self.thresholds}-l{self.learning_rate:g}"


class _Objective(Protocol):
    """The loss that is minimised, in sums of leaves.

    Attributes:
        fractional: Bits right of the binary point of the sums.
        start: The sums before the first round, in steps.
        grown: Outputs that get trees.
        step: Factor of Newton's step.
        relative: True if a constant that is added to all outputs changes nothing.
    """

    fractional: int
    start: tuple[int, ...]
    grown: tuple[int, ...]
    step: float
    relative: bool

    def derivatives(self, sums: Floats) -> tuple[Floats, Floats]:
        """Return minus the first, and the second derivatives of the loss by the outputs, shape (samples, outputs)."""


class _Logistic:
    """Cross-entropy of classes. Of two classes, the first has the constant logit zero."""

    relative = True

    def __init__(self, split: Split, outputs: int, rate: float) -> None:
        weight = np.ones(len(split)) if split.weight is None else split.weight.astype(np.float64)
        self._weight = weight[:, np.newaxis]
        self._true = np.eye(outputs)[split.y]
        self.grown = tuple(range(outputs)) if outputs > 2 else (1,)
        self.step = (outputs - 1) / outputs if outputs > 2 else 1.0
        share = np.maximum(weight @ self._true, 1e-9) / weight.sum()
        self.fractional = -round(math.log2(LOGIT_STEP * rate))
        logits = np.round(np.ldexp(np.log(np.maximum(share, 1e-3)), self.fractional)).astype(int)
        self.start = tuple(int(n) for n in logits - logits.min())

    def derivatives(self, sums: Floats) -> tuple[Floats, Floats]:
        p = np.exp(sums - sums.max(axis=1, keepdims=True))
        p /= p.sum(axis=1, keepdims=True)
        return self._weight * (self._true - p), self._weight * np.maximum(p * (1 - p), LEAST)


class _Squares:
    """Squared error of values."""

    step, relative = 1.0, False

    def __init__(self, split: Split, outputs: int, rate: float) -> None:
        weight = np.ones(len(split)) if split.weight is None else split.weight.astype(np.float64)
        self._weight, self._true = weight[:, np.newaxis], split.y.astype(np.float64)
        self.grown = tuple(range(outputs))
        mean = np.average(self._true, axis=0, weights=weight)
        spread = np.sqrt(np.average((self._true - mean) ** 2, axis=0, weights=weight))
        spread = spread[spread > 0]
        self.fractional = -int(np.floor(np.log2(VALUE_STEP * rate * (spread.min() if len(spread) else 1.0))))
        self.start = tuple(int(n) for n in np.round(np.ldexp(mean, self.fractional)))

    def derivatives(self, sums: Floats) -> tuple[Floats, Floats]:
        return self._weight * (self._true - sums), np.broadcast_to(self._weight, sums.shape)


@dataclass(frozen=True)
class _Grown:
    """A tree of scikit-learn for one output, before its leaves are rounded.

    Attributes:
        tree: Its nodes.
        leaf: Node of every sample, shape (samples,).
        value: Newton's step of every node, shape (nodes,).
        weight: Sum of the second derivatives in every node, shape (nodes,); zero where there are no samples.
    """

    tree: Any
    leaf: NDArray[np.int64]
    value: Floats
    weight: Floats


def require_scikit_learn() -> None:
    """Check that trees can be grown.

    Raises:
        EnvironmentProblem: If scikit-learn is missing.
    """
    try:
        import sklearn.tree  # noqa: F401
    except ImportError as error:
        raise EnvironmentProblem(f"boosted trees need the package scikit-learn ({error}): pip install scikit-learn") from error


def boost(data: Development, recipe: Recipe, seed: int, tick: Callable[[int], None] = lambda done: None) -> Ensemble:
    """Boost trees on the training split.

    Classes are weighed by the cross-entropy, values by the squared error; weights of samples count.

    Args:
        data: Samples of shape (features,), of a classification or a regression.
        recipe: Depth, bits, number of rounds.
        seed: Of the draws of samples and of ties between comparisons.
        tick: Called with the number of rounds that are done.

    Returns:
        All rounds; :meth:`Ensemble.first` cuts them.

    Raises:
        EnvironmentProblem: If scikit-learn is missing.
    """
    require_scikit_learn()
    kind = _Logistic if data.task.classes else _Squares
    objective: _Objective = kind(data.train, data.task.outputs, recipe.learning_rate)
    empty = Ensemble(data.input_grid, data.input_shape[0], objective.fractional, objective.start, ())
    raw = empty.raw(data.train.x)
    thresholds = [candidates(raw[:, i], recipe.thresholds) for i in range(raw.shape[1])]
    codes = np.stack([np.searchsorted(t, raw[:, i], side="right") for i, t in enumerate(thresholds)], 1).astype(np.float32)
    sums = np.tile(np.array(objective.start, np.int64), (len(raw), 1))
    rounds: list[Round] = []
    for number in range(recipe.rounds):
        first, second = objective.derivatives(empty.values(sums))
        rows = generator(seed, "rows", number).permutation(len(raw))[: recipe.subsample]
        grown = {
            k: _grow(codes, first[:, k], second[:, k], rows, recipe, derive_seed(seed, "ties", number, k))
            for k in objective.grown
        }
        factor = recipe.learning_rate * objective.step
        made, change = _rounded(grown, objective, factor, recipe.leaf_bits, thresholds)
        sums += change
        rounds.append(made)
        tick(number + 1)
    return Ensemble(empty.grid, empty.features, empty.fractional, empty.start, tuple(rounds))


def candidates(values: NDArray[np.int64], count: int) -> NDArray[np.int64]:
    """Return thresholds between the quantiles of a feature: in every gap, the one that the fewest bits of it decide.

    Args:
        values: The feature in steps of its grid, shape (samples,).
        count: Number of gaps, at most.

    Returns:
        Ascending; none for a constant feature.
    """
    edges = np.unique(np.quantile(values, np.linspace(0, 1, count + 1), method="inverted_cdf").astype(np.int64))
    found = []
    for low, high in zip(edges[:-1].tolist(), edges[1:].tolist(), strict=True):
        zeros = next(n for n in range(63, -1, -1) if (high >> n) << n > low)
        found.append((high >> zeros) << zeros)
    return np.array(found, np.int64)


def _grow(
    codes: NDArray[np.float32], first: Floats, second: Floats, rows: NDArray[np.int64], recipe: Recipe, seed: int
) -> _Grown:
    """Fit a tree to Newton's steps of some samples, and find the step of every leaf from all."""
    from sklearn.tree import DecisionTreeRegressor

    tree = DecisionTreeRegressor(max_depth=recipe.depth, min_samples_leaf=FEWEST, random_state=seed)
    weights = second[rows]
    steps = np.divide(first[rows], weights, out=np.zeros(len(rows)), where=weights > 0)
    # Samples without any weight have no part; if all are, the tree is one leaf.
    tree.fit(codes[rows], steps, sample_weight=weights if weights.any() else None)
    leaf = tree.apply(codes)
    nodes = tree.tree_.node_count
    slope, weight = (np.bincount(leaf, values, nodes).astype(np.float64) for values in (first, second))
    return _Grown(tree.tree_, leaf, slope / (weight + RIDGE), weight)


def _rounded(
    grown: dict[int, _Grown], objective: _Objective, factor: float, bits: int, thresholds: list[NDArray[np.int64]]
) -> tuple[Round, NDArray[np.int64]]:
    """Round the leaves of all trees of a round to one format, that with the least weighted squared error.

    Returns:
        The round, and what it adds to the sums of the samples, in steps, shape (samples, outputs), int64.
    """
    steps = {k: np.ldexp(factor * one.value, objective.fractional) for k, one in grown.items()}
    used = {k: one.weight > 0 for k, one in grown.items()}
    value = np.concatenate([steps[k][used[k]] for k in grown])
    weight = np.concatenate([one.weight[used[k]] for k, one in grown.items()])
    shift, offset = _format(value, weight, bits)
    trees: list[Node] = [-offset] * len(objective.start)  # No tree is a constant zero.
    change = np.zeros((len(next(iter(grown.values())).leaf), len(trees)), np.int64)
    for k, one in grown.items():
        leaf = (np.clip(np.round(steps[k] / 2**shift), offset, offset + 2**bits - 1) - offset).astype(np.int64)
        trees[k] = _tree(one.tree, leaf, thresholds)
        change[:, k] = (leaf[one.leaf] + offset) << shift
    return Round(tuple(trees), shift, 0 if objective.relative else offset), change


def _format(value: Floats, weight: Floats, bits: int) -> tuple[int, int]:
    """Return the shift and the offset of the leaves of a round; zero is always among what they stand for."""

    def error(shift: int, offset: int) -> float:
        rounded = np.clip(np.round(value / 2**shift), offset, offset + 2**bits - 1) * 2**shift
        return float((weight * (rounded - value) ** 2).sum())

    choices = [(shift, offset) for shift in range(COARSEST, -1, -1) for offset in range(1 - 2**bits, 1)]
    return min(choices, key=lambda choice: error(*choice))


def _tree(nodes: Any, leaf: NDArray[np.int64], thresholds: list[NDArray[np.int64]]) -> Node:
    """Return a tree of scikit-learn, which compares codes, with its rounded leaves."""

    def made(node: int) -> Node:
        feature = int(nodes.feature[node])
        if feature < 0:
            return int(leaf[node])
        threshold = int(thresholds[feature][int(np.floor(nodes.threshold[node]))])
        return ensemble.split(feature, threshold, made(int(nodes.children_left[node])), made(int(nodes.children_right[node])))

    return made(0)
