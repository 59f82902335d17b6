"""Compression: quantization-aware training with magnitude pruning, for every precision."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from kerasnac.adapters.rtl.adder_graph import require_da4ml, trace
from kerasnac.adapters.search.nsga2 import nondominated
from kerasnac.adapters.workers import Workers
from kerasnac.core.data.dataset import Development, Task
from kerasnac.core.hardware.boards import board
from kerasnac.core.hardware.estimators import SOURCES
from kerasnac.core.network.architecture import Architecture
from kerasnac.core.network.exactness import obstacles
from kerasnac.core.network.quantization import check_representable
from kerasnac.core.network.trained import Trained
from kerasnac.core.network.training import Training
from kerasnac.core.network.weights import Weights, quantized_weights
from kerasnac.core.search.selection import Selection
from kerasnac.core.settings import CompressSettings
from kerasnac.core.store.journal import Journal
from kerasnac.core.store.keys import content_key, decisive
from kerasnac.core.store.progress import Progress, Step, silent
from kerasnac.core.store.seeding import derive_seed
from kerasnac.errors import ConfigError, ConversionError, TrialError

if TYPE_CHECKING:
    import pandas as pd

    from kerasnac.adapters.keras.train import Fit

log = logging.getLogger("kerasnac")

#: Settings that decide a point; the others say how many there are, and what else to record.
KEY_FIELDS = ("schedule", "rewind", "ranking", "prune_output", "epochs", "learning_rate", "clip_quantile")


@dataclass(frozen=True)
class CompressJob:
    """One model at one width.

    Attributes:
        model: Float, tuned.
        weight_bits: Width of the kernels.
        activation_bits: Width of the activations.
        settings: Iterations, epochs, fraction.
        seed: Seed of the run.
        folder: Run folder.
    """

    model: Trained
    weight_bits: int
    activation_bits: int
    settings: CompressSettings
    seed: int
    folder: Path

    @property
    def name(self) -> str:
        """Name of the quantized model, without the iteration and the way in which it is pruned."""
        return f"{self.model.name}-w{self.weight_bits}a{self.activation_bits}"

    @property
    def searched(self) -> Path | None:
        """Where the search left the model quantized, if that is to be the first point."""
        name = self.model.origin.get("searched")
        first = (self.weight_bits, self.activation_bits) == self.settings.bits[0]
        return self.folder / "searched" / name if name and first and self.settings.schedule == "searched" else None

    def path(self, point: str) -> Path:
        """Folder of a point; what is pruned in other ways than by default has names of its own."""
        settings = self.settings
        rewind = f"early{settings.rewind_epochs}" if settings.rewind == "early" else settings.rewind
        others = (way for way in (settings.schedule, rewind, settings.ranking) if way not in ("iterative", "start", "layer"))
        return self.folder / "compressed" / "-".join((self.name, *others, point))

    @property
    def widths(self) -> dict[str, int]:
        """Both widths by name."""
        return {"weight_bits": self.weight_bits, "activation_bits": self.activation_bits}

    @property
    def journal(self) -> Journal:
        """Where every point is recorded."""
        return Journal(self.folder / "compress.jsonl")

    def key(self, data: Development) -> str:
        """Hash of all that decides the points: only records with it are this job's."""
        # Other widths of the same run must not change the key: a list of widths can be extended later.
        settings = self.settings
        read = {"iterative": ["fraction"], "one_shot": ["sparsities"]}.get(settings.schedule, [])
        early = ["rewind_epochs"] if settings.rewind == "early" else []
        return content_key(
            "compress",
            model=self.model.identity,
            **self.widths,
            settings=decisive(settings, [*KEY_FIELDS, *read, *early]),
            seed=self.seed,
            data=data.fingerprint,
        )

    def length(self, metrics: Sequence[float], task: Task) -> int:
        """How many points there will be, as far as the metrics of the first ones tell."""
        settings, best, beyond = self.settings, self.model.metrics[task.metric], 0
        for count, metric in enumerate(metrics, start=1):
            beyond = 0 if tolerated(metric, best, settings.tolerance, task) else beyond + 1
            if beyond == settings.patience:
                return count
        return settings.steps + 1 + (self.searched is not None)


