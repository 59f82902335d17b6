"""Shapes, weights and operation counts of each kind of layer.

One table, :data:`KINDS`, says it for all stages: the Keras builder, BOPs, parameter counts and the
exactness check read shapes and sizes from here and nowhere else.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, TypeAdapter, ValidationError

from kerasnac.core.checks import CHECKED, explained, shown
from kerasnac.core.network.activations import ACTIVATIONS
from kerasnac.core.network.parameters import (
    ActivationParameters,
    ConvParameters,
    DenseParameters,
    LayerNormParameters,
    LookupParameters,
    MatMulParameters,
    NoParameters,
    OutputParameters,
    PoolParameters,
    ReshapeParameters,
    ScaleParameters,
    WindowParameters,
    validator,
)
from kerasnac.core.network.precision import Binary, Precision, Ternary
from kerasnac.core.network.widths import BINARY, SCALE_BITS, TABLE_INPUT_BITS, WIDEST_QUANTIZED, Width
from kerasnac.errors import ConfigError, Infeasible

Shape = tuple[int, ...]
Scalar = int | float | str | bool | tuple[int, ...]

#: Kinds that read a table in a quantized network, besides some activations.
TABLE_KINDS = ("softmax", "masked_softmax", "lookup", "layer_norm")

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
        self._check_few_values(kernel="sparsity" in kind.parameters.__annotations__)
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

        A scale is never ternary or binary: its factors have bits enough instead.
        """
        width: Width = dict(self.params).get("weight_bits", default)  # type: ignore[assignment]
        return SCALE_BITS if self.kind == "scale" and isinstance(width, str) else width

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


@dataclass(frozen=True)
class Weight:
    """One weight array of a layer.

    Attributes:
        shape: Shape of the array, as Keras has it.
        trainable: False for the moving statistics of a batch norm.
        prunable: True if zeros in the array save bit operations (kernels, not biases).
    """

    shape: Shape
    trainable: bool = True
    prunable: bool = False


@dataclass(frozen=True)
class Products:
    """Multiply-accumulates of a layer: ``outputs`` sums of ``inputs`` products at each of ``positions``.

    Attributes:
        outputs: m, outputs computed at one position.
        inputs: n, inputs of one output.
        positions: Output positions that share the weights (1 for a dense layer).
    """

    outputs: int
    inputs: int
    positions: int = 1

    @property
    def macs(self) -> int:
        """Multiply-accumulates in total."""
        return self.outputs * self.inputs * self.positions


def described(shape: Shape) -> str:
    """Return a shape in words, and the block that fits a vector."""
    if len(shape) > 1:
        return f"the shape {shape}"
    return f"a vector of {shape[0]} values, which has none: use an mlp block, or give input more axes, channels last"


def _by(sizes: Sequence[int]) -> str:
    return "x".join(map(str, sizes))


#: Offsets of the layers that a layer reads, those of files included.
_OFFSETS: TypeAdapter[tuple[int, ...]] = TypeAdapter(Annotated[tuple[Annotated[int, Field(lt=0)], ...], CHECKED])


class Kind:
    """Kind of layer; by default one without weights that keeps the shape of its one input.

    Attributes:
        parameters: Names, types and bounds of its parameters; the one check of layers from code and from files.
        reads: Number of layers that it reads.
    """

    parameters: ClassVar[type] = NoParameters
    reads: ClassVar[int] = 1

    def output_shape(self, spec: LayerSpec, shape: Shape, *others: Shape) -> Shape:
        """Return the shape of one output sample, from the shapes of the inputs.

        Raises:
            Infeasible: If the layer cannot follow layers with these output shapes.
        """
        return shape

    def weights(self, spec: LayerSpec, shape: Shape, *others: Shape) -> dict[str, Weight]:
        """Return names and shapes of the weight arrays, in Keras order."""
        return {}

    def products(self, spec: LayerSpec, shape: Shape, *others: Shape) -> Products | None:
        """Return the layer's multiply-accumulates; None if it has none."""
        return None


class Dense(Kind):
    """Fully connected layer on a vector: ``units``."""

    parameters = DenseParameters

    def output_shape(self, spec: LayerSpec, shape: Shape, *others: Shape) -> Shape:
        if len(shape) != 1:
            raise Infeasible(f"{spec.kind} needs a vector, got a map of shape {shape}: flatten it first")
        return (spec["units"],)

    def weights(self, spec: LayerSpec, shape: Shape, *others: Shape) -> dict[str, Weight]:
        units = spec["units"]
        return {"kernel": Weight((shape[0], units), prunable=True), "bias": Weight((units,))}

    def products(self, spec: LayerSpec, shape: Shape, *others: Shape) -> Products:
        return Products(outputs=spec["units"], inputs=shape[0])


