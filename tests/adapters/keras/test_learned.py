"""Learning widths: the gradients, the bit operations, and networks with formats that compute what was trained."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from kerasnac.adapters.keras.learned.ramp import Ramp
from kerasnac.adapters.keras.predict import predict
from kerasnac.core.data.dataset import Dataset
from kerasnac.core.network.architecture import Architecture
from kerasnac.core.network.layers import LayerSpec
from kerasnac.core.network.learned import with_places
from kerasnac.core.network.weights import initial_weights
from kerasnac.core.settings import LearnedSettings
from kerasnac.errors import RunError
from tests.networks import activation, dense, mlp

SETTINGS = LearnedSettings(epochs=8, cycle=2, batch_size=32, learning_rate=0.1, pressure=(0.1, 10.0))

MAP = Architecture(
    (8, 8, 1),
    (
        LayerSpec.of("conv2d", filters=3, kernel=3, stride=2, padding="same"),
        activation("relu"),
        LayerSpec.of("pool", op="mean", size=2),
        LayerSpec.of("flatten"),
        dense(4),
        activation("relu"),
        dense(2),
    ),
)


def ramp(network: Architecture, data: Dataset, settings: LearnedSettings = SETTINGS) -> Ramp:
    return Ramp(with_places(network), initial_weights(network, 1), data.development, settings, seed=2)


@pytest.mark.parametrize("case", ["vectors", "maps"])
def test_the_network_with_formats_computes_what_was_trained(
    case: str, vector_classes: Dataset, map_positions: Dataset, keras: Any
) -> None:
    network, data = (mlp(6, 8, 3), vector_classes) if case == "vectors" else (MAP, map_positions)
    made = ramp(network, data)
    way = [made.cycle(number) for number in range(SETTINGS.cycles)]
    assert way[-1].operations < 0.7 * way[0].operations
    assert [one.pressure for one in way] == sorted(one.pressure for one in way)
    for checkpoint in (way[0], way[-1]):
        quantized, weights = made.network_of(checkpoint)
        assert sum(layer.kind == "quantizer" for layer in quantized.layers) == 2 + (case == "maps")
        x = data.development.train.x
        made._values.assign(checkpoint.values)
        trained = made._look(x).outputs.numpy()
        np.testing.assert_array_equal(predict(quantized, weights, x), trained)


def test_operations_are_the_products_of_the_bits_of_both_factors(vector_classes: Dataset, keras: Any) -> None:
    made = ramp(Architecture((6,), (dense(3),)), vector_classes)
    quantized, weights = made.network_of(made.cycle(0))
    places, kernel = quantized.layers[0], weights["dense_0/kernel"]
    learned = made._learned.split(made._values.numpy())

    def bits(part: str) -> np.ndarray:
        array, last = weights[f"dense_0/{part}"], np.round(learned[f"dense_0/{part}_bits"])
        with np.errstate(divide="ignore"):
            return np.where(array == 0, 0, np.maximum(0, np.floor(np.log2(np.abs(array))) + 1 + last))

    expected = (np.array(places["channel_bits"])[:, None] * bits("kernel")).sum() + bits("bias").sum()
    made._known.assign(keras.backend.zeros(made._known.shape))
    found = float(made._look(vector_classes.development.train.x).operations)
    assert kernel.shape == (6, 3)
    assert found == pytest.approx(expected)


def test_the_gradient_of_bits_is_the_error_of_rounding(keras: Any) -> None:
    import tensorflow as tf

    from kerasnac.adapters.keras.learned.forward import rounded

    x, fractional = tf.constant([[0.3, -0.6], [0.4, 1.2]]), tf.constant([1.0, 0.0])
    with tf.GradientTape() as tape:
        tape.watch([x, fractional])
        found = rounded(x, fractional)
    slopes = tape.gradient(found, [x, fractional])
    np.testing.assert_array_equal(found, [[0.5, -1.0], [0.5, 1.0]])
    np.testing.assert_array_equal(slopes[0], np.ones((2, 2)))
    np.testing.assert_allclose(slopes[1], math.log(2) * np.array([-0.2 - 0.1, 0.4 + 0.2]), rtol=1e-5)


@pytest.mark.parametrize("signed", [True, False])
def test_numbers_beyond_the_limits_have_the_gradient_of_the_limits(signed: bool, keras: Any) -> None:
    import tensorflow as tf

    from kerasnac.adapters.keras.learned.forward import saturated

    x = tf.constant([[0.5, 1.0, 0.0], [3.0, 5.0, 2.0], [-4.0, -2.0, 1.0]])
    if not signed:
        x = tf.maximum(x, 0.0)
    integer, fractional = tf.constant([1.0, 2.0, -2.0]), tf.constant([1.0, 0.0, 1.0])
    with tf.GradientTape() as tape:
        tape.watch([x, integer])
        found = saturated(x, integer, fractional, signed=signed)
    slopes = tape.gradient(found, [x, integer])
    low = [-2.0, -2.0, 0.0] if signed else [0.0, 0.0, 0.0]
    np.testing.assert_array_equal(found, [[0.5, 1.0, 0.0], [1.5, 3.0, 0.0], low])
    np.testing.assert_array_equal(slopes[0][:2], [[1, 1, slopes[0][0, 2]], [0, 0, 0]])
    below = 2.0 * signed
    np.testing.assert_allclose(slopes[1][:2], math.log(2) * np.array([2.0 - below, 4.0]), rtol=1e-5)
    assert slopes[1][2] != 0  # A channel of zeros may have bits again.


def test_a_state_goes_on_as_if_it_had_not_been_saved(vector_classes: Dataset, keras: Any) -> None:
    whole, first = ramp(mlp(6, 8, 3), vector_classes), ramp(mlp(6, 8, 3), vector_classes)
    expected = [whole.cycle(number) for number in range(3)][-1]
    first.cycle(0)
    first.cycle(1)
    second = ramp(mlp(6, 8, 3), vector_classes)
    second.state = first.state
    found = second.cycle(2)
    np.testing.assert_array_equal(found.values, expected.values)
    assert (found.metric, found.operations) == (expected.metric, expected.operations)


def test_looking_at_a_checkpoint_changes_nothing(vector_classes: Dataset, keras: Any) -> None:
    made = ramp(mlp(6, 8, 3), vector_classes)
    early = made.cycle(0)
    made.cycle(1)
    before = made.state
    made.network_of(early)
    assert all(np.array_equal(array, made.state[name]) for name, array in before.items())


def test_a_training_that_diverges_says_so(vector_values: Dataset, keras: Any) -> None:
    made = ramp(mlp(6, 8, 2), vector_values, SETTINGS.model_copy(update={"learning_rate": 1e30}))
    with pytest.raises(RunError, match="the training diverged in epoch 2: outputs are not finite; give learned a smaller"):
        list(map(made.cycle, range(SETTINGS.cycles)))
