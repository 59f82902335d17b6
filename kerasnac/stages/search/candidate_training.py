"""Training one candidate of a global search, in a worker."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from kerasnac.core.data.dataset import Development
from kerasnac.core.hardware.boards import BOARDS, DEFAULT_BOARD, Board
from kerasnac.core.network.mold import Mold
from kerasnac.core.network.quantization import CLIP_QUANTILE
from kerasnac.core.network.trained import Trained
from kerasnac.core.network.training import Training
from kerasnac.core.network.widths import Width, Widths
from kerasnac.core.search.evaluation import RampPoint
from kerasnac.core.settings import AdderGraphSettings
from kerasnac.core.space.search_space import Candidate
from kerasnac.core.store.seeding import derive_seed
from kerasnac.errors import ConversionError, EnvironmentProblem, MetricError, RunError, TrialError
from kerasnac.stages.search.short_ramp import ShortRamp


def training_seed(seed: int, candidate_id: str) -> int:
    """Return the seed of a candidate's training in a run with a seed, whoever trains it."""
    return derive_seed(seed, "train", candidate_id)


@dataclass(frozen=True)
class QuantizedTraining:
    """Second training, quantized, of a candidate whose widths or sparsities are genes.

    Attributes:
        training: Its hyperparameters.
        weight_bits: Width of the kernels of layers without a width of their own, the output layer for one.
        activation_bits: Width of their activations.
        graph: Settings of the adder graph of the trained weights; None for no graph.
        board: What ``adder_percent`` of that graph is of.
        folder: Folder of the quantized network; None for none.
        tie_free: True for biases that keep sums off the ties of rounding.
    """

    training: Training
    weight_bits: Width = 8
    activation_bits: int = 8
    graph: AdderGraphSettings | None = None
    board: Board = BOARDS[DEFAULT_BOARD]
    folder: Path | None = None
    tie_free: bool = False


@dataclass(frozen=True)
class Job:
    """One candidate to train.

    Attributes:
        candidate: The network.
        training: Hyperparameters of the float training.
        seed: Seed of every training of it.
        folds: Folds of a cross-validation; 1 trains once, on the training split.
        quantized: The second training; None for a candidate without widths and sparsities.
        ramp: The second training, if widths are learned.
        mold: Form that it shares with other candidates; None if it shares none.
    """

    candidate: Candidate
    training: Training
    seed: int
    folds: int = 1
    quantized: QuantizedTraining | None = None
    ramp: ShortRamp | None = None
    mold: Mold | None = None


@dataclass(frozen=True)
class Result:
    """Result of a training.

    Attributes:
        metrics: Metrics on validation, and costs of the trained weights.
        seconds: Wall time.
        reason: Why there are no such costs, or no points, if they were asked for: the candidate is infeasible.
        points: Networks with learned widths, if these were asked for; the metrics are those of the float training then.
        compiled: True if all its trainings were compiled ones; see :func:`kerasnac.adapters.keras.train.train`.
    """

    metrics: Mapping[str, float]
    seconds: float
    reason: str = ""
    points: tuple[RampPoint, ...] = ()
    compiled: bool = True


def train_candidate(data: Development, job: Job) -> Result:
    """Train a candidate; runs in a worker.

    A candidate with widths or sparsities is trained in float, then quantized and trained on while its weights are
    pruned; its metrics are those of the quantized network. One whose widths are learned has points. With folds, metrics are
    means over them, and the standard deviation of the task metric is another metric, ``<metric>_std``.

    Raises:
        TrialError: Whatever goes wrong is a bug, and is shown with the architecture.
    """
    try:
        results = [_train(part, job) for part in (data.folds(job.folds) if job.folds > 1 else [data])]
    except (EnvironmentProblem, RunError, MetricError):
        raise  # The network could not be saved, or a function of the user failed.
    except Exception as error:
        raise TrialError(f"training [{job.candidate.architecture}] with seed {job.seed} failed: {error!r}") from error
    if job.folds == 1:
        return results[0]
    seconds = sum(result.seconds for result in results)
    known = set.intersection(*(set(result.metrics) for result in results))
    metrics = {name: float(np.mean([r.metrics[name] for r in results])) for name in results[0].metrics if name in known}
    metrics[f"{data.task.metric}_std"] = float(np.std([r.metrics[data.task.metric] for r in results], ddof=1))
    reason = next((result.reason for result in results if result.reason), "")
    return Result(metrics, seconds, reason, compiled=all(result.compiled for result in results))


def _train(data: Development, job: Job) -> Result:
    from kerasnac.adapters.keras.pruning import fit_gradually_pruned
    from kerasnac.adapters.keras.train import fit, quantized_start
    from kerasnac.adapters.rtl.adder_graph import adder_graph_costs

    architecture = job.candidate.architecture
    result = fit(architecture, data, job.training, seed=job.seed, mold=job.mold)
    if job.ramp is not None:
        began = time.perf_counter()
        points, reason = job.ramp.points(architecture, result.weights, job.training, data, job.seed)
        seconds = result.seconds + time.perf_counter() - began
        return Result(result.recorded(data.task), seconds, reason, points, result.compiled)
    seconds, compiled, costs, reason = result.seconds, result.compiled, dict[str, float](), ""
    if job.quantized is not None:
        own = job.quantized
        widths = Widths(weight_bits=own.weight_bits, activation_bits=own.activation_bits)
        quantized, start = quantized_start(
            architecture, result.weights, data, **widths, clip_quantile=CLIP_QUANTILE, tie_free=own.tie_free
        )
        if fractions := quantized.sparsities:
            result = fit_gradually_pruned(
                quantized, data, own.training, seed=job.seed, start=start, fractions=fractions, mold=job.mold
            )
        else:
            result = fit(quantized, data, own.training, seed=job.seed, start=start, mold=job.mold)
        seconds, compiled = seconds + result.seconds, compiled and result.compiled
        if own.folder is not None:
            metrics = result.recorded(data.task)
            Trained(job.candidate.id, quantized, result.weights, own.training, metrics, job.seed).save(own.folder)
        if own.graph is not None:
            try:
                costs = adder_graph_costs(quantized, result.weights, own.graph, own.board)
            except ConversionError as obstacle:
                reason = str(obstacle)
    return Result({**result.recorded(data.task), **costs}, seconds, reason, compiled=compiled)
