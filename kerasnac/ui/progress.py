"""Progress bars for terminals, lines for notebooks and pipes."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from kerasnac.core.store.progress import Progress as Callback
from kerasnac.core.store.progress import Step

#: In a pipe, a line at most every so many seconds; and if nothing new is done, after so many.
PIPE_SECONDS, PIPE_BEAT = 15.0, 60.0


@contextmanager
def progress_bar(console: Console | None = None) -> Iterator[Callback]:
    """Show the progress of stages, one bar per stage, with elapsed and remaining time.

    Example:
        ``with kerasnac.progress_bar() as progress: Run(folder, data, progress=progress).search(space)``
    """
    console = console or Console(stderr=True)
    if console.is_jupyter:
        yield _Notebook()
        return
    if not console.is_terminal:
        yield _Lines(console)
        return
    columns = (
        TextColumn("{task.fields[stage]:9}"),
        BarColumn(bar_width=30),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("eta"),
        TimeRemainingColumn(),
        TextColumn("{task.description}"),
    )
    with Progress(*columns, console=console) as bars:
        tasks: dict[str, int] = {}

        def show(step: Step) -> None:
            if step.stage not in tasks:
                tasks[step.stage] = bars.add_task(step.text, total=step.total, stage=step.stage)
            bars.update(tasks[step.stage], completed=step.done, total=step.total, description=step.text)  # type: ignore[arg-type]

        yield show


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
    """Progress in a pipe: a line now and then, and at the end of every stage."""

    def __init__(self, console: Console) -> None:
        self._console, self._line = console, _Line()
        self._shown: tuple[str, int] | None = None
        self._when = 0.0

    def __call__(self, step: Step) -> None:
        text, now = self._line(step), time.monotonic()
        due = step.done == step.total or self._shown is None or self._shown[0] != step.stage or now - self._when > PIPE_SECONDS
        fresh = self._shown != (step.stage, step.done)
        if (due and fresh) or (step.done < step.total and now - self._when > PIPE_BEAT):
            self._shown, self._when = (step.stage, step.done), now
            self._console.print(text, markup=False, highlight=False, soft_wrap=True)


class _Notebook:
    """Progress in a notebook: one line per stage, updated in its cell; bars of rich would need ipywidgets."""

    def __init__(self) -> None:
        self._line = _Line()
        self._handles: dict[str, Any] = {}

    def __call__(self, step: Step) -> None:
        from IPython.display import display

        text = {"text/plain": self._line(step)}
        if step.stage in self._handles:
            self._handles[step.stage].update(text, raw=True)
        else:
            self._handles[step.stage] = display(text, raw=True, display_id=True)  # type: ignore[no-untyped-call]
