"""Convolutions."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Literal

from pydantic import AfterValidator, PositiveInt

from kerasnac.core.blocks.base import Block, Choice, Picks, Values, check_activation, norm_and_activation
from kerasnac.core.layers import LayerSpec, Shape


class Conv(Block):
    """Convolutions in a row, each with its own channels, kernel, norm and activation.

    Attributes:
        convolutions: How many there are.
        channels: Choices of output channels.
        kernel: Choices of kernel size, rows = columns.
        padding: ``valid`` or ``same``.
        norm: Choices of norm.
        activation: Choices of activation.
    """

    block: Literal["conv"] = "conv"
    convolutions: PositiveInt = 1
    channels: Values[PositiveInt]
    kernel: Values[PositiveInt] = (3,)
    padding: Values[Literal["valid", "same"]] = ("valid",)
    norm: Values[Literal["none", "batch"]] = ("none",)
    activation: Values[Annotated[str, AfterValidator(check_activation)]] = ("relu",)

    def choices(self) -> tuple[Choice, ...]:
        fields = ("channels", "kernel", "padding", "norm", "activation")
        return tuple(Choice(f"{i}.{name}", getattr(self, name)) for i in range(self.convolutions) for name in fields)

    def layers(self, picks: Picks, shape: Shape) -> Iterator[LayerSpec]:
        for i in range(self.convolutions):
            yield LayerSpec.of(
                "conv2d", filters=picks[f"{i}.channels"], kernel=picks[f"{i}.kernel"], padding=picks[f"{i}.padding"]
            )
            yield from norm_and_activation(picks, f"{i}.")
