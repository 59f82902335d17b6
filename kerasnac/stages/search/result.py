"""Results of a global search: its evaluations, their front, and rules that select from it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from kerasnac.adapters.search.fronts import nondominated
from kerasnac.core.data.dataset import Task
from kerasnac.core.display import counted, html_table, listed, span
from kerasnac.core.search.evaluation import Evaluation
from kerasnac.core.search.objectives import Objective
from kerasnac.core.search.selection import Selection
from kerasnac.errors import SearchError
from kerasnac.stages.search.records import Trial

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class Generation:
    """State of a search after a generation.

    Attributes:
        number: From 0.
        asked: Hash of the genomes that were asked for: a resumed search must ask for the same.
        evaluations: Candidates trained so far.
        hypervolume: Of the front so far, in units of the box between the best and the reference point; see
            :class:`kerasnac.adapters.search.nsga2.Hypervolume`.
        seconds: Wall time of the generation.
        failed: The trainings whose workers died: a resumed search must do without them, too.
    """

    number: int
    asked: str
    evaluations: int
    hypervolume: float
    seconds: float
    failed: tuple[Trial, ...] = ()

    @classmethod
    def from_record(cls, record: Mapping[str, Any]) -> Generation:
        """Read a record of ``generations.jsonl``."""
        plain = {name: record[name] for name in ("number", "asked", "evaluations", "hypervolume", "seconds")}
        return cls(**plain, failed=tuple((key, fidelity) for key, fidelity in record["failed"]))


@dataclass(frozen=True)
class SearchResult:
    """All evaluations of a search, in the order in which they were asked for.

    Attributes:
        evaluations: Trained and other candidates; see :data:`kerasnac.core.search.evaluation.Status`.
        objectives: What was optimised.
        budgets: The constraints.
        task: The task of the data.
        references: Name of every seed architecture -> id of its candidate.
        generations: The complete generations.
        stopped: Why the search ended.
    """

    evaluations: tuple[Evaluation, ...]
    objectives: tuple[Objective, ...]
    budgets: tuple[Objective, ...]
    task: Task
    references: Mapping[str, str]
    generations: tuple[Generation, ...]
    stopped: str

    def __repr__(self) -> str:
        front, names = self.front, dict.fromkeys((self.task.metric, self.cost))
        spans = (span(name, (e.metrics[name] for e in front if name in e.metrics)) for name in names)
        counts = f"{counted(len(self.trained), 'candidate')} trained", f"front of {len(front)}"
        return f"SearchResult({listed(*counts, *spans)}; {self.stopped})"

    def _repr_html_(self) -> str:
        front = self.front
        names = list(dict.fromkeys((*self.task.senses, *(o.metric for o in self.objectives), "bops", "parameters")))
        names = [name for name in names if any(name in e.metrics for e in front)]
        rows = [[e.key, *(e.metrics.get(name, "") for name in names), e.built.architecture] for e in front]
        trained = counted(len(self.trained), "candidate")
        title = f"Pareto front of the global search: {len(front)} of {trained} trained; {self.stopped}"
        return html_table(title, ("model", *names, "architecture"), rows)

    @property
    def trained(self) -> tuple[Evaluation, ...]:
        """Candidates that were trained in full, all with the same fidelity."""
        return tuple(e for e in self.evaluations if e.status == "ok")

    @property
    def points(self) -> tuple[Evaluation, ...]:
        """One evaluation for every trained candidate, or for each of its networks where widths are learned."""
        return tuple(point for e in self.trained for point in e.expanded)

    @property
    def front(self) -> tuple[Evaluation, ...]:
        """Pareto front of the points that keep all budgets."""
        kept, losses = eligible(self.points, self.objectives, self.budgets)
        return tuple(kept[i] for i in nondominated(losses))

    @property
    def cost(self) -> str:
        """Name of the cost in tables, plots and selections: the first objective that is none of the task's, or BOPs."""
        return next((o.metric for o in self.objectives if o.metric not in self.task.senses), "bops")

    def select(self, *rules: str) -> tuple[Evaluation, ...]:
        """Pick points of the front by the rules of :class:`kerasnac.core.search.selection.Selection`, one of a candidate.

        Raises:
            SearchError: If the front is empty; says which budgets are not kept.
        """
        if not self.front:
            raise SearchError(self._why_empty())
        names = {"metric": self.task.metric, "cost": self.cost}
        parsed = [Selection.parse(rule) for rule in rules]
        picked = (e for rule in parsed for e in rule.pick(self.front, lambda e: e.metrics, **names, sense=self.task.sense))
        chosen: dict[int, Evaluation] = {}
        for point in picked:
            chosen.setdefault(point.index, point)
        return tuple(chosen.values())

    def _why_empty(self) -> str:
        if not self.points:
            reasons = Counter(e.reason or e.status for e in self.evaluations)
            return f"no candidate was trained: {listed(*(f'{n} x {reason}' for reason, n in reasons.most_common(3)))}"
        missed = []
        for budget in self.budgets:
            best = min((e.metrics[budget.metric] for e in self.points), key=budget.loss)
            bound = "at most" if budget.sense == "min" else "at least"
            missed.append(f"{budget.metric} {bound} {budget.budget:g}, of which the best has {best:g}")
        if not missed:
            return (
                f"no candidate has finite values of {listed(*(o.metric for o in self.objectives))}; use a smaller learning_rate"
            )
        return (
            f"none of {counted(len(self.trained), 'candidate')} keeps all budgets ({'; '.join(missed)}): loosen "
            "search.budgets, or train longer or more candidates; what is trained stays known"
        )

    def frame(self) -> pd.DataFrame:
        """Return one row per evaluation: index, id, status, metrics, architecture, whether it is on the front, its fidelity.

        Where widths are learned, a trained candidate has one row per network, with its ``cycle``.
        """
        import pandas as pd

        front = {(e.index, e.cycle) for e in self.front}
        learned = any(e.points for e in self.evaluations)
        names = {candidate: name for name, candidate in self.references.items()}
        rows = [
            {
                "index": e.index,
                "generation": e.generation,
                "id": e.candidate.id if e.candidate else None,
                "reference": names.get(e.key, ""),
                "status": e.status,
                **({"cycle": e.cycle} if learned else {}),
                "front": (e.index, e.cycle) in front,
                **e.metrics,
                "architecture": str(e.candidate.architecture) if e.candidate else "",
                "reason": e.reason,
                **(dict(e.candidate.training) if e.candidate else {}),
                "epochs": e.fidelity.epochs,
                "data_fraction": e.fidelity.data_fraction,
                "folds": e.fidelity.folds,
            }
            for evaluation in self.evaluations
            for e in evaluation.expanded
        ]
        return pd.DataFrame(rows)


def eligible(
    points: Iterable[Evaluation], objectives: Sequence[Objective], budgets: Sequence[Objective]
) -> tuple[list[Evaluation], NDArray[np.float64]]:
    """Return the evaluations that keep all budgets, and the scaled losses of their objectives."""
    kept = [e for e in points if all(b.violation(e.metrics[b.metric]) <= 0 for b in budgets)]
    kept = [e for e in kept if all(np.isfinite(e.metrics[o.metric]) for o in objectives)]  # A training may diverge.
    return kept, np.array([[o.scaled_loss(e.metrics[o.metric]) for o in objectives] for e in kept])
