"""Progress in a terminal, a pipe and a notebook."""

from __future__ import annotations

from io import StringIO
from typing import Any

import pytest
from rich.console import Console

from kerasnac.core.store.progress import Step
from kerasnac.ui import progress
from kerasnac.ui.progress import progress_bar


def lines(*steps: Step) -> list[str]:
    file = StringIO()
    with progress_bar(Console(file=file)) as show:
        for step in steps:
            show(step)
    return file.getvalue().splitlines()


def test_a_pipe_gets_the_first_and_the_last_line_of_every_stage() -> None:
    steps = [Step("tune", i, 9, f"best [{i}]") for i in range(1, 10)]
    shown = lines(*steps, Step("compress", 0, 2, ""), Step("compress", 2, 2, "done"), Step("compress", 2, 2, "done"))
    assert shown[:2] == ["tune      1/9 (0 s) best [1]", "tune      9/9 (0 s) best [9]"]
    assert shown[2:] == ["compress  0/2 (0 s)", "compress  2/2 (0 s) done"]


def test_a_pipe_gets_a_line_now_and_then(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter(range(0, 1000, 4))  # Seconds; looked at about twice per step.
    monkeypatch.setattr(progress.time, "monotonic", lambda: float(next(clock)))
    shown = lines(*[Step("search", i, 40, "") for i in range(1, 20)])
    assert 5 < len(shown) < 19
    assert "s left)" in shown[1]


def test_a_terminal_gets_a_bar_per_stage() -> None:
    console = Console(file=StringIO(), force_terminal=True, width=100)
    with console.capture() as text, progress_bar(console) as show:
        show(Step("search", 1, 2, "best 0.5"))
        show(Step("tune", 1, 4, ""))
    assert "1/2" in text.get()
    assert "1/4" in text.get()


def test_a_notebook_gets_a_line_per_stage_in_place(monkeypatch: pytest.MonkeyPatch) -> None:
    display = pytest.importorskip("IPython.display")
    shown: list[list[str]] = []

    class Handle:
        def __init__(self, data: dict[str, str]) -> None:
            self.texts = [data["text/plain"]]
            shown.append(self.texts)

        def update(self, data: dict[str, str], raw: bool) -> None:
            self.texts.append(data["text/plain"])

    def show_data(data: dict[str, str], **options: Any) -> Handle:
        return Handle(data)

    monkeypatch.setattr(display, "display", show_data)
    with progress_bar(Console(file=StringIO(), force_jupyter=True)) as show:
        for step in (Step("search", 1, 2, ""), Step("search", 2, 2, ""), Step("tune", 1, 1, "")):
            show(step)
    assert shown == [["search    1/2 (0 s)", "search    2/2 (0 s)"], ["tune      1/1 (0 s)"]]
