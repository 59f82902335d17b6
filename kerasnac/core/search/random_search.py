"""Random search, which any other search has to beat."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from kerasnac.core.space.search_space import Genome, SearchSpace
from kerasnac.core.store.seeding import generator

#: Draws in a row that give nothing new, after which the space counts as exhausted.
TRIES = 1000


class RandomSearch:
    """Search that asks for random candidates that were not asked for before, and learns nothing.

    Args:
        space: Where to search.
        initial: The first generation.
        size: Candidates of every other generation.
        seed: Seed of all draws.
    """

    def __init__(self, space: SearchSpace, initial: Sequence[Genome], *, size: int, seed: int) -> None:
        self._space, self._initial, self._size = space, list(initial), size
        self._rng = generator(seed, "random search")
        self._seen: set[str] = set()

    def ask(self) -> list[Genome]:
        """Return the next generation; empty when no new candidate is found."""
        first = {self._space.decode(genome).id: genome for genome in self._initial}
        found = list(first.values()) or distinct(
            lambda: self._space.sample_feasible(self._rng), self._space, self._size, self._seen
        )
        self._initial = []
        self._seen.update(self._space.decode(genome).id for genome in found)
        return found

    def tell(
        self, objectives: NDArray[np.float64], constraints: NDArray[np.float64], counts: Sequence[int] | None = None
    ) -> None:
        """Ignore the results."""


def distinct(draw: Callable[[], Genome], space: SearchSpace, count: int, seen: set[str]) -> list[Genome]:
    """Return up to ``count`` genomes of different candidates, none of them seen before."""
    if not space.genes:  # All draws are the same.
        count = min(count, 1 - (space.decode(()).id in seen))
    found: dict[str, Genome] = {}
    misses = 0
    while len(found) < count and misses < TRIES:
        genome = draw()
        key = space.decode(genome).id
        new = key not in seen and key not in found
        misses = 0 if new else misses + 1
        if new:
            found[key] = genome
    return list(found.values())
