"""Boosted decision trees in whole numbers: thresholds on the grid of the inputs, leaves of a few bits."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kerasnac.core.network.precision import Precision
from kerasnac.core.store.files import make_folder, read_object, write_text
from kerasnac.errors import DataError, RunError

#: Deepest tree, and most bits of a leaf: what is beyond is no small table.
DEEPEST, WIDEST_LEAF = 10, 12

#: What :meth:`Ensemble.from_dict` reads.
SCHEMA = 1


@dataclass(frozen=True)
class Split:
    """A comparison of one feature with a constant, and the trees on its two sides.

    Attributes:
        feature: Index of the feature.
        threshold: In steps of the input grid.
        low: Where the feature is less than the threshold.
        high: Where it is not.
    """

    feature: int
    threshold: int
    low: Node
    high: Node


#: A tree: the whole number of a leaf, from 0 on, or a comparison.
Node = int | Split


def split(feature: int, threshold: int, low: Node, high: Node) -> Node:
    """Return a comparison, or nothing but its one side if both are the same."""
    return low if low == high else Split(feature, threshold, low, high)


def comparisons(node: Node) -> Iterator[tuple[int, int]]:
    """Yield feature and threshold of every comparison of a tree."""
    if isinstance(node, Split):
        yield node.feature, node.threshold
        yield from comparisons(node.low)
        yield from comparisons(node.high)


def leaves(node: Node) -> Iterator[int]:
    """Yield the leaves of a tree, those of lower sides first."""
    if isinstance(node, Split):
        yield from leaves(node.low)
        yield from leaves(node.high)
    else:
        yield node


def evaluate(node: Node, raw: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the leaf of every sample.

    Args:
        node: The tree.
        raw: Features in steps of the input grid, shape (samples, features), int64.

    Returns:
        Shape (samples,), int64.
    """
    found = np.empty(len(raw), np.int64)

    def fill(part: Node, rows: NDArray[np.int64]) -> None:
        if isinstance(part, Split):
            high = raw[rows, part.feature] >= part.threshold
            fill(part.low, rows[~high])
            fill(part.high, rows[high])
        else:
            found[rows] = part

    fill(node, np.arange(len(raw)))
    return found


