"""Quantization-aware training of one compressed point."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from kerasnac.core.data.dataset import Development, Task
from kerasnac.core.network.architecture import Architecture
from kerasnac.core.network.origin import CompressionOrigin, RewindOrigin, TuningOrigin
from kerasnac.core.network.quantization import check_representable
from kerasnac.core.network.trained import Trained
from kerasnac.core.network.training import Training
from kerasnac.core.network.weights import Weights, quantized_weights
from kerasnac.core.network.widths import Width, Widths
from kerasnac.core.settings import CompressSettings
from kerasnac.core.store.keys import content_key, decisive
from kerasnac.core.store.seeding import derive_seed
from kerasnac.errors import EnvironmentProblem, MetricError, RunError, TrialError
from kerasnac.stages.compress.result import tolerated

if TYPE_CHECKING:
    from kerasnac.adapters.keras.member import Fit

log = logging.getLogger("kerasnac")

#: Settings that decide a point; the others say how many there are, and what else to record.
KEY_FIELDS = ("schedule", "rewind", "ranking", "prune_output", "epochs", "learning_rate", "clip_quantile", "tie_free")


@dataclass(frozen=True)
class CompressJob:
    """One float model at one precision, with all its pruning iterations.

    Attributes:
        model: Float, tuned.
        weight_bits: Width of the kernels.
        activation_bits: Width of the activations.
        settings: Iterations, epochs, fraction.
        seed: Seed of the run.
        folder: Run folder.
        suffix: What the names of the points' folders end with, see :mod:`kerasnac.core.store.places`.
    """

    model: Trained
    weight_bits: Width
    activation_bits: int
    settings: CompressSettings
    seed: int
    folder: Path
    suffix: str = ""

    @property
    def name(self) -> str:
        """Name of the quantized model, without the iteration and the way in which it is pruned."""
        if isinstance(self.weight_bits, str):
            return f"{self.model.name}-{self.weight_bits}-a{self.activation_bits}"
        return f"{self.model.name}-w{self.weight_bits}a{self.activation_bits}"

    @property
    def searched(self) -> Path | None:
        """Folder of the quantized model that the search trained, if it is to be the first point."""
        origin, first = self.model.origin, (self.weight_bits, self.activation_bits) == self.settings.bits[0]
        if not (isinstance(origin, TuningOrigin) and origin.searched and first and self.settings.schedule == "searched"):
            return None
        return self.folder / "searched" / origin.searched

    @property
    def stem(self) -> str:
        """Name of all points; those that are pruned in another way than by default have names of their own."""
        settings = self.settings
        rewind = f"early{settings.rewind_epochs}" if settings.rewind == "early" else settings.rewind
        others = (way for way in (settings.schedule, rewind, settings.ranking) if way not in ("iterative", "start", "layer"))
        return "-".join((self.name, *others))

    def point(self, number: int) -> str:
        """Return the name of a point."""
        return f"{self.stem}-i{number:02d}"

    def path(self, name: str) -> Path:
        """Return the folder of a point, or of the early weights."""
        return self.folder / "compressed" / f"{name}{self.suffix}"

    @property
    def begun(self) -> None:
        """Key of a training whose state has the plain name: none is kept, only whole points."""
        return None

    @property
    def early(self) -> str:
        """Name of the early weights."""
        return f"{self.stem}-rewind"

    @property
    def widths(self) -> Widths:
        """Both widths by name."""
        return {"weight_bits": self.weight_bits, "activation_bits": self.activation_bits}

    def key(self, data: Development) -> str:
        """Return the hash of all that decides the points: only records with it are this job's."""
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

    @property
    def twins(self) -> Iterator[CompressJob]:
        """Jobs of the same weights, tuned with fewer trials: they have the same points, under other keys."""
        if isinstance(tuned := self.model.origin, TuningOrigin):
            for count in reversed(range(1, len(tuned.trials))):
                yield replace(self, model=replace(self.model, origin=replace(tuned, trials=tuned.trials[:count])))

    def length(self, metrics: Sequence[float], task: Task) -> int:
        """Return how many points there will be, as far as the metrics of the first ones tell."""
        settings, best, beyond = self.settings, self.model.metrics[task.metric], 0
        for count, metric in enumerate(metrics, start=1):
            beyond = 0 if tolerated(metric, best, settings.tolerance, task) else beyond + 1
            if beyond == settings.patience:
                return count
        return (settings.steps if self._prunes else 0) + 1 + (self.searched is not None)

    @property
    def _prunes(self) -> bool:
        """True if any kernel can be pruned: a binary one has no zeros."""
        nodes = self.model.architecture.nodes
        kernels = [node.layer for node in nodes if any(weight.prunable for weight in node.weights.values())]
        pruned = kernels if self.settings.prune_output else kernels[:-1]
        return not pruned or any(not layer.binary(self.weight_bits) for layer in pruned)


@dataclass(frozen=True)
class QatStart:
    """Start of all quantization-aware trainings of a job.

    Attributes:
        network: The network with its formats.
        weights: Weights of the float model, norms folded.
    """

    network: Architecture
    weights: Weights

    @classmethod
    def of(cls, data: Development, job: CompressJob) -> QatStart:
        """Give a float model its formats.

        Raises:
            ConversionError: If the observed ranges cannot be represented.
        """
        from kerasnac.adapters.keras.train import quantized_start

        model, settings = job.model, job.settings
        network, weights = quantized_start(
            model.architecture,
            model.weights,
            data,
            **job.widths,
            clip_quantile=settings.clip_quantile,
            tie_free=settings.tie_free,
        )
        check_representable(network)
        return cls(network, weights)


