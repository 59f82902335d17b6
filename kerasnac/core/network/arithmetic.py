"""The floating-point arithmetic in which Keras computes a quantized network without rounding."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from kerasnac.core.network.activations import ACTIVATIONS
from kerasnac.core.network.architecture import Architecture
from kerasnac.core.network.exactness import FLOAT32_BITS, clipping_bits, output_formats
from kerasnac.core.network.weights import Weights
from kerasnac.errors import ConversionError

#: Names of Keras' arithmetics.
Dtype = Literal["float32", "float64"]


@dataclass(frozen=True)
class Arithmetic:
    """The narrower of float32 and float64 in which Keras computes the numbers of the firmware.

    Attributes:
        dtype: Which of the two.
        layer: The first layer that float32 does not suffice for; empty if it does.
        bits: Bits that this layer needs.
    """

    dtype: Dtype = "float32"
    layer: str = ""
    bits: float = 0.0

    def __str__(self) -> str:
        if self.dtype == "float32":
            return f"float32: no sum of the network needs more than {FLOAT32_BITS} bits"
        return f"float64: {self.layer} needs {self.bits:g} bits, more than the {FLOAT32_BITS} of float32"


def exact_arithmetic(architecture: Architecture, weights: Weights) -> Arithmetic:
    """Return the arithmetic in which Keras equals the firmware of a network.

    Args:
        architecture: Quantized, batch norms folded.
        weights: Its latent or quantized weights.

    Raises:
        ConversionError: If the network has no exact firmware; names the layer, the reason and the remedy.
    """
    formats = output_formats(architecture, weights)
    assert architecture.input is not None  # output_formats has refused a float network
    grids = [architecture.input, *(formats[node.name] for node in architecture.nodes)]
    for node in architecture.nodes:
        out, incoming = formats[node.name], grids[node.inputs[0] + 1]
        # What leaves a layer has room for its partial sums: those of a mean have no more bits than the mean.
        bits = float(out.bits - out.signed)
        if node.layer.kind == "activation" and ACTIVATIONS[node.layer["fn"]].keras == "linear" and not node.layer.signs:
            bits = max(bits, clipping_bits(out, incoming))
        if node.layer.kind == "quantizer":
            bits = max(bits, float(incoming.fixed.bits + 1))  # Half a step may be half the last bit of a sum.
        if bits > FLOAT32_BITS:
            return Arithmetic("float64", node.name, round(bits, 1))
    return Arithmetic()


def keras_dtype(architecture: Architecture, weights: Weights) -> Dtype:
    """Return the dtype in which to evaluate any network: float32, unless a network with exact firmware needs float64."""
    if not architecture.quantized:
        return "float32"
    try:
        return exact_arithmetic(architecture.without_window(), weights).dtype
    except ConversionError:
        return "float32"
