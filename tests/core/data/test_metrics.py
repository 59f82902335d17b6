"""Metrics by name, and functions of a user's own."""

from __future__ import annotations

import pickle
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score, roc_curve

from kerasnac.core.data.bootstrap import score
from kerasnac.core.data.metrics import METRICS, Metric, metric
from kerasnac.core.data.task import Task
from kerasnac.errors import ConfigError, MetricError

NAMES = ("g", "q", "t")
RNG = np.random.default_rng(0)
LABELS = RNG.integers(0, 3, 400)
LOGITS = (RNG.normal(size=(400, 3)) + 1.5 * np.eye(3)[LABELS]).astype(np.float32)


def margin(outputs: Any, labels: Any) -> float:
    return float(np.mean(outputs[np.arange(len(labels)), labels]))


def vector(outputs: Any, labels: Any) -> Any:
    return outputs[:, 0]


def nan(outputs: Any, labels: Any) -> float:
    return float("nan")


def broken(outputs: Any, labels: Any) -> float:
    return float({}["top"])


MARGIN = Metric(margin, "margin", "max")


def task(**options: Any) -> Task:
    return Task("classification", 3, names=NAMES, **options)


def test_the_area_is_that_of_scikit_learn_ties_included() -> None:
    probability = np.exp(LOGITS) / np.exp(LOGITS).sum(axis=1, keepdims=True)
    expected = roc_auc_score(LABELS, probability, multi_class="ovr")
    assert metric("auc").values(LOGITS, LABELS) == pytest.approx(expected)
    coarse = np.round(LOGITS)
    two = coarse[:, :2] - coarse[:, :1]
    assert metric("auc").values(two, LABELS == 1) == pytest.approx(roc_auc_score(LABELS == 1, two[:, 1]))
    one = metric("auc:t", NAMES).values(LOGITS, LABELS)
    assert one == pytest.approx(roc_auc_score(LABELS == 2, probability[:, 2]))
    assert one == metric("auc:2").values(LOGITS, LABELS)


def test_probabilities_that_round_to_one_have_an_order_all_the_same() -> None:
    outputs, labels = np.array([[0.0, 60.0], [0.0, 61.0], [0.0, 62.0], [0.0, 63.0]]), np.array([0, 0, 1, 1])
    assert metric("auc").values(outputs, labels) == 1


def test_background_rejection_at_an_efficiency() -> None:
    scores = LOGITS[:, 2] - np.log(np.exp(LOGITS[:, :2]).sum(axis=1))
    mistaken, found, _ = roc_curve(LABELS == 2, scores)
    expected = 1 / mistaken[np.argmax(found >= 0.5)]
    assert metric("background_rejection:t:0.5", NAMES).values(LOGITS, LABELS) == pytest.approx(expected)
    perfect = 9 * np.eye(3)[LABELS]
    assert metric("background_rejection:2:0.5").values(perfect, LABELS) == pytest.approx(np.sum(LABELS != 2))


def test_errors_of_a_regression_are_in_its_unit() -> None:
    y = np.array([[0.0, 0.0], [0.0, 0.0]])
    found = np.array([[3.0, 4.0], [0.0, 1.0]])
    names = ("mae", "mse", "rmse", "quantile:0.5")
    regression = Task("regression", 2, scale=2.0, unit="px", metrics=names)
    assert regression.score(found, y) == 2 * 3
    expected = {"mae": 2 * 2, "mse": 4 * 6.5, "rmse": 2 * 6.5**0.5, "quantile:0.5": 2 * 2}
    assert regression.further(found, y) == pytest.approx(expected)
    units = [replace(regression, metric=name, metrics=()).metric_unit for name in names]
    assert units == ["px", "px^2", "px", "px"]


def test_the_accuracies_of_all_classes() -> None:
    every = task(metrics=("accuracy:each",))
    assert every.metrics == ("accuracy:g", "accuracy:q", "accuracy:t")
    right = LOGITS.argmax(axis=1) == LABELS
    assert every.further(LOGITS, LABELS)["accuracy:q"] == pytest.approx(right[LABELS == 1].mean())


def test_a_task_without_metrics_is_what_it_was() -> None:
    plain = task()
    assert (plain.metric, plain.sense, plain.metrics, plain.identity) == ("accuracy", "max", (), {})
    assert plain == task(metric="accuracy") == replace(plain, metric="")


