"""Journal of the stages of a run: what each was asked for and found, so that nothing is found out twice."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from kerasnac.core.store.journal import Journal
from kerasnac.core.store.keys import content_key
from kerasnac.core.store.progress import Progress, event, silent

#: Name of the journal in the run folder.
JOURNAL = "stages.jsonl"


@dataclass
class Stage:
    """One call of a stage.

    Attributes:
        folder: Run folder.
        name: Of the stage.
        asked: What it is asked for.
        known: What the last call has found that was asked for the same, whatever came between; None if there is none.
        found: What it finds; to be filled in before it ends.
        is_recorded: True if the last call of the stage was asked for the same, and has ended with what is known.
    """

    folder: Path
    name: str
    asked: Mapping[str, Any]
    known: Mapping[str, Any] | None
    found: dict[str, Any] = field(default_factory=dict)
    is_recorded: bool = False
    _started: float = field(default_factory=time.monotonic)

    def end(self) -> None:
        """Record what it has found, unless that is recorded already."""
        found = _plain(self.found)
        if not (self.is_recorded and found == self.known):
            seconds = round(time.monotonic() - self._started, 3)
            record = {"stage": self.name, "event": "ended", "time": _now(), "seconds": seconds, "found": found}
            Journal(self.folder / JOURNAL).append(_signed(record))


def begin(
    folder: Path, name: str, asked: Mapping[str, Any], *, settings: Mapping[str, Any] | None = None, again: bool = True
) -> Stage:
    """Record that a stage begins, unless its last call was asked for the same and has ended.

    Args:
        folder: Run folder.
        name: Of the stage.
        asked: All that decides what it finds, and how it is shown, JSON-ready.
        settings: Settings of the call, for those who look at the run; they decide nothing that ``asked`` does not say.
        again: False if a call that goes on with one that was interrupted is the same call, and not another one.

    Raises:
        EnvironmentProblem: If the journal cannot be written.
        RunError: If it cannot be read.
    """
    journal, asked = Journal(folder / JOURNAL), _plain(asked)
    own = [record for record in journal.records() if is_sound(record) and record["stage"] == name]
    before: Mapping[str, Any] | None = None
    known: Mapping[str, Any] | None = None
    for record in own:
        if record["event"] == "began":
            before = record["asked"]
        elif before == asked:
            known = record["found"]
    ended = bool(own) and own[-1]["event"] == "ended"
    if before != asked or (again and not ended):
        given = {} if settings is None else {"settings": _plain(settings)}
        journal.append(_signed({"stage": name, "event": "began", "time": _now(), "asked": asked, **given}))
    return Stage(folder, name, asked, known, is_recorded=ended and before == asked)


@contextmanager
def stage(
    folder: Path,
    name: str,
    asked: Mapping[str, Any],
    settings: Mapping[str, Any] | None = None,
    *,
    progress: Progress = silent,
) -> Iterator[Stage]:
    """Record that a stage begins, and what it has found when it ends without an exception; see :func:`begin`.

    Nothing is recorded where the last call was asked for the same, and has found the same. The progress is told, too.
    """
    call = begin(folder, name, asked, settings=settings)
    known, started = call.known is not None, time.monotonic()
    progress(event("stage_started", name, asked=call.asked, known=known))
    yield call
    call.end()
    progress(event("stage_ended", name, known=known, seconds=round(time.monotonic() - started, 3)))


def is_sound(record: Mapping[str, Any]) -> bool:
    """Return False for a record that has changed since it was written; what it held is found out again."""
    return bool(record.get("digest") == _signed(record)["digest"])


def _signed(record: Mapping[str, Any]) -> dict[str, Any]:
    own = {name: value for name, value in record.items() if name != "digest"}
    return {**own, "digest": content_key("stage", record=own)}


def _plain(value: Mapping[str, Any]) -> dict[str, Any]:
    """Return values as a journal has them: tuples are lists there."""
    read: dict[str, Any] = json.loads(json.dumps(value))
    return read


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
