"""Progress bars for terminals and notebooks, plain lines for pipes."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from kerasnac.core.progress import Progress as Callback
from kerasnac.core.progress import Step

#: In a pipe, a line at most every so many seconds.
PIPE_SECONDS = 15.0


@contextmanager
def progress_bar(console: Console | None = None) -> Iterator[Callback]:
    """Shows what stages report, one bar per stage, with elapsed and remaining time.

    Example:
        ``with kerasnac.progress_bar() as progress: Run(folder, data, progress=progress).search(space)``
    """
    console = console or Console(stderr=True)
    if not (console.is_terminal or console.is_jupyter):
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


class _Lines:
    """A line now and then, and at the end of every stage."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._stage = ""
        self._started = self._shown = 0.0
        self._done = self._first = -1

    def __call__(self, step: Step) -> None:
        now = time.monotonic()
        if step.stage != self._stage:
            self._stage, self._started, self._shown, self._done, self._first = step.stage, now, 0.0, -1, step.done
        finished = step.done == step.total
        if step.done == self._done or not (finished or now - self._shown > PIPE_SECONDS):
            return
        self._shown, self._done = now, step.done
        elapsed, fresh = now - self._started, step.done - self._first
        left = "" if finished or not fresh else f", about {elapsed / fresh * (step.total - step.done):.0f} s left"
        self._console.print(
            f"{step.stage:9} {step.done}/{step.total} ({elapsed:.0f} s{left}) {step.text}", highlight=False, soft_wrap=True
        )
