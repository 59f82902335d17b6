"""A block that is one of several others, the block that is nothing, and the table of all blocks."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, SerializeAsAny, model_validator

from kerasnac.core.blocks.base import Block, Choice, Picks
from kerasnac.core.blocks.conv import Conv
from kerasnac.core.blocks.mlp import Mlp
from kerasnac.core.layers import LayerSpec, Shape


def _parse(value: Any) -> Any:
    """Makes a block of a mapping with a ``block`` tag; leaves blocks alone, a user's own ones included."""
    if isinstance(value, Block):
        return value
    if not isinstance(value, Mapping) or "block" not in value:
        raise ValueError(f"a block is a mapping with the key block: one of {', '.join(BLOCKS)}")
    if value["block"] not in BLOCKS:
        raise ValueError(f"unknown block {value['block']!r}: one of {', '.join(BLOCKS)}")
    return BLOCKS[value["block"]].model_validate(value)


#: Any block, from an instance or from its YAML mapping.
AnyBlock = Annotated[SerializeAsAny[Block], BeforeValidator(_parse)]


class Nothing(Block):
    """No layers: the block is skipped."""

    block: Literal["none"] = "none"

    def choices(self) -> tuple[Choice, ...]:
        return ()

    def layers(self, picks: Picks, shape: Shape) -> Iterator[LayerSpec]:
        return iter(())


class Choose(Block):
    """One of several blocks; only the chosen one's genes are active.

    Attributes:
        options: The blocks to choose from.
    """

    block: Literal["choose"] = "choose"
    options: tuple[AnyBlock, ...] = Field(min_length=2)

    @model_validator(mode="after")
    def _no_repeats_inside(self) -> Choose:
        if any(option.repeat != 1 for option in self.options):
            raise ValueError("repeat stands on the choose block, not on its options")
        return self

    @property
    def _labels(self) -> tuple[str, ...]:
        tags = [option.block for option in self.options]
        return tuple(tag if tags.count(tag) == 1 else f"{tag}{i}" for i, tag in enumerate(tags))

    def choices(self) -> tuple[Choice, ...]:
        inner = (
            Choice(f"{label}.{c.name}", c.values)
            for label, option in zip(self._labels, self.options, strict=True)
            for c in option.choices()
        )
        return (Choice("block", self._labels), *inner)

    def size(self) -> int:
        return sum(option.size() for option in self.options)

    def layers(self, picks: Picks, shape: Shape) -> Iterator[LayerSpec]:
        label = str(picks["block"])
        option = self.options[self._labels.index(label)]
        return option.layers(picks.within(label), shape)


#: The blocks that YAML may name.
BLOCKS: Mapping[str, type[Block]] = {"mlp": Mlp, "conv": Conv, "choose": Choose, "none": Nothing}
