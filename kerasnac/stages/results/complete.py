"""What a finished run has written: as long as none of it has changed, there is nothing to do."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from kerasnac.core.store.files import file_hash, read_object, write_json
from kerasnac.core.store.versions import versions
from kerasnac.errors import RunError

#: File with the hashes, in the run folder.
COMPLETE = "complete.json"


def note_results(folder: Path, names: Iterable[str]) -> None:
    """Write the hashes of all that a run consists of; only a process that has locked the folder may do so.

    Args:
        folder: Run folder.
        names: Files and folders in it; those that are not there are left out.
    """
    write_json(folder / COMPLETE, {"versions": versions(), "files": _hashes(folder, names)})


def note_shown(folder: Path, names: Iterable[str]) -> None:
    """Add the hashes of tables and plots to those of the results that they show."""
    found = _read(folder)
    if found:
        write_json(folder / COMPLETE, {**found, "shown": _hashes(folder, names)})


def is_unchanged(folder: Path) -> bool:
    """Return True if a run is finished, nothing of it has changed since, and neither have the versions of packages."""
    found = _read(folder)
    if not found or found.get("versions") != versions():
        return False
    try:
        return all(file_hash(folder / name) == value for name, value in _files(found).items())
    except (OSError, ValueError):
        return False


def is_shown(folder: Path) -> bool:
    """Return True if tables and plots are of the results as :func:`note_results` has found them."""
    return bool(_read(folder).get("shown"))


def _hashes(folder: Path, names: Iterable[str]) -> dict[str, str]:
    paths = [path for name in names for path in (folder / name, *(folder / name).rglob("*"))]
    return {path.relative_to(folder).as_posix(): file_hash(path) for path in paths if path.is_file()}


def _files(found: dict[str, dict[str, str]]) -> dict[str, str]:
    return {**found["files"], **found.get("shown", {})}


def _read(folder: Path) -> dict[str, dict[str, str]]:
    """Return what is noted; nothing if there is nothing, or it is damaged."""
    try:
        found = read_object(folder / COMPLETE)
    except RunError:
        return {}
    parts = [found.get(name, {}) for name in ("versions", "files", "shown")]
    sound = found.get("files") and all(isinstance(part, dict) for part in parts)
    texts = sound and all(isinstance(value, str) for part in parts for value in part.values())
    return found if texts else {}
