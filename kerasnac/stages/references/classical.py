"""Classical methods on the data of a run: fits of peaks, filters of readout traces."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import product
from time import process_time
from typing import TYPE_CHECKING, Any

import numpy as np

from kerasnac.core.classical.peaks import centre_of_mass, pseudo_voigt
from kerasnac.core.classical.readout import Filter, boxcar, matched_filter
from kerasnac.core.data.dataset import Array, Development, Task
from kerasnac.core.settings import ClassicalSettings, FilterSettings, PseudoVoigtSettings, ReferenceSettings
from kerasnac.core.store.journal import Journal
from kerasnac.core.store.keys import content_key
from kerasnac.core.store.memo import Memo, Shape
from kerasnac.core.store.progress import Step
from kerasnac.errors import ConfigError
from kerasnac.stages.context import Context

if TYPE_CHECKING:
    import pandas as pd

#: The journal in the run folder.
JOURNAL = "classical.jsonl"

SHAPE = Shape({"key": str, "model": str, "metrics": dict[str, float], "microseconds": float, "samples": int, "note": str})

#: Outputs of some samples, and a note on them.
Predict = Callable[[Array], tuple[Array, str]]


@dataclass(frozen=True)
class ClassicalPoint:
    """A classical method, with its window if it has one.

    Attributes:
        name: For tables and plots: ``boxcar[100:500]`` reads the samples 100 to 499.
        method: A key of :data:`METHODS`.
        metrics: On the validation split, by name.
        microseconds: Time of the processor per sample.
        samples: Validation samples that were used, and of the test split as many at most.
        note: Anything else to say.
        key: Hash of all that decides it.
        predict: Its outputs of some samples, with a note; None in a folder that is only read.
    """

    name: str
    method: str
    metrics: Mapping[str, float]
    microseconds: float
    samples: int
    note: str
    key: str
    predict: Predict | None = None


@dataclass(frozen=True)
class Method:
    """A classical method.

    Attributes:
        fits: Whether it is for samples of some shape, and a task.
        needs: Samples and task that it is for, for messages.
        variants: Of settings and data, names and functions of outputs.
    """

    fits: Callable[[tuple[int, ...], Task], bool]
    needs: str
    variants: Callable[[str, ClassicalSettings, Development], Iterator[tuple[str, Predict]]]


def classical_methods(settings: ReferenceSettings, context: Context) -> tuple[ClassicalPoint, ...]:
    """Score the classical methods that are asked for on the validation split; records are in ``classical.jsonl``.

    Args:
        settings: What is asked for.
        context: Data, folder and progress.

    Raises:
        ConfigError: If a method is not for the data.
    """
    check_classical(settings, context.data)
    memo = Memo(Journal(context.folder / JOURNAL), SHAPE, lambda record: record["key"])
    asked = [
        (*variant, samples_of(one))
        for method, one in settings.classical.items()
        for variant in METHODS[method].variants(method, one, context.data)
    ]
    points: list[ClassicalPoint] = []
    for number, (name, predict, samples) in enumerate(asked, start=1):
        point, known = _scored(context.data, memo, name, predict, samples)
        task = context.data.task
        text = f"{name}: {task.metric} {point.metrics[task.metric]:.4f}"
        facts = {"model": name, "metrics": dict(point.metrics), "known": known}
        context.progress(Step("classical", number, len(asked), text, "point", facts))
        points.append(point)
    return tuple(points)


def check_classical(settings: ReferenceSettings, data: Development) -> None:
    """Check that the classical methods that are asked for are for some data.

    Raises:
        ConfigError: If one is not, or has no window that fits.
    """
    for name, asked in settings.classical.items():
        method = METHODS[name]
        if not method.fits(data.input_shape, data.task):
            raise ConfigError(
                f"references: {name} is for {method.needs}; {data.name} has samples of shape {data.input_shape} and is a "
                f"{data.task.kind} with {data.task.outputs} outputs: leave it out"
            )
        if isinstance(asked, FilterSettings) and not _windows(asked, data.input_shape[0]):
            raise ConfigError(
                f"references: {name}: none of the windows (starts {asked.starts}, lengths {asked.lengths}) is within the "
                f"{data.input_shape[0]} samples of {data.name}"
            )


def samples_of(settings: ClassicalSettings) -> int | None:
    """Return how many samples of a split are used at most; None for all."""
    return settings.samples if isinstance(settings, PseudoVoigtSettings) else None


def frame_of(points: Sequence[ClassicalPoint]) -> pd.DataFrame:
    """Return one row per point: name, metrics, time, samples, note."""
    import pandas as pd

    return pd.DataFrame(
        [{"model": p.name, **p.metrics, "microseconds": p.microseconds, "samples": p.samples, "note": p.note} for p in points]
    )


def _scored(data: Development, memo: Memo, name: str, predict: Predict, samples: int | None) -> tuple[ClassicalPoint, bool]:
    """Return the point of a method, and True if its record was there."""
    x, y = data.validation.x[:samples], data.validation.y[:samples]
    key = content_key("classical", model=name, samples=len(x), data=data.fingerprint)
    record, known = memo.get(key), key in memo
    if record is None:
        started = process_time()  # Others may use the machine as well.
        outputs, note = predict(x)
        microseconds = 1e6 * (process_time() - started) / len(x)
        metrics = {data.task.metric: data.task.score(outputs, y), **data.task.further(outputs, y)}
        record = {
            "key": key,
            "model": name,
            "metrics": metrics,
            "microseconds": microseconds,
            "samples": len(x),
            "note": note,
        }
        memo.add(record)
    return replace(point_of(record), predict=predict), known


def point_of(record: Mapping[str, Any]) -> ClassicalPoint:
    """Return the method of a record, which cannot be used on further samples."""
    values = (record[name] for name in ("metrics", "microseconds", "samples", "note", "key"))
    return ClassicalPoint(record["model"], record["model"].partition("[")[0], *values)


def _peaks(name: str, settings: ClassicalSettings, data: Development) -> Iterator[tuple[str, Predict]]:
    """Yield the one function of a method for peaks; its outputs are in units of the patch, as labels are."""
    yield name, partial(_centres, name, data.task.scale)


def _centres(name: str, scale: float, x: Array) -> tuple[Array, str]:
    patches = x[..., 0]
    if name == "centre_of_mass":
        return centre_of_mass(patches) / scale, ""
    centres, failed = pseudo_voigt(patches)
    return centres / scale, f"{failed} of {len(patches)} fits failed" if failed else ""


def _filters(name: str, settings: ClassicalSettings, data: Development) -> Iterator[tuple[str, Predict]]:
    assert isinstance(settings, FilterSettings)
    make = matched_filter if name == "matched_filter" else boxcar
    for start, length in _windows(settings, data.input_shape[0]):
        found = make(data.train.x, data.train.y, start, length)
        yield f"{name}[{start}:{start + length}]", partial(_filtered, found, name)


def _filtered(found: Filter, name: str, x: Array) -> tuple[Array, str]:
    length = len(found.weights)
    products = 2 * length if name == "matched_filter" else 2
    return found(x), f"{length} samples, {products} products"


def _windows(settings: FilterSettings, samples: int) -> list[tuple[int, int]]:
    lengths = settings.lengths or sorted({max(1, samples * part // 8) for part in (1, 2, 4, 8)})
    return [(start, length) for start, length in product(settings.starts, lengths) if start + length <= samples]


def _is_patch(shape: tuple[int, ...], task: Task) -> bool:
    return len(shape) == 3 and shape[2] == 1 and (task.kind, task.outputs) == ("regression", 2)


def _is_trace(shape: tuple[int, ...], task: Task) -> bool:
    return len(shape) == 2 and shape[1] == 2 and (task.kind, task.outputs) == ("classification", 2)


_PATCH = "patches (rows, columns, 1) with a regression of row and column"
_TRACE = "traces (samples, 2) of I and Q with a classification of two states"

#: Classical methods by name.
METHODS: Mapping[str, Method] = {
    "centre_of_mass": Method(_is_patch, _PATCH, _peaks),
    "pseudo_voigt": Method(_is_patch, _PATCH, _peaks),
    "matched_filter": Method(_is_trace, _TRACE, _filters),
    "boxcar": Method(_is_trace, _TRACE, _filters),
}


def outputs_of(point: ClassicalPoint, x: Array) -> Array:
    """Return the outputs of a method for samples, float32 (samples, outputs), not more than it is to be used on."""
    assert point.predict is not None, "a method of a folder that is only read has no outputs"
    return np.asarray(point.predict(x)[0], np.float32)


def best_of_each(points: Sequence[ClassicalPoint], task: Task) -> list[ClassicalPoint]:
    """Return the best point of each method by the metric on validation."""
    best: dict[str, ClassicalPoint] = {}
    for point in points:
        known = best.get(point.method)
        if known is None or task.better(point.metrics[task.metric], known.metrics[task.metric]):
            best[point.method] = point
    return list(best.values())
