"""The element-wise functions that layers and spaces may name."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class ActivationFn:
    """Rules by which one activation function is computed in Keras and in firmware.

    Attributes:
        keras: Name for ``tf.keras.activations.get`` (ignored when there is a slope).
        table: True if the firmware reads it from a look-up table over its input grid, which is exact because
            Keras reads the same table; False for fixed-point arithmetic that is exact by itself.
        slope: Slope for negative inputs of a leaky ReLU.
        signed: True if outputs can be negative.
        reach: Inputs between which the function is not yet flat (to 0.0004); its table need not go further.
    """

    keras: str
    table: bool = True
    slope: float = 0.0
    signed: bool = False
    reach: tuple[float, float] = (-math.inf, math.inf)


ACTIVATIONS: Mapping[str, ActivationFn] = {
    "none": ActivationFn("linear", table=False, signed=True),
    "relu": ActivationFn("relu", table=False),
    # A table, not quantized_relu(negative_slope=...): QKeras saturates that at slope * minimum, hls4ml at minimum.
    "leaky_relu": ActivationFn("leaky_relu", slope=0.01, signed=True),
    "gelu": ActivationFn("gelu", signed=True, reach=(-8.0, math.inf)),
    "tanh": ActivationFn("tanh", signed=True, reach=(-8.0, 8.0)),
    "sigmoid": ActivationFn("sigmoid", reach=(-8.0, 8.0)),
}


def check_activation(name: str) -> str:
    """Return the name of an activation; refuse one that is not known."""
    if name not in ACTIVATIONS:
        raise ValueError(f"unknown activation {name!r:.60}: one of {', '.join(ACTIVATIONS)}")
    return name
