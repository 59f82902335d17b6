"""The network that is read, as it grows layer by layer."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kerasnac.adapters.keras.foreign.quantizers import (
    composed,
    declared_format,
    depends_on_batch,
    described,
    exact_format,
    is_quantizer,
    quantized_values,
    tabulated,
)
from kerasnac.core.network.activations import ACTIVATIONS
from kerasnac.core.network.architecture import Architecture
from kerasnac.core.network.exactness import output_formats
from kerasnac.core.network.kinds import Shape
from kerasnac.core.network.layers import LayerSpec
from kerasnac.core.network.precision import Precision
from kerasnac.core.network.weights import BATCH_NORM_EPSILON
from kerasnac.errors import ConversionError

#: Weights, and their format in a quantized network.
Values = tuple[NDArray[Any], Precision | None]

#: Functions of Keras -> ours.
FUNCTIONS = {"linear": "none", "silu": "swish", **{fn.keras: name for name, fn in ACTIVATIONS.items() if not fn.slope}}


@dataclass(frozen=True)
class Tensor:
    """Output of a layer that has been read.

    Attributes:
        index: The layer of ours that computes it; -1 is the input.
        shape: Shape of one sample.
        functions: Element-wise functions that are still to be applied, because no number format holds their values.
        padding: Zeros that are still to be put around a map, before and after, by axis.
        owner: Name of the Keras layer that computes it.
    """

    index: int
    shape: Shape
    functions: tuple[Any, ...] = ()
    padding: tuple[tuple[int, int], ...] = ()
    owner: str = ""


@dataclass
class Reader:
    """Layers, weights and names of a network so far.

    Attributes:
        input_shape: Shape of one sample.
        input_grid: Format of the input; None for a float network.
        float_bits: Width to which weights of a quantized network are rounded that are on no grid; None to refuse them.
        layers: The layers; ``inputs`` are offsets.
        weights: By ``<name of ours>/<part>``.
        owners: Name of the Keras layer, for every layer of ours.
        rounded: Weights that were rounded, as ``<name of the Keras layer> <part>``.
    """

    input_shape: Shape
    input_grid: Precision | None
    float_bits: int | None = None
    layers: list[LayerSpec] = field(default_factory=list)
    weights: dict[str, NDArray[Any]] = field(default_factory=dict)
    owners: list[str] = field(default_factory=list)
    rounded: list[str] = field(default_factory=list)

    @property
    def quantized(self) -> bool:
        """True if the network has number formats."""
        return self.input_grid is not None

    @property
    def architecture(self) -> Architecture:
        """The network so far."""
        return Architecture(self.input_shape, tuple(self.layers), self.input_grid)

    @property
    def names(self) -> dict[str, str]:
        """Name of the Keras layer for each of ours."""
        return dict(zip(self.architecture.names, self.owners, strict=True))

    def add(self, owner: str, spec: LayerSpec, *sources: Tensor, weights: Mapping[str, NDArray[Any]] | None = None) -> Tensor:
        """Append a layer of ours.

        Args:
            owner: Name of the Keras layer that it is for.
            spec: The layer.
            sources: Tensors that it reads.
            weights: Its arrays by part.

        Raises:
            ConversionError: If values of a tensor are on no grid, or a map is to be padded.
        """
        for tensor in sources:
            self._check_ready(tensor)
        offsets = tuple(tensor.index - len(self.layers) for tensor in sources)
        self.layers.append(replace(spec, inputs=offsets))
        self.owners.append(owner)
        architecture = self.architecture
        name, shape = architecture.names[-1], architecture.nodes[-1].output
        self.weights |= {f"{name}/{part}": np.asarray(array) for part, array in (weights or {}).items()}
        return Tensor(len(self.layers) - 1, shape, owner=owner)

    def format(self, tensor: Tensor) -> Precision:
        """Return the exact format of a tensor in a quantized network.

        Raises:
            ConversionError: If there is none; names the Keras layer.
        """
        assert self.input_grid is not None
        if tensor.index < 0:
            return self.input_grid
        part = Architecture(self.input_shape, tuple(self.layers[: tensor.index + 1]), self.input_grid)
        formats: dict[str, Precision] = renamed(lambda: output_formats(part, self.weights), self.names)
        return formats[part.names[-1]]

    def fixed(self, owner: str, part: str, array: Any, quantizer: Any) -> Values:
        """Return weights as their layer computes with them, and their format in a quantized network.

        Args:
            owner: Name of the Keras layer.
            part: Name of the array, for messages.
            array: Latent weights.
            quantizer: The quantizer for them; None if there is none.

        Raises:
            ConversionError: If weights of a quantized network lie on no grid.
        """
        if not self.quantized:
            return np.asarray(array, np.float32), None
        values, grid = quantized_values(array, quantizer, f"{owner}: its {part}", refuse=self.float_bits is None)
        if grid is None and self.float_bits is not None:
            grid = Precision.covering(float(values.min()), float(values.max()), self.float_bits, signed=True)
            values = grid.quantize(values).astype(np.float32)
            self.rounded.append(f"{owner} {part}")
        return values, grid

    def kernel(self, owner: str, spec: LayerSpec, tensor: Tensor, kernel: Values, bias: Values | None) -> Tensor:
        """Append a layer with a kernel.

        Args:
            owner: Name of the Keras layer.
            spec: A float layer.
            tensor: What it reads.
            kernel: The array in our shape, and its format.
            bias: The same of the bias; None for a layer without one.
        """
        values, weight = kernel
        if bias is None:  # Zeros on any grid will do.
            bias = np.zeros(values.shape[-1], np.float32), weight and Precision(2, 2 - weight.fractional)
        spec = replace(spec, weight=weight, bias=bias[1])
        return self.add(owner, spec, tensor, weights={"kernel": values, "bias": bias[0]})

    def normalised(self, owner: str, tensor: Tensor, scale: NDArray[Any], offset: NDArray[Any]) -> Tensor:
        """Append a batch norm, in a quantized network as a scale.

        Args:
            owner: Name of the Keras layer.
            tensor: What it reads.
            scale: float64, shape (channels,).
            offset: float64, shape (channels,).
        """
        if self.quantized:
            kernel, bias = self.fixed(owner, "scale", scale, None), self.fixed(owner, "offset", offset, None)
            return self.kernel(owner, LayerSpec.of("scale"), tensor, kernel, bias)
        ones = np.ones_like(scale, np.float32)
        arrays = {
            "gamma": scale * math.sqrt(1 + BATCH_NORM_EPSILON),
            "beta": offset,
            "moving_mean": np.zeros_like(ones),
            "moving_variance": ones,
        }
        return self.add(owner, LayerSpec.of("batch_norm"), tensor, weights={k: v.astype(np.float32) for k, v in arrays.items()})

    def activated(self, owner: str, tensor: Tensor, function: Any) -> Tensor:
        """Append an element-wise function.

        Args:
            owner: Name of the Keras layer.
            tensor: What it reads.
            function: A function of Keras, a quantizer of QKeras, or None.

        Raises:
            ConversionError: If it has no exact form, or none among the functions of a float network.
        """
        name = "linear" if function is None else getattr(function, "__name__", type(function).__name__)
        if name == "linear" and not is_quantizer(function):
            return tensor
        if self.quantized:
            return self._on_grid(owner, tensor, function, name)
        slope = getattr(function, "slope", None)
        fn = FUNCTIONS.get(name)
        if slope is not None:
            fn = "leaky_relu" if slope == ACTIVATIONS["leaky_relu"].slope else f"leaky_relu({slope:g})"
        if name == "softmax":
            return self.add(owner, LayerSpec.of("softmax"), tensor)
        if fn is None:
            raise ConversionError(f"{owner}: there is no activation {name}; use one of {', '.join(sorted(FUNCTIONS))}")
        return self.add(owner, LayerSpec.of("activation", fn=fn), tensor)

    def _on_grid(self, owner: str, tensor: Tensor, function: Any, name: str) -> Tensor:
        """Append an element-wise function in a quantized network, or wait for the quantizer after it."""
        if name == "softmax":
            raise ConversionError(
                f"{owner}: a softmax inside a quantized network is not exact; leave it to the host, or use max"
            )
        if depends_on_batch(function):
            raise ConversionError(
                f"{owner}: {described(function)} scales by the largest value of a batch, which no firmware knows; use alpha=1"
            )
        declared = declared_format(function)
        if name == "relu" and not tensor.functions:
            incoming = self.format(tensor)
            declared = (
                "relu",
                Precision(max(1, incoming.bits - incoming.signed), incoming.integer - incoming.signed, signed=False),
            )
        if declared is not None and not tensor.functions:
            fn, grid = declared
            return self.add(owner, replace(LayerSpec.of("activation", fn=fn), activation=grid), tensor)
        functions = (*tensor.functions, function)
        if not is_quantizer(function):
            return replace(tensor, functions=functions, owner=owner)
        return self._looked_up(owner, replace(tensor, functions=()), functions)

    def _looked_up(self, owner: str, tensor: Tensor, functions: tuple[Any, ...]) -> Tensor:
        """Append functions in a row as one table, after a quantizer to its inputs, which changes nothing."""
        index, values, outputs = tabulated(composed(functions), self.format(tensor), owner)
        fn = "none" if index.signed else "relu"
        before = self.add(owner, replace(LayerSpec.of("activation", fn=fn), activation=index), tensor)
        return self.add(
            owner, replace(LayerSpec.of("lookup", bits=index.bits), activation=outputs), before, weights={"values": values}
        )

    def _check_ready(self, tensor: Tensor) -> None:
        if tensor.padding:
            raise ConversionError(f"{tensor.owner}: zeros around a map can be part of a convolution alone; use padding='same'")
        if tensor.functions:
            raise ConversionError(
                f"{tensor.owner}: its outputs are floating-point numbers, on no grid; quantize them, "
                "as with QActivation('quantized_bits(8, 0, alpha=1)') after it"
            )


def pointwise(shape: Shape, matrix: NDArray[Any]) -> tuple[LayerSpec, NDArray[Any]]:
    """Return the layer, and its kernel, that multiplies the channels at every position by a matrix.

    Args:
        shape: Shape of the samples, channels last.
        matrix: Shape (channels, outputs).

    Raises:
        ConversionError: If there are more than two axes of positions.
    """
    rank = len(shape) - 1
    if rank == 0:
        return LayerSpec.of("dense", units=matrix.shape[1]), matrix
    if rank > 2:
        raise ConversionError(f"no layer of samples of shape {shape} is known: at most two axes and channels")
    spec = LayerSpec.of(f"conv{rank}d", filters=matrix.shape[1], kernel=1, stride=1, padding="valid")
    return spec, matrix.reshape(*[1] * rank, *matrix.shape)


def renamed(job: Any, names: Mapping[str, str]) -> Any:
    """Call a function, and let its error begin with the name of the Keras layer in the place of ours."""
    try:
        return job()
    except ConversionError as error:
        name, colon, rest = str(error).partition(": ")
        if colon and name in names:
            raise ConversionError(f"{names[name]}: {rest}") from error
        raise


def fitted_grid(x: NDArray[Any], bits: int) -> Precision:
    """Return a format for samples: one that holds them as they are, or the finest of a width that holds their range.

    Args:
        x: Samples, any shape.
        bits: Width of the format, unless a narrower one is exact.
    """
    exact = exact_format(x)
    if exact is not None and exact.bits <= bits:
        return exact
    return Precision.covering(float(x.min()), float(x.max()), bits)
