"""Reading what is there: what is damaged is named, and left out."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from kerasnac.core.network.trained import Trained
from kerasnac.core.store.files import read_object
from kerasnac.core.store.journal import Journal
from kerasnac.core.store.memo import Record, Shape
from kerasnac.errors import ConfigError, KerasnacError, RunError

Read = TypeVar("Read")


class Reading:
    """Files of a run folder, read without a lock, also while a run writes them; and what could not be read.

    Args:
        folder: Run folder.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._problems: dict[str, None] = {}

    @property
    def problems(self) -> tuple[str, ...]:
        """What could not be read so far, with the reason."""
        return tuple(self._problems)

    def note(self, problem: str) -> None:
        """Add a problem."""
        self._problems[problem] = None

    def tried(self, read: Callable[[], Read]) -> Read | None:
        """Return what a function reads; None, with a problem, if it cannot."""
        try:
            return read()
        except (KerasnacError, OSError) as error:
            self.note(str(error))
            return None

    def json_object(self, name: str) -> dict[str, Any]:
        """Return a JSON object; an empty one if there is none, or it is damaged."""
        path = self.folder / name
        return (self.tried(lambda: read_object(path)) or {}) if path.exists() else {}

    def records(self, name: str, shape: Shape | Callable[[Record], Shape] | None = None) -> list[Record]:
        """Return the sound records of a journal, oldest first; a half-written last one is left out without a word."""
        path, found, damaged = self.folder / name, list[Record](), list[str]()
        content = self.tried(path.read_bytes) if path.is_file() else b""
        journal = Journal(path)
        for number, line in enumerate((content or b"").split(b"\n")[:-1], start=1):
            try:
                record = journal.parsed(line, number)
                if shape is not None:
                    (shape if isinstance(shape, Shape) else shape(record)).check(record)
                found.append(record)
            except KeyError as error:
                damaged.append(f"line {number}: {error} is missing")
            except (TypeError, RunError) as error:
                damaged.append(f"line {number}: {error}")
        if damaged:
            self.note(f"{path}: {len(damaged)} of {len(found) + len(damaged)} records are damaged: {damaged[0]}")
        return found

    def model(self, folder: Path) -> Trained | None:
        """Return a trained network; None, with a problem, if it is missing or damaged."""
        return self.tried(lambda: Trained.load(folder))

    def settings(self, kind: Callable[..., Read], given: object, where: str) -> Read:
        """Return settings of one stage; the usual ones, with a problem, if they are wrong."""
        try:
            return kind(**given) if isinstance(given, Mapping) else kind()
        except (ConfigError, TypeError, ValueError) as error:
            self.note(f"{where}: {' '.join(str(error).split())[:200]}")
            return kind()
