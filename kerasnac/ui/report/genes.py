"""The choices of the candidates of a search: their genes by name, and how much of the metric each one explains."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import numpy as np
from pydantic import ValidationError

from kerasnac.core.network.architecture import Architecture
from kerasnac.core.search.evaluation import Evaluation
from kerasnac.core.space.blocks import BLOCKS
from kerasnac.core.space.search_space import SearchSpace
from kerasnac.errors import KerasnacError
from kerasnac.stages.results.saved import SavedRun

#: What an inactive gene is shown as: the blocks did not read it, so that it decides nothing.
UNUSED = "unused"

#: Values that a choice may have to be shown by them.
MOST_VALUES = 40


@dataclass(frozen=True)
class Choice:
    """One choice of a search, over all its trained candidates.

    Attributes:
        name: ``2.mlp.widths_0`` or the like: place and kind of the block, and the gene; without a readable space
            ``dense_0.units``.
        values: Value for every candidate, in their order.
        levels: The distinct values, ascending.
        effect: See :func:`effect`.
    """

    name: str
    values: tuple[str, ...]
    levels: tuple[str, ...]
    effect: float


@dataclass(frozen=True)
class Choices:
    """The choices of a search.

    Attributes:
        candidates: The trained candidates with a finite metric; of one with several networks the best.
        choices: Those that vary, the largest effect first.
        of_space: True if they are genes of the space; else they are read off the networks.
    """

    candidates: tuple[Evaluation, ...]
    choices: tuple[Choice, ...]
    of_space: bool


def choices_of(run: SavedRun) -> Choices | None:
    """Return the choices of a run's search; None if there are no candidates, or all are alike."""
    if run.search is None:
        return None
    metric = run.task.metric
    sign = 1 if run.task.sense == "max" else -1
    finite = ([p for p in e.expanded if math.isfinite(p.metrics.get(metric, math.nan))] for e in run.search.trained)
    candidates = [max(points, key=lambda p: sign * p.metrics[metric]) for points in finite if points]
    space = space_of(run, candidates)
    rows = [_features(e.built.architecture) if space is None else _genes(space, e) for e in candidates]
    names = list(dict.fromkeys(name for row in rows for name in row))
    scores = np.array([e.metrics[metric] for e in candidates])
    found = []
    for name in names:
        values = tuple(row.get(name, UNUSED) for row in rows)
        levels = tuple(sorted(set(values), key=_order))
        if 1 < len(levels) <= MOST_VALUES:
            found.append(Choice(name, values, levels, effect(values, scores)))
    found.sort(key=lambda choice: -choice.effect)
    return Choices(tuple(candidates), tuple(found), space is not None) if found else None


def space_of(run: SavedRun, candidates: Sequence[Evaluation] = ()) -> SearchSpace | None:
    """Return the search space of a run; None if it cannot be read, has blocks of others, or is not that of the candidates.

    Blocks of others would be imported, and a report only looks.
    """
    given = run.settings.get("space")
    if not isinstance(given, Mapping) or any(block not in BLOCKS for block in _blocks(given)):
        return None
    with suppress(ValidationError, KerasnacError, TypeError, ValueError):
        space = SearchSpace.model_validate(dict(given))
        sizes = space.cardinalities
        fits = (
            len(e.genome) == len(sizes) and all(0 <= g < n for g, n in zip(e.genome, sizes, strict=True)) for e in candidates
        )
        return space if all(fits) else None
    return None


def effect(values: Sequence[str], scores: np.ndarray[Any, Any]) -> float:
    """Return omega squared of a one-way analysis of variance of ranks: what groups explain beyond chance, from 0 to 1.

    Ranks, since a few trainings that fail would decide otherwise. Omega squared: Hays, Statistics for Psychologists (1963).
    """
    from scipy.stats import rankdata

    scores = rankdata(scores)
    total = float(((scores - scores.mean()) ** 2).sum())
    groups: dict[str, list[float]] = {}
    for value, score in zip(values, scores.tolist(), strict=True):
        groups.setdefault(value, []).append(score)
    between = sum(len(group) * (float(np.mean(group)) - float(scores.mean())) ** 2 for group in groups.values())
    rest = len(scores) - len(groups)
    if rest <= 0 or total <= 0:
        return 0.0
    noise = (total - between) / rest
    return max(0.0, (between - (len(groups) - 1) * noise) / (total + noise))


def _genes(space: SearchSpace, evaluation: Evaluation) -> dict[str, str]:
    """Return the genes of a candidate by name, with the kinds of their blocks; of one shape, as those that matter."""
    kinds = {str(number): block.block for number, block in enumerate(space.expanded)}
    found = {}
    for (name, values), gene, active in zip(
        space.genes.items(), evaluation.genome, space.active(evaluation.genome), strict=True
    ):
        place, _, rest = name.partition(".")
        shown = f"{place}.{kinds[place]}.{rest}" if place in kinds else name
        found[shown] = str(values[gene]) if active else UNUSED
    return found


def _features(network: Architecture) -> dict[str, str]:
    """Return what tells networks of one space apart, as far as the layers show it."""
    found = {"layers": str(len(network.layers))}
    for name, layer in zip(network.names, network.layers, strict=True):
        shown = ("units", "filters", "channels", "kernel", "fn", "weight_bits", "activation_bits", "sparsity")
        found |= {f"{name}.{key}": str(value) for key, value in layer.params if key in shown}
    return found


def _blocks(part: object) -> Iterator[object]:
    """Yield the names of all blocks in a space as YAML has it."""
    if isinstance(part, Mapping):
        if "block" in part:
            yield part["block"] if isinstance(part["block"], str) else ""
        for value in part.values():
            yield from _blocks(value)
    elif isinstance(part, list):
        for value in part:
            yield from _blocks(value)


def _order(value: str) -> tuple[int, float, str]:
    if value == UNUSED:
        return 0, 0.0, value
    try:
        return 1, float(value), value
    except ValueError:
        return 2, 0.0, value