@dataclass(frozen=True)
class Point:
    """One compressed model, and what is known of it besides.

    Attributes:
        model: The model.
        costs: Of its adder graph, if asked for and if there is one.
        note: What is to be said: why there is no adder graph, why pruning changed nothing.
    """

    model: Trained
    costs: Mapping[str, float] = field(default_factory=dict)
    note: str = ""


@dataclass(frozen=True)
class CompressResult:
    """All compressed points: one per model, width and pruning iteration, and those of mixed precision.

    Attributes:
        models: The quantized, pruned models.
        parents: The tuned float models they come from.
        task: The task of the data.
        cost: The cost of the front and of rules that name none.
        tolerance: How much worse than its parent, relatively, a model on the front may be; None for any.
        costs: Model name -> costs of its adder graph, where there is one.
        notes: Model name -> what is to be said about it, where there is something.
        together: Whether rules pick from one front of all points: those of a search for widths and sparsities are one
            trade-off, of which every parent has a single point.
        unmixed: Parents without points of mixed precision though these were asked for, with the reason.
    """

    models: tuple[Trained, ...]
    parents: tuple[Trained, ...]
    task: Task
    cost: str = "bops"
    tolerance: float | None = None
    costs: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    notes: Mapping[str, str] = field(default_factory=dict)
    together: bool = False
    unmixed: Mapping[str, str] = field(default_factory=dict)

    @property
    def front(self) -> tuple[Trained, ...]:
        """Pareto front of validation metric and cost over all points that are within the tolerance."""
        return self._front([model for parent in self.parents for model in self._kept(parent)], self.cost)

    @property
    def excluded(self) -> dict[str, str]:
        """Parents without any point to select, with the reason."""
        return {p.name: self._reason(p, self.cost) for p in self.parents if not self._front(self._kept(p), self.cost)}

    def values(self, model: Trained) -> dict[str, float]:
        """All metrics and costs of a point."""
        own = {"bops": model.bops, "sparsity": model.sparsity, "parameters": model.architecture.parameters}
        return {**model.metrics, **own, **self.costs.get(model.name, {})}

    def select(self, *rules: str) -> tuple[Trained, ...]:
        """Points by the rules of :class:`kerasnac.core.search.selection.Selection`, without repeats.

        Rules pick for every parent, unless the points belong :attr:`together`.

        A rule picks from the front of the metric and its own cost, or :attr:`cost` if it has none. Parents that have no
        point within the tolerance, or none with this cost, are left out.

        Raises:
            ConfigError: If all parents are left out, saying what is closest, or if a rule picks nothing.
        """
        picked: list[Trained] = []
        reasons: list[str] = []
        for parents in [self.parents] if self.together else [(parent,) for parent in self.parents]:
            for rule in rules:
                selection = Selection.parse(rule)
                cost = selection.cost or self.cost
                if front := self._front([model for parent in parents for model in self._kept(parent)], cost):
                    names = {"metric": self.task.metric, "cost": cost}
                    picked += selection.pick(front, self.values, **names, sense=self.task.sense)
                else:
                    reasons += [self._reason(parent, cost) for parent in parents]
        if reasons and not picked:
            raise ConfigError("there is nothing to select: " + "; ".join(dict.fromkeys(reasons)))
        return tuple({model.name: model for model in picked}.values())

    def frame(self) -> pd.DataFrame:
        """One row per point: model, widths, sparsity, metric, costs, whether it is on the front."""
        import pandas as pd

        front = {model.name for model in self.front}
        rows = [
            {
                "model": model.name,
                **model.origin,
                "sparsity": model.sparsity,
                "bops": model.bops,
                "parameters": model.architecture.parameters,
                **model.metrics,
                **self.costs.get(model.name, {}),
                "front": model.name in front,
                **({"note": self.notes[model.name]} if model.name in self.notes else {}),
            }
            for model in self.models
        ]
        return pd.DataFrame(rows)

    def _kept(self, parent: Trained) -> list[Trained]:
        """The points of a parent that are within the tolerance."""
        own = [m for m in self.models if m.origin["parent"] == parent.name]
        best = parent.metrics[self.task.metric]
        return [m for m in own if tolerated(m.metrics[self.task.metric], best, self.tolerance, self.task)]

    def _front(self, models: Sequence[Trained], cost: str) -> tuple[Trained, ...]:
        sign = -1 if self.task.sense == "max" else 1
        known = [(model, values) for model in models if cost in (values := self.values(model))]
        losses = np.array([[sign * values[self.task.metric], values[cost]] for _, values in known])
        return tuple(known[i][0] for i in nondominated(losses))

    def _reason(self, parent: Trained, cost: str) -> str:
        """Why a parent has no point to select."""
        if kept := self._kept(parent):
            known, note = self.values(kept[0]), self.notes.get(kept[0].name)
            return f"no {cost!r} is recorded to select by; there are {', '.join(known)}" + (f" ({note})" if note else "")
        sign, metric = (-1 if self.task.sense == "max" else 1), self.task.metric
        own = [model for model in self.models if model.origin["parent"] == parent.name]
        if not own:
            return f"there is no compressed model of {parent.name}"
        closest = min(own, key=lambda model: np.nan_to_num(sign * model.metrics[metric], nan=np.inf))
        return (
            f"no compressed model of {parent.name} is within the tolerance of {self.tolerance:.3g} of its {metric}, "
            f"{parent.metrics[metric]:.4g}; the closest is {closest.name} with {closest.metrics[metric]:.4g}"
        )


