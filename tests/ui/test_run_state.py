"""The state of a run, as its events tell it."""

from __future__ import annotations

import pytest

from kerasnac.core.store.progress import Step, event
from kerasnac.ui.run_state import RunState
from tests.events import OBJECTIVES, REST, SEARCH, candidate


def after(*steps: Step, seconds: float = 1.0) -> RunState:
    """A step every so many seconds."""
    state = RunState()
    for number, step in enumerate(steps):
        state = state.after(step, number * seconds)
    return state


def test_the_front_has_what_nothing_dominates_the_best_first() -> None:
    state = after(*SEARCH)
    assert [point.name for point in state.front] == ["net1", "net3"]
    assert [p.name for p in after(*SEARCH, candidate(7, 0.7, 500.0)).front] == ["net7"], "it dominates both"
    assert [p.name for p in after(*SEARCH, candidate(7, 0.7, 2000.0)).front] == ["net1", "net3"], "the older of equals stays"


def test_what_breaks_a_budget_or_diverged_is_not_on_the_front() -> None:
    others = (candidate(7, 0.99, 1.0, eligible=False), candidate(8, float("nan"), 1.0))
    assert [point.name for point in after(*SEARCH, *others).front] == ["net1", "net3"]


def test_learned_widths_have_points() -> None:
    points = [{"model": "net9-c020", "metrics": {"accuracy": 0.9, "bops": 300.0}}]
    assert [point.name for point in after(*SEARCH, candidate(9, 0.1, 1e9, points=points)).front] == ["net9-c020"]


def test_candidates_are_counted_by_status() -> None:
    state = after(*SEARCH)
    assert state.counts == {"ok": 3, "failed": 1}
    assert state.messages == ("net4 failed: its worker process died",)
    assert state.volumes == (0.25, 0.5)


def test_workers_keep_their_places() -> None:
    first = after(event("working", "search", running=["a", "b", "c"]), event("working", "search", running=["c", "a", "d"]))
    assert first.places == {"a": 0, "d": 1, "c": 2}
    assert (first.running["a"], first.running["d"], first.most) == (("search", 0.0), ("search", 1.0), 3)
    assert not after(event("working", "search", running=["a"]), REST[0]).running


def test_time_left_and_rate_do_not_count_what_was_known() -> None:
    begins = event("stage_started", "search", asked={"objectives": OBJECTIVES}, known=False)
    known = [candidate(number, 0.5, 1.0, known=True) for number in range(1, 7)]
    state = after(begins, *known, event("working", "search", running=["net7"]), candidate(7, 0.5, 1.0), candidate(8, 0.5, 1.0))
    assert state.stages["search"].left(9.0) == pytest.approx((9 - 6) / 2 * 2), "six known at second 6, two new, two left"
    assert state.per_hour(9.0) == pytest.approx(3600 * 2 / (9 - 7))
    assert after(begins, *known).per_hour(9.0) is None


def test_stages_end() -> None:
    stages = after(*SEARCH, *REST).stages
    assert all(stage.is_over for stage in stages.values())
    assert (stages["tune"].done, stages["tune"].text) == (2, "best accuracy 0.7100")
    assert stages["search"].ended == len(SEARCH)
    assert after(Step("data", 1, 1, "jets")).stages["data"].is_over
