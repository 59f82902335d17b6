"""A run: one dataset, one seed, one folder, and the stages in it."""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from kerasnac import datasets
from kerasnac.adapters.hls4ml.backends import check_options
from kerasnac.adapters.hls4ml.csim import require_compiler
from kerasnac.adapters.rtl.adder_graph import require_da4ml
from kerasnac.adapters.workers import LocalWorkers, Workers, connect
from kerasnac.core.data.bootstrap import Score, bootstrap
from kerasnac.core.data.dataset import Dataset, Development, Split, Task
from kerasnac.core.network.exactness import obstacles
from kerasnac.core.network.trained import Trained
from kerasnac.core.search.evaluation import Evaluation
from kerasnac.core.settings import CompressSettings, FirmwareSettings, RunSettings, SearchSettings, TuneSettings
from kerasnac.core.settings.yaml_files import dump, load_run, load_space
from kerasnac.core.space.search_space import SearchSpace
from kerasnac.core.store.files import write_json, write_text
from kerasnac.core.store.keys import SCHEMA
from kerasnac.core.store.progress import Progress, Step, silent
from kerasnac.core.store.seeding import derive_seed
from kerasnac.core.store.versions import versions
from kerasnac.errors import ConfigError, ConversionError, EnvironmentProblem, RunError
from kerasnac.stages.compress.compression import CompressResult, compress
from kerasnac.stages.compress.mixed_precision import mixed_precision
from kerasnac.stages.search.global_search import SearchResult, check_search, global_search
from kerasnac.stages.tune import check_tune, tune

if TYPE_CHECKING:
    from kerasnac.stages.firmware.firmware import Firmware

S = TypeVar("S", SearchSettings, TuneSettings, CompressSettings, FirmwareSettings)

SETTINGS, DESCRIPTION = "run.yaml", "run.json"


