"""Events as lines: of text, and of JSON."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any, TextIO

from kerasnac.core import display
from kerasnac.core.data.bootstrap import number
from kerasnac.core.store.progress import Kind, Step

#: Seconds after which work that makes no count grow is told of again.
BEAT = 60.0


def line_of(step: Step) -> str:
    """Return an event as a line of text."""
    make = _LINES.get(step.kind)
    return f"{step.stage} {step.done}/{step.total} {step.text}".rstrip() if make is None else make(step, step.facts)


def _candidate(step: Step, facts: Mapping[str, Any]) -> str:
    spent = f", {facts['seconds']:.1f} s" if facts["seconds"] else ""
    text = f"candidate {facts['model']} {facts['status'].replace('_', ' ')}{_metrics(facts)}; generation {facts['generation']}"
    return f"{text}{spent}{_known(facts)}" + (f": {facts['reason']}" if facts["reason"] else "")


def _run_ended(step: Step, facts: Mapping[str, Any]) -> str:
    text = f"ended with exit code {facts['code']} after {facts['seconds']:.1f} s"
    text += f": {facts['message']}" if facts["message"] else ""
    return f"{text}; `{facts['resume']}` goes on" if facts["resume"] else text


_LINES: Mapping[Kind, Callable[[Step, Mapping[str, Any]], str]] = {
    "run_started": lambda s, f: f"run {f['folder']}, seed {f['seed']}, kerasnac {f['kerasnac']}: {f['dataset']}",
    "stage_started": lambda s, f: f"{s.stage} begins{_known(f)}",
    "working": lambda s, f: f"{s.stage}: workers have {', '.join(f['running']) or 'nothing'}",
    "candidate": _candidate,
    "generation": lambda s, f: (
        f"generation {f['number']}: hypervolume {f['hypervolume']:.4f}, {f['evaluations']} candidates trained, "
        f"{f['seconds']:.1f} s"
    ),
    "trial": lambda s, f: f"{f['trial']} {f['number']} of {f['model']}{_metrics(f)}{_known(f)}",
    "point": lambda s, f: f"point {f['model']}{_metrics(f)}{_known(f)}",
    "firmware": lambda s, f: f"firmware {f['model']}: {f['verdict'] or 'refused: ' + f['reason']}{_known(f)}",
    "score": lambda s, f: f"test {f['model']}: {f['metric']} {number(f['value'])} [{number(f['low'])}, {number(f['high'])}]",
    "message": lambda s, f: f"{f['level']}: {f['message']}",
    "stage_ended": lambda s, f: f"{s.stage} ends after {f['seconds']:.1f} s",
    "run_ended": _run_ended,
}


def _metrics(facts: Mapping[str, Any]) -> str:
    return "".join(f", {name} {display.number(value)}" for name, value in facts["metrics"].items()).replace(",", ":", 1)


def _known(facts: Mapping[str, Any]) -> str:
    return " (known)" if facts["known"] else ""


class Telling:
    """Leaves out events that say nothing new: how far a stage is, where it is not farther; but it tells so now and then.

    Args:
        clock: Gives seconds.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._last: tuple[str, int, int] | None = None
        self._when = 0.0

    def __call__(self, step: Step) -> bool:
        """Return True if an event is to be told."""
        how_far, now = (step.stage, step.done, step.total), self._clock()
        if step.kind == "progress" and how_far == self._last and now - self._when < BEAT:
            return False
        if step.total:
            self._last, self._when = how_far, now
        return True


class EventLines:
    """Writes every event as a line.

    Args:
        file: For the lines; flushed after each.
        text: The line of an event, from the event and the time of day.
        clock: Gives seconds.
        time: Gives the time of day.
    """

    def __init__(
        self,
        file: TextIO,
        text: Callable[[Step, str], str],
        clock: Callable[[], float],
        time: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._file, self._text, self._time, self._tells = file, text, time, Telling(clock)

    def __call__(self, step: Step) -> None:
        """Write an event."""
        if self._tells(step):
            self._file.write(f"{self._text(step, stamp(self._time()))}\n")
            self._file.flush()


def json_line(step: Step, time: str) -> str:
    """Return an event as a JSON object: ``event``, ``time``, how far the stage is, and the facts of its kind."""
    made: dict[str, Any] = {"event": step.kind, "time": time}
    made |= {"stage": step.stage} if step.stage else {}
    made |= {"done": step.done, "total": step.total} if step.total else {}
    made |= {"text": step.text} if step.text else {}
    return json.dumps(_plain({**made, **step.facts}), ensure_ascii=False, allow_nan=False)


def log_line(step: Step, time: str) -> str:
    """Return an event as a line of a log."""
    return f"{time} {' '.join(line_of(step).split())}"


def stamp(time: datetime) -> str:
    """Return a time in ISO 8601, to the millisecond."""
    return time.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _plain(value: Any) -> Any:
    """Return a value as JSON has it: numbers that are not finite are null, numbers of NumPy numbers."""
    if isinstance(value, Mapping):
        return {str(name): _plain(one) for name, one in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(one) for one in value]
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else None
    return value.item() if hasattr(value, "item") else value
