"""The error of a reconstruction as an output of a network, in layers that are exact in firmware."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from kerasnac.core.network.architecture import Architecture
from kerasnac.core.network.exactness import output_formats
from kerasnac.core.network.layers import LayerSpec
from kerasnac.core.network.precision import Precision
from kerasnac.core.network.trained import Trained
from kerasnac.errors import ConversionError

#: Format of the weights -1, 0 and 1, and of biases that are zero.
_SIGNS = Precision(2, 2)


def with_reconstruction_error(model: Trained) -> Trained:
    """Return an autoencoder whose one output is the sum of the absolute differences of its input and the reconstruction.

    The layers that it gains have no weights to train, and each is exact: the reconstruction is negated and the input added to
    it; each difference d and -d goes through a ReLU that clips nothing, so that one of them is |d| and the other 0; and all are
    added. A model with one output is returned as it is.

    Args:
        model: A quantized network of a vector of two values or more, with as many outputs.

    Raises:
        ConversionError: If it is not quantized, or is no such network.
    """
    architecture = model.architecture
    if architecture.output_shape == (1,):
        return model
    if len(architecture.input_shape) != 1 or architecture.output_shape != architecture.input_shape:
        raise ConversionError(
            f"{model.name} reads {architecture.input_shape} and returns {architecture.output_shape}: a reconstruction has the "
            "shape of the input, which is a vector"
        )
    values, weights = architecture.input_shape[0], dict(model.weights)
    identity, layers = np.eye(values, dtype=np.float32), architecture.layers

    def appended(*new: LayerSpec) -> Architecture:
        return replace(architecture, layers=(*layers, *new))

    def fixed(kernel: NDArray[np.float32], before: tuple[LayerSpec, ...]) -> LayerSpec:
        layer = replace(LayerSpec.of("dense", units=kernel.shape[1]), weight=_SIGNS, bias=_SIGNS)
        name = appended(*before, layer).names[-1]
        weights[f"{name}/kernel"], weights[f"{name}/bias"] = kernel, np.zeros(kernel.shape[1], np.float32)
        return layer

    negated = fixed(-identity, ())
    difference = LayerSpec.of("add", inputs=(-1, -2 - len(layers)))
    signs = fixed(np.concatenate([identity, -identity], axis=1), (negated, difference))
    head: tuple[LayerSpec, ...] = (negated, difference, signs)
    both = list(output_formats(appended(*head), weights).values())[-1]
    # Of a symmetric format, all that is positive; QKeras needs a fractional bit for its ReLU.
    magnitude = Precision(both.integer - 1 + max(both.fractional, 1), both.integer - 1, signed=False)
    head = (*head, replace(LayerSpec.of("activation", fn="relu"), activation=magnitude))
    head = (*head, fixed(np.ones((2 * values, 1), np.float32), head))
    return replace(model, architecture=appended(*head), weights=weights)
