"""Hyperparameters of a training."""

from __future__ import annotations

import json
import pickle

import numpy as np
import pytest
from pydantic import ValidationError

from kerasnac.core.data.dataset import Task
from kerasnac.core.network.training import Training
from kerasnac.core.settings import SearchSettings
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
    with pytest.raises(ConfigError, match=rf"^Training: {name}: .*\(got {value!r}\)$"):
        Training(**wrong)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match=name):
        Training().with_(**wrong)


@pytest.mark.parametrize("name", ["learning_rate", "weight_decay", "l1", "dropout", "label_smoothing", "data_fraction"])
@pytest.mark.parametrize("value", [float("inf"), -float("inf"), float("nan")])
def test_numbers_are_finite(name: str, value: float) -> None:
    with pytest.raises(ConfigError, match=f"^Training: {name}: "):
        Training().with_(**{name: value})


def test_a_file_is_told_where_the_value_stands() -> None:
    with pytest.raises(ValidationError) as error:
        SearchSettings.model_validate({"training": {"epochs": 0, "dropout": 2, "rate": 1}})
    places = [problem["loc"] for problem in error.value.errors()]
    assert places == [("training", "epochs"), ("training", "dropout"), ("training", "rate")]


def test_numbers_have_one_type_however_they_are_written() -> None:
    """Keys are hashes of JSON, in which 1 and 1.0 differ."""
    from_python = Training(learning_rate=1, epochs=np.int64(3))
    from_file = SearchSettings.model_validate({"training": {"learning_rate": 1, "epochs": 3.0}}).training
    assert json.dumps(from_python.to_dict()) == json.dumps(from_file.to_dict())


def test_it_can_be_a_key_and_sent_to_a_worker() -> None:
    training = Training(epochs=3)
    assert pickle.loads(pickle.dumps(training)) == training
    assert {training: 1}[Training(epochs=3)] == 1


def test_edges_are_allowed() -> None:
    Training(epochs=1, batch_size=1, dropout=0.0, weight_decay=0.0, l1=0.0, patience=1, data_fraction=1.0)


def test_only_labels_of_classes_are_smoothed() -> None:
    smooth = Training(label_smoothing=0.1)
    Task("classification", 3).check(smooth)
    Task("regression", 2).check(Training())
    with pytest.raises(ConfigError, match="label_smoothing"):
        Task("regression", 2).check(smooth)


def test_with_changes_a_copy() -> None:
    before = Training()
    after = before.with_(epochs=9, optimizer="sgd")
    assert (after.epochs, after.optimizer, after.batch_size) == (9, "sgd", before.batch_size)
    assert before == Training()


def test_unknown_names_are_refused() -> None:
    with pytest.raises(ConfigError, match="'rate'"):
        Training().with_(rate=0.1)


def test_json_round_trip() -> None:
    training = Training(epochs=3, learning_rate=1e-5, patience=2, schedule="cosine")
    assert Training(**json.loads(json.dumps(training.to_dict()))) == training