def tolerated(metric: float, best: float, tolerance: float | None, task: Task) -> bool:
    """Whether a metric is at most so much worse, relatively, than another one; NaN never is."""
    if tolerance is None:
        return True
    sign = 1 if task.sense == "max" else -1
    return sign * metric >= sign * best - tolerance * abs(best)


def compress(
    models: Sequence[Trained],
    data: Development,
    settings: CompressSettings,
    *,
    workers: Workers,
    folder: Path,
    seed: int = 0,
    progress: Progress = silent,
) -> CompressResult:
    """Trains every model at every width, and prunes it step by step.

    Every point is recorded in ``folder/compress.jsonl`` and saved in ``folder/compressed``; calling again resumes
    after the last one.

    Args:
        models: Float models.
        data: Development data.
        settings: Widths, iterations, epochs.
        workers: Processes; one model at one width is one task.
        folder: Run folder.
        seed: Seed of the run.
        progress: Called about every second.

    Raises:
        ConversionError: If a model has a layer without exact firmware, which cannot be quantized as Keras computes it, or
            weights that are not finite.
        EnvironmentProblem: If adder graphs are asked for and da4ml is missing.
    """
    for model in models:
        _check(model)
    if settings.adder_graphs:
        require_da4ml()
    jobs = [CompressJob(model, *bits, settings, seed, folder) for model in models for bits in settings.bits]
    by_key = {job.key(data): job for job in jobs}
    metric = data.task.metric

    def tick() -> None:
        records = [r for r in Journal(folder / "compress.jsonl").records() if r["key"] in by_key]
        done: dict[str, dict[int, float]] = {key: {} for key in by_key}
        for record in records:
            done[record["key"]][record["iteration"]] = record[metric]
        lengths = {key: job.length(list(done[key].values()), data.task) for key, job in by_key.items()}
        count = sum(min(len(done[key]), length) for key, length in lengths.items())
        text = f"{records[-1]['model']}: {metric} {records[-1][metric]:.4f} {data.task.unit}".rstrip() if records else ""
        progress(Step("compress", count, sum(lengths.values()), text))

    results = dict(workers.map(compress_one, jobs, tick=tick))
    tick()
    points: list[Point] = [point for i in range(len(jobs)) for point in results[i]]
    return CompressResult(
        tuple(point.model for point in points),
        tuple(models),
        data.task,
        settings.cost,
        settings.tolerance,
        {point.model.name: point.costs for point in points if point.costs},
        {point.model.name: point.note for point in points if point.note},
        together=settings.schedule == "searched",
    )


