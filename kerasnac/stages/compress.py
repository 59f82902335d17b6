"""Compression: quantization-aware training with iterative magnitude pruning."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from kerasnac.adapters.nsga2 import nondominated
from kerasnac.adapters.workers import Workers
from kerasnac.core.architecture import Architecture
from kerasnac.core.data import Development, Task
from kerasnac.core.exactness import obstacles
from kerasnac.core.journal import Journal
from kerasnac.core.progress import Progress, Step, silent
from kerasnac.core.seeding import derive_seed, digest
from kerasnac.core.selection import Selection
from kerasnac.core.settings import CompressSettings
from kerasnac.core.trained import Trained
from kerasnac.core.training import Training
from kerasnac.core.weights import Weights
from kerasnac.errors import ConversionError, TrialError

if TYPE_CHECKING:
    import pandas as pd

    from kerasnac.adapters.keras.train import Fit


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
        """Name of the quantized model, without the iteration."""
        return f"{self.model.name}-w{self.weight_bits}a{self.activation_bits}"

    @property
    def journal(self) -> Journal:
        """Where every point is recorded."""
        return Journal(self.folder / "compress.jsonl")

    def key(self, data: Development) -> str:
        """Hash of all that decides the points: only records with it are this job's."""
        # Other widths of the same run must not change the key: a list of widths can be extended later.
        shared = self.settings.model_dump(exclude={"bits"})
        return digest(self.model, self.weight_bits, self.activation_bits, sorted(shared.items()), self.seed, data.fingerprint)


@dataclass(frozen=True)
class CompressResult:
    """All compressed points: one per model, width and pruning iteration.

    Attributes:
        models: The quantized, pruned models.
        parents: The tuned float models they come from.
        task: The task of the data.
    """

    models: tuple[Trained, ...]
    parents: tuple[Trained, ...]
    task: Task

    @property
    def front(self) -> tuple[Trained, ...]:
        """Pareto front of validation metric and BOPs over all points."""
        return self._front(self.models)

    def select(self, *rules: str) -> tuple[Trained, ...]:
        """Points by the rules of :class:`kerasnac.core.selection.Selection`, for every parent, without repeats."""
        picked = [
            Selection.parse(rule).pick(self._front(own), _values, metric=self.task.metric, cost="bops", sense=self.task.sense)
            for parent in self.parents
            for rule in rules
            if (own := [m for m in self.models if m.origin["parent"] == parent.name])
        ]
        return tuple({model.name: model for model in picked}.values())

    def frame(self) -> pd.DataFrame:
        """One row per point: model, widths, sparsity, metric, BOPs, whether it is on the front."""
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
                "front": model.name in front,
            }
            for model in self.models
        ]
        return pd.DataFrame(rows)

    def _front(self, models: Sequence[Trained]) -> tuple[Trained, ...]:
        sign = -1 if self.task.sense == "max" else 1
        losses = np.array([[sign * m.metrics[self.task.metric], m.bops] for m in models])
        return tuple(models[i] for i in nondominated(losses))


def _values(model: Trained) -> dict[str, float]:
    return {**model.metrics, "bops": model.bops, "sparsity": model.sparsity, "parameters": model.architecture.parameters}


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
        ConversionError: If a model has a layer without exact firmware: it cannot be quantized as Keras computes it.
    """
    for model in models:
        if reasons := obstacles(model.architecture):
            raise ConversionError(
                f"{model.name} cannot be quantized: {reasons[0]}; declare firmware: exact in the space to avoid it"
            )
    jobs = [CompressJob(model, *bits, settings, seed, folder) for model in models for bits in settings.bits]
    keys = {job.key(data) for job in jobs}

    def tick() -> None:
        records = [r for r in Journal(folder / "compress.jsonl").records() if r["key"] in keys]
        text = (
            f"{records[-1]['model']}: {data.task.metric} {records[-1][data.task.metric]:.4f} {data.task.unit}".rstrip()
            if records
            else ""
        )
        progress(Step("compress", len(records), len(jobs) * (settings.iterations + 1), text))

    results = dict(workers.map(compress_one, jobs, tick=tick))
    tick()
    return CompressResult(tuple(m for i in range(len(jobs)) for m in results[i]), tuple(models), data.task)


def compress_one(data: Development, job: CompressJob) -> tuple[Trained, ...]:
    """All iterations of one model at one width; runs in a worker.

    Raises:
        TrialError: Whatever a training raises is a bug, and is shown with the architecture.
    """
    from kerasnac.adapters.keras.train import quantized_start

    key, settings = job.key(data), job.settings
    known = {record["iteration"] for record in job.journal.records() if record["key"] == key}
    folders = [job.folder / "compressed" / f"{job.name}-i{iteration:02d}" for iteration in range(settings.iterations + 1)]
    if len(known) == len(folders):
        return tuple(map(Trained.load, folders))
    widths = {"weight_bits": job.weight_bits, "activation_bits": job.activation_bits}
    quantized, start = quantized_start(
        job.model.architecture, job.model.weights, data, **widths, saturation=settings.saturation
    )
    rate = settings.learning_rate or job.model.training.learning_rate / 2
    training = replace(
        job.model.training, epochs=settings.epochs, patience=None, schedule="cosine", learning_rate=rate, data_fraction=1.0
    )
    points: list[Trained] = []
    for iteration, folder in enumerate(folders):
        if iteration in known:
            points.append(Trained.load(folder))
            continue
        fit = _train(data, job, quantized, start, training, points[-1] if points else None, iteration)
        origin = {"parent": job.model.name, **widths, "iteration": iteration}
        metrics = {data.task.metric: fit.metric, "loss": fit.loss}
        point = Trained(folder.name, quantized, fit.weights, training, metrics, _seed(job, iteration), origin)
        point.save(folder)
        costs = {"sparsity": point.sparsity, "bops": point.bops, "seconds": fit.seconds}
        job.journal.append({"key": key, "model": point.name, **origin, **metrics, **costs})
        points.append(point)
    return tuple(points)


def _seed(job: CompressJob, iteration: int) -> int:
    return derive_seed(job.seed, "compress", job.name, iteration)


def _train(
    data: Development,
    job: CompressJob,
    quantized: Architecture,
    start: Weights,
    training: Training,
    before: Trained | None,
    iteration: int,
) -> Fit:
    from kerasnac.adapters.keras.train import fit
    from kerasnac.adapters.pruning import fit_pruned

    seed, settings = _seed(job, iteration), job.settings
    try:
        if before is None:
            return fit(quantized, data, training, seed=seed, weights=start)
        return fit_pruned(
            quantized,
            data,
            training,
            seed=seed,
            trained=before.weights,
            rewind=start,
            sparsity=1 - (1 - settings.fraction) ** iteration,
            prune_output=settings.prune_output,
        )
    except Exception as error:
        raise TrialError(f"compressing [{quantized}], {job.name}, iteration {iteration} failed: {error!r}") from error