class Run:
    """The stages of one run, each resumed where it stopped.

    Search, tuning and compression get the development data only. :meth:`convert` opens the test split.

    Args:
        folder: Everything the run computes is kept here; made if it does not exist.
        data: What to train on.
        seed: The one seed of the run.
        workers: Processes; all cores by default.
        scheduler: Address of a Dask scheduler, whose workers are used instead; they must see the folder, too.
        progress: Called by every stage after a unit of work.

    Raises:
        EnvironmentProblem: If the folder cannot be written.
        RunError: If it holds a run with other data or another seed, or another process uses it.
    """

    def __init__(
        self,
        folder: Path | str,
        data: Dataset,
        *,
        seed: int = 0,
        workers: int | None = None,
        scheduler: str | None = None,
        progress: Progress = silent,
    ) -> None:
        self.folder = Path(folder).resolve()
        self.data, self.seed, self.progress = data, seed, progress
        self._processes, self._scheduler = workers, scheduler
        self._lock = _claim(self.folder)
        self._describe()
        self._start = SearchSettings().training

    def search(self, space: SearchSpace | str | Path, settings: SearchSettings | None = None, **options: Any) -> SearchResult:
        """Global search; see :func:`kerasnac.stages.search.global_search.global_search`.

        Args:
            space: A space, a YAML file, or the name of one that comes with kerasnac.
            settings: All settings.
            **options: Single settings: ``evaluations=60``.
        """
        settings = _with(settings or SearchSettings(), options)
        if not isinstance(space, SearchSpace):
            space = load_space(space)
        result = global_search(space, self._development, settings, **self._common)
        self._start = settings.training
        _write_table(result.frame(), self.folder / "search.csv")
        return result

    def tune(self, chosen: Sequence[Evaluation], settings: TuneSettings | None = None, **options: Any) -> tuple[Trained, ...]:
        """Tunes the training of points of the last search's front; see :func:`kerasnac.stages.tune.tune`.

        Args:
            chosen: What to tune.
            settings: All settings.
            **options: Single settings: ``trials=20``, ``baselines=["braggnn"]``.
        """
        return tune(chosen, self._start, self._development, _with(settings or TuneSettings(), options), **self._common)

    def compress(self, models: Sequence[Trained], settings: CompressSettings | None = None, **options: Any) -> CompressResult:
        """Quantizes and prunes float models; see :func:`kerasnac.stages.compress.compression.compress`.

        Mixed precision, if asked for, follows; see :func:`kerasnac.stages.compress.mixed_precision.mixed_precision`.
        """
        settings = _with(settings or CompressSettings(), options)
        result = compress(models, self._development, settings, **self._common)
        result = mixed_precision(result, self._development, settings, **self._common)
        _write_table(result.frame(), self.folder / "compress.csv")
        return result

    def convert(
        self, models: Sequence[Trained], settings: FirmwareSettings | None = None, **options: Any
    ) -> tuple[Firmware, ...]:
        """Firmware of quantized models, compared with Keras on the test split; see :mod:`kerasnac.stages.firmware.firmware`.

        Raises:
            ConversionError: If a model has no bit-exact firmware; the others are converted before. :meth:`try_convert`
                returns the reasons instead.
        """
        made, refused = self.try_convert(models, settings, **options)
        if refused:
            raise ConversionError("; ".join(f"{name}: {reason}" for name, reason in refused.items()))
        return made

    def try_convert(
        self, models: Sequence[Trained], settings: FirmwareSettings | None = None, **options: Any
    ) -> tuple[tuple[Firmware, ...], dict[str, str]]:
        """As :meth:`convert`; what has no firmware is no error.

        Returns:
            The firmware, and for every model without, by its name, the reason.
        """
        settings = _with(settings or FirmwareSettings(), options)
        test = self.data.open_test()
        samples = Split(test.x[: settings.samples], test.y[: settings.samples])
        jobs = [ConvertJob(model, samples, self.data.task, settings, self.folder / "firmware" / model.name) for model in models]
        made: dict[int, Firmware | str] = {}
        self.progress(Step("firmware", 0, len(jobs), "converting and compiling"))
        for index, firmware in self._workers.map(convert_one, jobs):
            made[index] = firmware
            text = f"refused: {firmware}" if isinstance(firmware, str) else firmware.verdict
            self.progress(Step("firmware", len(made), len(jobs), text))
        results = [made[i] for i in range(len(jobs))]
        refused = {model.name: found for model, found in zip(models, results, strict=True) if isinstance(found, str)}
        return tuple(found for found in results if not isinstance(found, str)), refused

    def test(self, models: Sequence[Trained]) -> tuple[Score, ...]:
        """The task metric of models on the whole test split; to be called once, when all choices are made.

        Returns:
            One metric per model with a 95 % confidence interval, from :func:`kerasnac.core.data.bootstrap.bootstrap`. All
            models are scored on the same resampled test sets.
        """
        seed = derive_seed(self.seed, "bootstrap")
        jobs = [TestJob(model, self.data.open_test(), seed) for model in models]
        results = dict(self._workers.map(test_one, jobs))
        return tuple(results[i] for i in range(len(jobs)))

    def close(self) -> None:
        """Ends the worker processes and releases the folder."""
        if "_workers" in self.__dict__:
            self._workers.close()
        os.close(self._lock)

    def __enter__(self) -> Run:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    @property
    def _development(self) -> Development:
        return self.data.development

    @cached_property
    def _workers(self) -> Workers:
        if self._scheduler is not None:
            return connect(self._development, self._scheduler)
        return LocalWorkers(self._development, self._processes)

    @property
    def _common(self) -> dict[str, Any]:
        return {"workers": self._workers, "folder": self.folder, "seed": self.seed, "progress": self.progress}

    def _describe(self) -> None:
        """Writes what the run is made of, or checks it against what is there."""
        own = {"schema": SCHEMA, "seed": self.seed, "data": self._development.fingerprint, "dataset": self.data.describe()}
        path = self.folder / DESCRIPTION
        if path.exists():
            before = json.loads(path.read_text(encoding="utf-8"))
            if before.get("schema") != SCHEMA:
                version = before.get("versions", {}).get("kerasnac", "unknown")
                raise RunError(
                    f"{self.folder} holds a run of another schema: kerasnac {version} made it and reads it, this is "
                    f"{versions()['kerasnac']}; choose another folder, or install that version"
                )
            for key, what in (("seed", "another seed"), ("data", "other data")):
                if before[key] != own[key]:
                    raise RunError(
                        f"{self.folder} holds a run with {what} ({before[key]}, now {own[key]}): choose another folder"
                    )
        else:
            write_json(path, own | {"versions": versions()})


