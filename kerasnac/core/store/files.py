"""Files that are whole or absent, never half written."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

from kerasnac.errors import EnvironmentProblem, RunError

#: End of the names of files and folders that are being written; the names begin with a dot.
TEMPORARY = ".tmp"

#: Remedies, by the error of the machine.
_REMEDIES = {
    errno.EFBIG: "raise the limit on the size of files (ulimit -f) and call again: nothing is lost",
    errno.ENOENT: "its folder was deleted while it was in use; run again",
    errno.EIO: "the disk has an error; mend it and call again",
    errno.EISDIR: "move this folder away",
    errno.ELOOP: "choose another folder",
    errno.ENOTDIR: "choose another folder",
    errno.EEXIST: "choose another folder",
    errno.ENAMETOOLONG: "choose a shorter name",
    **dict.fromkeys((errno.EACCES, errno.EPERM, errno.EROFS), "choose a folder you may write to"),
    **dict.fromkeys((errno.EMFILE, errno.ENFILE), "raise the limit on open files (ulimit -n) and call again"),
}

#: Errors of a disk that is full.
_FULL = frozenset({errno.ENOSPC, errno.EDQUOT})

#: Errors of a disk, whatever is being written: other errors may have other reasons than the disk.
_OF_DISKS = _FULL | {errno.EFBIG, errno.EIO, errno.EROFS}

#: Free bytes of a disk that counts as full.
_LITTLE = 1 << 16


@contextmanager
def writing(path: Path, size: int = 0) -> Iterator[None]:
    """Turn errors of the machine while something is written into one line that names it and the remedy.

    Args:
        path: What is written.
        size: Bytes that it takes, as far as known.

    Raises:
        EnvironmentProblem: If the block raises an OSError or a MemoryError.
    """
    try:
        yield
    except MemoryError as error:
        raise EnvironmentProblem(f"cannot write to {path}: there is not enough memory; use fewer workers") from error
    except OSError as error:
        raise _cannot_write(path, error, size) from error


def make_folder(path: Path) -> None:
    """Make a folder, with those that it lies in, and wait until their names are on disk."""
    if not path.is_dir():
        make_folder(path.parent)
        path.mkdir(exist_ok=True)
        sync(path.parent)


def sync(path: Path) -> None:
    """Wait until the content of a file, or the names of a folder's files, are on disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        # Some file systems have nothing to do for a folder, and say so.
        if error.errno != errno.EINVAL or not path.is_dir():
            raise
    finally:
        os.close(descriptor)


def write_all(file: IO[bytes], content: bytes) -> None:
    """Write bytes at the end of a file without a buffer: a disk that is nearly full takes a part of them only."""
    rest = memoryview(content)
    while rest:
        rest = rest[os.write(file.fileno(), rest) :]


def write_bytes(path: Path, content: bytes) -> None:
    """Write a file, which takes its name when its content is on disk.

    Raises:
        EnvironmentProblem: If it cannot be written.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}{TEMPORARY}")
    with writing(path, len(content)):
        try:
            with temporary.open("wb", buffering=0) as file:
                write_all(file, content)
                os.fsync(file.fileno())
            temporary.replace(path)
        except BaseException:
            with suppress(OSError):
                temporary.unlink(missing_ok=True)
            raise
        sync(path.parent)


def write_text(path: Path, text: str) -> None:
    """Write a file of UTF-8 text as :func:`write_bytes` does."""
    write_bytes(path, text.encode())


def write_json(path: Path, data: Any) -> None:
    """Write a file of indented JSON as :func:`write_bytes` does."""
    write_text(path, json.dumps(data, indent=2, sort_keys=True) + "\n")


def read_object(path: Path, remedy: str = "") -> dict[str, Any]:
    """Read a file that holds one JSON object.

    Args:
        path: The file.
        remedy: What to do if it is damaged, for the message; nothing by default.

    Raises:
        RunError: If it cannot be read, or holds something else.
    """
    remedy = remedy and f"; {remedy}"
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(data, dict):
            raise ValueError("it is no JSON object")
    except OSError as error:
        raise RunError(f"{path} cannot be read: {error.strerror}{remedy}") from error
    except RecursionError as error:
        raise RunError(f"{path} is damaged: it is nested too deeply{remedy}") from error
    except ValueError as error:
        raise RunError(f"{path} is damaged: {error}{remedy}") from error
    return data


def file_hash(path: Path) -> str:
    """Return the SHA-256 of a file, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextmanager
