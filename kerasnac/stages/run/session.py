"""A run: one dataset, one seed, one folder, and the stages in it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kerasnac.adapters.workers import LocalWorkers, Workers, check_processes, connect
from kerasnac.core.checks import valid_seed, with_options
from kerasnac.core.data.bootstrap import Score, score
from kerasnac.core.data.curves import Curves, Details, details_of
from kerasnac.core.data.dataset import Dataset, Development
from kerasnac.core.network.origin import TuningOrigin
from kerasnac.core.network.trained import Trained
from kerasnac.core.search.evaluation import Evaluation
from kerasnac.core.settings import (
    AdderGraphSettings,
    BoostedTreesSettings,
    CompressSettings,
    FirmwareSettings,
    ReferenceSettings,
    SearchSettings,
    TuneSettings,
)
from kerasnac.core.settings.yaml_files import load_space
from kerasnac.core.space.search_space import SearchSpace
from kerasnac.core.store.files import write_text
from kerasnac.core.store.locks import FolderLock
from kerasnac.core.store.progress import GivenProgress, Progress, Step, silent, told, working
from kerasnac.core.store.seeding import derive_seed
from kerasnac.core.store.stages import stage
from kerasnac.errors import ConversionError
from kerasnac.stages.compress.compression import compress
from kerasnac.stages.compress.mixed_precision import mixed_precision
from kerasnac.stages.compress.own_models import float_model
from kerasnac.stages.compress.result import CompressResult
from kerasnac.stages.context import Context
from kerasnac.stages.references.boosted_trees import boosted_trees
from kerasnac.stages.references.classical import ClassicalPoint, classical_methods, frame_of, outputs_of
from kerasnac.stages.references.networks import count_networks
from kerasnac.stages.references.result import TreesPoint, TreesResult
from kerasnac.stages.results.layout import OWN
from kerasnac.stages.results.scores import Scored, ScoreRecords
from kerasnac.stages.run.curves import CONFUSION, CURVES, SUMMARY, confusion_frame, curves_frame, summary_frame
from kerasnac.stages.run.folder import check_there, prepare, run_folder
from kerasnac.stages.run.jobs import ConvertJob, Refusals, ScoreJob, convert_one, converted, score_one
from kerasnac.stages.run.parts import note_parts, parts_of_search, parts_of_task
from kerasnac.stages.run.telling import ConversionProgress, run_started, score_step
from kerasnac.stages.search.global_search import global_search
from kerasnac.stages.search.result import SearchResult
from kerasnac.stages.tune import tune

if TYPE_CHECKING:
    from kerasnac.stages.firmware.result import Firmware


class Run:
    """The stages of one run, each resumed where it stopped.

    Search, tuning and compression get the development data only. :meth:`convert` opens the test split.

    Args:
        folder: Everything the run computes is kept here; made if it does not exist.
        data: What to train on.
        seed: The one seed of the run.
        workers: Processes; all cores by default.
        scheduler: Address of a Dask scheduler, whose workers are used instead; they must see the folder, too.
        progress: Called by every stage after a unit of work. By default the progress is shown; None shows nothing.

    Raises:
        ConfigError: If the folder is no path, the seed is none, or the number of workers is not sensible.
        EnvironmentProblem: If the folder cannot be written.
        RunError: If it holds a run with other data or another seed, or another process uses it, or files in it are damaged.
    """

    def __init__(
        self,
        folder: Path | str,
        data: Dataset,
        *,
        seed: int = 0,
        workers: int | None = None,
        scheduler: str | None = None,
        progress: GivenProgress = "shown",
    ) -> None:
        check_processes(workers)
        self.folder = run_folder(folder)
        self.data, self.seed, self._shows = data, valid_seed(seed), progress == "shown"
        self.progress: Progress = silent if progress in (None, "shown") else progress  # type: ignore[assignment]
        self._processes, self._scheduler, self._told = workers, scheduler, False
        self._lock = FolderLock(self.folder)
        try:
            prepare(self.folder, self.seed, self.data)
        except BaseException:
            self._lock.close()
            raise

    def search(self, space: SearchSpace | str | Path, settings: SearchSettings | None = None, **options: Any) -> SearchResult:
        """Run the global search; see :func:`kerasnac.stages.search.global_search.global_search`.

        Args:
            space: A space, a YAML file, or the name of one that comes with kerasnac.
            settings: All settings.
            **options: Single settings: ``evaluations=60``.
        """
        settings = with_options(SearchSettings, settings, options)
        if not isinstance(space, SearchSpace):
            space = load_space(space)
        self.check()
        note_parts(self.folder, (*parts_of_task(self.data.task), *parts_of_search(space, settings)))
        with self._showing():
            result = global_search(space, settings, self._context)
        self._write_table(result.frame(), "search.csv")
        return result

    def tune(self, chosen: Sequence[Evaluation], settings: TuneSettings | None = None, **options: Any) -> tuple[Trained, ...]:
        """Tune the training of points of a search's front; see :func:`kerasnac.stages.tune.tune`.

        Args:
            chosen: Evaluations of the search.
            settings: All settings.
            **options: Single settings: ``trials=20``, ``baselines=["braggnn"]``.
        """
        with self._showing():
            models = tune(chosen, with_options(TuneSettings, settings, options), self._context)
        self.check()
        return models

    def compress(
        self, models: Sequence[Trained | Any], settings: CompressSettings | None = None, **options: Any
    ) -> CompressResult:
        """Quantize and prune float models; see :func:`kerasnac.stages.compress.compression.compress`.

        They may be Keras models of your own, or their files; see :func:`kerasnac.from_keras`.

        Mixed precision, if asked for, follows; see :func:`kerasnac.stages.compress.mixed_precision.mixed_precision`.
        """
        settings = with_options(CompressSettings, settings, options)
        floats = [float_model(model, self._development) for model in models]
        for model in floats:
            if not isinstance(model.origin, TuningOrigin) and Trained.find_same(self._own(model), model.digest) is None:
                model.save(self._own(model))
        with self._showing():
            result = mixed_precision(compress(floats, settings, self._context), settings, self._context)
        self._write_table(result.frame(), "compress.csv")
        return result

    def boosted_trees(
        self,
        settings: BoostedTreesSettings | None = None,
        *,
        networks: Sequence[Trained] = (),
        adder_graph: AdderGraphSettings | None = None,
        **options: Any,
    ) -> TreesResult:
        """Boost decision trees on the same data; see :func:`kerasnac.stages.references.boosted_trees.boosted_trees`.

        Args:
            settings: All settings.
            networks: Quantized networks whose look-up tables Yosys is to count as well.
            adder_graph: How the adder graphs of these are made.
            **options: Single settings: ``depths=[4, 5]``, ``luts="estimate"``.
        """
        settings = with_options(BoostedTreesSettings, settings, options)
        with self._showing(), told(self._step, "trees", settings.model_dump(mode="json")):
            result = boosted_trees(settings, self._context)
        if settings.luts == "yosys":
            counts = count_networks(networks, adder_graph or AdderGraphSettings(), self._context)
            result = replace(result, networks=counts)
        recipes = list(dict.fromkeys(point.recipe for point in result.points))
        with stage(self.folder, "trees", {"cost": result.cost, "recipes": recipes}) as call:
            call.found.update(networks=result.networks)
        self._write_table(result.frame(), "trees.csv")
        return result

    def classical_methods(self, settings: ReferenceSettings | None = None, **options: Any) -> tuple[ClassicalPoint, ...]:
        """Score classical methods; see :func:`kerasnac.stages.references.classical.classical_methods`.

        Args:
            settings: All settings.
            **options: Methods with their settings: ``pseudo_voigt={"samples": 500}``.
        """
        settings = with_options(ReferenceSettings, settings, options)
        with told(self._step, "classical", settings.model_dump(mode="json")):
            points = classical_methods(settings, self._context)
        self._write_table(frame_of(points), "classical.csv")
        return points

    def convert(
        self, models: Sequence[Trained], settings: FirmwareSettings | None = None, **options: Any
    ) -> tuple[Firmware, ...]:
        """Convert quantized models to firmware, compared with Keras on the test split.

        See :mod:`kerasnac.stages.firmware.delivery`.

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
        """Convert models as :meth:`convert` does; a model without firmware is no error.

        Returns:
            The firmware, and for every model without, by its name, the reason.
        """
        settings = with_options(FirmwareSettings, settings, options)
        test = self.data.open_test()
        samples = test.take(slice(settings.samples))
        self.check()
        made_of = self.data.task.made_of.firmware
        models = models if made_of is None else [made_of(model) for model in models]
        place = self.folder / "firmware"
        jobs = [ConvertJob(model, samples, self.data.task, settings, place / model.name).placed() for model in models]
        with self._showing():
            return self._converted(jobs, settings)

    def _converted(self, jobs: Sequence[ConvertJob], settings: FirmwareSettings) -> tuple[tuple[Firmware, ...], dict[str, str]]:
        """Convert models in the workers, but those whose result is known; arguments and result of :meth:`try_convert`."""
        models, refusals = [job.model for job in jobs], Refusals(self.folder)
        known = (converted(job) or refusals.get(job) for job in jobs)
        made: dict[int, Firmware | str] = {index: found for index, found in enumerate(known) if found is not None}
        missing = [index for index in range(len(jobs)) if index not in made]
        report = ConversionProgress(jobs, settings.timeout, self._step)
        given = settings.model_dump(mode="json", exclude_unset=True)
        decisive = settings.model_dump(mode="json", exclude={"select", "samples", "timeout", "memory"})
        asked = {"models": [model.name for model in models], "samples": settings.samples, "settings": decisive}
        with stage(self.folder, "firmware", asked, given, progress=self._step) as call:
            for index, there in made.items():
                report.found(jobs[index], there, known=True)
            if missing:
                report()
            watch = working(self._step, "firmware", [jobs[i].model.name for i in missing])
            for place, firmware in self._context.workers.map(convert_one, [jobs[i] for i in missing], tick=report, watch=watch):
                made[missing[place]] = firmware
                if isinstance(firmware, str):
                    refusals.add(jobs[missing[place]], firmware)
                report.found(jobs[missing[place]], firmware, known=False)
            self.check()
            results = [made[i] for i in range(len(jobs))]
            refused = {model.name: found for model, found in zip(models, results, strict=True) if isinstance(found, str)}
            call.found.update(made=[job.folder.name for job in jobs if job.model.name not in refused], refused=refused)
        return tuple(found for found in results if not isinstance(found, str)), refused

    def test(self, models: Sequence[Trained]) -> tuple[Score, ...]:
        """Score models by the metrics of the task on the whole test split; to be called once, when all choices are made.

        Returns:
            One metric per model with a 95 % confidence interval, from :func:`kerasnac.core.data.bootstrap.score`. All
            models are scored on the same resampled test sets.
        """
        seed, records = self._scores
        known = [records.get(model) for model in models]
        jobs = [ScoreJob(model, self.data.open_test(), seed) for model in models]
        known_pairs = [None if before is None else (before, Details()) for before in known]
        watch = working(self._step, "run", [model.name for model in models])
        with told(self._step, "run", {"models": [model.name for model in models]}):
            results = self._context.results(score_one, jobs, known_pairs, watch=watch)
            for number, (model, before, (found, details)) in enumerate(zip(models, known, results, strict=True), start=1):
                if before is None:
                    records.add(model, found, details)
                self._step(score_step(model.name, self.data.task.metric, found, number, len(models)))
        return tuple(found for found, _ in results)

    def test_trees(self, points: Sequence[TreesPoint]) -> tuple[Score, ...]:
        """Score boosted trees on the test split as :meth:`test` does models, on the same resampled test sets."""
        test, (seed, records) = self.data.open_test(), self._scores

        def scored(point: TreesPoint) -> Score:
            found = records.get(point)
            if found is None:
                outputs = point.ensemble.predict(test.x)
                found = score(self.data.task, outputs, test.y, seed=seed)
                records.add(point, found, details_of(self.data.task, outputs, test.y))
            self._step(score_step(point.name, self.data.task.metric, found))
            return found

        return tuple(map(scored, points))

    def test_classical(self, points: Sequence[ClassicalPoint]) -> tuple[Score, ...]:
        """Score classical methods on the test split, of which slow ones see no more samples than of the validation split."""
        test, task, (seed, records) = self.data.open_test(), self.data.task, self._scores

        def scored(point: ClassicalPoint) -> Score:
            found = records.get(point)
            if found is None:
                part = test.take(slice(point.samples if point.samples < len(self._development.validation) else None))
                outputs = outputs_of(point, part.x)
                found = score(task, outputs, part.y, seed=seed)
                records.add(point, found, details_of(task, outputs, part.y))
            self._step(score_step(point.name, self.data.task.metric, found))
            return found

        return tuple(map(scored, points))

    def score_keys(self, models: Sequence[Scored]) -> dict[str, str]:
        """Return the key of the score of every model, by name: a model of other settings may have the same name."""
        _, records = self._scores
        return {model.name: records.key(model) for model in models}

    def curves(self, models: Sequence[Scored]) -> dict[str, Curves]:
        """Return ROC curves or distances of models that were scored on the test split, by name, and write them as tables.

        The confusion of classes is written, too. What an earlier version has scored may be missing, and other tasks have none.
        """
        _, records = self._scores
        found = {model.name: records.details(model) for model in models}
        curves = {name: made.curves for name, made in found.items() if made.curves is not None}
        if confusion := {name: made.confusion for name, made in found.items() if made.confusion is not None}:
            self._write_table(confusion_frame(confusion, self.data.task.names), CONFUSION)
        if curves:
            self._write_table(curves_frame(curves), CURVES)
            self._write_table(summary_frame(curves), SUMMARY)
        return curves

    def _own(self, model: Trained) -> Path:
        """Return the folder of a float model that no tuning has made."""
        return self.folder / OWN / model.name

    @property
    def _scores(self) -> tuple[int, ScoreRecords]:
        """Seed of the resampling, and the scores that are known."""
        self.check()
        return self._bootstrap_seed, self._score_records

    @property
    def _bootstrap_seed(self) -> int:
        return derive_seed(self.seed, "bootstrap")

    @cached_property
    def _score_records(self) -> ScoreRecords:
        """One for all calls: it hashes the whole test split."""
        return ScoreRecords(self.folder, self.data, self._bootstrap_seed)

    def check(self) -> None:
        """Make sure that the run still has its folder.

        Raises:
            RunError: If the run is closed, or its folder was deleted or replaced.
        """
        self._lock.check()
        check_there(self.folder)

    def tell(self, step: Step) -> None:
        """Report progress outside of any stage."""
        with self._showing():
            self._step(step)

    @contextmanager
    def _showing(self) -> Iterator[None]:
        """Show the progress of one call, unless the user has given something to do with it."""
        if not self._shows or self.progress is not silent:
            yield
            return
        from kerasnac import progress_bar

        with progress_bar() as self.progress:
            try:
                yield
            finally:
                self.progress = silent

    def close(self) -> None:
        """End the worker processes and release the folder; a closed run trains nothing, and closing it again is harmless."""
        if "_workers" in self.__dict__:
            self._workers.close()
            del self._workers
        self._lock.close()

    def __repr__(self) -> str:
        return f"Run({str(self.folder)!r}: {self.data.name}, seed {self.seed})"

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
            return connect(self._development, self._scheduler, self.folder)
        return LocalWorkers(self._development, self._processes)

    @property
    def _context(self) -> Context:
        self.check()
        return Context(self._development, self._workers, self.folder, self.seed, self._step)

    def _step(self, step: Step) -> None:
        """Report progress; a folder that is deleted while a stage uses it ends the stage."""
        self.check()
        if not self._told:
            self._told = True
            self.progress(run_started(self.folder, self.seed, self.data))
            if self.data.taken_for:
                self.progress(Step("data", 1, 1, self.data.taken_for))
        self.progress(step)

    def _write_table(self, frame: Any, name: str) -> None:
        self.check()
        write_text(self.folder / name, frame.to_csv(index=False))
