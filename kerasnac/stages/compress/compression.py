"""Compression: quantization-aware training with magnitude pruning, for every precision."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import cache, partial
from typing import Any, TypeVar

import numpy as np

from kerasnac.adapters.rtl.adder_graph import require_da4ml
from kerasnac.core.data.dataset import Development
from kerasnac.core.network import origin
from kerasnac.core.network.architecture import Architecture
from kerasnac.core.network.exactness import unsupported_reasons
from kerasnac.core.network.learned import check_learnable
from kerasnac.core.network.trained import Trained
from kerasnac.core.network.weights import fold
from kerasnac.core.settings import CompressSettings
from kerasnac.core.space.learnable import check_learnable_space
from kerasnac.core.space.search_space import SearchSpace
from kerasnac.core.store.memo import Memo, Record
from kerasnac.core.store.places import suffix
from kerasnac.core.store.progress import Step, working
from kerasnac.core.store.stages import stage
from kerasnac.errors import ConversionError
from kerasnac.stages.compress.learned import LearnedJob, LearnedProgress, compress_learned
from kerasnac.stages.compress.points import (
    NewPoints,
    Point,
    compress_memo,
    first_keys,
    found_model,
    known_points,
    made_point,
    points_to_json,
)
from kerasnac.stages.compress.qat import CompressJob, QatStart, target_below_quantization, train_point
from kerasnac.stages.compress.result import CompressResult
from kerasnac.stages.context import Context

Job = TypeVar("Job", CompressJob, LearnedJob)


def compress(models: Sequence[Trained], settings: CompressSettings, context: Context) -> CompressResult:
    """Train every model at every precision, and prune it step by step; or let it learn its widths.

    Every point is recorded in ``compress.jsonl`` and saved in ``compressed``; calling again resumes after the last one.
    One model at one precision is one task of the workers.

    Args:
        models: Float models.
        settings: Precisions, iterations, epochs.
        context: Data, workers, folder, seed; progress is reported about every second.

    Raises:
        ConversionError: If a model has a layer without exact firmware, which cannot be quantized as Keras computes it, or one
            whose widths cannot be learned, if they are to be; or weights that are not finite.
        EnvironmentProblem: If adder graphs are asked for and da4ml is missing.
    """
    for model in models:
        _check(model, settings)
    if settings.adder_graphs:
        require_da4ml()
    empty = CompressResult(
        (),
        tuple(models),
        context.data.task,
        settings.cost,
        settings.tolerance,
        one_front=settings.schedule in ("searched", "learned"),
    )
    if settings.schedule == "learned":
        ways = _placed([LearnedJob(model, settings, context.seed, context.folder) for model in models], context)
        return empty.with_points(_all_points(compress_learned, ways, LearnedProgress(ways, context), empty, context))
    jobs = [CompressJob(model, *bits, settings, context.seed, context.folder) for model in models for bits in settings.bits]
    jobs = _placed(jobs, context)
    return empty.with_points(_all_points(compress_one, jobs, _Progress(jobs, context), empty, context))


def _placed(jobs: Sequence[Job], context: Context) -> list[Job]:
    """Return jobs with the folders of their points; those that points with other settings have are left alone."""
    first = first_keys(compress_memo(context.folder, context.data.task))
    return [replace(job, suffix=suffix(first.get(job.stem) or job.begun, job.key(context.data))) for job in jobs]


def _all_points(
    task: Callable[[Development, Job], tuple[Point, ...]],
    jobs: Sequence[Job],
    report: Callable[[], None],
    empty: CompressResult,
    context: Context,
) -> list[Point]:
    """Return the points of all jobs in their order; workers make those that are not known."""
    asked = {
        "jobs": [job.key(context.data) for job in jobs],
        "parents": [parent.name for parent in empty.parents],
        "settings": jobs[0].settings.model_dump(mode="json") if jobs else {},
        **{name: getattr(empty, name) for name in ("cost", "tolerance", "one_front")},
    }
    given = jobs[0].settings.model_dump(mode="json", exclude_unset=True) if jobs else {}
    with stage(context.folder, "compress", asked, given, progress=context.progress) as call:
        known = [known_points(context.folder, points) for points in (call.known["jobs"] if call.known else ())]
        watch = working(context.progress, "compress", [job.name for job in jobs])
        results = context.results(task, jobs, known, tick=report, watch=watch)
        report()
        call.found["jobs"] = [points_to_json(points) for points in results]
    return [point for points in results for point in points]


class _Progress:
    """Reports how many points are recorded, whoever records them."""

    def __init__(self, jobs: Sequence[CompressJob], context: Context) -> None:
        self._context, self._jobs = context, {job.key(context.data): job for job in jobs}
        self._memo = compress_memo(context.folder, context.data.task)
        self._told = NewPoints(self._memo, tuple(self._jobs))

    def __call__(self) -> None:
        task = self._context.data.task
        self._memo.refresh()
        records = self._memo.all(*self._jobs)
        done: dict[str, dict[int, float]] = {key: {} for key in self._jobs}
        for record in records:
            done[record["key"]][record["iteration"]] = record[task.metric]
        lengths = {key: job.length(list(done[key].values()), task) for key, job in self._jobs.items()}
        count = sum(min(len(done[key]), length) for key, length in lengths.items())
        text = ""
        if records:
            last = records[-1]
            text = f"{last['model']}: {task.metric} {last[task.metric]:.4f} {task.metric_unit}".rstrip()
        for step in self._told(Step("compress", count, sum(lengths.values()), text)):
            self._context.progress(step)


def check_compress(settings: CompressSettings, space: SearchSpace, baselines: Sequence[Architecture]) -> None:
    """Check that any network of a run can be compressed, before it is trained.

    Args:
        settings: Settings of the compression.
        space: The candidates.
        baselines: Networks that are compressed besides.

    Raises:
        ConfigError: If widths are to be learned, and there is no network for which they can be.
        EnvironmentProblem: If adder graphs are asked for and da4ml is missing.
    """
    if settings.adder_graphs:
        require_da4ml()
    if settings.schedule == "learned":
        check_learnable_space(space, "compress", baselines)


def reason_against(model: Trained, settings: CompressSettings) -> str:
    """Return why a float model cannot be compressed, beginning with the name of the layer; empty if it can."""
    if reasons := unsupported_reasons(model.architecture):
        return reasons[0]
    if settings.schedule == "learned":
        try:
            check_learnable(fold(model.architecture.plain, model.weights)[0])
        except ConversionError as error:
            return str(error)
    return ""


def _check(model: Trained, settings: CompressSettings) -> None:
    if reason := reason_against(model, settings):
        remedy = "; declare firmware: exact in the space to avoid it" if unsupported_reasons(model.architecture) else ""
        raise ConversionError(f"{model.name} cannot be quantized: {reason}{remedy}")
    for key, array in model.weights.items():
        if not np.isfinite(array).all():
            raise ConversionError(
                f"{model.name} cannot be quantized: {key} holds NaN or infinity; train again, with a smaller learning rate"
            )


def compress_one(data: Development, job: CompressJob) -> tuple[Point, ...]:
    """Train all points of one model at one precision, or read those that are recorded; runs in a worker.

    Raises:
        TrialError: Whatever a training raises is a bug, and is shown with the architecture.
        ConversionError: If the observed ranges cannot be represented.
    """
    memo = compress_memo(job.folder, data.task)
    records = {record["iteration"]: record for record in memo.all(job.key(data))}
    twins = _twins(data, job, memo)
    start = cache(lambda: QatStart.of(data, job))
    points: list[Point] = []
    while len(points) < job.length([point.model.metrics[data.task.metric] for point in points], data.task):
        points.append(
            made_point(
                job.settings,
                records.get(len(points)),
                find=partial(found_model, job.path(job.point(len(points)))),
                train=lambda: (
                    _taken_over(data, job, twins, len(points)) or _new(data, job, start(), [point.model for point in points])
                ),
                add=memo.add,
                suffix=job.suffix,
            )
        )
    return tuple(points)


def _twins(data: Development, job: CompressJob, memo: Memo) -> dict[int, tuple[CompressJob, Record]]:
    """Return recorded points of the same weights, tuned with fewer trials, by their number."""
    found: dict[int, tuple[CompressJob, Record]] = {}
    first: Mapping[str, str] | None = None
    for twin in job.twins:
        records = memo.all(key := twin.key(data))
        if records:
            first = first or first_keys(memo)
            placed = replace(twin, suffix=suffix(first.get(job.stem), key))
            found = {record["iteration"]: (placed, record) for record in records} | found
    return found


def _taken_over(
    data: Development, job: CompressJob, twins: Mapping[int, tuple[CompressJob, Record]], number: int
) -> tuple[Trained, Record] | None:
    """Save the next point under its own key, with its record, if another job has trained it; None if none has."""
    if number not in twins:
        return None
    twin, record = twins[number]
    model = found_model(twin.path(job.point(number)), record)
    if model is None:
        return None
    model.save(job.path(model.name))
    return model, {**record, "key": job.key(data)}


def _new(data: Development, job: CompressJob, start: QatStart, before: Sequence[Trained]) -> tuple[Trained, dict[str, Any]]:
    """Train and save the next point; its record is not written yet."""
    model, seconds = train_point(data, job, start, before)
    model.save(job.path(model.name))
    costs = {"sparsity": model.sparsity, "bops": model.bops, "seconds": seconds}
    note = target_below_quantization(job, start, len(before))
    own = {"key": job.key(data), "model": model.name, **origin.to_dict(model.origin)}
    return model, {**own, **model.metrics, **costs, **({"note": note} if note else {})}
