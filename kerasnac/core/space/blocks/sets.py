"""Blocks on sets of particles, which end in their mean or maximum."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Literal, Self

from pydantic import model_validator

from kerasnac.core.network.kinds import Shape, described
from kerasnac.core.network.layers import LayerSpec
from kerasnac.core.space.blocks.base import Normed, Picks, Values
from kerasnac.errors import Infeasible


class Aggregating(Normed):
    """Block that computes with the particles of a set, then takes them together.

    Attributes:
        aggregate: Choices of aggregation.
        mask: True to leave padded particles, those whose features are all zero, out of the mean.
    """

    aggregate: Values[Literal["mean", "max"]] = ("mean",)
    mask: bool = False

    @model_validator(mode="after")
    def _masked_means_only(self) -> Self:
        if self.mask and "max" in self.aggregate:
            raise ValueError("mask: true is for aggregate: mean; a maximum over the particles that are there is not known")
        return self

    def check_set(self, shape: Shape) -> None:
        """Refuse inputs that are no set.

        Raises:
            Infeasible: If the shape is not (particles, features).
        """
        if len(shape) != 2:
            raise Infeasible(f"{self.block} needs a set (particles, features), but gets {described(shape)}")

    def aggregated(self, picks: Picks, output: Mapping[str, Any], *, inputs: tuple[int, int]) -> Iterator[LayerSpec]:
        """Yield the aggregation, then a linear activation.

        Args:
            picks: Picks of the block.
            output: Parameters that are picked for the activation.
            inputs: Which layers are the particles and, if the block has one, their mask, as offsets from the first one here.
        """
        op = picks["aggregate"]
        yield LayerSpec.of("masked_mean", inputs=inputs) if self.mask else LayerSpec.of("pool", op=op, size=0)
        yield LayerSpec.of("activation", fn="none", **output)
