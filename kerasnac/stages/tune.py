"""Tuning: Bayesian optimisation of how the chosen models are trained."""

from __future__ import annotations

import glob
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from math import isnan
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from kerasnac.adapters.keras.callbacks import check_callbacks, make_callbacks
from kerasnac.core.data.dataset import Development, Task
from kerasnac.core.network.mold import Mold
from kerasnac.core.network.origin import TuningOrigin
from kerasnac.core.network.trained import Trained
from kerasnac.core.network.training import Training
from kerasnac.core.search.evaluation import Evaluation
from kerasnac.core.settings import TUNED, SearchSettings, TuneSettings
from kerasnac.core.space.references import Reference
from kerasnac.core.space.search_space import Candidate
from kerasnac.core.store.journal import Journal
from kerasnac.core.store.keys import content_key, decisive
from kerasnac.core.store.memo import Memo, Record, Shape
from kerasnac.core.store.names import LONGEST_GIVEN, check_name
from kerasnac.core.store.places import owners, suffix
from kerasnac.core.store.progress import Step, working
from kerasnac.core.store.seeding import derive_seed
from kerasnac.core.store.stages import stage
from kerasnac.errors import ConfigError, DataError, MetricError, PluginError, TrialError
from kerasnac.stages.context import Context
from kerasnac.stages.search.candidate_training import training_seed

if TYPE_CHECKING:
    from kerasnac.adapters.keras.member import Fit

#: Settings that decide the trials; the others say which models to tune and how often to repeat the best trial.
KEY_FIELDS = ("trials", "epochs", "patience", "folds", "callbacks", *TUNED)

#: Name of the journal in the run folder.
JOURNAL = "tune.jsonl"

#: Records of one model: by kind (``trial`` or ``repeat``) and number.
Records = Mapping[tuple[str, int], Mapping[str, Any]]


@dataclass(frozen=True)
class TuneJob:
    """One model to tune.

    Attributes:
        name: Name of the tuned model.
        candidate: The float network; it may have training hyperparameters of its own.
        start: Training that the global search gave it, or would have.
        start_seed: Seed of that training.
        settings: Hyperparameters to try.
        seed: Seed of the proposals and of all trainings but the first.
        folder: Run folder.
        searched: Name of the folder with the quantized network as the search trained it; empty if there is none.
        mold: Form in which the search trained the network, so that the first trial repeats it in every bit.
        suffix: What the name of the model's folder ends with, see :mod:`kerasnac.core.store.places`.
    """

    name: str
    candidate: Candidate
    start: Training
    start_seed: int
    settings: TuneSettings
    seed: int
    folder: Path
    searched: str = ""
    mold: Mold | None = None
    suffix: str = ""

    @property
    def journal(self) -> Journal:
        """Journal of all trials."""
        return Journal(self.folder / JOURNAL)

    @property
    def model(self) -> Path:
        """Folder of the best trial's model."""
        return self.folder / "tuned" / f"{self.name}{self.suffix}"

    def key(self, data: Development) -> str:
        """Return the hash of all that decides the tuned model: only records with it are this job's."""
        return self._hash(data, KEY_FIELDS)

    def sequence(self, data: Development) -> str:
        """Return the hash of all that decides the trials but their number: a proposal depends on those before it alone."""
        return self._hash(data, [name for name in KEY_FIELDS if name != "trials"])

    def _hash(self, data: Development, fields: Collection[str]) -> str:
        return content_key(
            "tune",
            candidate=self.candidate.id,
            start=self.start.identity,
            start_seed=self.start_seed,
            settings=decisive(self.settings, fields),
            seed=self.seed,
            data=data.fingerprint,
        )

    @property
    def others(self) -> list[Path]:
        """Folders of models of this name: of this tuning, and of those with other settings."""
        ends = "-" + "[0-9a-f]" * 8
        return [self.model, *sorted(self.model.parent.glob(glob.escape(self.name) + ends)), self.model.with_name(self.name)]


@dataclass(frozen=True)
class TrialRun:
    """One trial.

    Attributes:
        record: Its record in the journal.
        training: The hyperparameters.
        seed: Seed of the training.
    """

    record: Mapping[str, Any]
    training: Training
    seed: int


