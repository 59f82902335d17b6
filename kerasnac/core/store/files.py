"""Files that are whole or absent, never half written."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from kerasnac.errors import EnvironmentProblem


def sync_folder(path: Path) -> None:
    """Wait until the names of a folder's files are on disk."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_text(path: Path, text: str) -> None:
    """Writes a file in full before it takes its name."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    temporary.write_text(text, encoding="utf-8")
    temporary.replace(path)


def write_json(path: Path, data: Any) -> None:
    """:func:`write_text` of indented JSON."""
    write_text(path, json.dumps(data, indent=2, sort_keys=True) + "\n")


@contextmanager
def new_folder(path: Path) -> Iterator[Path]:
    """A temporary folder that becomes ``path`` when the block ends without an exception.

    A folder that is already there is replaced.

    Raises:
        EnvironmentProblem: If it cannot be written.
    """
    if path.exists() and not path.is_dir():
        raise EnvironmentProblem(f"cannot write to {path}: it is a file; choose another folder")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(prefix=f".{path.name}.", dir=path.parent))
    except OSError as error:
        raise EnvironmentProblem(f"cannot write to {path.parent}: {error.strerror}; choose another folder") from error
    try:
        yield temporary
        temporary.chmod(0o755)
        if path.exists():
            # Not deleted before the new one is in place; of a name that no process which was killed here has left.
            old = Path(tempfile.mkdtemp(prefix=f".{path.name}.old.", dir=path.parent))
            path.rename(old)
            temporary.rename(path)
            shutil.rmtree(old, ignore_errors=True)
        else:
            temporary.rename(path)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
