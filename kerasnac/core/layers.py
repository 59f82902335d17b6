"""What each kind of layer does to shapes, weights and operation counts.

One table, :data:`KINDS`, says it for all stages: the Keras builder, BOPs, parameter counts and the
exactness check read shapes and sizes from here and nowhere else.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from kerasnac.core.precision import Precision
from kerasnac.errors import ConfigError, Infeasible

Shape = tuple[int, ...]
Scalar = int | float | str | bool


@dataclass(frozen=True)
class LayerSpec:
    """One layer with every shape-relevant parameter resolved.

    Attributes:
        kind: A key of :data:`KINDS`.
        params: Sorted ``(name, value)`` pairs; read them with ``spec["units"]``.
        weight: Format of the kernel; None for a float layer or one without a kernel.
        bias: Format of the bias.
        activation: Format of the output; None for float, or when the accumulator is passed on unrounded.
    """

    kind: str
    params: tuple[tuple[str, Scalar], ...] = ()
    weight: Precision | None = None
    bias: Precision | None = None
    activation: Precision | None = None

    @classmethod
    def of(cls, kind: str, **params: Scalar) -> LayerSpec:
        """A float layer: ``LayerSpec.of("dense", units=32)``."""
        return cls(kind, tuple(sorted(params.items())))

    def __getitem__(self, name: str) -> Scalar:
        for key, value in self.params:
            if key == name:
                return value
        raise KeyError(f"{self.kind} has no parameter {name!r}")

    def to_dict(self) -> dict[str, Any]:
        """A JSON-ready dictionary."""
        formats = {key: getattr(self, key) for key in ("weight", "bias", "activation")}
        return {"kind": self.kind, **dict(self.params)} | {
            f"{k}_precision": str(v) for k, v in formats.items() if v is not None
        }

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> LayerSpec:
        """Inverse of :meth:`to_dict`."""
        rest = dict(data)
        formats = {
            key: Precision.parse(rest.pop(f"{key}_precision"))
            for key in ("weight", "bias", "activation")
            if f"{key}_precision" in rest
        }
        return replace(cls.of(rest.pop("kind"), **rest), **formats)


@dataclass(frozen=True)
class Weight:
    """One weight array of a layer.

    Attributes:
        shape: Shape of the array, as Keras has it.
        trainable: False for the moving statistics of a batch norm.
        prunable: True if zeros in the array save bit operations (kernels, not biases).
    """

    shape: Shape
    trainable: bool = True
    prunable: bool = False


@dataclass(frozen=True)
class Products:
    """The multiply-accumulates of a layer: ``outputs`` sums of ``inputs`` products at each of ``positions``.

    Attributes:
        outputs: m, outputs computed at one position.
        inputs: n, inputs of one output.
        positions: Output positions that share the weights (1 for a dense layer).
    """

    outputs: int
    inputs: int
    positions: int = 1

    @property
    def macs(self) -> int:
        """Multiply-accumulates in total."""
        return self.outputs * self.inputs * self.positions


class Kind:
    """What a kind of layer does; the default is a layer without weights that keeps the shape."""

    def output_shape(self, spec: LayerSpec, shape: Shape) -> Shape:
        """Shape of one output sample.

        Raises:
            Infeasible: If the layer cannot follow a layer with this output shape.
        """
        return shape

    def weights(self, spec: LayerSpec, shape: Shape) -> dict[str, Weight]:
        """Names and shapes of the weight arrays, in Keras order."""
        return {}

    def products(self, spec: LayerSpec, shape: Shape) -> Products | None:
        """The layer's multiply-accumulates with weights; None if it has none."""
        return None


class Dense(Kind):
    """Fully connected layer on a vector: ``units``."""

    def output_shape(self, spec: LayerSpec, shape: Shape) -> Shape:
        if len(shape) != 1:
            raise Infeasible(f"{spec.kind} needs a vector, got a map of shape {shape}: flatten it first")
        return (int(spec["units"]),)

    def weights(self, spec: LayerSpec, shape: Shape) -> dict[str, Weight]:
        units = int(spec["units"])
        return {"kernel": Weight((shape[0], units), prunable=True), "bias": Weight((units,))}

    def products(self, spec: LayerSpec, shape: Shape) -> Products:
        return Products(outputs=int(spec["units"]), inputs=shape[0])


class Conv2D(Kind):
    """2D convolution, channels last, stride 1: ``filters``, ``kernel``, ``padding`` (valid or same)."""

    def output_shape(self, spec: LayerSpec, shape: Shape) -> Shape:
        if len(shape) != 3:
            raise Infeasible(f"{spec.kind} needs a map (rows, columns, channels), got shape {shape}")
        kernel = int(spec["kernel"])
        if spec["padding"] == "same":
            return (shape[0], shape[1], int(spec["filters"]))
        if kernel > min(shape[:2]):
            raise Infeasible(f"{kernel}x{kernel} kernel is larger than its {shape[0]}x{shape[1]} map")
        return (shape[0] - kernel + 1, shape[1] - kernel + 1, int(spec["filters"]))

    def weights(self, spec: LayerSpec, shape: Shape) -> dict[str, Weight]:
        kernel, filters = int(spec["kernel"]), int(spec["filters"])
        return {"kernel": Weight((kernel, kernel, shape[-1], filters), prunable=True), "bias": Weight((filters,))}

    def products(self, spec: LayerSpec, shape: Shape) -> Products:
        rows, columns, filters = self.output_shape(spec, shape)
        return Products(outputs=filters, inputs=shape[-1] * int(spec["kernel"]) ** 2, positions=rows * columns)


class BatchNorm(Kind):
    """Batch normalisation over the last axis; folded into the layer before it when quantized."""

    def weights(self, spec: LayerSpec, shape: Shape) -> dict[str, Weight]:
        channels = (shape[-1],)
        return {
            "gamma": Weight(channels),
            "beta": Weight(channels),
            "moving_mean": Weight(channels, trainable=False),
            "moving_variance": Weight(channels, trainable=False),
        }


class Activation(Kind):
    """Element-wise function ``fn``, a key of :data:`kerasnac.core.activations.ACTIVATIONS`."""


class Flatten(Kind):
    """Makes a vector of a map."""

    def output_shape(self, spec: LayerSpec, shape: Shape) -> Shape:
        return (math.prod(shape),)


KINDS: Mapping[str, Kind] = {
    "dense": Dense(),
    "conv2d": Conv2D(),
    "batch_norm": BatchNorm(),
    "activation": Activation(),
    "flatten": Flatten(),
}


def kind_of(spec: LayerSpec) -> Kind:
    """The entry of :data:`KINDS` for a layer.

    Raises:
        ConfigError: If the kind is unknown.
    """
    try:
        return KINDS[spec.kind]
    except KeyError:
        raise ConfigError(f"unknown layer kind {spec.kind!r}: one of {', '.join(KINDS)}") from None
