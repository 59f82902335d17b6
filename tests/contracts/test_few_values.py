"""Ternary and binary kernels and outputs of one bit: the same numbers in Keras, integers, adder graph and C++."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from importlib.util import find_spec
from itertools import product
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kerasnac.adapters.hls4ml.backends import check_layers
from kerasnac.adapters.hls4ml.conversion import convert
from kerasnac.adapters.hls4ml.csim import compile_project, emulate
from kerasnac.adapters.keras.build import load_keras, save_keras
from kerasnac.adapters.keras.predict import activation_ranges, predict
from kerasnac.adapters.rtl.adder_graph import unroll
from kerasnac.core.hardware.hls_options import HlsOptions
from kerasnac.core.network.architecture import Architecture
from kerasnac.core.network.exactness import output_formats
from kerasnac.core.network.layers import LayerSpec
from kerasnac.core.network.precision import Binary, Precision, Ternary
from kerasnac.core.network.quantization import quantize
from kerasnac.core.network.trained import Trained
from kerasnac.core.network.training import Training
from kerasnac.core.network.weights import fold, initial_weights
from kerasnac.core.network.widths import Width, Widths
from kerasnac.errors import ConversionError
from tests.integers import predict_in_integers
from tests.networks import activation, dense, grid_samples, layer, normal_weights

pytestmark = pytest.mark.usefixtures("keras")

OPTIONS = HlsOptions(part="xcvu13p-flga2577-2-e")


def conv(rank: int, filters: int, kernel: int, weight: str, padding: str = "valid") -> LayerSpec:
    return layer(f"conv{rank}d", weight, "fixed<6,1>", filters=filters, kernel=kernel, stride=1, padding=padding)


def pool(op: str) -> LayerSpec:
    return layer("pool", op=op, size=2)


VECTOR = Architecture(
    (6,),
    (
        dense(4, "ternary<0>", "fixed<8,2>"),
        activation("tanh", "binary<0>"),
        dense(4, "binary<-1>", "fixed<8,2>"),
        activation("relu", "ufixed<1,1>"),
        dense(4, "ternary<1>", "fixed<6,2>"),
        activation("none", "binary<3>"),
        LayerSpec.of("add", inputs=(-1, -3)),
        activation("none", "fixed<4,3>"),
        activation("sigmoid", "ufixed<1,0>"),
        dense(4, "fixed<4,1>", "fixed<8,2>"),
        activation("gelu", "binary<1>"),
        LayerSpec.of("concatenate", inputs=(-1, -3)),
        dense(3, "binary<0>", "fixed<8,2>"),
    ),
    Precision(6, 2),
)
PICTURE = Architecture(
    (4, 4, 2),
    (
        conv(2, 3, 3, "binary<0>", "same"),
        activation("none", "binary<0>"),
        pool("max"),
        conv(2, 4, 1, "ternary<0>"),
        activation("none", "binary<1>"),
        pool("mean"),
        LayerSpec.of("flatten"),
        dense(3, "binary<0>", "fixed<8,2>"),
    ),
    Precision(5, 2),
)
#: Tables over signs, products of signs, and a softmax of one bit.
ATTENTION = Architecture(
    (4, 3),
    (
        conv(1, 3, 1, "ternary<0>"),
        activation("none", "binary<0>"),
        LayerSpec.of("matmul", transpose=True, inputs=(-1, -1)),
        activation("none", "binary<2>"),
        replace(LayerSpec.of("softmax"), activation=Precision(1, 0, signed=False)),
        LayerSpec.of("matmul", transpose=False, inputs=(-1, -4)),
        LayerSpec.of("flatten"),
        activation("none", "binary<0>"),
        activation("tanh", "fixed<4,1>"),
        dense(3, "binary<0>", "fixed<8,2>"),
    ),
    Precision(5, 2),
)
NETWORKS: Mapping[str, Architecture] = {"vector": VECTOR, "picture": PICTURE, "attention": ATTENTION}

every_network = pytest.mark.parametrize("name", NETWORKS)


def check(network: Architecture, seed: int = 0) -> None:
    assert network.input is not None
    weights, x = normal_weights(network, seed), grid_samples(network.input, network.input_shape, 200, seed=seed)
    expected = predict_in_integers(network, weights, x).reshape(len(x), -1)
    np.testing.assert_array_equal(predict(network, weights, x).reshape(len(x), -1), expected)
    np.testing.assert_array_equal(unroll(network, weights).predict(x), expected)


@every_network
def test_keras_integers_and_adder_graph_agree(name: str) -> None:
    pytest.importorskip("da4ml")
    for seed in range(3):
        check(NETWORKS[name], seed)


@every_network
def test_json_and_keras_files_keep_it(name: str, tmp_path: Path) -> None:
    network = NETWORKS[name]
    assert network.input is not None
    assert Architecture.from_json(network.to_json()) == network
    weights, x = normal_weights(network), grid_samples(network.input, network.input_shape, 50)
    save_keras(network, weights, tmp_path / "model.keras")
    np.testing.assert_array_equal(load_keras(tmp_path / "model.keras").predict(x, verbose=0), predict(network, weights, x))
    model = Trained("few", network, weights, Training(), {}, 0)
    model.save(tmp_path / "few")
    assert Trained.load(tmp_path / "few").architecture == network


@pytest.mark.parametrize(
    ("name", "io_type"),
    [
        ("vector", "io_parallel"),
        *(
            pytest.param(*case, marks=pytest.mark.slow)
            for case in product(NETWORKS, ("io_parallel", "io_stream"))
            if case not in (("vector", "io_parallel"), ("attention", "io_stream"))
        ),
    ],
)
def test_the_emulation_agrees(name: str, io_type: str, own_compiler: None, tmp_path: Path) -> None:
    network = NETWORKS[name]
    assert network.input is not None
    weights, x = normal_weights(network), grid_samples(network.input, network.input_shape, 500)
    options = OPTIONS.model_copy(update={"io_type": io_type})
    convert(Trained("few", network, weights, Training(), {}, 0), options, folder=tmp_path / "hls")
    compile_project(tmp_path / "hls")
    np.testing.assert_array_equal(emulate(tmp_path / "hls", x), predict(network, weights, x).reshape(len(x), -1))


widths = st.sampled_from(["ternary<0>", "ternary<-2>", "binary<0>", "binary<-1>", "fixed<3,0>"])
outputs = st.sampled_from(["relu ufixed<1,2>", "none binary<1>", "tanh binary<-1>", "gelu binary<2>", "relu ufixed<3,1>"])


@given(st.lists(st.tuples(widths, outputs), min_size=1, max_size=3), widths, st.integers(0, 100))
@settings(max_examples=8)
def test_any_mixture_agrees(hidden: list[tuple[str, str]], last: str, seed: int) -> None:
    pytest.importorskip("da4ml")
    layers = (s for weight, out in hidden for s in (dense(4, weight, "fixed<6,2>"), activation(*out.split())))
    check(Architecture((3,), (*layers, dense(2, last, "fixed<6,2>")), Precision(5, 2)), seed)


#: A layer norm, a batch norm that is no part of another layer, and a mean of three.
NORMED = Architecture(
    (3, 4),
    (
        layer("conv1d", filters=4, kernel=1, stride=1, padding="valid"),
        layer("layer_norm", axes="last"),
        activation("tanh"),
        LayerSpec.of("batch_norm"),
        activation("none"),
        layer("pool", op="mean", size=0),
        dense(4),
        activation("relu"),
        dense(3),
    ),
)


@pytest.mark.parametrize("activation_bits", [1, 3])
@pytest.mark.parametrize("weight_bits", ["ternary", "binary", 4])
def test_norms_scales_and_means_have_formats_beside_them(weight_bits: Width, activation_bits: int) -> None:
    """What has no sense with two values has more: factors of a scale, the numbers that a norm reads and gives."""
    grid = Precision(6, 2)
    weights, x = initial_weights(NORMED, 0), grid_samples(grid, NORMED.input_shape, 100)
    folded, start = fold(NORMED, weights)
    ranges = activation_ranges(folded, start, x, clip_quantile=1e-3)
    widths = Widths(weight_bits=weight_bits, activation_bits=activation_bits)
    network = quantize(folded, start, ranges, input_grid=grid, **widths)
    kernels = {"ternary": Ternary, "binary": Binary, 4: Precision}
    assert {type(spec.weight) for spec in network.layers if spec.kind in ("dense", "conv1d")} == {kernels[weight_bits]}
    expected = predict_in_integers(network, start, x)
    np.testing.assert_array_equal(predict(network, start, x), expected)
    if find_spec("da4ml") is not None:
        np.testing.assert_array_equal(unroll(network, start).predict(x), expected)


def test_accumulators_of_signs_are_tight() -> None:
    network = Architecture((4,), (activation("none", "binary<1>"), dense(1, "binary<1>", "fixed<4,4>")), Precision(5, 2))
    weights = {"dense_0/kernel": np.ones((4, 1)), "dense_0/bias": np.zeros(1)}
    assert output_formats(network, weights) == {"activation_0": Binary(1), "dense_0": Precision(4, 4)}


@pytest.mark.parametrize(
    ("network", "message"),
    [
        (replace(VECTOR, input=Binary(1)), "input: samples cannot be binary<1>: give them ap_fixed<2,2>"),
        (Architecture((2,), (activation("relu", "binary<1>"),), Precision(4, 2)), "relu has no negative values for binary<1>"),
    ],
)
def test_formats_that_make_no_sense_are_refused(network: Architecture, message: str) -> None:
    with pytest.raises(ConversionError, match=message):
        output_formats(network, normal_weights(network))


def test_a_backend_without_the_sign_says_so() -> None:
    with pytest.raises(ConversionError, match="activation_0: hls4ml has no sign of a number"):
        check_layers(VECTOR, HlsOptions(part="", backend="Catapult"))
