"""Rules that pick points of a front."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kerasnac.core.search.selection import Selection
from kerasnac.errors import ConfigError

Point = tuple[float, float]

#: (accuracy, cost): a knee at cost 100, where accuracy stops to rise quickly.
FRONT: list[Point] = [(0.50, 10), (0.70, 100), (0.72, 1000), (0.73, 10000)]
#: (distance, cost): the same front of a metric that is to be small.
MIRRORED: list[Point] = [(round(1 - metric, 2), cost) for metric, cost in FRONT]


def pick(rule: str, points: list[Point], *, largest: bool = True) -> Point:
    (picked,) = Selection.parse(rule).pick(points, values, metric="metric", cost="cost", sense="max" if largest else "min")
    return picked


def values(point: Point) -> dict[str, float]:
    return {"metric": point[0], "cost": point[1], "half": point[1] / 2}


RULES = {
    "best": 3,
    "knee": 1,
    "within 2%": 2,
    "within 5%": 1,
    "within 0.05": 1,
    "within 0%": 3,
    "within 100%": 0,
    "metric 0.7": 1,
    "metric .71": 2,
    "cost <= 1e3": 2,
    "cost<=999.9": 1,
    "cost <= 1E9": 3,
    "half <= 50": 1,
}
MIRRORED_RULES = {"best": 3, "knee": 1, "within 5%": 2, "within 12%": 1, "metric 0.3": 1, "metric 0.5": 0, "cost <= 1e3": 2}


@pytest.mark.parametrize("rule", RULES)
def test_rules_for_a_metric_to_maximise(rule: str) -> None:
    assert pick(rule, FRONT) == FRONT[RULES[rule]]


@pytest.mark.parametrize("rule", MIRRORED_RULES)
def test_rules_for_a_metric_to_minimise(rule: str) -> None:
    assert pick(rule, MIRRORED, largest=False) == MIRRORED[MIRRORED_RULES[rule]]


@pytest.mark.parametrize("rule", RULES)
def test_the_order_of_the_points_does_not_matter(rule: str) -> None:
    assert pick(rule, FRONT[::-1]) == pick(rule, FRONT)


def test_the_cheapest_of_equally_good_points_wins() -> None:
    assert pick("best", [(0.7, 30), (0.7, 20), (0.6, 10)]) == (0.7, 20)
    assert pick("within 20%", [(0.7, 10), (0.65, 10)]) == (0.7, 10)
    assert pick("cost <= 30", [(0.7, 30), (0.7, 20), (0.6, 10)]) == (0.7, 20)


@pytest.mark.parametrize("rule", ["best", "knee", "within 2%", "metric 0.1", "cost <= 3"])
def test_a_single_point_is_every_rule_s_choice(rule: str) -> None:
    assert pick(rule, [(0.5, 3)]) == (0.5, 3)


def test_the_knee_of_two_points_is_one_of_them() -> None:
    assert pick("knee", [(0.5, 1), (0.6, 10)]) == (0.5, 1)


points = st.lists(st.tuples(st.floats(0.1, 1), st.floats(1, 1e6)), min_size=1, max_size=8)


@given(points, st.floats(0, 1))
def test_within_is_the_cheapest_of_the_good_enough(front: list[Point], tolerance: float) -> None:
    rule = Selection("within", tolerance)
    (chosen,) = rule.pick(front, values, metric="metric", cost="cost", sense="max")
    best = max(metric for metric, _ in front)
    assert chosen[0] >= best * (1 - tolerance) * (1 - 1e-12)
    assert all(cost >= chosen[1] for metric, cost in front if metric > best * (1 - tolerance) * (1 + 1e-12))


@given(points)
def test_the_knee_is_not_dominated(front: list[Point]) -> None:
    metric, cost = pick("knee", front)
    assert not any(m > metric and c < cost for m, c in front)


@given(points, st.floats(0, 2e6), st.booleans())
def test_a_budget_is_kept_and_no_affordable_point_is_better(front: list[Point], budget: float, largest: bool) -> None:
    affordable = [point for point in front if point[1] <= budget]
    rule = Selection("budget", budget, "cost")
    options = {"metric": "metric", "cost": "half", "sense": "max" if largest else "min"}
    if not affordable:
        with pytest.raises(ConfigError, match="cost <= "):
            rule.pick(front, values, **options)  # type: ignore[arg-type]
        return
    (chosen,) = rule.pick(front, values, **options)  # type: ignore[arg-type]
    best = (max if largest else min)(metric for metric, _ in affordable)
    assert chosen[0] == best
    assert chosen[1] == min(cost for metric, cost in affordable if metric == best)


@given(points, st.floats(1, 2e6))
def test_on_a_front_the_pick_is_the_nearest_to_the_budget(drawn: list[Point], budget: float) -> None:
    """On a front, what costs more is better."""
    front = [p for p in set(drawn) if not any(q != p and q[0] >= p[0] and q[1] <= p[1] for q in drawn)]
    affordable = [cost for _, cost in front if cost <= budget]
    if affordable:
        rule = Selection("budget", budget, "cost")
        (chosen,) = rule.pick(front, values, metric="metric", cost="cost", sense="max")
        assert chosen[1] == max(affordable)


def test_a_whole_front_is_picked_as_it_is() -> None:
    rule = Selection.parse("front")
    assert rule.pick(FRONT, values, metric="metric", cost="cost", sense="max") == tuple(FRONT)
    with pytest.raises(ConfigError, match="the front is empty"):
        rule.pick([], values, metric="metric", cost="cost", sense="max")


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        ("bops <= 1e6", Selection("budget", 1e6, "bops")),
        ("lut_percent<=5", Selection("budget", 5.0, "lut_percent")),
        ("auc:top >= 0.9", Selection("budget", 0.9, "auc:top", at_least=True)),
        (" parameters  <=  5e+1 ", Selection("budget", 50.0, "parameters")),
        ("within 2%", Selection("within", 0.02)),
        ("metric 0.65", Selection("metric", 0.65)),
    ],
)
def test_rules_are_read(text: str, rule: Selection) -> None:
    assert Selection.parse(text) == rule


def test_a_budget_that_nobody_keeps_tells_the_cheapest() -> None:
    with pytest.raises(ConfigError, match=r"cost <= 9; .* 10$"):
        pick("cost <= 9", FRONT)


def test_a_budget_of_a_cost_that_is_not_recorded_lists_what_is() -> None:
    with pytest.raises(ConfigError, match=r"'lut' .* metric, cost, half"):
        pick("lut <= 9", FRONT)


def test_a_threshold_out_of_reach_tells_the_best() -> None:
    with pytest.raises(ConfigError, match=r"0\.9; .* 0\.73"):
        pick("metric 0.9", FRONT)
    with pytest.raises(ConfigError, match=r"0\.1; .* 0\.27"):
        pick("metric 0.1", MIRRORED, largest=False)


def test_an_empty_front_is_refused() -> None:
    with pytest.raises(ConfigError, match="the front is empty"):
        pick("best", [])


@pytest.mark.parametrize(
    "text",
    [
        *(
            "",
            "cheapest",
            "within",
            "within 2 percent",
            "metric 65%",
            "metric",
            "within 1.2.3",
            "within .",
            "metric -1",
            "knee 3",
        ),
        *("bops < 3", "bops => 3", "bops <= ", "<= 3", "bops <= 5%", "bops <= -1", "bops <= inf", "two words <= 3"),
    ],
)
def test_other_rules_are_refused(text: str) -> None:
    with pytest.raises(ConfigError, match=rf"{re.escape(repr(text))}.* best, knee"):
        Selection.parse(text)
