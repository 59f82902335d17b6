"""Layers of learned tables, and output layers, which may be such."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, Field, PositiveInt, model_validator

from kerasnac.core.network.kinds import Shape
from kerasnac.core.network.layers import LayerSpec
from kerasnac.core.network.parameters import MAX_LEARNED_BITS
from kerasnac.core.network.precision import Precision
from kerasnac.core.space.blocks.base import ActivationValues, Choice, Kernel, Picks, Quantizable, Values, flattened


def _power_of_two(reach: float) -> float:
    if math.frexp(reach)[0] != 0.5:
        raise ValueError(f"{reach:g} is no power of two: write 0.5, 1, 2, 4, ...")
    return reach


#: Choices of the width of the entries; of that of the inputs, which is their number; and of the largest input.
EntryBitValues = Values[Annotated[int, Field(ge=2, le=16)]]
InputBitValues = Values[Annotated[int, Field(ge=2, le=MAX_LEARNED_BITS)]]
ReachValues = Values[Annotated[float, Field(ge=2.0**-16, le=2.0**16), AfterValidator(_power_of_two)]]


def _grid(picks: Picks) -> str:
    """Return the picked format of the inputs, as a layer parameter."""
    return str(Precision(picks["input_bits"], 1 + round(math.log2(picks["reach"]))))


class Tables(Quantizable):
    """Layer of learned functions of one variable: a unit is the sum of a table for every input that it reads.

    Tables are over numbers from ``-reach`` to ``reach``, and what they read is rounded and clipped to those. Tables that
    follow tables need no activation between them.

    Attributes:
        units: Choices of the number of units.
        input_bits: Choices of the width of what is read: a table has 2**``input_bits`` entries.
        reach: Choices of the largest magnitude of what is read, powers of two.
        activation: Choices of activation after the sums.
        weight_bits: Choices of the width of the entries.
        sparsity: Choices of the fraction of tables that is pruned, the flattest ones.
    """

    block: Literal["tables"] = "tables"
    units: Values[PositiveInt]
    input_bits: InputBitValues = (6,)
    reach: ReachValues = (4.0,)
    activation: ActivationValues = ("none",)
    weight_bits: EntryBitValues | None = None

    def choices(self) -> tuple[Choice, ...]:
        own = (Choice(name, getattr(self, name)) for name in ("units", "input_bits", "reach", "activation"))
        return (*own, *self.compression_choices())

    def most_kernels(self, axes: int) -> Mapping[str, float]:
        return {}

    def layers(self, picks: Picks, shape: Shape) -> Iterator[LayerSpec]:
        yield from flattened(shape)
        yield LayerSpec.of("tables", units=picks["units"], grid=_grid(picks), **self.picked_kernel(picks))
        yield LayerSpec.of("activation", fn=picks["activation"], **self.picked_output(picks))


class OutputLayer(Kernel):
    """Layer of the outputs: a dense one, or one of learned tables.

    Attributes:
        kind: Kind of the layer.
        weight_bits: Choices of the width of its kernel, or of its entries.
        sparsity: Choices of the fraction of its kernel, or of its tables, that is pruned.
        input_bits: As for :class:`Tables`; for tables alone.
        reach: Likewise.
    """

    kind: Literal["dense", "tables"] = "dense"
    input_bits: InputBitValues | None = None
    reach: ReachValues | None = None

    @model_validator(mode="before")
    @classmethod
    def _of_a_kernel(cls, values: Any) -> Any:
        """Take the choices for a kernel alone as those of a dense layer."""
        return {name: getattr(values, name) for name in Kernel.model_fields} if type(values) is Kernel else values

    @model_validator(mode="after")
    def _tables_have_a_grid(self) -> Self:
        given = [name for name in ("input_bits", "reach") if getattr(self, name) is not None]
        if self.kind == "dense" and given:
            raise ValueError(f"{given[0]} is for kind: tables; a dense layer has no tables")
        if self.kind == "tables" and len(given) < 2:
            raise ValueError("kind: tables needs input_bits and reach: the width and the largest magnitude of what it reads")
        named = [width for width in self.weight_bits or () if isinstance(width, str)]
        if self.kind == "tables" and named:
            raise ValueError(f"entries of tables are not {named[0]}: give weight_bits a number of bits, from 2 to 16")
        return self

    def kernel_choices(self, prefix: str = "") -> tuple[Choice, ...]:
        grid = {"input_bits": self.input_bits, "reach": self.reach}
        own = (Choice(f"{prefix}{name}", values) for name, values in grid.items() if values is not None)
        return (*own, *super().kernel_choices(prefix))

    def layer(self, outputs: int, picks: Picks) -> LayerSpec:
        """Return the layer for some picks."""
        grid: dict[str, Any] = {} if self.kind == "dense" else {"grid": _grid(picks)}
        return LayerSpec.of(self.kind, units=outputs, **grid, **self.picked_kernel(picks))
