"""Events of a run that never was, and what tests look at in those of others."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from kerasnac.core.store.progress import Step, event


def counted(steps: Iterable[Step]) -> list[Step]:
    """Return the events that say how far a stage is."""
    return [step for step in steps if step.total]


def candidate(number: int, accuracy: float, bops: float, status: str = "ok", **facts: Any) -> Step:
    """Return the result of a candidate, one of ten."""
    own = {
        "model": f"net{number}",
        "generation": number // 4,
        "status": status,
        "metrics": {"accuracy": accuracy, "bops": bops},
        "points": [],
        "eligible": status == "ok",
        "architecture": f"dense-{number} relu dense-5",
        "seconds": 2.0,
        "reason": "",
        "known": False,
    }
    return Step("search", number, 10, f"best accuracy {accuracy:.4f}", "candidate", own | facts)


OBJECTIVES = [{"metric": "accuracy", "sense": "max"}, {"metric": "bops", "sense": "min"}]

#: A search that goes on: two candidates on the front, one that failed, and two in the workers.
SEARCH = (
    event("run_started", folder="runs/x", dataset="jets", metric="accuracy", sense="max", seed=0, kerasnac="0"),
    event("stage_started", "search", asked={"objectives": OBJECTIVES}, known=False),
    event("working", "search", running=["net1", "net2"]),
    candidate(1, 0.7, 2000.0),
    candidate(2, 0.6, 3000.0),
    candidate(3, 0.5, 500.0),
    event("generation", "search", number=0, evaluations=3, hypervolume=0.25, seconds=6.0),
    event("generation", "search", number=1, evaluations=3, hypervolume=0.5, seconds=6.0),
    candidate(4, 0.0, 10.0, "failed", reason="its worker process died"),
    event("working", "search", running=["net5", "net6"]),
)

#: All that comes after it.
REST = (
    event("stage_ended", "search", known=False, seconds=12.0),
    event("stage_started", "tune", asked={}, known=False),
    Step(
        "tune",
        2,
        2,
        "best accuracy 0.7100",
        "trial",
        {"model": "net1", "trial": "trial", "number": 1, "metrics": {"accuracy": 0.71, "loss": float("nan")}, "known": False},
    ),
    event("stage_ended", "tune", known=False, seconds=1.0),
)
