"""pymoo's NSGA-II over the genomes of a search space."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from pymoo.algorithms.moo.nsga2 import NSGA2
from pymoo.core.crossover import Crossover
from pymoo.core.duplicate import DuplicateElimination
from pymoo.core.mutation import Mutation
from pymoo.core.population import Population
from pymoo.core.problem import Problem
from pymoo.core.termination import NoTermination
from pymoo.indicators.hv import HV
from pymoo.operators.survival.rank_and_crowding import RankAndCrowding
from pymoo.problems.static import StaticProblem

from kerasnac.core.space.search_space import Genome
from kerasnac.core.store.seeding import derive_seed
from kerasnac.errors import Infeasible

#: Value of objectives that are not known, as of candidates that were not trained, and violation of candidates that cannot
#: be trained: worse than all others. Objectives of candidates that violate constraints are never compared.
WORST = 1e30

#: Number of draws of a mutation; the last one is taken even if it changes nothing.
TRIES = 20


class Point(Protocol):
    """Decoded genome, as a candidate or the bit widths of a network."""

    @property
    def id(self) -> str:
        """Identifier, equal for genomes that decode to the same."""


class Space(Protocol):
    """Part of a search space that the algorithm uses; see :class:`kerasnac.core.space.search_space.SearchSpace`."""

    @property
    def cardinalities(self) -> tuple[int, ...]:
        """Number of values of every gene, at least 2."""

    @property
    def gene_blocks(self) -> tuple[slice, ...]:
        """Slices of the genome that a crossover keeps together."""

    def active(self, genome: Sequence[int]) -> tuple[bool, ...]:
        """Return for every gene if it has an influence."""

    def canonical(self, genome: Sequence[int]) -> Genome:
        """Return the genome with inactive genes set to zero."""

    def decode(self, genome: Sequence[int]) -> Point:
        """Decode a genome.

        Raises:
            Infeasible: If its layers do not fit together.
        """


class _Evolution:
    """pymoo's NSGA-II with the operators of a search space.

    Args:
        space: Search space.
        initial: The first genomes.
        size: Size of the population that survives.
        objectives: Number of objectives, all minimised.
        constraints: Number of constraints, each fulfilled when it is zero or less.
        seed: Seed of all random choices.
        points: Points that one genome may be told as; so many times as many survive.
    """

    #: Number of genomes that are bred at a time; None for as many as the population has.
    offspring: int | None = None

    def __init__(
        self,
        space: Space,
        initial: Sequence[Genome],
        *,
        size: int,
        objectives: int,
        constraints: int,
        seed: int,
        points: int = 1,
    ) -> None:
        self._space = space
        self._unseen = _Unseen(space)
        upper = np.array(space.cardinalities) - 1
        self._problem = Problem(n_var=len(upper), n_obj=objectives, n_ieq_constr=constraints, xl=0, xu=upper, vtype=int)
        self._algorithm = NSGA2(
            pop_size=size * points,
            n_offsprings=self.offspring or size,
            sampling=np.array(initial, dtype=int),
            crossover=_BlockCrossover(space),
            mutation=_GeneMutation(space),
            eliminate_duplicates=self._unseen,
        )
        self._algorithm.setup(self._problem, termination=NoTermination(), seed=derive_seed(seed, "nsga2"))
        self._prepare()

    def _prepare(self) -> None:
        """Make all that a way of breeding needs besides."""

    def _tell(
        self, asked: Any, objectives: NDArray[np.float64], constraints: NDArray[np.float64], counts: Sequence[int]
    ) -> None:
        """Take the values of pymoo's individuals, each with so many rows: a point is an individual of its own."""
        if set(counts) != {1}:
            asked = Population.new(X=np.repeat(asked.get("X"), counts, axis=0))
        self._algorithm.evaluator.eval(StaticProblem(self._problem, F=objectives, G=constraints), asked)
        self._algorithm.tell(infills=asked)


