"""A model of somebody else whose sums float32 does not hold is compared in float64."""

from __future__ import annotations

from typing import Any

import numpy as np

from kerasnac.adapters.keras.foreign.model import read_model
from kerasnac.adapters.keras.runtime import qkeras
from kerasnac.core.network.precision import Precision
from tests.integers import predict_in_integers
from tests.networks import grid_samples

GRID = Precision(16, 3)


def wide(keras: Any) -> Any:
    """Dense layers of 16 bits, with a residual."""
    q = qkeras()
    weights = {"kernel_quantizer": q.quantized_bits(16, 0, alpha=1), "bias_quantizer": q.quantized_bits(16, 2, alpha=1)}
    inputs = keras.Input((6,))
    x = q.QDense(6, **weights, name="first")(inputs)
    x = q.QActivation(q.quantized_relu(16, 3), name="relu")(x)
    x = keras.layers.Add(name="residual")([q.QDense(6, **weights, name="second")(x), x])
    x = q.QActivation(q.quantized_bits(16, 4, alpha=1), name="clip")(x)
    return keras.Model(inputs, q.QDense(3, **weights, name="out")(x), name="wide")


def test_the_model_itself_is_evaluated_in_float64(keras: Any) -> None:
    keras.utils.set_random_seed(3)
    model = wide(keras)
    found = read_model(model, input_grid=GRID)
    x = grid_samples(GRID, (6,), 300)
    found.check(x)
    outputs = found.outputs(x)
    assert outputs.dtype == np.float64
    np.testing.assert_array_equal(outputs, predict_in_integers(found.architecture, found.weights, x))
    assert (model(x).numpy() != outputs).any()
    assert model.dtype == "float32"
