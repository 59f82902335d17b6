"""Shapes, weights and operation counts of each kind of layer.

One table, :data:`KINDS`, says it for all stages: the Keras builder, BOPs, parameter counts and the
exactness check read shapes and sizes from here and nowhere else.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

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
    QuantizerParameters,
    ReshapeParameters,
    ScaleParameters,
    TablesParameters,
    WindowParameters,
)
from kerasnac.core.network.precision import Precision
from kerasnac.errors import ConfigError, Infeasible

if TYPE_CHECKING:
    from kerasnac.core.network.layers import LayerSpec

Shape = tuple[int, ...]

#: Most entries of all tables of a layer: training holds a few copies of them, and the firmware spells them out.
MOST_ENTRIES = 2**20


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
    """Multiply-accumulates of a layer: ``outputs`` sums of ``inputs`` products, or table entries, at each of ``positions``.

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


class Tables(Kind):
    """Layer of learned functions of one variable (Liu et al., arXiv:2404.19756): a unit is the sum of one of every input.

    Each edge from an input to one of ``units`` has a table over the ``grid`` of its input, a number format; its entries are
    between those of the numbers below and above in a float network, where inputs are on no grid, and inputs beyond the grid
    have the first entry or the last one. Entry k belongs to the k-th smallest number of the grid. An edge is pruned as a
    whole: all its entries are zero.
    """

    parameters = TablesParameters

    def output_shape(self, spec: LayerSpec, shape: Shape, *others: Shape) -> Shape:
        if len(shape) != 1:
            raise Infeasible(f"{spec.kind} needs a vector, got a map of shape {shape}: flatten it first")
        entries = 2 ** self.grid(spec).bits * shape[0] * spec["units"]
        if entries > MOST_ENTRIES:
            raise Infeasible(
                f"{spec.kind}: tables over {spec['grid']} for {shape[0]} inputs x {spec['units']} units have {entries:,} "
                f"entries, more than the {MOST_ENTRIES:,} of a layer: use fewer input bits, inputs or units"
            )
        return (spec["units"],)

    def weights(self, spec: LayerSpec, shape: Shape, *others: Shape) -> dict[str, Weight]:
        return {"kernel": Weight((2 ** self.grid(spec).bits, shape[0], spec["units"]), prunable=True)}

    def products(self, spec: LayerSpec, shape: Shape, *others: Shape) -> Products:
        return Products(outputs=spec["units"], inputs=shape[0])

    def grid(self, spec: LayerSpec) -> Precision:
        """Return the format over which the tables are."""
        return Precision.parse(spec["grid"])


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


class Quantizer(Kind):
    """Format of its own for every channel of the last axis, see :mod:`kerasnac.core.network.channel_formats`."""

    parameters = QuantizerParameters

    def output_shape(self, spec: LayerSpec, shape: Shape, *others: Shape) -> Shape:
        for name in ("channel_bits", "channel_integer"):
            if len(spec[name]) != shape[-1]:
                raise Infeasible(f"{spec.kind}: {name} has {len(spec[name])} numbers, for {shape[-1]} channels")
        return shape


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


CONV1D, CONV2D, MATMUL, POOL, TABLES = Conv(1), Conv(2), MatMul(), Pool(), Tables()

KINDS: Mapping[str, Kind] = {
    "dense": Dense(),
    "conv1d": CONV1D,
    "conv2d": CONV2D,
    "tables": TABLES,
    "matmul": MATMUL,
    "add": Add(),
    "concatenate": Concatenate(),
    "batch_norm": BatchNorm(),
    "scale": Scale(),
    "layer_norm": LayerNorm(),
    "activation": Activation(),
    "lookup": Lookup(),
    "quantizer": Quantizer(),
    "softmax": Softmax(),
    "mask": Mask(),
    "masked_mean": MaskedMean(),
    "masked_softmax": MaskedSoftmax(),
    "flatten": Flatten(),
    "reshape": Reshape(),
    "pool": POOL,
    "window": Window(),
}