class Nsga2(_Evolution):
    """NSGA-II that proposes genomes generation by generation, and is told their objectives.

    The sequence of genomes depends on the seed and the told objectives alone: a search is resumed by telling a new
    instance the known objectives again. The first generation is ``initial``, every other one has ``size`` genomes.
    """

    def ask(self) -> list[Genome]:
        """Return the next generation; empty when no new candidate can be found, as in an exhausted space."""
        self._asked = self._algorithm.ask()
        genomes = [] if self._asked is None else [tuple(int(gene) for gene in individual.X) for individual in self._asked]
        self._unseen.seen.update(_key(self._space, genome) for genome in genomes)
        return genomes

    def tell(
        self, objectives: NDArray[np.float64], constraints: NDArray[np.float64], counts: Sequence[int] | None = None
    ) -> None:
        """Take the values of the genomes of the last :meth:`ask`.

        Args:
            objectives: Values to minimise, shape (points, objectives).
            constraints: Constraint violations, shape (points, constraints), fulfilled when zero or less.
            counts: Number of points of every genome, which follow each other; by default each genome is one.
        """
        self._tell(self._asked, objectives, constraints, counts or [1] * len(self._asked))


class SteadyNsga2(_Evolution):
    """NSGA-II that proposes genomes one by one, and is told the objectives of one at a time.

    A genome is bred from the population of the moment, by the selection, crossover and mutation of :class:`Nsga2`; every
    result is merged into the population, and the least fit one leaves it: NSGA-II with one offspring per generation
    (Durillo et al., EMO 2009). Results may be missing while others are asked for; all of the ``initial`` ones must be told
    before others are bred.

    The sequence of genomes depends on the seed and on the sequence of :meth:`ask` and :meth:`tell` alone.
    """

    offspring = 1

    def _prepare(self) -> None:
        self._first = self._algorithm.ask()
        self._initial = deque(tuple(int(gene) for gene in individual.X) for individual in self._first)
        #: Place of every first genome, until all of them are told; their values by place.
        self._places = {genome: place for place, genome in enumerate(self._initial)}
        self._told: dict[int, tuple[NDArray[np.float64], NDArray[np.float64]]] = {}
        #: pymoo's individual of every later genome that has not been told.
        self._open: dict[Genome, Any] = {}

    def ask(self) -> Genome | None:
        """Return the next genome; None if no new candidate is found, or if results of the first ones are missing."""
        if self._initial:
            genome = self._initial.popleft()
        elif self._places:
            return None
        else:
            asked = self._algorithm.ask()
            if asked is None:
                self._algorithm.termination.force_termination = False  # A later population may have other offspring.
                return None
            genome = tuple(int(gene) for gene in asked[0].X)
            self._open[genome] = asked
        self._unseen.seen.add(_key(self._space, genome))
        return genome

    def tell(self, genome: Genome, objectives: NDArray[np.float64], constraints: NDArray[np.float64]) -> None:
        """Take the values of a genome that was asked for.

        Args:
            genome: One that has not been told.
            objectives: Values to minimise, shape (points, objectives).
            constraints: Constraint violations, shape (points, constraints), fulfilled when zero or less.
        """
        if not self._places:
            self._tell(self._open.pop(genome), objectives, constraints, [len(objectives)])
            return
        self._told[self._places[genome]] = objectives, constraints
        if len(self._told) == len(self._places):
            told = [self._told[place] for place in range(len(self._told))]
            values, violations = (np.concatenate(parts) for parts in zip(*told, strict=True))
            self._tell(self._first, values, violations, [len(objectives) for objectives, _ in told])
            self._places.clear()
            self._told.clear()


def fittest(losses: NDArray[np.float64], violations: NDArray[np.float64], count: int) -> list[int]:
    """Return the indices of the points that survive in NSGA-II.

    Args:
        losses: Values to minimise, shape (points, objectives).
        violations: Constraint violations, shape (points, constraints), fulfilled when zero or less.
        count: Number of survivors.

    Returns:
        Ascending indices.
    """
    if count >= len(losses):
        return list(range(len(losses)))
    problem = Problem(n_var=1, n_obj=losses.shape[1], n_ieq_constr=violations.shape[1])
    points = Population.new(F=losses, G=violations, place=np.arange(len(losses)))
    survivors = RankAndCrowding().do(problem, points, n_survive=count, random_state=np.random.default_rng(0))
    return sorted(int(place) for place in survivors.get("place"))


class Hypervolume:
    """Hypervolume of points in a box that stays the same for a whole search.

    The box is spanned by the best values of some first points and a reference point; its volume is 1, and points
    beyond its best corner make the volume larger. Points worse than the reference point add nothing.
    (Zitzler and Thiele, PPSN 1998.)

    Args:
        first: Values to minimise, shape (points, objectives), of the first generation.
        reference: Reference point, shape (objectives,).
    """

    def __init__(self, first: NDArray[np.float64], reference: NDArray[np.float64]) -> None:
        extent = reference - first.min(axis=0)
        # Where no first point is better than the reference point, any unit does.
        self._extent = np.where(extent > 0, extent, np.maximum(np.abs(reference), 1.0))
        self._reference = reference
        self._volume = HV(ref_point=np.zeros(len(reference)))

    def __call__(self, points: NDArray[np.float64]) -> float:
        """Compute the hypervolume of points to minimise, shape (points, objectives)."""
        # Rounded, since the last digits depend on points that add nothing.
        return round(float(self._volume((points - self._reference) / self._extent)), 12)


