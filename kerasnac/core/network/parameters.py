"""Names, types and bounds of the parameters of each kind of layer."""

from __future__ import annotations

from functools import cache
from typing import (
    Annotated,
    Any,
    Literal,
    NotRequired,  # pydantic needs this one before Python 3.12
    Required,
)

from pydantic import AfterValidator, ConfigDict, Field, NonNegativeInt, TypeAdapter, with_config
from typing_extensions import TypedDict

from kerasnac.core.checks import CHECKED, Size
from kerasnac.core.network.activations import check_activation
from kerasnac.core.network.precision import Precision
from kerasnac.core.network.widths import ActivationBits, WeightBits

#: Widest input of a look-up table: 65,536 entries.
MAX_TABLE_BITS = 16

#: Widest input of a learned table: 256 entries for every edge of a layer.
MAX_LEARNED_BITS = 8

#: Width of the table of a layer norm.
TableBits = Annotated[int, Field(ge=4, le=14)]


def _unsigned(text: str) -> str:
    """Return the text of an unsigned format; refuse another."""
    if Precision.parse(text).signed:
        raise ValueError(f"{text} is signed: write ap_ufixed<bits,integer>")
    return text


def _learned(text: str) -> str:
    """Return the text of a format whose numbers can be the inputs of a learned table, as it is always written."""
    grid = Precision.parse(text)
    if grid != grid.fixed:
        raise ValueError(f"{text} is no grid of inputs: write {grid.fixed}")
    if grid.bits > MAX_LEARNED_BITS:
        raise ValueError(f"{text} has {grid.bits} bits, and learned tables are over {MAX_LEARNED_BITS} at most: use fewer")
    return str(grid)


@with_config(ConfigDict(extra="forbid"))
class NoParameters(TypedDict):
    """Parameters of a kind without any."""


@with_config(ConfigDict(extra="forbid"))
class KernelParameters(TypedDict, total=False):
    """Parameters of all kinds with a kernel."""

    weight_bits: WeightBits
    sparsity: Annotated[float, Field(ge=0, lt=1)]


@with_config(ConfigDict(extra="forbid"))
class OutputParameters(TypedDict, total=False):
    """Parameters of all kinds whose output can have a bit width of its own."""

    activation_bits: ActivationBits


@with_config(ConfigDict(extra="forbid"))
class ScaleParameters(TypedDict, total=False):
    """Parameters of :class:`Scale`."""

    weight_bits: Annotated[int, Field(ge=2, le=16)]


class DenseParameters(KernelParameters):
    """Parameters of :class:`Dense`."""

    units: Required[Size]


@with_config(ConfigDict(extra="forbid"))
class TablesParameters(TypedDict):
    """Parameters of :class:`Tables`."""

    units: Size
    grid: Annotated[str, AfterValidator(_learned)]
    weight_bits: NotRequired[Annotated[int, Field(ge=2, le=16)]]
    sparsity: NotRequired[Annotated[float, Field(ge=0, lt=1)]]


class ConvParameters(KernelParameters):
    """Parameters of :class:`Conv`."""

    filters: Required[Size]
    kernel: Required[Size | tuple[Size, Size]]
    stride: Required[Size | tuple[Size, Size]]
    padding: Required[Literal["valid", "same"]]


@with_config(ConfigDict(extra="forbid"))
class MatMulParameters(TypedDict):
    """Parameters of :class:`MatMul`. One head and unscaled scores are written by leaving the parameter out."""

    transpose: bool
    heads: NotRequired[Annotated[Size, Field(ge=2)]]
    scaled: NotRequired[Literal[True]]


class LayerNormParameters(OutputParameters):
    """Parameters of :class:`LayerNorm`."""

    axes: Required[Literal["all", "last"]]
    table_bits: NotRequired[TableBits]
    spread: NotRequired[Annotated[str, AfterValidator(_unsigned)]]
    root: NotRequired[Annotated[str, AfterValidator(_unsigned)]]


class ActivationParameters(OutputParameters):
    """Parameters of :class:`Activation`."""

    fn: Required[Annotated[str, AfterValidator(check_activation)]]


@with_config(ConfigDict(extra="forbid"))
class ReshapeParameters(TypedDict):
    """Parameters of :class:`Reshape`."""

    shape: Annotated[tuple[Size, ...], Field(min_length=1)]


@with_config(ConfigDict(extra="forbid"))
class PoolParameters(TypedDict):
    """Parameters of :class:`Pool`."""

    op: Literal["max", "mean"]
    size: NonNegativeInt
    stride: NotRequired[Size]


@with_config(ConfigDict(extra="forbid"))
class LookupParameters(TypedDict):
    """Parameters of :class:`Lookup`."""

    bits: Annotated[int, Field(ge=1, le=MAX_TABLE_BITS)]


@with_config(ConfigDict(extra="forbid"))
class QuantizerParameters(TypedDict):
    """Parameters of :class:`Quantizer`."""

    rounding: Literal["half_up", "down"]
    channel_bits: Annotated[tuple[Annotated[int, Field(ge=0, le=24)], ...], Field(min_length=1)]
    channel_integer: Annotated[tuple[int, ...], Field(min_length=1)]


@with_config(ConfigDict(extra="forbid"))
class WindowParameters(TypedDict):
    """Parameters of :class:`Window`."""

    start: NonNegativeInt
    length: Size


@cache
def validator(parameters: type) -> TypeAdapter[dict[str, Any]]:
    """Return the check of the parameters that one of these classes declares."""
    return TypeAdapter(Annotated[parameters, CHECKED])  # type: ignore[arg-type]
