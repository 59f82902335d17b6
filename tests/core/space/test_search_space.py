"""Search spaces: genomes, candidates, and the way between them."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import replace
from typing import Literal

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kerasnac.core.network.architecture import Architecture
from kerasnac.core.network.kinds import Shape
from kerasnac.core.network.layers import LayerSpec
from kerasnac.core.network.precision import Precision
from kerasnac.core.space.blocks import Block, Choice, Choose, Conv, Mlp, Nothing, Picks
from kerasnac.core.space.blocks.base import Kernel
from kerasnac.core.space.search_space import Candidate, Genome, SearchSpace
from kerasnac.errors import ConfigError, Infeasible, SpaceError

FITTING = {
    "depth": SearchSpace(input=6, outputs=3, blocks=(Mlp(widths=((4, 8, 12), (4, 8), 2), depth=(1, 2, 3)),)),
    "norms": SearchSpace(
        input=6, outputs=3, blocks=(Mlp(widths=(4, (4, 8)), depth=(1, 2), norm=("none", "batch"), activation=("relu", "tanh")),)
    ),
    "shared": SearchSpace(
        input=6,
        outputs=3,
        blocks=(
            Mlp(widths=(4, (4, 8)), depth=(2, 1), norm=("none", "batch"), activation=("relu", "gelu", "tanh"), shared=True),
        ),
    ),
    "optional": SearchSpace(
        input=(5, 5, 1),
        outputs=2,
        blocks=(Choose(options=(Conv(channels=(2, 4), padding=("same", "valid")), Nothing()), repeat=2), Mlp(widths=((4, 8),))),
    ),
    "nested": SearchSpace(
        input=6,
        outputs=1,
        blocks=(Choose(options=(Nothing(), Choose(options=(Mlp(widths=((3, 5),)), Mlp(widths=((7, 9), 3)))))),),
    ),
    "codesign": SearchSpace(
        input=6,
        outputs=2,
        firmware="exact",
        blocks=(Mlp(widths=((4, 8), 4), depth=(1, 2), weight_bits=(3, 5), activation_bits=(4, 6), sparsity=(0.25, 0.5, 0.75)),),
        output_layer=Kernel(weight_bits=(3, 4), sparsity=(0, 0.5)),
        training={"learning_rate": [1e-3, 1e-2]},
    ),
    "training": SearchSpace(
        input=6,
        outputs=1,
        blocks=(Mlp(widths=((4, 8),)),),
        training={"learning_rate": [1e-3, 1e-2], "optimizer": ["adam", "sgd"], "dropout": 0.1},
    ),
}
MISFITTING = {
    "kernels": SearchSpace(
        input=(5, 5, 1), outputs=2, blocks=(Conv(convolutions=2, channels=(2, 3), kernel=(1, 3, 5)), Mlp(widths=((4, 8),)))
    ),
    "order": SearchSpace(
        input=(5, 5, 1), outputs=2, blocks=(Choose(options=(Mlp(widths=(4,)), Nothing())), Conv(channels=(1, 2)))
    ),
}
SPACES = FITTING | MISFITTING


def genomes(space: SearchSpace) -> st.SearchStrategy[Genome]:
    return st.tuples(*(st.integers(0, n - 1) for n in space.cardinalities))


def all_genomes(space: SearchSpace) -> Iterator[Genome]:
    return itertools.product(*map(range, space.cardinalities))


points = st.sampled_from(list(SPACES.values())).flatmap(lambda space: st.tuples(st.just(space), genomes(space)))
pairs = st.sampled_from(list(SPACES.values())).flatmap(lambda space: st.tuples(st.just(space), genomes(space), genomes(space)))


def meaning(space: SearchSpace, genome: Genome) -> Candidate | str:
    """The candidate, or why there is none."""
    try:
        return space.decode(genome)
    except Infeasible as reason:
        return str(reason)


@given(points)
def test_every_genome_decodes_or_says_which_block_misfits(point: tuple[SearchSpace, Genome]) -> None:
    space, genome = point
    found = meaning(space, genome)
    if isinstance(found, str):
        assert space in MISFITTING.values()
        assert found.startswith("block ")
    else:
        assert found.architecture.input_shape == space.input
        assert found.architecture.output_shape == (space.outputs,)


@given(points)
def test_canonical_keeps_the_meaning_and_is_idempotent(point: tuple[SearchSpace, Genome]) -> None:
    space, genome = point
    canonical = space.canonical(genome)
    assert space.canonical(canonical) == canonical
    assert meaning(space, canonical) == meaning(space, genome)


@given(points, st.data())
def test_inactive_genes_change_nothing(point: tuple[SearchSpace, Genome], data: st.DataObject) -> None:
    space, genome = point
    other = [
        g if active else data.draw(st.integers(0, n - 1))
        for g, active, n in zip(genome, space.active(genome), space.cardinalities, strict=True)
    ]
    assert meaning(space, other) == meaning(space, genome)
    assert space.canonical(other) == space.canonical(genome)


@given(pairs)
def test_equal_candidates_have_equal_ids_and_others_do_not(pair: tuple[SearchSpace, Genome, Genome]) -> None:
    space, *both = pair
    left, right = (meaning(space, genome) for genome in both)
    if isinstance(left, Candidate) and isinstance(right, Candidate):
        assert (left == right) == (left.id == right.id)


@given(points)
def test_encode_inverts_decode(point: tuple[SearchSpace, Genome]) -> None:
    space, genome = point
    candidate = meaning(space, genome)
    if isinstance(candidate, Candidate):
        encoded = space.encode(candidate)
        assert space.canonical(encoded) == encoded
        assert space.decode(encoded) == candidate


@pytest.mark.parametrize("name", FITTING)
def test_size_counts_the_canonical_genomes(name: str) -> None:
    space = FITTING[name]
    assert space.size() == len({space.canonical(genome) for genome in all_genomes(space)})


@pytest.mark.parametrize("name", MISFITTING)
def test_size_bounds_the_canonical_genomes_where_blocks_misfit(name: str) -> None:
    space = MISFITTING[name]
    assert space.size() >= len({space.canonical(genome) for genome in all_genomes(space)})


def test_size_of_a_huge_space_needs_no_enumeration() -> None:
    space = SearchSpace(input=6, outputs=3, blocks=(Mlp(widths=[tuple(range(1, 101))] * 10),))
    assert space.size() == 100**10


FOREIGN = {
    "other width": lambda a: replace(a, layers=(LayerSpec.of("dense", units=5), *a.layers[1:])),
    "other input": lambda a: replace(a, input_shape=(7,)),
    "layer too many": lambda a: replace(a, layers=(*a.layers, LayerSpec.of("activation", fn="relu"))),
    "layer too few": lambda a: replace(a, layers=a.layers[:-1]),
    "nothing": lambda a: replace(a, layers=()),
    "quantized input": lambda a: replace(a, layers=(replace(a.layers[0], weight=Precision(8, 2)), *a.layers[1:])),
}


@pytest.mark.parametrize("change", FOREIGN)
def test_encode_refuses_an_architecture_of_another_space(change: str) -> None:
    space = FITTING["depth"]
    architecture = space.decode(space.sample(np.random.default_rng(0))).architecture
    assert space.decode(space.encode(architecture)).architecture == architecture
    with pytest.raises(SpaceError, match="is not in this space"):
        space.encode(FOREIGN[change](architecture))


@pytest.mark.parametrize(
    "training", [{}, {"learning_rate": 1e-3}, {"learning_rate": 0.5, "optimizer": "adam", "dropout": 0.1}, {"l1": 0.1}]
)
def test_encode_refuses_other_training_genes(training: dict[str, float | str]) -> None:
    space = FITTING["training"]
    candidate = space.decode((0, 0, 0))
    with pytest.raises(SpaceError, match="is not in this space"):
        space.encode(replace(candidate, training=tuple(sorted(training.items()))))


def test_encode_finds_one_of_many_genomes_of_an_architecture() -> None:
    block = Choose(options=(Mlp(widths=((4, 8),)), Nothing()), repeat=2)
    space = SearchSpace(input=6, outputs=3, blocks=(block,))
    first = next(g for g in all_genomes(space) if str(space.decode(g).architecture) == "dense-4 relu dense-3")
    assert space.decode(space.encode(space.decode(first))) == space.decode(first)


@pytest.mark.parametrize(
    ("genome", "message"), [((0,), "3 genes, got 1"), ((3, 0, 0), "= 3 is outside 0..2"), ((0, 0, -1), "= -1 is outside")]
)
def test_genomes_of_other_spaces_are_refused(genome: Genome, message: str) -> None:
    with pytest.raises(SpaceError, match=message):
        FITTING["depth"].decode(genome)


def test_a_single_value_is_not_a_gene() -> None:
    space = SearchSpace(input=6, outputs=3, blocks=(Mlp(widths=(4, (4, 8))),), training={"dropout": [0.0], "l1": [0.0, 1e-4]})
    assert dict(space.genes) == {"0.1.units": (4, 8), "training.l1": (0.0, 1e-4)}
    assert space.decode((1, 1)).training == (("dropout", 0.0), ("l1", 1e-4))


def test_repeats_have_genes_of_their_own() -> None:
    space = SearchSpace(input=6, outputs=3, blocks=(Mlp(widths=((4, 8),), repeat=2),))
    assert str(space.decode((0, 1)).architecture) == "dense-4 relu dense-8 relu dense-3"


@pytest.mark.parametrize("name", SPACES)
def test_gene_blocks_cut_the_genome_between_blocks(name: str) -> None:
    space = SPACES[name]
    names = list(space.genes)
    owners = [{gene.split(".")[0] for gene in names[block]} for block in space.gene_blocks]
    assert [gene for block in space.gene_blocks for gene in names[block]] == names
    assert all(len(owner) == 1 for owner in owners)
    assert len(set.union(*owners)) == len(owners)


def test_training_genes_make_candidates_differ() -> None:
    space = FITTING["training"]
    candidates = [space.decode(genome) for genome in all_genomes(space)]
    assert len({c.id for c in candidates}) == space.size() == 8
    assert len({c.architecture.id for c in candidates}) == 2
    assert dict(candidates[0].training) == {"learning_rate": 1e-3, "optimizer": "adam", "dropout": 0.1}
    assert all(c.id.startswith(f"{c.architecture.id}-") for c in candidates)


@pytest.mark.parametrize(
    ("training", "message"),
    [
        ({"epochs": [1, 2]}, "'epochs' cannot be a gene"),
        ({"learning_rate": ["fast"]}, "valid number"),
        ({"learning_rate": ["1e-3"]}, r"valid number \(got '1e-3'\)"),
        ({"learning_rate": [-1.0]}, "learning_rate: .*greater than 0"),
        ({"batch_size": [1.5]}, "valid integer"),
        ({"optimizer": ["adamw"]}, "'adam', 'sgd'"),
        ({"dropout": []}, "empty list"),
    ],
)
def test_training_genes_are_checked(training: dict[str, list[float | str]], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        SearchSpace(input=6, outputs=3, blocks=(Mlp(widths=(4,)),), training=training)


def test_samples_are_canonical_and_differ() -> None:
    space = FITTING["depth"]
    rng = np.random.default_rng(0)
    samples = [space.sample(rng) for _ in range(500)]
    assert all(space.canonical(genome) == genome for genome in samples)
    assert len(set(samples)) == space.size()


def test_feasible_samples_decode() -> None:
    space = MISFITTING["kernels"]
    rng = np.random.default_rng(0)
    assert any(isinstance(meaning(space, space.sample(rng)), str) for _ in range(50))
    for _ in range(50):
        space.decode(space.sample_feasible(rng))


def test_an_impossible_space_says_why() -> None:
    space = SearchSpace(input=(2, 2, 1), outputs=2, blocks=(Conv(channels=(1, 2)),))
    with pytest.raises(SpaceError, match=r"10 .* block 0 \(conv\): 3x3 .*2x2"):
        space.sample_feasible(np.random.default_rng(0), tries=10)


def test_sampling_a_space_without_choices() -> None:
    space = SearchSpace(input=6, outputs=3, blocks=(Mlp(widths=(4,)),))
    assert space.sample(np.random.default_rng(0)) == ()
    assert space.size() == 1


class Bottleneck(Block):
    """A narrow layer between two wide ones; the wide width matters only if there is a bottleneck."""

    block: Literal["bottleneck"] = "bottleneck"
    narrow: tuple[int, ...]

    def choices(self) -> tuple[Choice, ...]:
        return (Choice("narrow", (0, *self.narrow)), Choice("wide", (8, 16, 24)))

    def layers(self, picks: Picks, shape: Shape) -> Iterator[LayerSpec]:
        if int(picks["narrow"]) > shape[0]:
            raise Infeasible("wider than its input")
        if picks["narrow"]:
            yield LayerSpec.of("dense", units=picks["narrow"])
            yield LayerSpec.of("dense", units=picks["wide"])


def test_a_block_of_ones_own_works_without_being_registered() -> None:
    space = SearchSpace(
        input=6,
        outputs=3,
        blocks=(Bottleneck(narrow=(2, 4)), Choose(options=(Nothing(), Bottleneck(narrow=(3,)))), Bottleneck(narrow=(9,))),
    )
    candidate = space.decode((1, 2, 1, 1, 1, 1, 0))
    assert str(candidate.architecture) == "dense-2 dense-24 dense-3 dense-16 dense-9 dense-8 dense-3"
    assert space.encode(candidate) == (1, 2, 1, 1, 1, 1, 0)
    assert space.canonical((0, 2, 0, 1, 1, 0, 2)) == (0,) * 7
    assert meaning(space, (0, 0, 0, 0, 0, 1, 0)) == "block 2 (bottleneck): wider than its input"


def test_a_misfit_raised_by_a_block_names_it() -> None:
    space = SearchSpace(input=6, outputs=3, blocks=(Bottleneck(narrow=(9,)),))
    with pytest.raises(Infeasible, match=r"block 0 \(bottleneck\): wider"):
        space.decode((1, 0))


@given(st.integers(1, 3), st.integers(1, 3))
def test_mlp_flattens_maps_and_leaves_vectors(rows: int, channels: int) -> None:
    space = SearchSpace(input=(rows, rows, channels), outputs=2, blocks=(Mlp(widths=((4, 8),)),))
    kinds = [layer.kind for layer in space.decode((0,)).architecture.layers]
    assert kinds == ["flatten", "dense", "activation", "dense"]


def test_spaces_refuse_unknown_names() -> None:
    with pytest.raises(ConfigError, match="output: unknown key"):
        SearchSpace(input=6, outputs=3, blocks=(Mlp(widths=(4,)),), output=3)  # type: ignore[call-arg]
    with pytest.raises(ConfigError, match="unknown activation 'rleu'"):
        Mlp(widths=(4,), activation=("rleu",))
    with pytest.raises(ConfigError, match="depth 3 needs as many entries"):
        Mlp(widths=(4,), depth=(3,))


def test_an_architecture_needs_no_space() -> None:
    candidate = Candidate(Architecture((6,), (LayerSpec.of("dense", units=3),)))
    assert candidate.id == candidate.architecture.id


def test_genes_after_a_misfit_are_inactive() -> None:
    space = MISFITTING["kernels"]
    names = dict.fromkeys(space.genes, 0)
    too_large = tuple((names | {"0.0.kernel": 1, "0.1.kernel": 2, "1.0.units": 1}).values())
    assert "block 0 (conv): 5x5 kernel is larger than its 3x3 map" in str(meaning(space, too_large))
    assert dict(zip(space.genes, space.canonical(too_large), strict=True)) == names | {"0.0.kernel": 1, "0.1.kernel": 2}


class TestFewValues:
    """Ternary and binary among the widths."""

    SPACE = SearchSpace(
        input=6,
        outputs=3,
        firmware="exact",
        blocks=(Mlp(widths=(4, 8), depth=(1, 2), weight_bits=("ternary", "binary", 4), sparsity=(0, 0.25, 0.5)),),
        output_layer=Kernel(weight_bits=("binary", 3), sparsity=(0, 0.5)),
    )

    def test_the_sparsity_of_a_binary_kernel_is_no_gene(self) -> None:
        space, rng = self.SPACE, np.random.default_rng(0)
        for genome in (space.sample(rng) for _ in range(50)):
            layers = space.decode(genome).architecture.layers
            kernels = [dict(layer.params) for layer in layers if layer.kind == "dense"]
            assert all(("sparsity" in params) == (params["weight_bits"] != "binary") for params in kernels)
            assert space.encode(space.decode(genome)) == genome

    def test_the_size_counts_what_differs(self) -> None:
        one = 2 * 3 + 1  # Two widths with three sparsities, and binary.
        assert self.SPACE.size() == (one + one**2) * (1 * 2 + 1)
        genomes = {self.SPACE.canonical(genome) for genome in itertools.product(*map(range, self.SPACE.cardinalities))}
        assert len(genomes) == self.SPACE.size()

    def test_it_survives_yaml_and_has_short_descriptions(self) -> None:
        assert SearchSpace.model_validate(self.SPACE.identity) == self.SPACE
        picked = self.SPACE.decode(self.SPACE.encode(self.SPACE.decode([0] * len(self.SPACE.genes))))
        assert str(picked.architecture) == "dense-4-ternary-s0 relu dense-3-binary"
