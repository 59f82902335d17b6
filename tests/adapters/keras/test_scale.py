"""Batch norms that cannot be folded: as scales in Keras, in integers, as adder graphs and as C++."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kerasnac.adapters.keras.predict import predict
from kerasnac.core.network.architecture import Architecture
from kerasnac.core.network.cells import NoMold, cells_of
from kerasnac.core.network.exactness import output_formats
from kerasnac.core.network.layers import LayerSpec
from kerasnac.core.network.mold import fitting, molds
from kerasnac.core.network.precision import Precision
from kerasnac.core.network.weights import fold_batch_norm
from tests.gradients import assert_alike, formatted
from tests.networks import (
    activation,
    assert_emulated,
    assert_exact,
    assert_read_again,
    dense,
    layer,
    quantized_randomly,
    trained_weights,
)

pytestmark = pytest.mark.usefixtures("keras")

NORM, FLATTEN = LayerSpec.of("batch_norm"), LayerSpec.of("flatten")
CONV = layer("conv2d", filters=2, kernel=2, stride=1, padding="same")

#: Batch norms at every place where they cannot be folded.
NETWORKS = {
    "input": Architecture((4,), (NORM, dense(3), activation("relu"), dense(2))),
    "activation": Architecture((4,), (dense(3), activation("relu"), NORM, dense(2))),
    "sum": Architecture(
        (3, 3, 2), (CONV, activation("none"), LayerSpec.of("add", inputs=(-1, -3)), NORM, activation("gelu"), FLATTEN, dense(2))
    ),
    "pool": Architecture((4, 4, 2), (layer("pool", op="mean", size=2), NORM, CONV, FLATTEN, dense(2))),
    "read by others": Architecture((4,), (dense(4), NORM, LayerSpec.of("add", inputs=(-1, -2)), activation("relu"), dense(2))),
    "output": Architecture((4,), (dense(3), activation("relu"), NORM)),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_a_network_computes_the_same_when_norms_become_scales(name: str) -> None:
    network = NETWORKS[name]
    weights = trained_weights(network, np.random.default_rng(0))
    folded, moved = fold_batch_norm(network, weights)
    x = np.random.default_rng(1).normal(size=(50, *network.input_shape)).astype(np.float32)
    assert "scale" in {spec.kind for spec in folded.layers}
    np.testing.assert_allclose(predict(folded, moved, x), predict(network, weights, x), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", NETWORKS)
def test_a_scale_is_rounded_before_all_but_activations(name: str) -> None:
    quantized, _, _ = quantized_randomly(NETWORKS[name], 0)
    readers = [node for node in quantized.nodes for i in node.inputs if i >= 0 and quantized.layers[i].kind == "scale"]
    assert {node.layer.kind for node in readers} == (set() if name == "output" else {"activation"})


@settings(max_examples=8, deadline=None)
@given(name=st.sampled_from(sorted(NETWORKS)), seed=st.integers(0, 1000), widths=st.tuples(*[st.integers(2, 12)] * 2))
def test_keras_integers_and_the_adder_graph_agree(name: str, seed: int, widths: tuple[int, int]) -> None:
    assert_exact(*quantized_randomly(NETWORKS[name], seed, *widths))


@pytest.mark.parametrize("widths", [("ternary", 1), ("binary", 2), (2, 1)])
def test_factors_and_their_results_keep_a_sign_and_a_width(widths: tuple[Any, int]) -> None:
    quantized, weights, x = quantized_randomly(NETWORKS["input"], 0, *widths)
    factor, rounded = quantized.layers[0].weight, quantized.layers[1].activation
    assert factor is not None
    assert rounded is not None
    assert str(factor).startswith("ap_fixed")
    assert rounded.signed
    assert_exact(quantized, weights, x)


def test_the_format_of_a_scale_is_that_of_its_widest_channel() -> None:
    grid = Precision(6, 2)
    network = Architecture((2,), (layer("scale", "fixed<4,3>", "fixed<4,3>"),), grid)
    weights = {"scale_0/kernel": np.array([0.5, -2], np.float32), "scale_0/bias": np.array([0, 0.5], np.float32)}
    out = output_formats(network, weights)["scale_0"]
    assert out.fractional == grid.fractional + 1
    assert out.maximum >= -2 * grid.minimum + 0.5 > out.maximum / 2


def test_a_saved_model_is_read_again(tmp_path: Path) -> None:
    quantized, weights, x = quantized_randomly(NETWORKS["activation"], 0)
    assert_read_again(quantized, weights, x, tmp_path)


@pytest.mark.parametrize("io_type", [pytest.param("io_parallel", marks=pytest.mark.slow), "io_stream"])
def test_the_emulation_equals_keras(io_type: str, tmp_path: Path) -> None:
    tail = (dense(4), activation("relu"), NORM, dense(2))
    network = Architecture((4, 3, 2), (NORM, CONV, activation("relu"), NORM, activation("tanh"), FLATTEN, *tail, NORM))
    network = replace(network, layers=(*network.layers[:-1], activation("none"), NORM))
    quantized, weights, x = quantized_randomly(network, 4)
    assert [spec.kind for spec in quantized.layers].count("scale") == 4
    assert_emulated(quantized, weights, x, tmp_path, io_type=io_type)


@pytest.mark.parametrize("name", [name for name in NETWORKS if name != "read by others"])
def test_the_engine_trains_norms_and_scales_as_keras_does(name: str) -> None:
    network = NETWORKS[name]
    weights = trained_weights(network, np.random.default_rng(0))
    (mold,) = molds([network])
    assert_alike(network, mold, weights)
    quantized, start = formatted(network, weights, scales=True)
    assert_alike(quantized, fitting([mold], quantized) or molds([quantized])[0], start)


def test_a_mold_of_norms_is_one_of_scales() -> None:
    wide, narrow = (Architecture((4,), (NORM, dense(n), activation("relu"), NORM, dense(2))) for n in (5, 3))
    (mold,) = molds([wide, narrow])
    weights = trained_weights(narrow, np.random.default_rng(0))
    assert_alike(narrow, mold, weights)
    quantized, start = formatted(narrow, weights, scales=True)
    assert_alike(quantized, mold.quantized_form, start)


def test_a_scale_of_a_flattened_map_has_no_mold() -> None:
    with pytest.raises(NoMold, match="batch_norm_0: it scales a flattened map"):
        cells_of(Architecture((2, 2, 2), (CONV, FLATTEN, activation("relu"), NORM, dense(2))))


def test_gradients_pass_the_rounding() -> None:
    from kerasnac.adapters.keras.custom import custom
    from kerasnac.adapters.keras.runtime import tensorflow

    tf = tensorflow()
    found, plain = custom().Scale("fixed<4,2>", "fixed<6,3>"), custom().Scale(None, None)
    x = tf.constant(np.random.default_rng(0).normal(size=(5, 3)), tf.float32)
    gradients = []
    for made in (found, plain):
        with tf.GradientTape() as tape:
            tape.watch(x)
            y = tf.reduce_sum(made(x))
        gradients.append([np.asarray(g) for g in tape.gradient(y, [x, *made.trainable_weights])])
    for ours, theirs in zip(*gradients, strict=True):
        np.testing.assert_allclose(ours, theirs)
