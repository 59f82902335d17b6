"""Search spaces: integer genomes with conditional genes, and the candidates they decode to."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise, zip_longest
from typing import Annotated, Any, Literal, Self

import numpy as np
from pydantic import AfterValidator, BeforeValidator, Field, PositiveInt, TypeAdapter, model_validator

from kerasnac.core.checks import CHECKED, Checked
from kerasnac.core.network.architecture import COMPRESSION_PARAMS, Architecture
from kerasnac.core.network.exactness import KERNEL_KINDS, unsupported_reason
from kerasnac.core.network.kinds import Shape
from kerasnac.core.network.layers import LayerSpec, Scalar, kind_of
from kerasnac.core.network.training import Training
from kerasnac.core.space.blocks import AnyBlock, Block, Choice, Picks, foreign_blocks
from kerasnac.core.space.blocks.base import Values, as_tuple, different_picks, flattened, layers_of
from kerasnac.core.space.blocks.tables import OutputLayer
from kerasnac.errors import Infeasible, SpaceError

Genome = tuple[int, ...]

#: Choices that a space may have, those with one value included.
MOST_CHOICES = 10_000

#: Hyperparameters that a space may make genes of.
TRAINING_GENES = ("learning_rate", "batch_size", "optimizer", "schedule", "weight_decay", "l1", "dropout")


@dataclass(frozen=True)
class Candidate:
    """Point of a search space: the network and the training that a genome stands for.

    Attributes:
        architecture: The float network.
        training: Hyperparameters that are genes of the space, as sorted (name, value) pairs.
    """

    architecture: Architecture
    training: tuple[tuple[str, Scalar], ...] = ()

    @cached_property
    def id(self) -> str:
        """``Architecture.id``, with a suffix where training genes make candidates differ."""
        if not self.training:
            return self.architecture.id
        text = json.dumps(self.training, separators=(",", ":"))
        return f"{self.architecture.id}-{hashlib.sha256(text.encode()).hexdigest()[:6]}"


#: Hyperparameters; its errors say which one is wrong.
_TRAINING = TypeAdapter(Annotated[Training, CHECKED])


def _known_genes(training: Mapping[str, Any]) -> Mapping[str, Any]:
    for name, values in training.items():
        if name not in TRAINING_GENES:
            raise ValueError(f"{name!r} cannot be a gene: one of {', '.join(TRAINING_GENES)}")
        for value in values:
            _TRAINING.validate_python({name: value})
    return training


class SearchSpace(Checked):
    """Blocks in a row, then an output layer without an activation.

    Attributes:
        input: Shape of one sample, channels last; a single number means a vector.
        outputs: Units of the output layer (classes or regressed values); a map is flattened before it.
        blocks: The blocks in order.
        output_layer: Kind of the output layer, dense by default, and the bit width and sparsity of its kernel, where they are
            searched.
        training: Hyperparameters that are searched with the architecture: name -> values.
        firmware: ``exact`` refuses choices that never become bit-exact firmware, and makes a candidate infeasible whose
            shapes forbid it. ``any`` allows everything.
    """

    input: Annotated[tuple[PositiveInt, ...], BeforeValidator(as_tuple)]
    outputs: PositiveInt
    blocks: tuple[AnyBlock, ...] = Field(min_length=1)
    output_layer: OutputLayer = OutputLayer()
    training: Annotated[dict[str, Values[Scalar]], AfterValidator(_known_genes)] = Field(default_factory=dict)
    firmware: Literal["exact", "any"] = "any"

    @model_validator(mode="after")
    def _size_is_sane(self) -> Self:
        count = sum(block.repeat * len(block.choices()) for block in self.blocks)
        if count > MOST_CHOICES:
            raise ValueError(f"the space has {count} choices, more than {MOST_CHOICES}: repeat less, or give fewer layers")
        return self

    @model_validator(mode="after")
    def _compression_is_exact(self) -> Self:
        if self.firmware != "exact" and self.has_compression_genes:
            raise ValueError("bit widths or sparsities are genes: candidates are trained quantized; declare firmware: exact")
        return self

    @property
    def identity(self) -> dict[str, Any]:
        """Fields that make the space, for :func:`kerasnac.core.store.keys.content_key`, as YAML has them."""
        return self.model_dump(mode="json", exclude_defaults=True)

    @cached_property
    def expanded(self) -> tuple[Block, ...]:
        """The blocks with repeats written out."""
        return tuple(block for block in self.blocks for _ in range(block.repeat))

    @cached_property
    def _all_choices(self) -> tuple[tuple[str, Choice], ...]:
        blocks = ((f"{i}.{c.name}", c) for i, block in enumerate(self.expanded) for c in block.choices())
        output = ((f"output_layer.{c.name}", c) for c in self.output_layer.kernel_choices())
        training = ((f"training.{name}", Choice(name, values)) for name, values in self.training.items())
        return (*blocks, *output, *training)

    @property
    def has_compression_genes(self) -> bool:
        """True if bit widths or sparsities are genes, so that candidates are trained quantized."""
        return any(name.rsplit(".", 1)[-1] in COMPRESSION_PARAMS for name in self._values)

    @cached_property
    def _values(self) -> Mapping[str, tuple[Scalar, ...]]:
        return {name: choice.values for name, choice in self._all_choices}

    @cached_property
    def genes(self) -> Mapping[str, tuple[Scalar, ...]]:
        """The genes in genome order: full name -> values. A choice with one value is not a gene."""
        return {name: values for name, values in self._values.items() if len(values) > 1}

    @cached_property
    def gene_blocks(self) -> tuple[slice, ...]:
        """The stretches of the genome that belong together: one per block, then output layer and training."""
        owners = [name.split(".", 1)[0] for name in self.genes]
        starts = [i for i, owner in enumerate(owners) if i == 0 or owner != owners[i - 1]]
        return tuple(slice(a, b) for a, b in pairwise([*starts, len(owners)]))

    @cached_property
    def cardinalities(self) -> tuple[int, ...]:
        """Number of values of every gene."""
        return tuple(len(values) for values in self.genes.values())

    def decode(self, genome: Sequence[int]) -> Candidate:
        """Return the candidate that a genome stands for.

        Raises:
            Infeasible: If its layers do not fit together; says which and why.
            SpaceError: If the genome has the wrong length or a gene out of range.
        """
        return self._express(self._picks(genome).__getitem__)

    def canonical(self, genome: Sequence[int]) -> Genome:
        """Return the genome with inactive genes set to zero; it decodes to the same candidate."""
        return tuple(int(gene) if active else 0 for gene, active in zip(genome, self.active(genome), strict=True))

    def active(self, genome: Sequence[int]) -> tuple[bool, ...]:
        """Return which genes matter: those that the blocks read while the genome is decoded."""
        picks = self._picks(genome)
        read = set()

        def look_up(name: str) -> Scalar:
            read.add(name)
            return picks[name]

        with suppress(Infeasible):  # The genes read up to the misfit are those that matter.
            self._express(look_up)
        return tuple(name in read for name in self.genes)

    def encode(self, candidate: Candidate | Architecture) -> Genome:
        """Return the canonical genome of a candidate; an architecture alone gets the first value of every training gene.

        Raises:
            SpaceError: If the candidate is not in the space.
        """
        if isinstance(candidate, Architecture):
            candidate = Candidate(candidate, tuple((name, values[0]) for name, values in sorted(self.training.items())))
        if candidate.architecture.input_shape != self.input:
            raise SpaceError(
                f"the architecture reads samples of shape {candidate.architecture.input_shape}, not {self.input}: "
                "it is not in this space"
            )
        training = {f"training.{name}": value for name, value in candidate.training}
        picks = self._assign(candidate, training)
        known = len(training) == len(self.training) and all(
            value in self._values.get(name, ()) for name, value in training.items()
        )
        if picks is None or not known:
            raise SpaceError(
                f"the architecture [{candidate.architecture}] {dict(candidate.training) or ''} is not in this space"
            )
        return self.canonical([values.index(picks[name]) if name in picks else 0 for name, values in self.genes.items()])

    def sample(self, rng: np.random.Generator) -> Genome:
        """Draw a random canonical genome, every gene uniform; it may be infeasible."""
        return self.canonical([int(g) for g in rng.integers(self.cardinalities)] if self.genes else ())

    def random_networks(self, tries: int) -> Iterator[Architecture]:
        """Yield the networks of so many random genomes, always the same, without those that are infeasible."""
        rng = np.random.default_rng(0)
        for _ in range(tries):
            with suppress(Infeasible):
                yield self.decode(self.sample(rng)).architecture

    def sample_feasible(self, rng: np.random.Generator, tries: int = 1000) -> Genome:
        """Draw a random canonical genome that decodes.

        Raises:
            SpaceError: If none of ``tries`` samples decodes; carries the last reason.
        """
        reason = ""
        for _ in range(tries):
            genome = self.sample(rng)
            try:
                self.decode(genome)
            except Infeasible as error:
                reason = str(error)
            else:
                return genome
        raise SpaceError(f"none of {tries} random genomes of the space is feasible; the last one: {reason}")

    def probe(self) -> None:
        """Decode a genome with every value of every gene if there are blocks of others, so that mistakes in these show.

        Raises:
            PluginError: Naming the block and what is wrong.
        """
        rng = np.random.default_rng(0)
        for i, count in enumerate(self.cardinalities if any(foreign_blocks(self.blocks)) else ()):
            for value in range(count):
                genome = self.sample(rng)
                with suppress(Infeasible):
                    self.decode((*genome[:i], value, *genome[i + 1 :]))

    def size(self) -> int:
        """Return the number of canonical genomes if all blocks fit together, counting only active genes."""
        others = different_picks(self.output_layer.kernel_choices()) * math.prod(map(len, self.training.values()))
        return math.prod(block.combinations() for block in self.expanded) * others

    def most_kernels(self) -> dict[str, float]:
        """Return how many layers of each kind with a kernel a candidate has at most: the blocks' bounds, added up."""
        blocks = [block.most_kernels(len(self.input)) for block in self.expanded]
        return {kind: (kind == "dense") + sum(most.get(kind, 0) for most in blocks) for kind in KERNEL_KINDS}

    def _picks(self, genome: Sequence[int]) -> dict[str, Scalar]:
        if len(genome) != len(self.genes):
            raise SpaceError(f"a genome of this space has {len(self.genes)} genes, got {len(genome)}")
        picks = {name: values[0] for name, values in self._values.items()}
        for (name, values), gene in zip(self.genes.items(), genome, strict=True):
            if not 0 <= gene < len(values):
                raise SpaceError(f"gene {name} = {gene} is outside 0..{len(values) - 1}")
            picks[name] = values[int(gene)]
        return picks

    def _express(self, look_up: Callable[[str], Scalar]) -> Candidate:
        training = tuple((name, look_up(f"training.{name}")) for name in sorted(self.training))
        return Candidate(Architecture(self.input, tuple(self._layers(look_up))), training)

    def _layers(self, look_up: Callable[[str], Scalar]) -> Iterator[LayerSpec]:
        shapes: list[Shape] = [self.input]  # of the input, then of every layer's output

        def placed(layer: LayerSpec) -> LayerSpec:
            inputs = (shapes[len(shapes) + offset] for offset in layer.inputs)
            if self.firmware == "exact" and (reason := unsupported_reason(layer, first=len(shapes) == 1)):
                raise Infeasible(reason)
            shapes.append(kind_of(layer).output_shape(layer, *inputs))
            return layer

        for i, block in enumerate(self.expanded):
            try:
                yield from map(placed, layers_of(block, Picks(look_up).within(i), shapes[-1]))
            except Infeasible as reason:
                raise Infeasible(f"block {i} ({block.block}): {reason}") from None
        yield from map(placed, flattened(shapes[-1]))
        yield placed(self.output_layer.layer(self.outputs, Picks(look_up, "output_layer.")))

    def _assign(self, target: Candidate, assigned: dict[str, Scalar]) -> dict[str, Scalar] | None:
        """Find the picks that give the target, depth first over the genes in the order in which they are read."""
        fixed = {name: values[0] for name, values in self._values.items() if len(values) == 1}

        def look_up(name: str) -> Scalar:
            known = fixed | assigned
            if name not in known:
                raise _Unassigned(name)
            return known[name]

        try:
            # Laziness prunes: a layer that differs from the target's ends the branch before later genes are read.
            if all(made == wanted for made, wanted in zip_longest(self._layers(look_up), target.architecture.layers)):
                return assigned
        except Infeasible:
            return None
        except _Unassigned as gene:
            name = str(gene)
            branches = (self._assign(target, {**assigned, name: value}) for value in self.genes[name])
            return next((found for found in branches if found is not None), None)
        return None


class _Unassigned(Exception):
    """Signal that a gene was read which the search for a genome has not fixed yet."""
