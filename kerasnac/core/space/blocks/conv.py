"""Convolutions, pooling and windows: blocks that work on maps."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Annotated, Literal

from pydantic import Field, NonNegativeInt, PositiveInt

from kerasnac.core.network.kinds import Shape, described
from kerasnac.core.network.layers import LayerSpec
from kerasnac.core.space.blocks.base import MOST_BLOCKS, ActivationValues, Block, Choice, Normed, Picks, Values
from kerasnac.errors import Infeasible


class Conv(Normed):
    """Convolutions in a row, each with its own channels, kernel, norm and activation.

    On (rows, columns, channels) they are 2D, on (steps, channels) 1D.

    Attributes:
        convolutions: How many there are.
        channels: Choices of output channels.
        kernel: Choices of kernel size, the same along all axes.
        stride: Choices of stride.
        padding: ``valid`` or ``same``.
        activation: Choices of activation.
    """

    block: Literal["conv"] = "conv"
    convolutions: Annotated[int, Field(ge=1, le=MOST_BLOCKS)] = 1
    channels: Values[PositiveInt]
    kernel: Values[PositiveInt] = (3,)
    stride: Values[PositiveInt] = (1,)
    padding: Values[Literal["valid", "same"]] = ("valid",)
    activation: ActivationValues = ("relu",)

    def choices(self) -> tuple[Choice, ...]:
        fields = ("channels", "kernel", "stride", "padding", "norm", "activation")
        own = [[Choice(f"{i}.{name}", getattr(self, name)) for name in fields] for i in range(self.convolutions)]
        return tuple(choice for i, choices in enumerate(own) for choice in (*choices, *self.compression_choices(f"{i}.")))

    def combinations(self) -> int:
        fields = (self.channels, self.kernel, self.stride, self.padding, self.activation)
        one = math.prod(map(len, fields)) * self.widths_and_sparsities * sum(map(self.tables, self.norm))
        return int(one**self.convolutions)

    def most_kernels(self, axes: int) -> Mapping[str, float]:
        return {f"conv{axes - 1}d": self.convolutions}

    def layers(self, picks: Picks, shape: Shape) -> Iterator[LayerSpec]:
        if len(shape) not in (2, 3):
            raise Infeasible(f"a convolution needs positions, but gets {described(shape)}")
        for i in range(self.convolutions):
            own = picks.within(i)
            geometry = {name: own[name] for name in ("kernel", "stride", "padding")}
            yield LayerSpec.of(f"conv{len(shape) - 1}d", filters=own["channels"], **geometry, **self.picked_kernel(own))
            yield from self.followers(own)


class Pool(Block):
    """Maximum or mean over windows without overlap.

    Attributes:
        op: Choices of ``max`` and ``mean``.
        size: Choices of window size, the same along all axes; 0 takes the whole map.
    """

    block: Literal["pool"] = "pool"
    op: Values[Literal["max", "mean"]] = ("max",)
    size: Values[NonNegativeInt] = (2,)

    def choices(self) -> tuple[Choice, ...]:
        return (Choice("op", self.op), Choice("size", self.size))

    def most_kernels(self, axes: int) -> Mapping[str, float]:
        return {}

    def layers(self, picks: Picks, shape: Shape) -> Iterator[LayerSpec]:
        yield LayerSpec.of("pool", op=picks["op"], size=picks["size"])
        if picks["op"] == "mean":
            yield LayerSpec.of("activation", fn="none")  # A mean has more bits than its inputs: back to their width.


class Window(Block):
    """Part of a readout that the firmware gets.

    Attributes:
        start: Choices of the first step.
        length: Choices of the number of steps.
    """

    block: Literal["window"] = "window"
    start: Values[NonNegativeInt]
    length: Values[PositiveInt]

    def choices(self) -> tuple[Choice, ...]:
        return (Choice("start", self.start), Choice("length", self.length))

    def most_kernels(self, axes: int) -> Mapping[str, float]:
        return {}

    def layers(self, picks: Picks, shape: Shape) -> Iterator[LayerSpec]:
        yield LayerSpec.of("window", start=picks["start"], length=picks["length"])