@dataclass(frozen=True)
class Conv(Kind):
    """Convolution, channels last: ``filters``, ``kernel``, ``stride``, ``padding`` (valid or same).

    Kernel and stride are one number for all axes, or a pair for rows and columns.

    Attributes:
        rank: 1 for (steps, channels), 2 for (rows, columns, channels).
    """

    rank: int

    parameters = ConvParameters

    def output_shape(self, spec: LayerSpec, shape: Shape, *others: Shape) -> Shape:
        if len(shape) != self.rank + 1:
            axes = "(steps, channels)" if self.rank == 1 else "(rows, columns, channels)"
            raise Infeasible(f"{spec.kind} needs a map {axes}, got shape {shape}")
        kernel, stride, sizes = self.sizes(spec, "kernel"), self.sizes(spec, "stride"), shape[:-1]
        if spec["padding"] == "same":
            return (*(-(-size // step) for size, step in zip(sizes, stride, strict=True)), spec["filters"])
        if any(k > size for k, size in zip(kernel, sizes, strict=True)):
            raise Infeasible(f"{_by(kernel)} kernel is larger than its {_by(sizes)} map")
        return (*((n - k) // step + 1 for n, k, step in zip(sizes, kernel, stride, strict=True)), spec["filters"])

    def weights(self, spec: LayerSpec, shape: Shape, *others: Shape) -> dict[str, Weight]:
        filters = spec["filters"]
        return {
            "kernel": Weight((*self.sizes(spec, "kernel"), shape[-1], filters), prunable=True),
            "bias": Weight((filters,)),
        }

    def products(self, spec: LayerSpec, shape: Shape, *others: Shape) -> Products:
        *positions, filters = self.output_shape(spec, shape)
        return Products(
            outputs=filters, inputs=shape[-1] * math.prod(self.sizes(spec, "kernel")), positions=math.prod(positions)
        )

    def sizes(self, spec: LayerSpec, name: Literal["kernel", "stride"]) -> Shape:
        """Return a parameter for every axis of the map.

        Raises:
            ConfigError: If it is a pair and there is one axis.
        """
        value: int | Shape = spec[name]
        if isinstance(value, tuple) and len(value) != self.rank:
            raise ConfigError(f"{spec.kind}: {name} {_by(value)} is for two axes, there is one: give one number")
        return value if isinstance(value, tuple) else (value,) * self.rank


def zeros_around(sizes: Sequence[int], kernel: Sequence[int], stride: Sequence[int]) -> tuple[tuple[int, int], ...]:
    """Return the zeros that padding ``same`` puts before and after a map, along every axis.

    Args:
        sizes: Size of the map.
        kernel: Size of the kernel.
        stride: Distance of two positions.
    """
    missing = (max((-(-n // step) - 1) * step + k - n, 0) for n, k, step in zip(sizes, kernel, stride, strict=True))
    return tuple((m // 2, m - m // 2) for m in missing)


class MatMul(Kind):
    """Product of two matrices of activations, (rows, inner) and (inner, columns): no weights.

    With ``transpose`` the second one is (columns, inner), as in the scores of an attention. With ``scaled`` these are divided
    by the square root of ``inner``, in float networks alone: :func:`kerasnac.core.network.weights.fold` takes the factor out.

    With ``heads`` there is a product for every head, of its own part of the channels, which lie one head after the other:
    with ``transpose`` (rows, heads * inner) and (columns, heads * inner) make (heads, rows, columns), and else
    (heads, rows, inner) and (inner, heads * columns) make (rows, heads * columns).
    """

    parameters = MatMulParameters
    reads = 2

    def output_shape(self, spec: LayerSpec, shape: Shape, *others: Shape) -> Shape:
        (other,), heads, transpose = others, self.heads(spec), spec["transpose"]
        if self.scaled(spec) and not transpose:
            raise Infeasible("scaled is for scores: a product with transpose")
        outer = (heads,) if heads > 1 else ()
        split = () if transpose else outer  # Where the heads of the first factor are an axis.
        fits = len(shape) == 2 + len(split) and shape[: len(split)] == split and len(other) == 2
        if not fits or shape[-1] != (other[1] if transpose else other[0]) or other[1] % heads:
            by_heads = f" with {heads} heads" if outer else ""
            raise Infeasible(f"cannot multiply matrices of shapes {shape} and {other}{by_heads}")
        return (*outer, shape[0], other[0]) if transpose else (shape[-2], other[1])

    def products(self, spec: LayerSpec, shape: Shape, *others: Shape) -> Products:
        *positions, columns = self.output_shape(spec, shape, *others)
        inner = shape[-1] // self.heads(spec) if spec["transpose"] else shape[-1]
        return Products(outputs=columns, inputs=inner, positions=math.prod(positions))

    def heads(self, spec: LayerSpec) -> int:
        """Return the number of heads."""
        return int(dict(spec.params).get("heads", 1))  # type: ignore[arg-type]

    def scaled(self, spec: LayerSpec) -> bool:
        """Return True if the products are divided by the square root of their inner size."""
        return bool(dict(spec.params).get("scaled", False))


class Add(Kind):
    """Sum of two tensors of one shape: the end of a residual branch."""

    reads = 2

    def output_shape(self, spec: LayerSpec, shape: Shape, *others: Shape) -> Shape:
        if others != (shape,):
            raise Infeasible(
                f"cannot add a branch of shape {others[0]} to shape {shape}: a residual branch must keep its input's shape"
            )
        return shape


class Concatenate(Kind):
    """Channels of one tensor, then those of another of the same positions."""

    reads = 2

    def output_shape(self, spec: LayerSpec, shape: Shape, *others: Shape) -> Shape:
        (other,) = others
        if shape[:-1] != other[:-1]:
            raise Infeasible(f"cannot concatenate shapes {shape} and {other}: all axes but the last must be equal")
        return (*shape[:-1], shape[-1] + other[-1])


class BatchNorm(Kind):
    """Batch normalisation over the last axis; folded into the layer before it, or made a scale, when quantized."""

    def weights(self, spec: LayerSpec, shape: Shape, *others: Shape) -> dict[str, Weight]:
        channels = (shape[-1],)
        return {
            "gamma": Weight(channels),
            "beta": Weight(channels),
            "moving_mean": Weight(channels, trainable=False),
            "moving_variance": Weight(channels, trainable=False),
        }


class Scale(Kind):
    """Factor and offset for every channel, ``kernel * x + bias``: a batch norm after training that could not be folded."""

    parameters = ScaleParameters

    def weights(self, spec: LayerSpec, shape: Shape, *others: Shape) -> dict[str, Weight]:
        channels = (shape[-1],)
        return {"kernel": Weight(channels), "bias": Weight(channels)}

    def products(self, spec: LayerSpec, shape: Shape, *others: Shape) -> Products:
        return Products(outputs=shape[-1], inputs=1, positions=math.prod(shape[:-1]))


class LayerNorm(Kind):
    """Layer normalisation over all axes with a gain and an offset per element, or over the ``last`` axis alone.

    ``table_bits`` is the width of the table that its quantized form reads, ``spread`` and ``root`` are the formats of that
    table's index and entries; see :mod:`kerasnac.core.network.layer_norms`. It multiplies every value three times: with itself,
    with the reciprocal root and with the gain.
    """

    parameters = LayerNormParameters

    def weights(self, spec: LayerSpec, shape: Shape, *others: Shape) -> dict[str, Weight]:
        normalised = shape if spec["axes"] == "all" else shape[-1:]
        return {"gamma": Weight(normalised), "beta": Weight(normalised)}

    def products(self, spec: LayerSpec, shape: Shape, *others: Shape) -> Products:
        groups = 1 if spec["axes"] == "all" else math.prod(shape[:-1])
        return Products(outputs=math.prod(shape) // groups, inputs=3, positions=groups)


class Activation(Kind):
    """Element-wise function ``fn``, a key of :data:`kerasnac.core.network.activations.ACTIVATIONS`."""

    parameters = ActivationParameters


class Lookup(Kind):
    """Element-wise function as a table of its own values: one for each of the 2**``bits`` numbers of its input's format.

    The entries are in the order of :meth:`kerasnac.core.network.precision.Precision.grid`.
    """

    parameters = LookupParameters

    def weights(self, spec: LayerSpec, shape: Shape, *others: Shape) -> dict[str, Weight]:
        return {"values": Weight((2 ** spec["bits"],), trainable=False)}


class Softmax(Kind):
    """Softmax over the last axis, inside a network (a classifier's own softmax is left to the host)."""

    parameters = OutputParameters


class Mask(Kind):
    """Marks the particles of a set that are there: (particles, features) to (particles, 1), 1 where any feature is not zero."""

    def output_shape(self, spec: LayerSpec, shape: Shape, *others: Shape) -> Shape:
        if len(shape) != 2:
            raise Infeasible(f"{spec.kind} needs a set (particles, features), got shape {shape}")
        return (shape[0], 1)


class MaskedMean(Kind):
    """Mean over the particles that a mask marks, zero if it marks none: (particles, channels) and a mask to (channels,)."""

    reads = 2

    def output_shape(self, spec: LayerSpec, shape: Shape, *others: Shape) -> Shape:
        if len(shape) != 2 or others != ((shape[0], 1),):
            raise Infeasible(f"{spec.kind} needs a set and its mask, got shapes {shape} and {others[0]}")
        return shape[1:]


class MaskedSoftmax(Kind):
    """Softmax over those of the last axis that a mask marks; the others become zero, and all if it marks none."""

    parameters = OutputParameters
    reads = 2

    def output_shape(self, spec: LayerSpec, shape: Shape, *others: Shape) -> Shape:
        if others != ((shape[-1], 1),):
            raise Infeasible(f"{spec.kind} needs scores and a mask of their last axis, got shapes {shape} and {others[0]}")
        return shape


class Flatten(Kind):
    """Vector of the values of a map."""

    def output_shape(self, spec: LayerSpec, shape: Shape, *others: Shape) -> Shape:
        return (math.prod(shape),)


class Reshape(Kind):
    """The same values in another ``shape``."""

    parameters = ReshapeParameters

    def output_shape(self, spec: LayerSpec, shape: Shape, *others: Shape) -> Shape:
        target: Shape = spec["shape"]
        if math.prod(target) != math.prod(shape):
            raise Infeasible(f"cannot reshape {shape} to {target}")
        return target


class Pool(Kind):
    """Maximum or mean (``op``) over windows of ``size`` positions per axis; 0 takes the whole map.

    A window begins every ``stride`` positions; without one, where the window before it ends.
    """

    parameters = PoolParameters

    def output_shape(self, spec: LayerSpec, shape: Shape, *others: Shape) -> Shape:
        size = spec["size"]
        if len(shape) < 2:
            raise Infeasible(f"{spec.kind} needs a map, got a vector of shape {shape}")
        if size == 0:
            return shape[-1:]
        if size > min(shape[:-1]):
            raise Infeasible(f"a pooling window of {size} is larger than its {_by(shape[:-1])} map")
        return (*((axis - size) // self.stride(spec) + 1 for axis in shape[:-1]), shape[-1])

    def stride(self, spec: LayerSpec) -> int:
        """Return the distance of two windows; 1 where there is one window."""
        return int(dict(spec.params).get("stride", spec["size"]) or 1)


class Window(Kind):
    """The ``length`` first-axis steps from ``start`` on: the part of a longer readout that the firmware gets."""

    parameters = WindowParameters

    def output_shape(self, spec: LayerSpec, shape: Shape, *others: Shape) -> Shape:
        start, length = spec["start"], spec["length"]
        if len(shape) != 2:
            raise Infeasible(f"{spec.kind} needs a readout (steps, channels), got shape {shape}")
        if start + length > shape[0]:
            raise Infeasible(f"a window of {length} steps from {start} on reaches beyond the {shape[0]} steps there are")
        return (length, *shape[1:])


CONV1D, CONV2D, MATMUL, POOL = Conv(1), Conv(2), MatMul(), Pool()

KINDS: Mapping[str, Kind] = {
    "dense": Dense(),
    "conv1d": CONV1D,
    "conv2d": CONV2D,
    "matmul": MATMUL,
    "add": Add(),
    "concatenate": Concatenate(),
    "batch_norm": BatchNorm(),
    "scale": Scale(),
    "layer_norm": LayerNorm(),
    "activation": Activation(),
    "lookup": Lookup(),
    "softmax": Softmax(),
    "mask": Mask(),
    "masked_mean": MaskedMean(),
    "masked_softmax": MaskedSoftmax(),
    "flatten": Flatten(),
    "reshape": Reshape(),
    "pool": POOL,
    "window": Window(),
}


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
