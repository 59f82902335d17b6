"""Steady-state search: a candidate is bred whenever a worker is free.

A candidate is bred from the results of all before it but the latest, of which fewer than the *lag* are to be trained: results
are told to the algorithm in the order in which the candidates were asked for, not in the order in which they come in. So
neither the number of workers nor the time that any training takes has an influence on the candidates: one seed fixes the
search, and an interrupted one is resumed like one in generations. The price is that a training which is overtaken by as many
others as the lag holds them up. Telling results as they come in keeps all workers busy, too, but no two searches are the
same; ``tests/benchmarks/steady.py`` compares all three.
"""

from __future__ import annotations

import time
from collections import deque
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from kerasnac.core.search.evaluation import Evaluation
from kerasnac.core.search.random_search import RandomSearch
from kerasnac.core.space.search_space import Genome
from kerasnac.stages.search.evaluator import Evaluator
from kerasnac.stages.search.generations import Generations
from kerasnac.stages.search.problem import SearchProblem, Values
from kerasnac.stages.search.records import trial_of


class Breeder(Protocol):
    """Algorithm that is asked for one genome at a time; see :class:`kerasnac.adapters.search.nsga2.SteadyNsga2`."""

    def ask(self) -> Genome | None:
        """Return the next genome; None if there is none before more results are told."""

    def tell(self, genome: Genome, objectives: NDArray[np.float64], constraints: NDArray[np.float64]) -> None:
        """Take the values of a genome that was asked for."""


class SteadyRandom:
    """Random search that is asked for one genome at a time.

    Args:
        search: Random search with generations of one candidate after the first.
    """

    def __init__(self, search: RandomSearch) -> None:
        self._search, self._drawn = search, deque[Genome]()

    def ask(self) -> Genome | None:
        """Return the next genome; None if no new candidate is found."""
        self._drawn.extend(() if self._drawn else self._search.ask())
        return self._drawn.popleft() if self._drawn else None

    def tell(self, genome: Genome, objectives: NDArray[np.float64], constraints: NDArray[np.float64]) -> None:
        """Ignore the result."""


class Course:
    """Order in which candidates are bred and told; it depends on the results, and not on when they come.

    Candidates are numbered as they are asked for. :meth:`ready`, :meth:`ask` and then :meth:`enter` or :meth:`settle` are to
    be called in turn; :meth:`put` at any time.

    Args:
        breeder: The algorithm.
        lag: Candidates to be trained that may be asked for and not told, at the same time.
        patience: Candidates in a row that are not to be trained, after which a result is awaited before others are bred.
    """

    def __init__(self, breeder: Breeder, lag: int, patience: int) -> None:
        self._breeder, self._lag, self._patience = breeder, lag, patience
        self._genomes: dict[int, Genome] = {}
        self._entered: deque[int] = deque()
        self._values: dict[int, Values] = {}
        self._fruitless = 0
        self._stuck = False
        #: Number of candidates that were asked for.
        self.asked = 0

    @property
    def told(self) -> int:
        """Number of the first candidate that has not been told."""
        return self._entered[0] if self._entered else self.asked

    @property
    def barren(self) -> bool:
        """True if too many candidates in a row were not to be trained."""
        return self._fruitless >= self._patience

    def ready(self) -> bool:
        """Tell the results that the next candidate is bred from; False if one is missing, or if no candidate is left."""
        while len(self._entered) >= self._lag or self._stuck or self.barren:
            if not self._entered or self._entered[0] not in self._values:
                return False
            self._tell(self._entered.popleft())
            self._stuck, self._fruitless = False, 0
        return True

    def ask(self) -> Genome | None:
        """Return the next genome; None if there is none before another result is told."""
        genome = self._breeder.ask()
        if genome is None:
            self._stuck = True
            return None
        self._genomes[self.asked] = genome
        self.asked += 1
        return genome

    def enter(self) -> None:
        """Let the last candidate that was asked for wait for its result."""
        self._entered.append(self.asked - 1)
        self._fruitless = 0

    def settle(self, values: Values) -> None:
        """Tell the values of the last candidate that was asked for, which is not to be trained, at once."""
        self._values[self.asked - 1] = values
        self._tell(self.asked - 1)
        self._fruitless += 1

    def put(self, number: int, values: Values) -> None:
        """Take the values of a candidate, to be told in its turn."""
        self._values[number] = values

    def _tell(self, number: int) -> None:
        losses, violations, _ = self._values.pop(number)
        self._breeder.tell(self._genomes.pop(number), losses, violations)


