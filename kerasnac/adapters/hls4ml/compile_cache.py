"""Compiled emulations by the content of their sources: what was compiled once is not compiled again.

An entry is one file, ``<key>-<hash of its content>.so``. It takes its name when it is whole, so that concurrent writers
do not disturb each other, and a file that its name does not fit is not used. Beside it, ``<key>.log`` has what the compiler
said.
"""

from __future__ import annotations

import hashlib
import os
import platform
import shutil
import tempfile
import warnings
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from kerasnac.adapters.programs import ask

#: Seconds for a compiler to say its version.
PATIENCE = 60.0

#: Entries that are kept; the ones that were not used for longest go first.
ENTRIES = 500

#: Files in a project that the library is made of. Weights as text are read when it runs.
_SOURCES = ("*.sh", "*_bridge.cpp", "firmware/**/*.cpp", "firmware/**/*.h", "firmware/**/*.hpp")


def cache_folder() -> Path:
    """Return ``$KERASNAC_CACHE``, or ``kerasnac`` in ``$XDG_CACHE_HOME`` or ``~/.cache``."""
    own = os.environ.get("KERASNAC_CACHE")
    if own:
        return Path(own)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "kerasnac"


def cache_key(project: Path, compiler: Sequence[str]) -> str:
    """Hash all that the library of a project depends on.

    Args:
        project: Folder of the project.
        compiler: Its command; its version counts, too.
    """
    version = ask([*compiler, "--version"], seconds=PATIENCE).output
    environment = [os.environ.get(name, "") for name in ("MGC_HOME", "CPATH", "CPLUS_INCLUDE_PATH")]
    digest = hashlib.sha256("\n".join([*compiler, version, platform.machine(), *environment]).encode())
    for path in sorted({path for pattern in _SOURCES for path in project.glob(pattern)}):
        digest.update(f"\n{path.relative_to(project)}\n".encode())
        digest.update(hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()[:32]


def fetch(key: str, target: Path, log: Path) -> bool:
    """Copy an entry and what the compiler said to files; False if there is none. A damaged entry is removed."""
    folder = cache_folder() / "emulation"
    for entry in sorted(folder.glob(f"{key}-*.so")):
        try:
            content = entry.read_bytes()
        except OSError:  # Another process has just removed it, or it is not ours to read: the compiler helps.
            continue
        if entry.stem != f"{key}-{_hash(content)}":
            with suppress(PermissionError):  # in a cache that is only read it stays, and is not used
                entry.unlink(missing_ok=True)
            continue
        try:
            said = (folder / f"{key}.log").read_bytes()
        except OSError:
            said = b"compiled before, from the very same sources\n"
        _write(content, target)
        log.write_bytes(said)
        if os.access(entry, os.W_OK):
            with suppress(FileNotFoundError):  # another process has just removed it
                os.utime(entry)
        return True
    return False


def store(key: str, library: Path, log: Path) -> None:
    """Keep a library and what the compiler said; warn where the folder of the cache cannot be written."""
    folder = cache_folder() / "emulation"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        content = library.read_bytes()
        _write(log.read_bytes(), folder / f"{key}.log")
        _write(content, folder / f"{key}-{_hash(content)}.so")
        entries = sorted(folder.glob("*.so"), key=_last_use)
        for old in entries[:-ENTRIES]:
            old.unlink(missing_ok=True)
            old.with_name(f"{old.stem.partition('-')[0]}.log").unlink(missing_ok=True)
    except OSError as error:
        warnings.warn(
            f"compiled emulations are not kept: {folder}: {error.strerror}; set KERASNAC_CACHE to a folder that can be written",
            stacklevel=2,
        )


def _last_use(entry: Path) -> float:
    return entry.stat().st_mtime if entry.exists() else 0.0


def _hash(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:32]


def _write(content: bytes, target: Path) -> None:
    """Write a file in full before it takes its name."""
    descriptor, temporary = tempfile.mkstemp(prefix=f".{target.name}.", dir=target.parent)
    try:
        with os.fdopen(descriptor, "wb") as stream:
            stream.write(content)
        os.chmod(temporary, 0o755)
        shutil.move(temporary, target)
    finally:
        Path(temporary).unlink(missing_ok=True)