def test_a_function_of_ones_own_goes_wherever_a_task_goes() -> None:
    own = task(metric=MARGIN, metrics=["auc"])
    assert own.metric == "margin"
    assert own.senses == {"margin": "max", "auc": "max"}
    assert own.score(LOGITS, LABELS) == pytest.approx(margin(LOGITS, LABELS))
    assert own.identity["metric"]["function"].endswith(":margin")
    assert replace(own, unit="x").measured == own.measured
    assert pickle.loads(pickle.dumps(own)) == own


def test_a_function_of_a_module_by_name() -> None:
    found = metric({"function": "statistics:mean", "sense": "min", "unit": "GeV"})
    assert (found.name, found.sense, found.unit) == ("mean", "min", "GeV")


def test_outputs_that_are_not_finite_have_no_metric() -> None:
    bad = LOGITS.copy()
    bad[7, 1] = np.nan
    own = task(metric=MARGIN, metrics=["auc", "accuracy"])
    assert np.isnan([own.score(bad, LABELS), *own.further(bad, LABELS).values()]).all()
    assert np.isnan(score(own, bad, LABELS, seed=0).value)


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (vector, r"metric own: its function returned an array of shape \(400,\), not a single number"),
        (nan, "metric own: its function returned .*nan.* for finite outputs"),
        (broken, r"metric own: its function raised KeyError: 'top' \(outputs of shape \(400, 3\)"),
    ],
)
def test_a_function_that_is_no_metric_is_found_out_before_any_training(function: Any, message: str) -> None:
    with pytest.raises(MetricError, match=message):
        task(metrics=[Metric(function, "own", "max")]).try_metrics(LABELS)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("gini", "unknown metric 'gini': one of accuracy, auc"),
        ("auc:w", "metric auc:w: there is no class 'w': one of g, q, t"),
        ("auc:g:t", "metric auc:g:t: write auc, or auc:CLASS"),
        ("mae:1", "metric mae:1: mae takes nothing after its name"),
        ("background_rejection", "needs a signal efficiency: write background_rejection:0.3"),
        ("background_rejection:t:30", "'30' is no fraction between 0 and 1"),
        ("quantile", "needs a fraction: write quantile:0.68"),
        ("no_such_module:f", "metric no_such_module:f: there is no module no_such_module: install the package"),
        ("statistics:median_of", "statistics has no median_of; it has "),
        ("statistics:mean", "say its sense: {function: statistics:mean, name: mean, sense: max}"),
        ({"function": "statistics:mean"}, "metric: statistics:mean: say with sense: max or sense: min what is better"),
        ({"function": "mean"}, "unknown metric 'mean': one of"),
        ({"function": "auc"}, "function must be the name of one of your own, package.module:name, not 'auc'"),
        ({"function": f"{__name__}:MARGIN"}, "it is a kn.Metric, which has a sense: write its name alone"),
        ({"name": "mean"}, "function must be the name of one of your own, package.module:name, not None"),
        ({"function": "statistics:mean", "sens": "max"}, "unknown key 'sens'"),
        (3, "metric: 3 is no metric"),
    ],
)
def test_a_name_that_is_none(name: Any, message: str) -> None:
    with pytest.raises(ConfigError) as refused:
        metric(name, NAMES)
    assert message in str(refused.value).replace("metric statistics", "metric: statistics")


def test_a_metric_that_cannot_be() -> None:
    with pytest.raises(ConfigError, match=r"metric own: .*lambda.* write it with def"):
        Metric(lambda outputs, labels: 0.0, "own", "max")
    with pytest.raises(ConfigError, match="the sense is 'max' or 'min', not 'up'"):
        Metric(margin, "own", "up")  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="'loss' means something else"):
        Metric(margin, "loss", "max")
    with pytest.raises(ConfigError, match="must be one word"):
        Metric(margin, "my own", "max")
    with pytest.raises(ConfigError, match="a metric stands twice among auc, auc"):
        task(metric="auc", metrics=["auc"])


def test_intervals_of_all_kinds_of_metrics() -> None:
    found = score(task(metric="auc", metrics=("accuracy", "auc:t")), LOGITS, LABELS, seed=1)
    assert found.low < found.value < found.high
    assert found.value == pytest.approx(metric("auc").values(LOGITS, LABELS))
    assert {name: one.low < one.value < one.high for name, one in found.further.items()} == {"accuracy": True, "auc:t": True}
    assert found == score(task(metric="auc", metrics=("accuracy", "auc:t")), LOGITS, LABELS, seed=1)


def test_every_metric_says_what_follows_its_name() -> None:
    for name, made in METRICS.items():
        if isinstance(made, Metric):
            assert metric(name) is made
