"""Bit widths of a network's layers, one by one, as a space to search."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

from kerasnac.core.network.architecture import Architecture, Node
from kerasnac.core.network.exactness import KERNEL_KINDS
from kerasnac.core.network.layers import LayerSpec
from kerasnac.core.space.search_space import Genome

#: Kinds whose output has a width.
ACTIVATION_KINDS = ("activation", "softmax")


def layer_widths(architecture: Architecture, *, weight_bits: int, activation_bits: int) -> dict[str, int]:
    """Return the bit width that quantization gives every layer that has one: of its kernel, or of its output.

    Args:
        architecture: Float.
        weight_bits: Width of the kernels; a layer's own width wins.
        activation_bits: Width of the activations; a layer's own width wins.
    """
    widths = {}
    for node in architecture.nodes:
        if has_kernel(node):
            widths[node.name] = node.layer.bits("weight_bits", weight_bits)
        elif node.layer.kind in ACTIVATION_KINDS:
            widths[node.name] = node.layer.bits("activation_bits", activation_bits)
    return widths


def with_widths(architecture: Architecture, widths: Mapping[str, int]) -> Architecture:
    """Return a float network whose layers have these bit widths of their own, by layer name."""

    def rewritten(node: Node) -> tuple[LayerSpec, ...]:
        if node.name not in widths:
            return (node.layer,)
        own = {"weight_bits" if has_kernel(node) else "activation_bits": widths[node.name]}
        return (replace(node.layer, params=tuple(sorted({**dict(node.layer.params), **own}.items()))),)

    return architecture.rewritten(rewritten)


def has_kernel(node: Node) -> bool:
    """Return True if the bit width of a layer is that of its kernel."""
    return node.layer.kind in KERNEL_KINDS


@dataclass(frozen=True)
class Widths:
    """Point of a :class:`WidthSpace`: the bit width of every layer.

    Attributes:
        by_layer: (layer name, width) pairs.
    """

    by_layer: tuple[tuple[str, int], ...]

    @property
    def id(self) -> str:
        """Bit widths in text."""
        return " ".join(f"{name}={bits}" for name, bits in self.by_layer)


@dataclass(frozen=True)
class WidthSpace:
    """Bit widths to choose from for every layer; every gene is active, and every genome feasible.

    Attributes:
        choices: (layer name, widths in ascending order) pairs; a layer with one width is not a gene.
    """

    choices: tuple[tuple[str, tuple[int, ...]], ...]

    @cached_property
    def genes(self) -> dict[str, tuple[int, ...]]:
        """The genes in genome order: layer name -> bit widths."""
        return {name: widths for name, widths in self.choices if len(widths) > 1}

    @property
    def cardinalities(self) -> tuple[int, ...]:
        """Number of bit widths of every gene."""
        return tuple(len(widths) for widths in self.genes.values())

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

    def decode(self, genome: Sequence[int]) -> Widths:
        """Return the bit widths of all layers."""
        picked = {name: widths[gene] for (name, widths), gene in zip(self.genes.items(), genome, strict=True)}
        return Widths(tuple((name, picked.get(name, widths[0])) for name, widths in self.choices))

    def encode(self, widths: Mapping[str, int]) -> Genome:
        """Return the genome of bit widths by layer name, which must be among the choices."""
        return tuple(values.index(widths[name]) for name, values in self.genes.items())

    def descent(self, widths: Mapping[str, int], drop: Mapping[tuple[str, int], float]) -> list[Genome]:
        """Return the genomes on the way from some bit widths to the narrowest, the least sensitive layers first.

        Args:
            widths: Where to begin, by layer name.
            drop: How much worse the network is with a layer of a width, by layer name and width: of every step, the
                layer is narrowed whose next width has the smallest one.

        Returns:
            One genome per step, without the beginning.
        """
        now, way = dict(widths), []
        while steps := [
            (drop[name, lower[-1]], name, lower[-1])
            for name, values in self.genes.items()
            if (lower := [bits for bits in values if bits < now[name]])
        ]:
            _, name, bits = min(steps, key=lambda step: step[0])
            now[name] = bits
            way.append(self.encode(now))
        return way
