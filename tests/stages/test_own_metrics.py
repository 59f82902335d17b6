"""A run with a metric, further metrics, a loss and weights of one's own: in journals, fronts, selections and tables."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from kerasnac.adapters.keras.runtime import tensorflow
from kerasnac.core.data.dataset import Dataset
from kerasnac.core.data.metrics import Metric
from kerasnac.core.space.search_space import SearchSpace
from kerasnac.datasets import from_arrays
from kerasnac.errors import ConfigError, MetricError, RunError
from kerasnac.stages.run import Run
from kerasnac.ui import tables
from tests.networks import toy_data

SPACE = SearchSpace.model_validate({"input": 3, "outputs": 3, "blocks": [{"block": "mlp", "widths": [[3, 4, 6, 8]]}]})
SEARCH: dict[str, Any] = {
    "objectives": ["metric", "bops", "accuracy:1"],
    "budgets": {"accuracy": 0.2},
    "population": 2,
    "evaluations": 3,
    "training": {"epochs": 4, "batch_size": 16, "learning_rate": 0.03},
}


def margin(outputs: Any, labels: Any) -> float:
    return float(np.mean(outputs[np.arange(len(labels)), labels] - outputs.mean(axis=1)))


def squared(labels: Any, outputs: Any) -> Any:
    tf = tensorflow()
    return tf.square(tf.one_hot(labels, 3) - outputs)


def raising(outputs: Any, labels: Any) -> float:
    raise OSError("no calibration file")


@pytest.fixture
def data() -> Dataset:
    further = ["accuracy:each", Metric(margin, "margin", "max"), "accuracy"]
    return toy_data().with_(metric="auc", metrics=further, loss=squared, class_weights="balanced")


@pytest.mark.slow
def test_all_stages_record_all_metrics(data: Dataset, tmp_path: Path, keras: None) -> None:
    names = {"auc", "accuracy", "accuracy:0", "accuracy:1", "accuracy:2", "margin", "loss"}
    with Run(tmp_path, data, workers=1) as run:
        found = run.search(SPACE, **SEARCH)
        (tuned,) = run.tune(found.select("accuracy:2 >= 0.1"), trials=2, epochs=4, repeats=2)
        small = run.compress([tuned], bits=[6], iterations=1, epochs=2)
        (tested,) = run.test(small.select("margin >= 0")[:1])
    assert {o.metric: o.sense for o in found.objectives} == {"auc": "max", "bops": "min", "accuracy:1": "max"}
    assert found.cost == "bops"
    assert names <= found.front[0].metrics.keys()
    assert names <= tuned.metrics.keys()
    assert names <= small.models[-1].metrics.keys()
    assert tested.further.keys() == names - {"auc", "loss"}
    assert 0.5 < tested.low <= tested.value <= tested.high
    for journal, prefix in (("search.jsonl", "metrics."), ("tune.jsonl", ""), ("compress.jsonl", "")):
        record = json.loads((tmp_path / journal).read_text().splitlines()[0])
        assert {f"{prefix}{name}" for name in names} <= record.keys()
    text = tables.as_text(tables.front(found))
    assert all(name in text for name in names - {"loss"})
    with Run(tmp_path, data, workers=1) as run:
        again = run.search(SPACE, **SEARCH)
    assert [(e.key, dict(e.metrics)) for e in again.front] == [(e.key, dict(e.metrics)) for e in found.front]
    with pytest.raises(RunError, match="holds a run with other data"):
        Run(tmp_path, data.with_(metric="accuracy", metrics=()))


def test_a_metric_that_fails_is_found_out_before_any_training(tmp_path: Path, keras: None) -> None:
    data = toy_data().with_(metrics=[Metric(raising, "calibrated", "max")])
    with Run(tmp_path, data, workers=1) as run, pytest.raises(MetricError) as raised:
        run.search(SPACE, **SEARCH)
    assert "metric calibrated: its function raised OSError: no calibration file (outputs of shape" in str(raised.value)
    assert not (tmp_path / "search.jsonl").exists()


def test_an_objective_that_is_not_measured(tmp_path: Path) -> None:
    with Run(tmp_path, toy_data(), workers=1) as run, pytest.raises(ConfigError, match="unknown objective or budget 'auc'"):
        run.search(SPACE, **{**SEARCH, "objectives": ["auc", "bops"], "budgets": {}})


def test_anomalies_are_searched_for(tmp_path: Path, keras: None) -> None:
    rng = np.random.default_rng(0)
    line = rng.normal(size=(900, 1)) * np.array([1.0, -1.0, 0.5])
    x = np.where((np.arange(900) % 3 == 2)[:, np.newaxis], rng.normal(size=(900, 3)), line + 0.05 * rng.normal(size=(900, 3)))
    data = from_arrays(x, np.array(["a", "b", "odd"])[np.arange(900) % 3], background=["a", "b"]).with_(metrics=["auc:odd"])
    settings = {**SEARCH, "objectives": ["metric", "bops"], "budgets": {}, "training": {**SEARCH["training"], "epochs": 30}}
    with Run(tmp_path, data, workers=1) as run:
        found = run.search(SPACE, **settings)
        best = found.select("best")[0]
        with pytest.raises(Exception, match="folds would train on the signals"):
            run.search(SPACE, **settings, folds=3)
    assert best.metrics["auc"] == pytest.approx(best.metrics["auc:odd"])
    assert best.metrics["auc"] > 0.6