class SteadySearch:
    """One steady-state search.

    A *generation* is the first candidates, and after them as many in a row as the population has; when all of one have
    results, it is recorded. Reasons to stop are looked for when a candidate is to be bred, in the generations that have been
    told by then. Estimators get one candidate at a time.

    Args:
        problem: Settings, objectives, budgets.
        breeder: The algorithm.
        first: Size of the first generation.
        evaluator: Plans and trains candidates.
        generations: Journal of the generations.
        patience: See :class:`Course`.
    """

    def __init__(
        self,
        problem: SearchProblem,
        breeder: Breeder,
        first: int,
        evaluator: Evaluator,
        generations: Generations,
        patience: int,
    ) -> None:
        self._problem, self._evaluator, self._generations = problem, evaluator, generations
        self._first, self._size = first, problem.settings.population
        self._course, self._patience = Course(breeder, problem.settings.steady_lag, patience), patience
        self._final = generations.final_failures
        self._noted = set(self._final)
        self._running: set[int] = set()
        self._failed: list[Evaluation] = []
        self._began = time.monotonic()
        self._trained = 0
        self._stopped = ""
        #: All candidates that were asked for; while one is trained, its plan.
        self.evaluations: list[Evaluation] = []

    def run(self) -> str:
        """Run the search; return why it ended.

        Raises:
            RunError: If all trainings of a generation died.
        """
        for evaluation in self._evaluator.train_supplied(self._supply):
            self._running.remove(evaluation.index)
            self._take(evaluation)
        if self._stopped or self._left <= 0:
            return self._stopped or "all that were asked for"
        if len(self.evaluations) > self._start(len(self._generations.complete)):
            self._close()  # The last generation has fewer candidates.
        if self._course.barren:
            return f"{self._patience} candidates in a row cannot be trained"
        return self._problem.exhausted

    @property
    def _left(self) -> int:
        """Trainings left, if all that run succeed."""
        return self._problem.settings.evaluations - self._trained - len(self._running)

    def _supply(self, places: int) -> list[Evaluation]:
        """Breed candidates for free places; return those that are to be trained."""
        plans: list[Evaluation] = []
        while len(plans) < places and (plan := self._next()) is not None:
            plans.append(plan)
        return plans

    def _next(self) -> Evaluation | None:
        """Breed candidates until one is to be trained; None if a result is missing, or the search ends."""
        while not self._stopped and self._left > 0 and self._course.ready():
            self._stopped = self._generations.reason_to_stop(self._told_generations())
            if self._stopped:
                break
            self._note_deaths()
            index = self._course.asked
            genome = self._course.ask()
            if genome is None:
                continue
            plan = self._evaluator.plan(genome, self._generation(index), index)
            self.evaluations.append(plan)
            self._check_generation()
            if plan.status != "ok":
                self._course.settle(self._problem.values([plan]))
                self._close_complete()
                continue
            self._course.enter()
            known = self._evaluator.known(plan, self._final)
            if known is None:
                self._running.add(index)
                return plan
            self._take(known)
        return None

    def _take(self, evaluation: Evaluation) -> None:
        """Take the result of a candidate."""
        self.evaluations[evaluation.index] = evaluation
        self._trained += evaluation.status == "ok"
        if evaluation.status == "failed":
            self._failed.append(evaluation)
        self._course.put(evaluation.index, self._problem.values([evaluation]))
        self._close_complete()

    # Generations.

    def _generation(self, index: int) -> int:
        return max(0, (index - self._first) // self._size + 1)

    def _start(self, generation: int) -> int:
        """Return the index of the first candidate of a generation."""
        return self._first + (generation - 1) * self._size if generation else 0

    def _told_generations(self) -> int:
        return self._generation(self._course.told)

    def _genomes(self, generation: int) -> list[Genome]:
        return [e.genome for e in self.evaluations[self._start(generation) : self._start(generation + 1)]]

    def _check_generation(self) -> None:
        """Make sure, when a generation has been asked for, that it is the one that was asked for before."""
        last = self._generation(len(self.evaluations) - 1)
        if len(self.evaluations) == self._start(last + 1):
            self._generations.logged(last, self._genomes(last))

    def _close_complete(self) -> None:
        """Record the generations of which all candidates have results."""
        first_running = min(self._running, default=len(self.evaluations))
        while self._start(len(self._generations.complete) + 1) <= first_running:
            self._close()

    def _close(self) -> None:
        number = len(self._generations.complete)
        made = self.evaluations[: self._start(number + 1)]
        self._evaluator.check_survivors(made[self._start(number) :], self._final)
        seconds, self._began = time.monotonic() - self._began, time.monotonic()
        self._evaluator.close_generation(self._generations.close(self._genomes(number), made, seconds))
        self._noted.update(self._generations.complete[-1].failed)

    def _note_deaths(self) -> None:
        """Record failures that the next candidate is bred from, unless their generation is recorded."""
        if self._course.told < self._first:
            return  # Nothing is bred before.
        told = [e for e in self._failed if e.index < self._course.told and trial_of(e) not in self._noted]
        if told:
            self._generations.note_deaths(told)
            self._noted.update(map(trial_of, told))
