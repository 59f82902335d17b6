"""Boosted trees of a run: their points, and the front of metric and look-up tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

import numpy as np

from kerasnac.adapters.search.fronts import nondominated
from kerasnac.core.data.dataset import Task
from kerasnac.core.display import html_table, listed, number, span
from kerasnac.core.search.selection import Selection
from kerasnac.core.trees.ensemble import Ensemble
from kerasnac.core.trees.estimate import estimates

if TYPE_CHECKING:
    import pandas as pd

#: Names of the two kinds of look-up tables: counted by Yosys in Verilog, or estimated from the trees. They are never compared.
Luts = Literal["yosys_luts", "estimated_luts"]


@dataclass(frozen=True)
class TreesPoint:
    """The first rounds of a boosting.

    Attributes:
        name: Of the recipe, and the number of rounds.
        ensemble: The trees.
        metrics: On the validation split, by name.
        costs: ``estimated_luts``; and if Yosys has counted, ``yosys_luts``, ``ffs``, ``carry`` and ``muxes``, the clock
            cycles ``cycles``, and the ``samples`` that Verilator found equal.
    """

    name: str
    ensemble: Ensemble
    metrics: Mapping[str, float]
    costs: Mapping[str, float]

    def __repr__(self) -> str:
        return f"TreesPoint({listed(self.name, *(f'{name}={number(value)}' for name, value in self.values.items()))})"

    @property
    def recipe(self) -> str:
        """Name of the boosting that it is of."""
        return self.name.rpartition("-r")[0]

    @property
    def values(self) -> dict[str, float]:
        """All metrics and costs, by name."""
        return {**self.metrics, **self.costs}


@dataclass(frozen=True)
class TreesResult:
    """All points of boosted trees.

    Attributes:
        points: Every round of every boosting.
        task: The task of the data.
        cost: Which look-up tables the front is of.
        networks: ``yosys_luts`` of the networks that were to be counted in the same way, by name.
    """

    points: tuple[TreesPoint, ...]
    task: Task
    cost: Luts
    networks: Mapping[str, float] = field(default_factory=dict)

    def __repr__(self) -> str:
        front = self.front
        metric, values = self.task.metric, [point.values for point in front]
        spans = [span(name, (one[name] for one in values)) for name in (metric, self.cost)]
        return f"TreesResult({listed(f'{len(self.points)} points', f'front of {len(front)}', *spans)})"

    def _repr_html_(self) -> str:
        names, front = [*self.task.senses, self.cost], self.front
        rows = [[point.name, *(point.values.get(name, "") for name in names)] for point in front]
        return html_table(f"Boosted trees: front of {len(front)} of {len(self.points)}", ("model", *names), rows)

    @property
    def front(self) -> tuple[TreesPoint, ...]:
        """Pareto front of validation metric and look-up tables, over the points that have these; ascending in cost."""
        return front_of([point for point in self.points if self.cost in point.costs], self.task, self.cost)

    @property
    def chosen(self) -> tuple[TreesPoint, ...]:
        """The points of the front whose curves stand beside those of the networks: the best one, and the knee."""
        front, own = self.front, {"metric": self.task.metric, "cost": self.cost, "sense": self.task.sense}
        rules = (Selection("best"), Selection("knee")) if front else ()
        picked = (point for rule in rules for point in rule.pick(front, lambda point: point.values, **own))
        return tuple({point.name: point for point in picked}.values())

    def frame(self) -> pd.DataFrame:
        """Return one row per point: name, metrics, costs, whether it is on the front."""
        import pandas as pd

        front = {point.name for point in self.front}
        return pd.DataFrame([{"model": p.name, **p.values, "front": p.name in front} for p in self.points])


def rounds(name: str, ensemble: Ensemble, metrics: Sequence[Mapping[str, float]]) -> tuple[TreesPoint, ...]:
    """Return one point per round of a boosting, ascending, with estimated look-up tables.

    Args:
        name: Of the recipe.
        ensemble: All rounds.
        metrics: On the validation split, after every round.
    """
    return tuple(
        TreesPoint(f"{name}-r{number:03d}", ensemble.first(number), scored, {"estimated_luts": luts})
        for number, (scored, luts) in enumerate(zip(metrics, estimates(ensemble), strict=True), start=1)
    )


def front_of(points: Sequence[TreesPoint], task: Task, cost: Luts) -> tuple[TreesPoint, ...]:
    """Return the Pareto front of some points, ascending in cost; of equal points the first."""
    sign = -1 if task.sense == "max" else 1
    distinct = {(p.costs[cost], p.metrics[task.metric]): p for p in reversed(points)}
    losses = np.array([[luts, sign * metric] for luts, metric in distinct])
    found = list(distinct.values())
    return tuple(found[i] for i in nondominated(losses))


def thinned(front: Sequence[TreesPoint], count: int) -> tuple[TreesPoint, ...]:
    """Return at most so many points of a front, its ends among them, evenly spaced in the logarithm of the estimate."""
    if len(front) <= count:
        return tuple(front)
    if count == 1:
        return (front[-1],)
    luts = np.log(np.maximum([point.costs["estimated_luts"] for point in front], 1.0))
    wanted = np.linspace(luts[0], luts[-1], count)
    return tuple(front[i] for i in sorted({int(np.argmin(np.abs(luts - one))) for one in wanted}))
