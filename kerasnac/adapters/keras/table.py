"""An activation function as a look-up table over its input grid: the same table in Keras and in firmware."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import erf, expit

from kerasnac.adapters.keras.runtime import tensorflow
from kerasnac.core.activations import ACTIVATIONS
from kerasnac.core.precision import Precision


def table(fn: str, inputs: Precision, outputs: Precision) -> NDArray[np.float64]:
    """Values of an activation for every raw input pattern, rounded to the output grid.

    Computed in float64 with NumPy, so that it does not depend on which vector unit TensorFlow uses.

    Returns:
        Shape (2**inputs.bits,): entry r belongs to the input whose two's-complement pattern is r.
    """
    x = inputs.grid()
    slope = ACTIVATIONS[fn].slope
    values = {
        "leaky_relu": lambda: np.where(x < 0, slope * x, x),
        "gelu": lambda: 0.5 * x * (1 + erf(x / np.sqrt(2))),
        "tanh": lambda: np.tanh(x),
        "sigmoid": lambda: expit(x),
    }[fn]()
    return outputs.quantize(values)


@cache
def table_activation() -> Any:
    """The Keras layer class; made on first use because it needs TensorFlow."""
    tf = tensorflow()

    @tf.keras.utils.register_keras_serializable("kerasnac")
    class TableActivation(tf.keras.layers.Layer):  # type: ignore[misc, name-defined]
        """Looks its input up in a table; the gradient is that of the smooth function.

        The input must lie on its grid: the layer before is a quantizer with the same format.
        """

        def __init__(self, fn: str, inputs: str, outputs: str, **options: Any) -> None:
            super().__init__(**options)
            self.fn, self.inputs, self.outputs = fn, Precision.parse(inputs), Precision.parse(outputs)

        def call(self, x: Any) -> Any:
            values = tf.constant(table(self.fn, self.inputs, self.outputs), tf.float32)
            raw = tf.cast(tf.round(x / self.inputs.step), tf.int32)
            exact = tf.gather(values, tf.math.floormod(raw, 2**self.inputs.bits))
            slope = ACTIVATIONS[self.fn].slope
            smooth = tf.nn.leaky_relu(x, slope) if slope else tf.keras.activations.get(ACTIVATIONS[self.fn].keras)(x)
            # smooth - smooth is exactly zero: the value is the table's, the gradient the function's.
            return tf.stop_gradient(exact) + (smooth - tf.stop_gradient(smooth))

        def get_config(self) -> dict[str, Any]:
            return {**super().get_config(), "fn": self.fn, "inputs": str(self.inputs), "outputs": str(self.outputs)}

    return TableActivation
