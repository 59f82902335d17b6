"""The whole run of a YAML file, from dataset to firmware."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kerasnac import datasets
from kerasnac.core.data.bootstrap import Score
from kerasnac.core.data.dataset import Task
from kerasnac.core.settings import ReferenceSettings, RunSettings
from kerasnac.core.settings.yaml_files import dump, load_run
from kerasnac.core.store.files import write_text
from kerasnac.core.store.progress import GivenProgress
from kerasnac.core.store.stages import stage
from kerasnac.errors import ConfigError, RunError
from kerasnac.stages.compress.compression import check_compress, reason_against
from kerasnac.stages.firmware.checks import check_firmware
from kerasnac.stages.references.boosted_trees import check_boosted_trees
from kerasnac.stages.references.classical import ClassicalPoint, check_classical
from kerasnac.stages.references.result import TreesResult
from kerasnac.stages.results.layout import SETTINGS
from kerasnac.stages.results.outcome import Outcome
from kerasnac.stages.run.folder import run_folder
from kerasnac.stages.run.parts import note_parts, parts_of, require_parts
from kerasnac.stages.run.session import Run
from kerasnac.stages.search.global_search import check_search
from kerasnac.stages.search.result import SearchResult
from kerasnac.stages.tune import check_tune


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
    workers: int | None = None,
    scheduler: str | None = None,
    progress: GivenProgress = "shown",
) -> Outcome:
    """Run all stages of a YAML file, from dataset to firmware; called again on the same folder, resume.

    Args:
        settings: From :func:`kerasnac.core.settings.yaml_files.load_run`.
        folder: Run folder; ``run.yaml`` in it is all that :func:`resume` needs.
        workers: Processes; all cores by default.
        scheduler: Address of a Dask scheduler, whose workers are used instead; they must see the folder, too.
        progress: Called after every unit of work. By default the progress is shown; None shows nothing.

    Raises:
        RunError: If the folder holds a run with other settings.
        EnvironmentProblem: If there is no C++ compiler, or the folder cannot be written.
        ConfigError, DataError, SpaceError: If the settings cannot work; nothing has been trained then.
    """
    with _opened(settings, folder, workers=workers, scheduler=scheduler, progress=progress) as run:
        found = run.search(settings.space, settings.search)
        tuned = run.tune(found.select(*settings.tune.select), settings.tune)
        refused = {model.name: reason for model in tuned if (reason := reason_against(model, settings.compress))}
        compressed = run.compress([model for model in tuned if model.name not in refused], settings.compress)
        chosen, left_out = compressed.try_select(*settings.firmware.select)
        asked, graphs = settings.references.boosted_trees, settings.firmware.adder_graph
        trees = None if asked is None else run.boosted_trees(asked, networks=chosen, adder_graph=graphs)
        classical = run.classical_methods(settings.references) if settings.references.classical else ()
        # Every choice has been made: from here on, and nowhere before, the test split is used.
        refused |= compressed.excluded | left_out
        firmware, unconverted = run.try_convert(chosen, settings.firmware)
        refused |= unconverted
        scored = [*tuned, *chosen]
        test = dict(zip((model.name for model in scored), run.test(scored), strict=True))
        test |= dict(zip((point.name for point in classical), run.test_classical(classical), strict=True))
        if trees is not None:
            test |= dict(zip((point.name for point in trees.front), run.test_trees(trees.front), strict=True))
        curves = run.curves([*scored, *classical])
        with stage(run.folder, "run", {"tested": list(test)}) as call:
            call.found.update(refused=refused)
        return Outcome(found, tuned, compressed, firmware, test, refused, trees, run.data.describe(), classical, curves)


def _read(path: Path) -> RunSettings:
    """Read the settings of a run folder.

    Raises:
        RunError: If they are damaged.
    """
    try:
        return load_run(path)
    except ConfigError as error:
        raise RunError(
            f"{error}; restore the file, or delete it and start the run again from yours: nothing is lost"
        ) from error


@contextmanager
def _opened(settings: RunSettings, folder: Path | str, **options: Any) -> Iterator[Run]:
    """Open a run after checking all that its stages need, down to the last one, and write down its settings."""
    folder = run_folder(folder)
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
        path = folder / SETTINGS
        if path.exists() and _read(path) != settings:
            raise RunError(
                f"{folder} holds a run with other settings ({path}): choose another folder, or `kerasnac resume {folder}`"
            )
        write_text(path, dump(settings))
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
    folder: Path | str, *, workers: int | None = None, scheduler: str | None = None, progress: GivenProgress = "shown"
) -> Outcome:
    """Continue the run of a folder, or read its results if it is complete.

    Raises:
        RunError: If the folder holds no run, or a part of others is missing that it was begun with.
    """
    path = run_folder(folder) / SETTINGS
    if not path.exists():
        raise RunError(f"{folder} holds no run: {SETTINGS} is missing")
    require_parts(path.parent)
    return run_all(_read(path), folder, workers=workers, scheduler=scheduler, progress=progress)