def new_folder(path: Path) -> Iterator[Path]:
    """Yield a temporary folder, which becomes ``path`` when the block ends without an exception.

    It takes its name when all that is in it is on disk. A folder that is already there is replaced.

    Raises:
        EnvironmentProblem: If it cannot be written.
        RunError: If it is deleted while it is being written.
    """
    if path.exists() and not path.is_dir():
        raise EnvironmentProblem(f"cannot write to {path}: it is a file; choose another folder")
    with writing(path.parent):
        make_folder(path.parent)
        temporary = _temporary_folder(path)
    try:
        try:
            yield temporary
        except OSError as error:
            if not temporary.is_dir():
                raise deleted(path.parent) from error
            if error.errno not in _OF_DISKS:
                raise
            raise _cannot_write(path, error) from error
        with writing(path):
            temporary.chmod(0o755)
            _sync_tree(temporary)
            _put_in_place(temporary, path)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def remove_leftovers(folder: Path) -> None:
    """Remove what processes that were killed have left half written in a folder; nobody else may be writing there."""
    for path in folder.glob(f".*{TEMPORARY}"):
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path, ignore_errors=True)
        else:
            with suppress(OSError):
                path.unlink()


def deleted(path: Path) -> RunError:
    """Return the error of a file or folder that is deleted while it is in use."""
    return RunError(f"{path} was deleted or replaced while it was in use: what was in it is lost; run again")


def _temporary_folder(path: Path) -> Path:
    """Make a folder beside one that is going to have its content, or has had it."""
    return Path(tempfile.mkdtemp(prefix=f".{path.name}.", suffix=TEMPORARY, dir=path.parent))


def _put_in_place(temporary: Path, path: Path) -> None:
    """Give a folder its name; a folder that has it goes when the new one is in place."""
    if not path.exists():
        temporary.rename(path)
        sync(path.parent)
        return
    old = _temporary_folder(path)
    path.rename(old)
    try:
        temporary.rename(path)
    except OSError:
        old.rename(path)
        raise
    sync(path.parent)
    shutil.rmtree(old, ignore_errors=True)


def disk_problem(path: Path, said: str) -> EnvironmentProblem | None:
    """Return the problem of the disk that made a program of others fail, or None if it was another one.

    Args:
        path: What the program was to write.
        said: Its messages.
    """
    told = next((number for number in sorted(_OF_DISKS) if os.strerror(number) in said), None)
    if told is None and shutil.disk_usage(path.parent).free < _LITTLE:
        told = errno.ENOSPC
    return None if told is None else _cannot_write(path, OSError(told, os.strerror(told)))


def _cannot_write(path: Path, error: OSError, size: int = 0) -> EnvironmentProblem:
    remedy = _REMEDIES.get(error.errno or 0, "choose another folder")
    if error.errno in _FULL:
        needed = f"{_amount(size)} are needed" if size else "space is needed"
        remedy = f"{needed}, {_free(path)} are free: make space and call again, nothing is lost"
    return EnvironmentProblem(f"cannot write to {path}: {error.strerror or error}; {remedy}")


def _free(path: Path) -> str:
    for folder in path.parents:
        with suppress(OSError):
            return _amount(shutil.disk_usage(folder).free)
    return "how many"


def _amount(size: int) -> str:
    return f"{size / 1e6:,.1f} MB" if size >= 1e6 else f"{size / 1e3:,.1f} kB"


def _sync_tree(folder: Path) -> None:
    for path in folder.rglob("*"):
        if not path.is_symlink() and (path.is_file() or path.is_dir()):
            sync(path)
    sync(folder)
