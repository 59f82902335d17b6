"""Random search: distinct candidates, the same for one seed, until there are no more."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from kerasnac.core.search.random_search import RandomSearch, distinct
from kerasnac.core.space.blocks import Conv, Mlp
from kerasnac.core.space.search_space import Genome, SearchSpace

#: 27 genomes, one layer or two: 9 and 27 that are different.
SPACE = SearchSpace(input=6, outputs=3, blocks=(Mlp(widths=((2, 3, 4), (2, 3, 4), (2, 3, 4)), depth=(1, 3)),))
FIRST: list[Genome] = [(0, 0, 0, 0), (0, 1, 0, 0)]


def run(seed: int = 0, *, size: int = 4, told: float = 0.0) -> list[list[Genome]]:
    """All generations until the space is exhausted."""
    algorithm = RandomSearch(SPACE, FIRST, size=size, seed=seed)
    asked = []
    while genomes := algorithm.ask():
        asked.append(genomes)
        algorithm.tell(np.full((len(genomes), 2), told), np.zeros((len(genomes), 1)))
    return asked


def ids(genomes: list[Genome]) -> list[str]:
    return [SPACE.decode(genome).id for genome in genomes]


def test_the_first_generation_is_the_given_one_and_the_others_have_their_size() -> None:
    asked = run()
    assert asked[0] == FIRST
    assert {len(genomes) for genomes in asked[1:-1]} == {4}
    assert 1 <= len(asked[-1]) <= 4


@pytest.mark.parametrize("size", [1, 4, 100])
def test_a_space_is_searched_to_its_end_without_repeats(size: int) -> None:
    asked = ids(list(itertools.chain(*run(size=size))))
    assert len(asked) == len(set(asked)) == SPACE.size() == 30


def test_the_seed_decides_and_what_is_told_does_not() -> None:
    assert run(seed=1) == run(seed=1, told=1e9)
    assert run(seed=1)[1:] != run(seed=2)[1:]


def test_it_does_not_depend_on_global_random_numbers() -> None:
    np.random.seed(1)
    first = run()
    np.random.seed(2)
    assert run() == first


def test_an_exhausted_search_stays_so() -> None:
    algorithm = RandomSearch(SPACE, FIRST, size=100, seed=0)
    assert [len(algorithm.ask()) for _ in range(4)] == [2, 28, 0, 0]


def test_draws_are_feasible_and_canonical() -> None:
    space = SearchSpace(input=(4, 4, 1), outputs=2, blocks=(Conv(channels=(1, 2), kernel=(2, 3, 5)), Mlp(widths=((2, 3),))))
    rng = np.random.default_rng(0)
    found = distinct(lambda: space.sample_feasible(rng), space, 100, set())
    assert len({space.decode(genome).id for genome in found}) == len(found) == 2 * 2 * 2
    assert [space.canonical(genome) for genome in found] == found


def test_distinct_leaves_out_what_was_seen_and_says_nothing_of_it() -> None:
    seen = set(ids(FIRST))
    draws = itertools.cycle([FIRST[0], (0, 2, 0, 0), FIRST[1], (0, 2, 0, 0), (1, 2, 2, 2)])
    assert distinct(lambda: next(draws), SPACE, 5, seen) == [(0, 2, 0, 0), (1, 2, 2, 2)]
    assert seen == set(ids(FIRST))


def test_distinct_draws_no_more_than_it_needs() -> None:
    draws = iter([(0, 2, 0, 0), (1, 2, 2, 2)])
    assert len(distinct(lambda: next(draws), SPACE, 2, set())) == 2
    assert distinct(lambda: next(draws), SPACE, 0, set()) == []
