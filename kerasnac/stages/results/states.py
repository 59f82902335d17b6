"""How far the stages of a run are."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from kerasnac.core.store.locks import LOCK_FILE
from kerasnac.core.store.memo import Record

#: The stages, in their order, and what they make.
STAGES: Mapping[str, str] = {
    "search": "candidates trained",
    "tune": "trials",
    "compress": "points",
    "mixed": "points of mixed precision",
    "trees": "points of boosted trees",
    "firmware": "models converted",
    "run": "models scored on the test split",
}

#: ``done``; ``begun``: it runs, or was interrupted; ``waiting``: it has not begun.
Status = Literal["done", "begun", "waiting"]


@dataclass(frozen=True)
class StageState:
    """How far a stage is.

    Attributes:
        stage: Its name, a key of :data:`STAGES`; ``run`` is the scoring at the end.
        status: See :data:`Status`.
        done: How much is done, in units of :data:`STAGES`.
        total: How much there is to do; None where it is not known.
        seconds: Wall time of the calls that ended, or of what is recorded; None where no time is recorded.
        began: When the first call began, UTC, ISO 8601; empty where it is not recorded.
        ended: When the last call ended.
        note: How far a long training is, which counts only when it has ended.
    """

    stage: str
    status: Status
    done: int
    total: int | None = None
    seconds: float | None = None
    began: str = ""
    ended: str = ""
    note: str = ""


@dataclass(frozen=True)
class Call:
    """The last call of a stage.

    Attributes:
        asked: What it was asked for; empty if nothing is recorded.
        found: What it has found; None if it has not ended.
        seconds: Of all calls that ended.
        began: When the first call began.
        ended: When the last call ended; empty if it has not.
        place: Number of its last record in the journal.
    """

    asked: Mapping[str, Any]
    found: Mapping[str, Any] | None
    seconds: float | None = None
    began: str = ""
    ended: str = ""
    place: int = -1

    @classmethod
    def last(cls, records: list[Record], stage: str) -> Call:
        """Return the last call of a stage, from the records of ``stages.jsonl``."""
        numbered = [(number, record) for number, record in enumerate(records) if record["stage"] == stage]
        own = [record for _, record in numbered]
        began = [record for record in own if record["event"] == "began"]
        ended = [record for record in own if record["event"] == "ended"]
        if not began:
            return cls({}, None)
        closed = own[-1]["event"] == "ended"
        seconds = sum(record["seconds"] for record in ended) if ended else None
        found, when = (own[-1]["found"], own[-1]["time"]) if closed else (None, "")
        return cls(began[-1]["asked"], found, seconds, began[0]["time"], when, numbered[-1][0])


@dataclass(frozen=True)
class PastCall:
    """One of the calls of a stage.

    Attributes:
        stage: The stage.
        began: When, UTC, ISO 8601.
        settings: Its settings as they were stated; empty where an earlier version has recorded none.
        found: What it has found; None if it has not ended.
    """

    stage: str
    began: str
    settings: Mapping[str, Any]
    found: Mapping[str, Any] | None

    @classmethod
    def all(cls, records: list[Record]) -> tuple[PastCall, ...]:
        """Return all calls from the records of ``stages.jsonl``, oldest first; one that was resumed is one call."""
        calls: dict[str, PastCall] = {}
        past: list[PastCall] = []
        for record in records:
            name = record["stage"]
            if record["event"] == "began":
                call = cls(name, record["time"], record.get("settings", {}), None)
                before = calls.get(name)
                if before is None or before.found is not None or before.settings != call.settings:
                    calls[name] = call
                    past.append(call)
            elif name in calls:
                ended = replace(calls[name], found=record["found"])
                past[past.index(calls[name])] = calls[name] = ended
        return tuple(past)


def is_locked(folder: Path) -> bool | None:
    """Return True if a process of this machine uses a run folder, without touching its lock; None if nobody can tell.

    The kernel lists all locks in ``/proc/locks``: by the device and the inode of the file.
    """
    try:
        status = (folder / LOCK_FILE).stat()
        lines = Path("/proc/locks").read_text(encoding="ascii").splitlines()
    except FileNotFoundError:
        return None if (folder / LOCK_FILE).exists() else False
    except OSError:
        return None
    own = f"{os.major(status.st_dev):02x}:{os.minor(status.st_dev):02x}:{status.st_ino}"
    return any(own in line.split() for line in lines)
