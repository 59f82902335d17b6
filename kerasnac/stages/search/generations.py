"""The journal of the generations of a search: what was asked for, the hypervolume, and when the search ends."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict

import numpy as np
from numpy.typing import NDArray

from kerasnac.adapters.search.fronts import nondominated
from kerasnac.adapters.search.nsga2 import Hypervolume
from kerasnac.core.data.dataset import Task
from kerasnac.core.search.evaluation import Evaluation
from kerasnac.core.space.search_space import Genome
from kerasnac.core.store.journal import Journal
from kerasnac.core.store.keys import content_key
from kerasnac.core.store.memo import Memo
from kerasnac.errors import RunError
from kerasnac.stages.search.problem import SearchProblem
from kerasnac.stages.search.records import Trial, generation_shape, trial_of
from kerasnac.stages.search.result import Generation, eligible


class Generations:
    """Generations of a search, in a journal that several searches may share.

    Args:
        journal: ``generations.jsonl``.
        key: Key of the search.
        problem: Objectives, budgets, reasons to stop.
        task: Task of the data.

    Raises:
        RunError: If the journal is damaged.
    """

    def __init__(self, journal: Journal, key: str, problem: SearchProblem, task: Task) -> None:
        self._memo = Memo(journal, generation_shape, lambda record: record["search"])
        self._key, self._problem, self._task = key, problem, task
        records = self._memo.all(key)
        self._logged = {g.number: g for g in map(Generation.from_record, (r for r in records if "died" not in r))}
        self._died = {(trial[0], trial[1]) for record in records for trial in record.get("died", ())}
        self._volume: Hypervolume | None = None
        #: The complete generations.
        self.complete: list[Generation] = []

    def logged(self, number: int, genomes: Sequence[Genome]) -> Generation | None:
        """Return a generation that was completed before; None if it was not.

        Args:
            number: Number of the generation.
            genomes: What it asks for now.

        Raises:
            RunError: If it asked for something else then.
        """
        logged = self._logged.get(number)
        if logged is not None and logged.asked != _asked(genomes):
            raise RunError(
                f"{self._memo.journal.path}: generation {number} asks for other candidates than it did before, with other "
                "versions of kerasnac or pymoo: install those that run.json names, or copy search.jsonl to a new folder, where "
                "a new search finds its evaluations"
            )
        return logged

    @property
    def final_failures(self) -> set[Trial]:
        """Failures of earlier sessions that the search has gone on from."""
        return self._died.union(*(generation.failed for generation in self._logged.values()))

    def note_deaths(self, failed: Sequence[Evaluation]) -> None:
        """Record failures that candidates of an incomplete generation are going to be bred from."""
        self._memo.add({"search": self._key, "died": [trial_of(e) for e in failed]})

    def close(self, genomes: Sequence[Genome], evaluations: Sequence[Evaluation], seconds: float) -> Generation:
        """Record the next generation, which is complete, and return it.

        Args:
            genomes: What it asked for.
            evaluations: All of the search so far, those of this generation last.
            seconds: Wall time of the generation; one that was completed before keeps the time that it took then.
        """
        number = len(self.complete)
        known = self.logged(number, genomes)
        done = [e for e in evaluations if e.status == "ok"]
        points = [point for e in done for point in e.expanded]
        _, scaled_losses = eligible(points, self._problem.objectives, self._problem.budgets)
        if self._volume is None and len(scaled_losses):
            self._volume = Hypervolume(scaled_losses, self._reference_point(scaled_losses))
        volume = self._volume(scaled_losses) if self._volume else 0.0
        taken = seconds if known is None else known.seconds
        failed = tuple(trial_of(e) for e in evaluations[len(evaluations) - len(genomes) :] if e.status == "failed")
        self.complete.append(Generation(number, _asked(genomes), len(done), volume, round(taken, 3), failed))
        if known != self.complete[-1]:
            self._memo.add({"search": self._key, **asdict(self.complete[-1])})
        return self.complete[-1]

    def reason_to_stop(self, generations: int) -> str:
        """Return why no more is to be asked for after some complete generations; empty if there is no reason."""
        settings, first = self._problem.settings, self.complete[:generations]
        volumes = [g.hypervolume for g in first]
        patience, hours = settings.stagnation, settings.max_hours
        if hours is not None and sum(g.seconds for g in first) >= 3600 * hours:
            return f"{hours:g} hours are over"
        if patience is not None and len(volumes) > patience and volumes[-1] <= volumes[-1 - patience]:
            return f"the hypervolume has not grown in {patience} generations"
        return ""

    def _reference_point(self, scaled_losses: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the given reference point, or one somewhat beyond the ends of the first front.

        The worst values of the first generation would not do: a failed training would set the scale.
        """
        given = by_metric(self._problem.settings.reference_point, self._task)
        front = scaled_losses[nondominated(scaled_losses)]
        beyond = front.max(axis=0) + 0.1 * np.ptp(front, axis=0)
        return np.array(
            [
                o.scaled_loss(given[o.metric]) if o.metric in given else b
                for o, b in zip(self._problem.objectives, beyond, strict=True)
            ]
        )


def by_metric(values: Mapping[str, float], task: Task) -> dict[str, float]:
    """Return values by metric, with the name of the task's metric in place of ``metric``."""
    return {task.metric if name == "metric" else name: value for name, value in values.items()}


def _asked(genomes: Sequence[Genome]) -> str:
    """Return the hash of the genomes of a generation."""
    return content_key("genomes", genomes=list(genomes))
