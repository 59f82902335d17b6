"""The intermediate representation of a network: immutable, hashable, JSON."""

from __future__ import annotations

import hashlib
import json
import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Annotated, Any, NotRequired

from pydantic import ConfigDict, Field, TypeAdapter, ValidationError, with_config
from typing_extensions import TypedDict  # pydantic needs this one before Python 3.12

from kerasnac.core.checks import CHECKED, Size, explained
from kerasnac.core.display import html_table
from kerasnac.core.network.kinds import Products, Shape, Weight
from kerasnac.core.network.layers import PASSING_KINDS, LayerSpec, kind_of
from kerasnac.core.network.precision import Precision
from kerasnac.errors import ConfigError

#: Layers that a network may have.
MOST_LAYERS = 10_000

#: Layer parameters that say how a layer is to be compressed -> their sign in short descriptions.
COMPRESSION_PARAMS = {"weight_bits": "w", "activation_bits": "a", "sparsity": "s", "table_bits": "t"}

#: Layer parameters that are number formats.
FORMAT_PARAMS = ("spread", "root", "channel_bits", "channel_integer", "rounding")

#: The layer that becomes a quantizer of unsigned numbers.
RELU = LayerSpec.of("activation", fn="relu")


@with_config(ConfigDict(extra="forbid"))
class _Parts(TypedDict):
    """Parts of an architecture in JSON; each layer is checked by its kind."""

    input_shape: Annotated[tuple[Size, ...], Field(min_length=1, max_length=4)]
    layers: Annotated[tuple[dict[str, Any], ...], Field(min_length=1, max_length=MOST_LAYERS)]
    input_precision: NotRequired[str]


_PARTS: TypeAdapter[_Parts] = TypeAdapter(Annotated[_Parts, CHECKED])


@dataclass(frozen=True)
class Node:
    """Layer in its place in a network.

    Attributes:
        name: ``<kind>_<count>``.
        layer: The layer.
        inputs: Indices of the nodes that it reads; -1 is the network's input.
        shapes: Shapes of one sample of each.
        output: Shape of one output sample.
    """

    name: str
    layer: LayerSpec
    inputs: tuple[int, ...]
    shapes: tuple[Shape, ...]
    output: Shape

    @property
    def weights(self) -> dict[str, Weight]:
        """Names and shapes of the weight arrays."""
        return kind_of(self.layer).weights(self.layer, *self.shapes)

    @property
    def products(self) -> Products | None:
        """The multiply-accumulates."""
        return kind_of(self.layer).products(self.layer, *self.shapes)


