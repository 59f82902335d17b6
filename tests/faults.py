"""System calls that fail: a layer under all that changes the files of a folder."""

from __future__ import annotations

import builtins
import errno
import io
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import pytest

#: How a call fails. ``full``: half is written, and from there on nothing that takes space; ``broken``: this call and all
#: after it; ``hiccup``: this call alone; ``killed``: the process is gone before the call; ``torn``: in the middle of it.
Fault = Literal["full", "broken", "hiccup", "killed", "torn"]

FAULTS: tuple[Fault, ...] = ("full", "broken", "hiccup", "killed", "torn")

#: Calls that free space or take none.
_FREEING = frozenset({"unlink", "rmdir", "ftruncate", "chmod"})


class Killed(BaseException):
    """The process is gone: from here on, nothing that it does reaches the disk."""


class Faults:
    """Calls of the operating system that change files below a folder, of which one can fail.

    Attributes:
        calls: Name and path of every call so far, the path relative to the folder.
    """

    def __init__(self, folder: Path, fault: Fault | None = None, at: int = -1) -> None:
        self.calls: list[tuple[str, str]] = []
        self._folder, self._fault, self._at = folder, fault, at

    def install(self, patch: pytest.MonkeyPatch) -> None:
        """Put the layer under everything."""
        for name in ("mkdir", "rmdir", "unlink", "rename", "replace", "chmod", "fsync", "ftruncate", "write"):
            patch.setattr(os, name, self._wrapped(name, getattr(os, name)))
        for module in (io, builtins):
            patch.setattr(module, "open", self._opening(module.open))

    def _wrapped(self, name: str, call: Callable[..., Any]) -> Callable[..., Any]:
        def wrapper(target: Any, *arguments: Any, **options: Any) -> Any:
            path = self._path(target, options.get("dir_fd"))
            if path is not None and self._fails(name, path) and name == "write" and self._fault in ("full", "torn"):
                (content,) = arguments
                written = call(target, content[: len(content) // 2])
                if self._fault == "torn":
                    raise Killed
                return written
            return call(target, *arguments, **options)

        return wrapper

    def _opening(self, call: Callable[..., Any]) -> Callable[..., Any]:
        def wrapper(file: Any, mode: str = "r", *arguments: Any, **options: Any) -> Any:
            path = self._path(file) if set(mode) & set("wax+") else None
            if path is not None:
                self._fails("open", path)
            return call(file, mode, *arguments, **options)

        return wrapper

    def _fails(self, name: str, path: str) -> bool:
        """Count a call and let it fail; True if it fails in its middle, which is left to the caller."""
        number = len(self.calls)
        self.calls.append((name, path))
        if self._fault is None or number < self._at:
            return False
        if number == self._at and name == "write" and self._fault in ("full", "torn"):
            return True
        if self._fault in ("killed", "torn"):
            raise Killed
        if self._fault == "full" and name not in _FREEING:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        if self._fault == "broken" or (self._fault == "hiccup" and number == self._at):
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return False

    def _path(self, target: Any, directory: int | None = None) -> str | None:
        """Return where a call goes, relative to the folder; None if it is elsewhere."""
        if isinstance(target, int):
            target = os.readlink(f"/proc/self/fd/{target}")
        elif directory is not None:
            target = os.path.join(os.readlink(f"/proc/self/fd/{directory}"), target)
        path = os.path.abspath(os.fsdecode(target))
        folder = str(self._folder)
        return os.path.relpath(path, folder) if path == folder or path.startswith(f"{folder}/") else None
