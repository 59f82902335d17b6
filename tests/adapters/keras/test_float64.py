"""Keras in float64, where float32 does not hold the sums of a network: equal to an evaluation in integers."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from kerasnac.adapters.keras.build import build, load_keras, save_keras, set_weights
from kerasnac.adapters.keras.predict import layer_outputs, predict
from kerasnac.adapters.keras.runtime import qkeras, tensorflow
from kerasnac.core.network.architecture import Architecture
from kerasnac.core.network.arithmetic import exact_arithmetic
from kerasnac.core.network.layers import LayerSpec
from kerasnac.core.network.precision import Precision
from tests.integers import predict_in_integers
from tests.networks import activation, dense, grid_samples, layer, loud_weights
from tests.stages.firmware.cases import random_case

SIGNED, UNSIGNED = "fixed<16,3>", "ufixed<16,3>"
MATRIX = {"transpose": True, "inputs": (-1, -2)}


def conv(kind: str, weight: str = "fixed<16,1>", **params: Any) -> LayerSpec:
    return layer(kind, weight, "fixed<24,3>", filters=3, kernel=2, stride=1, **params)


def wide_dense(units: int, weight: str = "fixed<16,1>") -> LayerSpec:
    return dense(units, weight, "fixed<24,3>")


#: The end of most networks.
OUT = dense(3, "fixed<9,1>", "fixed<9,1>")


def vectors(*layers: LayerSpec, grid: str = "fixed<14,3>") -> Architecture:
    return Architecture((9,), layers, Precision.parse(grid))


def maps(shape: tuple[int, ...], *layers: LayerSpec, grid: str = "fixed<12,3>") -> Architecture:
    return Architecture(shape, layers, Precision.parse(grid))


MEAN, MAX = (layer("pool", op="mean", size=2), layer("pool", op="max", size=0))

#: Every kind of layer at or after a sum of more than 24 bits.
NETWORKS = {
    "dense": vectors(dense(5, "fixed<16,1>", "fixed<28,3>"), grid="fixed<16,3>"),
    "relu": vectors(wide_dense(7), activation("relu", UNSIGNED), OUT),
    "clipped": vectors(wide_dense(7, "fixed<12,4>"), activation("none", "fixed<20,1>"), OUT),
    "tables": vectors(wide_dense(7), activation("none", "fixed<12,3>"), activation("gelu", "fixed<12,3>"), wide_dense(3)),
    "conv1d": maps((8, 2), conv("conv1d", padding="same"), activation("relu", UNSIGNED), conv("conv1d", padding="valid")),
    "conv2d": maps((4, 4, 2), conv("conv2d", padding="same"), MEAN, layer("flatten"), dense(2, "fixed<8,1>", "fixed<8,1>")),
    "max": maps((4, 4, 1), conv("conv2d", padding="valid"), MAX, grid="fixed<16,3>"),
    "attention": maps(
        (4, 3),
        activation("none", SIGNED),
        layer("matmul", **MATRIX),
        activation("none", "fixed<10,3>"),
        layer("softmax", out="ufixed<12,0>"),
        grid="fixed<16,3>",
    ),
    "heads": maps(
        (4, 6),
        activation("none", SIGNED),
        layer("matmul", heads=2, **MATRIX),
        activation("none", "fixed<10,3>"),
        layer("softmax", out="ufixed<12,0>"),
        layer("matmul", heads=2, transpose=False, inputs=(-1, -4)),
        grid="fixed<16,3>",
    ),
    "add": maps((6,), activation("none", "fixed<24,4>"), layer("add", inputs=(-1, -2)), grid="fixed<20,12>"),
}


def inputs(network: Architecture, count: int = 400) -> np.ndarray:
    assert network.input is not None
    return grid_samples(network.input, network.input_shape, count)


@pytest.mark.parametrize("name", NETWORKS)
def test_every_kind_is_exact_beyond_24_bits(name: str, keras: Any) -> None:
    network = NETWORKS[name]
    weights = loud_weights(network)
    assert exact_arithmetic(network, weights).dtype == "float64"
    x = inputs(network)
    outputs = predict(network, weights, x)
    assert outputs.dtype == np.float64
    np.testing.assert_array_equal(outputs, predict_in_integers(network, weights, x))


@pytest.mark.parametrize("name", ["dense", "relu", "clipped"])
def test_float32_differs(name: str, keras: Any) -> None:
    network = NETWORKS[name]
    weights, x = loud_weights(network), inputs(network)
    assert (predict(network, weights, x, dtype="float32") != predict(network, weights, x)).any()


def test_random_networks_equal_integers(keras: Any) -> None:
    """Of any width; those within float32 are the same in both."""
    dtypes = []
    for seed in range(8):
        case = random_case(seed)
        network, weights = case.trained.architecture, case.trained.weights
        assert network.input is not None
        x = network.input.quantize(case.split.x[:50])
        dtype = exact_arithmetic(network, weights).dtype
        expected = predict_in_integers(network, weights, x)
        np.testing.assert_array_equal(predict(network, weights, x), expected, err_msg=f"seed {seed}")
        if dtype == "float32":
            np.testing.assert_array_equal(predict(network, weights, x, dtype="float64"), expected)
        dtypes.append(dtype)
    assert {"float32", "float64"} <= set(dtypes)


def test_outputs_of_layers_are_those_of_the_network(keras: Any) -> None:
    network = NETWORKS["relu"]
    weights, x = loud_weights(network), inputs(network, 20)
    layers = layer_outputs(network, weights, x)
    np.testing.assert_array_equal(layers["dense_1"], predict(network, weights, x))
    hidden = replace(network, layers=network.layers[:1])
    np.testing.assert_array_equal(layers["dense_0"], predict_in_integers(hidden, weights, x))


def test_a_saved_model_computes_in_float64_by_itself(tmp_path: Path, keras: Any) -> None:
    network = NETWORKS["relu"]
    weights, x = loud_weights(network), inputs(network)
    save_keras(network, weights, tmp_path / "model.keras")
    read = load_keras(tmp_path / "model.keras")
    np.testing.assert_array_equal(read(x).numpy(), predict_in_integers(network, weights, x))
    assert keras.backend.floatx() == "float32"


def test_training_stays_in_float32(keras: Any) -> None:
    model = build(NETWORKS["relu"])
    assert {weight.dtype for weight in model.weights} == {tensorflow().float32}
    assert {tensor.dtype for tensor in (model.input, model.output)} == {tensorflow().float32}


@pytest.mark.parametrize(("alpha", "dtype"), [("auto", "float64"), ("auto_po2", "float64"), (1, "float32"), (1, "float64")])
def test_quantizers_keep_the_dtype_of_their_input(alpha: Any, dtype: str, keras: Any) -> None:
    values = tensorflow().constant([[0.3], [-0.7]], dtype)
    assert qkeras().quantized_bits(4, 0, alpha=alpha)(values).dtype == dtype
    assert qkeras().quantized_relu(4, 1)(values).dtype == dtype


def test_a_relu_of_a_long_sum_is_rounded_once(keras: Any) -> None:
    """Half a step and a bit: float32 drops the bit and then rounds half to even."""
    value = 0.5 + 2.0**-30
    relu = qkeras().quantized_relu(4, 4)
    assert float(relu(tensorflow().constant(value, "float64"))) == 1
    assert float(relu(tensorflow().constant(value, "float32"))) == 0


def test_weights_can_be_given_in_float32(keras: Any) -> None:
    network = NETWORKS["dense"]
    model = build(network, dtype="float64")
    set_weights(model, network, loud_weights(network))
    assert model.weights[0].dtype == tensorflow().float64
