"""Objectives and budgets of a search: recorded metrics."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from kerasnac.core.data.dataset import Sense, Task
from kerasnac.core.hardware.estimators import SOURCES
from kerasnac.core.network.architecture import Architecture
from kerasnac.core.network.bops import bops
from kerasnac.core.network.widths import Width, Widths
from kerasnac.errors import ConfigError

#: Metrics known before any training; all are to be minimised.
COSTS = tuple(metric for metrics in SOURCES.values() for metric in metrics)


@dataclass(frozen=True)
class Objective:
    """One recorded metric to optimise.

    Attributes:
        metric: Name of the metric in an evaluation's record.
        sense: ``max`` or ``min``.
        budget: A bound that every answer must keep: a maximum for ``min``, a minimum for ``max``.
        foreign_cost: True for a cost that a :class:`kerasnac.core.hardware.estimators.CostModel` records.
    """

    metric: str
    sense: Sense
    budget: float | None = None
    foreign_cost: bool = False

    def loss(self, value: float) -> float:
        """Return the value as something to minimise."""
        return -value if self.sense == "max" else value

    def scaled_loss(self, value: float) -> float:
        """Return the loss on the scale on which differences count: the logarithm of costs, which span decades."""
        return math.log1p(value) if self.foreign_cost or self.metric in COSTS else self.loss(value)

    def violation(self, value: float) -> float:
        """Return how far a value is beyond the budget, relative to it; zero or less when it is kept."""
        if self.budget is None:
            return 0.0
        return (self.loss(value) - self.loss(self.budget)) / max(abs(self.budget), 1e-12)


def resolve(
    names: Sequence[str], budgets: Mapping[str, float], task: Task, foreign_costs: Sequence[str] = ()
) -> tuple[tuple[Objective, ...], tuple[Objective, ...]]:
    """Return objectives and budget constraints by name; ``metric`` stands for the task metric.

    Args:
        names: Of the objectives.
        budgets: Metric -> bound.
        task: Its metric is known, as are :data:`COSTS`.
        foreign_costs: Further costs, of estimators that do not come with kerasnac.

    Raises:
        ConfigError: If a name is not a metric of this task, or is that of a foreign cost as well.
    """
    if twice := [name for name in task.senses if name in COSTS]:
        raise ConfigError(f"metric {twice[0]}: a cost has this name; give the metric another one")
    if twice := [name for name in task.senses if name in foreign_costs]:
        raise ConfigError(f"estimator: {twice[0]!r} is the metric of the task: give the cost another name")
    senses: dict[str, Sense] = {**task.senses, **dict.fromkeys((*COSTS, *foreign_costs), "min")}

    def named(name: str, budget: float | None = None) -> Objective:
        metric = task.metric if name == "metric" else name
        if metric not in senses:
            raise ConfigError(f"unknown objective or budget {name!r}: one of metric, {', '.join(senses)}")
        return Objective(metric, senses[metric], budget, foreign_cost=metric in foreign_costs)

    objectives = tuple(named(name) for name in names)
    if len({o.metric for o in objectives}) != len(objectives):
        raise ConfigError(f"an objective stands twice in {list(names)}")
    return objectives, tuple(named(name, bound) for name, bound in budgets.items())


def sources(metrics: Iterable[str]) -> tuple[str, ...]:
    """Return the keys of :data:`kerasnac.core.hardware.estimators.SOURCES` that record any of some metrics."""
    wanted = set(metrics)
    return tuple(source for source, recorded in SOURCES.items() if wanted & set(recorded))


def cost_metrics(architecture: Architecture, *, weight_bits: Width, activation_bits: int) -> dict[str, float]:
    """Return the metrics of the source ``architecture`` for a float network at given bit widths; a layer's own ones win."""
    bits = Widths(weight_bits=weight_bits, activation_bits=activation_bits)
    return {
        "bops": bops(architecture, **bits, sparsity=architecture.sparsities),
        "parameters": architecture.parameters,
    }
