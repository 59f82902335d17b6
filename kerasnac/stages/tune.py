"""Tuning: Bayesian optimisation of how the chosen models are trained."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from kerasnac.adapters.workers import Workers
from kerasnac.core.architecture import Architecture
from kerasnac.core.data import Development
from kerasnac.core.evaluation import Evaluation
from kerasnac.core.journal import Journal
from kerasnac.core.progress import Progress, Step, silent
from kerasnac.core.seeding import derive_seed, digest
from kerasnac.core.settings import TuneSettings
from kerasnac.core.trained import Trained
from kerasnac.core.training import Training
from kerasnac.errors import TrialError


@dataclass(frozen=True)
class TuneJob:
    """One model to tune.

    Attributes:
        name: Name of the tuned model.
        architecture: Float.
        start: How the global search trained it.
        start_seed: The seed it used.
        settings: What to try.
        seed: Seed of the proposals and of all trainings but the first.
        folder: Run folder.
    """

    name: str
    architecture: Architecture
    start: Training
    start_seed: int
    settings: TuneSettings
    seed: int
    folder: Path

    @property
    def journal(self) -> Journal:
        """Where every trial is recorded."""
        return Journal(self.folder / "tune.jsonl")

    def key(self, data: Development) -> str:
        """Hash of all that decides the trials: only records with it are this job's."""
        return digest(self.architecture.id, self.start, self.start_seed, self.settings, self.seed, data.fingerprint)


def tune(
    chosen: Sequence[Evaluation],
    start: Training,
    data: Development,
    settings: TuneSettings,
    *,
    workers: Workers,
    folder: Path,
    seed: int = 0,
    progress: Progress = silent,
) -> tuple[Trained, ...]:
    """Tunes the training of some evaluated candidates, one process each.

    The first trial repeats the search's training with its seed, the second uses its settings for the tuning's
    epochs, then keras-tuner proposes. The best trial on validation wins, so that a tuned model is never worse than
    the search found it. Trials are recorded in ``folder/tune.jsonl``; calling again resumes.

    Args:
        chosen: Points of a search's front.
        start: Training settings of that search.
        data: Development data.
        settings: Ranges and number of trials.
        workers: Processes.
        folder: Run folder; models are saved in ``folder/tuned``.
        seed: Seed of the run.
        progress: Called about every second.

    Returns:
        One float model per candidate, in their order.
    """
    jobs = []
    for evaluation in chosen:
        candidate = evaluation.candidate
        assert candidate is not None
        training = start.with_(**dict(candidate.training))
        own_seed = derive_seed(seed, "tune", candidate.id)
        jobs.append(TuneJob(candidate.id, candidate.architecture, training, evaluation.seed, settings, own_seed, folder))
    keys = {job.key(data) for job in jobs}

    def tick() -> None:
        records = [r for r in Journal(folder / "tune.jsonl").records() if r["key"] in keys]
        text = ""
        if records:
            best = (max if data.task.sense == "max" else min)(r[data.task.metric] for r in records)
            text = f"best {data.task.metric} {best:.4f} {data.task.unit}".rstrip()
        progress(Step("tune", len(records), len(jobs) * settings.trials, text))

    results = dict(workers.map(tune_one, jobs, tick=tick))
    tick()
    return tuple(results[i] for i in range(len(jobs)))


def tune_one(data: Development, job: TuneJob) -> Trained:
    """Runs all trials of one model; runs in a worker.

    Raises:
        TrialError: Whatever a trial raises is a bug, and is shown with the architecture.
    """
    from kerasnac.adapters.tuner import Oracle

    key = job.key(data)
    known = {record["trial"]: record for record in job.journal.records() if record["key"] == key}
    base = replace(job.start, epochs=job.settings.epochs, patience=job.settings.patience)
    oracle = Oracle(job.settings, job.start, derive_seed(job.seed, "oracle"))
    best: dict[str, Any] | None = None
    for trial in range(job.settings.trials):
        training = base.with_(**oracle.ask()) if trial else job.start
        record = known.get(trial) or _run_trial(data, job, key, trial, training, best)
        if trial:
            oracle.tell(record["loss"])
        best = record if best is None or data.task.better(record[data.task.metric], best[data.task.metric]) else best
    return Trained.load(job.folder / "tuned" / job.name)


def _run_trial(
    data: Development, job: TuneJob, key: str, trial: int, training: Training, best: dict[str, Any] | None
) -> dict[str, Any]:
    """Trains once, saves the model if it is the best so far, then records the trial.

    A crash between the two repeats the trial, which saves the same model again.
    """
    from kerasnac.adapters.keras.train import fit

    seed = job.start_seed if trial == 0 else derive_seed(job.seed, trial)
    try:
        result = fit(job.architecture, data, training, seed=seed)
    except Exception as error:
        raise TrialError(f"tuning [{job.architecture}] with {training} failed: {error!r}") from error
    metrics = {data.task.metric: result.metric, "loss": result.loss}
    if best is None or data.task.better(result.metric, best[data.task.metric]):
        Trained(job.name, job.architecture, result.weights, training, metrics, seed).save(job.folder / "tuned" / job.name)
    record = {
        "key": key,
        "model": job.name,
        "trial": trial,
        **metrics,
        "epochs_run": result.epochs,
        **training.to_dict(),
        "seconds": result.seconds,
    }
    job.journal.append(record)
    return record
