"""Training one candidate of a global search, in a worker."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from kerasnac.core.data import Development
from kerasnac.core.seeding import derive_seed
from kerasnac.core.space import Candidate
from kerasnac.core.training import Training
from kerasnac.errors import TrialError

#: Where widths are genes: those of layers that have none, the output layer for one.
DEFAULT_WIDTHS = {"weight_bits": 8, "activation_bits": 8}

#: Where widths are genes: fraction of an activation's values that may exceed its format, at each end.
SATURATION = 1e-3


def training_seed(seed: int, candidate_id: str) -> int:
    """The seed of a candidate's training in a run with a seed, whoever trains it."""
    return derive_seed(seed, "train", candidate_id)


@dataclass(frozen=True)
class Job:
    """One candidate to train.

    Attributes:
        candidate: What to train.
        training: How.
        seed: Seed of every training of it.
        folds: Folds of a cross-validation; 1 trains once, on the training split.
    """

    candidate: Candidate
    training: Training
    seed: int
    folds: int = 1


def train_candidate(data: Development, job: Job) -> tuple[dict[str, float], float]:
    """Trains a candidate; runs in a worker.

    A candidate with bit widths is trained in float, then quantized and trained for half as many epochs again; its
    metrics are those of the quantized network. With folds, metrics are means over them, and the standard deviation
    of the task metric is another metric, ``<metric>_std``.

    Returns:
        Its metrics on validation, and the seconds it took.

    Raises:
        TrialError: Whatever goes wrong is a bug, and is shown with the architecture.
    """
    parts: Iterable[Development] = [data] if job.folds == 1 else data.folds(job.folds)
    try:
        results = np.array([_train(part, job) for part in parts])
    except Exception as error:
        raise TrialError(f"training [{job.candidate.architecture}] with seed {job.seed} failed: {error!r}") from error
    metric, loss, _ = results.mean(axis=0)
    spread = {f"{data.task.metric}_std": float(results[:, 0].std(ddof=1))} if job.folds > 1 else {}
    return {data.task.metric: float(metric), "loss": float(loss), **spread}, float(results[:, 2].sum())


def _train(data: Development, job: Job) -> tuple[float, float, float]:
    """Task metric, loss and seconds of one training."""
    from kerasnac.adapters.keras.train import fit, quantized_start

    architecture, training = job.candidate.architecture, job.training
    result = fit(architecture, data, training, seed=job.seed)
    seconds = result.seconds
    if architecture.has_widths:
        quantized, start = quantized_start(architecture, result.weights, data, **DEFAULT_WIDTHS, saturation=SATURATION)
        gentle = training.with_(epochs=-(-training.epochs // 2), learning_rate=training.learning_rate / 3)
        result = fit(quantized, data, gentle, seed=job.seed, weights=start)
        seconds += result.seconds
    return result.metric, result.loss, seconds
