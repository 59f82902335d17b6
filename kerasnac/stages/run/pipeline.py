"""The whole run of a YAML file, from dataset to firmware."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from kerasnac import datasets
from kerasnac.core.data.bootstrap import Score
from kerasnac.core.data.dataset import Task
from kerasnac.core.settings import ReferenceSettings, RunSettings
from kerasnac.core.settings.yaml_files import dump, load_run
from kerasnac.core.store.files import write_text
from kerasnac.core.store.progress import GivenProgress, Step
from kerasnac.core.store.stages import Stage, begin
from kerasnac.errors import ConfigError, RunError
from kerasnac.stages.compress.compression import check_compress, reason_against
from kerasnac.stages.compress.result import CompressResult
from kerasnac.stages.firmware.checks import check_firmware
from kerasnac.stages.references.boosted_trees import check_boosted_trees
from kerasnac.stages.references.classical import ClassicalPoint, check_classical
from kerasnac.stages.references.result import TreesResult
from kerasnac.stages.results.complete import note_results
from kerasnac.stages.results.layout import SETTINGS
from kerasnac.stages.results.outcome import Outcome
from kerasnac.stages.results.saved import read_finished
from kerasnac.stages.run.changes import check_changes, described
from kerasnac.stages.run.folder import FOLDERS, RESULTS, run_folder
from kerasnac.stages.run.parts import note_parts, parts_of, require_parts
from kerasnac.stages.run.session import Run
from kerasnac.stages.search.global_search import check_search
from kerasnac.stages.search.result import SearchResult
from kerasnac.stages.tune import check_tune

#: A stage after which a run may stop; the search alone is :func:`search_only`.
Until = Literal["tune", "compress"]


@dataclass(frozen=True)
class References:
    """What was trained or fitted for comparison.

    Attributes:
        trees: Boosted trees, if they were asked for.
        classical: Classical methods.
        test: Scores on the test split, of the trees on the front and of the classical methods, by name.
        task: The task of the data.
    """

    trees: TreesResult | None
    classical: tuple[ClassicalPoint, ...]
    test: dict[str, Score]
    task: Task


def run_all(
    settings: RunSettings,
    folder: Path | str,
    *,
    until: Until | None = None,
    workers: int | None = None,
    scheduler: str | None = None,
    progress: GivenProgress = "shown",
) -> Outcome:
    """Run all stages of a YAML file, from dataset to firmware; called again on the same folder, resume.

    A run folder belongs to its data, task, seed and space. All other settings may change: what is known is kept, and only what
    is new is computed. The results are those of a new folder with these settings.

    Args:
        settings: From :func:`kerasnac.core.settings.yaml_files.load_run`.
        folder: Run folder; ``run.yaml`` in it is all that :func:`resume` needs.
        until: The last stage to run; all by default. Those after it are missing in what is returned.
        workers: Processes; all cores by default.
        scheduler: Address of a Dask scheduler, whose workers are used instead; they must see the folder, too.
        progress: Called after every unit of work. By default the progress is shown; None shows nothing.

    Raises:
        RunError: If the folder holds a run with other data, another task, seed or space.
        EnvironmentProblem: If there is no C++ compiler, or the folder cannot be written.
        ConfigError, DataError, SpaceError: If the settings cannot work; nothing has been trained then.
    """
    with _opened(settings, folder, workers=workers, scheduler=scheduler, progress=progress) as run:
        found = run.search(settings.space, settings.search)
        tuned = run.tune(found.select(*settings.tune.select), settings.tune)
        made = Outcome(found, tuned, CompressResult((), (), run.data.task), (), {}, {}, data=run.data.describe())
        if until == "tune":
            return made
        refused = {model.name: reason for model in tuned if (reason := reason_against(model, settings.compress))}
        compressed = run.compress([model for model in tuned if model.name not in refused], settings.compress)
        made = replace(made, compressed=compressed, refused=refused)
        return made if until == "compress" else _finished(run, settings, made)


def _finished(run: Run, settings: RunSettings, made: Outcome) -> Outcome:
    """Train references, convert, score, and note that the run is finished."""
    chosen, left_out = made.compressed.try_select(*settings.firmware.select)
    asked, graphs = settings.references.boosted_trees, settings.firmware.adder_graph
    trees = None if asked is None else run.boosted_trees(asked, networks=chosen, adder_graph=graphs)
    classical = run.classical_methods(settings.references) if settings.references.classical else ()
    # Every choice has been made: from here on, and nowhere before, the test split is used.
    firmware, unconverted = run.try_convert(chosen, settings.firmware)
    refused = made.refused | made.compressed.excluded | left_out | unconverted
    scored = [*made.tuned, *chosen]
    test = dict(zip((model.name for model in scored), run.test(scored), strict=True))
    test |= dict(zip((point.name for point in classical), run.test_classical(classical), strict=True))
    front = () if trees is None else trees.front
    test |= dict(zip((point.name for point in front), run.test_trees(front), strict=True))
    curves = run.curves([*scored, *classical, *(() if trees is None else trees.chosen)])
    call = _begin(run.folder, settings)
    call.found.update(refused=refused, scores=run.score_keys([*scored, *classical, *front]))
    call.end()
    note_results(run.folder, (*RESULTS, *FOLDERS))
    return replace(made, firmware=firmware, test=test, refused=refused, trees=trees, classical=classical, curves=curves)


def _begin(folder: Path, settings: RunSettings) -> Stage:
    """Record that a run begins, unless the last one has the same settings."""
    return begin(folder, "run", {"settings": settings.model_dump(mode="json", exclude_unset=True)}, again=False)


def _read(path: Path, changes: Mapping[str, Any] | None = None) -> RunSettings:
    """Read the settings of a run folder, with changes.

    Raises:
        RunError: If they are damaged.
        ConfigError: If a change is wrong.
    """
    try:
        settings = load_run(path)
    except ConfigError as error:
        raise RunError(
            f"{error}; restore the file, or delete it and start the run again from yours: nothing is lost"
        ) from error
    return load_run(path, changes=changes) if changes else settings


@contextmanager
def _opened(settings: RunSettings, folder: Path | str, **options: Any) -> Iterator[Run]:
    """Open a run after checking all that its stages need, down to the last one, and write down its settings."""
    folder = run_folder(folder)
    path = folder / SETTINGS
    changes = check_changes(folder, _read(path), settings) if path.exists() else ()
    data = datasets.load(settings.dataset.source, **settings.dataset.options)
    parts = parts_of(settings, data.task)
    check_search(settings.space, data.development, settings.search)
    check_tune(data.development, settings.tune)
    baselines = [reference.architecture for reference in settings.tune.baselines]
    check_firmware(settings.firmware, settings.space, baselines, data.development)
    check_compress(settings.compress, settings.space, baselines)
    if settings.references.boosted_trees is not None:
        check_boosted_trees(settings.references.boosted_trees, data.development)
    check_classical(settings.references, data.development)
    with Run(folder, data, seed=settings.seed, **options) as run:
        if changes:
            run.tell(Step("settings", 1, 1, described(folder, changes)))
        write_text(path, dump(settings))
        _begin(folder, settings)
        note_parts(folder, parts)
        yield run
        run.check()


def search_only(
    settings: RunSettings,
    folder: Path | str,
    *,
    workers: int | None = None,
    scheduler: str | None = None,
    progress: GivenProgress = "shown",
) -> SearchResult:
    """Run the global search of a YAML file; :func:`run_all` and :func:`resume` go on from there.

    Args and errors are those of :func:`run_all`.
    """
    with _opened(settings, folder, workers=workers, scheduler=scheduler, progress=progress) as run:
        return run.search(settings.space, settings.search)


def references_only(
    settings: RunSettings,
    folder: Path | str,
    *,
    workers: int | None = None,
    scheduler: str | None = None,
    progress: GivenProgress = "shown",
) -> References:
    """Train the references of a YAML file alone; :func:`run_all` and :func:`resume` go on from there.

    Args and errors are those of :func:`run_all`.

    Raises:
        ConfigError: If the file names no references.
    """
    if settings.references == ReferenceSettings():
        raise ConfigError("there is nothing to train: the run names no references; add references: [boosted_trees]")
    asked = settings.references.boosted_trees
    with _opened(settings, folder, workers=workers, scheduler=scheduler, progress=progress) as run:
        trees = None if asked is None else run.boosted_trees(asked)
        classical = run.classical_methods(settings.references) if settings.references.classical else ()
        front = () if trees is None else trees.front
        test = dict(zip((point.name for point in front), run.test_trees(front), strict=True))
        test |= dict(zip((point.name for point in classical), run.test_classical(classical), strict=True))
        return References(trees, classical, test, run.data.task)


def resume(
    folder: Path | str,
    *,
    changes: Mapping[str, Any] | None = None,
    until: Until | None = None,
    workers: int | None = None,
    scheduler: str | None = None,
    progress: GivenProgress = "shown",
) -> Outcome:
    """Continue the run of a folder, also with other settings, or read its results if it is complete.

    A complete run is read as :func:`kerasnac.open_run` does: without its data, without TensorFlow, and without writing.

    Args:
        folder: Run folder.
        changes: Settings that are changed: ``{"firmware.part": "zcu102", "compress.bits": [8, 6, 4]}``; see :func:`run_all`.
        until: See :func:`run_all`.
        workers: The same.
        scheduler: The same.
        progress: The same.

    Raises:
        RunError: If the folder holds no run, or a part of others is missing that it was begun with, or something is to be
            changed that belongs to the folder.
        ConfigError: If a change is wrong.
    """
    path = run_folder(folder) / SETTINGS
    if not path.exists():
        raise RunError(f"{folder} holds no run: {SETTINGS} is missing")
    if not changes and (known := read_finished(path.parent)) is not None:
        return known
    require_parts(path.parent)
    settings = _read(path, changes)
    if changes and settings == _read(path) and (known := read_finished(path.parent)) is not None:
        return known
    return run_all(settings, folder, until=until, workers=workers, scheduler=scheduler, progress=progress)
