"""The softmax of tables against its steps in whole numbers, and against the real softmax."""

from __future__ import annotations

import math
from dataclasses import replace
from fractions import Fraction
from typing import Any

import numpy as np
import pytest

from kerasnac.adapters.keras.build import build
from kerasnac.adapters.keras.custom import custom
from kerasnac.adapters.keras.runtime import tensorflow
from kerasnac.adapters.keras.table import SoftmaxTables
from kerasnac.core.network.architecture import Architecture
from kerasnac.core.network.layers import LayerSpec
from kerasnac.core.network.precision import Precision

pytestmark = pytest.mark.usefixtures("keras")


def unsigned(bits: int) -> Precision:
    return Precision(bits, 0, signed=False)


#: Format of the scores, how many there are, format of the result.
CASES = [
    (Precision(8, 4), 5, unsigned(8)),
    (Precision(6, 3), 1, unsigned(4)),
    (Precision(4, 4), 16, unsigned(2)),
    (Precision(8, -1), 36, unsigned(10)),
    (Precision(12, 6), 64, unsigned(12)),
    (Precision(16, 3), 81, unsigned(16)),
    (Precision(7, 3, signed=False), 9, Precision(6, 1, signed=False)),
]
every_case = pytest.mark.parametrize(("inputs", "size", "outputs"), CASES, ids=str)


def scores(inputs: Precision, size: int, count: int = 200) -> np.ndarray:
    """From all equal to all over the range, on their grid."""
    rng = np.random.default_rng(size)
    spread = np.geomspace(inputs.step, 2 * inputs.maximum, count)[:, None]
    return inputs.quantize(rng.normal(size=(count, size)) * spread).astype(np.float32)


def half_up(value: float | Fraction) -> int:
    return math.floor(Fraction(value) + Fraction(1, 2))


def by_hand(row: np.ndarray, outputs: Precision) -> list[float]:
    """Softmax in whole numbers: tables of ``outputs.bits + 3`` fractional bits, 6 for the sum that is looked up."""
    fraction, size = outputs.bits + 3, len(row)
    top = 2 ** (fraction + 1) - 1

    def entry(value: float) -> int:
        return min(half_up(Fraction(float(np.float32(value))) * 2**fraction), top)

    exponentials = [entry(math.exp(-float(row.max() - score))) for score in row]
    index = min(half_up(Fraction(sum(exponentials), 2**fraction) * 64), 2 ** (size.bit_length() + 6) - 1)
    reciprocal = entry(64 / index)
    products = [Fraction(exponential * reciprocal, 4**fraction) / Fraction(outputs.step) for exponential in exponentials]
    # round() of a fraction is half to even.
    return [min(round(product), 2**outputs.bits - 1) * outputs.step for product in products]


@every_case
def test_the_forward_pass_is_the_documented_one(inputs: Precision, size: int, outputs: Precision) -> None:
    x = scores(inputs, size)
    made = custom().TableSoftmax(str(inputs), str(outputs))(x).numpy()
    np.testing.assert_array_equal(made, [by_hand(row, outputs) for row in x])


def test_sums_with_more_bits_than_float32_are_exact() -> None:
    """In float32, a sum of 26 bits just below half a step of the index is rounded up."""
    inputs, outputs = Precision(16, 2), unsigned(16)
    rng = np.random.default_rng(0)
    x = inputs.quantize(rng.normal(size=(20_000, 81)) * rng.uniform(0, 0.6, (20_000, 1))).astype(np.float32)
    tables = SoftmaxTables(inputs, 81, outputs)
    raw = np.rint((x.max(axis=-1, keepdims=True) - x) / inputs.step).astype(int)
    from_half = 64 * tables.exponentials[raw].sum(axis=-1) % 1 - 0.5
    x = x[(from_half < 0) & (from_half > -(2**-11))]
    assert len(x) > 3
    made = custom().TableSoftmax(str(inputs), str(outputs))(x).numpy()
    np.testing.assert_array_equal(made, [by_hand(row, outputs) for row in x])


