"""A block."""

from __future__ import annotations

from collections.abc import Iterator

from pydantic import PositiveInt

from kerasnac import LayerSpec, blocks


class Twins(blocks.Block):
    """Dense layers of the same width."""

    widths: blocks.Values[PositiveInt]
    layers_each: blocks.Values[PositiveInt] = (2,)

    def choices(self) -> tuple[blocks.Choice, ...]:
        return (blocks.Choice("units", self.widths), blocks.Choice("count", self.layers_each))

    def layers(self, picks: blocks.Picks, shape: tuple[int, ...]) -> Iterator[LayerSpec]:
        if len(shape) > 1:
            yield LayerSpec.of("flatten")
        for _ in range(picks["count"]):
            yield LayerSpec.of("dense", units=picks["units"])
            yield LayerSpec.of("activation", fn="relu")
