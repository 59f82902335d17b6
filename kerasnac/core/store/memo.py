"""The records of a journal by key, so that nothing is computed twice."""

from __future__ import annotations

import json
from collections.abc import Callable, Hashable, Mapping
from typing import Any

from pydantic import ConfigDict, TypeAdapter, ValidationError

from kerasnac.core.store.journal import Journal, Position
from kerasnac.errors import RunError

Record = dict[str, Any]

_STRICT = ConfigDict(strict=True)


class Shape:
    """The keys of a record, with the types of their values.

    Args:
        keys: Type of every key, as annotations have it. ``name?`` is a key that may be missing, ``name.*`` stands for all
            keys that begin with ``name.``; a key that is not listed may hold anything.
    """

    def __init__(self, keys: Mapping[str, Any]) -> None:
        def adapters(end: str, given: Mapping[str, Any]) -> dict[str, TypeAdapter[Any]]:
            return {name.removesuffix(end): TypeAdapter(kind, config=_STRICT) for name, kind in given.items()}

        self._optional = adapters("?", {name: kind for name, kind in keys.items() if name.endswith("?")})
        self._families = adapters("*", {name: kind for name, kind in keys.items() if name.endswith("*")})
        self._required = adapters("", {name: kind for name, kind in keys.items() if not name.endswith(("?", "*"))})

    def check(self, record: Mapping[str, Any]) -> None:
        """Check a record.

        Raises:
            KeyError: If a key is missing.
            TypeError: If a value has another type; the message names the key.
        """
        for name, adapter in self._required.items():
            _check(adapter, name, record[name])
        for name, adapter in self._optional.items():
            if name in record:
                _check(adapter, name, record[name])
        for start, adapter in self._families.items():
            for name, value in record.items():
                if name.startswith(start):
                    _check(adapter, name, value)


def _check(adapter: TypeAdapter[Any], name: str, value: object) -> None:
    try:
        adapter.validate_python(value)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join([name, *map(str, first["loc"])])
        raise TypeError(f"{where} is {first['input']!r:.60}: {first['msg'][0].lower()}{first['msg'][1:]}") from None


class Memo:
    """Records of a journal by key.

    It reads the file once, and after that only what has been appended to it. Several memos, in several processes, may
    append to one file.

    Records are kept as they stand in the file, and decoded when they are asked for: as dictionaries, 100,000 of them would
    take a gigabyte.

    Args:
        journal: Where the records are.
        shape: What a record looks like; every record is checked when it is read. A function chooses one of several shapes.
        key_of: Key of a record; several records may have the same.

    Raises:
        RunError: If the journal is damaged, or of another version of kerasnac, so that a record has another shape.
    """

    def __init__(
        self, journal: Journal, shape: Shape | Callable[[Record], Shape], key_of: Callable[[Record], Hashable]
    ) -> None:
        self.journal = journal
        self._shape = shape
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

    @property
    def records(self) -> list[Record]:
        """All records, oldest first."""
        return self.all(*self._lines)

    def _key(self, record: Record, number: int) -> Hashable:
        where = f"{self.journal.path}:{number}"
        try:
            (self._shape if isinstance(self._shape, Shape) else self._shape(record)).check(record)
            return self._key_of(record)
        except KeyError as error:
            raise RunError(f"{where} is of another version of kerasnac ({error} is missing): start a new run") from None
        except TypeError as error:
            raise RunError(f"{where}: damaged record: {error}; restore the file or start a new run") from None


def _decoded(item: tuple[int, bytes]) -> Record:
    record: Record = json.loads(item[1])
    return record