@dataclass(frozen=True)
class Architecture:
    """A network as layers in an order in which each reads only earlier ones; most read the one before.

    Attributes:
        input_shape: Shape of one sample, channels last.
        layers: The layers in order; the last one is linear (softmax is left to the host).
        input: Format of the input, None for a float network.
    """

    input_shape: Shape
    layers: tuple[LayerSpec, ...]
    input: Precision | None = None

    @cached_property
    def id(self) -> str:
        """Hash of the canonical JSON: equal networks have equal ids."""
        return hashlib.sha256(self.to_json().encode()).hexdigest()[:12]

    def to_json(self) -> str:
        """Return the canonical JSON: sorted keys, no spaces."""
        return json.dumps(self.to_dict(), sort_keys=True, separators=(",", ":"))

    def to_dict(self) -> dict[str, Any]:
        """Return the network as a JSON-ready dictionary."""
        head: dict[str, Any] = {"input_shape": list(self.input_shape), "layers": [layer.to_dict() for layer in self.layers]}
        return head if self.input is None else head | {"input_precision": str(self.input)}

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Architecture:
        """Read what :meth:`to_dict` wrote.

        Raises:
            ConfigError: If the dictionary does not describe an architecture.
        """
        try:
            parts = _PARTS.validate_python(data)
        except ValidationError as error:
            raise ConfigError(f"{explained(error, 'not an architecture')}; expected input_shape and layers") from None
        layers = []
        for i, layer in enumerate(parts["layers"]):
            try:
                layers.append(LayerSpec.from_dict(layer))
            except ConfigError as error:
                raise ConfigError(f"not an architecture: layers.{i}: {error}") from None
        grid = parts.get("input_precision")
        return cls(parts["input_shape"], tuple(layers), None if grid is None else Precision.parse(grid))

    @classmethod
    def from_json(cls, text: str) -> Architecture:
        """Read what :meth:`to_json` wrote.

        Raises:
            ConfigError: If the text does not describe an architecture.
        """
        return cls.from_dict(json.loads(text))

    @classmethod
    def from_keras(cls, model: Any, samples: Any = None, **options: Any) -> Architecture:
        """Read the layers of a Keras or QKeras model; arguments and errors as for :func:`kerasnac.from_keras`."""
        from kerasnac import from_keras  # Keras is not known on this floor.

        return from_keras(model, samples, **options).architecture

    @cached_property
    def names(self) -> tuple[str, ...]:
        """Layer names, ``<kind>_<count>``: stable under the insertion of layers of other kinds.

        Weights are keyed by these names, so they move between a float network and its quantized form.
        """
        seen: Counter[str] = Counter()
        names = []
        for layer in self.layers:
            names.append(f"{layer.kind}_{seen[layer.kind]}")
            seen[layer.kind] += 1
        return tuple(names)

    @cached_property
    def nodes(self) -> tuple[Node, ...]:
        """The layers with names, inputs and shapes.

        Raises:
            Infeasible: At the first layer that does not fit its inputs.
        """
        nodes: list[Node] = []
        for i, (name, layer) in enumerate(zip(self.names, self.layers, strict=True)):
            inputs = tuple(i + offset for offset in layer.inputs)
            if not all(-1 <= source < i for source in inputs):
                raise ConfigError(f"{name} reads layers {layer.inputs} before it, which there are not")
            shapes = tuple(nodes[source].output if source >= 0 else self.input_shape for source in inputs)
            kind = kind_of(layer)
            nodes.append(Node(name, layer, inputs, shapes, kind.output_shape(layer, *shapes)))
        return tuple(nodes)

    def rewritten(self, replacement: Callable[[Node], Sequence[LayerSpec]], *, input: Precision | None = None) -> Architecture:
        """Return a copy in which every layer is replaced by a chain of layers: itself, none, or several.

        The first of a chain has the inputs of the layer; readers of the layer read the last of the chain.

        Args:
            replacement: Gives the chain for a node.
            input: Format of the input; the old one by default.
        """
        layers: list[LayerSpec] = []
        moved = {-1: -1}
        for i, node in enumerate(self.nodes):
            sources = [moved[source] for source in node.inputs]
            moved[i] = sources[0]
            for layer in replacement(node):
                layers.append(replace(layer, inputs=tuple(source - len(layers) for source in sources)))
                moved[i] = len(layers) - 1
                sources = [moved[i]]
        return Architecture(self.input_shape, tuple(layers), input or self.input)

    def rounded(self, source: int) -> Precision | None:
        """Return the format to which the output of a node is rounded; None for an accumulator, or in a float network.

        Args:
            source: Index of the node; -1 is the network's input.
        """
        origin = self.origin(source)
        return self.input if origin < 0 else self.nodes[origin].layer.activation

    def origin(self, source: int) -> int:
        """Return the index of the node that computes the numbers a node gives, which only passes them on if it is another.

        Args:
            source: Index of the node; -1 is the network's input.
        """
        while source >= 0 and self.nodes[source].layer.kind in PASSING_KINDS:
            source = self.nodes[source].inputs[0]
        return source

    @property
    def window(self) -> slice:
        """The part of the first axis that the network uses: all of it, unless the first layer is a window."""
        first = self.layers[0]
        if first.kind != "window":
            return slice(None)
        start = first["start"]
        return slice(start, start + first["length"])

    def without_window(self) -> Architecture:
        """Return the network on samples that have been cut to :attr:`window`."""
        if self.layers[0].kind != "window":
            return self
        return Architecture(self.nodes[0].output, self.layers[1:], self.input)

    @property
    def output_shape(self) -> Shape:
        """Shape of one output sample."""
        return self.nodes[-1].output

    @cached_property
    def parameters(self) -> int:
        """Number of trainable parameters."""
        return sum(math.prod(w.shape) for node in self.nodes for w in node.weights.values() if w.trainable)

    @property
    def quantized(self) -> bool:
        """True if the network has number formats, that is, if it can become firmware."""
        return self.input is not None

    @property
    def has_compression_params(self) -> bool:
        """True if bit widths or sparsities are part of it, so that a search trains it quantized."""
        return any(name in COMPRESSION_PARAMS for layer in self.layers for name, _ in layer.params)

    @property
    def plain(self) -> Architecture:
        """The network without bit widths and sparsities of its layers."""
        return self.rewritten(
            lambda node: (replace(node.layer, params=tuple(p for p in node.layer.params if p[0] not in COMPRESSION_PARAMS)),)
        )

    @property
    def unquantized(self) -> Architecture:
        """The network without number formats, and without the linear activations that are only there for them.

        Raises:
            ConfigError: If a layer is a table of values, which has no other form.
        """

        def without(node: Node) -> tuple[LayerSpec, ...]:
            if node.layer.kind == "lookup":
                raise ConfigError(f"{node.name}: a table of values is for quantized networks alone")
            if node.layer.kind == "activation" and node.layer["fn"] == "none":
                return ()
            if node.layer.kind == "quantizer":
                return () if node.layer.activation is None or node.layer.activation.signed else (RELU,)
            params = tuple(param for param in node.layer.params if param[0] not in FORMAT_PARAMS)
            return (replace(node.layer, params=params, weight=None, bias=None, activation=None),)

        return replace(self.rewritten(without), input=None)

    @property
    def sparsities(self) -> dict[str, float]:
        """Fraction of the kernel to prune, by the names of the layers where it is part of the architecture."""
        known = ((name, dict(layer.params).get("sparsity")) for name, layer in zip(self.names, self.layers, strict=True))
        return {name: float(value) for name, value in known if isinstance(value, int | float)}

    def __repr__(self) -> str:
        return f"Architecture({'x'.join(map(str, self.input_shape))}: {self}{', quantized' if self.quantized else ''})"

    def _repr_html_(self) -> str:
        formats = ("weights", "biases", "outputs") if self.quantized else ()
        rows = []
        for node in self.nodes:
            own = [one or "" for one in (node.layer.weight, node.layer.bias, node.layer.activation)] if self.quantized else []
            reads = ", ".join("input" if source < 0 else self.names[source] for source in node.inputs)
            count = sum(math.prod(weight.shape) for weight in node.weights.values() if weight.trainable)
            rows.append([node.name, short(node.layer), reads, "x".join(map(str, node.output)), *own, count or ""])
        title = f"{self.id}: {'x'.join(map(str, self.input_shape))} to {'x'.join(map(str, self.output_shape))}"
        return html_table(title, ("layer", "kind", "reads", "output", *formats, "parameters"), rows)

    def __str__(self) -> str:
        """List the layers that do something, in order; who reads whom is left out."""
        shown = (layer for layer in self.layers if layer.kind != "reshape" and ("fn", "none") not in layer.params)
        return " ".join(short(layer) for layer in shown)


def short(layer: LayerSpec) -> str:
    """Return a layer in a word: ``conv2d-8-3``, ``relu``."""
    if layer.kind == "activation":
        return "-".join([str(layer["fn"]), *_compression_params(layer)])
    usual = {"padding": "valid", "stride": 1, "transpose": layer.kind == "matmul" and layer["transpose"]}
    left_out = (*COMPRESSION_PARAMS, *FORMAT_PARAMS)
    others = ((name, value) for name, value in layer.params if name not in left_out and usual.get(name) != value)
    plain = [name if value is True else str(value) for name, value in others]
    return "-".join([layer.kind, *plain, *_compression_params(layer)])


def _compression_params(layer: LayerSpec) -> list[str]:
    return [
        value if isinstance(value, str) else f"{COMPRESSION_PARAMS[name]}{value:g}"
        for name, value in layer.params[::-1]
        if name in COMPRESSION_PARAMS
    ]
