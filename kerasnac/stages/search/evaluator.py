"""Evaluating the generations of a global search: costs, then trainings, all in the journal."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterator, Sequence
from typing import Any

import numpy as np

from kerasnac.adapters.search.nsga2 import fittest
from kerasnac.core.search.evaluation import Evaluation
from kerasnac.core.space.search_space import Genome
from kerasnac.core.store.journal import Journal
from kerasnac.core.store.progress import Step, event
from kerasnac.errors import RunError
from kerasnac.stages.context import Context
from kerasnac.stages.search.planner import Planner
from kerasnac.stages.search.problem import SearchProblem
from kerasnac.stages.search.records import EvaluationRecords, Trial, trial_of
from kerasnac.stages.search.result import Generation, eligible
from kerasnac.stages.search.trainer import Trainer


class Evaluator:
    """Evaluates generations: plans, and trains those that keep the budgets.

    Args:
        problem: Space, settings, objectives, budgets.
        planner: Decodes genomes, estimates costs, checks budgets.
        context: Data, workers, folder, seed, progress.
    """

    def __init__(self, problem: SearchProblem, planner: Planner, context: Context) -> None:
        self._problem, self._planner, self._context = problem, planner, context
        self._records = EvaluationRecords(Journal(context.folder / "search.jsonl"))
        self._trainer = Trainer(problem, self._records, context, self._report)
        self._best: float | None = None
        self._done = 0
        #: Hypervolume after the last generation, for the progress display.
        self.hypervolume = 0.0

    def evaluate(
        self, genomes: Sequence[Genome], generation: int, first: int, most: int, *, failures: Collection[Trial] = ()
    ) -> list[Evaluation]:
        """Evaluate a generation.

        Args:
            genomes: Canonical genomes that the search asks for.
            generation: Number of the generation.
            first: Index of the first evaluation.
            most: Trainings left; genomes after the last one that may be trained are left out.
            failures: What failed when the generation was completed before, which is final then; any other failure that
                is on record is tried again.

        Returns:
            Evaluations in the order of the genomes.

        Raises:
            RunError: If a worker died with every candidate that was to be trained.
        """
        made = self._planner.plans(genomes, generation, first)
        for plan in made:
            if plan.status != "ok":
                self._settle(plan)
        chosen = [i for i, plan in enumerate(made) if plan.status == "ok"]
        if self._problem.settings.halving:
            chosen = self._promising(made, chosen, most, failures)
        last = len(made) - 1
        while chosen and most > 0:  # Again for those whose workers died.
            now, chosen = chosen[:most], chosen[most:]
            self._trainer.train(made, now, self._problem.settings.training, "ok", failures)
            last, most = now[-1], most - sum(made[i].status == "ok" for i in now)
        if chosen:
            made = made[: last + 1]
        self.check_survivors(made, failures)
        return made

    def plan(self, genome: Genome, generation: int, index: int) -> Evaluation:
        """Return the evaluation of a genome without training; it is recorded if that is all, with a status that is not ``ok``.

        Args:
            genome: Canonical genome.
            generation: Number of its generation.
            index: Index of the evaluation.
        """
        (plan,) = self._planner.plans([genome], generation, index)
        if plan.status != "ok":
            self._settle(plan)
        return plan

    def known(self, plan: Evaluation, failures: Collection[Trial]) -> Evaluation | None:
        """Return a plan with the result that the journal has; None if it is to be trained.

        Args:
            plan: A candidate to train.
            failures: Failures that are final; any other that is on record is tried again.
        """
        return self._trainer.known(plan, "ok", failures)

    def train_supplied(self, supply: Callable[[int], Sequence[Evaluation]]) -> Iterator[Evaluation]:
        """Train plans as places get free, and yield them with their results as those come in.

        Args:
            supply: Called with a number of free places; returns as many plans at most, or none if there are none for now.
        """
        return self._trainer.train_supplied(supply)

    def check_survivors(self, made: Sequence[Evaluation], failures: Collection[Trial]) -> None:
        """Make sure that workers live long enough to train.

        Args:
            made: A generation.
            failures: Failures that are final, and have been accepted before.

        Raises:
            RunError: If a worker died with every candidate that was to be trained.
        """
        failed = [e for e in made if e.status == "failed"]
        if len(failed) < 2 or any(e.status == "ok" for e in made) or all(trial_of(e) in failures for e in failed):
            return
        raise RunError(
            f"no candidate of generation {failed[0].generation} could be trained. The first, [{failed[0].built.architecture}]: "
            f"{failed[0].reason} This is most often a lack of memory: resume with fewer workers"
        )

    def _promising(self, made: list[Evaluation], chosen: Sequence[int], most: int, failures: Collection[Trial]) -> list[int]:
        """Train candidates briefly; return which of them are to be trained in full, and prepare those."""
        problem, halving = self._problem, self._problem.settings.halving
        assert halving is not None
        plans = list(made)
        self._trainer.train(made, chosen, problem.settings.training.with_(epochs=halving.epochs), "brief", failures)
        alive = [i for i in chosen if made[i].status == "brief"]
        keep = min(most, math.ceil(halving.keep * len(alive)))
        best = [alive[i] for i in fittest(*problem.brief_values([made[i] for i in alive]), keep)]
        for i in best:
            made[i] = plans[i]
        return best

    def close_generation(self, made: Generation) -> None:
        """Take note of a complete generation, and tell of it."""
        self.hypervolume = made.hypervolume
        facts = {
            "number": made.number,
            "evaluations": made.evaluations,
            "hypervolume": made.hypervolume,
            "seconds": made.seconds,
        }
        self._context.progress(event("generation", "search", **facts))

    def _settle(self, plan: Evaluation) -> None:
        """Record and report a candidate that is not going to be trained."""
        self._context.progress(event("candidate", "search", **self._facts(plan, recorded=not self._records.add_plan(plan))))

    def _report(self, evaluation: Evaluation, recorded: bool) -> None:
        task = self._context.data.task
        best = ""
        if evaluation.status == "ok":
            for value in (point.metrics[task.metric] for point in evaluation.expanded):
                if self._best is None or not np.isfinite(self._best) or task.better(value, self._best):
                    self._best = value
            self._done += 1
        if self._best is not None:
            best = f", best {task.metric} {self._best:.4f} {task.metric_unit}".rstrip()
        slow = f", {self._trainer.by_keras} by fit" if self._trainer.by_keras else ""
        text = f"generation {evaluation.generation}{best}, hypervolume {self.hypervolume:.3f}{slow}"
        facts = self._facts(evaluation, recorded=recorded)
        self._context.progress(Step("search", self._done, self._problem.most, text, "candidate", facts))

    def _facts(self, evaluation: Evaluation, *, recorded: bool) -> dict[str, Any]:
        """Return what there is to tell of an evaluation; see :data:`kerasnac.core.store.progress.FACTS`."""
        candidate, trained = evaluation.candidate, evaluation.status == "ok"
        kept = eligible(evaluation.expanded, self._problem.objectives, self._problem.budgets)[0] if trained else []
        return {
            "model": evaluation.key,
            "generation": evaluation.generation,
            "status": evaluation.status,
            "metrics": dict(evaluation.metrics),
            "points": [{"model": point.name, "metrics": dict(point.metrics)} for point in kept if point.cycle],
            "eligible": bool(kept),
            "architecture": "" if candidate is None else str(candidate.architecture),
            "seconds": evaluation.seconds,
            "reason": evaluation.reason,
            "known": recorded,
        }
