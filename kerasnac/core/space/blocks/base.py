"""Blocks: a few genes, and the layers that they become."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal, TypeVar

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    SerializerFunctionWrapHandler,
    model_serializer,
    model_validator,
)

from kerasnac.core.checks import Checked, shown
from kerasnac.core.network.activations import check_activation
from kerasnac.core.network.exactness import KERNEL_KINDS
from kerasnac.core.network.kinds import Shape
from kerasnac.core.network.layers import LayerSpec, Scalar
from kerasnac.core.network.parameters import TableBits
from kerasnac.core.network.widths import BINARY, ActivationBits, WeightBits
from kerasnac.core.plugins import failure, guarded, name_of, source_of
from kerasnac.errors import Infeasible, PluginError

T = TypeVar("T")

#: Times that a block may repeat or hold a layer.
MOST_BLOCKS = 100


def as_tuple(value: Any) -> Any:
    """Make a one-entry tuple of a single value."""
    values = tuple(value) if isinstance(value, list | tuple) else (value,)
    if not values:
        raise ValueError("an empty list leaves nothing to choose from")
    return values


def _distinct(values: tuple[T, ...]) -> tuple[T, ...]:
    if len(set(values)) != len(values):
        raise ValueError(f"a value stands twice in {list(values)}")
    return values


#: One value, or a list of distinct values to choose from.
Values = Annotated[tuple[T, ...], BeforeValidator(as_tuple), AfterValidator(_distinct)]


@dataclass(frozen=True)
class Choice:
    """One categorical gene.

    Attributes:
        name: Unique within its block.
        values: Values to choose from; a single one makes no gene.
    """

    name: str
    values: tuple[Scalar, ...]


def different_picks(choices: Iterable[Choice]) -> int:
    """Return the number of different picks, if all genes are active but the sparsities of kernels that are binary."""
    values = {choice.name: choice.values for choice in choices}
    count = math.prod(map(len, values.values()))
    for name, own in values.items():
        widths = values.get(f"{name.removesuffix('sparsity')}weight_bits", ()) if name.split(".")[-1] == "sparsity" else ()
        if BINARY in widths:
            together = len(widths) * len(own)
            count = count // together * (together - len(own) + 1)
    return count


@dataclass(frozen=True)
class Picks:
    """The picked values of a block's choices, by name.

    Values are looked up through a function, so that a space can record which genes a block reads.

    Attributes:
        look_up: Value of a choice by its full name.
        prefix: Where this block's choices are among all names.
    """

    look_up: Callable[[str], Scalar]
    prefix: str = ""

    def __getitem__(self, name: str) -> Any:
        return self.look_up(self.prefix + name)

    def within(self, scope: object) -> Picks:
        """Return the picks of an inner block."""
        return Picks(self.look_up, f"{self.prefix}{scope}.")


class Block(Checked):
    """Part of a network with choices in it.

    The fields of a block are its keys in YAML. A new block is one subclass with :meth:`choices` and :meth:`layers`, which
    run files name as :mod:`kerasnac.core.plugins` says. Those of kerasnac have a ``block`` tag besides, and are entered in
    :data:`kerasnac.core.space.blocks.BLOCKS`. :mod:`kerasnac.testing` checks any block.

    A gene that :meth:`layers` does not read is inactive: conditions need not be declared.

    Attributes:
        block: Name of the block in YAML; by default module and name of the class.
        repeat: Times that it stands in a row.
    """

    block: str = ""
    repeat: int = Field(1, ge=1, le=MOST_BLOCKS, description="Stand this many times in a row, with genes of their own.")

    @abstractmethod
    def choices(self) -> tuple[Choice, ...]:
        """Return the genes of the block."""

    @abstractmethod
    def layers(self, picks: Picks, shape: Shape) -> Iterator[LayerSpec]:
        """Yield the layers for one pick per choice, reading only the picks that matter.

        Args:
            picks: Value of every choice, by name.
            shape: Shape of the block's input.

        Raises:
            Infeasible: If these picks cannot follow this shape.
        """

    @model_validator(mode="before")
    @classmethod
    def _named(cls, values: Any) -> Any:
        if isinstance(values, Mapping) and "block" not in values and cls.model_fields["block"].default == "":
            return {"block": name_of(cls), **values}
        return values

    @model_serializer(mode="wrap")
    def _tagged(self, fields: SerializerFunctionWrapHandler) -> dict[str, Any]:
        return {"block": self.block, **fields(self)}  # Reading needs the tag, even where it is the default.

    def combinations(self) -> int:
        """Return the number of different picks, counting only the active genes."""
        return different_picks(self.choices())

    def most_kernels(self, axes: int) -> Mapping[str, float]:
        """Return how many layers of each kind with a kernel there are at most; any number, unless a block knows better.

        Args:
            axes: Number of axes of the network's input; a map keeps them until it is flattened.
        """
        return dict.fromkeys(KERNEL_KINDS, math.inf)


def is_foreign(block: Block) -> bool:
    """Return true for a block that does not come with kerasnac."""
    return type(block).__module__.partition(".")[0] != "kerasnac"


def check_choices(block: Block) -> None:
    """Check that the choices of a block of others are genes.

    Raises:
        PluginError: Naming the block and what is wrong.
    """
    with guarded(f"block {block.block}: choices()", block):
        choices = block.choices()
    if not isinstance(choices, tuple) or not all(isinstance(choice, Choice) for choice in choices):
        raise PluginError(f"block {block.block}: choices() gives {shown(choices)}, and not a tuple of Choice")
    for choice in choices:
        if [other.name for other in choices].count(choice.name) > 1:
            raise PluginError(f"block {block.block}: two choices have the name {choice.name!r}: rename one")
        values = choice.values
        plain = isinstance(values, tuple) and all(isinstance(value, int | float | str | tuple) for value in values)
        if not plain or not values or len(set(values)) < len(values):
            raise PluginError(
                f"block {block.block}: choice {choice.name!r} has the values {shown(values)}: give a tuple of distinct ones"
            )


def layers_of(block: Block, picks: Picks, shape: Shape) -> Iterator[LayerSpec]:
    """Yield the layers of a block; one of others is checked while it does so.

    Args:
        block: A block of a space, or of another block.
        picks: Value of every choice, by name.
        shape: Shape of the block's input.

    Raises:
        Infeasible: If these picks cannot follow this shape.
        PluginError: If a block of others does not what a block has to do; names the block and what is wrong.
    """
    if not is_foreign(block):
        yield from block.layers(picks, shape)
        return
    where = f"block {block.block}: layers()"
    declared = {choice.name for choice in block.choices()}
    missed = _Missed()

    def look_up(name: str) -> Scalar:
        if name not in declared:
            raise PluginError(f"{where} reads the pick {name!r}, which choices() does not declare")
        try:
            value: Scalar = picks[name]
        except Exception as error:
            missed.error = error  # Of the space, which looks for picks: not of the block.
            raise
        return value

    try:
        for count, layer in enumerate(block.layers(Picks(look_up), shape)):
            if not isinstance(layer, LayerSpec):
                raise PluginError(f"{where} yields {shown(layer)}: make layers by LayerSpec.of(kind, ...)")
            if min(layer.inputs) < -1 - count:
                raise PluginError(f"{where}: layer {count} ({layer.kind}) reads more than the block's one input")
            if layer.weight or layer.bias or layer.activation:
                raise PluginError(f"{where} yields a {layer.kind} with number formats: those come later")
            yield layer
    except (Infeasible, PluginError):
        raise
    except Exception as error:  # Whatever code of others raises.
        if error is missed.error:
            raise
        raise PluginError(f"{where} fails: {failure(error, source_of(block))}") from error


class _Missed:
    """Holds an exception that came from outside of a block."""

    error: Exception | None = None


#: Choices of activation.
ActivationValues = Values[Annotated[str, AfterValidator(check_activation)]]

#: Choices of norm.
NormValues = Values[Literal["none", "batch", "layer"]]


#: Choices of the width of weights or of activations; None leaves the width to the settings of a run.
WeightBitValues = Values[WeightBits] | None
ActivationBitValues = Values[ActivationBits] | None

#: Choices of the fraction of a kernel that is pruned; None leaves it to the settings of a run.
SparsityValues = Values[Annotated[float, Field(ge=0, lt=1)]] | None


class Kernel(Checked):
    """Choices for the kernel of a layer.

    Attributes:
        weight_bits: Choices of its width: bits, ``ternary`` (a step, its negative or zero) or ``binary`` (never zero).
        sparsity: Choices of the fraction of it that is pruned; no gene of a kernel that is binary.
    """

    weight_bits: WeightBitValues = None
    sparsity: SparsityValues = None

    def kernel_choices(self, prefix: str = "") -> tuple[Choice, ...]:
        """Return the genes of one layer's kernel."""
        fields = {"weight_bits": self.weight_bits, "sparsity": self.sparsity}
        return tuple(Choice(f"{prefix}{name}", values) for name, values in fields.items() if values is not None)

    def picked_kernel(self, picks: Picks) -> dict[str, Any]:
        """Return the picked width and sparsity as layer parameters, as far as they are genes."""
        width = {} if self.weight_bits is None else {"weight_bits": picks["weight_bits"]}
        if self.sparsity is None or BINARY in width.values():
            return width
        return {**width, "sparsity": picks["sparsity"]}


