"""ROC curves and distances of outputs."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import roc_auc_score

from kerasnac.core.data.curves import EFFICIENCIES, Distances, curves_from_dict, curves_of, curves_to_dict, details_of
from kerasnac.core.data.metrics import metric
from kerasnac.core.data.task import Task
from kerasnac.stages.run.curves import confusion_frame, curves_frame, summary_frame
from kerasnac.ui.curves import table
from kerasnac.ui.plots import curves as figure
from kerasnac.ui.tables import as_text

rng = np.random.default_rng(0)
LABELS = np.arange(900) % 3
LOGITS = rng.normal(size=(900, 3)) + 1.5 * np.eye(3)[LABELS]
TASK = Task("classification", 3, names=("a", "b", "c"))


def test_rocs_are_those_of_the_metrics() -> None:
    found = curves_of(TASK, LOGITS, LABELS)
    assert isinstance(found, tuple)
    assert [roc.signal for roc in found] == ["a", "b", "c"]
    probabilities = np.exp(LOGITS) / np.exp(LOGITS).sum(axis=1, keepdims=True)
    for index, roc in enumerate(found):
        assert roc.auc == pytest.approx(roc_auc_score(index == LABELS, probabilities[:, index]))
        assert roc.auc == pytest.approx(np.trapezoid([*roc.efficiency, 1], [*roc.mistaken, 1]), abs=0.01)
        for efficiency in EFFICIENCIES:
            same = metric(f"background_rejection:{roc.signal}:{efficiency}", TASK.names)
            assert roc.rejection[efficiency] == pytest.approx(float(same.values(LOGITS, LABELS)))
        assert (np.diff(roc.efficiency) >= 0).all()
        assert (np.diff(roc.mistaken) >= 0).all()
        assert (roc.efficiency[-1], roc.mistaken[0]) == (1, 0)


def test_anomalies_have_a_curve_for_every_signal() -> None:
    task = Task("anomaly", 2, names=("background", "w", "z"))
    x = rng.normal(size=(300, 2)).astype(np.float32)
    labels = np.concatenate([x, (np.arange(300) % 3)[:, np.newaxis]], axis=1)
    found = curves_of(task, np.where((np.arange(300) % 3 == 1)[:, np.newaxis], x + 5, x * 0.9), labels)
    assert isinstance(found, tuple)
    assert [roc.signal for roc in found] == ["w", "z"]
    assert found[0].auc == 1
    assert found[0].rejection[0.5] == 100


def test_distances_are_in_the_unit_of_the_task() -> None:
    task = Task("regression", 2, scale=11, unit="px")
    found = curves_of(task, np.zeros((5, 2)), np.array([[3, 4]] * 4 + [[0, 0]]) / 11)
    assert isinstance(found, Distances)
    np.testing.assert_array_equal(found.counts[[0, -1]], [1, 4])
    assert found.edges[-1] == pytest.approx(5)
    assert (found.mean, found.quantiles[0.5], found.unit) == (pytest.approx(4), pytest.approx(5), "px")


def test_curves_survive_json() -> None:
    for task, outputs, labels in ((TASK, LOGITS, LABELS), (Task("regression", 3, unit="m"), LOGITS, 0 * LOGITS)):
        found = curves_of(task, outputs, labels)
        assert found is not None
        again = curves_from_dict(json.loads(json.dumps(curves_to_dict(found))))
        pd.testing.assert_frame_equal(summary_frame({"a": again}), summary_frame({"a": found}))
        pd.testing.assert_frame_equal(curves_frame({"a": again}), curves_frame({"a": found}), rtol=1e-5)


def test_what_has_no_curves() -> None:
    assert curves_of(TASK, np.full((9, 3), np.nan), np.arange(9) % 3) is None
    assert curves_of(TASK, np.zeros((9, 3)), np.arange(9) % 2) is None


def test_confusion_of_classes() -> None:
    found = details_of(TASK, LOGITS, LABELS).confusion
    assert found is not None
    assert found.sum(axis=1).tolist() == [300, 300, 300]
    assert np.trace(found) / 900 == pytest.approx(float(metric("accuracy").values(LOGITS, LABELS).mean()))
    frame = confusion_frame({"m": found}, TASK.names)
    (row,) = frame[(frame["class"] == "a") & (frame.predicted == "b")].to_dict("records")
    assert (row["samples"], row["fraction"]) == (found[0, 1], found[0, 1] / 300)
    assert details_of(TASK, np.full((9, 3), np.nan), np.arange(9) % 3).confusion is None
    assert details_of(Task("regression", 2), np.zeros((5, 2)), np.zeros((5, 2))).confusion is None


def test_many_classes_have_lines_of_their_own() -> None:
    task, labels = Task("classification", 9), np.arange(900) % 9
    found = curves_of(task, rng.normal(size=(900, 9)) + np.eye(9)[labels], labels)
    assert found is not None
    assert len(table({"m": found}).columns) == 3


def test_tables_and_figures() -> None:
    found = curves_of(TASK, LOGITS, LABELS)
    assert found is not None
    both = {"m[0]": found, "n": found}
    frame, summary = curves_frame(both), summary_frame(both)
    assert list(frame.columns) == ["model", "class", "efficiency", "background_efficiency"]
    assert list(summary.columns) == ["model", "class", "auc", "rejection_30", "rejection_50", "rejection_80"]
    assert len(summary) == 6
    assert "AUC a" in as_text(table(both))
    assert "m[0]" in as_text(table(both))
    assert len([axes for axes in figure(both).axes if axes.get_title()]) == 3

    task = Task("regression", 2, unit="px")
    wide = curves_of(task, rng.normal(size=(200, 2)), np.zeros((200, 2)))
    narrow = curves_of(task, 0.1 * rng.normal(size=(100, 2)), np.zeros((100, 2)))
    assert wide is not None
    assert narrow is not None
    frame = curves_frame({"wide": wide, "narrow": narrow})
    assert frame.groupby("model").samples.sum().to_dict() == {"narrow": 100, "wide": 200}
    assert list(summary_frame({"wide": wide}).columns) == ["model", "mean", "q50", "q68", "q75", "q95", "q99"]
    assert "median" in as_text(table({"wide": wide}))
    assert figure({"wide": wide, "narrow": narrow}).axes[0].get_xlabel() == "distance [px]"
