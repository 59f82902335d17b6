"""Stacks of fully connected layers: on a vector, or on every particle of a set."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Iterator
from typing import Literal, Self

from pydantic import Field, PositiveInt, model_validator

from kerasnac.core.blocks.base import ActivationValues, Block, Choice, NormValues, Picks, Values, flattened, norm_and_activation
from kerasnac.core.layers import LayerSpec, Scalar, Shape
from kerasnac.errors import Infeasible


class _Stack(Block):
    """Linear layers of chosen widths in a row, each with norm and activation.

    Attributes:
        widths: Choices of units, one entry per layer.
        depth: How many of the layers there are, from the first on; all by default.
        norm: Choices of norm.
        activation: Choices of activation.
        shared: True if all layers have the same norm and activation, one gene each.
    """

    widths: tuple[Values[PositiveInt], ...] = Field(min_length=1)
    depth: Values[PositiveInt] | None = None
    norm: NormValues = ("none",)
    activation: ActivationValues = ("relu",)
    shared: bool = False

    @model_validator(mode="after")
    def _depth_has_widths(self) -> Self:
        if self.depth and max(self.depth) > len(self.widths):
            raise ValueError(f"depth {max(self.depth)} needs as many entries in widths, got {len(self.widths)}")
        return self

    @abstractmethod
    def _linear(self, units: Scalar) -> LayerSpec:
        """A layer of some units."""

    @property
    def _depths(self) -> tuple[int, ...]:
        return self.depth or (len(self.widths),)

    def _prefix(self, index: int) -> str:
        return "" if self.shared else f"{index}."

    def choices(self) -> tuple[Choice, ...]:
        deepest = max(self._depths)
        return (
            Choice("depth", self._depths),
            *(Choice(f"{i}.units", widths) for i, widths in enumerate(self.widths[:deepest])),
            *(
                Choice(f"{prefix}{name}", values)
                for prefix in dict.fromkeys(self._prefix(i) for i in range(deepest))
                for name, values in (("norm", self.norm), ("activation", self.activation))
            ),
        )

    def combinations(self) -> int:
        kinds = len(self.norm) * len(self.activation)
        return sum(math.prod(map(len, self.widths[:depth])) * kinds ** (1 if self.shared else depth) for depth in self._depths)

    def _stacked(self, picks: Picks, axes: Literal["all", "last"]) -> Iterator[LayerSpec]:
        for i in range(int(picks["depth"])):
            yield self._linear(picks[f"{i}.units"])
            yield from norm_and_activation(picks, self._prefix(i), axes=axes)


class Mlp(_Stack):
    """A stack of dense layers; a map is flattened first."""

    block: Literal["mlp"] = "mlp"

    def _linear(self, units: Scalar) -> LayerSpec:
        return LayerSpec.of("dense", units=units)

    def layers(self, picks: Picks, shape: Shape) -> Iterator[LayerSpec]:
        yield from flattened(shape)
        yield from self._stacked(picks, "all")


class DeepSets(_Stack):
    """The same dense layers on every particle of a set, then their mean or maximum (Zaheer et al., arXiv:1703.06114).

    The network rho that follows is an ``mlp`` block. A layer norm normalises over the features of one particle.

    Attributes:
        bottleneck: Choices of the width that is aggregated: a last layer after ``widths``; none by default.
        aggregate: Choices of aggregation.
    """

    block: Literal["deep_sets"] = "deep_sets"
    bottleneck: Values[PositiveInt] | None = None
    aggregate: Values[Literal["mean", "max"]] = ("mean",)

    def _linear(self, units: Scalar) -> LayerSpec:
        return LayerSpec.of("conv1d", filters=units, kernel=1, stride=1, padding="valid")

    def choices(self) -> tuple[Choice, ...]:
        bottleneck = () if self.bottleneck is None else (Choice("bottleneck", self.bottleneck),)
        return (*super().choices(), *bottleneck, Choice("aggregate", self.aggregate))

    def combinations(self) -> int:
        return super().combinations() * len(self.bottleneck or (0,)) * len(self.aggregate)

    def layers(self, picks: Picks, shape: Shape) -> Iterator[LayerSpec]:
        if len(shape) != 2:
            raise Infeasible(f"deep_sets needs a set (particles, features), got shape {shape}")
        yield from self._stacked(picks, "last")
        if self.bottleneck is not None:
            yield self._linear(picks["bottleneck"])
            yield LayerSpec.of("activation", fn="none")
        yield LayerSpec.of("pool", op=picks["aggregate"], size=0)
        yield LayerSpec.of("activation", fn="none")
