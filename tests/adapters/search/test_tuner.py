"""Proposals of the oracle."""

from __future__ import annotations

from typing import Any

import pytest

from kerasnac.adapters.search.tuner import Oracle
from kerasnac.core.network.training import Training
from kerasnac.core.settings import TuneSettings

pytestmark = pytest.mark.usefixtures("keras")

EVERYTHING = TuneSettings(
    trials=30,
    learning_rate=(1e-4, 1e-2),
    batch_size=(32, 64),
    optimizer=("adam", "sgd"),
    l1=(1e-7, 1e-4),
    dropout=(0.1, 0.3),
    label_smoothing=(0.0, 0.2),
)
START = Training(learning_rate=0.1, batch_size=60, optimizer="rmsprop", dropout=0.2)


def proposals(settings: TuneSettings, count: int, *, seed: int = 0, loss: Any = lambda values: 0.5) -> list[dict[str, Any]]:
    oracle = Oracle(settings, START, seed, loss=1.0)
    made: list[dict[str, Any]] = []
    for _ in range(count):
        values = oracle.ask()
        if values is None:
            break
        made.append(values)
        oracle.tell(loss(values))
    return made


def test_the_first_proposal_is_the_start_clipped_to_the_ranges() -> None:
    (first,) = proposals(EVERYTHING, 1)
    assert first == {
        "learning_rate": 1e-2,
        "batch_size": 64,
        "schedule": "constant",
        "weight_decay": 1e-6,
        "dropout": 0.2,
        "optimizer": "adam",
        "l1": 1e-7,
        "label_smoothing": 0.0,
    }


def test_all_are_within_the_ranges_and_make_a_training() -> None:
    made = proposals(EVERYTHING, 4, loss=lambda values: values["dropout"])
    for values in made:
        training = Training().with_(**values)
        assert 1e-4 <= training.learning_rate <= 1e-2
        assert 1e-7 <= training.l1 <= 1e-4
        assert 0.1 <= training.dropout <= 0.3
        assert 0.0 <= training.label_smoothing <= 0.2
        assert training.optimizer in ("adam", "sgd")
        assert training.batch_size in (32, 64)
    assert len({str(values) for values in made}) == len(made)


def test_a_seed_gives_the_same_proposals() -> None:
    def loss(values: dict[str, Any]) -> float:
        return float(values["learning_rate"])

    small = EVERYTHING.model_copy(update={"l1": None, "label_smoothing": None, "schedule": None})
    first, again = (proposals(small, 4, seed=1, loss=loss) for _ in range(2))
    assert first == again != proposals(small, 4, seed=2, loss=loss)


def test_what_has_one_value_keeps_it_and_what_has_none_is_left_out() -> None:
    settings = TuneSettings(weight_decay=0.0, optimizer=("nadam",), schedule=None, batch_size=None)
    for values in proposals(settings, 3):
        assert values.keys() == {"learning_rate", "weight_decay", "dropout", "optimizer"}
        assert (values["weight_decay"], values["optimizer"]) == (0.0, "nadam")


def test_a_space_without_choices_is_soon_exhausted() -> None:
    settings = TuneSettings(learning_rate=0.01, batch_size=64, schedule=None, weight_decay=None, dropout=0.0)
    assert proposals(settings, 5) == [{"learning_rate": 0.01, "batch_size": 64, "dropout": 0.0}]


def test_a_training_that_diverges_counts_as_the_worst_that_did_not(monkeypatch: pytest.MonkeyPatch) -> None:
    oracle = Oracle(EVERYTHING, START, 0, loss=1.0)
    told: list[float] = []
    update = oracle._oracle.update_trial

    def listen(trial: str, metrics: dict[str, float]) -> None:
        told.append(metrics["loss"])
        update(trial, metrics)

    monkeypatch.setattr(oracle._oracle, "update_trial", listen)
    for loss in (float("nan"), 3.0, float("inf")):
        assert oracle.ask()
        oracle.tell(loss)
    assert told == [1.0, 3.0, 3.0]
