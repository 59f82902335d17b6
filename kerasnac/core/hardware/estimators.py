"""Sources of hardware costs that a network has before it is trained."""

from __future__ import annotations

import inspect
import math
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar, Protocol

import numpy as np

from kerasnac.core.checks import shown
from kerasnac.core.data.dataset import Development
from kerasnac.core.network.architecture import Architecture
from kerasnac.core.plugins import Kind, guarded
from kerasnac.core.space.search_space import SearchSpace
from kerasnac.core.store.keys import content_key
from kerasnac.errors import Infeasible, PluginError

#: Source -> the metrics that it records, all to be minimised. ``architecture`` is computed in no time.
SOURCES: Mapping[str, tuple[str, ...]] = {
    "architecture": ("bops", "parameters"),
    "rule4ml": (
        "lut",
        "ff",
        "dsp",
        "bram",
        "lut_percent",
        "ff_percent",
        "dsp_percent",
        "bram_percent",
        "average_percent",
        "cycles",
        "interval",
    ),
    "adder_graph": (
        "adder_luts",
        "adder_percent",
        "adder_levels",
        "adder_stages",
        "adder_registers",
        "adder_depth",
        "adder_latency_ns",
        "adder_interval_ns",
    ),
}


#: Names that mean something else in tables, objectives and rules of selection.
TAKEN = (
    *("metric", "cost", "loss", "front", "best", "knee", "within", "index", "generation", "id", "reference", "status"),
    *("architecture", "reason", "seconds", "epochs", "data_fraction", "folds", "cycle"),
)


class Estimator(Protocol):
    """Source of the costs of a whole generation at once; made from its settings, and picklable."""

    @property
    def source(self) -> str:
        """Key of :data:`SOURCES`, or name of a :class:`CostModel`."""

    @property
    def key(self) -> str:
        """Hash of all settings that decide the estimates."""

    def check(self, space: SearchSpace) -> None:
        """Refuse a space with choices that the source knows nothing of, before anything is estimated.

        Raises:
            SpaceError: Naming the choice and the reason.
        """

    def estimate(self, data: Development, architectures: Sequence[Architecture]) -> list[dict[str, float] | str]:
        """Estimate the costs of float architectures; runs in a worker.

        The costs of an architecture do not depend on the others in the batch.

        Returns:
            For each one its metrics, or the reason why it has none: it is then infeasible.
        """


class CostModel(ABC):
    """Source of costs of your own, which a network has before it is trained.

    A run file names it under ``search.estimators``; its metrics can then be objectives and budgets. It is made without
    arguments, in every process that needs it.

    Attributes:
        metrics: Names of its costs: finite numbers from 0, all to be minimised.
        settings: All that decides them besides the network and the data, as JSON: costs that are known already are
            computed again when it changes.
    """

    metrics: ClassVar[tuple[str, ...]]
    settings: ClassVar[Mapping[str, Any]] = {}

    @abstractmethod
    def costs(self, architecture: Architecture, data: Development) -> Mapping[str, float]:
        """Return the costs of a float network by the names of the metrics.

        Args:
            architecture: Its layers have bit widths and sparsities as parameters where those are genes.
            data: Development data.

        Raises:
            Infeasible: If the network has no such costs; says why.
        """


#: Sources of costs of all origins. Those of this package that a search may be told to record are the last two.
ESTIMATOR: Kind[type[CostModel]] = Kind(
    "estimator",
    "kerasnac.estimators",
    ("rule4ml", "adder_graph"),
    "a subclass of kerasnac.CostModel with metrics and costs",
    lambda part: inspect.isclass(part) and issubclass(part, CostModel) and not inspect.isabstract(part),
)


@dataclass(frozen=True)
class NamedEstimator:
    """A :class:`CostModel` by its name, which is all that is sent to workers: each imports it.

    Attributes:
        source: Name of the model, as :mod:`kerasnac.core.plugins` says.

    Raises:
        PluginError: If it is of the wrong kind, or cannot be made.
    """

    source: str

    def __getstate__(self) -> dict[str, Any]:
        return {"source": self.source}

    @cached_property
    def model(self) -> CostModel:
        """The model."""
        kind = ESTIMATOR.foreign(self.source)
        assert kind is not None
        metrics = getattr(kind, "metrics", ())
        if not isinstance(metrics, tuple) or not metrics or not all(isinstance(name, str) for name in metrics):
            raise PluginError(f'estimator {self.source}: give its class the names of its costs, metrics = ("energy",)')
        ours = {metric for recorded in SOURCES.values() for metric in recorded}
        for name in metrics:
            if not name.isidentifier() or name.endswith("_spread") or name in (*ours, *TAKEN) or metrics.count(name) > 1:
                raise PluginError(f"estimator {self.source}: {name!r} cannot be the name of a cost, or is that of another one")
        with guarded(f"estimator {self.source}", kind):
            return kind()

    @property
    def metrics(self) -> tuple[str, ...]:
        """Names of its costs."""
        return self.model.metrics

    @property
    def key(self) -> str:
        """Hash of its name and settings."""
        with guarded(f"estimator {self.source}: the JSON of its settings", type(self.model)):
            return content_key("estimator", source=self.source, settings=dict(self.model.settings))

    def check(self, space: SearchSpace) -> None:
        """Make the model, so that one that cannot be made is refused before anything is estimated."""
        _ = self.model

    def estimate(self, data: Development, architectures: Sequence[Architecture]) -> list[dict[str, float] | str]:
        """Return the costs of float architectures, or the reasons why they have none.

        Raises:
            PluginError: If the model fails, or gives no such costs.
        """
        return [self._estimate(data, architecture) for architecture in architectures]

    def _estimate(self, data: Development, architecture: Architecture) -> dict[str, float] | str:
        where = f"estimator {self.source}: costs() of [{architecture}]"
        try:
            with guarded(where, type(self.model)):
                given = self.model.costs(architecture, data)
        except Infeasible as reason:
            return str(reason)
        if not isinstance(given, Mapping) or set(given) != {*self.metrics}:
            raise PluginError(f"{where} gives {shown(given)}: give a mapping of {', '.join(self.metrics)} to numbers")
        for name, value in given.items():
            number = isinstance(value, int | float | np.number) and not isinstance(value, bool)
            if not number or not math.isfinite(value) or value < 0:
                raise PluginError(
                    f"{where} gives {name} = {shown(value)}: costs are finite numbers from 0; raise kerasnac.errors.Infeasible "
                    "for a network that has none"
                )
        return {name: float(given[name]) for name in self.metrics}


def foreign_estimators(names: Iterable[str]) -> tuple[NamedEstimator, ...]:
    """Return those of some estimators that do not come with kerasnac.

    Raises:
        PluginError: If one cannot be had.
    """
    return tuple(NamedEstimator(name) for name in names if ESTIMATOR.foreign(name) is not None)
