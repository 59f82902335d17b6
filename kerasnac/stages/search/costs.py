"""The costs of candidates before they are trained, each estimated once."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from kerasnac.core.data.dataset import Development
from kerasnac.core.hardware.boards import board
from kerasnac.core.hardware.estimators import Estimator
from kerasnac.core.network.architecture import Architecture
from kerasnac.core.search.objectives import sources
from kerasnac.core.settings import SearchSettings
from kerasnac.core.store.journal import Journal
from kerasnac.core.store.memo import Memo, Shape
from kerasnac.stages.context import Context


def _rule4ml(settings: SearchSettings, seed: int) -> Estimator:
    from kerasnac.adapters.rule4ml import Rule4mlEstimator

    return Rule4mlEstimator(settings.rule4ml, board(settings.board))


def _adder_graph(settings: SearchSettings, seed: int) -> Estimator:
    from kerasnac.adapters.rtl.estimator import AdderGraphEstimator

    return AdderGraphEstimator(settings.adder_graph, board=board(settings.board), seed=seed)


#: The built-in sources, the fastest first, by how they are made of the settings and the seed of a run.
ESTIMATORS: Mapping[str, Callable[[SearchSettings, int], Estimator]] = {"rule4ml": _rule4ml, "adder_graph": _adder_graph}


def estimators(settings: SearchSettings, metrics: Iterable[str], *, seed: int) -> list[Estimator]:
    """Return the estimators that record some metrics, and those that the settings name.

    Raises:
        ConfigError: If the settings of one are wrong.
        EnvironmentProblem: If its package is not installed.
        PluginError: If it is of others, and cannot be had.
    """
    wanted = {*sources(metrics), *settings.estimators}
    if settings.adder_graph.weights == "trained":
        wanted.discard("adder_graph")  # The trainings themselves measure it.
    return [*(make(settings, seed) for name, make in ESTIMATORS.items() if name in wanted), *settings.foreign_estimators]


class Costs:
    """Costs by estimators, in a journal that several searches may share.

    Args:
        estimators: The sources, the fastest first.
        context: Workers, and the folder of the journal.
    """

    def __init__(self, estimators: Sequence[Estimator], context: Context) -> None:
        self.estimators = estimators
        self._workers = context.workers
        journal = Journal(context.folder / "costs.jsonl")
        shape = Shape({"id": str, "source": str, "key": str, "reason?": str, "metrics.*": float})
        self._memo = Memo(journal, shape, lambda record: (record["id"], record["key"]))

    def of(self, architectures: Sequence[Architecture], estimator: Estimator) -> list[dict[str, float] | str]:
        """Return the costs of each architecture by one of the estimators, or the reason why it has none."""
        missing = list({a.id: a for a in architectures if (a.id, estimator.key) not in self._memo}.values())
        parts = [part for i in range(self._workers.processes) if (part := missing[i :: self._workers.processes])]
        jobs = [EstimateJob(estimator, tuple(part)) for part in parts]
        for index, estimates in self._workers.map(estimate, jobs):
            for architecture, costs in zip(jobs[index].architectures, estimates, strict=True):
                values = {"reason": costs} if isinstance(costs, str) else {f"metrics.{name}": v for name, v in costs.items()}
                self._memo.add({"id": architecture.id, "source": estimator.source, "key": estimator.key, **values})
        return [_costs(self._memo.get((architecture.id, estimator.key)) or {}) for architecture in architectures]


@dataclass(frozen=True)
class EstimateJob:
    """Some architectures for one estimator."""

    estimator: Estimator
    architectures: tuple[Architecture, ...]


def estimate(data: Development, job: EstimateJob) -> list[dict[str, float] | str]:
    """Estimate the costs of some architectures; runs in a worker."""
    return job.estimator.estimate(data, job.architectures)


def _costs(record: Mapping[str, Any]) -> dict[str, float] | str:
    if "reason" in record:
        return str(record["reason"])
    return {name.removeprefix("metrics."): float(v) for name, v in record.items() if name.startswith("metrics.")}
