"""Tasks: kinds of prediction, and what is measured of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property, wraps
from typing import Annotated, Any

import numpy as np
from numpy.typing import NDArray
from pydantic import PlainValidator, PositiveFloat

from kerasnac.core.checks import Size, shown, valid_fields
from kerasnac.core.data.losses import LOSSES, Loss, loss
from kerasnac.core.data.metrics import Array, Metric, Sense, each_class, metric, with_unit
from kerasnac.core.network.reconstruction import with_reconstruction_error
from kerasnac.core.network.trained import Trained
from kerasnac.core.network.training import Training
from kerasnac.core.plugins import Kind, absolute, guarded
from kerasnac.errors import ConfigError, DataError, PluginError


def _class_labels(x: Array, y: Array, outputs: int, name: str) -> Array:
    if y.ndim == 2 and y.shape[1] == outputs and np.all(np.isin(y, (0, 1))) and np.all(y.sum(axis=1) == 1):
        y = y.argmax(axis=1)  # one-hot, as the public jet files have it
    if y.ndim != 1:
        raise DataError(
            f"{name}: labels have shape {y.shape}; expected (samples,) class indices or one-hot (samples, {outputs})"
        )
    if not np.array_equal(y, y.astype(np.int64)):
        raise DataError(f"{name}: class labels must be whole numbers")
    y = y.astype(np.int64)
    wrong = (y < 0) | (y >= outputs)
    if wrong.any():
        raise DataError(f"{name}: label {y[np.argmax(wrong)]} of sample {int(np.argmax(wrong))} is outside 0..{outputs - 1}")
    return y


def _value_labels(x: Array, y: Array, outputs: int, name: str) -> Array:
    y = y.reshape(len(y), -1).astype(np.float32)
    if y.shape[1] != outputs:
        raise DataError(f"{name}: {y.shape[1]} regression targets per sample; the task declares {outputs}")
    return y


def _anomaly_labels(x: Array, y: Array, outputs: int, name: str) -> Array:
    if x.ndim != 2 or x.shape[1] < 2 or x.shape[1] != outputs:
        raise DataError(f"{name}: an anomaly detection reconstructs samples of shape (samples, {outputs}), not {x.shape}")
    if y.ndim != 1 or not np.array_equal(y, np.maximum(y, 0).astype(np.int64)):
        raise DataError(f"{name}: labels must be 0 for background, and 1 or more for signals, one per sample")
    return y.astype(np.int64)


def _same(y: Array) -> Array:
    return y


def _last(x: Array, y: Array) -> Array:
    return y


def _as_they_are(outputs: Array, y: Array) -> tuple[Array, Array]:
    return outputs, y


def _samples_with_labels(x: Array, y: Array) -> Array:
    return np.concatenate([x, y[:, np.newaxis]], axis=1, dtype=np.float32)


def _reconstructed(y: Array) -> Array:
    return y[:, :-1]


def _anomaly_scores(outputs: Array, y: Array) -> tuple[Array, Array]:
    """Return the scores of samples, which firmware has for outputs, and their labels."""
    if outputs.shape[1] > 1:
        outputs = np.abs(np.asarray(outputs, np.float64) - y[:, :-1]).sum(axis=1, keepdims=True)
    return outputs, y[:, -1].astype(np.int64)


def _background(y: Array) -> Array:
    return np.asarray(y == 0)


@dataclass(frozen=True)
class TaskKind:
    """Kind of prediction.

    Attributes:
        metric: Its usual metric, or its name.
        loss: Its usual loss, or its name.
        labels: Checks labels: of samples, labels, the number of outputs and the name of the dataset it returns labels, or
            raises a :class:`kerasnac.errors.DataError`.
        classes: True if labels are indices of classes, and outputs their logits.
        trained: Which samples are trained on, by their labels; None for all. Others are left out of the training split, and
            have no weight in the loss on validation.
        stored: The labels of a :class:`kerasnac.core.data.dataset.Split`, of samples on their grid and labels.
        targets: What the loss compares outputs with, of stored labels.
        measured: Outputs and labels as metrics get them, of outputs and stored labels.
        firmware: The network that becomes firmware, of a quantized one.
    """

    metric: str | Metric
    loss: str | Loss
    labels: Callable[[Array, Array, int, str], Array]
    classes: bool = False
    trained: Callable[[Array], Array] | None = None
    stored: Callable[[Array, Array], Array] = _last
    targets: Callable[[Array], Array] = _same
    measured: Callable[[Array, Array], tuple[Array, Array]] = _as_they_are
    firmware: Callable[[Trained], Trained] | None = None


#: Kinds of tasks by name.
TASKS: Mapping[str, TaskKind] = {
    "classification": TaskKind("accuracy", "categorical_crossentropy", _class_labels, classes=True),
    "regression": TaskKind("distance", "mean_squared_error", _value_labels),
    "anomaly": TaskKind(
        "auc",
        "mean_squared_error",
        _anomaly_labels,
        trained=_background,
        stored=_samples_with_labels,
        targets=_reconstructed,
        measured=_anomaly_scores,
        firmware=with_reconstruction_error,
    ),
}


#: Kinds of tasks of all origins.
TASK: Kind[TaskKind] = Kind("task", "kerasnac.tasks", TASKS, "a kerasnac.TaskKind", lambda part: isinstance(part, TaskKind))

#: Functions of a kind, each of which returns as many labels as its first argument has.
_OF_SAMPLES = ("labels", "trained", "stored", "targets")


def task_kind(name: object) -> TaskKind:
    """Return a kind of tasks by its name.

    Args:
        name: A key of :data:`TASKS`, or a name of one's own, as :mod:`kerasnac.core.plugins` says.

    Raises:
        ConfigError: If there is none, saying which there are.
        PluginError: The same, or if one of others cannot be imported. Its functions raise it if those of others fail.
    """
    if not isinstance(name, str):
        raise ConfigError(f"there is no task {name!r}: one of {', '.join(TASKS)}, or package.module:name of your own")
    foreign = TASK.foreign(name)
    if foreign is None:
        return TASKS[name]
    functions = {part: getattr(foreign, part) for part in (*_OF_SAMPLES, "measured", "firmware")}
    guards: dict[str, Any] = {part: _guarded(name, part, made) for part, made in functions.items() if made is not None}
    return replace(foreign, **guards)


def _guarded(name: str, part: str, function: Callable[..., Any]) -> Callable[..., Any]:
    """Return a function of a kind of others that says who is wrong."""
    where = f"task {name}: {part}()"

    @wraps(function)
    def call(*arguments: Any) -> Any:
        with guarded(where, function):
            found = function(*arguments)
        if part in _OF_SAMPLES and (not isinstance(found, np.ndarray) or found.shape[:1] != (len(arguments[0]),)):
            raise PluginError(f"{where} gives {_described(found)}: give an array with {len(arguments[0])} labels")
        if part == "measured" and (not isinstance(found, tuple) or len(found) != 2):
            raise PluginError(f"{where} gives {_described(found)}: give outputs and labels, two arrays")
        return found

    return call


def _described(value: Any) -> str:
    return f"an array of shape {value.shape}" if isinstance(value, np.ndarray) else shown(value)


def _kind_name(name: Any) -> str:
    name = absolute(name) if isinstance(name, str) else name
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
        kind: ``"classification"`` (integer labels, logits out); ``"regression"``; or ``"anomaly"``: an autoencoder that is
            trained on background alone, whose reconstruction error tells signals from it. Or one of others, by its name.
        outputs: Number of classes or of regressed values; of an anomaly detection, number of values of a sample.
        scale: Regression: metrics are multiplied by this, so that they are in ``unit``.
        unit: Unit of the regressed values times ``scale``.
        names: Class names, or names of the regressed values; of an anomaly detection, ``background`` and the signals.
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
        for name in ("kind", "outputs", "names"):  # A whole scale stays as it is: it is in the fingerprint of the data.
            object.__setattr__(self, name, valid[name])
        known = {found.name: found for found in self.measured}
        wanted = [self.metric or self.made_of.metric]
        wanted += [one for name in valid["metrics"] for one in each_class(name, self.names, self.outputs)]
        found = [known[n] if isinstance(n, str) and n in known else metric(n, self.names) for n in wanted]
        if len({one.name for one in found}) < len(found):
            raise ConfigError(f"a metric stands twice among {', '.join(one.name for one in found)}")
        object.__setattr__(self, "metric", found[0].name)
        object.__setattr__(self, "metrics", tuple(one.name for one in found[1:]))
        object.__setattr__(self, "measured", tuple(found))
        object.__setattr__(self, "loss", loss(self.loss or self.made_of.loss))
        wrong = "values" if self.classes else "classes"
        if self.loss.labels == wrong:
            fitting = ", ".join(name for name, one in LOSSES.items() if one.labels != wrong)
            raise ConfigError(f"loss {self.loss.name} is not for {self.kind}: one of {fitting}, or a function of your own")

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name != "made_of"}  # Workers find it by its name.

    @cached_property
    def made_of(self) -> TaskKind:
        """The kind itself."""
        return task_kind(self.kind)

    def targets(self, labels: Array) -> Array:
        """Return what the loss compares outputs with, of the labels of a split."""
        return self.made_of.targets(labels)

    @property
    def classes(self) -> bool:
        """True if labels are indices of classes, and outputs their logits."""
        return self.made_of.classes

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
        others: dict[str, Any] = (
            {} if self._main == metric(self.made_of.metric, self.names) else {"metric": self._main.identity}
        )
        if not self.has_usual_loss:
            others["loss"] = self.loss.identity
        return {**others, **({"metrics": [found.identity for found in self.measured[1:]]} if self.metrics else {})}

    @property
    def has_usual_loss(self) -> bool:
        """True if the loss is the cross-entropy of classes, or the squared error of values, which need no function."""
        return bool(self.loss == LOSSES["categorical_crossentropy" if self.classes else "mean_squared_error"])

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
        return self.sample_values(self._main, *self.seen(outputs, labels))

    def seen(self, outputs: Array, labels: Array) -> tuple[Array, Array]:
        """Return outputs and labels as metrics get them: the scores of an anomaly detection, and otherwise what is given."""
        return self.made_of.measured(outputs, labels)

    def sample_values(self, measured: Metric, outputs: Array, labels: Array) -> NDArray[np.float64]:
        """Return one of the metrics that are means over samples, for every sample.

        Args:
            measured: The metric.
            outputs: As :meth:`seen` returns them.
            labels: The same.

        Returns:
            As for :meth:`scores`, and with its errors.
        """
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
        return self.value(self._main, *self.seen(outputs, labels))

    def further(self, outputs: Array, labels: Array) -> dict[str, float]:
        """Return the further metrics by name; arguments and errors are those of :meth:`score`."""
        seen = self.seen(outputs, labels)
        return {found.name: self.value(found, *seen) for found in self.measured[1:]}

    def value(self, measured: Metric, outputs: Array, labels: Array) -> float:
        """Return one of the metrics of outputs and labels as :meth:`seen` returns them; errors are those of :meth:`score`."""
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
