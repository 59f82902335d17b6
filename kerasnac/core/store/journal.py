"""An append-only record of everything computed, safe under ``kill -9`` at any instant."""

from __future__ import annotations

import fcntl
import json
import logging
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from kerasnac.errors import EnvironmentProblem, RunError

log = logging.getLogger("kerasnac")


class Journal:
    """A file of JSON lines, ``pandas.read_json(path, lines=True)`` reads it.

    A record is on disk when :meth:`append` returns. A record that a crash cut in half is dropped with a message
    and overwritten by the next one. Several processes may append: each takes the file's lock.

    Args:
        path: The file; made, with its folder, by the first :meth:`append`.
    """

    def __init__(self, path: Path | str) -> None:
        self.path = Path(path)

    def append(self, record: Mapping[str, Any]) -> None:
        """Writes one record and waits until it is on disk.

        Raises:
            EnvironmentProblem: If the file cannot be written.
        """
        line = (json.dumps(record, separators=(",", ":"), allow_nan=True) + "\n").encode()
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with self._locked("ab+") as file:
                _drop_torn_tail(file, self.path)
                file.write(line)
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise EnvironmentProblem(f"cannot write {self.path}: {error.strerror}") from error

    def records(self) -> list[dict[str, Any]]:
        """All whole records, oldest first.

        Raises:
            RunError: If a line other than the last is damaged: the file was edited.
        """
        if not self.path.exists():
            return []
        with self._locked("rb") as file:
            lines = file.read().split(b"\n")
        if lines.pop():
            log.warning("%s: dropped a half-written record at its end", self.path)
        records = []
        for number, line in enumerate(lines, start=1):
            try:
                records.append(json.loads(line))
            except ValueError as error:
                raise RunError(
                    f"{self.path}:{number}: damaged record ({error}); restore the file or start a new run"
                ) from error
        return records

    def __len__(self) -> int:
        return len(self.records())

    @contextmanager
    def _locked(self, mode: str) -> Iterator[IO[bytes]]:
        with self.path.open(mode) as file:
            fcntl.flock(file, fcntl.LOCK_SH if mode == "rb" else fcntl.LOCK_EX)
            yield file


def _drop_torn_tail(file: IO[bytes], path: Path) -> None:
    """Truncates the file after its last newline; every whole record ends in one."""
    file.seek(0)
    content = file.read()
    whole = content.rfind(b"\n") + 1
    if whole < len(content):
        log.warning("%s: dropped a half-written record at its end", path)
        file.truncate(whole)