@every_case
def test_the_result_is_close_to_the_real_softmax(inputs: Precision, size: int, outputs: Precision) -> None:
    """The sum, at least one, is looked up to 1/128: one percent; then half a step, and the last value is missing."""
    x = scores(inputs, size)
    made = custom().TableSoftmax(str(inputs), str(outputs))(x).numpy()
    exact = np.exp(x - x.max(axis=-1, keepdims=True).astype(np.float64))
    exact /= exact.sum(axis=-1, keepdims=True)
    assert np.abs(made - np.minimum(exact, outputs.maximum)).max() < 0.01 + outputs.step
    assert (made >= 0).all()
    assert (made <= outputs.maximum).all()


def test_formats_leave_nothing_to_round_but_tables_and_result() -> None:
    tables = SoftmaxTables(Precision(6, 2), 36, unsigned(8))
    assert tables.difference == Precision(6, 2, signed=False)
    assert tables.difference.maximum == Precision(6, 2).maximum - Precision(6, 2).minimum
    assert tables.sum.maximum >= 36 * tables.exponentials.max()
    assert tables.sum.fractional == tables.entry.fractional
    assert tables.index.maximum >= 36
    assert (len(tables.exponentials), len(tables.reciprocals)) == (2**6, 2**12)
    assert tables.exponentials[0] == 1
    assert np.isfinite(tables.reciprocals).all()


def test_the_gradient_is_that_of_the_real_softmax() -> None:
    tf = tensorflow()
    x = tf.constant(scores(Precision(8, 3), 5, 20))
    direction = tf.constant(np.random.default_rng(0).normal(size=(20, 5)), tf.float32)
    gradients = []
    for softmax in (custom().TableSoftmax("ap_fixed<8,3>", "ap_ufixed<4,0>"), tf.nn.softmax):
        with tf.GradientTape() as tape:
            tape.watch(x)
            total = tf.reduce_sum(softmax(x) * direction)
        gradients.append(tape.gradient(total, x).numpy())
    np.testing.assert_allclose(gradients[0], gradients[1], atol=1e-6)
    assert np.abs(gradients[1]).max() > 0.1


def test_rows_of_a_matrix_do_not_touch_each_other() -> None:
    layer = custom().TableSoftmax("ap_fixed<8,3>", "ap_ufixed<8,0>")
    x = scores(Precision(8, 3), 6, 24)
    np.testing.assert_array_equal(layer(x.reshape(4, 6, 6)).numpy().reshape(24, 6), layer(x).numpy())


def test_a_model_reads_the_scores_from_the_quantizer_before(keras: Any) -> None:
    grid, out = Precision(5, 2), unsigned(6)
    before = replace(LayerSpec.of("activation", fn="none"), activation=grid)
    layers = (before, LayerSpec.of("reshape", shape=(2, 3)), replace(LayerSpec.of("softmax"), activation=out))
    x = np.random.default_rng(3).normal(size=(20, 6)).astype(np.float32) * 2
    made = build(Architecture((6,), layers, Precision(10, 4)))(x).numpy()
    np.testing.assert_array_equal(made, [[by_hand(row, out) for row in rows] for rows in grid.quantize(x).reshape(20, 2, 3)])


@pytest.mark.parametrize("transpose", [False, True])
def test_products_of_matrices(transpose: bool, keras: Any) -> None:
    rng = np.random.default_rng(0)
    left, right = rng.normal(size=(7, 3, 4)).astype(np.float32), rng.normal(size=(7, 4, 5)).astype(np.float32)
    layer = keras.layers.deserialize(keras.layers.serialize(custom().MatMul(transpose, name="here")))
    assert layer.name == "here"
    made = layer([left, right.transpose(0, 2, 1) if transpose else right]).numpy()
    np.testing.assert_allclose(made, left @ right, rtol=1e-5, atol=1e-6)


def test_the_layer_survives_its_config(keras: Any) -> None:
    layer = custom().TableSoftmax("ap_fixed<6,2>", "ap_ufixed<7,0>", name="here")
    again = keras.layers.deserialize(keras.layers.serialize(layer))
    x = scores(Precision(6, 2), 4)
    np.testing.assert_array_equal(again(x).numpy(), layer(x).numpy())
    assert again.name == "here"