def tune(chosen: Sequence[Evaluation], settings: TuneSettings, context: Context) -> tuple[Trained, ...]:
    """Tune the training of some evaluated candidates and of baselines, one process each.

    The first trial repeats the search's training with its seed, the second uses its settings for the tuning's
    epochs, then keras-tuner proposes, told the loss on validation. The trial with the best task metric on validation
    wins, so that a tuned model is never worse there than the search found it.

    With folds, trials are scored by their mean over the folds of a cross-validation, and the best settings are
    trained once more, on the training split, for the model. The promise then is that the mean over the folds is never
    worse than that of the search's training; on the one validation split the model may be worse.

    Baselines get the same number of trials, and the first of them with the search's training and the seed that the
    search would have used. One that is among the chosen ones is tuned once, under its name.

    Trials and repeats are recorded in ``tune.jsonl``, models are saved in ``tuned``; calling again resumes. Repeats train
    the best trial's settings with further seeds. Their mean and standard deviation (n - 1) become the metrics
    ``<metric>_mean`` and ``<metric>_std``; the best trial itself is not among them, since it was picked for its metric.

    Args:
        chosen: Points of a search's front.
        settings: Baselines, hyperparameters and number of trials.
        context: Data, workers, folder, seed; progress is reported about every second.

    Returns:
        One float model per candidate, in their order, then one per baseline; their origin is a
        :class:`kerasnac.core.network.origin.TuningOrigin`.

    Raises:
        ConfigError, DataError: If the settings cannot work with these data; nothing has been trained then.
    """
    check_tune(context.data, settings)
    jobs = _placed(_jobs(chosen, settings, context), context)
    report = _Progress(jobs, context)
    asked = {
        "models": {job.name: job.key(context.data) for job in jobs},
        "candidates": {job.name: job.candidate.id for job in jobs},
        "trials": settings.trials,
        "repeats": settings.repeats,
    }
    given = settings.model_dump(mode="json", exclude_unset=True)
    with stage(context.folder, "tune", asked, given, progress=context.progress) as call:
        digests = call.known["models"] if call.known else {}
        known = [Trained.find_same(job.model, digests.get(job.name), job.name) for job in jobs]
        watch = working(context.progress, "tune", [job.name for job in jobs])
        models = context.results(tune_one, jobs, known, tick=report, watch=watch)
        report()
        call.found["models"] = {model.name: model.digest for model in models}
    return tuple(models)


class _Progress:
    """Reports how many trials and repeats are recorded, whoever records them."""

    def __init__(self, jobs: Sequence[TuneJob], context: Context) -> None:
        self._context, self._names = context, {job.key(context.data): job.name for job in jobs}
        self._total = sum(job.settings.trials + job.settings.repeats for job in jobs)
        self._memo = _memo(context.folder, context.data.task)
        self._known, self._told = len(self._memo.all(*self._names)), 0

    def __call__(self) -> None:
        task, text = self._context.data.task, ""
        self._memo.refresh()
        records = self._memo.all(*self._names)
        if trials := [r[task.metric] for r in records if r["kind"] == "trial"]:
            best = (max if task.sense == "max" else min)(trials)
            text = f"best {task.metric} {best:.4f} {task.metric_unit}".rstrip()
        for count, record in enumerate(records[self._told :], start=self._told + 1):
            self._context.progress(Step("tune", count, self._total, text, "trial", self._facts(record, count <= self._known)))
        if self._told == len(records):
            self._context.progress(Step("tune", len(records), self._total, text))
        self._told = len(records)

    def _facts(self, record: Record, known: bool) -> dict[str, Any]:
        metrics = {name: record[name] for name in dict.fromkeys((*self._context.data.task.senses, "loss")) if name in record}
        return {
            "model": self._names[record["key"]],
            "trial": record["kind"],
            "number": record["number"],
            "metrics": metrics,
            "known": known,
        }


def _memo(folder: Path, task: Task) -> Memo:
    kinds = Literal["trial", "repeat"]
    shape = Shape({"key": str, "sequence?": str, "model": str, "kind": kinds, "number": int, task.metric: float, "loss": float})
    return Memo(Journal(folder / JOURNAL), shape, lambda record: record["key"])


def _jobs(chosen: Sequence[Evaluation], settings: TuneSettings, context: Context) -> list[TuneJob]:
    """Return one job per candidate and per baseline that is not among the candidates."""
    baselines = {Candidate(reference.architecture).id: reference for reference in settings.baselines}
    start = chosen[0].search_training if chosen else SearchSettings().training
    jobs = []

    def add(name: str, candidate: Candidate, training: Training, seed: int, **found: Any) -> None:
        own = derive_seed(context.seed, "tune", candidate.id)
        jobs.append(TuneJob(name, candidate, training, seed, settings, own, context.folder, **found))

    for evaluation in chosen:
        candidate = evaluation.candidate
        assert candidate is not None
        reference = baselines.pop(candidate.id, None)
        training = evaluation.search_training.with_(**dict(candidate.training))
        name = reference.name if reference else candidate.id
        add(name, candidate, training, evaluation.seed, searched=evaluation.searched, mold=evaluation.mold)
    for key, reference in baselines.items():
        add(reference.name, Candidate(reference.architecture), start, training_seed(context.seed, key))
    return jobs


