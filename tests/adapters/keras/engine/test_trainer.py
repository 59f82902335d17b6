"""A compiled training follows Keras, whatever was trained before it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kerasnac.adapters.keras.engine.trainer import CompiledTraining, EarlyStopping, Kind, _turns, compiled, train_compiled
from kerasnac.adapters.keras.member import Fit, Member, Pruning, magnitude_mask
from kerasnac.adapters.keras.reference import fit_by_keras
from kerasnac.adapters.keras.train import quantized_start
from kerasnac.core.data.dataset import Dataset, Development, Split, Task, make_dataset
from kerasnac.core.network.architecture import Architecture
from kerasnac.core.network.layers import LayerSpec
from kerasnac.core.network.mold import Mold, molds
from kerasnac.core.network.precision import Odd, Precision
from kerasnac.core.network.training import Training
from kerasnac.core.network.weights import Weights, fold_batch_norm, initial_weights
from kerasnac.core.network.widths import Width
from kerasnac.core.space.blocks import Attention, Conv, Pool, Residual, Transformer
from tests.networks import activation, dense, layer, only

pytestmark = pytest.mark.usefixtures("keras")

BATCH, LAST, ALL = LayerSpec.of("batch_norm"), layer("layer_norm", axes="last"), layer("layer_norm", axes="all")
FLATTEN = LayerSpec.of("flatten")

#: The last batch of an epoch is not full, of all data below.
TRAINING = Training(epochs=3, learning_rate=0.01, batch_size=64)

NORMED = Architecture((6,), (dense(8), BATCH, activation("gelu"), dense(6), LAST, activation("sigmoid"), dense(3)))
DEEP = Architecture((6,), (dense(7), ALL, activation("relu"), dense(4), activation("tanh"), dense(3)))
PLAIN = Architecture((6,), (dense(5), activation("leaky_relu"), dense(3)))
LINEAR = Architecture((6,), (dense(8), BATCH, dense(3)))
(VECTORS,) = molds([NORMED, DEEP, PLAIN, LINEAR])

#: Networks of one mold of quantized forms.
TABLES = Architecture((6,), (dense(7), activation("tanh"), dense(5), activation("gelu"), dense(3)))
MIXED = Architecture((6,), (dense(6), BATCH, activation("leaky_relu"), dense(8), activation("relu"), dense(3)))
(QUANTIZED,) = [mold.quantized_form for mold in molds([TABLES, MIXED])]


def attentive(width: int, scores: str = "softmax") -> Architecture:
    """An attention, and a residual of as many channels."""
    first = Conv(channels=width + 1, padding="same", activation="gelu")
    body = Conv(channels=width + 1, padding="same", activation="sigmoid")
    blocks = (first, Pool(size=2), Attention(width=width, scores=scores), Residual(body=body, activation="relu"))
    return only((8, 8, 1), *blocks)


(ATTENTIVE,) = molds([attentive(2), attentive(4, "relu")])


def transformer(heads: int, **choices: Any) -> Architecture:
    """A transformer with layer norms on readouts."""
    made = Transformer(width=4, heads=heads, head_width=2, hidden=heads, norm="layer", aggregate="max", **choices)
    return only((9, 2), made)


@dataclass(frozen=True)
class Quantized:
    """A quantized network and the weights to start from."""

    architecture: Architecture
    start: Weights


@pytest.fixture(scope="module")
def data(vector_classes: Dataset) -> Development:
    return vector_classes.development


@pytest.fixture(scope="module")
def tables(data: Development) -> Quantized:
    return formatted(TABLES, data)


@pytest.fixture(scope="module")
def mixed(data: Development) -> Quantized:
    return formatted(MIXED, data)


@pytest.fixture(scope="module")
def readouts() -> Development:
    """Two classes of readouts, nine steps of two channels: the pulse comes early or late."""
    rng = np.random.default_rng(4)
    y = np.arange(250) % 2
    x = rng.normal(0, 0.5, size=(250, 9, 2))
    x[np.arange(250), 2 + 3 * y] += 2
    return make_dataset(x, y, name="readouts", task=Task("classification", 2), seed=0).development


def formatted(architecture: Architecture, data: Development) -> Quantized:
    weights = initial_weights(architecture, 1)
    return Quantized(*quantized_start(architecture, weights, data, weight_bits=6, activation_bits=7, clip_quantile=1e-3))


def vectors(mold: Mold = VECTORS, table_bits: int = 0) -> CompiledTraining:
    """The compiled training of most tests."""
    return compiled(Kind(mold, TRAINING.batch_size, "adam", 3, table_bits))


def assert_follows(member: Member, data: Development, mold: Mold, *, atol: float = 2e-5) -> Fit:
    """Check that the engine follows Keras; the bias before a batch norm may be any: what counts is the two together."""
    reference, ours = fit_by_keras(member, data), train_compiled(member, data, mold)
    assert ours.epochs == reference.epochs == member.training.epochs
    assert ours.weights.keys() == reference.weights.keys()
    folded = [fold_batch_norm(member.architecture, fit.weights)[1] for fit in (ours, reference)]
    for key, expected in folded[1].items():
        np.testing.assert_allclose(folded[0][key], expected, rtol=1e-3, atol=atol, err_msg=key)
    assert ours.loss == pytest.approx(reference.loss, rel=1e-4)
    assert ours.metric == pytest.approx(reference.metric, rel=1e-3)
    start = initial_weights(member.architecture, member.seed) if member.start is None else member.start
    assert all((reference.weights[key] != start[key]).any() for key in start if key.endswith("kernel"))
    return ours


def assert_same(one: Fit, two: Fit) -> None:
    """Check that two results are equal in every bit."""
    assert (one.metric, one.loss, one.epochs) == (two.metric, two.loss, two.epochs)
    assert one.weights.keys() == two.weights.keys()
    for key, value in one.weights.items():
        np.testing.assert_array_equal(value, two.weights[key], err_msg=key)


class TestAgainstKeras:
    @pytest.mark.parametrize(
        ("architecture", "changes"),
        [
            (NORMED, {"schedule": "cosine", "weight_decay": 0.1}),
            (DEEP, {"l1": 0.01, "schedule": "cosine"}),
            (PLAIN, {"label_smoothing": 0.2, "weight_decay": 0.02, "data_fraction": 0.7}),
        ],
    )
    def test_vectors_with_adam(self, architecture: Architecture, changes: Any, data: Development) -> None:
        assert_follows(Member(architecture, replace(TRAINING, **changes), 3), data, VECTORS, atol=1e-4)

    def test_pictures_and_a_regression_with_sgd(self, map_positions: Dataset) -> None:
        def conv(filters: int, kernel: int, stride: int, padding: str) -> LayerSpec:
            return LayerSpec.of("conv2d", filters=filters, kernel=kernel, stride=stride, padding=padding)

        def network(wide: int) -> Architecture:
            first = (conv(2 * wide, 3, 1, "same"), BATCH, activation("relu"), layer("pool", op="max", size=2))
            return Architecture((8, 8, 1), (*first, conv(wide, 2, 2, "valid"), activation("tanh"), FLATTEN, dense(2)))

        (mold,) = molds([network(2), network(3)])
        training = replace(TRAINING, optimizer="sgd", schedule="cosine", l1=1e-3, weight_decay=0.1)
        assert_follows(Member(network(2), training, 3), map_positions.development, mold)

    def test_readouts_with_rmsprop(self, readouts: Development) -> None:
        head = (layer("window", start=1, length=7), layer("conv1d", filters=3, kernel=3, stride=2, padding="same"))
        tail = (ALL, activation("relu"), layer("pool", op="mean", size=2), FLATTEN, dense(2))
        network = Architecture((9, 2), (*head, *tail))
        assert_follows(
            Member(network, replace(TRAINING, optimizer="rmsprop", weight_decay=0.1), 3), readouts, *molds([network])
        )

    def test_sets_with_nadam(self, readouts: Development) -> None:
        particle = (layer("conv1d", filters=4, kernel=1, stride=1, padding="valid"), activation("gelu"))
        network = Architecture((9, 2), (*particle, layer("pool", op="max", size=0), dense(2)))
        training = replace(TRAINING, optimizer="nadam", schedule="cosine", weight_decay=0.1)
        assert_follows(Member(network, training, 3), readouts, *molds([network]))

    def test_attention_and_residuals(self, map_positions: Dataset) -> None:
        data = map_positions.development
        training = replace(TRAINING, epochs=2, learning_rate=3e-3)
        assert_follows(Member(attentive(2), training, 3), data, ATTENTIVE)
        member = Member(attentive(2, "relu"), training, 3)
        first = assert_follows(member, data, ATTENTIVE)
        train_compiled(Member(attentive(4), training, 4), data, ATTENTIVE)
        assert_same(train_compiled(member, data, ATTENTIVE), first)

    @pytest.mark.parametrize("form", ["float", pytest.param("quantized", marks=pytest.mark.slow)])
    def test_transformers(self, form: str, readouts: Development) -> None:
        """Of two heads, in a mold for three."""
        small = transformer(2)
        (mold,) = molds([small, transformer(3, scaled=False)])
        if form == "float":
            # A softmax does not see the bias of keys: its gradients are rounding errors.
            assert_follows(Member(small, replace(TRAINING, epochs=2), 3), readouts, mold, atol=2e-4)
            return
        network = formatted(small, readouts)
        member = Member(network.architecture, replace(TRAINING, epochs=2, learning_rate=1e-3), 3, network.start)
        assert_follows(member, readouts, mold.quantized_form, atol=1e-4)

    @pytest.mark.parametrize("scores", ["softmax", pytest.param("relu", marks=pytest.mark.slow)])
    def test_quantized_and_pruned_attention_and_residuals(self, scores: str, map_positions: Dataset) -> None:
        data = map_positions.development
        network = formatted(attentive(2, scores), data)
        names = ("conv2d_1", "conv2d_4", "conv2d_5")
        masks = {name: magnitude_mask(network.start[f"{name}/kernel"], 0.5) for name in names}
        training = replace(TRAINING, epochs=2, learning_rate=1e-3)
        member = Member(network.architecture, training, 3, network.start, Pruning(masks))
        trained = assert_follows(member, data, ATTENTIVE.quantized_form, atol=1e-4)
        assert all((trained.weights[f"{name}/kernel"][mask == 0] == 0).all() for name, mask in masks.items())
        other = formatted(attentive(4), data)
        train_compiled(Member(other.architecture, training, 4, other.start), data, ATTENTIVE.quantized_form)
        assert_same(train_compiled(member, data, ATTENTIVE.quantized_form), trained)

    @pytest.mark.parametrize("name", ["tables", "mixed"])
    def test_quantized(self, name: str, data: Development, request: pytest.FixtureRequest) -> None:
        network: Quantized = request.getfixturevalue(name)
        training = replace(TRAINING, learning_rate=3e-3, weight_decay=0.05)
        assert_follows(Member(network.architecture, training, 3, network.start), data, QUANTIZED, atol=1e-4)

    @pytest.mark.parametrize("widths", [("ternary", 4), ("binary", 1)], ids=str)
    def test_few_values(self, widths: tuple[Width, int], data: Development) -> None:
        """One epoch: a last bit that differs decides a sign sooner or later, and with it all that follows."""
        start = initial_weights(MIXED, 1)
        network = Quantized(
            *quantized_start(MIXED, start, data, weight_bits=widths[0], activation_bits=widths[1], clip_quantile=1e-3)
        )
        training = replace(TRAINING, epochs=1, learning_rate=3e-3)
        reference, ours = (
            train_one(Member(network.architecture, training, 3, network.start))
            for train_one in (lambda m: fit_by_keras(m, data), lambda m: train_compiled(m, data, QUANTIZED))
        )
        for key, expected in reference.weights.items():
            np.testing.assert_allclose(ours.weights[key], expected, atol=2e-3, err_msg=key)
        assert ours.metric == pytest.approx(reference.metric, abs=0.02)

    def test_fixed_masks(self, mixed: Quantized, data: Development) -> None:
        masks = {name: magnitude_mask(mixed.start[f"{name}/kernel"], 0.6) for name in ("dense_0", "dense_2")}
        member = Member(mixed.architecture, replace(TRAINING, epochs=2), 3, mixed.start, Pruning(masks))
        trained = assert_follows(member, data, QUANTIZED, atol=1e-4).weights
        for name, mask in masks.items():
            assert (trained[f"{name}/kernel"][mask == 0] == 0).all()
        self._check_zeros(trained, sum(int((mask == 0).sum()) for mask in masks.values()))

    def test_biases_off_the_ties(self, data: Development) -> None:
        widths = {"weight_bits": 5, "activation_bits": 5, "clip_quantile": 1e-3}
        network = Quantized(*quantized_start(MIXED, initial_weights(MIXED, 1), data, **widths, tie_free=True))
        assert [type(layer.bias) for layer in network.architecture.layers if layer.kind == "dense"] == [Odd, Odd, Precision]
        assert_follows(Member(network.architecture, TRAINING, 3, network.start), data, QUANTIZED, atol=1e-4)

    def test_gradual_pruning(self, mixed: Quantized, data: Development) -> None:
        from tensorflow_model_optimization.sparsity.keras import PolynomialDecay

        schedules = {
            "dense_0": PolynomialDecay(0.1, 0.5, 1, 6, frequency=2),
            "dense_1": PolynomialDecay(0.0, 0.9, 0, 4, frequency=1),
        }
        mask = magnitude_mask(mixed.start["dense_2/kernel"], 0.25)
        member = Member(mixed.architecture, TRAINING, 3, mixed.start, Pruning({"dense_2": mask}, schedules))
        trained = assert_follows(member, data, QUANTIZED, atol=1e-4).weights
        zeros = {name: int((trained[f"{name}/kernel"] == 0).sum()) for name in ("dense_0", "dense_1", "dense_2")}
        assert zeros == {"dense_0": 18, "dense_1": 43, "dense_2": 6}
        self._check_zeros(trained, sum(zeros.values()))

    def _check_zeros(self, trained: Weights, pruned: int) -> None:
        """Check that all of the padded vector that the network has not, or has lost, is zero in every bit."""
        training = vectors(QUANTIZED, 8)
        values, mask = training._weights.numpy(), training._mask.numpy()
        assert (values[mask == 0] == 0).all()
        assert mask.sum() == sum(array.size for array in trained.values()) - pruned


def test_a_pruned_float_network_and_its_padding_hold_exact_zeros(data: Development) -> None:
    mask = np.arange(48).reshape(6, 8) % 3 > 0
    trained = train_compiled(Member(NORMED, TRAINING, 3, None, Pruning({"dense_0": mask})), data, VECTORS).weights
    assert ((trained["dense_0/kernel"] != 0) == mask).all()
    training = vectors()
    values, mask = training._weights.numpy(), training._mask.numpy()
    assert (values[mask == 0] == 0).all()
    moving = ("dense_0/kernel", "batch_norm_0/moving_mean", "batch_norm_0/moving_variance")
    assert mask.sum() == sum(array.size for key, array in trained.items() if key not in moving) + 32


class TestCompany:
    """A result does not depend on what the compiled function has trained before."""

    def others(self, data: Development) -> Sequence[tuple[Member, Development]]:
        few = replace(data, train=Split(data.train.x[:70], data.train.y[:70]))
        return (
            (Member(DEEP, replace(TRAINING, dropout=0.4, weight_decay=0.3, l1=0.1, schedule="cosine"), 8), data),
            (
                Member(
                    PLAIN, replace(TRAINING, epochs=1, label_smoothing=0.5), 9, None, Pruning({"dense_0": np.zeros((6, 5))})
                ),
                few,
            ),
            (Member(PLAIN, replace(TRAINING, learning_rate=1e3, epochs=20), 9), data),
        )

    @pytest.mark.parametrize("changes", [{}, {"dropout": 0.3}, {"patience": 1, "epochs": 8, "learning_rate": 0.3}])
    def test_float(self, changes: Any, data: Development) -> None:
        member = Member(NORMED, replace(TRAINING, **changes), 3)
        first = train_compiled(member, data, VECTORS)
        for other, samples in self.others(data):
            train_compiled(other, samples, VECTORS)
            assert_same(train_compiled(member, data, VECTORS), first)

    def test_quantized(self, tables: Quantized, mixed: Quantized, data: Development) -> None:
        mask = Pruning({"dense_1": magnitude_mask(mixed.start["dense_1/kernel"], 0.5)})
        one = Member(tables.architecture, replace(TRAINING, dropout=0.3), 3, tables.start)
        two = Member(mixed.architecture, TRAINING, 3, mixed.start, mask)
        first = [train_compiled(member, data, QUANTIZED) for member in (one, two)]
        for member, result in ((two, first[1]), (one, first[0]), (one, first[0])):
            assert_same(train_compiled(member, data, QUANTIZED), result)

    def test_a_part_of_the_data_is_trained_like_data_of_that_size(self, data: Development) -> None:
        count = TRAINING.with_(data_fraction=0.6).samples(len(data.train))
        fold = replace(data, train=Split(data.train.x[:count], data.train.y[:count]))
        part = train_compiled(Member(NORMED, replace(TRAINING, data_fraction=0.6, dropout=0.2), 3), data, VECTORS)
        assert_same(train_compiled(Member(NORMED, replace(TRAINING, dropout=0.2), 3), fold, VECTORS), part)

    def test_all_of_them_are_served_by_one_compiled_function(self, data: Development) -> None:
        for member, samples in self.others(data):
            train_compiled(member, samples, VECTORS)
        assert vectors()._steps.experimental_get_tracing_count() == 1
        assert vectors()._predict.experimental_get_tracing_count() == 1


def test_dropout_follows_the_seed_and_changes_the_result(data: Development) -> None:
    start = initial_weights(PLAIN, 0)

    def trained(rate: float, seed: int) -> Weights:
        training = replace(TRAINING, epochs=1, dropout=rate, batch_size=64)
        return train_compiled(Member(PLAIN, training, seed, start), data, VECTORS).weights

    results = [trained(0.3, 1)["dense_1/kernel"], trained(0.3, 2)["dense_1/kernel"], trained(0.0, 1)["dense_1/kernel"]]
    np.testing.assert_array_equal(results[0], trained(0.3, 1)["dense_1/kernel"])
    assert all((one != two).any() for i, one in enumerate(results) for two in results[:i])


def test_a_dropout_hits_no_layer_without_activation(data: Development) -> None:
    trained = [train_compiled(Member(LINEAR, replace(TRAINING, dropout=rate), 3), data, VECTORS) for rate in (0.5, 0.0)]
    assert_same(*trained)


def test_early_stopping_is_that_of_keras(data: Development) -> None:
    training = replace(TRAINING, epochs=30, learning_rate=0.2, patience=2, l1=1e-3)
    member = Member(PLAIN, training, 3)
    ours, reference = train_compiled(member, data, VECTORS), fit_by_keras(member, data)
    assert ours.epochs == reference.epochs < 30
    assert ours.loss == pytest.approx(reference.loss, rel=1e-3)
    best = train_compiled(replace(member, training=replace(training, epochs=ours.epochs - 2, patience=None)), data, VECTORS)
    assert best.loss == ours.loss
    for key, value in best.weights.items():
        np.testing.assert_array_equal(ours.weights[key], value)


class _Model:
    """What the callback of Keras needs of a model."""

    epoch, stop_training, restored = 0, False, -1

    def get_weights(self) -> int:
        return self.epoch

    def set_weights(self, epoch: int) -> None:
        self.restored = epoch


@given(st.lists(st.sampled_from([0.5, 0.7, 1.0, 2.0, float("inf"), float("nan")]), min_size=1, max_size=8), st.integers(1, 3))
def test_early_stopping_decides_like_keras(keras: Any, losses: list[float], patience: int) -> None:
    model, callback = _Model(), keras.callbacks.EarlyStopping("loss", patience=patience, restore_best_weights=True)
    callback.set_model(model)
    callback.on_train_begin()
    stopping = EarlyStopping(patience)
    for epoch, loss in enumerate(losses):
        model.epoch = epoch
        callback.on_epoch_end(epoch, {"loss": loss})
        stops = stopping.stops(loss, lambda epoch=epoch: epoch)
        assert stops == model.stop_training
        if stops:
            break
    callback.on_train_end()
    assert stopping.best == model.restored


def test_a_snapshot_is_the_training_so_far_and_changes_nothing(data: Development) -> None:
    watched = train_compiled(Member(NORMED, TRAINING, 3, snapshot_epoch=2), data, VECTORS)
    whole = train_compiled(Member(NORMED, TRAINING, 3), data, VECTORS)
    early = train_compiled(Member(NORMED, replace(TRAINING, epochs=2), 3), data, VECTORS)
    assert_same(watched, whole)
    assert whole.snapshot == {}
    assert watched.snapshot.keys() == early.weights.keys()
    for key, value in early.weights.items():
        np.testing.assert_array_equal(watched.snapshot[key], value)


def test_nadam_is_that_of_dozat_however_many_variables_and_traces() -> None:
    """Arrays apart and in one vector, a function traced several times: they all take the steps of the paper."""
    from kerasnac.adapters.keras.optimizers import make_optimizer
    from kerasnac.adapters.keras.runtime import tensorflow

    tf, rng, rate = tensorflow(), np.random.default_rng(0), 0.01
    gradients = rng.normal(size=(8, 6)).astype(np.float32)
    value, m, v, product = np.zeros(6), np.zeros(6), np.zeros(6), 1.0
    for t, g in enumerate(gradients.astype(float), 1):
        now, after = (0.9 * (1 - 0.5 * 0.96**s) for s in (t, t + 1))
        product *= now
        m, v = 0.9 * m + 0.1 * g, 0.999 * v + 0.001 * g**2
        mean = after * m / (1 - product * after) + (1 - now) * g / (1 - product)
        value -= rate * mean / (np.sqrt(v / (1 - 0.999**t)) + 1e-7)

    def taken(pieces: int) -> Any:
        variables, optimizer = [tf.Variable(tf.zeros(6 // pieces)) for _ in range(pieces)], make_optimizer("nadam", rate, None)
        optimizer.build(variables)
        for half in (gradients[:3], gradients[3:]):
            step = tf.function(lambda g: optimizer.apply_gradients(zip(tf.split(g, pieces), variables, strict=True)))
            for g in half:
                step(tf.constant(g))
        return np.concatenate([variable.numpy() for variable in variables])

    for pieces in (1, 3):
        np.testing.assert_allclose(taken(pieces), value, rtol=1e-4)


def test_masks_are_made_when_the_toolkit_makes_them() -> None:
    from tensorflow_model_optimization.sparsity.keras import ConstantSparsity, PolynomialDecay

    schedules = {"a": PolynomialDecay(0.0, 0.8, 2, 6, frequency=2), "b": ConstantSparsity(0.5, begin_step=3, frequency=3)}
    turns = _turns(Pruning(schedules=schedules), 8)
    # Steps of the toolkit start at one.
    assert {step: list(names) for step, names in turns.items()} == {1: ["a"], 2: ["b"], 3: ["a"], 5: ["a", "b"]}
    assert [turns[step]["a"] for step in (1, 3, 5)] == pytest.approx([0.0, 0.8 * (1 - 0.5**3), 0.8])
    assert _turns(Pruning(), 8) == _turns(None, 8) == {}


@given(st.lists(st.integers(-3, 3), min_size=1, max_size=12), st.floats(0, 0.999))
def test_a_mask_keeps_the_largest(kernel: list[int], fraction: float) -> None:
    values = np.array(kernel, np.float32)
    mask = magnitude_mask(values, fraction)
    assert set(np.unique(mask)) <= {0.0, 1.0}
    assert not mask[values == 0].any()
    kept, dropped = np.abs(values[mask == 1]), np.abs(values[(mask == 0) & (values != 0)])
    if kept.size and dropped.size:
        assert kept.min() > dropped.max()
    assert mask.sum() >= min(np.count_nonzero(values), max(1, round((1 - fraction) * values.size)))
