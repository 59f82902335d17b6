"""Compressed models: their front, and rules that select from it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from kerasnac.adapters.search.fronts import nondominated
from kerasnac.core.data.dataset import Task
from kerasnac.core.display import html_table, listed, span
from kerasnac.core.network import origin
from kerasnac.core.network.trained import Trained
from kerasnac.core.search.selection import Selection
from kerasnac.errors import ConfigError
from kerasnac.stages.compress.points import Point, point_origin

if TYPE_CHECKING:
    import pandas as pd


def tolerated(metric: float, best: float, tolerance: float | None, task: Task) -> bool:
    """Return whether a metric is at most so much worse, relatively, than another one; NaN never is."""
    if tolerance is None:
        return True
    sign = 1 if task.sense == "max" else -1
    return sign * metric >= sign * best - tolerance * abs(best)


@dataclass(frozen=True)
class CompressResult:
    """All compressed points: one per model, width and pruning iteration, and those of mixed precision.

    Attributes:
        models: The quantized, pruned models.
        parents: The tuned float models they come from.
        task: The task of the data.
        cost: The cost of the front and of rules that name none.
        tolerance: How much worse than its parent, relatively, a model on the front may be; None for any.
        costs: Model name -> metrics of its adder graph, where there is one.
        notes: Model name -> remark, where there is one.
        one_front: True if rules pick from one front of all points, not from one per parent: the points of a search for
            widths and sparsities are one trade-off, of which every parent has a single point.
        mixed_refused: Name of a parent without points of mixed precision though these were asked for -> reason.
    """

    models: tuple[Trained, ...]
    parents: tuple[Trained, ...]
    task: Task
    cost: str = "bops"
    tolerance: float | None = None
    costs: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    notes: Mapping[str, str] = field(default_factory=dict)
    one_front: bool = False
    mixed_refused: Mapping[str, str] = field(default_factory=dict)

    def __repr__(self) -> str:
        front = self.front
        values = [self.values(model) for model in front]
        spans = (span(name, (one[name] for one in values if name in one)) for name in (self.task.metric, self.cost))
        counts = f"{len(self.models)} models of {len(self.parents)}", f"front of {len(front)}"
        return f"CompressResult({listed(*counts, *spans)})"

    def _repr_html_(self) -> str:
        front = self.front
        names = list(dict.fromkeys((self.task.metric, *self.task.metrics, "sparsity", "bops", self.cost)))
        rows = [[model.name, *(self.values(model).get(name, "") for name in names)] for model in front]
        title = f"Compressed models: front of {len(front)} of {len(self.models)}, of {len(self.parents)} float models"
        return html_table(title, ("model", *names), rows)

    def with_points(self, points: Sequence[Point]) -> CompressResult:
        """Return this result with further points at its end."""
        named = {**vars(self), "models": (*self.models, *(p.model for p in points))}
        named["costs"] = {**self.costs, **{p.model.name: p.costs for p in points if p.costs}}
        named["notes"] = {**self.notes, **{p.model.name: p.note for p in points if p.note}}
        return CompressResult(**named)

    @property
    def front(self) -> tuple[Trained, ...]:
        """Pareto front of validation metric and cost over all points that are within the tolerance."""
        return self._front([model for parent in self.parents for model in self._kept(parent)], self.cost)

    @property
    def excluded(self) -> dict[str, str]:
        """Parents without any point to select, with the reason."""
        return {p.name: self._reason(p, self.cost) for p in self.parents if not self._front(self._kept(p), self.cost)}

    def values(self, model: Trained) -> dict[str, float]:
        """Return all metrics and costs of a point, by name."""
        own = {"bops": model.bops, "sparsity": model.sparsity, "parameters": model.architecture.parameters}
        return {**model.metrics, **own, **self.costs.get(model.name, {})}

    def select(self, *rules: str) -> tuple[Trained, ...]:
        """Pick points by the rules of :class:`kerasnac.core.search.selection.Selection`, without repeats.

        Rules pick for every parent, unless all points are :attr:`one_front`. A rule picks from the front of the metric and
        its own cost, or :attr:`cost` if it has none. Parents that have no point within the tolerance, none with this cost, or
        none that a rule picks, are left out.

        Raises:
            ConfigError: If all parents are left out, saying which point is closest.
        """
        picked, reasons = self.try_select(*rules)
        if reasons and not picked:
            raise ConfigError("there is nothing to select: " + "; ".join(dict.fromkeys(reasons.values())))
        return picked

    def try_select(self, *rules: str) -> tuple[tuple[Trained, ...], dict[str, str]]:
        """Pick points as :meth:`select` does; it is no error if there are none.

        Returns:
            The points, and for every parent that is left out, by its name, the reason.
        """
        picked: list[Trained] = []
        left_out: dict[str, str] = {}
        for parents in [self.parents] if self.one_front else [(parent,) for parent in self.parents]:
            own: list[Trained] = []
            reasons: dict[str, str] = {}
            for rule in rules:
                selection = Selection.parse(rule)
                cost = self.cost if selection.cost in ("", *self.task.senses) else selection.cost
                front = self._front([model for parent in parents for model in self._kept(parent)], cost)
                names = {"metric": self.task.metric, "cost": cost}
                try:
                    own += selection.pick(front, self.values, **names, sense=self.task.sense)
                except ConfigError as error:
                    reasons |= {parent.name: str(error) if front else self._reason(parent, cost) for parent in parents}
            picked += own
            left_out |= {} if own else reasons
        return tuple({model.name: model for model in picked}.values()), left_out

    def frame(self) -> pd.DataFrame:
        """Return one row per point: model, widths, sparsity, metric, costs, whether it is on the front."""
        import pandas as pd

        front = {model.name for model in self.front}
        rows = [
            {
                "model": model.name,
                **origin.to_dict(model.origin),
                "sparsity": model.sparsity,
                "bops": model.bops,
                "parameters": model.architecture.parameters,
                **model.metrics,
                **self.costs.get(model.name, {}),
                "front": model.name in front,
                **({"note": self.notes[model.name]} if model.name in self.notes else {}),
            }
            for model in self.models
        ]
        return pd.DataFrame(rows)

    def _points_of(self, parent: Trained) -> list[Trained]:
        return [model for model in self.models if point_origin(model).parent == parent.name]

    def _kept(self, parent: Trained) -> list[Trained]:
        """Return the points of a parent that are within the tolerance."""
        metric = self.task.metric
        best = parent.metrics[metric]
        return [m for m in self._points_of(parent) if tolerated(m.metrics[metric], best, self.tolerance, self.task)]

    def _front(self, models: Sequence[Trained], cost: str) -> tuple[Trained, ...]:
        sign = -1 if self.task.sense == "max" else 1
        known = [(model, values) for model in models if cost in (values := self.values(model))]
        losses = np.array([[sign * values[self.task.metric], values[cost]] for _, values in known])
        return tuple(known[i][0] for i in nondominated(losses))

    def _reason(self, parent: Trained, cost: str) -> str:
        """Return why a parent has no point to select."""
        if kept := self._kept(parent):
            known, note = self.values(kept[0]), self.notes.get(kept[0].name)
            return f"no {cost!r} is recorded to select by; there are {', '.join(known)}" + (f" ({note})" if note else "")
        sign, metric = (-1 if self.task.sense == "max" else 1), self.task.metric
        own = self._points_of(parent)
        if not own:
            return f"there is no compressed model of {parent.name}"
        closest = min(own, key=lambda model: np.nan_to_num(sign * model.metrics[metric], nan=np.inf))
        return (
            f"no compressed model of {parent.name} is within the tolerance of {self.tolerance:.3g} of its {metric}, "
            f"{parent.metrics[metric]:.4g}; the closest is {closest.name} with {closest.metrics[metric]:.4g}"
        )
