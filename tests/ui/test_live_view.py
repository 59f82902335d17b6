"""The live view of a run: frames at several sizes, and what it leaves on a terminal."""

from __future__ import annotations

from functools import reduce
from io import StringIO

import pytest
from rich.console import Console, ConsoleDimensions

from kerasnac.core.store.progress import Step
from kerasnac.ui.live_view import LiveView, frame, spark, spread
from kerasnac.ui.run_state import RunState
from tests.events import SEARCH, candidate
from tests.terminal import run_in_terminal

PLANNED = ("search", "tune", "compress", "firmware", "run")


def state_after(*steps: Step) -> RunState:
    return reduce(lambda state, step: state.after(step, state.began + 1.0), steps, RunState(began=100.0))


def shown(state: RunState, width: int = 100, height: int = 30, now: float = 161.0) -> list[str]:
    console = Console(width=width, height=height, force_terminal=True, color_system=None)
    with console.capture() as text:
        console.print(frame(state, now, width, height, planned=PLANNED))
    return [line.rstrip() for line in text.get().splitlines()]


def test_a_frame_of_a_search() -> None:
    lines = shown(state_after(*SEARCH))
    text = "\n".join(lines)
    assert lines[0] == "0:01:01  runs/x: jets"
    assert lines[1].split()[:2] == ["▶", "search"]
    assert lines[1].endswith("4/10 0:01:00 0:01:30 left best accuracy 0.0000")
    assert [line.split()[1] for line in lines[2:6]] == ["tune", "compress", "firmware", "test"]
    assert all(line.endswith("waiting") for line in lines[2:6])
    assert "hypervolume 0.5000 ▁█, 3 trained, 1 failed, 180 candidates per hour" in text
    assert "front so far (accuracy up, bops down)" in text
    assert "2,000  dense-1 relu dense-5" in text
    assert "net2" not in text, "it is dominated"
    assert "2 of 2 workers busy" in text
    assert "1  net5  0:01:00" in text
    assert lines[-1] == "! net4 failed: its worker process died"


@pytest.mark.parametrize("width", [40, 60, 80, 140])
@pytest.mark.parametrize("height", [8, 12, 24])
def test_a_frame_fits_into_the_terminal(width: int, height: int) -> None:
    many = [candidate(i, 0.5 + i / 100, 1000.0 + i) for i in range(5, 45)]
    lines = shown(state_after(*SEARCH, *many), width, height)
    assert all(len(line) <= width for line in lines)
    assert len(lines) < height
    assert any("search" in line for line in lines)
    assert any(" of 40" in line or "of 41" in line or "front so far" in line for line in lines) == (height == 24)


def test_the_last_frame_is_short() -> None:
    lines = shown(state_after(*SEARCH).over("stopped", 130.0), now=999.0)
    assert lines[0].startswith("0:00:30 stopped")
    assert lines[1].startswith("✗ search")
    assert len(lines) == 7, "stages and one line on the search: tables follow"


def test_a_sample_of_a_front_has_its_ends() -> None:
    front = state_after(*SEARCH, *[candidate(i, 0.5 + i / 100, 3000.0 + i) for i in range(30, 45)]).front
    assert len(front) == 17
    chosen = spread(front, 5)
    assert (len(chosen), chosen[0], chosen[-1]) == (5, front[0], front[-1])
    assert spread(front, 99) == list(front)


def test_a_line_of_blocks() -> None:
    assert spark([0.0, 0.5, 1.0]) == "▁▅█"
    assert spark([0.3, 0.3]) == ""


def test_a_terminal_of_another_size_is_drawn_anew() -> None:
    file = StringIO()
    console = Console(file=file, force_terminal=True, width=80, height=24)
    with LiveView(console) as view:
        view(SEARCH[0])
        assert "\x1b[2J" not in file.getvalue()
        console.size = ConsoleDimensions(50, 10)
        view._live.refresh()
        assert file.getvalue().count("\x1b[2J\x1b[H") == 1


CODE = """
import time
from rich.console import Console
from kerasnac.ui.progress import progress_bar
from tests.events import REST, SEARCH
try:
    with progress_bar(Console(), planned=("search", "tune", "firmware")) as show:
        for step in SEARCH:
            show(step)
        print("a line of a library")
        time.sleep(1.2)
        {then}
except KeyboardInterrupt:
    print("stopped")
"""


@pytest.mark.parametrize(
    ("then", "first", "last"),
    [("[show(step) for step in REST]", "done  runs/x: jets", ""), ("raise KeyboardInterrupt", "stopped  runs/x", "stopped")],
)
def test_what_is_left_on_a_terminal(then: str, first: str, last: str) -> None:
    code, lines = run_in_terminal(CODE.format(then=then), columns=76, rows=20)
    assert code == 0
    assert lines[0] == "a line of a library", "what others print stands above the view"
    assert first in lines[1]
    signs = "✓✓·" if not last else "✗··"
    assert [line[0] for line in lines[2:5]] == list(signs)
    assert [line.split()[1] for line in lines[2:5]] == ["search", "tune", "firmware"]
    assert lines[5].startswith("hypervolume 0.5000 ▁█, 3 trained, 1 failed")
    assert [line for line in lines[6:] if line] == ([last] if last else [])
