"""Layers: kinds with their parameters and number formats."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import Field, TypeAdapter, ValidationError

from kerasnac.core.checks import CHECKED, explained, shown
from kerasnac.core.network.activations import ACTIVATIONS
from kerasnac.core.network.kinds import KINDS, Kind
from kerasnac.core.network.parameters import validator
from kerasnac.core.network.precision import Binary, Odd, Precision, Ternary
from kerasnac.core.network.widths import BINARY, SCALE_BITS, TABLE_INPUT_BITS, WIDEST_QUANTIZED, Width
from kerasnac.errors import ConfigError

Scalar = int | float | str | bool | tuple[int, ...]

#: Kinds that read a table in a quantized network, besides some activations.
TABLE_KINDS = ("softmax", "masked_softmax", "lookup", "layer_norm", "tables")

#: Kinds whose weights are never ternary or binary -> their bits in a network where those of others are.
_WIDER: Mapping[str, int] = {"scale": SCALE_BITS, "tables": 2}

#: A layer reads the one before it unless it says otherwise.
PREVIOUS = (-1,)


@dataclass(frozen=True)
class LayerSpec:
    """Layer with every shape-relevant parameter resolved.

    Attributes:
        kind: A key of :data:`KINDS`.
        params: Sorted ``(name, value)`` pairs; read them with ``spec["units"]``. ``weight_bits`` and
            ``activation_bits`` are bit widths to quantize to, and ``sparsity`` is the fraction of the kernel to prune, where
            they are part of the architecture.
        weight: Format of the kernel, or of the reciprocals that make means of sums; None for a float layer or one without
            either.
        bias: Format of the bias.
        activation: Format of the output; None for float, or when the accumulator is passed on unrounded.
        inputs: Which layers it reads, as offsets: -1 is the layer before it (the network's input for the first).

    Raises:
        ConfigError: If there is no such kind, a parameter is unknown to it, missing or wrong, or a format is none that a
            tensor of this layer can have.
    """

    kind: str
    params: tuple[tuple[str, Scalar], ...] = ()
    weight: Precision | None = None
    bias: Precision | None = None
    activation: Precision | None = None
    inputs: tuple[int, ...] = PREVIOUS

    def __post_init__(self) -> None:
        kind = kind_of(self)
        try:
            params = validator(kind.parameters).validate_python(dict(self.params))
        except ValidationError as error:
            raise ConfigError(explained(error, self.kind)) from None
        try:
            inputs = _OFFSETS.validate_python(self.inputs)
        except ValidationError as error:
            raise ConfigError(explained(error, f"{self.kind}: inputs")) from None
        if len(inputs) != kind.reads:
            raise ConfigError(f"{self.kind}: it reads {kind.reads} layers, not {len(inputs)}: inputs are {list(inputs)}")
        for name in ("weight", "bias", "activation"):
            if not isinstance(getattr(self, name), Precision | None):
                raise ConfigError(f"{self.kind}: {name} is no number format (got {shown(getattr(self, name))})")
        kernel = "sparsity" in kind.parameters.__annotations__ and self.kind not in _WIDER
        self._check_few_values(kernel=kernel)
        self._check_odd(kernel=kernel)
        object.__setattr__(self, "params", tuple(sorted(params.items())))

    def _check_few_values(self, *, kernel: bool) -> None:
        if isinstance(self.weight, Ternary | Binary) and not kernel:
            raise ConfigError(f"{self.kind}: its weights cannot be {self.weight}, as a kernel's: give {self.weight.fixed}")
        if isinstance(self.bias, Ternary | Binary):
            raise ConfigError(f"{self.kind}: a bias cannot be {self.bias}: give it ap_fixed<bits,integer>")
        if isinstance(self.activation, Ternary):
            raise ConfigError(f"{self.kind}: an output cannot be {self.activation}: give it {self.activation.fixed}")
        if isinstance(self.activation, Binary) and self.kind != "activation":
            raise ConfigError(f"{self.kind}: an output cannot be {self.activation}, the sign of a number: an activation's can")
        if self.binary() and dict(self.params).get("sparsity"):
            raise ConfigError(f"{self.kind}: binary weights are never zero, so that none can be pruned: leave sparsity out")

    def _check_odd(self, *, kernel: bool) -> None:
        for name in ("weight", "activation", *(() if kernel else ("bias",))):
            if isinstance(found := getattr(self, name), Odd):
                raise ConfigError(f"{self.kind}: its {name} cannot be {found}, as the bias beside a kernel: give {found.fixed}")

    @classmethod
    def of(cls, kind: str, *, inputs: tuple[int, ...] = PREVIOUS, **params: Any) -> LayerSpec:
        """Return a float layer: ``LayerSpec.of("dense", units=32)``."""
        return cls(kind, tuple(sorted(params.items())), inputs=inputs)

    def __getitem__(self, name: str) -> Any:
        for key, value in self.params:
            if key == name:
                return value
        raise KeyError(f"{self.kind} has no parameter {name!r}")

    def weight_bits(self, default: Width) -> Width:
        """Return the width of the kernel that is part of the architecture, or the default where it is not.

        A scale is never ternary or binary: its factors have bits enough instead. Nor are the entries of tables.
        """
        width: Width = dict(self.params).get("weight_bits", default)  # type: ignore[assignment]
        return _WIDER.get(self.kind, width) if isinstance(width, str) else width

    def activation_bits(self, default: int) -> int:
        """Return the width of the output that is part of the architecture, or the default where it is not.

        A layer norm has no output of one bit: its values have those of the input of a table instead.
        """
        bits = int(dict(self.params).get("activation_bits", default))  # type: ignore[arg-type]
        return TABLE_INPUT_BITS if bits == 1 and self.kind == "layer_norm" else bits

    def binary(self, default: Width = WIDEST_QUANTIZED) -> bool:
        """Return True if the weights are binary: by their format, by the width of the layer's own, or by the default one."""
        return self.weight_bits(default) == BINARY if self.weight is None else isinstance(self.weight, Binary)

    @property
    def signs(self) -> bool:
        """True for an activation of one bit that is the sign of its input, times a step."""
        return isinstance(self.activation, Binary)

    @property
    def looks_up(self) -> bool:
        """True if a quantized layer reads its outputs from a table over its input grid."""
        if self.kind == "activation":
            return ACTIVATIONS[self["fn"]].table and not self.signs
        return self.kind in TABLE_KINDS

    def to_dict(self) -> dict[str, Any]:
        """Return the layer as a JSON-ready dictionary."""
        formats = {key: getattr(self, key) for key in ("weight", "bias", "activation")}
        params = {key: list(value) if isinstance(value, tuple) else value for key, value in self.params}
        graph = {} if self.inputs == PREVIOUS else {"inputs": list(self.inputs)}
        return {"kind": self.kind, **params, **graph} | {f"{k}_precision": str(v) for k, v in formats.items() if v is not None}

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> LayerSpec:
        """Read what :meth:`to_dict` wrote.

        Raises:
            ConfigError: As for the class, or if a number format is none.
        """
        rest: dict[str, Any] = {key: tuple(value) if isinstance(value, list) else value for key, value in data.items()}
        keys = [key for key in ("weight", "bias", "activation") if f"{key}_precision" in rest]
        formats: dict[str, Any] = {key: Precision.parse(rest.pop(f"{key}_precision")) for key in keys}
        kind, inputs = rest.pop("kind", None), rest.pop("inputs", PREVIOUS)
        return cls(kind, tuple(rest.items()), **formats, inputs=inputs)


#: Offsets of the layers that a layer reads, those of files included.
_OFFSETS: TypeAdapter[tuple[int, ...]] = TypeAdapter(Annotated[tuple[Annotated[int, Field(lt=0)], ...], CHECKED])

#: Kinds that give out the very numbers that they get.
PASSING_KINDS = ("flatten", "reshape")


@dataclass(frozen=True)
class Unsupported:
    """Reason, in a table by kind of layer, why nothing is done for layers of the kind.

    Every part of the house that treats kinds differently (number formats, Keras, hls4ml, adder graphs, ...) has one
    table with all keys of :data:`KINDS`, and either does something for a kind or says why not. A test compares them.

    Attributes:
        reason: A sentence without the name of the layer, with a remedy where there is one.
    """

    reason: str


def kind_of(spec: LayerSpec) -> Kind:
    """Return the entry of :data:`KINDS` for a layer.

    Raises:
        ConfigError: If the kind is unknown.
    """
    try:
        return KINDS[spec.kind]
    except (KeyError, TypeError):  # a TypeError if it is not even a text
        raise ConfigError(f"unknown layer kind {shown(spec.kind)}: one of {', '.join(KINDS)}") from None
