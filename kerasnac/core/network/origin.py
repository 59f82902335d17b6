"""Origins of trained networks: one small type per stage that makes them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, ConfigDict, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass

from kerasnac.core.network.widths import Width
from kerasnac.core.store.names import check_name
from kerasnac.errors import ConfigError

#: In files, the start of a search for widths is called ``from``.
_STRICT = ConfigDict(
    extra="forbid",
    alias_generator=lambda name: "from" if name == "start" else name,
    validate_by_name=True,
    validate_by_alias=True,
)

#: Name of a network, and so of a folder; checked, since origins are read from files that anybody may have written.
Name = Annotated[str, AfterValidator(check_name)]


def _sorted(widths: Mapping[str, Width]) -> dict[str, Width]:
    # The order in which files have them: tables show a model that was read like one that was made.
    return dict(sorted(widths.items()))


@dataclass(frozen=True, config=_STRICT)
class TuningOrigin:
    """A float network whose training was tuned.

    Attributes:
        candidate: Id of the candidate.
        trials: Task metric of every trial on validation.
        searched: Name of the folder, under ``searched`` in the run folder, with the quantized network that the search
            trained; empty if it trained none.
    """

    candidate: Name
    trials: tuple[float, ...]
    searched: Name | Literal[""] = ""


@dataclass(frozen=True, config=_STRICT)
class CompressionOrigin:
    """A quantized network with the same bit widths in all layers that have none of their own.

    Attributes:
        parent: Name of the float network.
        weight_bits: Width of the kernels: bits, ``ternary`` or ``binary``.
        activation_bits: Width of the activations.
        iteration: Pruning iteration; 0 is the unpruned one.
    """

    parent: Name
    weight_bits: Width
    activation_bits: int
    iteration: int


@dataclass(frozen=True, config=_STRICT)
class RewindOrigin:
    """A quantized network in the middle of its unpruned training, to whose weights later iterations are set back.

    Attributes:
        parent: Name of the float network.
        weight_bits: Width of the kernels: bits, ``ternary`` or ``binary``.
        activation_bits: Width of the activations.
        epochs: Epochs that it was trained.
    """

    parent: Name
    weight_bits: Width
    activation_bits: int
    epochs: int


@dataclass(frozen=True, config=_STRICT)
class MixedOrigin:
    """A quantized network whose layers have bit widths of their own.

    Attributes:
        parent: Name of the float network.
        start: Name of the point with the same widths everywhere from which its training began.
        iteration: Pruning iteration of that point.
        widths: Width of every kernel and activation, by the name of the layer.
    """

    parent: Name
    start: Name
    iteration: int
    widths: Annotated[Mapping[str, Width], AfterValidator(_sorted)]


@dataclass(frozen=True, config=_STRICT)
class LearnedOrigin:
    """A quantized network whose weights and channels have learned widths.

    Attributes:
        parent: Name of the float network.
        iteration: Cycles of the training after which it was kept.
        pressure: Factor of the effective bit operations then.
    """

    parent: Name
    iteration: int
    pressure: float


Origin = TuningOrigin | CompressionOrigin | RewindOrigin | MixedOrigin | LearnedOrigin

#: Kinds of points of a compression.
PointOrigin = CompressionOrigin | MixedOrigin | LearnedOrigin

_ORIGIN: TypeAdapter[Origin] = TypeAdapter(Origin)


def to_dict(origin: Origin | None) -> dict[str, Any]:
    """Return an origin as JSON; empty for none."""
    return {} if origin is None else _ORIGIN.dump_python(origin, mode="json", by_alias=True, exclude_defaults=True)


def from_dict(data: Mapping[str, Any]) -> Origin | None:
    """Return the origin that :func:`to_dict` wrote.

    Raises:
        ConfigError: If the fields are those of no origin.
    """
    try:
        return _ORIGIN.validate_python(dict(data)) if data else None
    except ValidationError as error:
        problems = error.errors(include_url=False)
        kinds = [problem["loc"][0] for problem in problems]
        nearest = problems[kinds.index(min(kinds, key=kinds.count))]
        raise ConfigError(f"origin.{nearest['loc'][1]}: {nearest['msg'].removeprefix('Value error, ')}") from None
