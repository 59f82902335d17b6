"""Learning widths: the gradients, the bit operations, and networks with formats that compute what was trained."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from kerasnac.adapters.keras.learned.ramp import Ramp
from kerasnac.adapters.keras.predict import predict
from kerasnac.core.data.dataset import Dataset
from kerasnac.core.network.architecture import Architecture
from kerasnac.core.network.layers import LayerSpec
from kerasnac.core.network.learned import entry_bits, with_places
from kerasnac.core.network.precision import Precision
from kerasnac.core.network.weights import initial_weights
from kerasnac.core.settings import LearnedSettings
from kerasnac.errors import RunError
from tests.networks import activation, assert_emulated, assert_exact, dense, layer, mlp

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

#: Tables at the inputs, behind tables, behind an activation that dense layers read, too, and at the outputs.
TABLES = Architecture(
    (6,),
    (
        *(layer("tables", units=5, grid="ap_fixed<5,2>"), layer("tables", units=4, grid="ap_fixed<4,3>")),
        *(dense(4), activation("relu"), layer("tables", units=4, grid="ap_fixed<5,3>")),
        *(layer("tables", units=4, grid="ap_ufixed<4,2>"), dense(4), layer("tables", units=3, grid="ap_fixed<5,3>")),
    ),
)


#: So slowly that much is left.
GENTLE = SETTINGS.model_copy(update={"learning_rate": 0.03, "pressure": (0.01, 0.1)})


def ramp(network: Architecture, data: Dataset, settings: LearnedSettings = SETTINGS) -> Ramp:
    return Ramp(with_places(network), initial_weights(network, 1), data.development, settings, seed=2)


@pytest.mark.parametrize("case", ["vectors", "maps", "tables"])
def test_the_network_with_formats_computes_what_was_trained(
    case: str, vector_classes: Dataset, map_positions: Dataset, keras: Any
) -> None:
    networks = {"vectors": (mlp(6, 8, 3), vector_classes), "maps": (MAP, map_positions), "tables": (TABLES, vector_classes)}
    network, data = networks[case]
    made = ramp(network, data)
    way = [made.cycle(number) for number in range(SETTINGS.cycles)]
    assert way[-1].operations < 0.7 * way[0].operations
    assert [one.pressure for one in way] == sorted(one.pressure for one in way)
    for checkpoint in (way[0], way[-1]):
        quantized, weights = made.network_of(checkpoint)
        places = {"vectors": 2, "maps": 3, "tables": 7}
        assert sum(layer.kind == "quantizer" for layer in quantized.layers) == places[case]
        x = data.development.train.x
        made._values.assign(checkpoint.values)
        made._known.assign(keras.backend.zeros(made._known.shape))
        trained = made._look(x).outputs.numpy()
        np.testing.assert_array_equal(predict(quantized, weights, x), trained)
        if case == "tables":
            assert_exact(quantized, weights, x)


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


def test_firmware_of_learned_tables_is_exact(vector_classes: Dataset, keras: Any, tmp_path: Path) -> None:
    made = ramp(TABLES, vector_classes, GENTLE)
    quantized, weights = made.network_of(made.cycle(0))
    bits = [layer["channel_bits"] for layer in quantized.layers if layer.kind == "quantizer"]
    assert len(set(bits[0])) > 1, "channels have learned widths of their own"
    assert_emulated(quantized, weights, vector_classes.development.train.x, tmp_path)


def test_operations_of_tables_are_the_luts_of_saturating_reading_and_adding(vector_classes: Dataset, keras: Any) -> None:
    made = ramp(Architecture((6,), (layer("tables", units=3, grid="ap_fixed<7,3>"),)), vector_classes, GENTLE)
    quantized, weights = made.network_of(made.cycle(1))
    made._known.assign(keras.backend.zeros(made._known.shape))
    found = float(made._look(vector_classes.development.train.x).operations)
    inputs, widths = np.array(quantized.layers[0]["channel_bits"]), entry_bits(weights["tables_0/kernel"])
    learned = made._learned.split(made._values.numpy())
    # Entries need not use the last bit that they have; the bits in use are those of the network.
    most = np.round(learned["tables_0/kernel_bits"]) + np.floor(np.log2(np.ptp(weights["tables_0/kernel"], axis=0))) + 1
    assert (widths <= most).all()
    reading = 2.0 ** np.maximum(inputs - 5, 0) / 2 * np.minimum(inputs / 5, 1)
    last = np.round(learned["tables_0/bias_bits"])
    bias = np.floor(learned["tables_0/bias"] * 2**last + 0.5) / 2**last
    bits = np.where(bias == 0, 0, np.maximum(0, np.floor(np.log2(np.abs(bias))) + 1 + last))
    assert found == pytest.approx(inputs.sum() + (most * (reading[:, None] + 1) + 1.5 * (most > 0)).sum() + bits.sum())


def test_entries_of_a_cell_are_their_mean(keras: Any) -> None:
    import tensorflow as tf

    from kerasnac.adapters.keras.learned.tables import Channels

    grid, numbers = Precision(4, 3), np.arange(-8, 8) / 2
    steps = tf.constant([0.5, 1.0, 2.0, 16.0])
    for half, expected in ((0.0, np.floor), (0.5, lambda x: np.floor(x + 0.5))):
        channels = Channels(grid, steps, half)
        low, high = tf.constant([-2.0, -3.9, -4.0, 0.0]), tf.constant([1.5, 1.1, 2.0, 0.0])
        parts = channels.members(grid, low, high).numpy()
        np.testing.assert_allclose(parts.sum(axis=1), 1, rtol=1e-6)
        for i, (step, ends) in enumerate([(0.5, (-2, 1.5)), (1, (-4, 2)), (2, (-4, 2))]):
            own = np.minimum(expected(numbers / step) * step, 4 - step)
            read = np.clip(own, *ends)
            means = [numbers[own == number].mean() for number in read]
            np.testing.assert_allclose(parts[:, :, i] @ numbers, means, rtol=1e-6)
        np.testing.assert_allclose(parts[:, :, 3] @ numbers, numbers.mean(), rtol=1e-6)  # No bits: all numbers are one.


def test_the_gradient_for_an_input_is_the_slope_between_cells(keras: Any) -> None:
    import tensorflow as tf

    from kerasnac.adapters.keras.learned.tables import read

    grid, x = Precision(3, 2), tf.constant([[-2.0], [-1.0], [0.0], [1.0]])
    entries = tf.constant(np.repeat([3.0, 1.0, 4.0, 8.0], 2).astype(np.float32).reshape(8, 1, 1))
    with tf.GradientTape(persistent=True) as tape:
        tape.watch([x, entries])
        found = read(x, entries, grid, tf.constant([1.0]))
        weighted = tf.reduce_sum(found * tf.constant([[1.0], [2.0], [3.0], [4.0]]))
    np.testing.assert_array_equal(found[:, 0], [3, 1, 4, 8])
    np.testing.assert_allclose(tape.gradient(found, x)[:, 0], [-1, 0.5, 3.5, 2])
    np.testing.assert_allclose(tape.gradient(weighted, entries)[:, 0, 0], [1, 0, 2, 0, 3, 0, 4, 0])


def test_pressure_narrows_channels_that_are_finer_than_their_grid(keras: Any) -> None:
    import tensorflow as tf

    from kerasnac.adapters.keras.learned.tables import counted_bits

    bits = tf.constant([7.2, 3.0, 1.4])
    with tf.GradientTape() as tape:
        tape.watch(bits)
        found = counted_bits(bits, Precision(5, 2))
    np.testing.assert_array_equal(found, [3, 3, 1])
    np.testing.assert_array_equal(tape.gradient(found, bits), [1, 1, 1])


def test_the_gradient_of_bits_is_the_error_of_rounding(keras: Any) -> None:
    import tensorflow as tf

    from kerasnac.adapters.keras.learned.widths import rounded

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

    from kerasnac.adapters.keras.learned.widths import saturated

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
