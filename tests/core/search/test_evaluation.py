"""Records of evaluated candidates."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from kerasnac.core.network.architecture import Architecture
from kerasnac.core.network.layers import LayerSpec
from kerasnac.core.search.evaluation import Evaluation, Fidelity, RampPoint
from kerasnac.core.space.search_space import Candidate

CANDIDATE = Candidate(Architecture((4,), (LayerSpec.of("dense", units=2),)), (("dropout", 0.1), ("optimizer", "adam")))
FULL = Fidelity(epochs=5, data_fraction=0.5, folds=3, key="f1d")
TRAINED = Evaluation(3, 1, (0, 2), "ok", CANDIDATE, {"accuracy": 0.1 + 0.2, "bops": 100.0}, FULL, seed=7, seconds=1.25)
OVER = replace(TRAINED, status="over_budget", metrics={"bops": 1e9}, seconds=0.0, reason="bops 1e+09 breaks the budget 1000")
BRIEF = replace(TRAINED, status="brief", fidelity=replace(FULL, epochs=1, key="br1"))
FAILED = replace(TRAINED, status="failed", metrics={"bops": 100.0}, reason="its worker process died")
INFEASIBLE = Evaluation(4, 1, (1, 1), "infeasible", None, {}, FULL, reason="block 0 (conv): too large")
POINTS = (RampPoint(2, {"accuracy": 0.2, "adder_luts": 90.0}), RampPoint(5, {"accuracy": 0.1, "adder_luts": 7.0}))
LEARNED = replace(TRAINED, metrics={"accuracy": 0.3, "parameters": 10}, points=POINTS)


@pytest.mark.parametrize(
    "evaluation",
    [TRAINED, BRIEF, FAILED, OVER, INFEASIBLE, LEARNED],
    ids=["ok", "brief", "failed", "over", "infeasible", "learned"],
)
def test_round_trip_through_json(evaluation: Evaluation) -> None:
    assert Evaluation.from_record(json.loads(json.dumps(evaluation.to_record()))) == evaluation


def test_a_record_is_flat_where_tables_want_columns() -> None:
    record = TRAINED.to_record()
    assert (record["id"], record["metrics.bops"], record["status"]) == (CANDIDATE.id, 100.0, "ok")
    fidelity = {name: record[f"fidelity.{name}"] for name in ("epochs", "data_fraction", "folds", "key")}
    assert fidelity == {"epochs": 5, "data_fraction": 0.5, "folds": 3, "key": "f1d"}


def test_every_point_is_an_evaluation_of_the_candidate() -> None:
    first, second = LEARNED.expanded
    assert (first.name, second.name) == (f"{LEARNED.key}-c002", f"{LEARNED.key}-c005")
    assert first.metrics == {"accuracy": 0.2, "adder_luts": 90.0, "parameters": 10}
    assert replace(second, cycle=0, metrics=LEARNED.metrics, points=POINTS) == LEARNED
    assert TRAINED.expanded == (TRAINED,)
    assert TRAINED.name == TRAINED.key
    assert "points" not in TRAINED.to_record()


def test_the_key_is_the_candidate_or_else_the_genome() -> None:
    assert TRAINED.key == replace(TRAINED, genome=(9, 9)).key == CANDIDATE.id
    assert INFEASIBLE.key == "(1, 1)" != replace(INFEASIBLE, genome=(1, 2)).key
