"""The reconstruction error of a quantized autoencoder as its output."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kerasnac.core.network.architecture import Architecture
from kerasnac.core.network.exactness import output_formats
from kerasnac.core.network.precision import Precision
from kerasnac.core.network.reconstruction import with_reconstruction_error
from kerasnac.core.network.trained import Trained
from kerasnac.core.network.training import Training
from kerasnac.errors import ConversionError
from tests.networks import activation, dense, loud_weights

GRID = Precision(8, 3)


def autoencoder(values: int = 6, grid: Precision = GRID, seed: int = 0) -> Trained:
    layers = (
        dense(3, "fixed<5,1>", "fixed<9,2>"),
        activation("relu", "ufixed<6,3>"),
        dense(values, "fixed<5,1>", "fixed<9,2>"),
    )
    network = Architecture((values,), layers, grid)
    return Trained("auto", network, loud_weights(network, seed), Training(), {}, seed)


@given(seed=st.integers(0, 50), values=st.integers(2, 9), integer=st.integers(0, 5))
def test_the_relu_of_the_head_holds_every_difference(seed: int, values: int, integer: int) -> None:
    model = with_reconstruction_error(autoencoder(values, Precision(8, integer), seed))
    formats = list(output_formats(model.architecture, model.weights).values())
    both, magnitude, total = formats[-3:]
    assert magnitude.maximum >= both.maximum
    assert magnitude.fractional >= both.fractional
    assert total.maximum >= values * magnitude.maximum
    assert model.architecture.output_shape == (1,)


def test_it_adds_layers_without_anything_to_train() -> None:
    plain = autoencoder()
    model = with_reconstruction_error(plain)
    kinds = [layer.kind for layer in model.architecture.layers[3:]]
    assert kinds == ["dense", "add", "dense", "activation", "dense"]
    assert all(np.array_equal(model.weights[key], value) for key, value in plain.weights.items())
    added = [value for key, value in model.weights.items() if key not in plain.weights]
    assert set(np.concatenate([value.ravel() for value in added]).tolist()) == {-1.0, 0.0, 1.0}
    assert with_reconstruction_error(model) is model


def test_what_is_no_autoencoder() -> None:
    model = autoencoder()
    short = replace(model, architecture=replace(model.architecture, layers=model.architecture.layers[:2]))
    with pytest.raises(ConversionError, match=r"auto reads \(6,\) and returns \(3,\): a reconstruction has the shape"):
        with_reconstruction_error(short)