#: Parts of the tuned learning rate with which quantization-aware training begins: of networks with layer norms, and of others.
#: A norm does not see the scale of what it reads, so that large steps let the weights before it grow beyond its formats: the
#: NAC base network ended at 0.63 px with half of the rate, and at 0.147 px with a tenth.
RATE_WITH_NORMS, RATE = 0.1, 0.5


def quantized_training(model: Trained, settings: CompressSettings, epochs: int) -> Training:
    """Return the hyperparameters of quantization-aware training, from those of the float model."""
    tuned, norms = model.training, any(layer.kind == "layer_norm" for layer in model.architecture.layers)
    rate = settings.learning_rate or tuned.learning_rate * (RATE_WITH_NORMS if norms else RATE)
    return replace(tuned, epochs=epochs, patience=None, schedule="cosine", learning_rate=rate, data_fraction=1.0)


def train_point(data: Development, job: CompressJob, start: QatStart, before: Sequence[Trained]) -> tuple[Trained, float]:
    """Train the point that follows some others.

    Args:
        data: Development data.
        job: What the points are of.
        start: Where trainings start.
        before: The points before it, unpruned first.

    Returns:
        The model, and the seconds that its training took; none if the search has trained it.

    Raises:
        TrialError: Whatever a training raises is a bug, and is shown with the architecture.
    """
    iteration, training = len(before), quantized_training(job.model, job.settings, job.settings.epochs)
    name, origin = job.point(iteration), CompressionOrigin(job.model.name, **job.widths, iteration=iteration)
    if job.searched is not None and not before:
        return replace(Trained.load(job.searched), name=name, origin=origin), 0.0
    try:
        fit = _fit(data, job, start, training, before)
    except (EnvironmentProblem, RunError, MetricError):
        raise  # Early weights could not be saved, or a function of the user failed.
    except Exception as error:
        raise TrialError(f"compressing [{start.network}], {job.name}, iteration {iteration} failed: {error!r}") from error
    metrics = fit.recorded(data.task)
    return Trained(name, start.network, fit.weights, training, metrics, _seed(job, iteration), origin), fit.seconds


def target_below_quantization(job: CompressJob, start: QatStart, iteration: int) -> str:
    """Return a remark on a one-shot target below the zeros of quantization: it is trained, but prunes nothing else."""
    from kerasnac.adapters.keras.pruning import prunable_kernels

    if job.settings.schedule != "one_shot" or not iteration:
        return ""
    values = quantized_weights(start.network, start.weights)
    kernels = prunable_kernels(start.network, values, prune_output=job.settings.prune_output)
    zeros = sum(int(np.sum(k == 0)) for k in kernels.values()) / max(1, sum(k.size for k in kernels.values()))
    target = job.settings.sparsity(iteration)
    if target >= zeros:
        return ""
    note = f"a sparsity of {target:g} is asked for, but {zeros:.3g} of these weights are zero from the quantization alone"
    log.warning("%s, iteration %d: %s", job.name, iteration, note)
    return note


def _seed(job: CompressJob, iteration: int) -> int:
    return derive_seed(job.seed, "compress", job.name, iteration)


def _fit(data: Development, job: CompressJob, start: QatStart, training: Training, before: Sequence[Trained]) -> Fit:
    from kerasnac.adapters.keras.pruning import fit_gradually_pruned, fit_pruned, prunable_kernels, pruned_fractions
    from kerasnac.adapters.keras.train import fit

    settings, network, seed = job.settings, start.network, _seed(job, len(before))
    if not before and settings.rewind == "early":
        return _fit_unpruned(data, job, start, training)
    if settings.schedule == "searched" and (fractions := network.sparsities):
        return fit_gradually_pruned(network, data, training, seed=seed, start=start.weights, fractions=fractions)
    if not before:
        return fit(network, data, training, seed=seed, start=start.weights)
    # With one shot, the unpruned training says which layers can do without how many weights.
    trained = (before[0] if settings.schedule == "one_shot" else before[-1]).weights
    kernels = prunable_kernels(network, trained, prune_output=settings.prune_output)
    fractions = pruned_fractions(kernels, settings.sparsity(len(before)), settings.ranking)
    if settings.schedule == "one_shot":
        return fit_gradually_pruned(network, data, training, seed=seed, start=start.weights, fractions=fractions)
    rewind = {"start": start.weights, "keep": trained}.get(settings.rewind)
    rewind = _early_weights(data, job, start, training) if rewind is None else rewind
    return fit_pruned(network, data, training, seed=seed, start=rewind, trained=trained, fractions=fractions)


def _fit_unpruned(data: Development, job: CompressJob, start: QatStart, training: Training) -> Fit:
    """Train without pruning, and save the early weights to which later iterations are set back."""
    from kerasnac.adapters.keras.member import Member
    from kerasnac.adapters.keras.train import train

    seed, epochs = _seed(job, 0), job.settings.rewind_epochs
    trained = train(Member(start.network, training, seed, start.weights, snapshot_epoch=epochs), data)
    origin = RewindOrigin(job.model.name, **job.widths, epochs=epochs)
    Trained(job.early, start.network, trained.snapshot, training, {}, seed, origin).save(job.path(job.early))
    return trained


def _early_weights(data: Development, job: CompressJob, start: QatStart, training: Training) -> Weights:
    """Return the early weights of the unpruned training, which is repeated where their file is damaged or missing."""
    early = Trained.find(job.path(job.early), job.early)
    if early is None:
        _fit_unpruned(data, job, start, training)
        early = Trained.load(job.path(job.early))
    return early.weights
