"""Progress of stages: a live view in a terminal, lines in a notebook or a pipe."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from rich.console import Console

from kerasnac.core.store.progress import Progress, Step
from kerasnac.ui.event_lines import BEAT, line_of
from kerasnac.ui.live_view import DETAILS, LiveView

#: In a pipe, a line at most every so many seconds.
PIPE_SECONDS = 15.0


@contextmanager
def progress_bar(
    console: Console | None = None, *, plain: bool = False, verbose: bool = False, planned: Sequence[str] = ()
) -> Iterator[Progress]:
    """Show the progress of stages: a live view in a terminal, lines elsewhere.

    Args:
        console: Where; standard error by default.
        plain: Lines in a terminal, too.
        verbose: Show every candidate, trial and point, and what libraries say.
        planned: Names of stages that are going to come.

    Example:
        ``with kerasnac.progress_bar() as progress: Run(folder, data, progress=progress).search(space)``
    """
    console = console or Console(stderr=True)
    if console.is_jupyter:
        yield _Notebook()
    elif plain or not console.is_terminal or console.is_dumb_terminal:
        yield _Lines(console, verbose)
    else:
        with LiveView(console, planned=planned, verbose=verbose) as view:
            yield view


class _Line:
    """Progress of a stage as a line of text with the time since its first step."""

    def __init__(self) -> None:
        self._stage = ""
        self._started, self._first = 0.0, 0

    def __call__(self, step: Step) -> str:
        if step.stage != self._stage:
            self._stage, self._started, self._first = step.stage, time.monotonic(), step.done
        elapsed = time.monotonic() - self._started
        fresh, missing = step.done - self._first, step.total - step.done
        left = f", about {elapsed / fresh * missing:.0f} s left" if fresh and missing else ""
        return f"{step.stage:9} {step.done}/{step.total} ({elapsed:.0f} s{left}) {step.text}".rstrip()


class _Lines:
    """Progress in a pipe: a line now and then, and at the end of every stage; every candidate and trial if ``verbose``."""

    def __init__(self, console: Console, verbose: bool = False) -> None:
        self._console, self._line, self._verbose = console, _Line(), verbose
        self._shown: tuple[str, int] | None = None
        self._when = 0.0

    def __call__(self, step: Step) -> None:
        if (self._verbose and step.kind in DETAILS) or (step.kind == "message" and step.facts["level"] != "info"):
            self._print(line_of(step))
        if step.total:
            self._count(step)

    def _count(self, step: Step) -> None:
        text, now = self._line(step), time.monotonic()
        due = step.done == step.total or self._shown is None or self._shown[0] != step.stage or now - self._when > PIPE_SECONDS
        fresh = self._shown != (step.stage, step.done)
        if (due and fresh) or (step.done < step.total and now - self._when > BEAT):
            self._shown, self._when = (step.stage, step.done), now
            self._print(text)

    def _print(self, text: str) -> None:
        self._console.print(text, markup=False, highlight=False, soft_wrap=True)


class _Notebook:
    """Progress in a notebook: one line per stage, updated in its cell; bars of rich would need ipywidgets."""

    def __init__(self) -> None:
        self._line = _Line()
        self._handles: dict[str, Any] = {}

    def __call__(self, step: Step) -> None:
        from IPython.display import display

        if not step.total:
            return
        text = {"text/plain": self._line(step)}
        if step.stage in self._handles:
            self._handles[step.stage].update(text, raw=True)
        else:
            self._handles[step.stage] = display(text, raw=True, display_id=True)  # type: ignore[no-untyped-call]