@dataclass(frozen=True)
class ConvertJob:
    """One model to convert."""

    model: Trained
    samples: Split
    task: Task
    settings: FirmwareSettings
    folder: Path


def convert_one(data: Development, job: ConvertJob) -> Firmware | str:
    """Converts one model, or reads what an earlier call left; runs in a worker.

    Returns:
        The firmware, or why the model has none: one model must not end a run.
    """
    from kerasnac.adapters.hls4ml.csim import Limits
    from kerasnac.stages.firmware.firmware import make_firmware

    settings = job.settings
    if (known := _converted(job)) is not None:
        return known
    try:
        settings.options.check(job.model.architecture.without_window())
        return make_firmware(
            job.model,
            job.samples,
            job.task,
            folder=job.folder,
            options=settings.options,
            softmax=settings.softmax,
            limits=Limits(settings.timeout, settings.memory),
        )
    except (ConversionError, ConfigError) as error:
        return str(error)


def _converted(job: ConvertJob) -> Firmware | None:
    """What an earlier call left, if it is what is asked for and no file of it has changed since."""
    from kerasnac.stages.firmware.firmware import Firmware
    from kerasnac.stages.firmware.manifest import MANIFEST, changes

    if not (job.folder / MANIFEST).exists():
        return None
    try:
        known, changed = Firmware.load(job.folder), changes(job.folder)
    except RunError:
        return None  # It is damaged: all that it is made of is at hand, to make it again.
    asked = (job.model, len(job.samples), job.settings.options, job.settings.softmax)
    same = (known.trained, known.inputs.samples, known.options, known.softmax_mode) == asked
    before, now = known.trained.weights, job.model.weights
    weights = before.keys() == now.keys() and all(np.array_equal(before[key], now[key]) for key in now)
    return known if same and weights and not changed else None


@dataclass(frozen=True)
class TestJob:
    """One model to score on the test split."""

    __test__ = False  # not a pytest class

    model: Trained
    split: Split
    seed: int


def test_one(data: Development, job: TestJob) -> Score:
    """The task metric of one model on a split, with its confidence interval; runs in a worker."""
    from kerasnac.adapters.keras.train import predict

    outputs = predict(job.model.architecture, job.model.weights, job.split.x)
    return bootstrap(data.task.scores(outputs, job.split.y), seed=job.seed)


test_one.__test__ = False  # type: ignore[attr-defined]  # not a pytest function


@dataclass(frozen=True)
class Outcome:
    """All results of a run.

    Attributes:
        search: The global search.
        tuned: The tuned float models, baselines last.
        compressed: The quantized, pruned models.
        firmware: The converted ones.
        test: Task metric on the whole test split with its 95 % confidence interval, by model name.
        refused: Models that have no firmware, with the reason. Tuned ones: it would not be exact, or no compressed model
            of theirs is within the tolerance. Compressed ones: their conversion was refused, or failed.
    """

    search: SearchResult
    tuned: tuple[Trained, ...]
    compressed: CompressResult
    firmware: tuple[Firmware, ...]
    test: dict[str, Score]
    refused: dict[str, str]


