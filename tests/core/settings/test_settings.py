"""Settings of the tuning: what is searched, what is fixed, what is refused."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from kerasnac.core.settings import TUNED, TuneSettings
from kerasnac.core.settings.yaml_files import dump


def test_by_default_the_rest_stays_as_in_the_search() -> None:
    settings = TuneSettings()
    assert list(settings.searched) == ["learning_rate", "batch_size", "schedule", "weight_decay", "dropout"]
    assert settings.fixed == {}
    assert (settings.baselines, settings.folds, settings.repeats) == ((), 1, 0)


@pytest.mark.parametrize("value", [0.1, [0.1], [0.1, 0.1]])
def test_a_range_of_one_value_is_not_searched(value: Any) -> None:
    settings = TuneSettings.model_validate({"dropout": value, "label_smoothing": value, "l1": value})
    assert {"dropout", "label_smoothing", "l1"}.isdisjoint(settings.searched)
    assert settings.fixed == {"dropout": 0.1, "label_smoothing": 0.1, "l1": 0.1}


@pytest.mark.parametrize("value", ["sgd", ["sgd"]])
def test_a_choice_of_one_value_is_not_searched(value: Any) -> None:
    settings = TuneSettings.model_validate({"optimizer": value, "batch_size": 64, "weight_decay": 0, "schedule": None})
    assert settings.fixed == {"batch_size": 64, "weight_decay": 0, "optimizer": "sgd"}
    assert list(settings.searched) == ["learning_rate", "dropout"]


def test_all_can_be_searched() -> None:
    further = {"optimizer": ["adam", "nadam"], "l1": [1e-7, 1e-4], "label_smoothing": [0, 0.2]}
    settings = TuneSettings.model_validate(further)
    assert tuple(settings.searched) == TUNED
    assert "nadam" in dump(settings)


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("learning_rate", [1e-2, 1e-3], r"the range \[0.01, 0.001\] must ascend"),
        ("learning_rate", 0, "a learning rate is above 0"),
        ("weight_decay", [0, 1e-3], "logarithmic and must begin above 0"),
        ("l1", [0, 1e-3], "logarithmic and must begin above 0"),
        ("l1", [-1, 1e-3], "greater than or equal to 0"),
        ("l1", [1e-3, float("inf")], "finite"),
        ("dropout", [0, 1], "must end below 1"),
        ("label_smoothing", 1.0, "must end below 1"),
        ("dropout", [], "Field required"),
        ("batch_size", [], "an empty list leaves nothing to choose from"),
        ("schedule", [], "an empty list leaves nothing to choose from"),
        ("batch_size", [64, 64], "a value stands twice"),
        ("batch_size", [64, 0], "greater than 0"),
        ("optimizer", ["adam", "adamw"], "Input should be 'adam', 'sgd', 'rmsprop' or 'nadam'"),
        ("folds", 0, "greater than 0"),
        ("repeats", 1, "takes 2 repeats or more"),
        ("repeats", -1, "greater than or equal to 0"),
        ("baselines", ["alexnet"], "neither a JSON file nor a baseline"),
    ],
)
def test_what_cannot_be_is_refused(key: str, value: Any, message: str) -> None:
    with pytest.raises(ValidationError, match=message) as error:
        TuneSettings.model_validate({key: value})
    assert {problem["loc"][0] for problem in error.value.errors()} == {key}
