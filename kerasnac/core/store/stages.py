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

#: Name of the journal in the run folder.
JOURNAL = "stages.jsonl"


@dataclass
class Stage:
    """One call of a stage.

    Attributes:
        asked: What it is asked for.
        known: What the last call, which was asked for the same, has found; None if there is none.
        found: What it finds; to be filled in before it ends.
    """

    asked: Mapping[str, Any]
    known: Mapping[str, Any] | None
    found: dict[str, Any] = field(default_factory=dict)


@contextmanager
def stage(folder: Path, name: str, asked: Mapping[str, Any]) -> Iterator[Stage]:
    """Record that a stage begins, and what it has found when it ends without an exception.

    Nothing is recorded where the last call was asked for the same, and has found the same.

    Args:
        folder: Run folder.
        name: Of the stage.
        asked: All that decides what it finds, and how it is shown, JSON-ready.

    Raises:
        EnvironmentProblem: If the journal cannot be written.
        RunError: If it cannot be read.
    """
    journal, asked = Journal(folder / JOURNAL), _plain(asked)
    own = [record for record in journal.records() if is_sound(record) and record["stage"] == name]
    before = next((record["asked"] for record in reversed(own) if record["event"] == "began"), None)
    ended = bool(own) and own[-1]["event"] == "ended" and before == asked
    call, started = Stage(asked, own[-1]["found"] if ended else None), time.monotonic()
    if not ended:
        journal.append(_signed({"stage": name, "event": "began", "time": _now(), "asked": asked}))
    yield call
    found = _plain(call.found)
    if found != call.known:
        seconds = round(time.monotonic() - started, 3)
        journal.append(_signed({"stage": name, "event": "ended", "time": _now(), "seconds": seconds, "found": found}))


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
