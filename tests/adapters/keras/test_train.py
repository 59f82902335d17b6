"""Training, scoring and observing with plain arrays."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from kerasnac.adapters.keras.build import build, get_weights, set_weights
from kerasnac.adapters.keras.member import Member
from kerasnac.adapters.keras.optimizers import learning_rates
from kerasnac.adapters.keras.predict import Scores, activation_ranges, predict, score
from kerasnac.adapters.keras.reference import compile_model, fit_by_keras
from kerasnac.adapters.keras.train import WORTH, WORTH_QUANTIZED, WORTH_REPEATED, fit, quantized_start, train
from kerasnac.core.data.dataset import Dataset, Split
from kerasnac.core.network.architecture import Architecture
from kerasnac.core.network.layers import LayerSpec
from kerasnac.core.network.mold import Mold, macs, molds
from kerasnac.core.network.precision import Precision
from kerasnac.core.network.training import OPTIMIZERS, SCHEDULES, Training
from kerasnac.core.space.blocks import Attention
from kerasnac.errors import ConfigError
from tests.networks import dense, mlp, normal_weights, only

pytestmark = pytest.mark.usefixtures("keras")

FAST = Training(epochs=2, learning_rate=0.01, batch_size=32)


CLASSIFIER, REGRESSOR = mlp(6, 8, 3), mlp(6, 8, 2, norm=True)
CNN = Architecture(
    (8, 8, 1),
    (
        LayerSpec.of("conv2d", stride=1, filters=4, kernel=3, padding="valid"),
        LayerSpec.of("activation", fn="relu"),
        LayerSpec.of("flatten"),
        LayerSpec.of("dense", units=2),
    ),
)
QUANTIZED = Architecture(
    (6,),
    (
        replace(LayerSpec.of("dense", units=8), weight=Precision(6, 1), bias=Precision(12, 3)),
        replace(LayerSpec.of("activation", fn="none"), activation=Precision(8, 4)),
        replace(LayerSpec.of("activation", fn="gelu"), activation=Precision(8, 4)),
        replace(LayerSpec.of("dense", units=3), weight=Precision(6, 1), bias=Precision(12, 3)),
    ),
    Precision(12, 4),
)


def equal(left: Any, right: Any) -> bool:
    return left.keys() == right.keys() and all(np.array_equal(left[key], right[key]) for key in left)


@pytest.mark.parametrize("architecture", [CLASSIFIER, QUANTIZED], ids=["float", "quantized"])
def test_one_seed_gives_one_result(architecture: Architecture, vector_classes: Dataset) -> None:
    training = replace(FAST, dropout=0.2)
    first, other, again = (fit(architecture, vector_classes.development, training, seed=seed) for seed in (1, 2, 1))
    assert equal(first.weights, again.weights)
    assert (first.metric, first.loss) == (again.metric, again.loss)
    assert not equal(first.weights, other.weights)


def test_classification_is_learned(vector_classes: Dataset) -> None:
    data = vector_classes.development
    trained = fit(CLASSIFIER, data, replace(FAST, epochs=15), seed=0)
    assert trained.metric > 0.85
    assert trained.epochs == 15
    assert trained.metric == data.task.score(predict(CLASSIFIER, trained.weights, data.validation.x), data.validation.y)


def test_regression_is_learned(map_positions: Dataset) -> None:
    data = map_positions.development
    centre = data.task.score(np.broadcast_to(data.train.y.mean(axis=0), data.validation.y.shape), data.validation.y)
    trained = fit(CNN, data, replace(FAST, epochs=12), seed=0)
    assert trained.metric < 0.5 * centre


def test_maps_can_be_classified(map_classes: Dataset) -> None:
    assert fit(CNN, map_classes.development, replace(FAST, epochs=12), seed=0).metric > 0.85


@pytest.mark.parametrize(("name", "architecture"), [("vector_classes", CLASSIFIER), ("vector_values", REGRESSOR)])
def test_the_loss_is_that_of_keras(name: str, architecture: Architecture, request: pytest.FixtureRequest) -> None:
    data = request.getfixturevalue(name).development
    model = build(architecture)
    compile_model(model, data.task, FAST, steps=1)
    scores = score(model, data.task, data.validation)
    assert scores.loss == pytest.approx(model.evaluate(data.validation.x, data.validation.y, verbose=0), rel=1e-5)
    assert scores.metric == data.task.score(model.predict(data.validation.x, verbose=0), data.validation.y)


class TestLabelSmoothing:
    def test_the_training_loss_is_that_of_smoothed_labels(self, vector_classes: Dataset) -> None:
        data = vector_classes.development
        model = build(CLASSIFIER)
        compile_model(model, data.task, replace(FAST, label_smoothing=0.2), steps=1)
        logits = model.predict(data.validation.x, verbose=0).astype(np.float64)
        log_probability = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
        labels = 0.8 * np.eye(3)[data.validation.y] + 0.2 / 3
        smoothed, plain = model.evaluate(data.validation.x, data.validation.y, verbose=0)
        assert smoothed == pytest.approx(-(labels * log_probability).sum(axis=1).mean(), rel=1e-5)
        assert plain == pytest.approx(score(model, data.task, data.validation).loss, rel=1e-5)
        assert smoothed != pytest.approx(plain, rel=1e-3)

    def test_the_loss_that_is_recorded_is_the_plain_one(self, vector_classes: Dataset) -> None:
        data = vector_classes.development
        still = replace(FAST, epochs=1, learning_rate=1e-12)
        smooth, plain = (fit(CLASSIFIER, data, replace(still, label_smoothing=s), seed=0) for s in (0.3, 0.0))
        assert smooth.loss == pytest.approx(plain.loss, rel=1e-5)
        trained = [fit(CLASSIFIER, data, replace(FAST, label_smoothing=s), seed=0) for s in (0.3, 0.0)]
        assert not equal(trained[0].weights, trained[1].weights)

    @pytest.mark.parametrize("penalty", [{"label_smoothing": 0.3}, {"l1": 0.02}])
    def test_stopping_early_looks_at_the_plain_loss(
        self, penalty: dict[str, float], keras: Any, vector_classes: Dataset
    ) -> None:
        data = vector_classes.development
        losses: list[float] = []
        recorder = keras.callbacks.LambdaCallback(on_epoch_end=lambda epoch, logs: losses.append(logs["val_plain"]))
        training = Training(epochs=40, learning_rate=0.3, batch_size=32, patience=2, **penalty)  # type: ignore[arg-type]
        trained = fit_by_keras(Member(CLASSIFIER, training, seed=0), data, callbacks=[recorder])
        assert trained.epochs == len(losses) == int(np.argmin(losses)) + 1 + 2 < 40
        assert trained.loss == pytest.approx(min(losses), rel=1e-4)

    def test_a_regression_has_no_labels_to_smooth(self, vector_values: Dataset) -> None:
        with pytest.raises(ConfigError, match="label_smoothing"):
            fit(REGRESSOR, vector_values.development, replace(FAST, label_smoothing=0.1), seed=0)


@pytest.mark.slow
@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_every_optimizer_learns_with_every_schedule(optimizer: Any, schedule: Any, vector_values: Dataset) -> None:
    data = vector_values.development
    training = Training(epochs=6, learning_rate=0.02, batch_size=32, optimizer=optimizer, schedule=schedule, weight_decay=1e-4)
    untrained = score(build(REGRESSOR), data.task, data.validation)
    assert fit(REGRESSOR, data, training, seed=0).metric < 0.8 * untrained.metric


def test_the_cosine_schedule_spans_the_training() -> None:
    rates = learning_rates(replace(FAST, schedule="cosine"), 8)
    np.testing.assert_allclose(rates, 0.01 * (1 + np.cos(np.pi * np.arange(8) / 8)) / 2, rtol=1e-4)
    np.testing.assert_array_equal(learning_rates(FAST, 8), np.full(8, 0.01, np.float32))


def test_stopping_early_keeps_the_best_weights(keras: Any, vector_classes: Dataset) -> None:
    data = vector_classes.development
    losses: list[float] = []
    recorder = keras.callbacks.LambdaCallback(on_epoch_end=lambda epoch, logs: losses.append(logs["val_loss"]))
    training = Training(epochs=40, learning_rate=0.3, batch_size=32, patience=2)
    trained = fit_by_keras(Member(CLASSIFIER, training, seed=0), data, callbacks=[recorder])
    assert trained.epochs == len(losses) == int(np.argmin(losses)) + 1 + 2 < 40
    assert trained.loss == pytest.approx(min(losses), rel=1e-4)


def test_patience_keeps_the_best_weights_of_a_training_that_was_not_stopped(keras: Any, vector_classes: Dataset) -> None:
    data = vector_classes.development
    losses: list[float] = []
    recorder = keras.callbacks.LambdaCallback(on_epoch_end=lambda epoch, logs: losses.append(logs["val_loss"]))
    training = Training(epochs=6, learning_rate=0.5, batch_size=32, patience=6)
    trained = fit_by_keras(Member(CLASSIFIER, training, seed=0), data, callbacks=[recorder])
    assert trained.epochs == 6
    assert min(losses) < losses[-1]
    assert trained.loss == pytest.approx(min(losses), rel=1e-4)


def test_a_fraction_of_the_data_is_its_beginning(vector_classes: Dataset) -> None:
    data = vector_classes.development
    few = len(data.train) // 2
    shorter = replace(data, train=Split(data.train.x[:few], data.train.y[:few]))
    assert equal(
        fit(CLASSIFIER, data, replace(FAST, data_fraction=0.5), seed=0).weights, fit(CLASSIFIER, shorter, FAST, seed=0).weights
    )


def test_training_goes_on_from_given_weights(vector_classes: Dataset) -> None:
    data = vector_classes.development
    trained = fit(CLASSIFIER, data, FAST, seed=0)
    still = fit(CLASSIFIER, data, replace(FAST, epochs=1, learning_rate=1e-12), seed=5, start=trained.weights)
    for key, value in trained.weights.items():
        np.testing.assert_allclose(still.weights[key], value, atol=1e-6)


@pytest.mark.parametrize("penalty", [{"weight_decay": 0.5}, {"l1": 0.05}])
def test_penalties_shrink_the_kernels(penalty: dict[str, float], vector_classes: Dataset) -> None:
    def size(training: Training) -> float:
        return float(np.abs(fit(CLASSIFIER, vector_classes.development, training, seed=0).weights["dense_0/kernel"]).mean())

    training = replace(FAST, epochs=4, learning_rate=0.05)
    assert size(replace(training, **penalty)) < 0.8 * size(training)


def test_a_training_that_diverges_has_no_metric(vector_values: Dataset) -> None:
    trained = fit(
        mlp(6, 8, 2), vector_values.development, Training(epochs=9, learning_rate=1e3, optimizer="sgd", batch_size=32), seed=0
    )
    assert np.isnan(trained.metric)
    assert not np.isfinite(trained.loss)


def test_a_classifier_that_diverges_has_no_accuracy(vector_classes: Dataset) -> None:
    start = {name: weight * 1e38 for name, weight in normal_weights(CLASSIFIER, seed=0).items()}
    trained = fit(CLASSIFIER, vector_classes.development, Training(epochs=1, batch_size=32), seed=0, start=start)
    assert np.isnan(trained.metric)


def test_predictions_do_not_depend_on_the_batch() -> None:
    weights = get_weights(build(CLASSIFIER), CLASSIFIER)
    x = np.random.default_rng(0).normal(size=(5000, 6)).astype(np.float32)
    together = predict(CLASSIFIER, weights, x)
    assert together.shape == (5000, 3)
    np.testing.assert_allclose(predict(CLASSIFIER, weights, x[4990:]), together[4990:], rtol=1e-5, atol=1e-6)


DOUBLING = Architecture(
    (2,),
    (
        LayerSpec.of("dense", units=2),
        LayerSpec.of("activation", fn="relu"),
        LayerSpec.of("dense", units=1),
        LayerSpec.of("activation", fn="tanh"),
    ),
)
DOUBLE = {
    "dense_0/kernel": np.diag([2.0, -2.0]),
    "dense_0/bias": np.zeros(2),
    "dense_1/kernel": np.array([[1.0], [0.0]]),
    "dense_1/bias": np.array([-1.0]),
}


def test_observed_ranges_by_hand() -> None:
    x = np.array([[0.0, 0.0], [1.0, 3.0], [-4.0, -1.0]], np.float32)
    ranges = activation_ranges(DOUBLING, DOUBLE, x, clip_quantile=0.0)
    assert ranges["activation_0"].inputs == (-8.0, 2.0)
    assert ranges["activation_0"].outputs == (0.0, 2.0)
    assert ranges["activation_1"].inputs == (-1.0, 1.0)
    assert ranges["activation_1"].outputs == pytest.approx((-np.tanh(1), np.tanh(1)))


def test_a_clip_quantile_leaves_out_both_tails() -> None:
    x = np.stack([np.linspace(-1, 1, 2001), np.zeros(2001)], axis=1).astype(np.float32)
    ranges = activation_ranges(DOUBLING, DOUBLE, x, clip_quantile=0.05)
    # 5 % of all values, which half are zeros, are 10 % of those between -2 and 2.
    assert ranges["activation_0"].inputs == pytest.approx((-1.6, 1.6), abs=0.01)


def test_a_network_without_activations_has_nothing_to_observe() -> None:
    linear = Architecture((2,), (LayerSpec.of("dense", units=1),))
    assert (
        activation_ranges(
            linear,
            {"dense_0/kernel": np.ones((2, 1)), "dense_0/bias": np.zeros(1)},
            np.ones((3, 2), np.float32),
            clip_quantile=0.0,
        )
        == {}
    )


def test_weights_that_are_read_make_an_equal_model(vector_values: Dataset) -> None:
    data = vector_values.development
    trained = fit(REGRESSOR, data, FAST, seed=0)
    model = build(REGRESSOR)
    set_weights(model, REGRESSOR, trained.weights)
    assert score(model, data.task, data.validation) == Scores(trained.metric, trained.loss, {})


class TestTheWayOfTraining:
    """Trainings that pay for it are compiled; nothing is trained here."""

    OWN, SHARED = molds([CLASSIFIER])[0], molds([mlp(6, 16, 3), mlp(6, 8, 8, 3)])[0]
    #: A sum of flattened maps.
    UNCOMMON = Architecture((3, 2, 2), (LayerSpec.of("flatten"), dense(12), LayerSpec.of("add", inputs=(-1, -2)), dense(3)))

    @pytest.fixture
    def way(self, vector_classes: Dataset, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Mold | None]:
        """Return the mold for which a training would be compiled, or None for one that is left to Keras."""
        data = vector_classes.development
        monkeypatch.setattr("kerasnac.adapters.keras.train.fit_by_keras", lambda member, data, callbacks: None)
        monkeypatch.setattr("kerasnac.adapters.keras.train.train_compiled", lambda member, data, mold: mold)

        def chosen(
            network: Architecture, steps: int = 1, mold: Mold | None = None, *, repeated: bool = False, **changes: Any
        ) -> Any:
            """Choose for about so many steps."""
            training = Training(batch_size=len(data.train), epochs=steps, **changes)
            return train(Member(network, training, seed=0, repeated=repeated), data, mold)

        return chosen

    def test_a_short_training_is_left_to_keras(self, way: Callable[..., Mold | None]) -> None:
        assert way(CLASSIFIER) is None
        assert way(CLASSIFIER, WORTH - 1) is None

    def test_a_long_one_is_compiled_for_the_network(self, way: Callable[..., Mold | None]) -> None:
        assert way(CLASSIFIER, WORTH) == self.OWN

    def test_one_of_several_trainings_of_a_network_is_compiled_earlier(self, way: Callable[..., Mold | None]) -> None:
        assert way(CLASSIFIER, WORTH_REPEATED - 1, repeated=True) is None
        assert way(CLASSIFIER, WORTH_REPEATED, repeated=True) == self.OWN
        assert way(CLASSIFIER, WORTH_REPEATED) is None

    def test_a_quantized_one_is_compiled_earlier(self, way: Callable[..., Mold | None]) -> None:
        assert way(QUANTIZED, WORTH_QUANTIZED - 1) is None
        assert way(QUANTIZED, WORTH_QUANTIZED) == molds([QUANTIZED])[0]

    def test_samples_that_are_not_used_are_not_counted(self, way: Callable[..., Mold | None]) -> None:
        assert way(CLASSIFIER, WORTH, data_fraction=0.5) is None
        assert way(CLASSIFIER, 2 * WORTH + 50, data_fraction=0.5) == self.OWN

    @pytest.mark.parametrize("steps", [1, WORTH])
    def test_a_shared_mold_is_used_however_short_the_training(self, steps: int, way: Callable[..., Mold | None]) -> None:
        assert way(CLASSIFIER, steps, self.SHARED) == self.SHARED

    def test_a_quantized_network_takes_its_form(self, way: Callable[..., Mold | None]) -> None:
        (shared,) = molds([mlp(6, 16, 3, fn="gelu", norm=True), mlp(6, 8, 8, 3)])
        assert way(QUANTIZED, 1, shared) == shared.quantized_form

    def test_a_shared_mold_that_does_not_hold_the_network_is_none(self, way: Callable[..., Mold | None]) -> None:
        assert way(mlp(6, 99, 3), 1, self.SHARED) is None
        assert way(mlp(6, 99, 3), WORTH, self.SHARED) == molds([mlp(6, 99, 3)])[0]

    @pytest.mark.parametrize(("limit", "steps"), [("PADDING", 10), ("PADDING_OF_STEP", 1)])
    def test_a_shared_mold_whose_padding_costs_too_much_is_not_used(
        self,
        limit: str,
        steps: int,
        way: Callable[..., Mold | None],
        monkeypatch: pytest.MonkeyPatch,
        vector_classes: Dataset,
    ) -> None:
        padding = steps * len(vector_classes.development.train) * (macs(self.SHARED, CLASSIFIER) - macs(self.OWN))
        assert padding > 0
        monkeypatch.setattr(f"kerasnac.adapters.keras.train.{limit}", padding + 1)
        assert way(CLASSIFIER, steps, self.SHARED) == self.SHARED
        monkeypatch.setattr(f"kerasnac.adapters.keras.train.{limit}", padding)
        assert way(CLASSIFIER, steps, self.SHARED) is None
        assert way(CLASSIFIER, WORTH, self.SHARED) == self.OWN

    def test_many_scores_are_left_to_keras_in_a_float_network_alone(
        self, way: Callable[..., Mold | None], monkeypatch: pytest.MonkeyPatch, vector_classes: Dataset
    ) -> None:
        network = only((3, 2, 2), Attention(width=2), outputs=3)
        scores = 6 * 6 * len(vector_classes.development.train)
        monkeypatch.setattr("kerasnac.adapters.keras.train.SCORES_OF_STEP", scores)
        assert way(network, WORTH) == molds([network])[0]
        monkeypatch.setattr("kerasnac.adapters.keras.train.SCORES_OF_STEP", scores - 1)
        assert way(network, WORTH) is None
        data = vector_classes.development
        x = np.zeros((60, 3, 2, 2), np.float32)
        split = replace(data.train, x=x, y=data.train.y[:60])
        maps = replace(data, train=split, validation=split)
        widths = {"weight_bits": 6, "activation_bits": 6, "clip_quantile": 1e-3}
        quantized, _ = quantized_start(network, normal_weights(network), maps, **widths)
        assert way(quantized, WORTH) == molds([quantized])[0]

    def test_what_has_no_mold_is_left_to_keras(self, way: Callable[..., Mold | None]) -> None:
        assert way(self.UNCOMMON, 10 * WORTH) is None
        assert way(self.UNCOMMON, 10 * WORTH, self.SHARED) is None

    def test_a_task_that_cannot_be_trained_so_is_refused_first(self, vector_values: Dataset) -> None:
        training = Training(label_smoothing=0.1)
        with pytest.raises(ConfigError, match="label_smoothing"):
            train(Member(REGRESSOR, training, seed=0), vector_values.development, self.SHARED)
