"""What a mold computes is what Keras computes, whatever else the mold can hold."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest

from kerasnac.adapters.keras.engine.forward import dropout_factors
from kerasnac.core.network import cells
from kerasnac.core.network.architecture import Architecture
from kerasnac.core.network.layers import LayerSpec
from kerasnac.core.network.mold import molds, places
from kerasnac.core.network.precision import Odd
from kerasnac.core.network.weights import quantized_weights
from kerasnac.core.network.widths import Width
from kerasnac.core.space.blocks import Attention, Transformer
from tests.gradients import assert_alike, formatted
from tests.networks import activation, dense, layer, mlp, only, trained_weights

pytestmark = pytest.mark.usefixtures("keras")

BATCH, LAST, ALL = LayerSpec.of("batch_norm"), layer("layer_norm", axes="last"), layer("layer_norm", axes="all")
FLATTEN = LayerSpec.of("flatten")
BATCH_PARTS = ("gamma", "beta", "moving_mean", "moving_variance")


def conv(filters: int, rank: int = 2, **params: Any) -> LayerSpec:
    return LayerSpec.of(f"conv{rank}d", filters=filters, **{"kernel": 3, "stride": 1, "padding": "same", **params})


def pool(op: str, size: int) -> LayerSpec:
    return layer("pool", op=op, size=size)


def picture(*layers: LayerSpec) -> Architecture:
    return Architecture((7, 6, 2), (*layers, dense(3)))


def readout(*layers: LayerSpec) -> Architecture:
    return Architecture((9, 2), (*layers, dense(3)))


def attention(width: int, scores: str = "softmax", fn: str = "none") -> tuple[LayerSpec, ...]:
    """An attention on the map of ``picture``, with the activation ``fn`` of queries and keys."""
    layers = only((7, 6, 2), Attention(width=width, scores=scores, activation="gelu")).layers[:-2]
    return tuple(activation(fn) if i in (1, 4) else spec for i, spec in enumerate(layers))


def several(heads: int, width: int, **choices: Any) -> tuple[LayerSpec, ...]:
    """An attention with heads on the readout of ``readout``, up to the sum."""
    return only((9, 2), Attention(heads=heads, width=width, **choices)).layers[:-3]


def transformer(width: int, heads: int, head_width: int, **choices: Any) -> tuple[LayerSpec, ...]:
    made = Transformer(width=width, heads=heads, head_width=head_width, hidden=2 * width, aggregate="max", **choices)
    return only((9, 2), made).layers[:-1]


def residual(*body: LayerSpec) -> tuple[LayerSpec, ...]:
    return (*body, LayerSpec.of("add", inputs=(-1, -1 - len(body))), activation("tanh"))


#: All activations, in twos.
FUNCTIONS = [("relu", "sigmoid"), ("leaky_relu", "tanh"), ("gelu", "none")]

#: Networks, and others with which they share a mold: wider, deeper, with other norms and activations.
NETWORKS: Mapping[str, tuple[list[Architecture], list[Architecture]]] = {
    "mlp": (
        [
            *(
                Architecture((5,), (dense(6), *(s for fn in fns for s in (activation(fn), dense(4))), dense(3)))
                for fns in FUNCTIONS
            ),
            mlp(5, 3),
            Architecture((5,), (dense(6), BATCH, activation("sigmoid"), dense(7), BATCH, dense(3))),
            Architecture((5,), (dense(6), LAST, activation("sigmoid"), dense(2), ALL, activation("gelu"), dense(3))),
        ],
        [mlp(5, 9, 8, 7, 6, 3)],
    ),
    "maps that are kept": (
        [
            picture(conv(3), BATCH, activation("sigmoid"), pool("max", 2), ALL, conv(2), FLATTEN, dense(4), activation("relu")),
            picture(conv(2), LAST, conv(4), ALL, activation("tanh"), pool("max", 2), LAST, conv(3), FLATTEN, BATCH, dense(2)),
            picture(conv(3), activation("sigmoid"), pool("max", 2), BATCH, activation("gelu"), conv(2), FLATTEN, ALL),
        ],
        [picture(*[conv(5)] * 3, pool("max", 2), *[conv(6)] * 2, FLATTEN, LAST, *[dense(8)] * 2)],
    ),
    "maps that shrink": (
        [picture(conv(3, padding="valid", stride=2), activation("leaky_relu"), conv(2, kernel=2, padding="valid"), FLATTEN)],
        [picture(conv(5, padding="valid", stride=2), conv(4, kernel=2, padding="valid"), FLATTEN)],
    ),
    "strides of padded maps": (
        [picture(conv(3, stride=2), BATCH, activation("sigmoid"), conv(2, kernel=2, stride=3), pool("mean", 0), LAST)],
        [picture(conv(4, stride=2), conv(3, kernel=2, stride=3), pool("mean", 0), dense(4))],
    ),
    "attention": (
        [
            picture(*attention(2), FLATTEN),
            picture(*attention(3, "relu"), FLATTEN, LAST),
            picture(*attention(1, fn="sigmoid"), FLATTEN, ALL),
        ],
        [picture(*attention(4, "relu"), FLATTEN, dense(5))],
    ),
    "attention of several heads": (
        [
            readout(*several(2, 3, scaled=True), BATCH, pool("max", 0)),
            readout(*several(4, 1), ALL, pool("max", 0)),
            readout(*several(1, 2, scores="relu", scaled=True), LAST, pool("max", 0)),
        ],
        [readout(*several(3, 5), pool("max", 0)), readout(*several(5, 2, scores="relu"), pool("max", 0))],
    ),
    "transformers": (
        [readout(*transformer(3, 2, 2)), readout(*transformer(4, 1, 3, activation="gelu", scaled=False))],
        [readout(*transformer(6, 4, 2))],
    ),
    "transformers with layer norms": (
        [
            readout(*transformer(3, 2, 2, norm="layer")),
            readout(*transformer(4, 1, 3, norm="layer", activation="gelu")),
            readout(*transformer(2, 3, 1, norm="layer", scaled=False)),
        ],
        [readout(*transformer(6, 4, 2, norm="layer"))],
    ),
    "transformers with batch norms": (
        [readout(*transformer(3, 2, 2, norm="batch"))],
        [readout(*transformer(4, 4, 2, norm="batch"))],
    ),
    "attention of wider maps": (
        [picture(conv(2), ALL, activation("sigmoid"), *attention(3, fn="sigmoid"), conv(3), FLATTEN)],
        [picture(conv(2), *attention(5, "relu"), conv(5), *[conv(4)] * 2, FLATTEN)],
    ),
    "residuals": (
        [
            picture(conv(3), *residual(conv(2), BATCH, activation("sigmoid"), conv(3)), *residual(conv(3)), FLATTEN, LAST),
            picture(*[conv(2)] * 2, *residual(conv(3), LAST, conv(2)), *residual(conv(2), activation("sigmoid")), FLATTEN),
        ],
        [picture(conv(5), *residual(conv(4), conv(5)), *residual(conv(5)), FLATTEN, *[dense(4)] * 2)],
    ),
    "residuals of vectors": (
        [Architecture((5,), (dense(4), *residual(dense(6), BATCH, activation("relu"), dense(4)), dense(3)))],
        [Architecture((5,), (*[dense(8)] * 2, *residual(dense(3), dense(8)), *[dense(3)] * 2))],
    ),
    "readouts": (
        [
            readout(
                layer("window", start=2, length=6), conv(3, 1, stride=2), ALL, activation("sigmoid"), pool("mean", 3), FLATTEN
            ),
            readout(layer("window", start=2, length=6), conv(2, 1, stride=2), BATCH, pool("mean", 3), ALL, FLATTEN),
        ],
        [readout(layer("window", start=2, length=6), conv(5, 1, stride=2), pool("mean", 3), LAST, FLATTEN, dense(7))],
    ),
    "sets": (
        [
            readout(conv(3, 1, kernel=1), BATCH, activation("sigmoid"), pool("max", 0), dense(4), activation("relu")),
            readout(*[conv(2, 1, kernel=1), LAST, activation("tanh")] * 2, pool("max", 0), ALL),
        ],
        [readout(*[conv(4, 1, kernel=1)] * 3, pool("max", 0), *[dense(6)] * 2)],
    ),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_a_network_in_a_larger_mold_is_that_of_keras(name: str) -> None:
    networks, others = NETWORKS[name]
    (mold,) = molds([*networks, *others])
    for seed, network in enumerate(networks):
        assert_alike(network, mold, trained_weights(network, np.random.default_rng(seed)))


@pytest.mark.parametrize("name", NETWORKS)
def test_a_quantized_one_too(name: str) -> None:
    networks, others = NETWORKS[name]
    (mold,) = molds([*networks, *others])
    for seed, network in enumerate(networks):
        weights = trained_weights(network, np.random.default_rng(seed))
        quantized, start = formatted(network, weights, bits=4 + seed % 3, scales=name == "transformers with batch norms")
        assert_alike(quantized, mold.quantized_form, start)


@pytest.mark.parametrize(
    "widths", [("binary", 1), ("ternary", 1), pytest.param(("binary", 4), marks=pytest.mark.slow)], ids=str
)
@pytest.mark.parametrize("name", ["mlp", "maps that shrink", "attention", "residuals"])
def test_one_of_few_values_too(name: str, widths: tuple[Width, int]) -> None:
    """Latent weights are on their grids: QKeras' ``x + (sign - x)`` misses it by a last bit, and a sign sees that."""
    networks, others = NETWORKS[name]
    (mold,) = molds([*networks, *others])
    for seed, network in enumerate(networks):
        start = trained_weights(network, np.random.default_rng(seed))
        quantized, latent = formatted(network, start, bits=widths[1], weight_bits=widths[0])
        assert_alike(quantized, mold.quantized_form, quantized_weights(quantized, latent))


