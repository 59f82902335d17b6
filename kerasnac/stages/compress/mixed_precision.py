"""Mixed precision: a width of its own for every layer, searched from a point with the same widths everywhere."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from kerasnac.adapters.search.nsga2 import UNKNOWN, Nsga2, mutations
from kerasnac.adapters.workers import Workers
from kerasnac.core.data.dataset import Development
from kerasnac.core.network.architecture import Architecture
from kerasnac.core.network.quantization import check_representable
from kerasnac.core.network.trained import Trained
from kerasnac.core.settings import CompressSettings, MixedSettings
from kerasnac.core.space.search_space import Genome
from kerasnac.core.space.widths import Widths, WidthSpace, has_kernel, layer_widths, with_widths
from kerasnac.core.store.journal import Journal
from kerasnac.core.store.keys import content_key
from kerasnac.core.store.progress import Progress, Step, silent
from kerasnac.core.store.seeding import derive_seed
from kerasnac.errors import ConfigError, TrialError
from kerasnac.stages.compress.compression import CompressResult, Point, costed, point, quantized_training, tolerated

log = logging.getLogger("kerasnac")

#: Validation samples on which the sensitivity of a layer is measured.
SENSITIVITY_SAMPLES = 4096


@dataclass(frozen=True)
class Begin:
    """Where the search for the widths of a model begins.

    Attributes:
        parent: Float, tuned.
        start: Its quantized point with the same widths everywhere.
        settings: Of the compression; its ``mixed`` must be given.
        seed: Seed of the run.
        folder: Run folder.
    """

    parent: Trained
    start: Trained
    settings: CompressSettings
    seed: int
    folder: Path

    @property
    def mixed(self) -> MixedSettings:
        """Settings of the search."""
        assert self.settings.mixed is not None
        return self.settings.mixed

    @property
    def widths(self) -> dict[str, int]:
        """Width of every layer of the starting point."""
        return layer_widths(self.parent.architecture, **self._bits)

    @property
    def _bits(self) -> dict[str, int]:
        return {name: self.start.origin[name] for name in ("weight_bits", "activation_bits")}

    @property
    def journal(self) -> Journal:
        """Where everything is recorded."""
        return Journal(self.folder / "mixed.jsonl")

    def key(self, data: Development, **parts: object) -> str:
        """Hash of all that decides what is computed for the ``parts``."""
        return content_key(
            "mixed",
            parent=self.parent.identity,
            start=self.start.identity,
            sparsity=self.start.sparsity,
            clip_quantile=self.settings.clip_quantile,
            seed=self.seed,
            data=data.fingerprint,
            **parts,
        )

    def recorded(self, key: str) -> dict[str, Any] | None:
        """The last record with a key."""
        return next((record for record in reversed(self.journal.records()) if record["key"] == key), None)

    def quantized(self, data: Development, widths: Widths) -> Architecture:
        """The network with formats of these widths, as the starting point has them for its own."""
        from kerasnac.adapters.keras.train import quantized_start

        own = with_widths(self.parent.architecture, dict(widths.by_layer))
        quantized, _ = quantized_start(own, self.parent.weights, data, **self._bits, clip_quantile=self.settings.clip_quantile)
        check_representable(quantized)
        return quantized


@dataclass(frozen=True)
class LayerJob:
    """The sensitivity of one layer.

    Attributes:
        begin: Where the search begins.
        layer: Name of the layer.
        choices: Widths to choose from, ascending, that of the starting point included.
    """

    begin: Begin
    layer: str
    choices: tuple[int, ...]


@dataclass(frozen=True)
class PointJob:
    """One evaluation.

    Attributes:
        begin: Where the search begins.
        widths: Of all layers.
    """

    begin: Begin
    widths: Widths

    def key(self, data: Development) -> str:
        """Hash of all that decides the point."""
        return self.begin.key(
            data,
            widths=dict(self.widths.by_layer),
            epochs=self.begin.mixed.epochs,
            learning_rate=self.begin.settings.learning_rate,
        )


def mixed_precision(
    compressed: CompressResult,
    data: Development,
    settings: CompressSettings,
    *,
    workers: Workers,
    folder: Path,
    seed: int = 0,
    progress: Progress = silent,
) -> CompressResult:
    """Searches the widths of every layer with NSGA-II, for every model that was compressed.

    Objectives are the task metric and ``settings.cost``. A model's search begins at one of its points with the same widths
    everywhere, goes on with points on the way down from it, on which the layers that are least sensitive are narrowed first,
    and with mutations. Every candidate has its formats from the float model, begins with the trained weights
    of the starting point and is trained for some epochs, in which its zeros stay zeros.

    Everything is recorded in ``folder/mixed.jsonl`` and the models saved in ``folder/compressed``. Calling again resumes:
    the algorithm is asked from the start and told what is recorded.

    Args:
        compressed: Points with the same widths everywhere.
        data: Development data.
        settings: Those of the compression; without its ``mixed``, nothing is done.
        workers: Processes; one candidate is one task.
        folder: Run folder.
        seed: Seed of the run.
        progress: Called after every evaluation.

    Returns:
        All points, those of mixed precision last. Models that have no point to begin with, or no width to change, are in
        ``unmixed``.

    Raises:
        TrialError: If a training raises: a bug.
    """
    mixed = settings.mixed
    if mixed is None:
        return compressed
    points: list[Point] = []
    unmixed: dict[str, str] = {}
    metric, total = data.task.metric, mixed.evaluations * len(compressed.parents)
    for number, parent in enumerate(compressed.parents):

        def report(model: Trained, count: int, before: int = number * mixed.evaluations) -> None:
            text = f"{model.name}: {metric} {model.metrics[metric]:.4f} {data.task.unit}".rstrip()
            progress(Step("mixed", before + count, total, text))

        try:
            (start,) = replace(compressed, parents=(parent,)).select(mixed.start)
            begin = Begin(parent, start, settings, seed, folder)
            space, drops = _space(begin, data, workers)
        except ConfigError as reason:
            log.warning("%s: no mixed precision: %s", parent.name, reason)
            unmixed[parent.name] = str(reason)
        else:
            points += _search(begin, space, drops, data, workers, report)
    return replace(
        compressed,
        models=(*compressed.models, *(p.model for p in points)),
        costs={**compressed.costs, **{p.model.name: p.costs for p in points if p.costs}},
        notes={**compressed.notes, **{p.model.name: p.note for p in points if p.note}},
        unmixed=unmixed,
    )


#: How much worse the metric is, relatively, with a layer of a width: by layer name and width.
Drops = Mapping[tuple[str, int], float]


def _space(begin: Begin, data: Development, workers: Workers) -> tuple[WidthSpace, Drops]:
    """The widths that the layers may have, without those that cost too much of the metric alone, and what they cost.

    Raises:
        ConfigError: If no layer has a choice.
    """
    mixed, own = begin.mixed, begin.widths
    jobs = []
    for node in begin.parent.architecture.nodes:
        if node.name in own:
            asked = mixed.weight_bits if has_kernel(node) else mixed.activation_bits
            jobs.append(LayerJob(begin, node.name, tuple(sorted({*asked, own[node.name]}))))
    measured = dict(workers.map(sensitivity, jobs))
    space = WidthSpace(tuple((job.layer, tuple(measured[i])) for i, job in enumerate(jobs)))
    if not space.genes:
        raise ConfigError(
            f"no layer of {begin.start.name} may have another width: give mixed other weight_bits or activation_bits, or a "
            f"max_drop above {mixed.max_drop:g}"
        )
    return space, {(job.layer, bits): drop for i, job in enumerate(jobs) for bits, drop in measured[i].items()}


def sensitivity(data: Development, job: LayerJob) -> dict[int, float]:
    """How much worse the metric is, relatively and untrained, with a layer of other widths; runs in a worker.

    Returns:
        Width -> loss of the metric, ascending: 0 for those not below that of the starting point. Widths that lose too
        much are left out.
    """
    from kerasnac.adapters.keras.train import predict

    begin, validation = job.begin, data.validation
    own, limit = begin.widths, begin.mixed.max_drop
    key = begin.key(data, layer=job.layer, choices=job.choices, max_drop=limit)
    record = begin.recorded(key)
    if record is None:
        x, y = validation.x[:SENSITIVITY_SAMPLES], validation.y[:SENSITIVITY_SAMPLES]

        def metric(architecture: Architecture) -> float:
            return float(data.task.score(predict(architecture, begin.start.weights, x), y))

        best = metric(begin.start.architecture)
        measured: dict[int, float] = {}
        kept = [bits for bits in job.choices if bits >= own[job.layer]]
        for bits in reversed([bits for bits in job.choices if bits < own[job.layer]]):
            measured[bits] = metric(begin.quantized(data, Widths(tuple((own | {job.layer: bits}).items()))))
            if not tolerated(measured[bits], best, limit, data.task):
                break  # What is narrower still is not better.
            kept.append(bits)
        record = {
            "key": key,
            "parent": begin.parent.name,
            "from": begin.start.name,
            "layer": job.layer,
            "metric": best,
            "lowered": {str(bits): value for bits, value in measured.items()},
            "kept": sorted(kept),
        }
        begin.journal.append(record)
    sign, before = (1 if data.task.sense == "max" else -1), record["metric"]
    lowered = {int(bits): sign * (before - value) / max(abs(before), 1e-12) for bits, value in record["lowered"].items()}
    return {bits: lowered.get(bits, 0.0) for bits in record["kept"]}


def _first(begin: Begin, space: WidthSpace, drops: Drops, seed: int) -> list[Genome]:
    """The first generation: the starting point, points on the way down from it, and mutations of it."""
    size, start = begin.mixed.population, space.encode(begin.widths)
    way = space.descent(begin.widths, drops)
    steps = np.unique(np.linspace(0, len(way) - 1, min(len(way), size // 2)).round().astype(int))
    others = mutations(space, start, size, seed=seed)
    return list(dict.fromkeys([start, *(way[i] for i in steps), *others]))[:size]


def _search(
    begin: Begin,
    space: WidthSpace,
    drops: Drops,
    data: Development,
    workers: Workers,
    report: Callable[[Trained, int], None],
) -> list[Point]:
    """All evaluations of a model, in the order in which they were asked for."""
    mixed, seed = begin.mixed, derive_seed(begin.seed, "mixed", begin.start.name)
    initial = _first(begin, space, drops, seed)
    algorithm = Nsga2(space, initial, size=mixed.population, objectives=2, constraints=1, seed=seed)
    points: list[Point] = []
    while len(points) < mixed.evaluations and (genomes := algorithm.ask()):
        jobs = [PointJob(begin, space.decode(genome)) for genome in genomes[: mixed.evaluations - len(points)]]
        made: dict[int, Point] = {}
        for index, result in workers.map(evaluate_widths, jobs):
            made[index] = result
            report(result.model, len(points) + len(made))
        points += (made[i] for i in range(len(jobs)))
        if len(jobs) == len(genomes):
            algorithm.tell(*_values([made[i] for i in range(len(jobs))], begin.settings.cost, data))
    return points


def _values(points: Sequence[Point], cost: str, data: Development) -> tuple[Any, Any]:
    """Losses and constraint violations for NSGA-II: a point keeps the one constraint if it has a metric and a cost."""
    sign = -1 if data.task.sense == "max" else 1
    losses = np.array(
        [[sign * p.model.metrics[data.task.metric], {"bops": p.model.bops, **p.costs}.get(cost, np.nan)] for p in points]
    )
    known = np.isfinite(losses).all(axis=1, keepdims=True)
    return np.where(known, losses, UNKNOWN), np.where(known, 0.0, 1.0)


def evaluate_widths(data: Development, job: PointJob) -> Point:
    """Trains and saves one candidate, or reads what is recorded of it; runs in a worker.

    Raises:
        TrialError: Whatever a training raises is a bug, and is shown with the widths.
        ConversionError: If the observed ranges cannot be represented.
    """
    begin, key = job.begin, job.key(data)
    name = f"{begin.parent.name}-mixed-{key[:8]}"
    path = begin.folder / "compressed" / name
    known = begin.recorded(key)
    if known:
        model, record = Trained.load(path), known
    else:
        model, record = _trained(data, job, key, name)
        model.save(path)
    record = costed(begin.settings, model, record)
    if record != known:
        begin.journal.append(record)
    return point(begin.settings, model, record)


def _trained(data: Development, job: PointJob, key: str, name: str) -> tuple[Trained, dict[str, Any]]:
    from kerasnac.adapters.keras.pruning import fit_masked

    begin = job.begin
    training = quantized_training(begin.parent.training, begin.settings, begin.mixed.epochs)
    seed = derive_seed(begin.seed, "mixed", begin.start.name, job.widths.id)
    quantized = begin.quantized(data, job.widths)
    try:
        fit = fit_masked(quantized, data, training, seed=seed, start=begin.start.weights)
    except Exception as error:
        raise TrialError(f"training {begin.parent.name} with the widths {job.widths.id} failed: {error!r}") from error
    origin = {
        "parent": begin.parent.name,
        "from": begin.start.name,
        "iteration": begin.start.origin["iteration"],
        "widths": dict(job.widths.by_layer),
    }
    metrics = {data.task.metric: fit.metric, "loss": fit.loss}
    model = Trained(name, quantized, fit.weights, training, metrics, seed, origin)
    costs = {"sparsity": model.sparsity, "bops": model.bops, "seconds": fit.seconds}
    return model, {"key": key, "model": name, **origin, **metrics, **costs}