class Quantizable(Kernel, Block):
    """Block whose bit widths and sparsities can be genes.

    Attributes:
        weight_bits: Choices of the width of kernels.
        activation_bits: Choices of the bit width of activations.
        sparsity: Choices of the fraction of a kernel that is pruned.
    """

    activation_bits: ActivationBitValues = None

    def compression_choices(self, prefix: str = "") -> tuple[Choice, ...]:
        """Return the genes of one layer's bit widths and sparsity."""
        own = () if self.activation_bits is None else (Choice(f"{prefix}activation_bits", self.activation_bits),)
        return (*self.kernel_choices(prefix), *own)

    def picked_output(self, picks: Picks) -> dict[str, Any]:
        """Return the picked bit width of an activation as a layer parameter; empty if it is no gene."""
        return {} if self.activation_bits is None else {"activation_bits": picks["activation_bits"]}


class Normed(Quantizable):
    """Block of linear layers with norms.

    Attributes:
        norm: Choices of norm.
        table_bits: Choices of the bit width of the table that a layer norm reads on the chip; None for the usual one.
    """

    norm: NormValues = ("none",)
    table_bits: Values[TableBits] | None = None

    def compression_choices(self, prefix: str = "") -> tuple[Choice, ...]:
        own = () if self.table_bits is None else (Choice(f"{prefix}table_bits", self.table_bits),)
        return (*super().compression_choices(prefix), *own)

    @property
    def widths_and_sparsities(self) -> int:
        """Number of picks for one layer, besides the table of its norm."""
        return different_picks(super().compression_choices())

    def tables(self, norm: str) -> int:
        """Return the number of tables to choose from where a layer has a norm."""
        return len(self.table_bits) if self.table_bits is not None and norm == "layer" else 1

    def followers(
        self, picks: Picks, bits: Picks | None = None, *, axes: Literal["all", "last"] = "all"
    ) -> Iterator[LayerSpec]:
        """Yield the layers that follow a linear one: its norm, then its activation.

        Args:
            picks: Picks of ``norm`` and ``activation``.
            bits: Picks of the bit widths, where they are not those of norm and activation.
            axes: Axes over which a layer norm normalises.
        """
        norm, own = picks["norm"], bits or picks
        if norm == "batch":
            yield LayerSpec.of("batch_norm")
        elif norm == "layer":
            table = {} if self.table_bits is None else {"table_bits": own["table_bits"]}
            yield LayerSpec.of("layer_norm", axes=axes, **table, **self.picked_output(own))
        yield LayerSpec.of("activation", fn=picks["activation"], **self.picked_output(own))


def flattened(shape: Shape) -> Iterator[LayerSpec]:
    """Yield a flatten layer if the shape is not a vector yet."""
    if len(shape) > 1:
        yield LayerSpec.of("flatten")
