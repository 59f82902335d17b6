"""Masks of padded particles, and the means and softmaxes over those that are there."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from kerasnac.adapters.hls4ml.backends import check_layers
from kerasnac.adapters.keras.custom import custom
from kerasnac.adapters.keras.predict import layer_outputs, predict
from kerasnac.adapters.keras.runtime import tensorflow
from kerasnac.core.hardware.hls_options import HlsOptions
from kerasnac.core.network.architecture import Architecture
from kerasnac.core.network.cells import NoMold, cells_of
from kerasnac.core.network.layers import LayerSpec
from kerasnac.core.space.blocks import DeepSets, Mlp
from kerasnac.errors import ConversionError, Infeasible
from kerasnac.testing import BlockContract
from tests.networks import (
    Arrays,
    activation,
    assert_emulated,
    assert_exact,
    assert_read_again,
    dense,
    layer,
    only,
    quantized_randomly,
    trained_weights,
)

pytestmark = pytest.mark.usefixtures("keras")

FLATTEN, MASK = LayerSpec.of("flatten"), LayerSpec.of("mask")
PHI = DeepSets(widths=(4,), bottleneck=(3,), mask=True)


def point(filters: int, *inputs: int) -> LayerSpec:
    return LayerSpec.of("conv1d", filters=filters, kernel=1, stride=1, padding="valid", inputs=inputs or (-1,))


#: Attention over the particles that are there, then their mean.
ATTENTION = (
    point(3),
    activation("none"),
    LayerSpec.of("matmul", transpose=True, inputs=(-1, -1)),
    activation("none"),
    LayerSpec.of("mask", inputs=(-5,)),
    LayerSpec.of("masked_softmax", inputs=(-2, -1)),
    LayerSpec.of("matmul", transpose=False, inputs=(-1, -5)),
    activation("none"),
    LayerSpec.of("masked_mean", inputs=(-1, -4)),
    activation("none"),
    dense(2),
)

NETWORKS = {
    "set": only((5, 3), PHI, Mlp(widths=(4,))),
    "eight particles": only((8, 2), PHI),
    "no layers before": Architecture((6, 2), (MASK, LayerSpec.of("masked_mean", inputs=(-2, -1)))),
    "not rounded after": Architecture((3, 2), (MASK, LayerSpec.of("masked_mean", inputs=(-2, -1)), dense(2))),
    "attention": Architecture((5, 2), ATTENTION),
}


def padded(x: NDArray[np.float32]) -> NDArray[np.float32]:
    """Samples of any number of particles, none included; the others are zeros, at the end or in between."""
    rng = np.random.default_rng(0)
    counts = rng.integers(0, x.shape[1] + 1, len(x))
    there = np.arange(x.shape[1]) < counts[:, None]
    there[::2] = rng.permuted(there[::2], axis=1)
    return x * there[..., None]


def quantized(name: str, seed: int, *widths: int) -> tuple[Architecture, Arrays, NDArray[np.float32]]:
    architecture, weights, x = quantized_randomly(NETWORKS[name], seed, *widths)
    return architecture, weights, padded(x)


@settings(max_examples=8, deadline=None)
@given(name=st.sampled_from(sorted(NETWORKS)), seed=st.integers(0, 1000), widths=st.tuples(*[st.integers(2, 9)] * 2))
def test_keras_integers_and_the_adder_graph_agree(name: str, seed: int, widths: tuple[int, int]) -> None:
    assert_exact(*quantized(name, seed, *widths))


def test_a_float_network_averages_the_particles_that_are_there() -> None:
    network = NETWORKS["no layers before"]
    x = padded(np.random.default_rng(0).normal(size=(40, 6, 2)).astype(np.float32))
    there = (x != 0).any(axis=-1, keepdims=True)
    expected = x.sum(axis=1) / np.maximum(there.sum(axis=1), 1)
    np.testing.assert_allclose(predict(network, {}, x), expected, rtol=1e-5, atol=1e-6)
    assert (expected[~there.any(axis=(1, 2))] == 0).all()


@pytest.mark.parametrize("form", ["float", "quantized"])
def test_what_a_mask_leaves_out_has_no_weight(form: str) -> None:
    network = NETWORKS["attention"]
    architecture, weights, x = quantized("attention", 1, 8, 8)
    if form == "float":
        architecture, weights = network, trained_weights(network, np.random.default_rng(0))
    outputs = layer_outputs(architecture, weights, x)
    there, softmax = outputs["mask_0"], outputs["masked_softmax_0"].reshape(len(x), 5, 5)
    assert set(np.unique(there)) == {0, 1}
    assert (softmax[:, :, :] * (1 - there[:, None]) == 0).all()
    sums = softmax.sum(axis=-1)
    np.testing.assert_allclose(sums[there.any(axis=1)], 1, atol=1e-5 if form == "float" else 0.05)
    assert (sums[~there.any(axis=1)] == 0).all()


def test_padding_further_changes_nothing() -> None:
    """A set of five particles, and the same with three more that are not there."""
    short, long = NETWORKS["set"], only((8, 3), PHI, Mlp(widths=(4,)))
    weights = trained_weights(short, np.random.default_rng(0))
    x = np.random.default_rng(1).normal(size=(20, 5, 3)).astype(np.float32)
    more = np.concatenate([x, np.zeros((20, 3, 3), np.float32)], axis=1)
    np.testing.assert_allclose(predict(short, weights, x), predict(long, weights, more), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("name", "io_type"),
    [pytest.param("set", "io_parallel", marks=pytest.mark.slow), ("set", "io_stream"), ("attention", "io_parallel")],
)
def test_the_emulation_equals_keras(name: str, io_type: str, tmp_path: Path) -> None:
    architecture, weights, x = quantized(name, 3)
    assert_emulated(architecture, weights, x, tmp_path, io_type=io_type)


def test_a_masked_softmax_is_for_parallel_inputs() -> None:
    scores = LayerSpec.of("reshape", shape=(2, 4), inputs=(-2,))
    network = Architecture((4, 2), (MASK, scores, LayerSpec.of("masked_softmax", inputs=(-1, -2))))
    with pytest.raises(ConversionError, match="masked_softmax_0: its firmware is for io_parallel only"):
        check_layers(network, HlsOptions.of(io_type="io_stream"))


def test_a_saved_model_is_read_again(tmp_path: Path) -> None:
    architecture, weights, x = quantized("attention", 0)
    assert_read_again(architecture, weights, x, tmp_path)


def test_gradients_are_those_of_the_float_layers() -> None:
    tf, layers = tensorflow(), custom()
    rng = np.random.default_rng(0)
    x = tf.constant(np.round(rng.normal(size=(6, 3, 4)) * 8) / 8, tf.float32)
    mask = tf.constant(rng.integers(0, 2, (6, 4, 1)), tf.float32)
    weight = tf.constant(rng.normal(size=(6, 3, 4)), tf.float32)

    def gradient(made: object, *inputs: object) -> NDArray[np.float32]:
        with tf.GradientTape() as tape:
            tape.watch(inputs[0])
            found = made(list(inputs))  # type: ignore[operator]
            total = tf.reduce_sum(found * (weight if len(found.shape) == 3 else weight[:, 0, : found.shape[-1]]))
        return np.asarray(tape.gradient(total, inputs[0]))

    pairs = [
        (layers.MaskedSoftmax(None, None), layers.MaskedSoftmax("fixed<8,5>", "ufixed<8,0>"), x),
        (layers.MaskedMean(None), layers.MaskedMean("ufixed<16,1>"), tf.transpose(x, (0, 2, 1))),
    ]
    for real, exact, values in pairs:
        np.testing.assert_allclose(gradient(exact, values, mask), gradient(real, values, mask), rtol=1e-3, atol=1e-6)


def test_layers_that_do_not_fit_are_refused() -> None:
    with pytest.raises(Infeasible, match="mask needs a set"):
        _ = Architecture((4,), (MASK,)).nodes
    with pytest.raises(Infeasible, match="masked_mean needs a set and its mask"):
        _ = Architecture((4, 2), (MASK, layer("masked_mean", inputs=(-2, -2)))).nodes
    with pytest.raises(Infeasible, match="masked_softmax needs scores and a mask of their last axis"):
        _ = Architecture((4, 2), (MASK, layer("masked_softmax", inputs=(-2, -1)))).nodes


def test_a_mask_that_is_none_is_refused() -> None:
    architecture, weights, x = quantized_randomly(NETWORKS["no layers before"], 0)
    other = (activation("none", "fixed<4,2>"), LayerSpec.of("conv1d", filters=1, kernel=1, stride=1, padding="valid"))
    made = Architecture((6, 2), (*other[:1], layer("masked_mean", "ufixed<5,1>", inputs=(-2, -1))), architecture.input)
    with pytest.raises(Infeasible, match="its mask"):
        assert_exact(made, weights, x)
    narrow = Architecture((6, 1), made.layers, architecture.input)
    with pytest.raises(ConversionError, match="masked_mean_0: its second input is no mask"):
        assert_exact(narrow, weights, x[..., :1])


def test_a_mold_has_no_masks() -> None:
    with pytest.raises(NoMold, match="mask_0: a mold pads channels, and has no masks"):
        cells_of(NETWORKS["set"])


def test_a_masked_maximum_is_refused() -> None:
    with pytest.raises(ValueError, match="mask: true is for aggregate: mean"):
        DeepSets(widths=(4,), aggregate=("mean", "max"), mask=True)


class TestMaskedSets(BlockContract):
    block = DeepSets(widths=((4, 6), 3), depth=(0, 1, 2), bottleneck=(2, 3), norm=("none", "batch"), mask=True)
    shape = (5, 3)