def _placed(jobs: Sequence[TuneJob], context: Context) -> list[TuneJob]:
    """Return jobs with the folders of their models; one that a tuning with other settings has is left alone."""
    first = owners(_memo(context.folder, context.data.task).records, lambda record: str(record["model"]))
    return [replace(job, suffix=suffix(first.get(job.name), job.key(context.data))) for job in jobs]


def check_tune(data: Development, settings: TuneSettings) -> None:
    """Check all that can be wrong with a tuning before anything is trained.

    Raises:
        ConfigError: If labels that are no classes are to be smoothed, or a baseline does not fit the data or has no
            name of its own.
        DataError: If there are fewer samples than folds.
    """
    check_callbacks(settings.callbacks)
    data.task.try_metrics(data.validation.y)
    if settings.label_smoothing and settings.label_smoothing[1] and not data.task.classes:
        raise ConfigError("tune.label_smoothing: there are no classes to smooth the labels of; leave it out")
    if settings.folds > 1:
        try:
            data.check_folds(settings.folds)
        except DataError as error:
            raise DataError(f"tune.folds: {error}") from None
    names: dict[str, str] = {}
    for reference in settings.baselines:
        problem = _misfit(reference, data)
        if reference.name in names.values():
            problem = "another baseline has this name"
        if same := names.get(reference.architecture.id):
            problem = f"it is the same network as {same}"
        if problem:
            raise ConfigError(f"tune.baselines: {reference.name}: {problem}")
        names[reference.architecture.id] = reference.name


def _misfit(reference: Reference, data: Development) -> str:
    """Return why a baseline cannot be tuned on some data; empty if it can."""
    architecture = reference.architecture
    try:
        check_name(reference.name, LONGEST_GIVEN)
    except ConfigError as problem:
        return str(problem)
    if architecture.quantized:
        return "it is quantized; give a float network"
    if architecture.input_shape != data.input_shape:
        return f"it takes inputs of shape {architecture.input_shape}, the samples of {data.name} have {data.input_shape}"
    output = architecture.output_shape
    needed = (data.task.outputs,)
    return "" if output == needed else f"its outputs have shape {output}, {data.name} needs {needed}"


def tune_one(data: Development, job: TuneJob) -> Trained:
    """Run all trials of one model, and the repeats of the best; runs in a worker.

    Raises:
        TrialError: Whatever a trial raises is a bug, and is shown with the architecture.
    """
    # Trials of a tuning with more or fewer of them are the same.
    memo, sequence = _memo(job.folder, data.task), job.sequence(data)
    same = [record for record in memo.records if record.get("sequence") == sequence]
    known = {(r["kind"], r["number"]): r for r in (*same, *memo.all(job.key(data)))}
    metric, trials = data.task.metric, _run_trials(data, job, known)
    best = _best(data.task, trials)
    saved = _best_model(data, job, best)
    own = {name: saved.metrics[name] for name in (metric, "loss", *data.task.metrics)}
    metrics = {**own, **_repeat(data, job, known, best)}
    origin = TuningOrigin(job.candidate.id, tuple(trial.record[metric] for trial in trials), job.searched)
    model = replace(saved, metrics=metrics, origin=origin)
    if model != saved:
        model.save(job.model)
    return model


def _run_trials(data: Development, job: TuneJob, known: Records) -> list[TrialRun]:
    """Return all trials in their order; recorded ones are not trained again."""
    from kerasnac.adapters.search.tuner import Oracle

    base = replace(job.start, epochs=job.settings.epochs, patience=job.settings.patience)
    trials = [_run_trial(data, job, known, [], job.start)]
    oracle = Oracle(job.settings, job.start, derive_seed(job.seed, "oracle"), loss=trials[0].record["loss"])
    while len(trials) < job.settings.trials:
        proposal = oracle.ask()
        if proposal is None:
            break  # So few values were given that all have been tried.
        trials.append(_run_trial(data, job, known, trials, base.with_(**proposal)))
        oracle.tell(trials[-1].record["loss"])
    return trials


