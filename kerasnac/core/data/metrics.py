"""Metrics: functions of outputs and labels, by name."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Literal, cast, get_args

import numpy as np
from numpy.typing import NDArray

from kerasnac.core.plugins import Kind, Portable, function_name
from kerasnac.errors import ConfigError, MetricError

Sense = Literal["min", "max"]
Array = NDArray[Any]

#: Names that mean something else in records, and their ends.
_TAKEN = ("metric", "loss", "key", "kind", "model", "number", "iteration", "note", "reason", "seconds", "sparsity", "front")
_ENDS = ("_mean", "_std", "_spread")


@dataclass(frozen=True, eq=False)
class Metric:
    """A metric of the outputs of a network.

    Attributes:
        function: Of outputs, shape (samples, outputs), and labels, shape (samples,) or (samples, outputs); it returns a
            number. Outputs are logits for a classification, regressed values, or scores of shape (samples, 1) for an anomaly
            detection, where label 0 is background. It is called with finite outputs only, and must be a function of a module
            or of a Python file that a run names, so that worker processes find it.
        name: Name in objectives, budgets, journals, tables and plots.
        sense: ``max`` if larger is better, else ``min``.
        unit: Unit.
        averaged: True if the function returns one value per sample, shape (samples,), whose mean is the metric: intervals are
            found much faster.
        power: Power of a regression's scale, and of its unit, that the values are multiplied by.

    Raises:
        ConfigError: If the function has no name of its own, or the name or sense is wrong.
    """

    function: Callable[[Array, Array], Any]
    name: str
    sense: Sense
    unit: str = ""
    averaged: bool = False
    power: int = 0

    def __post_init__(self) -> None:
        if not isinstance(self.name, str) or not re.fullmatch(r"[\w.:%-]+", self.name):
            raise ConfigError(f"metric: the name {self.name!r} must be one word")
        if self.name in _TAKEN or self.name.endswith(_ENDS):
            raise ConfigError(f"metric: the name {self.name!r} means something else in records: choose another one")
        if self.sense not in get_args(Sense):
            raise ConfigError(f"metric {self.name}: the sense is 'max' or 'min', not {self.sense!r}")
        self.identity  # noqa: B018 - raises

    def __reduce__(self) -> tuple[Any, ...]:
        return Metric, (Portable(self.function), self.name, self.sense, self.unit, self.averaged, self.power)

    @property
    def identity(self) -> dict[str, str]:
        """Name, sense and function, for :func:`kerasnac.core.store.keys.content_key`."""
        if not self.is_foreign:  # The name says it all.
            return {"name": self.name}
        return {"name": self.name, "sense": self.sense, "function": function_name(self.function, f"metric {self.name}")}

    @property
    def is_foreign(self) -> bool:
        """True if the function does not come with kerasnac: those of this module are all partial ones."""
        return not isinstance(self.function, partial)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Metric) and self._compared == other._compared

    def __hash__(self) -> int:
        return hash(self._compared)

    @property
    def _compared(self) -> tuple[Any, ...]:
        # Functions with arguments are compared by their names: copies in other processes are equal.
        return tuple(self.identity.items()), self.unit, self.averaged, self.power

    def values(self, outputs: Array, labels: Array) -> NDArray[np.float64]:
        """Return what the function returns for finite outputs: one value per sample if it is averaged, or a single one.

        Raises:
            MetricError: If the function raises, returns another shape, or no finite number.
        """
        try:
            found = np.asarray(self.function(outputs, labels))
        except MetricError as error:
            raise MetricError(f"metric {self.name}: {error}") from None
        except Exception as error:
            raise MetricError(
                f"metric {self.name}: its function raised {type(error).__name__}: {error} (outputs of shape {outputs.shape}, "
                f"labels of shape {labels.shape})"
            ) from error
        wanted = (len(outputs),) if self.averaged else ()
        if found.shape != wanted:
            what = f"one number per sample, shape {wanted}" if self.averaged else "a single number"
            raise MetricError(f"metric {self.name}: its function returned an array of shape {found.shape}, not {what}")
        if found.dtype.kind not in "biuf" or not np.isfinite(found).all():
            raise MetricError(
                f"metric {self.name}: its function returned {found.flat[0]!r} for finite outputs, not a finite number"
            )
        return found.astype(np.float64)


def _correct(outputs: Array, labels: Array) -> Array:
    return np.asarray(np.argmax(outputs, axis=-1) == labels)


def _class_accuracy(outputs: Array, labels: Array, index: int) -> float:
    return float(np.mean(np.argmax(outputs[_present(labels == index)], axis=-1) == index))


def _present(chosen: Array) -> Array:
    if not chosen.any():
        raise MetricError("there is no sample of the class")
    return chosen


def _distance(outputs: Array, labels: Array) -> Array:
    return cast(Array, np.linalg.norm(_difference(outputs, labels), axis=-1))


def _difference(outputs: Array, labels: Array) -> NDArray[np.float64]:
    return np.asarray(outputs, np.float64) - np.asarray(labels, np.float64)


def _mae(outputs: Array, labels: Array) -> Array:
    return np.asarray(np.abs(_difference(outputs, labels)).mean(axis=-1))


def _mse(outputs: Array, labels: Array) -> Array:
    return np.asarray((_difference(outputs, labels) ** 2).mean(axis=-1))


def _rmse(outputs: Array, labels: Array) -> float:
    return float(np.sqrt(_mse(outputs, labels).mean()))


def _quantile(outputs: Array, labels: Array, fraction: float) -> float:
    return float(np.quantile(np.abs(_difference(outputs, labels)), fraction))


def signal_scores(outputs: Array, labels: Array, index: int | None) -> tuple[Array, Array]:
    """Return scores of a signal against the rest, and which samples are signal.

    A score is the logarithm of the odds of the softmax: it orders samples as the probability does, without its rounding to one.
    Of an anomaly detection with one output, the signal of a class is held against background alone, which is label 0.
    """
    if outputs.shape[1] == 1:
        chosen = np.ones(len(labels), bool) if index is None else (labels == index) | (labels == 0)
        return outputs[chosen, 0], labels[chosen] > 0
    from scipy.special import logsumexp  # takes a moment to load

    index = 1 if index is None else index
    logits = np.asarray(outputs, np.float64)
    return logits[:, index] - logsumexp(np.delete(logits, index, axis=1), axis=1), labels == index


def _both_there(signal: Array) -> Array:
    if signal.all() or not signal.any():
        raise MetricError("all samples are of one class; it compares two")
    return signal


def _auc(outputs: Array, labels: Array, index: int | None = None) -> float:
    if index is None and outputs.shape[1] > 2:
        return float(np.mean([_auc(outputs, labels, one) for one in range(outputs.shape[1])]))
    scores, signal = signal_scores(outputs, labels, index)
    return area_under_curve(scores, _both_there(signal))


def area_under_curve(scores: Array, signal: Array) -> float:
    """Return the area under the ROC curve.

    Args:
        scores: Shape (samples,); larger ones for signal.
        signal: Which samples are signal, shape (samples,); some are, and some are not.
    """
    from scipy.stats import rankdata  # takes a second to load

    count = np.sum(signal)
    # That of Mann and Whitney, a sixth of the time of scikit-learn's: intervals take hundreds of them.
    above = rankdata(scores)[signal].sum() - count * (count + 1) / 2
    return float(above / count / np.sum(~signal))


def _background_rejection(outputs: Array, labels: Array, efficiency: float, index: int | None = None) -> float:
    from sklearn.metrics import roc_curve

    if index is None and outputs.shape[1] > 2:
        raise MetricError("there are more than two classes: name the signal, as in background_rejection:top:0.3")
    scores, signal = signal_scores(outputs, labels, index)
    mistaken, found, _ = roc_curve(_both_there(signal), scores)
    # With no background left, it is at least as large as the number of samples of it.
    return float(1 / max(mistaken[np.argmax(found >= efficiency)], 1 / np.sum(~signal)))


#: What follows the name of a metric after colons, and the names of the classes.
Maker = Callable[[tuple[str, ...], tuple[str, ...]], Metric]


def _class_of(text: str, names: tuple[str, ...]) -> int:
    if text in names:
        return names.index(text)
    if text.isdecimal() and (not names or int(text) < len(names)):
        return int(text)
    raise ConfigError(f"there is no class {text!r}" + (f": one of {', '.join(names)}" if names else "; give its index"))


def _number(text: str, example: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < 1:
        raise ConfigError(f"{text!r} is no fraction between 0 and 1; write {example}")
    return value


def _by_class(whole: Metric, of_class: Callable[..., float]) -> Maker:
    """Return the maker of a metric that there is for all classes together, and for one: ``auc`` and ``auc:top``."""

    def make(arguments: tuple[str, ...], names: tuple[str, ...]) -> Metric:
        if not arguments:
            return whole
        if len(arguments) > 1:
            raise ConfigError(f"write {whole.name}, or {whole.name}:CLASS")
        function = partial(of_class, index=_class_of(arguments[0], names))
        return Metric(function, f"{whole.name}:{arguments[0]}", whole.sense)

    return make


def _rejection(arguments: tuple[str, ...], names: tuple[str, ...]) -> Metric:
    usage = "background_rejection:0.3, or with the class that is signal background_rejection:top:0.3"
    if len(arguments) not in (1, 2):
        raise ConfigError(f"it needs a signal efficiency: write {usage}")
    *signal, efficiency = arguments
    index = _class_of(signal[0], names) if signal else None
    function = partial(_background_rejection, efficiency=_number(efficiency, usage), index=index)
    return Metric(function, ":".join(("background_rejection", *arguments)), "max")


def _quantile_of(arguments: tuple[str, ...], names: tuple[str, ...]) -> Metric:
    usage = "quantile:0.68 for the quantile of absolute errors"
    if len(arguments) != 1:
        raise ConfigError(f"it needs a fraction: write {usage}")
    return Metric(partial(_quantile, fraction=_number(arguments[0], usage)), f"quantile:{arguments[0]}", "min", power=1)


#: Metrics by name: each one, or a function that makes it of what follows the name after colons.
METRICS: Mapping[str, Metric | Maker] = {
    "accuracy": _by_class(Metric(partial(_correct), "accuracy", "max", averaged=True), _class_accuracy),
    "auc": _by_class(Metric(partial(_auc), "auc", "max"), _auc),
    "background_rejection": _rejection,
    "distance": Metric(partial(_distance), "distance", "min", averaged=True, power=1),
    "mae": Metric(partial(_mae), "mae", "min", averaged=True, power=1),
    "mse": Metric(partial(_mse), "mse", "min", averaged=True, power=2),
    "rmse": Metric(partial(_rmse), "rmse", "min", power=1),
    "quantile": _quantile_of,
}

#: Metrics of all origins; functions become metrics together with a sense.
METRIC: Kind[Metric | Callable[..., Any]] = Kind(
    "metric",
    "kerasnac.metrics",
    METRICS,
    "a kerasnac.Metric, or a function of outputs and labels",
    lambda part: isinstance(part, Metric) or (callable(part) and not inspect.isclass(part)),
)


def metric(name: object, names: Sequence[str] = ()) -> Metric:
    """Return a metric by its name.

    Args:
        name: A key of :data:`METRICS`, for some with a class or a number after colons: ``auc``, ``auc:top``,
            ``background_rejection:top:0.3``, ``quantile:0.68``. Or the name of a :class:`Metric` of one's own, as
            :mod:`kerasnac.core.plugins` says; or keys and values of one, with the name of a function as its function; or the
            metric itself.
        names: Names of the classes.

    Raises:
        ConfigError: If there is none, saying which there are.
        PluginError: The same, or if one of others cannot be imported.
    """
    if isinstance(name, Metric):
        return name
    if isinstance(name, Mapping):
        return _of_mapping(name)
    if not isinstance(name, str):
        raise ConfigError(f"metric: {name!r} is no metric: give a name, or kn.Metric(function, name=..., sense=...)")
    head, *arguments = name.split(":")
    own = METRIC.foreign(head if head in METRICS else name)
    if isinstance(own, Metric):
        return own
    if own is not None:
        short = name.rpartition(":")[2]
        raise ConfigError(f"metric {name!r} is no kn.Metric; say its sense: {{function: {name}, name: {short}, sense: max}}")
    found = METRICS[head]
    if isinstance(found, Metric):
        if arguments:
            raise ConfigError(f"metric {name}: {head} takes nothing after its name")
        return found
    try:
        return found(tuple(arguments), tuple(names))
    except ConfigError as error:
        raise ConfigError(f"metric {name}: {error}") from None


def _of_mapping(given: Mapping[Any, Any]) -> Metric:
    known = ("function", "name", "sense", "unit", "averaged")
    if unknown := [key for key in given if key not in known]:
        raise ConfigError(f"metric: unknown key {unknown[0]!r}: there are {', '.join(known)}")
    name = given.get("function")
    function = METRIC.foreign(name) if isinstance(name, str) else None
    if function is None:
        raise ConfigError(f"metric: function must be the name of one of your own, package.module:name, not {name!r}")
    if isinstance(function, Metric):
        raise ConfigError(f"metric {name}: it is a kn.Metric, which has a sense: write its name alone, metric: {name}")
    if "sense" not in given:
        raise ConfigError(f"metric {name}: say with sense: max or sense: min what is better")
    return Metric(**{"name": str(name).rpartition(":")[2], **given, "function": function})


def each_class(name: object, names: Sequence[str], classes: int) -> list[object]:
    """Return a name, or for ``accuracy:each`` the names of this metric for every class."""
    if not isinstance(name, str) or not name.endswith(":each"):
        return [name]
    head = name.removesuffix(":each")
    return [f"{head}:{one}" for one in (names or [str(index) for index in range(classes)])]


def with_unit(found: Metric, unit: str) -> Metric:
    """Return a metric of a regression with the unit that its values have; others keep theirs."""
    if found.unit or not unit or not found.power:
        return found
    return replace(found, unit=unit if found.power == 1 else f"{unit}^{found.power}")
