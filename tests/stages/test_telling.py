"""Events of conversions."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from kerasnac.core.store.progress import FACTS, Step
from kerasnac.stages.run import telling


def test_conversions_tell_what_goes_on_and_what_was_found(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter([0.0, 5.0, 70.0])
    monkeypatch.setattr(telling, "monotonic", lambda: next(clock))
    jobs: list[Any] = [SimpleNamespace(model=SimpleNamespace(name=name)) for name in ("a", "b", "c")]
    said: list[Step] = []
    report = telling.ConversionProgress(jobs, 600.0, said.append)
    report.found(jobs[1], "too wide", known=True)
    report()
    made: Any = SimpleNamespace(comparison=object(), bit_exact=True, verdict="bit-exact: all")
    report.found(jobs[0], made, known=False)
    report()
    assert [(step.done, step.total) for step in said] == [(1, 3), (1, 3), (2, 3), (2, 3)]
    assert said[1].text == "converting and compiling a, c, 5 s"
    assert "takes minutes; at most 600 s" in said[3].text
    results = [step.facts for step in said if step.kind == "firmware"]
    assert all(set(facts) == set(FACTS["firmware"]) for facts in results)
    assert [(f["model"], f["bit_exact"], f["reason"], f["known"]) for f in results] == [
        ("b", None, "too wide", True),
        ("a", True, "", False),
    ]


def test_of_many_conversions_a_few_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(telling, "monotonic", lambda: 0.0)
    jobs: list[Any] = [SimpleNamespace(model=SimpleNamespace(name=name)) for name in "abcdef"]
    said: list[Step] = []
    telling.ConversionProgress(jobs, 600.0, said.append)()
    assert said[0].text == "converting and compiling a, b, c and 3 more, 0 s"