@pytest.mark.parametrize("name", ["mlp", "maps that shrink", "attention"])
def test_one_with_odd_biases_too(name: str) -> None:
    """Where the network lacks a channel, its bias is half a step and not zero."""
    networks, others = NETWORKS[name]
    (mold,) = molds([*networks, *others])
    found = set()
    for seed, network in enumerate(networks):
        start = trained_weights(network, np.random.default_rng(seed))
        quantized, latent = formatted(network, start, bits=4, tie_free=True)
        found |= {type(layer.bias) for layer in quantized.layers}
        assert_alike(quantized, mold.quantized_form, latent)
    assert Odd in found


def test_a_network_without_tables_in_a_mold_with_some() -> None:
    network = mlp(5, 4, 3)
    (mold,) = molds([network, mlp(5, 6, 3, fn="tanh")])
    quantized, start = formatted(network, trained_weights(network, np.random.default_rng(0)))
    assert_alike(quantized, mold.quantized_form, start)


def test_all_activations_are_among_the_examples() -> None:
    assert {*(fn for pair in FUNCTIONS for fn in pair), "softmax"} == set(cells.FUNCTIONS)


def test_the_statistics_of_a_single_value_are_those_of_keras() -> None:
    """One sample of one position has no variance to correct."""
    from kerasnac.adapters.keras.engine.forward import Step, _batch_norm
    from kerasnac.adapters.keras.runtime import tensorflow

    tf = tensorflow()
    parts = {part: tf.constant([1.0, 2.0]) for part in BATCH_PARTS}
    keras = tf.keras.layers.BatchNormalization(momentum=0.9, epsilon=1e-3)
    x = tf.constant([3.0, -1.0], shape=(1, 1, 1, 2))
    keras.build(x.shape)
    keras.set_weights([np.array([1.0, 2.0], np.float32)] * 4)
    theirs = keras(x, training=True)
    ours, statistics = _batch_norm(BATCH, x, parts, {}, Step(tf.ones(1), {}))
    np.testing.assert_allclose(ours, theirs, rtol=1e-5)
    for part, value in zip(("moving_mean", "moving_variance"), keras.get_weights()[2:], strict=True):
        np.testing.assert_allclose(statistics[part], value, rtol=1e-5)


