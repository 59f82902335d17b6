"""A run in a terminal while it goes on: its stages, the front so far, what the workers do."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta
from types import TracebackType

from rich.console import Console, Group, RenderableType
from rich.control import Control
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from kerasnac.core.display import number
from kerasnac.core.store.progress import Step
from kerasnac.ui.event_lines import line_of
from kerasnac.ui.run_state import Point, RunState, StageProgress

#: Frames per second.
FRAMES = 2

#: Stages in the order in which they come, and their titles where these are others.
ORDER = ("data", "settings", "search", "tune", "compress", "mixed", "trees", "classical", "firmware", "run")
TITLES = {"mixed": "mixed widths", "trees": "boosted trees", "classical": "classical", "run": "test split"}

#: Columns below which a view has no bars, and below which the front has no architectures.
WITH_BARS, WITH_ARCHITECTURES = 72, 90

#: Rows of workers and of messages, at most.
WORKERS, MESSAGES = 8, 3

#: Kinds of events that ``verbose`` prints as lines above the view.
DETAILS = ("candidate", "generation", "trial", "point", "firmware", "score", "message")

_BLOCKS = "▁▂▃▄▅▆▇█"


class LiveView:
    """Shows a run in a terminal; a thread of its own draws, so that the stages never wait for it.

    Args:
        console: The terminal.
        planned: Names of stages that are going to come.
        verbose: Print every candidate, trial and point above the view, and what libraries say.
        clock: Gives seconds.
    """

    def __init__(
        self,
        console: Console,
        *,
        planned: Sequence[str] = (),
        verbose: bool = False,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._console, self._planned, self._verbose, self._clock = console, planned, verbose, clock
        self._state, self._size = RunState(began=clock()), console.size
        self._live = Live(console=console, get_renderable=self._frame, refresh_per_second=FRAMES, vertical_overflow="crop")

    def __enter__(self) -> LiveView:
        self._live.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        how = "done" if kind is None else "stopped" if issubclass(kind, KeyboardInterrupt) else "failed"
        self._state = self._state.over(how, self._clock())
        self._live.stop()

    def __call__(self, step: Step) -> None:
        """Take note of an event."""
        self._state = self._state.after(step, self._clock())
        shown = step.kind in DETAILS if self._verbose else step.kind == "message" and step.facts["level"] != "info"
        if shown:
            self._console.print(Text(line_of(step)), soft_wrap=True)

    def _frame(self) -> RenderableType:
        size = self._console.size
        if size != self._size:  # The terminal has wrapped the lines of the last frame, so that it cannot be found again.
            self._console.control(Control.clear(), Control.home())
            self._size = size
        return frame(self._state, self._clock(), *size, planned=self._planned)


def frame(state: RunState, now: float, width: int, height: int, *, planned: Sequence[str] = ()) -> RenderableType:
    """Return a picture of a run.

    Args:
        state: The run.
        now: Seconds of the clock of the state.
        width: Columns.
        height: Rows; what is less important is left out if there are few.
        planned: Names of stages that are going to come.
    """
    now = now if state.ended is None else state.ended
    names = sorted({*planned, *state.stages}, key=lambda name: ORDER.index(name) if name in ORDER else len(ORDER))
    top: list[RenderableType] = [_head(state, now), _stages(state, names, now, width)]
    rows = height - 2 - len(names)
    if state.counts and (rows > 0 or state.ended is not None):
        top.append(_search(state, now))
        rows -= 1
    if state.ended is not None:
        return Group(*top)
    bottom: list[RenderableType] = []
    if state.running and rows > 1:
        shown = min(WORKERS, len(state.running), rows - 1)
        bottom.append(_workers(state, now, shown))
        rows -= shown + 1
    if state.messages and rows > 0:
        last = state.messages[-min(MESSAGES, rows) :]
        bottom.append(Text("\n".join(f"! {text}" for text in last), "yellow", no_wrap=True, overflow="ellipsis"))
        rows -= len(last)
    if state.front and rows >= 4:
        top.append(_front(state, rows - 3, width))
    return Group(*top, *bottom)


def _head(state: RunState, now: float) -> Text:
    what = [str(state.facts[name]) for name in ("folder", "dataset") if name in state.facts]
    over = "" if state.ended is None else f" {state.how}"
    return Text(f"{clock_time(now - state.began)}{over}  {': '.join(what)}", "bold", no_wrap=True, overflow="ellipsis")


def _stages(state: RunState, names: Sequence[str], now: float, width: int) -> Table:
    table = Table.grid(padding=(0, 1))
    bars = width >= WITH_BARS
    for column in ("", "stage", *["bar"] * bars, "count", "time", "left"):
        table.add_column(justify="right" if column in ("count", "time", "left") else "left", no_wrap=True)
    table.add_column(no_wrap=True, overflow="ellipsis", ratio=1)
    table.expand = True
    for name in names:
        one = state.stages.get(name)
        bar = [] if not bars else [Text() if one is None else _bar(one)]
        title = TITLES.get(name, name)
        if one is None:
            table.add_row("·", Text(title, "dim"), *bar, "", "", "", Text("waiting", "dim"))
            continue
        until, left = now if one.ended is None else one.ended, one.left(now)
        sign = Text("✓", "green") if one.is_over else Text("✗", "red") if state.ended is not None else Text("▶", "cyan")
        count = f"{one.done:,}/{one.total:,}" if one.total else ""
        about = "" if left is None or state.ended is not None else f"{clock_time(left)} left"
        table.add_row(sign, title, *bar, count, clock_time(until - one.began), about, Text(one.text))
    return table


def _bar(stage: StageProgress) -> ProgressBar:
    done = 1 if stage.is_over else stage.done
    return ProgressBar(total=max(1, 1 if stage.is_over else stage.total), completed=done, width=16)


def _search(state: RunState, now: float) -> Text:
    """Return hypervolume, candidates by status and their rate, in a line."""
    rate = state.per_hour(now)
    said = [f"hypervolume {state.volumes[-1]:.4f} {spark(state.volumes)}".rstrip()] if state.volumes else []
    names = {"ok": "trained", "brief": "trained briefly", "over_budget": "over budget"}
    said += [f"{count:,} {names.get(status, status)}" for status, count in state.counts.items()]
    said += [f"{rate:,.0f} candidates per hour"] if rate is not None else []
    return Text(", ".join(said), no_wrap=True, overflow="ellipsis")


def _title(text: str) -> Text:
    return Text(text, "italic", no_wrap=True, overflow="ellipsis")


def _front(state: RunState, rows: int, width: int) -> Group:
    """Return the front, or as many of its points, evenly spread, as there are rows for."""
    chosen = spread(state.front, rows)
    more = "" if len(chosen) == len(state.front) else f", {len(chosen)} of {len(state.front)}"
    senses = {"max": "up", "min": "down"}
    goals = ", ".join(f"{name} {senses[sense]}" for name, sense in state.objectives.items())
    table = Table.grid(padding=(0, 2), expand=True)
    table.add_column(no_wrap=True, overflow="ellipsis")
    for _ in state.objectives:
        table.add_column(justify="right", no_wrap=True)
    table.add_column(no_wrap=True, overflow="ellipsis", ratio=1)
    table.add_row(*(Text(name, "dim") for name in ("model", *state.objectives, "")))
    for point in chosen:
        values = (number(point.metrics[name]) for name in state.objectives)
        table.add_row(point.name, *values, point.architecture if width >= WITH_ARCHITECTURES else "")
    return Group(_title(f"front so far ({goals}{more})"), table)


def _workers(state: RunState, now: float, rows: int) -> Group:
    """Return what the workers do: place, model, for how long."""
    table = Table.grid(padding=(0, 2))
    for justify in ("right", "left", "right"):
        table.add_column(justify=justify, no_wrap=True, overflow="ellipsis")
    placed: Mapping[str, int] = dict(sorted(state.places.items(), key=lambda item: item[1])[:rows])
    for name, place in placed.items():
        table.add_row(str(place + 1), name, clock_time(now - state.running[name][1]))
    return Group(_title(f"{len(state.running)} of {state.most} workers busy"), table)


def spread(points: Sequence[Point], most: int) -> list[Point]:
    """Return a number of points at most, evenly spread from the first to the last."""
    if len(points) <= most:
        return list(points)
    return [points[round(i * (len(points) - 1) / max(1, most - 1))] for i in range(most)]


def spark(values: Sequence[float]) -> str:
    """Return numbers as a line of blocks; empty if they are all the same."""
    low, high = min(values), max(values)
    if not high > low:
        return ""
    return "".join(_BLOCKS[round((value - low) / (high - low) * (len(_BLOCKS) - 1))] for value in values[-24:])


def clock_time(seconds: float) -> str:
    """Return seconds as hours, minutes and seconds."""
    return str(timedelta(seconds=int(max(0.0, seconds))))
