"""Stacks of fully connected layers: on a vector, or on every particle of a set."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Iterator, Mapping
from typing import Any, Literal, Self

from pydantic import Field, NonNegativeInt, PositiveInt, model_validator

from kerasnac.core.network.kinds import Shape
from kerasnac.core.network.layers import LayerSpec, Scalar
from kerasnac.core.space.blocks.base import MOST_BLOCKS, ActivationValues, Choice, Normed, Picks, Values, flattened
from kerasnac.core.space.blocks.sets import Aggregating


class _Stack(Normed):
    """Linear layers with chosen numbers of units in a row, each with norm and activation.

    Attributes:
        widths: Choices of units, one entry per layer.
        depth: How many of the layers there are, from the first on; all by default.
        activation: Choices of activation.
        shared: True if all layers have the same norm and activation, one gene each.
    """

    widths: tuple[Values[PositiveInt], ...] = Field(min_length=1, max_length=MOST_BLOCKS)
    depth: Values[NonNegativeInt] | None = None
    activation: ActivationValues = ("relu",)
    shared: bool = False

    @model_validator(mode="after")
    def _depth_has_widths(self) -> Self:
        if self.depth and max(self.depth) > len(self.widths):
            raise ValueError(f"depth {max(self.depth)} needs as many entries in widths, got {len(self.widths)}")
        return self

    @abstractmethod
    def _linear(self, units: Scalar, kernel: Mapping[str, Any]) -> LayerSpec:
        """Return a layer of some units, with the parameters that are picked for its kernel."""

    @property
    def _depths(self) -> tuple[int, ...]:
        return self.depth or (len(self.widths),)

    def choices(self) -> tuple[Choice, ...]:
        deepest = max(self._depths)
        kinds = (("norm", self.norm), ("activation", self.activation))
        scopes = [""] if self.shared else [f"{i}." for i in range(deepest)]
        return (
            Choice("depth", self._depths),
            *(Choice(f"{i}.units", widths) for i, widths in enumerate(self.widths[:deepest])),
            *(Choice(f"{scope}{name}", values) for scope in scopes for name, values in kinds),
            *(choice for i in range(deepest) for choice in self.compression_choices(f"{i}.")),
        )

    def combinations(self) -> int:
        return self._combinations(more=0)

    def _combinations(self, *, more: int) -> int:
        """Return the number of picks, with some more layers whose units are counted elsewhere."""
        kinds = [self.widths_and_sparsities * self.tables(norm) for norm in self.norm]

        def picks(layers: int) -> int:
            if self.shared and layers:
                return int(sum(kind**layers for kind in kinds)) * len(self.activation)
            return int((sum(kinds) * len(self.activation)) ** layers)

        return sum(math.prod(map(len, self.widths[:depth])) * picks(depth + more) for depth in self._depths)

    def _stacked(self, picks: Picks, axes: Literal["all", "last"]) -> Iterator[LayerSpec]:
        for i in range(picks["depth"]):
            own = picks.within(i)
            yield self._linear(own["units"], self.picked_kernel(own))
            yield from self.followers(picks if self.shared else own, own, axes=axes)


class Mlp(_Stack):
    """A stack of dense layers; a map is flattened first."""

    block: Literal["mlp"] = "mlp"

    def _linear(self, units: Scalar, kernel: Mapping[str, Any]) -> LayerSpec:
        return LayerSpec.of("dense", units=units, **kernel)

    def most_kernels(self, axes: int) -> Mapping[str, float]:
        return {"dense": max(self._depths)}

    def layers(self, picks: Picks, shape: Shape) -> Iterator[LayerSpec]:
        yield from flattened(shape)
        yield from self._stacked(picks, "all")


class DeepSets(Aggregating, _Stack):
    """The same dense layers on every particle of a set, then their mean or maximum (Zaheer et al., arXiv:1703.06114).

    The network rho that follows is an ``mlp`` block. A layer norm normalises over the features of one particle.

    Attributes:
        bottleneck: Choices of the width that is aggregated: a last layer after ``widths``; none by default.
    """

    block: Literal["deep_sets"] = "deep_sets"
    bottleneck: Values[PositiveInt] | None = None

    def _linear(self, units: Scalar, kernel: Mapping[str, Any]) -> LayerSpec:
        return LayerSpec.of("conv1d", filters=units, kernel=1, stride=1, padding="valid", **kernel)

    def choices(self) -> tuple[Choice, ...]:
        own = () if self.shared else (Choice("out.norm", self.norm), Choice("out.activation", self.activation))
        last = (
            () if self.bottleneck is None else (Choice("bottleneck", self.bottleneck), *own, *self.compression_choices("out."))
        )
        return (*super().choices(), *last, Choice("aggregate", self.aggregate))

    def combinations(self) -> int:
        if self.bottleneck is None:
            return super().combinations() * len(self.aggregate)
        return self._combinations(more=1) * len(self.bottleneck) * len(self.aggregate)

    def most_kernels(self, axes: int) -> Mapping[str, float]:
        return {"conv1d": max(self._depths) + (self.bottleneck is not None)}

    def layers(self, picks: Picks, shape: Shape) -> Iterator[LayerSpec]:
        self.check_set(shape)
        own, source = picks.within("out"), -1  # Offset of the block's input.
        for layer in self._phi(picks, own):
            yield layer
            source -= 1
        if self.mask:
            yield LayerSpec.of("mask", inputs=(source,))
        yield from self.aggregated(picks, {} if self.bottleneck is None else self.picked_output(own), inputs=(-2, -1))

    def _phi(self, picks: Picks, own: Picks) -> Iterator[LayerSpec]:
        yield from self._stacked(picks, "last")
        if self.bottleneck is not None:
            yield self._linear(picks["bottleneck"], self.picked_kernel(own))
            yield from self.followers(picks if self.shared else own, own, axes="last")