class _BlockCrossover(Crossover):  # type: ignore[misc]
    """Crossover that swaps whole blocks of genes between two parents, so that a good block stays together."""

    def __init__(self, space: Space) -> None:
        super().__init__(n_parents=2, n_offsprings=2)
        self._space = space

    def _do(
        self, problem: Problem, parents: NDArray[np.int_], *args: Any, random_state: np.random.Generator, **kwargs: Any
    ) -> Any:
        children = parents.copy()
        for pair in range(parents.shape[1]):
            for block in self._space.gene_blocks:
                if random_state.random() < 0.5:
                    children[0, pair, block], children[1, pair, block] = parents[1, pair, block], parents[0, pair, block]
        return children


class _GeneMutation(Mutation):  # type: ignore[misc]
    """Mutation that gives about one active gene another value, so that the candidate changes."""

    def __init__(self, space: Space) -> None:
        super().__init__()
        self._space = space

    def _do(
        self, problem: Problem, genomes: NDArray[np.int_], *args: Any, random_state: np.random.Generator, **kwargs: Any
    ) -> Any:
        return np.array([_mutated(self._space, tuple(genome), random_state) for genome in genomes.tolist()])


def mutations(space: Space, genome: Genome, count: int, *, seed: int) -> list[Genome]:
    """Draw different mutations of a genome.

    Args:
        space: Search space.
        genome: Genome to mutate.
        count: Number of mutations to return, at most; fewer where so many are not found.
        seed: Seed of the draws.
    """
    rng, found = np.random.default_rng(seed), {_key(space, genome): genome}
    for _ in range(TRIES * count):
        if len(found) > count:
            break
        mutated = _mutated(space, genome, rng)
        found.setdefault(_key(space, mutated), mutated)
    return list(found.values())[1:]


def _mutated(space: Space, genome: Genome, rng: np.random.Generator) -> Genome:
    """Draw a feasible mutation that is another candidate; the last draw if none of :data:`TRIES` is."""
    sizes = np.array(space.cardinalities)
    active: NDArray[np.bool_] = np.array(space.active(genome), dtype=bool)
    before = _key(space, genome)
    changed = space.canonical(genome)
    for _ in range(TRIES):
        shifts = np.where(_flips(active, rng), rng.integers(1, sizes), 0)
        # Inactive genes are drawn anew, for layers that the mutation switches on.
        values = np.where(active, (np.array(genome) + shifts) % sizes, rng.integers(sizes))
        changed = space.canonical(values.tolist())
        if _feasible(space, changed) and _key(space, changed) != before:
            return changed
    return changed


def _flips(active: NDArray[np.bool_], rng: np.random.Generator) -> NDArray[np.bool_]:
    """Draw which genes to change: about one of the active ones, and at least one; shape (genes,)."""
    flips: NDArray[np.bool_] = active & (rng.random(len(active)) < 1 / max(1, active.sum()))
    if active.any():
        flips[rng.choice(np.flatnonzero(active))] = True
    return flips


def _feasible(space: Space, genome: Genome) -> bool:
    try:
        space.decode(genome)
    except Infeasible:
        return False
    return True


def _key(space: Space, genome: Sequence[int]) -> str:
    """Return the candidate's id, or the canonical genome if it is infeasible."""
    try:
        return space.decode(genome).id
    except Infeasible:
        return str(space.canonical(genome))


class _Unseen(DuplicateElimination):  # type: ignore[misc]
    """Duplicate elimination by candidate: drops those of this and of earlier generations."""

    def __init__(self, space: Space) -> None:
        super().__init__()
        self._space = space
        self.seen: set[str] = set()

    def _do(self, pop: Any, other: Any, is_duplicate: NDArray[np.bool_]) -> NDArray[np.bool_]:
        seen = self.seen | {_key(self._space, individual.X) for individual in (() if other is None else other)}
        for i, individual in enumerate(pop):
            key = _key(self._space, individual.X)
            is_duplicate[i] = key in seen
            seen.add(key)
        return is_duplicate
