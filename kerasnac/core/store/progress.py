"""Progress of stages: one kind of event, for all that listen."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from time import monotonic
from typing import Any, Literal

#: What an event tells; see :data:`FACTS`.
Kind = Literal[
    "progress",
    "run_started",
    "stage_started",
    "working",
    "candidate",
    "generation",
    "trial",
    "point",
    "firmware",
    "score",
    "message",
    "stage_ended",
    "run_ended",
]

#: The facts of every kind of event, by name: these are the fields of ``--json``, too. Further ones may be added.
FACTS: Mapping[Kind, Mapping[str, str]] = {
    "progress": {},
    "run_started": {
        "folder": "the run folder",
        "dataset": "the data, in a line",
        "metric": "name of the task metric",
        "sense": "max or min",
        "seed": "of the run",
        "kerasnac": "version",
    },
    "stage_started": {
        "asked": "what the stage is asked for, as stages.jsonl has it",
        "known": "true if it has ended before, and was asked for the same",
    },
    "working": {"running": "names of the models that the workers have now"},
    "candidate": {
        "model": "id of the candidate, or the genome of one that cannot be built",
        "generation": "its number, from 0",
        "status": "ok, brief, infeasible, over_budget or failed",
        "metrics": "values by name",
        "points": "networks with learned widths: name and metrics of each; else empty",
        "eligible": "true if it keeps the budgets and may be on the front, or one of its points may",
        "architecture": "its layers, in a line",
        "seconds": "of its training",
        "reason": "why it was not trained, or how its training failed",
        "known": "true if the journal had it",
    },
    "generation": {
        "number": "from 0",
        "evaluations": "candidates trained so far",
        "hypervolume": "of the front so far",
        "seconds": "of the generation",
    },
    "trial": {
        "model": "its name",
        "trial": "trial, or repeat with another seed",
        "number": "of the trial or repeat",
        "metrics": "values by name",
        "known": "true if the journal had it",
    },
    "point": {
        "model": "name of a compressed model",
        "metrics": "values by name, costs as well",
        "known": "true if the journal had it",
    },
    "firmware": {
        "model": "its name",
        "bit_exact": "true if all outputs equal Keras'; null if there are none to compare",
        "verdict": "in a line; empty if there is no firmware",
        "reason": "why there is none",
        "known": "true if it was there",
    },
    "score": {
        "model": "its name",
        "metric": "name of the task metric, on the test split",
        "value": "of it",
        "low": "lower end of the 95 % interval",
        "high": "upper end",
    },
    "message": {"level": "info, warning or error", "message": "of kerasnac, or of a library"},
    "stage_ended": {"known": "as in stage_started", "seconds": "wall time"},
    "run_ended": {
        "code": "exit code",
        "seconds": "wall time",
        "message": "why it has ended before its end; else empty",
        "resume": "the command that goes on; empty if the run is complete",
    },
}


@dataclass(frozen=True)
class Step:
    """An event: how far a stage is, and what has happened.

    Attributes:
        stage: Name of the stage; empty for the run.
        done: Units done.
        total: Units in all; 0 where the event does not say how far the stage is.
        text: Message, for example the best metric so far.
        kind: What has happened; ``progress`` for no more than the counts.
        facts: What there is to know about it, JSON-ready; see :data:`FACTS`.
    """

    stage: str
    done: int
    total: int
    text: str = ""
    kind: Kind = "progress"
    facts: Mapping[str, Any] = field(default_factory=dict)


#: Called by a stage with every event; stages print nothing themselves.
Progress = Callable[[Step], None]


#: A function that is called with the progress; ``shown``: a live view in a terminal, lines elsewhere; None: nothing.
GivenProgress = Progress | None | Literal["shown"]


def silent(step: Step) -> None:
    """Ignore progress."""


def event(kind: Kind, stage: str = "", **facts: Any) -> Step:
    """Return an event that does not say how far a stage is."""
    return Step(stage, 0, 0, kind=kind, facts=facts)


@contextmanager
def told(progress: Progress, stage: str, asked: Mapping[str, Any]) -> Iterator[None]:
    """Tell that a stage begins and ends, of which ``stages.jsonl`` has no record yet when it begins.

    Args:
        progress: Is told.
        stage: Name of the stage.
        asked: What it is asked for, JSON-ready.
    """
    began = monotonic()
    progress(event("stage_started", stage, asked=asked, known=False))
    yield
    progress(event("stage_ended", stage, known=False, seconds=round(monotonic() - began, 3)))


def working(progress: Progress, stage: str, names: Sequence[str]) -> Callable[[Sequence[int]], None]:
    """Return a function that tells what the workers have now; it is called with the numbers of the items that run.

    Args:
        progress: Is told.
        stage: Name of the stage.
        names: Of all items; may grow.
    """
    return lambda numbers: progress(event("working", stage, running=[names[number] for number in numbers]))


@dataclass(frozen=True)
class Beat:
    """Progress of work whose end nobody knows: called again and again, it says for how many seconds it has gone on.

    Attributes:
        progress: Is told.
        stage: Name of the stage.
        done: Units done.
        total: Units in all.
    """

    progress: Progress
    stage: str
    done: int
    total: int
    _since: float = field(default_factory=monotonic)

    def __call__(self, text: str) -> None:
        """Say what goes on, and after some seconds for how long."""
        seconds = int(monotonic() - self._since)
        self.progress(Step(self.stage, self.done, self.total, f"{text}, {seconds} s" if seconds > 2 else text))
