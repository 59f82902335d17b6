"""NSGA-II on toy spaces whose fronts are known."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from kerasnac.adapters.search.fronts import nondominated
from kerasnac.adapters.search.nsga2 import (
    Hypervolume,
    Nsga2,
    SteadyNsga2,
    _BlockCrossover,
    _GeneMutation,
    fittest,
)
from kerasnac.core.space.blocks import Choose, Conv, Mlp, Nothing
from kerasnac.core.space.search_space import Candidate, Genome, SearchSpace
from kerasnac.errors import Infeasible

WIDTHS = tuple(range(1, 9))
#: Four blocks of one layer each: 8**4 candidates.
TOY = SearchSpace(input=6, outputs=3, blocks=tuple(Mlp(widths=(WIDTHS,)) for _ in range(4)))
#: Conditional genes, duplicates and misfits: 4 x 4 maps, in which two 3x3 kernels are too many.
ROUGH = SearchSpace(
    input=(4, 4, 1),
    outputs=2,
    blocks=(
        Choose(options=(Nothing(), Conv(channels=(1, 2), kernel=(1, 3)), Conv(channels=(2, 3), kernel=(2, 3))), repeat=2),
        Mlp(widths=((2, 3), (2, 3), (2, 3)), depth=(1, 2, 3)),
    ),
)


def units(candidate: Candidate) -> list[int]:
    return [int(layer["units"]) for layer in candidate.architecture.layers if layer.kind == "dense"][:-1]


def toy_losses(candidate: Candidate) -> tuple[float, float]:
    """Two objectives whose front is where all widths are equal: from (0, 196) to (196, 0)."""
    first, second = (sum((u - goal) ** 2 for u in units(candidate)) for goal in WIDTHS[:: len(WIDTHS) - 1])
    return float(first), float(second)


def population(space: SearchSpace, size: int, seed: int = 0) -> list[Genome]:
    rng = np.random.default_rng(seed)
    found: dict[str, Genome] = {}
    while len(found) < size:
        genome = space.sample_feasible(rng)
        found.setdefault(space.decode(genome).id, genome)
    return list(found.values())


def run(space: SearchSpace, generations: int, *, size: int = 20, seed: int = 0) -> list[list[Genome]]:
    """The generations that NSGA-II asks for on the toy objectives; misfits are told as such."""
    algorithm = Nsga2(space, population(space, size), size=size, objectives=2, constraints=1, seed=seed)
    asked = []
    for _ in range(generations):
        genomes = algorithm.ask()
        if not genomes:
            break
        asked.append(genomes)
        losses, violations = np.full((len(genomes), 2), 1e30), np.ones((len(genomes), 1))
        for i, genome in enumerate(genomes):
            if key(space, genome) is not None:
                losses[i], violations[i] = toy_losses(space.decode(genome)), 0
        algorithm.tell(losses, violations)
    return asked


def key(space: SearchSpace, genome: Genome) -> str | None:
    try:
        return space.decode(genome).id
    except Infeasible:
        return None


def losses_of(space: SearchSpace, genomes: list[Genome]) -> np.ndarray:
    return np.array([toy_losses(space.decode(genome)) for genome in genomes])


def test_the_search_reaches_the_known_front() -> None:
    """A fifth of the candidates holds most of the true front, and much more of it than random ones do."""
    everything = losses_of(TOY, list(itertools.product(range(8), repeat=4)))
    front = {tuple(everything[i]) for i in nondominated(everything)}
    searched, drawn = [], []
    for seed in range(2):
        losses = losses_of(TOY, list(itertools.chain(*run(TOY, 40, seed=seed))))
        searched.append(len(front & set(map(tuple, losses))) / len(front))
        drawn.append(
            len(front & set(map(tuple, np.random.default_rng(seed).permutation(everything)[: len(losses)]))) / len(front)
        )
    assert np.mean(searched) > 0.6
    assert np.mean(searched) > 1.3 * np.mean(drawn)


def test_one_seed_gives_one_sequence_of_genomes() -> None:
    assert run(ROUGH, 5, seed=3) == run(ROUGH, 5, seed=3)
    assert run(ROUGH, 5, seed=3)[1:] != run(ROUGH, 5, seed=4)[1:]


def test_the_sequence_does_not_depend_on_global_random_numbers() -> None:
    np.random.seed(1)
    first = run(TOY, 4)
    np.random.seed(2)
    assert run(TOY, 4) == first


@pytest.mark.parametrize("space", [TOY, ROUGH], ids=["toy", "rough"])
def test_no_candidate_is_asked_for_twice(space: SearchSpace) -> None:
    asked = list(itertools.chain(*run(space, 12)))
    keys = [key(space, genome) or str(space.canonical(genome)) for genome in asked]
    assert len(keys) > 200
    assert len(set(keys)) == len(keys)


def test_the_first_generation_is_the_given_one() -> None:
    assert run(TOY, 1)[0] == population(TOY, 20)


@pytest.mark.parametrize("first", [1, 5, 33])
def test_a_first_generation_of_any_size_is_followed_by_whole_ones(first: int) -> None:
    algorithm = Nsga2(TOY, population(TOY, first), size=20, objectives=2, constraints=1, seed=0)
    sizes = []
    for _ in range(4):
        genomes = algorithm.ask()
        sizes.append(len(genomes))
        algorithm.tell(losses_of(TOY, genomes), np.zeros((len(genomes), 1)))
    assert sizes == [first, 20, 20, 20]


def test_genomes_are_canonical() -> None:
    for genome in itertools.chain(*run(ROUGH, 10)):
        assert ROUGH.canonical(genome) == genome


def test_few_genomes_are_infeasible() -> None:
    asked = list(itertools.chain(*run(ROUGH, 12)))
    assert sum(key(ROUGH, genome) is None for genome in asked) < 0.02 * len(asked)


@pytest.mark.parametrize("size", [1, 2, 5])
def test_a_small_space_is_searched_to_its_end(size: int) -> None:
    space = SearchSpace(input=6, outputs=3, blocks=(Mlp(widths=((4, 8, 12), (4, 8)), depth=(1, 2)),))
    asked = list(itertools.chain(*run(space, 50, size=size)))
    assert {space.decode(genome).id for genome in asked} == {
        space.decode(g).id for g in itertools.product(range(2), range(3), range(2))
    }
    assert len(asked) == space.size() == 9


# One by one.


def steady(space: SearchSpace, many: int, *, lag: int = 1, size: int = 20, seed: int = 0, first: int = 20) -> list[Genome]:
    """The genomes that are asked for one by one; results are told when so many others have been asked for."""
    algorithm = SteadyNsga2(space, population(space, first), size=size, objectives=2, constraints=1, seed=seed)
    asked: list[Genome] = []
    untold: list[Genome] = []
    while len(asked) < many:
        genome = algorithm.ask() if len(untold) < lag else None
        if genome is not None:
            asked.append(genome)
            untold.append(genome)
        elif untold:
            oldest = untold.pop(0)
            known = key(space, oldest) is not None
            losses = toy_losses(space.decode(oldest)) if known else (1e30, 1e30)
            algorithm.tell(oldest, np.array([losses]), np.array([[0.0 if known else 1.0]]))
        else:
            break
    return asked


@pytest.mark.parametrize("lag", [pytest.param(1, marks=pytest.mark.slow), 40])
def test_the_search_one_by_one_is_as_good_as_in_generations(lag: int) -> None:
    everything = losses_of(TOY, list(itertools.product(range(8), repeat=4)))
    front = {tuple(everything[i]) for i in nondominated(everything)}
    found = front & set(map(tuple, losses_of(TOY, steady(TOY, 800, lag=lag))))
    assert len(found) > 0.5 * len(front)


def test_one_seed_and_one_order_of_results_give_one_sequence_of_genomes() -> None:
    np.random.seed(1)
    first = steady(ROUGH, 60, lag=5, seed=3)
    np.random.seed(2)
    assert steady(ROUGH, 60, lag=5, seed=3) == first
    assert steady(ROUGH, 60, lag=6, seed=3)[:20] == steady(ROUGH, 60, lag=5, seed=4)[:20] == first[:20]
    assert len({tuple(steady(ROUGH, 60, lag=lag, seed=seed)) for lag, seed in ((5, 3), (6, 3), (5, 4))}) == 3


@pytest.mark.parametrize("space", [TOY, ROUGH], ids=["toy", "rough"])
def test_no_candidate_is_asked_for_twice_one_by_one(space: SearchSpace) -> None:
    asked = steady(space, 200, lag=30)
    keys = [key(space, genome) or str(space.canonical(genome)) for genome in asked]
    assert len(set(keys)) == len(keys) == 200
    assert asked[:20] == population(space, 20)
    assert all(space.canonical(genome) == genome for genome in asked)


@pytest.mark.parametrize("first", [1, 33])
def test_nothing_is_bred_before_all_of_the_first_are_told(first: int) -> None:
    algorithm = SteadyNsga2(TOY, population(TOY, first), size=20, objectives=2, constraints=1, seed=0)
    asked = [algorithm.ask() for _ in range(first)]
    for genome in reversed(asked):
        assert genome is not None
        assert algorithm.ask() is None
        algorithm.tell(genome, np.array([toy_losses(TOY.decode(genome))]), np.zeros((1, 1)))
    assert algorithm.ask() not in (None, *asked)


@pytest.mark.parametrize("lag", [1, 3, 50])
def test_a_small_space_is_searched_to_its_end_one_by_one(lag: int) -> None:
    space = SearchSpace(input=6, outputs=3, blocks=(Mlp(widths=((4, 8, 12), (4, 8)), depth=(1, 2)),))
    asked = steady(space, 50, lag=lag, size=2, first=2)
    assert len({space.decode(genome).id for genome in asked}) == len(asked) == space.size() == 9


@given(st.integers(0, 10_000))
def test_mutation_always_changes_the_candidate(seed: int) -> None:
    rng = np.random.default_rng(seed)
    genome = ROUGH.sample_feasible(rng)
    (mutated,) = _GeneMutation(ROUGH)._do(None, np.array([genome]), random_state=rng)
    assert ROUGH.decode(mutated).id != ROUGH.decode(genome).id
    assert ROUGH.canonical(mutated) == tuple(mutated)


def test_layers_that_a_mutation_switches_on_may_have_any_value() -> None:
    space = SearchSpace(input=6, outputs=3, blocks=(Mlp(widths=((2, 3), (4, 5, 6)), depth=(1, 2)),))
    rng = np.random.default_rng(0)
    mutated = _GeneMutation(space)._do(None, np.array([space.encode(space.decode((0, 0, 0)))] * 200), random_state=rng)
    second = {tuple(units(space.decode(genome)))[1] for genome in mutated if genome[0] == 1}
    assert second == {4, 5, 6}


def test_mutation_changes_about_one_gene() -> None:
    rng = np.random.default_rng(0)
    before = np.array([TOY.sample(rng) for _ in range(500)])
    changed = (_GeneMutation(TOY)._do(None, before, random_state=rng) != before).sum(axis=1)
    assert changed.min() == 1
    assert 1.2 < changed.mean() < 2.2


def test_a_space_of_one_candidate_cannot_be_mutated() -> None:
    space = SearchSpace(input=6, outputs=3, blocks=(Choose(options=(Mlp(widths=(4,)), Mlp(widths=(4,)))),))
    (mutated,) = _GeneMutation(space)._do(None, np.array([(0,)]), random_state=np.random.default_rng(0))
    assert space.decode(mutated).id == space.decode((0,)).id


@given(st.integers(0, 10_000))
def test_crossover_swaps_whole_blocks(seed: int) -> None:
    rng = np.random.default_rng(seed)
    parents = np.array([[ROUGH.sample(rng)], [ROUGH.sample(rng)]])
    children = _BlockCrossover(ROUGH)._do(None, parents, random_state=rng)
    for block in ROUGH.gene_blocks:
        pair = [tuple(child[0, block]) for child in children]
        assert pair in ([tuple(p[0, block]) for p in parents], [tuple(p[0, block]) for p in parents[::-1]])


@given(hnp.arrays(np.float64, hnp.array_shapes(min_dims=2, max_dims=2, max_side=12), elements=st.integers(-5, 5).map(float)))
def test_nondominated_by_brute_force(losses: np.ndarray) -> None:
    def dominated(i: int) -> bool:
        return any((other <= losses[i]).all() and (other < losses[i]).any() for other in losses)

    front = nondominated(losses)
    assert sorted(front) == [i for i in range(len(losses)) if not dominated(i)]
    assert [losses[i, 0] for i in front] == sorted(losses[i, 0] for i in front)


def test_the_front_of_nothing_is_empty() -> None:
    assert nondominated(np.empty((0, 2))) == []


#: Points of small whole numbers, so that many are equal in one objective or in all; violations, of which some are none.
scores = st.integers(1, 3).flatmap(
    lambda objectives: st.integers(1, 12).flatmap(
        lambda points: st.tuples(
            hnp.arrays(np.float64, (points, objectives), elements=st.integers(0, 5).map(float)),
            hnp.arrays(np.float64, (points, 2), elements=st.integers(-2, 2).map(float)),
        )
    )
)


def violation(row: np.ndarray) -> float:
    return float(np.maximum(row, 0).sum())


@given(scores, st.integers(0, 14))
def test_the_fittest_are_as_many_as_asked_for_and_always_the_same(
    given_scores: tuple[np.ndarray, np.ndarray], count: int
) -> None:
    losses, violations = given_scores
    chosen = fittest(losses, violations, count)
    assert len(chosen) == min(count, len(losses))
    assert chosen == sorted(set(chosen))
    np.random.seed(count)
    assert fittest(losses, violations, count) == chosen


@given(scores, st.integers(0, 14))
def test_the_fittest_are_feasible_first_and_then_nearest_to_it(given_scores: tuple[np.ndarray, np.ndarray], count: int) -> None:
    losses, violations = given_scores
    chosen = fittest(losses, violations, count)
    rest = set(range(len(losses))) - set(chosen)
    beyond = [violation(row) for row in violations]
    assert max((beyond[i] for i in chosen), default=0) <= min((beyond[i] for i in rest), default=np.inf)


@given(scores, st.integers(1, 14))
def test_no_point_that_is_left_out_dominates_one_of_the_fittest(
    given_scores: tuple[np.ndarray, np.ndarray], count: int
) -> None:
    losses, _ = given_scores
    chosen = fittest(losses, np.zeros((len(losses), 1)), count)
    for out in set(range(len(losses))) - set(chosen):
        assert not any((losses[out] <= losses[i]).all() and (losses[out] < losses[i]).any() for i in chosen)


def test_the_ends_of_a_front_are_among_the_fittest() -> None:
    front = np.array([(float(i), float((9 - i) ** 2)) for i in range(10)])
    for count in (2, 3, 5):
        assert {0, 9} <= set(fittest(front, np.zeros((10, 1)), count))


def test_crowded_points_are_left_out_first() -> None:
    front = np.array([(0.0, 10.0), (4.9, 5.1), (5.0, 5.0), (5.1, 4.9), (10.0, 0.0)])
    assert 2 not in fittest(front, np.zeros((5, 1)), 4)


@pytest.mark.parametrize(
    ("points", "volume"),
    [
        ([(0, 0)], 1.0),
        ([(2, 5)], 0.25),
        ([(0, 5)], 0.5),
        ([(2, 0), (0, 5)], 0.75),
        ([(1, 5), (3, 0), (2, 2.5)], 0.5625),
        ([(-4, 0)], 2.0),
        ([(4, 0)], 0.0),
        ([(0, 10)], 0.0),
        ([(9, -90)], 0.0),
        ([(0, 0), (9, -90)], 1.0),
    ],
)
def test_the_hypervolume_by_hand(points: list[tuple[float, float]], volume: float) -> None:
    """The box of the first points and the reference is 4 wide and 10 high."""
    measure = Hypervolume(np.array([(0.0, 5.0), (2.0, 0.0)]), np.array([4.0, 10.0]))
    assert measure(np.array(points, dtype=float)) == pytest.approx(volume)


def test_the_hypervolume_of_one_objective_is_a_length() -> None:
    measure = Hypervolume(np.array([[-0.5], [-0.9]]), np.array([-0.5]))
    assert measure(np.array([[-0.7], [-0.6]])) == pytest.approx(0.5)


def test_a_reference_that_no_first_point_is_better_than_still_measures() -> None:
    measure = Hypervolume(np.array([(3.0, 1.0)]), np.array([3.0, 4.0]))
    assert measure(np.array([(3.0, 1.0)])) == 0
    assert measure(np.array([(2.0, 1.0)])) == pytest.approx(1 / 3)


clouds = st.integers(1, 4).flatmap(
    lambda objectives: st.integers(1, 8).flatmap(
        lambda points: hnp.arrays(np.float64, (points, objectives), elements=st.floats(-10, 10, allow_subnormal=False))
    )
)


def measure_of(cloud: np.ndarray) -> Hypervolume:
    return Hypervolume(cloud[: (len(cloud) + 1) // 2], np.full(cloud.shape[1], 5.0))


@given(clouds, st.data())
def test_points_never_shrink_the_hypervolume(cloud: np.ndarray, data: st.DataObject) -> None:
    measure, fewer = measure_of(cloud), data.draw(st.integers(1, len(cloud)))
    assert measure(cloud) >= measure(cloud[:fewer]) * (1 - 1e-12)


@given(clouds, st.randoms(use_true_random=False))
def test_the_order_of_points_does_not_matter_to_the_hypervolume(cloud: np.ndarray, random: Any) -> None:
    order = random.sample(range(len(cloud)), len(cloud))
    assert measure_of(cloud)(cloud[order]) == pytest.approx(measure_of(cloud)(cloud), rel=1e-12, abs=1e-12)


@given(clouds, st.data())
def test_what_is_worse_than_the_reference_in_one_objective_counts_nothing(cloud: np.ndarray, data: st.DataObject) -> None:
    worse = cloud.copy()
    worse[:, data.draw(st.integers(0, cloud.shape[1] - 1))] = data.draw(st.floats(5, 50))
    measure = measure_of(cloud)
    assert measure(worse) == 0
    assert measure(np.concatenate([cloud, worse])) == pytest.approx(measure(cloud), rel=1e-12, abs=1e-12)


@pytest.mark.parametrize("objectives", [2, 3, 4])
def test_dominated_points_leave_the_hypervolume_as_it_is(objectives: int) -> None:
    """To the last digit: a search ends when it has not grown."""
    rng = np.random.default_rng(0)
    for _ in range(200):
        points = rng.random((12, objectives))
        more = np.concatenate([points, points[rng.integers(12, size=5)] + 0.3 * rng.random((5, objectives))])
        measure = Hypervolume(points, points.max(axis=0))
        assert measure(more) == measure(points)


# Several points of a genome.


def fan(candidate: Candidate, count: int) -> np.ndarray:
    """Points of a candidate: it may give up the one objective for the other, at a price."""
    first, second = toy_losses(candidate)
    return np.array([(first + 30 * i, second - 15 * i) for i in range(count)])


def test_points_of_a_genome_are_individuals_of_the_population() -> None:
    initial = population(TOY, 6)
    algorithm = Nsga2(TOY, initial, size=6, objectives=2, constraints=1, seed=0, points=3)
    counts = [3, 1, 2, 3, 3, 1]
    for generation in range(3):
        genomes = algorithm.ask()
        assert len(genomes) == 6
        values = np.concatenate([fan(TOY.decode(g), count) for g, count in zip(genomes, counts, strict=True)])
        algorithm.tell(values, np.zeros((len(values), 1)), counts)
        told = algorithm._algorithm.pop
        assert len(told) == min(18, 13 * (generation + 1))
        assert all(
            tuple(f) in set(map(tuple, fan(TOY.decode(x), 3))) for x, f in zip(told.get("X"), told.get("F"), strict=True)
        )
        assert len({tuple(x) for x in told.get("X")}) < len(told)


@pytest.mark.parametrize("steadily", [False, True])
def test_the_sequence_depends_on_all_points_and_the_seed(steadily: bool) -> None:
    def sequence(count: int, seed: int = 0) -> list[Genome]:
        options: dict[str, Any] = {"size": 6, "objectives": 2, "constraints": 1, "seed": seed, "points": 4}
        asked: list[Genome] = []
        if steadily:
            single = SteadyNsga2(TOY, population(TOY, 6), **options)
            while len(asked) < 30:
                genome = single.ask()
                assert genome is not None
                asked.append(genome)
                single.tell(genome, fan(TOY.decode(genome), count), np.zeros((count, 1)))
            return asked
        algorithm = Nsga2(TOY, population(TOY, 6), **options)
        for _ in range(5):
            genomes = algorithm.ask()
            asked += genomes
            values = np.concatenate([fan(TOY.decode(genome), count) for genome in genomes])
            algorithm.tell(values, np.zeros((len(values), 1)), [count] * len(genomes))
        return asked

    assert sequence(4) == sequence(4)
    assert len(set(sequence(4))) == 30
    assert len({tuple(s) for s in (sequence(4), sequence(1), sequence(4, seed=1))}) == 3


def test_one_point_of_every_genome_is_as_ever() -> None:
    def sequence(*counts: Any) -> list[Genome]:
        algorithm = Nsga2(TOY, population(TOY, 6), size=6, objectives=2, constraints=1, seed=0)
        asked = []
        for _ in range(4):
            genomes = algorithm.ask()
            asked += genomes
            algorithm.tell(losses_of(TOY, genomes), np.zeros((len(genomes), 1)), *counts)
        return asked

    assert sequence() == sequence([1] * 6)
