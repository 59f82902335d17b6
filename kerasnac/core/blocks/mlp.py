"""Fully connected layers."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, PositiveInt, model_validator

from kerasnac.core.blocks.base import Block, Choice, Picks, Values, check_activation, flattened, norm_and_activation
from kerasnac.core.layers import LayerSpec, Shape


class Mlp(Block):
    """A stack of dense layers, each with norm and activation; a map is flattened first.

    Attributes:
        widths: Choices of units, one entry per layer.
        depth: How many of the layers there are, from the first on; all by default.
        norm: Choices of norm.
        activation: Choices of activation.
        shared: True if all layers have the same norm and activation, one gene each.
    """

    block: Literal["mlp"] = "mlp"
    widths: tuple[Values[PositiveInt], ...] = Field(min_length=1)
    depth: Values[PositiveInt] | None = None
    norm: Values[Literal["none", "batch"]] = ("none",)
    activation: Values[Annotated[str, AfterValidator(check_activation)]] = ("relu",)
    shared: bool = False

    @model_validator(mode="after")
    def _depth_has_widths(self) -> Mlp:
        if self.depth and max(self.depth) > len(self.widths):
            raise ValueError(f"depth {max(self.depth)} needs as many entries in widths, got {len(self.widths)}")
        return self

    @property
    def _depths(self) -> tuple[int, ...]:
        return self.depth or (len(self.widths),)

    def _prefix(self, index: int) -> str:
        return "" if self.shared else f"{index}."

    def choices(self) -> tuple[Choice, ...]:
        prefixes = dict.fromkeys(self._prefix(i) for i in range(max(self._depths)))
        return (
            Choice("depth", self._depths),
            *(Choice(f"{i}.units", widths) for i, widths in enumerate(self.widths[: max(self._depths)])),
            *(
                Choice(f"{p}{name}", values)
                for p in prefixes
                for name, values in (("norm", self.norm), ("activation", self.activation))
            ),
        )

    def size(self) -> int:
        def tail(layers: int) -> int:
            return (len(self.norm) * len(self.activation)) ** (1 if self.shared else layers)

        return sum(math.prod(map(len, self.widths[:depth])) * tail(depth) for depth in self._depths)

    def layers(self, picks: Picks, shape: Shape) -> Iterator[LayerSpec]:
        yield from flattened(shape)
        for i in range(max(self._depths)):
            if i >= int(picks["depth"]):
                break
            yield LayerSpec.of("dense", units=picks[f"{i}.units"])
            yield from norm_and_activation(picks, self._prefix(i))
