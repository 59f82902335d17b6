"""What the outputs on a split look like beyond one number: ROC curves, confusion of classes, distributions of distances."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kerasnac.core.data.metrics import Array, area_under_curve, signal_scores
from kerasnac.core.data.task import Task

#: Signal efficiencies at which the rejection of background is stated.
EFFICIENCIES = (0.3, 0.5, 0.8)

#: Quantiles of distances that are stated.
QUANTILES = (0.5, 0.68, 0.75, 0.95, 0.99)

#: Points of a curve that are kept, and bins of a histogram.
POINTS, BINS = 201, 60


@dataclass(frozen=True)
class Roc:
    """ROC curve of one class against the rest, or of one signal against background.

    Attributes:
        signal: The class.
        efficiency: Fraction of the signal that is found, ascending.
        mistaken: Fraction of the rest that is taken for it, at the same thresholds.
        auc: Area under the curve.
        rejection: One over the mistaken fraction at each of :data:`EFFICIENCIES`; with nothing mistaken, the number of
            samples of the rest.
    """

    signal: str
    efficiency: Array
    mistaken: Array
    auc: float
    rejection: Mapping[float, float]


@dataclass(frozen=True)
class Distances:
    """Distribution of the distances between outputs and labels.

    Attributes:
        mean: Mean distance, in the unit of the task.
        quantiles: Those of :data:`QUANTILES`.
        edges: Of the bins of a histogram, from 0 to the 99.5 % quantile; the last bin holds all that is beyond, too.
        counts: Samples in each of them.
        unit: Unit of the distances.
    """

    mean: float
    quantiles: Mapping[float, float]
    edges: Array
    counts: Array
    unit: str


#: Curves of one model.
Curves = tuple[Roc, ...] | Distances


@dataclass(frozen=True)
class Details:
    """What is kept of outputs on the test split beside the metrics.

    Attributes:
        curves: See :func:`curves_of`.
        confusion: Samples by true class (rows) and the class of the largest output (columns), int64; None for other tasks than
            classification, and outputs that are not finite.
    """

    curves: Curves | None = None
    confusion: NDArray[np.int64] | None = None


def details_of(task: Task, outputs: Array, labels: Array) -> Details:
    """Return curves and confusion of outputs of shape (samples, outputs)."""
    confusion = None
    if task.kind == "classification" and np.isfinite(outputs).all():
        confusion = np.zeros((task.outputs, task.outputs), np.int64)
        np.add.at(confusion, (labels, outputs.argmax(axis=-1)), 1)
    return Details(curves_of(task, outputs, labels), confusion)


def curves_of(task: Task, outputs: Array, labels: Array) -> Curves | None:
    """Return the curves of outputs.

    Args:
        task: Kind of prediction.
        outputs: Shape (samples, outputs).
        labels: As a split has them.

    Returns:
        A ROC curve for every class of a classification, or every signal of an anomaly detection; the distances of a
        regression; None for other tasks, outputs that are not finite, and splits without a class.
    """
    make = CURVES.get(task.kind)
    outputs, labels = task.seen(outputs, labels)
    return make(task, outputs, labels) if make is not None and np.isfinite(outputs).all() else None


def _rocs(task: Task, outputs: Array, labels: Array) -> tuple[Roc, ...] | None:
    first = 1 if task.kind == "anomaly" else 0
    count = max(len(task.names), int(labels.max()) + 1) if first else task.outputs
    names = task.names or tuple(map(str, range(count)))
    made = [_roc(outputs, labels, index, names[index]) for index in range(first, count)]
    return None if None in made else tuple(one for one in made if one is not None)


def _roc(outputs: Array, labels: Array, index: int, name: str) -> Roc | None:
    from sklearn.metrics import roc_curve

    scores, signal = signal_scores(outputs, labels, index)
    if signal.all() or not signal.any():
        return None
    mistaken, found, _ = roc_curve(signal, scores)
    least = 1 / np.sum(~signal)
    rejection = {e: float(1 / max(mistaken[np.argmax(found >= e)], least)) for e in EFFICIENCIES}
    # The first threshold that finds so much: what a user of the curve can have.
    places = np.unique(np.searchsorted(found, np.linspace(0, 1, POINTS).clip(max=found[-1]), side="left"))
    return Roc(name, found[places], mistaken[places], area_under_curve(scores, signal), rejection)


def _distances(task: Task, outputs: Array, labels: Array) -> Distances:
    values = np.linalg.norm(np.asarray(outputs, np.float64) - labels, axis=1) * task.scale
    edges = np.linspace(0, max(float(np.quantile(values, 0.995)), 1e-12), BINS + 1)
    counts = np.histogram(np.minimum(values, edges[-1]), edges)[0]
    quantiles = dict(zip(QUANTILES, np.quantile(values, QUANTILES).tolist(), strict=True))
    return Distances(float(np.mean(values)), quantiles, edges, counts, task.unit)


def curves_to_dict(curves: Curves) -> dict[str, Any]:
    """Return curves as JSON, with six digits."""
    if isinstance(curves, Distances):
        quantiles = [[level, value] for level, value in curves.quantiles.items()]
        histogram = {"edges": _short(curves.edges), "counts": curves.counts.tolist()}
        return {"mean": curves.mean, "quantiles": quantiles, "unit": curves.unit, **histogram}
    rocs = [
        {
            "signal": roc.signal,
            "efficiency": _short(roc.efficiency),
            "mistaken": _short(roc.mistaken),
            "auc": roc.auc,
            "rejection": [[efficiency, value] for efficiency, value in roc.rejection.items()],
        }
        for roc in curves
    ]
    return {"rocs": rocs}


def curves_from_dict(data: Mapping[str, Any]) -> Curves:
    """Return the curves that :func:`curves_to_dict` has written.

    Raises:
        LookupError, TypeError, ValueError: If it is something else.
    """
    if "rocs" not in data:
        arrays = np.asarray(data["edges"], np.float64), np.asarray(data["counts"], np.int64)
        return Distances(float(data["mean"]), dict(data["quantiles"]), *arrays, str(data["unit"]))
    return tuple(
        Roc(
            str(one["signal"]),
            np.asarray(one["efficiency"], np.float64),
            np.asarray(one["mistaken"], np.float64),
            float(one["auc"]),
            dict(one["rejection"]),
        )
        for one in data["rocs"]
    )


def _short(values: Array) -> list[float]:
    return [float(f"{value:.6g}") for value in values.tolist()]


#: The curves of kinds of tasks.
CURVES: Mapping[str, Callable[[Task, Array, Array], Curves | None]] = {
    "classification": _rocs,
    "anomaly": _rocs,
    "regression": _distances,
}
