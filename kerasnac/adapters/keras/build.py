"""The one place where an :class:`Architecture` becomes a Keras or QKeras model."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kerasnac.adapters.keras.runtime import qkeras, tensorflow
from kerasnac.adapters.keras.table import table_activation
from kerasnac.core.activations import ACTIVATIONS
from kerasnac.core.architecture import Architecture
from kerasnac.core.layers import LayerSpec, kind_of
from kerasnac.core.precision import Precision
from kerasnac.core.weights import BATCH_NORM_EPSILON, Weights
from kerasnac.errors import ConversionError

Model = Any  # tf_keras has no type stubs

#: Name of the input layer; hls4ml reserves "input".
INPUT = "inputs"


def build(architecture: Architecture, *, dropout: float = 0.0, l1: float = 0.0) -> Model:
    """Builds a functional model: Keras layers where an architecture is float, QKeras layers where it is quantized.

    Args:
        architecture: What to build. Its layer names become the model's layer names.
        dropout: Rate of a dropout after every activation; 0 adds no layers.
        l1: L1 penalty on the kernels.

    Raises:
        Infeasible: If the layers do not fit together.
        ConversionError: If a quantized architecture still has a batch norm (fold it first).
    """
    keras = tensorflow().keras
    x = inputs = keras.Input(architecture.input_shape, name=INPUT)
    grid = architecture.input
    for name, layer, _ in architecture.walk():
        if layer.kind == "batch_norm" and architecture.quantized:
            raise ConversionError(f"{name}: a quantized network has its batch norms folded; call fold_batch_norm first")
        options = {"kernel_regularizer": keras.regularizers.L1(l1)} if l1 and layer.kind in ("dense", "conv2d") else {}
        x = _MAKERS[layer.kind](layer, grid, name=name, **options)(x)
        grid = layer.activation or grid
        if dropout and layer.kind == "activation":
            x = keras.layers.Dropout(dropout, name=f"dropout_after_{name}")(x)
    return keras.Model(inputs, x, name="kerasnac")


def get_weights(model: Model, architecture: Architecture) -> dict[str, NDArray[np.float32]]:
    """Copies a model's weights into arrays keyed ``layer/part``."""
    weights = {}
    for name, layer, shape in architecture.walk():
        parts = kind_of(layer).weights(layer, shape)
        if parts:
            for part, value in zip(parts, model.get_layer(name).get_weights(), strict=True):
                weights[f"{name}/{part}"] = value
    return weights


def set_weights(model: Model, architecture: Architecture, weights: Weights) -> None:
    """Loads arrays from :func:`get_weights` of the float or quantized form of the same network."""
    for name, layer, shape in architecture.walk():
        parts = kind_of(layer).weights(layer, shape)
        if parts:
            model.get_layer(name).set_weights([weights[f"{name}/{part}"] for part in parts])


def _quantizer(grid: Precision | None) -> Any:
    """``quantized_bits`` for a signed format; None for a float tensor."""
    if grid is None:
        return None
    return qkeras().quantized_bits(grid.bits, grid.integer - 1, alpha=1)


def _dense(layer: LayerSpec, grid: Precision | None, **options: Any) -> Any:
    units = int(layer["units"])
    if layer.weight is None:
        return tensorflow().keras.layers.Dense(units, **options)
    return qkeras().QDense(units, kernel_quantizer=_quantizer(layer.weight), bias_quantizer=_quantizer(layer.bias), **options)


def _conv2d(layer: LayerSpec, grid: Precision | None, **options: Any) -> Any:
    filters, size = int(layer["filters"]), int(layer["kernel"])
    common = {"kernel_size": (size, size), "padding": layer["padding"], **options}
    if layer.weight is None:
        return tensorflow().keras.layers.Conv2D(filters, **common)
    return qkeras().QConv2D(filters, kernel_quantizer=_quantizer(layer.weight), bias_quantizer=_quantizer(layer.bias), **common)


def _activation(layer: LayerSpec, grid: Precision | None, **options: Any) -> Any:
    fn, out = ACTIVATIONS[str(layer["fn"])], layer.activation
    layers = tensorflow().keras.layers
    if out is None:
        return layers.LeakyReLU(fn.slope, **options) if fn.slope else layers.Activation(fn.keras, **options)
    if fn.table:
        assert grid is not None
        return table_activation()(str(layer["fn"]), str(grid), str(out), **options)
    quantizer = _quantizer(out) if fn.signed else qkeras().quantized_relu(out.bits, out.integer)
    return qkeras().QActivation(quantizer, **options)


def _batch_norm(layer: LayerSpec, grid: Precision | None, **options: Any) -> Any:
    # Keras keeps 99 % of the moving statistics at every step: too slow for the few hundred steps of a short evaluation.
    return tensorflow().keras.layers.BatchNormalization(momentum=0.9, epsilon=BATCH_NORM_EPSILON, **options)


def _flatten(layer: LayerSpec, grid: Precision | None, **options: Any) -> Any:
    return tensorflow().keras.layers.Flatten(**options)


_MAKERS: Mapping[str, Callable[..., Any]] = {
    "dense": _dense,
    "conv2d": _conv2d,
    "activation": _activation,
    "batch_norm": _batch_norm,
    "flatten": _flatten,
}