@dataclass(frozen=True)
class Round:
    """One tree for every output; their leaves have one number format.

    Attributes:
        trees: One per output.
        shift: A leaf ``n`` stands for ``(n + offset) * 2**shift`` steps of the outputs.
        offset: See ``shift``.
    """

    trees: tuple[Node, ...]
    shift: int
    offset: int

    def added(self, raw: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return what the round adds to the outputs, in steps.

        Args:
            raw: As for :func:`evaluate`.

        Returns:
            Shape (samples, outputs), int64.
        """
        found = np.stack([evaluate(tree, raw) for tree in self.trees], axis=1)
        return np.asarray((found + self.offset) << self.shift)


@dataclass(frozen=True)
class Ensemble:
    """Boosted trees: every output is the sum of the leaves that one tree of every round gives.

    Attributes:
        grid: Number format of the inputs.
        features: Number of inputs.
        fractional: Bits right of the binary point of the outputs.
        start: What every output begins with, in steps of the outputs.
        rounds: In the order of boosting.
    """

    grid: Precision
    features: int
    fractional: int
    start: tuple[int, ...]
    rounds: tuple[Round, ...]

    @property
    def outputs(self) -> int:
        """Number of outputs."""
        return len(self.start)

    @property
    def base(self) -> tuple[int, ...]:
        """Constant part of every output: its start and the offsets of all rounds, in steps of the outputs."""
        offsets = sum(one.offset << one.shift for one in self.rounds)
        return tuple(start + offsets for start in self.start)

    @cached_property
    def comparisons(self) -> tuple[tuple[int, int], ...]:
        """Feature and threshold of every comparison, each once, ascending."""
        return tuple(sorted({pair for one in self.rounds for tree in one.trees for pair in comparisons(tree)}))

    @cached_property
    def output(self) -> Precision:
        """The narrowest format that holds all outputs."""
        low, high = min(low for low, _ in self.limits), max(high for _, high in self.limits)
        signed = low < 0
        bits = max(1, (~low if signed else low).bit_length(), high.bit_length()) + signed
        return Precision(bits, bits - self.fractional, signed)

    @cached_property
    def limits(self) -> tuple[tuple[int, int], ...]:
        """Least and greatest value of every output in steps; no sample need reach them."""
        found = []
        for k, base in enumerate(self.base):
            terms = [[leaf << one.shift for leaf in leaves(one.trees[k])] for one in self.rounds]
            found.append((base + sum(map(min, terms)), base + sum(map(max, terms))))
        return tuple(found)

    def first(self, rounds: int) -> Ensemble:
        """Return the ensemble of the first rounds alone."""
        return replace(self, rounds=self.rounds[:rounds])

    def raw(self, x: NDArray[Any]) -> NDArray[np.int64]:
        """Return samples in steps of the input grid.

        Args:
            x: On the input grid, shape (samples, features).

        Raises:
            DataError: If they are not, or have another shape.
        """
        if x.ndim != 2 or x.shape[1] != self.features:
            raise DataError(f"samples of shape {x.shape} do not fit trees of {self.features} features")
        steps = np.ldexp(np.asarray(x, np.float64), self.grid.fractional)
        on_grid = (steps == np.round(steps)) & self.grid.contains(x)  # False for NaN, too.
        if not on_grid.all():
            sample, feature = np.argwhere(~on_grid)[0]
            raise DataError(f"sample {sample}, feature {feature}: {x[sample, feature]!r} is not on the input grid {self.grid}")
        return steps.astype(np.int64)

    def sums(self, x: NDArray[Any]) -> Iterator[NDArray[np.int64]]:
        """Yield the outputs in steps after every round, shape (samples, outputs), int64; arguments are those of `raw`."""
        raw = self.raw(x)
        total = self.begin(len(raw))
        for one in self.rounds:
            total = total + one.added(raw)
            yield total

    def predict(self, x: NDArray[Any]) -> NDArray[np.float64]:
        """Return the outputs: logits of classes, or regressed values.

        Args:
            x: Samples on the input grid, shape (samples, features).

        Returns:
            Shape (samples, outputs), float64; every number is exact.

        Raises:
            DataError: If the samples are not on the input grid, or have another shape.
        """
        raw = self.raw(x)
        total = self.begin(len(raw))
        for one in self.rounds:
            total += one.added(raw)
        return self.values(total)

    def begin(self, samples: int) -> NDArray[np.int64]:
        """Return the outputs of some samples before the first round, in steps, shape (samples, outputs)."""
        return np.tile(np.array(self.start, np.int64), (samples, 1))

    def values(self, steps: NDArray[np.int64]) -> NDArray[np.float64]:
        """Return outputs that are given in steps as numbers, float64."""
        return np.ldexp(steps.astype(np.float64), -self.fractional)

    def __str__(self) -> str:
        return (
            f"{len(self.rounds)} rounds of {self.outputs} trees, {len(self.comparisons)} comparisons, "
            f"input {self.grid}, output {self.output}"
        )

    def to_dict(self) -> dict[str, Any]:
        """Return JSON: a leaf is a number, a comparison a list of feature, threshold, lower and upper side."""
        return {
            "schema": SCHEMA,
            "grid": str(self.grid),
            "features": self.features,
            "fractional": self.fractional,
            "start": list(self.start),
            "rounds": [
                {"trees": [_plain(tree) for tree in one.trees], "shift": one.shift, "offset": one.offset} for one in self.rounds
            ],
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Ensemble:
        """Read what :meth:`to_dict` returns.

        Raises:
            RunError: If it is anything else.
        """
        try:
            if data["schema"] != SCHEMA:
                raise ValueError(f"schema {data['schema']!r:.20} is not {SCHEMA}")
            features, start = _whole(data["features"]), tuple(map(_whole, data["start"]))
            rounds = tuple(_round(one, features, len(start)) for one in data["rounds"])
            return cls(Precision.parse(data["grid"]), features, _whole(data["fractional"]), start, rounds)
        except (KeyError, TypeError, ValueError) as error:
            reason = f"{error} is missing" if isinstance(error, KeyError) else error
            raise RunError(f"these are no boosted trees of this version of kerasnac: {reason}") from None

    def save(self, path: Path) -> None:
        """Write a JSON file, and its folder if there is none."""
        make_folder(path.parent)
        write_text(path, json.dumps(self.to_dict()) + "\n")

    @classmethod
    def load(cls, path: Path | str) -> Ensemble:
        """Read a file that :meth:`save` wrote.

        Raises:
            RunError: If it is missing or damaged.
        """
        path = Path(path)
        try:
            return cls.from_dict(read_object(path))
        except RunError as error:
            raise error if str(path) in str(error) else RunError(f"{path}: {error}") from None


def _plain(node: Node) -> Any:
    if isinstance(node, Split):
        return [node.feature, node.threshold, _plain(node.low), _plain(node.high)]
    return node


def _round(data: Mapping[str, Any], features: int, outputs: int) -> Round:
    trees = tuple(_node(tree, features, DEEPEST) for tree in data["trees"])
    if len(trees) != outputs:
        raise ValueError(f"a round has {len(trees)} trees for {outputs} outputs")
    return Round(trees, _whole(data["shift"], 0, 60), _whole(data["offset"]))


def _node(data: Any, features: int, depth: int) -> Node:
    """Read a tree of a depth at most; a damaged file must not make an endless one."""
    if not isinstance(data, list):
        return _whole(data, 0, 2**WIDEST_LEAF - 1)
    if depth == 0 or len(data) != 4:
        raise ValueError(f"a tree is deeper than {DEEPEST}, or a comparison has other than 4 parts")
    low, high = (_node(side, features, depth - 1) for side in data[2:])
    return Split(_whole(data[0], 0, features - 1), _whole(data[1]), low, high)


def _whole(value: Any, least: int = -(2**62), most: int = 2**62) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= most:
        raise ValueError(f"{value!r:.40} is no whole number from {least} to {most}")
    return value
