"""Progress of stages."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from time import monotonic
from typing import Literal


@dataclass(frozen=True)
class Step:
    """Progress of a stage.

    Attributes:
        stage: Name of the stage.
        done: Units done.
        total: Units in all.
        text: Message, for example the best metric so far.
    """

    stage: str
    done: int
    total: int
    text: str = ""


#: Called by a stage after every unit of work; stages print nothing themselves.
Progress = Callable[[Step], None]


#: A function that is called with the progress; ``shown``: bars in a terminal, lines in a notebook or a log; None: nothing.
GivenProgress = Progress | None | Literal["shown"]


def silent(step: Step) -> None:
    """Ignore progress."""


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
