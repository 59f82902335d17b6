"""Objectives and budgets."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kerasnac.core.data.dataset import Task
from kerasnac.core.network.architecture import Architecture
from kerasnac.core.network.layers import LayerSpec
from kerasnac.core.search.objectives import COSTS, Objective, cost_metrics, resolve, sources
from kerasnac.errors import ConfigError

CLASSES, VALUES = Task("classification", 3), Task("regression", 2)
CLASSES_AND_COSTS, VALUES_AND_COSTS = (resolve(("metric", *COSTS), {}, task)[0] for task in (CLASSES, VALUES))
numbers = st.floats(-1e6, 1e6)


def test_metric_stands_for_the_metric_of_the_task() -> None:
    assert resolve(("metric", "bops"), {}, CLASSES)[0] == (Objective("accuracy", "max"), Objective("bops", "min"))
    assert resolve(("metric", "parameters"), {}, VALUES)[0] == (Objective("distance", "min"), Objective("parameters", "min"))


def test_budgets_are_bounds_in_the_sense_of_their_metric() -> None:
    _, budgets = resolve(("metric",), {"bops": 1e6, "accuracy": 0.7}, CLASSES)
    assert budgets == (Objective("bops", "min", 1e6), Objective("accuracy", "max", 0.7))
    assert [b.violation(v) > 0 for b, v in zip(budgets, (1.1e6, 0.8), strict=True)] == [True, False]
    assert [b.violation(v) > 0 for b, v in zip(budgets, (0.9e6, 0.6), strict=True)] == [False, True]


@pytest.mark.parametrize("names", [("metric", "speed"), ("distance",)])
def test_unknown_objectives_name_the_known_ones(names: tuple[str, ...]) -> None:
    with pytest.raises(ConfigError, match=f"'{names[-1]}'.* bops, parameters"):
        resolve(names, {}, CLASSES)


def test_unknown_budgets_are_refused() -> None:
    with pytest.raises(ConfigError, match="'luts'"):
        resolve(("metric",), {"luts": 100}, CLASSES)


def test_an_objective_must_not_stand_twice() -> None:
    with pytest.raises(ConfigError, match="stands twice"):
        resolve(("metric", "accuracy"), {}, CLASSES)


@given(numbers, numbers, st.sampled_from(("min", "max")))
def test_the_better_value_has_the_smaller_loss(left: float, right: float, sense: str) -> None:
    objective = Objective("x", sense)  # type: ignore[arg-type]
    better = left > right if sense == "max" else left < right
    assert better == (objective.loss(left) < objective.loss(right))


@given(st.floats(0, 1e12), st.floats(0, 1e12), st.sampled_from((*CLASSES_AND_COSTS, *VALUES_AND_COSTS)))
def test_scaled_losses_are_ordered_as_losses(left: float, right: float, objective: Objective) -> None:
    losses, scaled_losses = ([scale(value) for value in (left, right)] for scale in (objective.loss, objective.scaled_loss))
    assert (losses[0] <= losses[1]) <= (scaled_losses[0] <= scaled_losses[1])
    if abs(left - right) > 1e-9 * (1 + max(left, right)):
        assert (losses[0] < losses[1]) == (scaled_losses[0] < scaled_losses[1])


def test_scaled_losses_of_costs_are_logarithms_and_of_metrics_the_losses() -> None:
    assert Objective("bops", "min").scaled_loss(0) == 0
    assert Objective("lut", "min").scaled_loss(1e6) == pytest.approx(2 * Objective("lut", "min").scaled_loss(999), rel=1e-3)
    assert Objective("accuracy", "max").scaled_loss(0.7) == -0.7
    assert Objective("distance", "min").scaled_loss(0.7) == 0.7


@pytest.mark.parametrize(
    ("metrics", "expected"),
    [
        ([], ()),
        (["accuracy", "metric", "distance"], ()),
        (["bops"], ("architecture",)),
        (["accuracy", "lut", "bram_percent"], ("rule4ml",)),
        (["adder_luts", "parameters", "cycles"], ("architecture", "rule4ml", "adder_graph")),
    ],
)
def test_sources_are_those_that_record_a_metric(metrics: list[str], expected: tuple[str, ...]) -> None:
    assert sources(iter(metrics)) == expected


def test_every_cost_has_one_source() -> None:
    assert len(set(COSTS)) == len(COSTS)
    assert all(len(sources([metric])) == 1 for metric in COSTS)


def test_costs_of_every_source_are_objectives_and_budgets() -> None:
    objectives, budgets = resolve(COSTS, dict.fromkeys(COSTS, 5.0), VALUES)
    assert [o.metric for o in objectives] == list(COSTS)
    assert {b.sense for b in budgets} == {"min"}


@given(numbers, numbers, st.sampled_from(("min", "max")))
def test_a_budget_is_violated_beyond_its_bound(bound: float, value: float, sense: str) -> None:
    violation = Objective("x", sense, bound).violation(value)  # type: ignore[arg-type]
    assert (violation > 0) == (value > bound if sense == "min" else value < bound)


def test_violations_are_relative() -> None:
    assert Objective("bops", "min", 200).violation(300) == pytest.approx(0.5)
    assert Objective("accuracy", "max", 0.8).violation(0.6) == pytest.approx(0.25)
    assert Objective("bops", "min").violation(1e9) == 0


def test_costs_are_counted_at_the_given_widths() -> None:
    network = Architecture((4,), (LayerSpec.of("dense", units=2),))
    assert cost_metrics(network, weight_bits=6, activation_bits=8) == {"bops": 8 * (48 + 14 + 2), "parameters": 10}


def test_costs_know_the_widths_and_sparsities_of_the_layers() -> None:
    network = Architecture((4,), (LayerSpec.of("dense", units=2, weight_bits=3, sparsity=0.75),))
    assert cost_metrics(network, weight_bits=6, activation_bits=8)["bops"] == 8 * (0.25 * 24 + 11 + 2)
