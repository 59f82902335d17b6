"""An append-only record of everything computed, safe under ``kill -9`` at any instant."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, NamedTuple

from kerasnac.core.store.files import make_folder, sync, write_all, writing
from kerasnac.core.store.locks import lock
from kerasnac.errors import RunError

log = logging.getLogger("kerasnac")

#: Bytes that are read at once when the end of the last whole record is searched for.
BLOCK = 1 << 16


class Position(NamedTuple):
    """Place in a journal between two records.

    Attributes:
        offset: Bytes before it.
        lines: Records before it.
    """

    offset: int = 0
    lines: int = 0


BEGINNING = Position()


class Journal:
    """File of JSON lines, which ``pandas.read_json(path, lines=True)`` reads, too.

    A record is on disk when :meth:`append` returns. A record that a crash cut in half is dropped with a message
    and overwritten by the next one. Several processes may append: each takes the file's lock.

    Args:
        path: The file; made, with its folder, by the first :meth:`append`.
    """

    def __init__(self, path: Path | str) -> None:
        self.path = Path(path)

    def append(self, record: Mapping[str, Any]) -> None:
        """Write one record, and wait until it is on disk.

        Raises:
            EnvironmentProblem: If the file cannot be written.
        """
        line = (json.dumps(record, separators=(",", ":"), allow_nan=True) + "\n").encode()
        with writing(self.path, len(line)):
            make_folder(self.path.parent)
            with self._locked("ab+") as file:
                self._drop_torn_tail(file)
                first = file.tell() == 0
                write_all(file, line)
                os.fsync(file.fileno())
            if first:
                sync(self.path.parent)

    def records(self) -> list[dict[str, Any]]:
        """Return all whole records, oldest first.

        Raises:
            RunError: If a line other than the last is damaged: the file was edited.
        """
        lines, _ = self.lines()
        return [self.parsed(line, number) for number, line in enumerate(lines, start=1)]

    def lines(self, start: Position = BEGINNING) -> tuple[list[bytes], Position]:
        """Read the lines of the whole records after a position, undecoded.

        Args:
            start: The position that an earlier call returned; the beginning of the file by default.

        Returns:
            The lines, oldest first, and the position after them.

        Raises:
            RunError: If the file has become shorter: it was edited.
        """
        content = self._read(start.offset)
        whole = content.rfind(b"\n") + 1
        if whole < len(content) and start.offset == 0:
            self._warn()
        lines = content[:whole].split(b"\n")[:-1]
        return lines, Position(start.offset + whole, start.lines + len(lines))

    def parsed(self, line: bytes, number: int) -> dict[str, Any]:
        """Return the record of a line.

        Args:
            line: The line.
            number: Its number in the file, from 1.

        Raises:
            RunError: If it is damaged.
        """
        try:
            record = json.loads(line)
            if not isinstance(record, dict):
                raise ValueError("it is no JSON object")
        except (ValueError, RecursionError) as error:
            raise RunError(f"{self.path}:{number}: damaged record ({error}); restore the file or start a new run") from error
        return record

    def __len__(self) -> int:
        return len(self.records())

    def _read(self, offset: int) -> bytes:
        """Return the bytes after an offset."""
        size, content = 0, b""
        try:
            if self.path.exists():
                with self._locked("rb") as file:
                    size = file.seek(0, os.SEEK_END)
                    file.seek(offset)
                    content = file.read()
        except OSError as error:
            raise RunError(
                f"{self.path} cannot be read: {error.strerror}; move it away, and what it held is computed again"
            ) from error
        if size < offset:
            raise RunError(
                f"{self.path} has become shorter than it was, or was deleted while it was in use: restore the file, or start a "
                "new run"
            )
        return content

    def _drop_torn_tail(self, file: IO[bytes]) -> None:
        """Truncate the file after its last newline, since every whole record ends in one; leave it at its end."""
        end = start = file.seek(0, os.SEEK_END)
        last = 1
        while start > 0:
            start, before = max(0, start - last), start
            file.seek(start)
            if newline := file.read(before - start).rfind(b"\n") + 1:
                start += newline
                break
            last = BLOCK
        if start < end:
            self._warn()
            os.ftruncate(file.fileno(), start)
        file.seek(0, os.SEEK_END)

    def _warn(self) -> None:
        log.warning("%s: dropped a half-written record at its end", self.path)

    @contextmanager
    def _locked(self, mode: str) -> Iterator[IO[bytes]]:
        with self.path.open(mode, buffering=0) as file:
            lock(file, self.path, shared=mode == "rb")
            yield file