class TestDropout:
    AT = places(molds([mlp(5, 40, 30, 3), mlp(5, 20, 3)])[0])

    def factors(self, rate: float, seed: tuple[int, int] = (1, 2)) -> dict[int, Any]:
        from kerasnac.adapters.keras.runtime import tensorflow

        tf = tensorflow()
        draw = tf.function(lambda *given: dropout_factors(self.AT, 500, *given), jit_compile=True)
        drawn = draw(tf.constant(rate), tf.constant(seed))
        return {i: values.numpy() for i, values in drawn.items()}

    @pytest.mark.parametrize("rate", [0.1, 0.5, 0.8])
    def test_the_rate_is_right_and_the_mean_stays(self, rate: float) -> None:
        for i, values in self.factors(rate).items():
            assert values.shape == (500, *self.AT[i].output)
            np.testing.assert_allclose(np.unique(values), [0, 1 / (1 - rate)], rtol=1e-6)
            deviation = np.sqrt(rate * (1 - rate) / values.size)
            assert np.mean(values == 0) == pytest.approx(rate, abs=4 * deviation)
            assert values.mean() == pytest.approx(1, abs=4 * deviation / (1 - rate))

    def test_outputs_of_a_network_are_never_dropped(self) -> None:
        assert set(self.factors(0.5)) == {0, 1}

    def test_nothing_is_dropped_at_rate_zero(self) -> None:
        assert all((values == 1).all() for values in self.factors(0.0).values())

    def test_seeds_and_places_draw_their_own(self) -> None:
        one, again, other = self.factors(0.5), self.factors(0.5), self.factors(0.5, (1, 3))
        for i in one:
            np.testing.assert_array_equal(one[i], again[i])
            assert np.mean(one[i] != other[i]) == pytest.approx(0.5, abs=0.05)
        width = min(values.shape[1] for values in one.values())
        first, second = (values[:, :width] for values in one.values())
        assert np.mean(first != second) == pytest.approx(0.5, abs=0.05)
