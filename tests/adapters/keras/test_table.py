"""Activations from a table: on the table in value, smooth in gradient."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from kerasnac.adapters.keras.build import build
from kerasnac.adapters.keras.custom import custom
from kerasnac.adapters.keras.runtime import tensorflow
from kerasnac.adapters.keras.table import table
from kerasnac.core.network.activations import ACTIVATIONS
from kerasnac.core.network.architecture import Architecture
from kerasnac.core.network.layers import LayerSpec
from kerasnac.core.network.precision import Precision

pytestmark = pytest.mark.usefixtures("keras")

TABLES = [name for name, fn in ACTIVATIONS.items() if fn.table]
#: The functions once more, one number at a time.
BY_HAND = {
    "leaky_relu": lambda x: x if x >= 0 else 0.01 * x,
    "gelu": lambda x: x * (1 + math.erf(x / math.sqrt(2))) / 2,
    "tanh": math.tanh,
    "sigmoid": lambda x: 1 / (1 + math.exp(-x)),
    "elu": lambda x: x if x >= 0 else math.exp(x) - 1,
    "selu": lambda x: 1.0507009873554805 * (x if x >= 0 else 1.6732632423543772 * (math.exp(x) - 1)),
    "swish": lambda x: x / (1 + math.exp(-x)),
    "softplus": lambda x: math.log1p(math.exp(x)),
    "hard_sigmoid": lambda x: min(max(0.2 * x + 0.5, 0), 1),
}
GRIDS = [
    (Precision(8, 4), Precision(8, 1)),  # outputs saturate
    (Precision(6, 3), Precision(6, 4)),
    (Precision(6, -1), Precision(8, 0)),  # negative integer bits
    (Precision(7, 3, signed=False), Precision(5, 1, signed=False)),
    (Precision(2, 1), Precision(3, 2)),
]


@pytest.mark.parametrize(("inputs", "outputs"), GRIDS, ids=str)
@pytest.mark.parametrize("fn", TABLES)
def test_the_forward_pass_is_the_rounded_function_at_every_grid_point(fn: str, inputs: Precision, outputs: Precision) -> None:
    low, high = (-(2 ** (inputs.bits - 1)), 2 ** (inputs.bits - 1)) if inputs.signed else (0, 2**inputs.bits)
    x = np.arange(low, high) * inputs.step
    expected = [min(max(round(BY_HAND[fn](v) / outputs.step) * outputs.step, outputs.minimum), outputs.maximum) for v in x]
    layer = custom().TableActivation(fn, str(inputs), str(outputs))
    np.testing.assert_array_equal(layer(x.astype(np.float32)).numpy(), expected)


@pytest.mark.parametrize("fn", TABLES)
def test_a_table_has_an_entry_for_every_bit_pattern(fn: str) -> None:
    entries = table(fn, Precision(8, 4), Precision(10, 4))
    assert entries.shape == (256,)
    assert entries[0] == round(BY_HAND[fn](0) * 64) / 64
    assert entries[255] == pytest.approx(BY_HAND[fn](-1 / 16), abs=1 / 128)
    assert entries[128] == pytest.approx(BY_HAND[fn](-8), abs=1 / 128)
    assert Precision(10, 4).quantize(entries).tolist() == entries.tolist()


@pytest.mark.parametrize("fn", TABLES)
def test_the_gradient_is_that_of_the_smooth_function(fn: str) -> None:
    tf = tensorflow()
    x = tf.constant(Precision(10, 4).grid()[[1, 5, 77, 300, 511, 512, 700, 1000, 1023]], tf.float32)
    layer = custom().TableActivation(fn, "ap_fixed<10,4>", "ap_fixed<4,2>")
    with tf.GradientTape() as tape:
        tape.watch(x)
        y = layer(x)
    gradient = tape.gradient(y, x).numpy()
    small = 1e-5
    expected = [(BY_HAND[fn](v + small) - BY_HAND[fn](v - small)) / (2 * small) for v in x.numpy().astype(float)]
    np.testing.assert_allclose(gradient, expected, atol=1e-4)


@pytest.mark.parametrize("fn", TABLES)
def test_the_gradient_is_finite_on_the_whole_grid(fn: str) -> None:
    tf = tensorflow()
    x = tf.constant(Precision(12, 7).grid(), tf.float32)
    with tf.GradientTape() as tape:
        tape.watch(x)
        y = custom().TableActivation(fn, "ap_fixed<12,7>", "ap_fixed<6,4>")(x)
    assert np.isfinite(tape.gradient(y, x).numpy()).all()


@pytest.mark.parametrize("fn", TABLES)
def test_a_model_reads_its_table_at_the_rounded_and_saturated_input(fn: str) -> None:
    before, after = Precision(6, 2), Precision(7, 3)
    layers = (
        replace(LayerSpec.of("activation", fn="none"), activation=before),
        replace(LayerSpec.of("activation", fn=fn), activation=after),
    )
    x = np.array([[-100, -2, -1.97, -0.06, 0, 0.03125, 0.09375, 1.9, 1.99, 100]], np.float32)
    on_grid = np.clip(np.round(x * 16) / 16, -2, 2 - 1 / 16)
    expected = [[round(BY_HAND[fn](v) * 16) / 16 for v in on_grid[0]]]
    outputs = build(Architecture((10,), layers, Precision(4, 2)))(x).numpy()
    np.testing.assert_array_equal(outputs, expected)


def test_the_layer_survives_its_config(keras: Any) -> None:
    layer = custom().TableActivation("gelu", "ap_fixed<6,2>", "ap_fixed<7,3>", name="here")
    again = keras.layers.deserialize(keras.layers.serialize(layer))
    x = Precision(6, 2).grid().astype(np.float32)
    np.testing.assert_array_equal(again(x).numpy(), layer(x).numpy())
    assert again.name == "here"
