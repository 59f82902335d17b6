"""Losses by name and functions of one's own, with weights: ``fit`` and the compiled training compute the same."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from kerasnac.adapters.keras.engine.trainer import train_compiled
from kerasnac.adapters.keras.losses import task_losses, validation_loss
from kerasnac.adapters.keras.member import Fit, Member
from kerasnac.adapters.keras.reference import fit_by_keras
from kerasnac.adapters.keras.runtime import tensorflow
from kerasnac.adapters.keras.train import train
from kerasnac.core.data.dataset import Dataset, Development, Split, make_dataset
from kerasnac.core.data.losses import LOSSES
from kerasnac.core.data.task import Task
from kerasnac.core.network.architecture import Architecture
from kerasnac.core.network.mold import molds
from kerasnac.core.network.training import Training
from kerasnac.errors import MetricError
from tests.networks import activation, dense

pytestmark = pytest.mark.usefixtures("keras")

TRAINING = Training(epochs=3, learning_rate=0.01, batch_size=64)
CLASSIFIER = Architecture((6,), (dense(8), activation("relu"), dense(3)))
REGRESSOR = Architecture((6,), (dense(8), activation("tanh"), dense(2)))


def margin(labels: Any, logits: Any) -> Any:
    tf = tensorflow()
    right = tf.gather(logits, labels, batch_dims=1)
    return tf.nn.softplus(tf.reduce_max(logits, -1) - right)


def pinball(labels: Any, values: Any) -> Any:
    tf = tensorflow()
    return tf.maximum(0.9 * (labels - values), 0.1 * (values - labels))


def summed(labels: Any, outputs: Any) -> Any:
    return tensorflow().reduce_sum(outputs)


def broken(labels: Any, outputs: Any) -> Any:
    return labels.nothing


@pytest.fixture(scope="module")
def classes(vector_classes: Dataset) -> Dataset:
    return vector_classes


@pytest.fixture(scope="module")
def values() -> Dataset:
    rng = np.random.default_rng(5)
    x = rng.normal(size=(400, 6))
    y = np.stack([x[:, 0] * x[:, 1], np.abs(x[:, 2])], axis=1)
    return make_dataset(x, y, name="values", task=Task("regression", 2), seed=0)


def weighted(dataset: Dataset) -> Development:
    """The development data with random weights of samples, in training and validation."""
    data, rng = dataset.development, np.random.default_rng(1)
    parts = [replace(s, weight=rng.gamma(1.0, size=len(s)).astype(np.float32)) for s in (data.train, data.validation)]
    return replace(data, train=parts[0], validation=parts[1])


def assert_follows(architecture: Architecture, data: Development, training: Training) -> Fit:
    member = Member(architecture, training, 3)
    (mold,) = molds([architecture])
    reference, ours = fit_by_keras(member, data), train_compiled(member, data, mold)
    assert ours.epochs == reference.epochs
    for key, expected in reference.weights.items():
        np.testing.assert_allclose(ours.weights[key], expected, rtol=1e-3, atol=1e-4, err_msg=key)
    assert ours.loss == pytest.approx(reference.loss, rel=1e-3)
    return reference


@pytest.mark.parametrize("loss", [name for name, loss in LOSSES.items() if loss.labels != "values"] + [margin])
def test_losses_of_classes(loss: Any, classes: Dataset) -> None:
    data = classes.with_(loss=loss).development
    plain = fit_by_keras(Member(CLASSIFIER, TRAINING, 3), classes.development)
    own = assert_follows(CLASSIFIER, data, TRAINING)
    usual = isinstance(loss, str) and loss.endswith("categorical_crossentropy") and "focal" not in loss
    assert usual == all(np.array_equal(own.weights[key], value) for key, value in plain.weights.items())


@pytest.mark.parametrize("loss", ["mean_absolute_error", "log_cosh", {"name": "huber", "delta": 0.3}, pinball])
def test_losses_of_values(loss: Any, values: Dataset) -> None:
    assert_follows(REGRESSOR, values.with_(loss=loss).development, TRAINING)


@pytest.mark.slow
@pytest.mark.parametrize("training", [TRAINING, replace(TRAINING, label_smoothing=0.1), replace(TRAINING, l1=1e-3)])
@pytest.mark.parametrize("loss", ["categorical_crossentropy", "categorical_focal_crossentropy"])
def test_weights_and_smoothed_labels_and_early_stopping(loss: str, training: Training, classes: Dataset) -> None:
    data = weighted(classes.with_(loss=loss))
    assert_follows(CLASSIFIER, data, replace(training, patience=1, epochs=6, learning_rate=0.1))


def test_weights_of_a_regression(values: Dataset) -> None:
    assert_follows(REGRESSOR, weighted(values), TRAINING)


def test_weights_of_one_change_nothing(classes: Dataset) -> None:
    data = classes.development
    ones = replace(data, train=replace(data.train, weight=np.ones(len(data.train), np.float32)))
    member, (mold,) = Member(CLASSIFIER, TRAINING, 3), molds([CLASSIFIER])
    plain, same = train_compiled(member, data, mold), train_compiled(member, ones, mold)
    for key, value in plain.weights.items():
        np.testing.assert_allclose(same.weights[key], value, rtol=1e-5, atol=1e-6)


def test_a_sample_without_weight_teaches_nothing(classes: Dataset) -> None:
    data = classes.development
    half = np.arange(len(data.train)) % 2 == 0
    wrong = np.where(half, data.train.y, (data.train.y + 1) % 3)
    taught = replace(data, train=Split(data.train.x, wrong, half.astype(np.float32)))
    training = replace(TRAINING, epochs=10)
    (mold,) = molds([CLASSIFIER])
    found = train_compiled(Member(CLASSIFIER, training, 3), taught, mold)
    misled = train_compiled(Member(CLASSIFIER, training, 3), replace(taught, train=Split(data.train.x, wrong)), mold)
    assert found.metric > misled.metric + 0.1


def test_class_weights_move_the_decisions(classes: Dataset) -> None:
    heavy = classes.with_(class_weights={0: 50.0}).development
    (mold,) = molds([CLASSIFIER])
    data = classes.with_(metrics=["accuracy:0"]).development
    own = replace(heavy, task=data.task)
    plain, found = (train_compiled(Member(CLASSIFIER, TRAINING, 3), one, mold) for one in (data, own))
    assert found.further["accuracy:0"] > max(plain.further["accuracy:0"], 0.95)


@pytest.mark.parametrize("name", ["categorical_focal_crossentropy", "binary_crossentropy", "categorical_hinge"])
def test_the_loss_is_that_of_keras(name: str, classes: Dataset) -> None:
    keras, split = tensorflow().keras, classes.development.validation
    outputs = np.random.default_rng(0).normal(size=(len(split), 3)).astype(np.float32)
    function = getattr(keras.losses, name)
    arguments = {} if name == "categorical_hinge" else {"from_logits": True}
    expected = function(np.eye(3, dtype=np.float32)[split.y], outputs, **arguments).numpy()
    task = classes.with_(loss=name).task
    np.testing.assert_allclose(task_losses(task)(split.y, outputs, 0.0), expected, rtol=1e-6)
    assert validation_loss(outputs, task, split) == pytest.approx(expected.mean(), rel=1e-5)


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (summed, "summed: its function returned shape .* it must return one number per sample"),
        (broken, "broken: its function raised AttributeError"),
    ],
)
def test_a_function_that_is_no_loss_of_samples(function: Any, message: str, classes: Dataset) -> None:
    data = classes.with_(loss=function).development
    for mold in (None, *molds([CLASSIFIER])):
        with pytest.raises(MetricError, match=message):
            train(Member(CLASSIFIER, TRAINING, 3), data, mold)
