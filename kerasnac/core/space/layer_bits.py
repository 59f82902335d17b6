"""Bit widths of a network's layers, one by one, as a space to search."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

from kerasnac.core.network.architecture import Architecture, Node
from kerasnac.core.network.exactness import WEIGHT_KINDS
from kerasnac.core.network.layers import LayerSpec
from kerasnac.core.network.widths import BINARY, Width
from kerasnac.core.space.search_space import Genome

#: Kinds whose output has a bit width.
ACTIVATION_KINDS = ("activation", "softmax", "masked_softmax", "layer_norm")


def layer_bits(architecture: Architecture, *, weight_bits: Width, activation_bits: int) -> dict[str, Width]:
    """Return the width that quantization gives every layer that has one: of its kernel, or of its output.

    An activation that nothing but learned tables reads has the grid of these, and no width.

    Args:
        architecture: Float.
        weight_bits: Width of the kernels; a layer's own one wins.
        activation_bits: Bit width of the activations; a layer's own one wins.
    """
    bits: dict[str, Width] = {}
    readers: dict[int, set[str]] = {}
    for node in architecture.nodes:
        for source in node.inputs:
            readers.setdefault(source, set()).add(node.layer.kind)
    for i, node in enumerate(architecture.nodes):
        if has_kernel(node):
            bits[node.name] = node.layer.weight_bits(weight_bits)
        elif node.layer.kind in ACTIVATION_KINDS and readers.get(i) != {"tables"}:
            bits[node.name] = node.layer.activation_bits(activation_bits)
    return bits


def with_layer_bits(architecture: Architecture, bits: Mapping[str, Width]) -> Architecture:
    """Return a float network whose layers have these widths of their own, by layer name; binary kernels have no sparsity."""

    def rewritten(node: Node) -> tuple[LayerSpec, ...]:
        if node.name not in bits:
            return (node.layer,)
        own = {"weight_bits" if has_kernel(node) else "activation_bits": bits[node.name]}
        params = {**dict(node.layer.params), **own}
        if bits[node.name] == BINARY:
            params.pop("sparsity", None)
        return (replace(node.layer, params=tuple(sorted(params.items()))),)

    return architecture.rewritten(rewritten)


def has_kernel(node: Node) -> bool:
    """Return True if the bit width of a layer is that of its kernel."""
    return node.layer.kind in (*WEIGHT_KINDS, "tables")


@dataclass(frozen=True)
class LayerBits:
    """Point of a :class:`LayerBitsSpace`: the width of every layer.

    Attributes:
        by_layer: (layer name, width) pairs.
    """

    by_layer: tuple[tuple[str, Width], ...]

    @property
    def id(self) -> str:
        """Widths in text."""
        return " ".join(f"{name}={bits}" for name, bits in self.by_layer)


@dataclass(frozen=True)
class LayerBitsSpace:
    """Bit widths to choose from for every layer; every gene is active, and every genome feasible.

    Attributes:
        choices: (layer name, widths in ascending order) pairs; a layer with one width is not a gene.
    """

    choices: tuple[tuple[str, tuple[Width, ...]], ...]

    @cached_property
    def genes(self) -> dict[str, tuple[Width, ...]]:
        """The genes in genome order: layer name -> bit widths."""
        return {name: values for name, values in self.choices if len(values) > 1}

    @property
    def cardinalities(self) -> tuple[int, ...]:
        """Number of bit widths of every gene."""
        return tuple(len(values) for values in self.genes.values())

    @property
    def gene_blocks(self) -> tuple[slice, ...]:
        """Stretches of the genome that belong together: every gene is one."""
        return tuple(slice(i, i + 1) for i in range(len(self.genes)))

    def active(self, genome: Sequence[int]) -> tuple[bool, ...]:
        """Return which genes matter: all."""
        return (True,) * len(genome)

    def canonical(self, genome: Sequence[int]) -> Genome:
        """Return the genome itself."""
        return tuple(int(gene) for gene in genome)

    def decode(self, genome: Sequence[int]) -> LayerBits:
        """Return the bit widths of all layers."""
        picked = {name: values[gene] for (name, values), gene in zip(self.genes.items(), genome, strict=True)}
        return LayerBits(tuple((name, picked.get(name, values[0])) for name, values in self.choices))

    def encode(self, bits: Mapping[str, Width]) -> Genome:
        """Return the genome of bit widths by layer name, which must be among the choices."""
        return tuple(values.index(bits[name]) for name, values in self.genes.items())

    def descent(self, start: Mapping[str, Width], drop: Mapping[tuple[str, Width], float]) -> list[Genome]:
        """Return the genomes on the way from some bit widths to the narrowest, the least sensitive layers first.

        Args:
            start: Bit widths at the beginning, by layer name.
            drop: How much worse the network is with a layer of a bit width, by layer name and bit width: of every
                step, the layer is narrowed whose next bit width has the smallest one.

        Returns:
            One genome per step, without the beginning.
        """
        now, way = dict(start), []
        while steps := [
            (drop[name, lower[-1]], name, lower[-1])
            for name, values in self.genes.items()
            if (lower := values[: values.index(now[name])])
        ]:
            _, name, bits = min(steps, key=lambda step: step[0])
            now[name] = bits
            way.append(self.encode(now))
        return way
