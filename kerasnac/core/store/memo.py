"""The records of a journal by key, so that nothing is computed twice."""

from __future__ import annotations

import json
from collections.abc import Callable, Hashable, Mapping
from typing import Any

from kerasnac.core.store.journal import Journal, Position
from kerasnac.errors import RunError

Record = dict[str, Any]


class Memo:
    """Records of a journal by key.

    It reads the file once, and after that only what has been appended to it. Several memos, in several processes, may
    append to one file.

    Records are kept as they stand in the file, and decoded when they are asked for: as dictionaries, 100,000 of them would
    take a gigabyte.

    Args:
        journal: Where the records are.
        key_of: Key of a record; several records may have the same.

    Raises:
        RunError: If the journal is damaged, or of another version of kerasnac, so that a record has no key.
    """

    def __init__(self, journal: Journal, key_of: Callable[[Record], Hashable]) -> None:
        self.journal = journal
        self._key_of = key_of
        self._end = Position()
        #: Number of the line, and the line, of every record, by key.
        self._lines: dict[Hashable, list[tuple[int, bytes]]] = {}
        self.refresh()

    def refresh(self) -> None:
        """Read what has been appended since the last look, by this or any other process.

        Raises:
            RunError: As in the constructor.
        """
        lines, end = self.journal.lines(self._end)
        numbered = list(enumerate(lines, start=self._end.lines + 1))
        keys = [self._key(self.journal.parsed(line, number), number) for number, line in numbered]
        for key, item in zip(keys, numbered, strict=True):
            self._lines.setdefault(key, []).append(item)
        self._end = end

    def add(self, record: Mapping[str, Any]) -> None:
        """Append a record to the journal and wait until it is on disk; read it, and what others have appended before it.

        Raises:
            EnvironmentProblem: If the file cannot be written.
        """
        self.journal.append(record)
        self.refresh()

    def __contains__(self, key: Hashable) -> bool:
        return key in self._lines

    def get(self, key: Hashable) -> Record | None:
        """Return the last record with a key, or None."""
        found = self._lines.get(key)
        return _decoded(found[-1]) if found else None

    def all(self, *keys: Hashable) -> list[Record]:
        """Return all records with one of some keys, oldest first."""
        found = [item for key in dict.fromkeys(keys) for item in self._lines.get(key, ())]
        return [_decoded(item) for item in sorted(found)]

    def _key(self, record: Record, number: int) -> Hashable:
        try:
            return self._key_of(record)
        except KeyError as error:
            raise RunError(
                f"{self.journal.path}:{number} is of another version of kerasnac ({error} is missing): start a new run"
            ) from None


def _decoded(item: tuple[int, bytes]) -> Record:
    record: Record = json.loads(item[1])
    return record