def run_all(
    settings: RunSettings,
    folder: Path | str,
    *,
    workers: int | None = None,
    scheduler: str | None = None,
    progress: Progress = silent,
) -> Outcome:
    """The whole run of a YAML file, from dataset to firmware; called again on the same folder, it resumes.

    Args:
        settings: From :func:`kerasnac.core.settings.yaml_files.load_run`.
        folder: Run folder; ``run.yaml`` in it is all that :func:`resume` needs.
        workers: Processes; all cores by default.
        scheduler: Address of a Dask scheduler, whose workers are used instead; they must see the folder, too.
        progress: Called after every unit of work.

    Raises:
        RunError: If the folder holds a run with other settings.
        EnvironmentProblem: If there is no C++ compiler, or the folder cannot be written.
        ConfigError, DataError, SpaceError: If the settings cannot work; nothing has been trained then.
    """
    with _opened(settings, folder, workers=workers, scheduler=scheduler, progress=progress) as run:
        found = run.search(settings.space, settings.search)
        tuned = run.tune(found.select(*settings.tune.select), settings.tune)
        refused = {model.name: reasons[0] for model in tuned if (reasons := obstacles(model.architecture))}
        compressed = run.compress([model for model in tuned if model.name not in refused], settings.compress)
        chosen = compressed.select(*settings.firmware.select)
        # Every choice has been made: from here on, and nowhere before, the test split is used.
        refused |= compressed.excluded
        firmware, unconverted = run.try_convert(chosen, settings.firmware)
        refused |= unconverted
        scored = [*tuned, *chosen]
        test = dict(zip((model.name for model in scored), run.test(scored), strict=True))
        return Outcome(found, tuned, compressed, firmware, test, refused)


@contextmanager
def _opened(settings: RunSettings, folder: Path | str, **options: Any) -> Iterator[Run]:
    """A run whose settings are checked and written down; what the last stage needs is checked before the first begins."""
    folder = Path(folder)
    require_compiler()
    check_options(settings.firmware.options)
    data = datasets.load(settings.dataset.source, **settings.dataset.options)
    check_search(settings.space, data.development, settings.search)
    if settings.compress.adder_graphs:
        require_da4ml()
    check_tune(data.development, settings.tune)
    with Run(folder, data, seed=settings.seed, **options) as run:
        path = folder / SETTINGS
        if path.exists() and load_run(path) != settings:
            raise RunError(
                f"{folder} holds a run with other settings ({path}): choose another folder, or `kerasnac resume {folder}`"
            )
        write_text(path, dump(settings))
        yield run


def search_only(
    settings: RunSettings,
    folder: Path | str,
    *,
    workers: int | None = None,
    scheduler: str | None = None,
    progress: Progress = silent,
) -> SearchResult:
    """The global search of a YAML file; :func:`run_all` and :func:`resume` go on from there.

    Args and errors are those of :func:`run_all`.
    """
    with _opened(settings, folder, workers=workers, scheduler=scheduler, progress=progress) as run:
        return run.search(settings.space, settings.search)


def resume(
    folder: Path | str, *, workers: int | None = None, scheduler: str | None = None, progress: Progress = silent
) -> Outcome:
    """Continues the run of a folder, or reads its results if it is complete.

    Raises:
        RunError: If the folder holds no run.
    """
    path = Path(folder) / SETTINGS
    if not path.exists():
        raise RunError(f"{folder} holds no run: {SETTINGS} is missing")
    return run_all(load_run(path), folder, workers=workers, scheduler=scheduler, progress=progress)


def _claim(folder: Path) -> int:
    """Makes the folder and locks it for this process; returns the lock's file descriptor."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(folder / ".lock", os.O_RDWR | os.O_CREAT, 0o644)
    except OSError as error:
        raise EnvironmentProblem(
            f"cannot write to {folder}: {error.strerror}; choose a folder you may write to with --out"
        ) from error
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(descriptor)
        raise RunError(f"{folder} is in use by another process") from error
    return descriptor


def _with(settings: S, options: dict[str, Any]) -> S:
    return type(settings).model_validate(settings.model_dump(exclude_unset=True) | options) if options else settings


def _write_table(frame: Any, path: Path) -> None:
    write_text(path, frame.to_csv(index=False))
