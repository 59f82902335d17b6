"""The element-wise functions that layers and spaces may name."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace


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


_SLOPED = re.compile(r"^leaky_relu\((0\.[0-9]{1,6})\)$")


class _Activations(dict[str, ActivationFn]):
    """The functions by name; ``leaky_relu(0.3)`` is one of any slope."""

    def __missing__(self, name: str) -> ActivationFn:
        match = _SLOPED.match(name) if isinstance(name, str) else None
        if match is None or not 0 < float(match[1]) < 1:
            raise KeyError(name)
        return replace(self["leaky_relu"], slope=float(match[1]))


ACTIVATIONS: Mapping[str, ActivationFn] = _Activations(
    {
        "none": ActivationFn("linear", table=False, signed=True),
        "relu": ActivationFn("relu", table=False),
        # A table, not quantized_relu(negative_slope=...): QKeras saturates that at slope * minimum, hls4ml at minimum.
        "leaky_relu": ActivationFn("leaky_relu", slope=0.01, signed=True),
        "gelu": ActivationFn("gelu", signed=True, reach=(-8.0, math.inf)),
        "tanh": ActivationFn("tanh", signed=True, reach=(-8.0, 8.0)),
        "sigmoid": ActivationFn("sigmoid", reach=(-8.0, 8.0)),
        "elu": ActivationFn("elu", signed=True, reach=(-8.0, math.inf)),
        "selu": ActivationFn("selu", signed=True, reach=(-9.0, math.inf)),
        "swish": ActivationFn("swish", signed=True, reach=(-11.0, math.inf)),
        "softplus": ActivationFn("softplus", reach=(-8.0, math.inf)),
        "hard_sigmoid": ActivationFn("hard_sigmoid", reach=(-2.5, 2.5)),
    }
)


def check_activation(name: str) -> str:
    """Return the name of an activation; refuse one that is not known."""
    try:
        ACTIVATIONS[name]
    except (KeyError, TypeError):  # a TypeError if it is not even a text
        raise ValueError(f"unknown activation {name!r:.60}: one of {', '.join(ACTIVATIONS)}") from None
    return name