def _check(model: Trained) -> None:
    if reasons := obstacles(model.architecture):
        raise ConversionError(
            f"{model.name} cannot be quantized: {reasons[0]}; declare firmware: exact in the space to avoid it"
        )
    for key, array in model.weights.items():
        if not np.isfinite(array).all():
            raise ConversionError(
                f"{model.name} cannot be quantized: {key} holds NaN or infinity; train again, with a smaller learning rate"
            )


def compress_one(data: Development, job: CompressJob) -> tuple[Point, ...]:
    """All iterations of one model at one width; runs in a worker.

    Raises:
        TrialError: Whatever a training raises is a bug, and is shown with the architecture.
        ConversionError: If the observed ranges cannot be represented.
    """
    key = job.key(data)
    records = {record["iteration"]: record for record in job.journal.records() if record["key"] == key}
    begin: Begin | None = None
    points: list[Point] = []
    while len(points) < job.length([point.model.metrics[data.task.metric] for point in points], data.task):
        known = records.get(len(points))
        model = _recorded(job, known) if known else None
        record = dict(known or {})
        if model is None:
            begin = begin or _begin(data, job)
            model, record = _new(data, job, key, begin, [point.model for point in points])
        record = costed(job.settings, model, record)
        if record != known:
            job.journal.append(record)
        points.append(point(job.settings, model, record))
    return tuple(points)


@dataclass(frozen=True)
class Begin:
    """Where quantization-aware training begins.

    Attributes:
        quantized: The network with its formats.
        weights: Those of the float model, norms folded.
    """

    quantized: Architecture
    weights: Weights


def _begin(data: Development, job: CompressJob) -> Begin:
    from kerasnac.adapters.keras.train import quantized_start

    model, clip_quantile = job.model, job.settings.clip_quantile
    quantized, weights = quantized_start(model.architecture, model.weights, data, **job.widths, clip_quantile=clip_quantile)
    check_representable(quantized)
    return Begin(quantized, weights)


def quantized_training(tuned: Training, settings: CompressSettings, epochs: int) -> Training:
    """Hyperparameters of quantization-aware training, from those of the float model."""
    rate = settings.learning_rate or tuned.learning_rate / 2
    return replace(tuned, epochs=epochs, patience=None, schedule="cosine", learning_rate=rate, data_fraction=1.0)


def _seed(job: CompressJob, iteration: int) -> int:
    return derive_seed(job.seed, "compress", job.name, iteration)


def _recorded(job: CompressJob, record: Mapping[str, Any]) -> Trained | None:
    """The model of a record; None if a call with other settings has saved its own in the same place since."""
    model = Trained.load(job.path(f"i{record['iteration']:02d}"))
    recorded = [record.get(name, np.nan) for name in model.metrics]
    return model if np.array_equal(recorded, list(model.metrics.values()), equal_nan=True) else None


def point(settings: CompressSettings, model: Trained, record: Mapping[str, Any]) -> Point:
    """A model with what its record says of it besides."""
    costs = {name: record[name] for name in SOURCES["adder_graph"] if name in record} if settings.adder_graphs else {}
    reason = record.get("reason", "") if settings.adder_graphs else ""
    return Point(model, costs, "; ".join(filter(None, (record.get("note", ""), reason))))


def _new(
    data: Development, job: CompressJob, key: str, begin: Begin, before: Sequence[Trained]
) -> tuple[Trained, dict[str, Any]]:
    """Trains and saves the next point; the record is not written yet."""
    iteration, training = len(before), quantized_training(job.model.training, job.settings, job.settings.epochs)
    path = job.path(f"i{iteration:02d}")
    origin, seconds = {"parent": job.model.name, **job.widths, "iteration": iteration}, 0.0
    if job.searched is not None and not before:
        model = replace(Trained.load(job.searched), name=path.name, origin=origin)
    else:
        fit = _train(data, job, begin, training, before)
        metrics, seconds = {data.task.metric: fit.metric, "loss": fit.loss}, fit.seconds
        model = Trained(path.name, begin.quantized, fit.weights, training, metrics, _seed(job, iteration), origin)
    model.save(path)
    costs = {"sparsity": model.sparsity, "bops": model.bops, "seconds": seconds}
    note = _note(job, begin, iteration)
    return model, {"key": key, "model": model.name, **origin, **model.metrics, **costs, **({"note": note} if note else {})}


