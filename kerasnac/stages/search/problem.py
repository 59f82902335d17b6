"""The question that a search answers: a space, its objectives and its budgets."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from kerasnac.adapters.search.nsga2 import WORST
from kerasnac.core.data.dataset import Task
from kerasnac.core.hardware.estimators import SOURCES
from kerasnac.core.network.architecture import Architecture
from kerasnac.core.network.mold import Mold, fitting
from kerasnac.core.network.training import Training
from kerasnac.core.search.evaluation import Evaluation, Fidelity
from kerasnac.core.search.objectives import Objective, resolve
from kerasnac.core.settings import SearchSettings
from kerasnac.core.space.search_space import SearchSpace
from kerasnac.core.space.shared_molds import shared_molds
from kerasnac.core.store.keys import content_key, decisive

#: First constraint by status: of candidates without a training in full, briefly trained ones are the best, and none keeps
#: it, since their metrics are of another fidelity, and no front may mix the two.
_NOT_TRAINED = {"ok": 0.0, "brief": 1.0, "over_budget": 0.0, "infeasible": WORST, "failed": WORST}

#: Losses and constraint violations of candidates, of shapes (points, objectives) and (points, 1 + budgets), and the number of
#: points of every candidate: one, unless its widths are learned.
Values = tuple[NDArray[np.float64], NDArray[np.float64], list[int]]


@dataclass(frozen=True)
class SearchProblem:
    """A space with the settings of a search in it.

    Attributes:
        space: Where the genomes come from.
        settings: Of the search.
        objectives: Metrics to optimise.
        budgets: Constraints on metrics.
        fingerprint: Hash of the data.
        seed: Seed of the run.
    """

    space: SearchSpace
    settings: SearchSettings
    objectives: tuple[Objective, ...]
    budgets: tuple[Objective, ...]
    fingerprint: str
    seed: int

    @classmethod
    def of(cls, space: SearchSpace, settings: SearchSettings, task: Task, fingerprint: str, seed: int) -> SearchProblem:
        """Resolve the names of objectives and budgets.

        Raises:
            ConfigError: If a name is not a metric of the task.
        """
        found = resolve(settings.objectives, settings.budgets, task, settings.foreign_costs)
        return cls(space, settings, *found, fingerprint, seed)

    @cached_property
    def _molds(self) -> tuple[Mold, ...]:
        return shared_molds(self.space)

    def mold(self, architecture: Architecture) -> Mold | None:
        """Return the form in which a candidate is trained; None if it shares none with others of the space."""
        return fitting(self._molds, architecture)

    @property
    def most(self) -> int:
        """How many candidates are trained at most: those that are asked for, or all of a smaller space."""
        return min(self.settings.evaluations, self.space.size())

    @property
    def exhausted(self) -> str:
        """Why a search ends that finds no new candidate."""
        within_reach = "every candidate within reach has been evaluated"
        return within_reach if self.space.genes else "the space has no choices: this is its one network"

    @property
    def unrolls(self) -> bool:
        """True if the adder graphs are those of trained weights."""
        return self.settings.adder_graph.weights == "trained"

    @property
    def measured(self) -> tuple[str, ...]:
        """Costs that a training measures, of its weights; all others are known, or estimated, before."""
        learned = ("bops",) if self.settings.learned else ()
        return (*learned, *SOURCES["adder_graph"]) if self.unrolls else learned

    def timed(self, metrics: Mapping[str, float]) -> dict[str, float]:
        """Return metrics with those that depend on the clock, if an adder graph is among them."""
        clock = self.settings.clock
        return dict(metrics) if clock is None else clock.timed(metrics)

    def fidelity(self, training: Training) -> Fidelity:
        """Return how carefully candidates are evaluated with a float training, which may be brief."""
        settings = self.settings
        read = ["folds", "learned"]
        if self.space.has_compression_genes:
            read += ["quantized", "weight_bits", "activation_bits"]
        if self.unrolls:
            read += ["adder_graph", "board"]
        own = content_key(
            "fidelity",
            training=training.identity,
            settings=decisive(settings, read),
            data=self.fingerprint,
            seed=self.seed,
        )
        return Fidelity(training.epochs, training.data_fraction, settings.folds, own)

    def violations(self, evaluation: Evaluation) -> list[float]:
        """Return how far each budget is broken, relatively; 0 or less where it is kept or its metric is unknown."""
        known = evaluation.metrics
        return [b.violation(known[b.metric]) if b.metric in known else 0.0 for b in self.budgets]

    def scaled_losses(self, evaluation: Evaluation) -> list[float]:
        """Return the scaled losses of a trained candidate, one per objective."""
        return [o.scaled_loss(evaluation.metrics[o.metric]) for o in self.objectives]

    def values(self, made: Sequence[Evaluation]) -> Values:
        """Return losses and constraint violations for NSGA-II.

        Args:
            made: Evaluations of any status.

        Returns:
            See :data:`Values`; the first constraint is a training in full. A training that diverged is worse than any other.
        """
        points = [point for e in made for point in e.expanded]
        losses = [self.scaled_losses(e) if e.status == "ok" else [WORST] * len(self.objectives) for e in points]
        violations = [[_NOT_TRAINED[e.status], *self.violations(e)] for e in points]
        return _finite(losses), _finite(violations), [len(e.expanded) for e in made]

    def brief_values(self, made: Sequence[Evaluation]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return losses and constraint violations of briefly trained candidates among themselves."""
        return _finite([self.scaled_losses(e) for e in made]), _finite([[0.0, *self.violations(e)] for e in made])


def _finite(values: Sequence[Sequence[float]]) -> NDArray[np.float64]:
    return np.nan_to_num(values, nan=WORST, posinf=WORST)
