"""The intermediate representation of a network: immutable, hashable, JSON."""

from __future__ import annotations

import hashlib
import json
import math
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from kerasnac.core.layers import LayerSpec, Shape, kind_of
from kerasnac.core.precision import Precision
from kerasnac.errors import ConfigError


@dataclass(frozen=True)
class Architecture:
    """A network as a chain of layers.

    Attributes:
        input_shape: Shape of one sample, channels last.
        layers: The layers in order; the last one is linear (softmax is left to the host).
        input: Format of the input, None for a float network.
    """

    input_shape: Shape
    layers: tuple[LayerSpec, ...]
    input: Precision | None = None

    @cached_property
    def id(self) -> str:
        """Hash of the canonical JSON: equal networks have equal ids."""
        return hashlib.sha256(self.to_json().encode()).hexdigest()[:12]

    def to_json(self) -> str:
        """Canonical JSON: sorted keys, no spaces."""
        return json.dumps(self.to_dict(), sort_keys=True, separators=(",", ":"))

    def to_dict(self) -> dict[str, Any]:
        """A JSON-ready dictionary."""
        head: dict[str, Any] = {"input_shape": list(self.input_shape), "layers": [layer.to_dict() for layer in self.layers]}
        return head if self.input is None else head | {"input_precision": str(self.input)}

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Architecture:
        """Inverse of :meth:`to_dict`.

        Raises:
            ConfigError: If the dictionary does not describe an architecture.
        """
        try:
            grid = data.get("input_precision")
            return cls(
                tuple(int(size) for size in data["input_shape"]),
                tuple(LayerSpec.from_dict(layer) for layer in data["layers"]),
                None if grid is None else Precision.parse(grid),
            )
        except (KeyError, TypeError, AttributeError) as error:
            raise ConfigError(f"not an architecture ({error!r}): expected input_shape and layers") from error

    @classmethod
    def from_json(cls, text: str) -> Architecture:
        """Inverse of :meth:`to_json`."""
        return cls.from_dict(json.loads(text))

    @cached_property
    def names(self) -> tuple[str, ...]:
        """Layer names, ``<kind>_<count>``: stable under the insertion of layers of other kinds.

        Weights are keyed by these names, so they move between a float network and its quantized form.
        """
        seen: Counter[str] = Counter()
        names = []
        for layer in self.layers:
            names.append(f"{layer.kind}_{seen[layer.kind]}")
            seen[layer.kind] += 1
        return tuple(names)

    def walk(self) -> Iterator[tuple[str, LayerSpec, Shape]]:
        """Yields (name, layer, input shape) of every layer.

        Raises:
            Infeasible: At the first layer that does not fit its input.
        """
        shape = self.input_shape
        for name, layer in zip(self.names, self.layers, strict=True):
            yield name, layer, shape
            shape = kind_of(layer).output_shape(layer, shape)

    @cached_property
    def output_shape(self) -> Shape:
        """Shape of one output sample."""
        *_, (_, layer, shape) = self.walk()
        return kind_of(layer).output_shape(layer, shape)

    @cached_property
    def parameters(self) -> int:
        """Number of trainable parameters."""
        arrays = (w for _, layer, shape in self.walk() for w in kind_of(layer).weights(layer, shape).values())
        return sum(math.prod(w.shape) for w in arrays if w.trainable)

    @property
    def quantized(self) -> bool:
        """True if the network has number formats, that is, if it can become firmware."""
        return self.input is not None

    def __str__(self) -> str:
        return " ".join(_short(layer) for layer in self.layers)


def _short(layer: LayerSpec) -> str:
    if layer.kind == "activation":
        return str(layer["fn"])
    return "-".join([layer.kind, *(str(value) for _, value in layer.params)])
