"""Losses by name, and weights of classes and samples."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from kerasnac.core.data.dataset import Dataset, make_dataset
from kerasnac.core.data.losses import LOSSES, loss
from kerasnac.core.data.task import Task
from kerasnac.core.network.training import Training
from kerasnac.errors import ConfigError, DataError

TASK = Task("classification", 2, names=("q", "g"))


def own(labels: Any, outputs: Any) -> Any:
    return labels


def made(**options: Any) -> Dataset:
    x = np.random.default_rng(0).normal(size=(100, 3))
    return make_dataset(x, np.arange(100) % 5 // 4, name="made", task=TASK, seed=0, **options)


def test_a_name_a_function_and_arguments() -> None:
    assert TASK.has_usual_loss
    assert replace(TASK, loss="sparse_categorical_crossentropy") == TASK
    focal = replace(TASK, loss={"name": "categorical_focal_crossentropy", "gamma": 3})
    assert focal.identity == {"loss": {"name": "categorical_focal_crossentropy", "gamma": 3}}
    assert replace(TASK, loss=own).identity["loss"]["name"].endswith(":own")
    assert loss("operator:sub").name == "_operator:sub"


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("crossentropy", "unknown loss 'crossentropy': one of categorical_crossentropy"),
        ({"delta": 1}, "there is no loss None"),
        ({"name": "huber", "delta": "1"}, "loss huber: delta must be a number"),
        ("huber", "loss huber is not for classification: one of categorical_crossentropy"),
        (lambda y, found: y, "write it with def"),
        ("nowhere:f", "loss nowhere:f: there is no module nowhere"),
        (3, "there is no loss 3"),
    ],
)
def test_what_is_no_loss(given: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        replace(TASK, loss=given)


def test_labels_are_smoothed_for_losses_of_keras_alone() -> None:
    smoothed = Training(label_smoothing=0.1)
    replace(TASK, loss="categorical_focal_crossentropy").check(smoothed)
    with pytest.raises(ConfigError, match="label_smoothing is for losses of Keras"):
        replace(TASK, loss=own).check(smoothed)


def test_a_loss_and_weights_make_other_data() -> None:
    plain = made()
    prints = [
        made().development.fingerprint,
        plain.with_(loss="binary_crossentropy").development.fingerprint,
        plain.with_(class_weights="balanced").development.fingerprint,
        made(weight=np.ones(100)).development.fingerprint,
        made(weight=np.arange(100)).development.fingerprint,
    ]
    assert len(set(prints)) == 5
    assert plain.with_(loss=LOSSES["categorical_crossentropy"]).development.fingerprint == prints[0]


def test_class_weights() -> None:
    data = made().with_(class_weights="balanced").development.train
    assert data.weight is not None
    sums = [data.weight[data.y == label].sum() for label in (0, 1)]
    assert sums == pytest.approx([len(data) / 2] * 2)
    named = made(weight=np.full(100, 2.0)).with_(class_weights={"g": 3}).development.validation
    assert named.weight is not None
    assert set(zip(named.y.tolist(), named.weight.tolist(), strict=True)) == {(0, 2.0), (1, 6.0)}
    assert (
        made().with_(class_weights=[1, 3]).development.fingerprint
        == made().with_(class_weights={"g": 3}).development.fingerprint
    )


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("even", "write balanced, 2 numbers, or numbers by class; not 'even'"),
        ([1, 2, 3], "write balanced, 2 numbers"),
        ({"t": 1}, "there is no class 't': one of q, g"),
        ({"g": -1}, "the weight of g must be a number from 0 on, not -1"),
        ([0, 0], "all are zero"),
    ],
)
def test_what_are_no_class_weights(given: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=f"class_weights: .*{message}"):
        made().with_(class_weights=given)


@pytest.mark.parametrize(
    ("weight", "message"),
    [
        (np.ones(99), r"weights have shape \(99,\)"),
        (np.r_[np.ones(99), np.nan], "weight 99 is nan"),
        (np.r_[-1.0, np.ones(99)], "weight 0 is -1.0"),
        (np.zeros(100), "all weights are zero"),
    ],
)
def test_what_are_no_weights(weight: Any, message: str) -> None:
    with pytest.raises(DataError, match=f"made: {message}"):
        made(weight=weight)


def test_folds_keep_the_weights_with_their_samples() -> None:
    data = made(weight=np.arange(1, 101)).development
    every = data.train.joined(data.validation)
    known = dict(zip(map(bytes, every.x), every.weight if every.weight is not None else (), strict=True))
    for fold in data.folds(3):
        for split in (fold.train, fold.validation):
            assert split.weight is not None
            assert [known[bytes(x)] for x in split.x] == split.weight.tolist()
