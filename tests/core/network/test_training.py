"""Hyperparameters of a training."""

from __future__ import annotations

import json

import pytest

from kerasnac.core.data.dataset import Task
from kerasnac.core.network.training import Training
from kerasnac.errors import ConfigError


@pytest.mark.parametrize(
    "wrong",
    [
        {"epochs": 0},
        {"learning_rate": 0.0},
        {"learning_rate": float("nan")},
        {"batch_size": 0},
        {"optimizer": "adamw"},
        {"schedule": "step"},
        {"weight_decay": -1e-3},
        {"l1": -1e-3},
        {"dropout": 1.0},
        {"dropout": -0.1},
        {"label_smoothing": -0.1},
        {"label_smoothing": 1.0},
        {"patience": 0},
        {"data_fraction": 0.0},
        {"data_fraction": 1.1},
    ],
)
def test_values_out_of_range_are_named(wrong: dict[str, float]) -> None:
    ((name, value),) = wrong.items()
    with pytest.raises(ConfigError, match=f"training: {name} = {value!r} is out of range"):
        Training(**wrong)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match=name):
        Training().with_(**wrong)


def test_edges_are_allowed() -> None:
    Training(epochs=1, batch_size=1, dropout=0.0, weight_decay=0.0, l1=0.0, patience=1, data_fraction=1.0)


def test_only_labels_of_classes_are_smoothed() -> None:
    smooth = Training(label_smoothing=0.1)
    Task("classification", 3).check(smooth)
    Task("regression", 2).check(Training())
    with pytest.raises(ConfigError, match="label_smoothing is for classification"):
        Task("regression", 2).check(smooth)


def test_with_changes_a_copy() -> None:
    before = Training()
    after = before.with_(epochs=9, optimizer="sgd")
    assert (after.epochs, after.optimizer, after.batch_size) == (9, "sgd", before.batch_size)
    assert before == Training()


def test_unknown_names_are_refused() -> None:
    with pytest.raises(ConfigError, match="training: unknown 'rate'; one of epochs, learning_rate"):
        Training().with_(rate=0.1)


def test_json_round_trip() -> None:
    training = Training(epochs=3, learning_rate=1e-5, patience=2, schedule="cosine")
    assert Training(**json.loads(json.dumps(training.to_dict()))) == training
