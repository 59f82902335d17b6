"""The folder of a run: where it may be, what is in it, and whose it is."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from kerasnac.core.data.dataset import Dataset
from kerasnac.core.data.task_records import task_to_dict
from kerasnac.core.store.files import deleted, read_object, remove_leftovers, write_json
from kerasnac.core.store.keys import SCHEMA
from kerasnac.core.store.memo import Shape
from kerasnac.core.store.versions import versions
from kerasnac.errors import ConfigError, RunError
from kerasnac.stages.results.complete import COMPLETE
from kerasnac.stages.results.layout import DESCRIPTION, OWN, SETTINGS

#: Remedy for a damaged description.
REMEDY = "restore it, or delete it and go on with the same data and seed: all that is computed is found again"

_SHAPE = Shape({"schema": int, "seed": int, "data": str, "versions": dict[str, str]})

#: Files with results.
RESULTS = (
    *(DESCRIPTION, SETTINGS, "search.csv", "compress.csv", "trees.csv", "classical.csv"),
    *("curves.csv", "curves_summary.csv", "confusion.csv"),
    *("search.jsonl", "costs.jsonl", "generations.jsonl", "tune.jsonl", "compress.jsonl", "mixed.jsonl", "trees.jsonl"),
    *("network_luts.jsonl", "stages.jsonl", "scores.jsonl", "refused.jsonl", "classical.jsonl"),
)

#: Files that show them.
SHOWN = (
    *("summary.txt", "trees.txt", "classical.txt"),
    *("curves.png", "search.png", "convergence.png", "tune.png", "compress.png", "trees.png"),
)

#: All files that a run writes, and the folders.
FILES = (*RESULTS, *SHOWN, "report.html", COMPLETE)
FOLDERS = ("searched", "tuned", OWN, "compressed", "firmware", "trees")


def run_folder(path: Path | str) -> Path:
    """Return the absolute path of a run folder.

    Raises:
        ConfigError: If it is no path, or links that lead to each other.
    """
    try:
        if not str(path):
            raise ValueError("it is empty")
        return Path(path).resolve()
    except (OSError, RuntimeError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise ConfigError(f"the run folder {str(path)!r:.200} is no path: {reason}; choose another one with --out") from error


def prepare(folder: Path, seed: int, data: Dataset) -> None:
    """Make a folder that this process has locked ready for a run, or for the rest of one.

    Args:
        folder: The folder.
        seed: Seed of the run.
        data: Its dataset.

    Raises:
        EnvironmentProblem: If it cannot be written.
        RunError: If it is of another schema, of other data or of another seed, or something in it is in the way.
    """
    _check_names(folder)
    path, own = folder / DESCRIPTION, {"schema": SCHEMA, "seed": seed, "data": data.development.fingerprint}
    shown = {"task": task_to_dict(data.task), "samples": data.sizes}
    if not path.exists():
        write_json(path, own | {"dataset": data.describe(), "versions": versions(), **shown})
    elif (before := _compared(path, own)) != before | shown:  # Earlier versions wrote less.
        write_json(path, before | shown)
    for place in (folder, *(folder / name for name in FOLDERS)):
        remove_leftovers(place)


def check_there(folder: Path) -> None:
    """Make sure that a folder of a run is still there.

    Raises:
        RunError: If it was deleted or replaced.
    """
    if not (folder / DESCRIPTION).is_file():
        raise deleted(folder)


def _check_names(folder: Path) -> None:
    """Make sure that nothing is in the way of what a run is going to write.

    Raises:
        RunError: If a file is where a folder belongs, the other way round, or a link is there.
    """
    for names, what, other, is_other in ((FILES, "file", "folder", Path.is_dir), (FOLDERS, "folder", "file", Path.is_file)):
        for name in names:
            path = folder / name
            if path.is_symlink():
                raise RunError(f"{path} is a link, and nothing is written outside a run folder: put the {what} in its place")
            if is_other(path):
                raise RunError(f"{path} is a {other}, and a {what} of this name is to be written: move it away")


def _compared(path: Path, own: dict[str, object]) -> dict[str, Any]:
    """Return a description that is that of the run.

    Raises:
        RunError: If it is not, or is damaged.
    """
    before = read_object(path, REMEDY)
    made_by = before.get("versions")
    if before.get("schema") != SCHEMA and isinstance(made_by, dict):
        raise RunError(
            f"{path.parent} holds a run of another schema: kerasnac {made_by.get('kerasnac', 'unknown')} made it and reads "
            f"it, this is {versions()['kerasnac']}; choose another folder, or install that version"
        )
    try:
        _SHAPE.check(before)
    except KeyError as error:
        raise RunError(f"{path} is damaged: {error} is missing; {REMEDY}") from None
    except TypeError as error:
        raise RunError(f"{path} is damaged: {error}; {REMEDY}") from None
    for key, what in (("seed", "another seed"), ("data", "other data")):
        if before[key] != own[key]:
            raise RunError(f"{path.parent} holds a run with {what} ({before[key]}, now {own[key]}): choose another folder")
    return before
