"""Anomaly detection: trained on background alone, scored by the reconstruction error."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from kerasnac.core.data.bootstrap import score
from kerasnac.core.data.dataset import Dataset
from kerasnac.core.data.task import Task
from kerasnac.core.network.training import Training
from kerasnac.datasets import from_arrays
from kerasnac.errors import ConfigError, DataError

RNG = np.random.default_rng(0)
CLASSES = np.array(["g", "q", "t", "w"])[np.arange(800) % 4]
X = RNG.normal(size=(800, 5)) + 2.0 * (CLASSES == "t")[:, np.newaxis] + 0.5 * (CLASSES == "w")[:, np.newaxis]


def made(**options: Any) -> Dataset:
    return from_arrays(X, CLASSES, background=["g", "q"], **options)


def test_signals_are_never_trained_on() -> None:
    data = made(standardize=True)
    train, validation, test = data.development.train, data.development.validation, data.open_test()
    assert data.task == Task("anomaly", 5, names=("background", "t", "w"))
    assert (train.y[:, -1] == 0).all()
    assert len(train) == pytest.approx(0.7 * 400, rel=0.15)
    for split in (validation, test):
        assert set(split.y[:, -1].tolist()) == {0.0, 1.0, 2.0}
        assert split.weight is not None
        np.testing.assert_array_equal(split.weight, split.y[:, -1] == 0)
        np.testing.assert_array_equal(data.task.targets(split.y), split.x)
    # Not even for the standardisation.
    assert np.abs(train.x.mean(axis=0)).max() < 0.01
    assert validation.x.mean() > 0.3


def test_the_score_is_the_sum_of_absolute_differences() -> None:
    task, y = made().task, made().open_test().y
    outputs = 0.1 * y[:, :-1]
    sums = np.abs(0.9 * y[:, :-1]).sum(axis=1)
    assert task.score(outputs, y) == pytest.approx(roc_auc_score(y[:, -1] > 0, sums), abs=1e-6)
    assert task.score(sums[:, np.newaxis], y) == pytest.approx(task.score(outputs, y), abs=1e-4)
    strong, weak = (replace(task, metrics=[f"auc:{name}"]).further(outputs, y)[f"auc:{name}"] for name in ("t", "w"))
    one = y[:, -1] != 2
    assert strong == pytest.approx(roc_auc_score(y[one, -1] > 0, sums[one]), abs=1e-6)
    assert strong > weak
    with_rejection = replace(task, metrics=["background_rejection:0.3", "background_rejection:t:0.3"])
    assert list(with_rejection.further(outputs, y).values())[1] > 1
    assert np.isnan(task.score(np.full_like(outputs, np.nan), y))
    found = score(task, outputs, y, seed=0)
    assert found.low < found.value < found.high


def test_labels_may_say_it_themselves() -> None:
    own = from_arrays(X, np.isin(CLASSES, ["t", "w"]).astype(int), task="anomaly")
    assert own.task.kind == "anomaly"
    assert own.development.train.y.shape == (len(own.development.train), 6)


def test_what_cannot_be() -> None:
    with pytest.raises(ConfigError, match="background: there is no class 'b' in arrays: one of g, q, t, w"):
        from_arrays(X, CLASSES, background=["b"])
    with pytest.raises(ConfigError, match="some must be background, and others signals"):
        from_arrays(X, CLASSES, background=["g", "q", "t", "w"])
    with pytest.raises(ConfigError, match="background: it names classes, and arrays is for regression"):
        from_arrays(X, X[:, 0], task="regression", background=["g"])
    with pytest.raises(DataError, match="the validation split has no signal"):
        from_arrays(X, np.zeros(800, int), task="anomaly")
    with pytest.raises(DataError, match="0 for background, and 1 or more for signals"):
        from_arrays(X, -np.ones(800, int), task="anomaly")
    with pytest.raises(DataError, match=r"reconstructs samples of shape \(samples, 10\), not \(400, 5, 2\)"):
        from_arrays(X.reshape(400, 5, 2), np.arange(400) % 2, task="anomaly")
    with pytest.raises(DataError, match="arrays: folds would train on the signals"):
        made().development.check_folds(3)
    with pytest.raises(ConfigError, match="label_smoothing is for classification; leave it out for anomaly"):
        made().task.check(Training(label_smoothing=0.1))
    with pytest.raises(ConfigError, match="unknown loss "):
        made().with_(loss="binary_hinge")
