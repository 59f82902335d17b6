"""Progress of stages."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass


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


def silent(step: Step) -> None:
    """Ignore progress."""
