"""Events as lines of text and of JSON."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from io import StringIO
from pathlib import Path
from typing import Any

import pytest

from kerasnac.core.store.progress import FACTS, Step, event
from kerasnac.ui.event_lines import EventLines, json_line, line_of, log_line
from tests.events import REST, SEARCH, candidate

PAGE = Path(__file__).parents[2] / "docs" / "events.md"

TIME = datetime(2026, 1, 2, 3, 4, 5, 678_900, UTC)

SOME = (
    *SEARCH,
    *REST,
    Step("compress", 1, 2, "", "point", {"model": "net1-w6a6", "metrics": {"bops": 12345.0}, "known": True}),
    event("firmware", "firmware", model="n", bit_exact=None, verdict="", reason="too wide", known=False),
    event("score", "run", model="n", metric="accuracy", value=0.5, low=0.4, high=0.6),
    event("message", level="warning", message="odd"),
    event("run_ended", code=130, seconds=3.2, message="stopped", resume="kerasnac resume runs/x"),
    Step("tune", 1, 2, "text"),
)


def test_every_kind_has_its_facts_and_a_line() -> None:
    assert {step.kind for step in SOME} == set(FACTS)
    for step in SOME:
        assert set(FACTS[step.kind]) == set(step.facts), step
        assert line_of(step).isprintable()


@pytest.mark.parametrize(
    ("step", "line"),
    [
        (candidate(1, 0.7, 2000.0), "candidate net1 ok: accuracy 0.7, bops 2,000; generation 0, 2.0 s"),
        (SEARCH[8], "candidate net4 failed: accuracy 0, bops 10; generation 1, 2.0 s: its worker process died"),
        (SEARCH[2], "search: workers have net1, net2"),
        (SOME[-5], "firmware n: refused: too wide"),
        (SOME[-6], "point net1-w6a6: bops 12,345 (known)"),
        (SOME[-4], "test n: accuracy 0.5000 [0.4000, 0.6000]"),
        (SOME[-2], "ended with exit code 130 after 3.2 s: stopped; `kerasnac resume runs/x` goes on"),
        (SOME[-1], "tune 1/2 text"),
    ],
)
def test_lines(step: Step, line: str) -> None:
    assert line_of(step) == line


@pytest.mark.skipif(not PAGE.is_file(), reason="the pages are not installed")
def test_the_page_has_all_fields() -> None:
    page = PAGE.read_text(encoding="utf-8")
    for kind, facts in FACTS.items():
        fields = "<br>".join(f"`{name}`: {meaning}" for name, meaning in facts.items()) or "none"
        assert f"| `{kind}` | {fields} |" in page


def parsed(*steps: Step, seconds: float = 1.0) -> list[dict[str, Any]]:
    file, clock = StringIO(), iter(range(10_000))
    lines = EventLines(file, json_line, lambda: seconds * next(clock), lambda: TIME)
    for step in steps:
        lines(step)
    return [json.loads(line) for line in file.getvalue().splitlines()]


def test_json_has_the_facts_of_every_event() -> None:
    found = parsed(*SOME)
    assert [one["event"] for one in found] == [step.kind for step in SOME]
    for one, step in zip(found, SOME, strict=True):
        assert one["time"] == "2026-01-02T03:04:05.678Z"
        assert set(FACTS[step.kind]) <= set(one)
        assert ("done" in one, "stage" in one) == (bool(step.total), bool(step.stage))
    assert found[12]["metrics"] == {"accuracy": 0.71, "loss": None}, "JSON has no NaN"


def test_what_says_nothing_new_is_told_now_and_then() -> None:
    beats = [Step("firmware", 0, 1, f"compiling, {number} s") for number in range(200)]
    assert [one["text"] for one in parsed(*beats)] == [f"compiling, {number} s" for number in (0, 60, 120, 180)]
    assert len(parsed(*[Step("tune", number, 9) for number in range(9)])) == 9


def test_a_log_has_times_and_one_line_per_event() -> None:
    file = StringIO()
    log = EventLines(file, log_line, lambda: 0.0, lambda: TIME)
    log(event("message", level="error", message="two\nlines"))
    assert file.getvalue() == "2026-01-02T03:04:05.678Z error: two lines\n"
