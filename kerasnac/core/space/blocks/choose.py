"""Blocks that hold other blocks, the block that is nothing, and the table of all blocks."""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Iterator, Mapping
from typing import Annotated, Any, Literal, get_args

from pydantic import BeforeValidator, Field, SerializeAsAny, ValidationInfo, model_validator

from kerasnac.core.checks import shown
from kerasnac.core.network.exactness import KERNEL_KINDS
from kerasnac.core.network.kinds import Shape
from kerasnac.core.network.layers import LayerSpec
from kerasnac.core.plugins import Kind, part_name
from kerasnac.core.space.blocks.attention import Attention
from kerasnac.core.space.blocks.base import ActivationValues, Block, Choice, Picks, check_choices, is_foreign, layers_of
from kerasnac.core.space.blocks.conv import Conv, Pool, Window
from kerasnac.core.space.blocks.mlp import DeepSets, Mlp
from kerasnac.core.space.blocks.tables import Tables
from kerasnac.core.space.blocks.transformer import Transformer
from kerasnac.errors import Infeasible, PluginError


def _parse(value: Any, info: ValidationInfo) -> Any:
    """Make a block of a mapping with a ``block`` tag; leave blocks alone."""
    if isinstance(value, Block):
        made = value
    elif not isinstance(value, Mapping) or "block" not in value:
        raise ValueError(f"a block is a mapping with the key block: one of {', '.join(BLOCKS)}")
    elif not isinstance(value["block"], str):
        raise ValueError(f"unknown block {shown(value['block'])}: one of {', '.join(BLOCKS)}")
    else:
        name = part_name(value["block"], info)
        kind = BLOCK.foreign(name)
        if kind is not None:
            _check_tag(kind, name)
        made = (kind or BLOCKS[name]).model_validate({**value, "block": name}, context=info.context)
    if is_foreign(made):
        check_choices(made)
    return made


def _check_tag(kind: type[Block], name: str) -> None:
    """Check that a class of others can have the name by which the run file calls it.

    Raises:
        PluginError: If it has another one already, as a class that inherits from a built-in block.
    """
    tag = kind.model_fields["block"]
    if tag.annotation is not str and name not in get_args(tag.annotation):
        raise PluginError(f'block {name}: its class has the tag {tag.default!r}: write `block: str = ""` in the class')


#: Any block, from an instance or from its YAML mapping.
AnyBlock = Annotated[SerializeAsAny[Block], BeforeValidator(_parse)]


class Nothing(Block):
    """Block without layers: it is skipped."""

    block: Literal["none"] = "none"

    def choices(self) -> tuple[Choice, ...]:
        return ()

    def most_kernels(self, axes: int) -> Mapping[str, float]:
        return {}

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
        tags = [option.block.rpartition(":")[2] for option in self.options]
        return tuple(tag if tags.count(tag) == 1 else f"{tag}{i}" for i, tag in enumerate(tags))

    def choices(self) -> tuple[Choice, ...]:
        inner = (
            Choice(f"{label}.{c.name}", c.values)
            for label, option in zip(self._labels, self.options, strict=True)
            for c in option.choices()
        )
        return (Choice("block", self._labels), *inner)

    def combinations(self) -> int:
        return sum(option.combinations() for option in self.options)

    def most_kernels(self, axes: int) -> Mapping[str, float]:
        options = [option.most_kernels(axes) for option in self.options]
        return {kind: max(most.get(kind, 0) for most in options) for kind in KERNEL_KINDS}

    def layers(self, picks: Picks, shape: Shape) -> Iterator[LayerSpec]:
        label = str(picks["block"])
        option = self.options[self._labels.index(label)]
        return layers_of(option, picks.within(label), shape)


class Residual(Block):
    """Sum of a block's input and output; the block must keep the shape.

    Attributes:
        body: The block.
        activation: Choices of activation after the sum.
    """

    block: Literal["residual"] = "residual"
    body: AnyBlock
    activation: ActivationValues = ("relu",)

    def choices(self) -> tuple[Choice, ...]:
        inner = (Choice(f"body.{c.name}", c.values) for c in self.body.choices())
        return (*inner, Choice("activation", self.activation))

    def combinations(self) -> int:
        return self.body.combinations() * len(self.activation)

    def most_kernels(self, axes: int) -> Mapping[str, float]:
        return self.body.most_kernels(axes)

    def layers(self, picks: Picks, shape: Shape) -> Iterator[LayerSpec]:
        count = 0
        for layer in layers_of(self.body, picks.within("body"), shape):
            yield layer
            count += 1
        if count == 0:
            raise Infeasible("a residual around a block without layers")
        yield LayerSpec.of("add", inputs=(-1, -1 - count))
        yield LayerSpec.of("activation", fn=picks["activation"])


#: The blocks that YAML may name.
BLOCKS: Mapping[str, type[Block]] = {
    "mlp": Mlp,
    "conv": Conv,
    "attention": Attention,
    "deep_sets": DeepSets,
    "transformer": Transformer,
    "tables": Tables,
    "pool": Pool,
    "window": Window,
    "residual": Residual,
    "choose": Choose,
    "none": Nothing,
}

#: Blocks of all origins.
BLOCK: Kind[type[Block]] = Kind(
    "block",
    "kerasnac.blocks",
    BLOCKS,
    "a subclass of kerasnac.blocks.Block with choices and layers",
    lambda part: inspect.isclass(part) and issubclass(part, Block) and not inspect.isabstract(part),
)


def foreign_blocks(blocks: Iterable[Block]) -> Iterator[Block]:
    """Yield the blocks that do not come with kerasnac, also those inside of others."""
    for block in blocks:
        if is_foreign(block):
            yield block
        fields = (value if isinstance(value, tuple) else (value,) for _, value in block)
        yield from foreign_blocks(inner for values in fields for inner in values if isinstance(inner, Block))