def _run_trial(
    data: Development,
    job: TuneJob,
    known: Records,
    before: Sequence[TrialRun],
    training: Training,
) -> TrialRun:
    """Train once, or once per fold; save the model if it is the best so far, then record the trial.

    A crash between the two repeats the trial, which saves the same model again.
    """
    number, folds = len(before), job.settings.folds
    seed = derive_seed(job.seed, number) if number else job.start_seed
    if (record := known.get(("trial", number))) is not None:
        key = job.key(data)
        if record["key"] != key:
            job.journal.append({**record, "key": key})
        return TrialRun(record, training, seed)
    parts = [data] if folds == 1 else data.folds(folds)
    names = [f"trial-{number:02d}"] if folds == 1 else [f"trial-{number:02d}-fold-{i}" for i in range(folds)]
    fits = [_fit(part, job, training, seed, name) for part, name in zip(parts, names, strict=True)]
    record = _record(data, job, "trial", number, training, fits)
    trial = TrialRun(record, training, seed)
    if folds == 1 and _best(data.task, [*before, trial]) is trial:
        _trained(data, job, trial, fits[0]).save(job.model)
    job.journal.append(record)
    return trial


def _best(task: Task, trials: Sequence[TrialRun]) -> TrialRun:
    """Return the first of the best trials; one that diverged has no metric, and loses to all others."""
    best = trials[0]
    for trial in trials[1:]:
        value, so_far = trial.record[task.metric], best.record[task.metric]
        if task.better(value, so_far) or (isnan(so_far) and not isnan(value)):
            best = trial
    return best


def _best_model(data: Development, job: TuneJob, best: TrialRun) -> Trained:
    """Return the model of the best trial: as it was saved, or else trained on the training split.

    It is not there after a cross-validation, or when its files are damaged. That of a tuning with another number of trials
    will do, if the best of them is the same.
    """
    architecture = job.candidate.architecture
    for folder in job.others:
        saved = Trained.find(folder, job.name)
        if saved and (saved.architecture, saved.training, saved.seed) == (architecture, best.training, best.seed):
            if folder != job.model:
                saved.save(job.model)
            return saved
    model = _trained(data, job, best, _fit(data, job, best.training, best.seed, f"trial-{best.record['number']:02d}"))
    model.save(job.model)
    return model


def _repeat(data: Development, job: TuneJob, known: Records, best: TrialRun) -> dict[str, float]:
    """Train the best trial's settings with further seeds, on the training split: mean and standard deviation.

    The record of every repeat has those of the repeats so far.
    """
    metric = data.task.metric
    values: list[float] = []
    spread: dict[str, float] = {}
    for number in range(1, job.settings.repeats + 1):
        record, fits = known.get(("repeat", number)), []
        if record is None:
            fits = [_fit(data, job, best.training, derive_seed(job.seed, "repeat", number), f"repeat-{number:02d}")]
            record = _record(data, job, "repeat", number, best.training, fits)
        values.append(record[metric])
        if number > 1:
            spread = {f"{metric}_mean": float(np.mean(values)), f"{metric}_std": float(np.std(values, ddof=1))}
        if fits:
            job.journal.append({**record, **spread})
    return spread


def _record(data: Development, job: TuneJob, kind: str, number: int, training: Training, fits: Sequence[Fit]) -> dict[str, Any]:
    """Return the record of a trial or a repeat: means over the folds, where there are some, with their spread."""
    metrics = [fit.metric for fit in fits]
    return {
        "key": job.key(data),
        **({"sequence": job.sequence(data)} if kind == "trial" else {}),
        "model": job.name,
        "kind": kind,
        "number": number,
        data.task.metric: float(np.mean(metrics)),
        "loss": float(np.mean([fit.loss for fit in fits])),
        **{name: float(np.mean([fit.further[name] for fit in fits])) for name in fits[0].further},
        **({f"{data.task.metric}_std": float(np.std(metrics, ddof=1))} if len(fits) > 1 else {}),
        "epochs_run": sum(fit.epochs for fit in fits),
        **training.to_dict(),
        "seconds": sum(fit.seconds for fit in fits),
    }


def _trained(data: Development, job: TuneJob, trial: TrialRun, fit: Fit) -> Trained:
    metrics = fit.recorded(data.task)
    return Trained(job.name, job.candidate.architecture, fit.weights, trial.training, metrics, trial.seed)


def _fit(data: Development, job: TuneJob, training: Training, seed: int, name: str) -> Fit:
    """Train once; the search's training is repeated in the same way, which is that of a single one.

    Args:
        data: The development splits.
        job: The model.
        training: Hyperparameters.
        seed: Seed of the training.
        name: Its name, for the folder of its callbacks; the search's training is the first trial.
    """
    from kerasnac.adapters.keras.train import fit

    architecture = job.candidate.architecture
    try:
        callbacks = make_callbacks(job.settings.callbacks, job.folder / "logs" / job.name / name)
        repeated = not name.startswith("trial-00")
        return fit(architecture, data, training, seed=seed, mold=job.mold, repeated=repeated, callbacks=callbacks)
    except (MetricError, PluginError):
        raise
    except Exception as error:
        raise TrialError(f"tuning [{architecture}] with {training} failed: {error!r}") from error
