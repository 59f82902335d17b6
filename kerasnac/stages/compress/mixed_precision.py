"""Mixed precision: a width of its own for every layer, searched from a point with the same widths everywhere."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from kerasnac.adapters.search.nsga2 import WORST, Nsga2, mutations
from kerasnac.core.data.dataset import Development, Task
from kerasnac.core.network.origin import CompressionOrigin, MixedOrigin
from kerasnac.core.network.origin import to_dict as origin_to_dict
from kerasnac.core.network.trained import Trained
from kerasnac.core.settings import CompressSettings, MixedSettings
from kerasnac.core.space.layer_bits import LayerBits, LayerBitsSpace
from kerasnac.core.space.search_space import Genome
from kerasnac.core.store.memo import Record
from kerasnac.core.store.progress import Step, working
from kerasnac.core.store.seeding import derive_seed
from kerasnac.core.store.stages import stage
from kerasnac.errors import ConfigError, MetricError, TrialError
from kerasnac.stages.compress.points import Point, known_points, made_point, points_to_json
from kerasnac.stages.compress.qat import quantized_training
from kerasnac.stages.compress.result import CompressResult
from kerasnac.stages.compress.sensitivity import Drops, MixedStart, width_space
from kerasnac.stages.context import Context

log = logging.getLogger("kerasnac")


@dataclass(frozen=True)
class PointJob:
    """One evaluation.

    Attributes:
        start: Where the search begins.
        widths: Of all layers.
        known: Record of an earlier evaluation.
    """

    start: MixedStart
    widths: LayerBits
    known: Record | None = None

    def key(self, data: Development) -> str:
        """Return the hash of all that decides the point."""
        return self.start.key(
            data,
            widths=dict(self.widths.by_layer),
            epochs=self.start.mixed.epochs,
            learning_rate=self.start.settings.learning_rate,
        )

    def name(self, data: Development) -> str:
        """Return the name of the point."""
        return f"{self.start.parent.name}-mixed-{self.key(data)[:8]}"


def mixed_precision(compressed: CompressResult, settings: CompressSettings, context: Context) -> CompressResult:
    """Search the widths of every layer with NSGA-II, for every model that was compressed.

    Objectives are the task metric and ``settings.cost``. A model's search starts at one of its points with the same widths
    everywhere, goes on with points on the way down from it, on which the layers that are least sensitive are narrowed first,
    and with mutations. Every candidate has its formats from the float model, starts with the trained weights of the
    starting point and is trained for some epochs, in which its zeros stay zeros.

    Everything is recorded in ``mixed.jsonl`` and the models are saved in ``compressed``. Calling again resumes: the
    algorithm is asked from the start and told what is recorded. One candidate is one task of the workers.

    Args:
        compressed: Points with the same widths everywhere.
        settings: Those of the compression; without its ``mixed``, nothing is done.
        context: Data, workers, folder, seed; progress is reported after every evaluation.

    Returns:
        All points, those of mixed precision last. Models that have no point to start from, or no width to change, are in
        ``mixed_refused``.

    Raises:
        TrialError: If a training raises: a bug.
    """
    mixed = settings.mixed
    if mixed is None:
        return compressed
    asked = {"points": [model.digest for model in compressed.models], "settings": settings.model_dump(mode="json")}
    asked |= {"parents": [parent.name for parent in compressed.parents], "floats": [p.digest for p in compressed.parents]}
    with stage(context.folder, "mixed", asked, progress=context.progress) as call:
        known = known_points(context.folder, call.known["points"]) if call.known else None
        if call.known and known is not None:
            points, refused = known, call.known["refused"]
        else:
            points, refused = _searched(compressed, settings, mixed, context)
        call.found.update(points=points_to_json(points), refused=refused)
    return replace(compressed.with_points(points), mixed_refused=refused)


def _searched(
    compressed: CompressResult, settings: CompressSettings, mixed: MixedSettings, context: Context
) -> tuple[tuple[Point, ...], dict[str, str]]:
    """Return the points of all models, and for models without, by their names, the reason."""
    points: list[Point] = []
    refused: dict[str, str] = {}
    task, total = context.data.task, mixed.evaluations * len(compressed.parents)
    for number, parent in enumerate(compressed.parents):

        def report(point: Point, known: bool, count: int, before: int = number * mixed.evaluations) -> None:
            model = point.model
            facts = {"model": model.name, "metrics": {**model.metrics, "bops": model.bops, **point.costs}, "known": known}
            text = f"{model.name}: {task.metric} {model.metrics[task.metric]:.4f} {task.metric_unit}".rstrip()
            context.progress(Step("mixed", before + count, total, text, "point", facts))

        try:
            (point,) = replace(compressed, parents=(parent,)).select(mixed.start)
            start = MixedStart(parent, point, settings, context.seed, context.folder)
            space, drops = width_space(start, context)
        except ConfigError as reason:
            log.warning("%s: no mixed precision: %s", parent.name, reason)
            refused[parent.name] = str(reason)
        else:
            points += _search(start, space, drops, context, report)
    return tuple(points), refused


def _first(start: MixedStart, space: LayerBitsSpace, drops: Drops, seed: int) -> list[Genome]:
    """Return the first generation: the starting point, points on the way down from it, and mutations of it."""
    size, genome = start.mixed.population, space.encode(start.widths)
    way = space.descent(start.widths, drops)
    steps = np.unique(np.linspace(0, len(way) - 1, min(len(way), size // 2)).round().astype(int))
    others = mutations(space, genome, size, seed=seed)
    return list(dict.fromkeys([genome, *(way[i] for i in steps), *others]))[:size]


def _search(
    start: MixedStart,
    space: LayerBitsSpace,
    drops: Drops,
    context: Context,
    report: Callable[[Point, bool, int], None],
) -> list[Point]:
    """Return all evaluations of a model, in the order in which they were asked for."""
    mixed, seed = start.mixed, derive_seed(start.seed, "mixed", start.point.name)
    initial = _first(start, space, drops, seed)
    algorithm = Nsga2(space, initial, size=mixed.population, objectives=2, constraints=1, seed=seed)
    points: list[Point] = []
    memo = start.memo(context.data.task)
    while len(points) < mixed.evaluations and (genomes := algorithm.ask()):
        asked = [PointJob(start, space.decode(genome)) for genome in genomes[: mixed.evaluations - len(points)]]
        jobs = [replace(job, known=memo.get(job.key(context.data))) for job in asked]
        made: dict[int, Point] = {}
        watch = working(context.progress, "mixed", [job.name(context.data) for job in jobs])
        for index, result in context.workers.map(evaluate_widths, jobs, watch=watch):
            made[index] = result
            report(result, jobs[index].known is not None, len(points) + len(made))
        points += (made[i] for i in range(len(jobs)))
        if len(jobs) == len(genomes):
            algorithm.tell(*_values([made[i] for i in range(len(jobs))], start.settings.cost, context.data.task))
    return points


def _values(points: Sequence[Point], cost: str, task: Task) -> tuple[Any, Any]:
    """Return losses and constraint violations for NSGA-II: a point keeps the one constraint if it has a metric and a cost."""
    sign = -1 if task.sense == "max" else 1
    losses = np.array(
        [[sign * p.model.metrics[task.metric], {"bops": p.model.bops, **p.costs}.get(cost, np.nan)] for p in points]
    )
    known = np.isfinite(losses).all(axis=1, keepdims=True)
    return np.where(known, losses, WORST), np.where(known, 0.0, 1.0)


def evaluate_widths(data: Development, job: PointJob) -> Point:
    """Train and save one candidate, or read the recorded one; runs in a worker.

    Raises:
        TrialError: Whatever a training raises is a bug, and is shown with the widths.
        ConversionError: If the observed ranges cannot be represented.
    """
    start, key = job.start, job.key(data)
    name = job.name(data)
    path = start.folder / "compressed" / name

    def train() -> tuple[Trained, dict[str, Any]]:
        model, record = _trained(data, job, key, name)
        model.save(path)
        return model, record

    return made_point(start.settings, job.known, find=lambda known: Trained.find(path), train=train, add=start.journal.append)


def _trained(data: Development, job: PointJob, key: str, name: str) -> tuple[Trained, dict[str, Any]]:
    from kerasnac.adapters.keras.pruning import fit_masked

    start = job.start
    training = quantized_training(start.parent, start.settings, start.mixed.epochs)
    seed = derive_seed(start.seed, "mixed", start.point.name, job.widths.id)
    quantized = start.quantized(data, job.widths)
    try:
        fit = fit_masked(quantized, data, training, seed=seed, start=start.point.weights)
    except MetricError:
        raise
    except Exception as error:
        raise TrialError(f"training {start.parent.name} with the widths {job.widths.id} failed: {error!r}") from error
    origin = MixedOrigin(
        parent=start.parent.name,
        start=start.point.name,
        iteration=start.point.origin_as(CompressionOrigin).iteration,
        widths=dict(job.widths.by_layer),
    )
    metrics = fit.recorded(data.task)
    model = Trained(name, quantized, fit.weights, training, metrics, seed, origin)
    costs = {"sparsity": model.sparsity, "bops": model.bops, "seconds": fit.seconds}
    return model, {"key": key, "model": name, **origin_to_dict(origin), **metrics, **costs}
