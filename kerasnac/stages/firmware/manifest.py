"""The manifest of a firmware folder: the hash of every file, and what has changed since."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath

from kerasnac.adapters.hls4ml.csim import INTERFACE
from kerasnac.core.store.files import file_hash, read_object, write_json
from kerasnac.errors import RunError
from kerasnac.stages.firmware.folder import ARCHITECTURE, KERAS, MODEL, REPORT

#: Name of the manifest.
MANIFEST = "manifest.json"

#: Files whose content is no part of the result: logs, libraries, and what synthesis writes.
_LOGS = (".log", ".so", ".o", ".pyc")
_SYNTHESIS = ("build_opt.tcl", "vendor_report.json", MANIFEST)

#: Files that a compiler, a shell or Python may read in place of a delivered one, wherever they are.
_READ = (".h", ".hpp", ".cpp", ".sh", ".py")


def write_manifest(project: Path) -> None:
    """Write the hash of every file of a project, which :func:`changes` compares."""
    write_json(project / MANIFEST, {"sha256": {name: file_hash(project / name) for name in _files(project)}})


def changes(project: Path) -> tuple[str, ...]:
    """Return what is not as :func:`write_manifest` found it: ``firmware/defines.h has changed``.

    Raises:
        RunError: If the folder is no firmware folder, or its manifest is damaged.
    """
    path = project / MANIFEST
    if not path.is_file():
        raise RunError(f"{project} is no complete firmware folder: {MANIFEST} is missing")
    try:
        hashes: Mapping[str, str] = read_object(path)["sha256"]
        found = []
        for name, value in hashes.items():
            file = project / name
            try:
                if not file.is_file():
                    found.append(f"{name} is missing")
                elif file_hash(file) != value:
                    found.append(f"{name} has changed")
            except OSError as error:
                found.append(f"{name} cannot be read: {error.strerror}")
        added = [name for name in _files(project) if name not in hashes and _counts(name)]
    except (ValueError, KeyError, TypeError, AttributeError, OSError) as error:
        raise RunError(f"{path} is damaged: {error!r}") from error
    return (*found, *(f"{name} was added" for name in added))


def _counts(name: str) -> bool:
    """Return true for an added file that a compiler, a shell or Python may read; notes and vendors' reports do not count."""
    path = PurePosixPath(name)
    if any(part.endswith("_prj") for part in path.parts):
        return False
    own = name in (INTERFACE, REPORT, KERAS, ARCHITECTURE)  # if somebody has struck them off the manifest
    return own or path.suffix in _READ or "firmware" in path.parts or path.parts[0] == MODEL.parts[0]


def _files(project: Path) -> Iterator[str]:
    """Yield the names of all files that a manifest lists, relative to the project."""
    for path in sorted(project.rglob("*")):
        name = path.relative_to(project).as_posix()
        if (path.is_file() or path.is_symlink()) and path.suffix not in _LOGS and path.name not in _SYNTHESIS:
            yield name
