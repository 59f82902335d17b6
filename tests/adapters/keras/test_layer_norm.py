"""Layer norms in Keras, in integers, as adder graphs, as C++ and as Verilog."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kerasnac.core.network.architecture import Architecture
from kerasnac.core.network.layers import LayerSpec
from kerasnac.core.network.trained import Trained
from kerasnac.core.network.training import Training
from tests.networks import activation, assert_emulated, assert_exact, assert_read_again, dense, layer, quantized_randomly

pytestmark = pytest.mark.usefixtures("keras")

ALL, LAST = layer("layer_norm", axes="all"), layer("layer_norm", axes="last", table_bits=7)
FLATTEN = LayerSpec.of("flatten")
PHI = layer("conv1d", filters=3, kernel=1, stride=1, padding="valid")
CONV = layer("conv2d", filters=3, kernel=2, stride=1, padding="same")

NETWORKS = {
    "input": Architecture((5,), (ALL, dense(3))),
    "vector": Architecture((4,), (dense(6), ALL, activation("relu"), dense(3))),
    "before a table": Architecture((4,), (dense(5), ALL, activation("gelu"), dense(3))),
    "positions of a map": Architecture((3, 2, 2), (CONV, LAST, activation("relu"), FLATTEN, dense(2))),
    "a map": Architecture((3, 2, 2), (CONV, ALL, activation("tanh"), FLATTEN, dense(2))),
    "particles": Architecture((4, 3), (LAST, PHI, FLATTEN, dense(2))),
    "a sum": Architecture((4,), (dense(4), activation("none"), LayerSpec.of("add", inputs=(-1, -3)), ALL, dense(2))),
    "two in a row": Architecture((4,), (dense(6), ALL, ALL, activation("relu"), dense(2))),
    "output": Architecture((4,), (dense(3), activation("relu"), ALL)),
}


@settings(max_examples=9, deadline=None)
@given(name=st.sampled_from(sorted(NETWORKS)), seed=st.integers(0, 1000), widths=st.tuples(*[st.integers(2, 10)] * 2))
def test_keras_integers_and_the_adder_graph_agree(name: str, seed: int, widths: tuple[int, int]) -> None:
    assert_exact(*quantized_randomly(NETWORKS[name], seed, *widths))


def test_a_saved_model_is_read_again(tmp_path: Path) -> None:
    quantized, weights, x = quantized_randomly(NETWORKS["vector"], 0)
    assert_read_again(quantized, weights, x, tmp_path)


@pytest.mark.parametrize("io_type", [pytest.param("io_parallel", marks=pytest.mark.slow), "io_stream"])
def test_the_emulation_equals_keras(io_type: str, tmp_path: Path) -> None:
    tail = (dense(4), ALL, activation("relu"), dense(2))
    network = Architecture((3, 3, 2), (CONV, LAST, activation("relu"), ALL, activation("tanh"), FLATTEN, *tail))
    quantized, weights, x = quantized_randomly(network, 4)
    assert_emulated(quantized, weights, x, tmp_path, io_type=io_type)


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("verilator") is None, reason="verilator is not installed")
def test_the_verilog_equals_keras(tmp_path: Path) -> None:
    import kerasnac as kn

    quantized, weights, x = quantized_randomly(NETWORKS["a map"], 1, 5, 5)
    model = Trained("norms", quantized, weights, Training(), {}, 0)
    made = kn.make_rtl(model, x, folder=tmp_path / "rtl", synthesise=False)
    assert (made.simulation.samples, made.simulation.mismatches) == (len(x), 0)


def test_a_gradient_is_that_of_the_real_norm() -> None:
    from kerasnac.adapters.keras.custom import custom
    from kerasnac.adapters.keras.runtime import tensorflow

    tf = tensorflow()
    formats = {"inputs": "fixed<8,3>", "spread": "ufixed<10,8>", "root": "ufixed<10,0>", "outputs": "fixed<8,3>"}
    exact = custom().ExactLayerNorm("last", gain=None, offset=None, **formats)
    real = tf.keras.layers.LayerNormalization(epsilon=1e-3)
    rng = np.random.default_rng(0)
    x = tf.constant(np.round(rng.normal(size=(5, 4)) * 32) / 32, tf.float32)
    upstream = tf.constant(rng.normal(size=(5, 4)), tf.float32)
    gradients = []
    for made in (exact, real):
        with tf.GradientTape() as tape:
            tape.watch(x)
            total = tf.reduce_sum(made(x) * upstream)
        gradients.append([np.asarray(g) for g in tape.gradient(total, [x, *made.trainable_weights])])
    for ours, theirs in zip(*gradients, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(exact(x), real(x), atol=0.1)
