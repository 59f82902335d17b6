"""Objectives and budgets."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kerasnac.core.architecture import Architecture
from kerasnac.core.data import Task
from kerasnac.core.layers import LayerSpec
from kerasnac.core.objectives import Objective, cost_metrics, resolve
from kerasnac.errors import ConfigError

CLASSES, VALUES = Task("classification", 3), Task("regression", 2)
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
    with pytest.raises(
        ConfigError, match=f"unknown objective or budget '{names[-1]}': one of metric, accuracy, bops, parameters"
    ):
        resolve(names, {}, CLASSES)


def test_unknown_budgets_are_refused() -> None:
    with pytest.raises(ConfigError, match="unknown objective or budget 'luts'"):
        resolve(("metric",), {"luts": 100}, CLASSES)


def test_an_objective_must_not_stand_twice() -> None:
    with pytest.raises(ConfigError, match="stands twice"):
        resolve(("metric", "accuracy"), {}, CLASSES)


@given(numbers, numbers, st.sampled_from(("min", "max")))
def test_the_better_value_has_the_smaller_loss(left: float, right: float, sense: str) -> None:
    objective = Objective("x", sense)  # type: ignore[arg-type]
    better = left > right if sense == "max" else left < right
    assert better == (objective.loss(left) < objective.loss(right))


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
