"""Tasks: kinds of prediction, and what is measured of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any

import numpy as np
from numpy.typing import NDArray
from pydantic import PlainValidator, PositiveFloat

from kerasnac.core.checks import Size, valid_fields
from kerasnac.core.data.losses import LOSSES, loss
from kerasnac.core.data.metrics import Array, Metric, Sense, each_class, metric, with_unit
from kerasnac.core.network.training import Training
from kerasnac.errors import ConfigError


@dataclass(frozen=True)
class TaskKind:
    """Kind of prediction.

    Attributes:
        metric: Name of its usual metric.
        loss: Name of its usual loss.
        classes: True if labels are indices of classes, and outputs their logits.
    """

    metric: str
    loss: str
    classes: bool = False


#: Kinds of tasks by name.
TASKS: Mapping[str, TaskKind] = {
    "classification": TaskKind("accuracy", "categorical_crossentropy", classes=True),
    "regression": TaskKind("distance", "mean_squared_error"),
}


def task_kind(name: object) -> TaskKind:
    """Return a kind of tasks by its name.

    Raises:
        ConfigError: If there is none, saying which there are.
    """
    if not isinstance(name, str) or name not in TASKS:
        raise ConfigError(f"there is no task {name!r}: one of {', '.join(TASKS)}")
    return TASKS[name]


def _kind_name(name: Any) -> str:
    task_kind(name)
    return str(name)


#: Name of a kind of tasks.
KindName = Annotated[str, PlainValidator(_kind_name)]

#: A metric or its name; and further ones.
AnyMetric = Annotated[Any, PlainValidator(lambda value: value)]


def _several(value: Any) -> tuple[Any, ...]:
    return tuple(value) if isinstance(value, list | tuple) else (value,)


#: A loss, its name or a function.
AnyLoss = AnyMetric

AnyMetrics = Annotated[tuple[Any, ...], PlainValidator(_several)]


@dataclass(frozen=True)
class Task:
    """Kind of prediction, with its metrics.

    Attributes:
        kind: ``"classification"`` (integer labels, logits out) or ``"regression"``.
        outputs: Number of classes or of regressed values.
        scale: Regression: metrics are multiplied by this, so that they are in ``unit``.
        unit: Unit of the regressed values times ``scale``.
        names: Class names, or names of the regressed values.
        metric: Name of the metric that stages choose by. Given as a name, see :func:`kerasnac.core.data.metrics.metric`, or as
            a :class:`kerasnac.core.data.metrics.Metric`; by default ``accuracy``, or ``distance`` (mean Euclidean).
        metrics: Names of further metrics that are recorded; ``accuracy:each`` stands for those of all classes.
        loss: What trainings minimise: a name, a function, or a loss; see :func:`kerasnac.core.data.losses.loss`. By default the
            cross-entropy, or the mean squared error.
        measured: The metrics themselves, found by their names: not to be given.

    Raises:
        ConfigError: If there is no such kind or metric, or a value is of another type or out of range.
    """

    kind: KindName
    outputs: Size
    scale: PositiveFloat = 1.0
    unit: str = ""
    names: tuple[str, ...] = ()
    metric: AnyMetric = ""
    metrics: AnyMetrics = ()
    loss: AnyLoss = ""
    measured: AnyMetrics = field(default=(), repr=False)

    def __post_init__(self) -> None:
        valid = valid_fields(self)
        for name in ("outputs", "names"):  # A whole scale stays as it is: it is in the fingerprint of the data.
            object.__setattr__(self, name, valid[name])
        known = {found.name: found for found in self.measured}
        wanted = [self.metric or task_kind(self.kind).metric]
        wanted += [one for name in valid["metrics"] for one in each_class(name, self.names, self.outputs)]
        found = [known[n] if isinstance(n, str) and n in known else metric(n, self.names) for n in wanted]
        if len({one.name for one in found}) < len(found):
            raise ConfigError(f"a metric stands twice among {', '.join(one.name for one in found)}")
        object.__setattr__(self, "metric", found[0].name)
        object.__setattr__(self, "metrics", tuple(one.name for one in found[1:]))
        object.__setattr__(self, "measured", tuple(found))
        object.__setattr__(self, "loss", loss(self.loss or task_kind(self.kind).loss))
        wrong = "values" if self.classes else "classes"
        if self.loss.labels == wrong:
            fitting = ", ".join(name for name, one in LOSSES.items() if one.labels != wrong)
            raise ConfigError(f"loss {self.loss.name} is not for {self.kind}: one of {fitting}, or a function of your own")

    @property
    def classes(self) -> bool:
        """True if labels are indices of classes, and outputs their logits."""
        return task_kind(self.kind).classes

    @property
    def sense(self) -> Sense:
        """``max`` if a larger metric is better, else ``min``."""
        return self._main.sense

    @property
    def senses(self) -> dict[str, Sense]:
        """The sense of every metric, by name."""
        return {found.name: found.sense for found in self.measured}

    @property
    def metric_unit(self) -> str:
        """Unit of the metric; empty for none."""
        return with_unit(self._main, self.unit).unit

    @property
    def identity(self) -> dict[str, Any]:
        """The metrics and the loss that are not the usual ones, for the fingerprint of the data."""
        others: dict[str, Any] = {} if self.metric == task_kind(self.kind).metric else {"metric": self._main.identity}
        if not self.has_usual_loss:
            others["loss"] = self.loss.identity
        return {**others, **({"metrics": [found.identity for found in self.measured[1:]]} if self.metrics else {})}

    @property
    def has_usual_loss(self) -> bool:
        """True if the loss is that of all tasks of the kind."""
        return bool(self.loss == LOSSES[task_kind(self.kind).loss])

    @property
    def _main(self) -> Metric:
        found: Metric = self.measured[0]
        return found

    def scores(self, outputs: Array, labels: Array) -> NDArray[np.float64]:
        """Return the metric of every sample, for one whose mean over samples is the metric.

        Args:
            outputs: Network outputs, shape (samples, outputs): logits or regressed values.
            labels: Shape (samples,) integers, or (samples, outputs) floats.

        Returns:
            Shape (samples,); NaN where an output is not finite. For the usual metrics, 1 for a right class and 0 for a wrong
            one, or the Euclidean distance in ``unit``.

        Raises:
            MetricError: If the metric's function does not return one finite number per sample.
        """
        return self.sample_values(self._main, outputs, labels)

    def sample_values(self, measured: Metric, outputs: Array, labels: Array) -> NDArray[np.float64]:
        """Return one of the metrics that are means over samples, for every sample; otherwise as :meth:`scores`."""
        finite = np.isfinite(outputs).all(axis=-1)
        values = np.full(len(outputs), np.nan)
        if finite.any():
            values[finite] = self._values(measured, outputs[finite], labels[finite])
        return values

    def score(self, outputs: Array, labels: Array) -> float:
        """Return the task metric.

        Args:
            outputs: Network outputs, shape (samples, outputs): logits or regressed values.
            labels: Shape (samples,) integers, or (samples, outputs) floats.

        Returns:
            For the usual metrics, accuracy in [0, 1] or the mean Euclidean distance in ``unit``; NaN if an output is not
            finite.

        Raises:
            MetricError: If the metric's function does not return a finite number.
        """
        return self.value(self._main, outputs, labels)

    def further(self, outputs: Array, labels: Array) -> dict[str, float]:
        """Return the further metrics by name; arguments and errors are those of :meth:`score`."""
        return {found.name: self.value(found, outputs, labels) for found in self.measured[1:]}

    def value(self, measured: Metric, outputs: Array, labels: Array) -> float:
        """Return one of the metrics; the other arguments and errors are those of :meth:`score`."""
        if not np.isfinite(outputs).all():
            return float("nan")
        return float(np.mean(self._values(measured, outputs, labels)))

    def _values(self, measured: Metric, outputs: Array, labels: Array) -> NDArray[np.float64]:
        found = measured.values(outputs, labels)
        return found * self.scale**measured.power if measured.power else found

    def try_metrics(self, labels: Array) -> None:
        """Try all metrics on random outputs, before anything is trained for them.

        Args:
            labels: Shape (samples,) integers, or (samples, outputs) floats.

        Raises:
            MetricError: If a function raises, returns another shape, or no finite number.
        """
        outputs = np.random.default_rng(0).normal(size=(len(labels), self.outputs)).astype(np.float32)
        self.score(outputs, labels)
        self.further(outputs, labels)

    def check(self, training: Training) -> None:
        """Check that a network for this task can be trained so.

        Raises:
            ConfigError: If labels that are no classes, or those of a function of the user's, are to be smoothed.
        """
        if training.label_smoothing and not self.classes:
            raise ConfigError(f"training: label_smoothing is for classification; leave it out for {self.kind}")
        if training.label_smoothing and self.loss.function is not None:
            raise ConfigError(f"training: label_smoothing is for losses of Keras; leave it out for the loss {self.loss.name}")

    def better(self, left: float, right: float) -> bool:
        """Return True if ``left`` is a strictly better metric than ``right``."""
        return left > right if self.sense == "max" else left < right
