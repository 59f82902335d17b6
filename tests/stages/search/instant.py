"""Searches without trainings, which the tests of the global search share."""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from kerasnac.adapters.workers import WorkerDied
from kerasnac.core.data.dataset import Dataset
from kerasnac.core.network.training import Training
from kerasnac.core.search.evaluation import Evaluation, RampPoint
from kerasnac.core.settings import SearchSettings
from kerasnac.core.space.search_space import SearchSpace
from kerasnac.stages.context import Context
from kerasnac.stages.search.candidate_training import Job, Result
from kerasnac.stages.search.global_search import global_search
from kerasnac.stages.search.result import Generation, SearchResult

SETTINGS = SearchSettings(population=6, evaluations=20, training=Training(epochs=1, batch_size=64))


def drawn(job: Job) -> float:
    """An accuracy that depends on the candidate and its training, and on nothing else."""
    text = f"Job(candidate={job.candidate}, training={job.training}, seed={job.seed}, folds={job.folds})"
    return int(hashlib.sha256(text.encode()).hexdigest()[:6], 16) / 16**6


class Instant:
    """Stands in for the workers: results by a formula, in an order of its own; remembers the jobs.

    Items that are supplied while others run end in a random order, decided by ``order``.
    """

    def __init__(
        self,
        *,
        processes: int = 2,
        order: int = 0,
        accuracy: Callable[[Job], float] | None = None,
        fails_after: int | None = None,
        dies: Callable[[Job], bool] = lambda job: False,
        costs: Callable[[Job], dict[str, float]] = lambda job: {},
        points: Callable[[Job], tuple[RampPoint, ...]] = lambda job: (),
    ) -> None:
        self.jobs: list[Job] = []
        self._accuracy = accuracy or (
            lambda job: int(hashlib.sha256(f"{job.candidate}{job.training}{job.seed}".encode()).hexdigest()[:6], 16) / 16**6
        )
        self._left = fails_after
        self.processes, self._rng = processes, np.random.default_rng(order)
        self._dies = dies
        self._costs, self._points = costs, points

    def try_map(self, task: Any, items: Sequence[Job], **options: Any) -> Iterator[tuple[int, Any]]:
        for index in reversed(range(len(items))):
            yield index, self._outcome(items[index])

    def try_supply(self, task: Any, supply: Callable[[int], Sequence[Job]], **options: Any) -> Iterator[tuple[int, Any]]:
        running: dict[int, Job] = {}
        supplied = itertools.count()
        while True:
            if places := self.processes - len(running):
                new = supply(places)
                assert len(new) <= places
                running |= {next(supplied): job for job in new}
            if not running:
                return
            number = list(running)[self._rng.integers(len(running))]
            yield number, self._outcome(running.pop(number))

    def _outcome(self, job: Job) -> Result | WorkerDied:
        if self._left is not None:
            if self._left == 0:
                raise KeyboardInterrupt
            self._left -= 1
        self.jobs.append(job)
        accuracy = self._accuracy(job)
        result = Result({"accuracy": accuracy, "loss": 1 - accuracy, **self._costs(job)}, 0.5, points=self._points(job))
        return WorkerDied("killed.") if self._dies(job) else result

    def map(self, task: Any, items: Sequence[Any], **options: Any) -> Iterator[tuple[int, Any]]:
        for index in reversed(range(len(items))):
            yield index, task(None, items[index])

    def close(self) -> None:
        pass


def changed(settings: SearchSettings = SETTINGS, **changes: Any) -> SearchSettings:
    """Settings with changes, all checked."""
    return SearchSettings(**{**{name: getattr(settings, name) for name in settings.model_fields_set}, **changes})


def search(
    space: SearchSpace, data: Dataset, folder: Path, workers: Any = None, settings: SearchSettings = SETTINGS, **options: Any
) -> SearchResult:
    return global_search(space, settings, Context(data.development, workers or Instant(), folder, **options))


def essence(result: SearchResult) -> list[Evaluation]:
    """All but the times, which differ from run to run."""
    return [replace(e, seconds=0.0) for e in result.evaluations]


def course(result: SearchResult) -> list[Generation]:
    """The generations without their times."""
    return [replace(g, seconds=0.0) for g in result.generations]