def _note(job: CompressJob, begin: Begin, iteration: int) -> str:
    """What is to be said of a one-shot target below the zeros of quantization: it is trained, but prunes nothing else."""
    from kerasnac.adapters.keras.pruning import prunable

    if job.settings.schedule != "one_shot" or not iteration:
        return ""
    values = quantized_weights(begin.quantized, begin.weights)
    kernels = prunable(begin.quantized, values, prune_output=job.settings.prune_output)
    zeros = sum(int(np.sum(k == 0)) for k in kernels.values()) / max(1, sum(k.size for k in kernels.values()))
    target = job.settings.sparsity(iteration)
    if target >= zeros:
        return ""
    note = f"a sparsity of {target:g} is asked for, but {zeros:.3g} of these weights are zero from the quantization alone"
    log.warning("%s, iteration %d: %s", job.name, iteration, note)
    return note


def costed(settings: CompressSettings, model: Trained, record: Mapping[str, Any]) -> dict[str, Any]:
    """A record with the costs of the adder graph of the model's weights, if asked for, or the reason why there is none."""
    # The key is a hash of all that decides the costs of given weights.
    own = content_key("adder graph", board=settings.board, settings=settings.adder_graph.identity)
    if not settings.adder_graphs or record.get("adder_graph") == own:
        return dict(record)
    plain = {name: value for name, value in record.items() if name not in (*SOURCES["adder_graph"], "reason")}
    try:
        graph = trace(model.architecture, model.weights, effort=settings.adder_graph.effort)
    except ConversionError as reason:
        return {**plain, "adder_graph": own, "reason": str(reason)}
    return {**plain, "adder_graph": own, **graph.costs(settings.adder_graph.latency_cutoff, board(settings.board).lut)}


def _train(data: Development, job: CompressJob, begin: Begin, training: Training, before: Sequence[Trained]) -> Fit:
    try:
        return _fit(data, job, begin, training, before)
    except Exception as error:
        raise TrialError(f"compressing [{begin.quantized}], {job.name}, iteration {len(before)} failed: {error!r}") from error


def _fit(data: Development, job: CompressJob, begin: Begin, training: Training, before: Sequence[Trained]) -> Fit:
    from kerasnac.adapters.keras.pruning import fit_gradually, fit_pruned, fit_unpruned, prunable, targets
    from kerasnac.adapters.keras.train import fit

    settings, iteration = job.settings, len(before)
    seed, sparsity, early = _seed(job, iteration), settings.sparsity(iteration), job.path("rewind")
    if not before and settings.rewind == "early":
        trained, weights = fit_unpruned(
            begin.quantized, data, training, seed=seed, start=begin.weights, remember=settings.rewind_epochs
        )
        origin = {"parent": job.model.name, **job.widths, "epochs": settings.rewind_epochs}
        Trained(early.name, begin.quantized, weights, training, {}, seed, origin).save(early)
        return trained
    if settings.schedule == "searched" and (fractions := begin.quantized.sparsities):
        return fit_gradually(begin.quantized, data, training, seed=seed, start=begin.weights, fractions=fractions)
    if not before:
        return fit(begin.quantized, data, training, seed=seed, weights=begin.weights)
    if settings.schedule == "one_shot":
        # The unpruned training says which layers can do without how many weights.
        kernels = prunable(begin.quantized, before[0].weights, prune_output=settings.prune_output)
        fractions = targets(kernels, sparsity, settings.ranking)
        return fit_gradually(begin.quantized, data, training, seed=seed, start=begin.weights, fractions=fractions)
    trained_weights = before[-1].weights
    rewind = {
        "start": lambda: begin.weights,
        "early": lambda: Trained.load(early).weights,
        "keep": lambda: trained_weights,
    }[settings.rewind]()
    return fit_pruned(
        begin.quantized,
        data,
        training,
        seed=seed,
        trained=trained_weights,
        rewind=rewind,
        sparsity=sparsity,
        prune_output=settings.prune_output,
        ranking=settings.ranking,
    )
