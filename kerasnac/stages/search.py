"""Global search: NSGA-II over a space, every evaluation in a journal."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from kerasnac.adapters.nsga2 import UNKNOWN, Nsga2, nondominated
from kerasnac.core.architecture import Architecture
from kerasnac.core.data import Development, Task
from kerasnac.core.evaluation import Evaluation
from kerasnac.core.journal import Journal
from kerasnac.core.objectives import Objective, cost_metrics, resolve
from kerasnac.core.progress import Progress, Step, silent
from kerasnac.core.seeding import derive_seed, digest, generator
from kerasnac.core.selection import Selection
from kerasnac.core.settings import SearchSettings
from kerasnac.core.space import Candidate, Genome, SearchSpace
from kerasnac.core.training import Training
from kerasnac.errors import Infeasible, SearchError, SpaceError, TrialError
from kerasnac.stages.workers import Workers

if TYPE_CHECKING:
    import pandas as pd

#: Random candidates that are tried to fill the first generation before the budgets are called impossible.
SAMPLING_TRIES = 2000

#: Generations in a row without a candidate that can be trained, after which the search ends.
BARREN_GENERATIONS = 10

#: Where widths are genes: those of layers that have none, the output layer for one.
DEFAULT_WIDTHS = {"weight_bits": 8, "activation_bits": 8}

#: Where widths are genes: fraction of an activation's values that may exceed its format, at each end.
SATURATION = 1e-3


@dataclass(frozen=True)
class SearchResult:
    """All evaluations of a search, in the order in which they were asked for.

    Attributes:
        evaluations: Trained, infeasible and over-budget candidates.
        objectives: What was optimised.
        budgets: The constraints.
        task: The task of the data.
    """

    evaluations: tuple[Evaluation, ...]
    objectives: tuple[Objective, ...]
    budgets: tuple[Objective, ...]
    task: Task

    @property
    def trained(self) -> tuple[Evaluation, ...]:
        """The candidates that were trained."""
        return tuple(e for e in self.evaluations if e.status == "ok")

    @property
    def front(self) -> tuple[Evaluation, ...]:
        """The Pareto front of the trained candidates that keep all budgets."""
        kept = [e for e in self.trained if all(b.violation(e.metrics[b.metric]) <= 0 for b in self.budgets)]
        kept = [e for e in kept if all(np.isfinite(e.metrics[o.metric]) for o in self.objectives)]  # A training may diverge.
        losses = np.array([[o.loss(e.metrics[o.metric]) for o in self.objectives] for e in kept])
        return tuple(kept[i] for i in nondominated(losses))

    def select(self, *rules: str) -> tuple[Evaluation, ...]:
        """Points of the front by the rules of :class:`kerasnac.core.selection.Selection`, without repeats."""
        picked = [
            Selection.parse(rule).pick(
                self.front, lambda e: e.metrics[self.task.metric], lambda e: e.metrics["bops"], self.task.sense
            )
            for rule in rules
        ]
        return tuple({e.index: e for e in picked}.values())

    def frame(self) -> pd.DataFrame:
        """One row per evaluation: index, id, status, metrics, architecture, whether it is on the front."""
        import pandas as pd

        front = {e.index for e in self.front}
        rows = [
            {
                "index": e.index,
                "generation": e.generation,
                "id": e.candidate.id if e.candidate else None,
                "status": e.status,
                "front": e.index in front,
                **e.metrics,
                "architecture": str(e.candidate.architecture) if e.candidate else e.reason,
                **(dict(e.candidate.training) if e.candidate else {}),
            }
            for e in self.evaluations
        ]
        return pd.DataFrame(rows)


def global_search(
    space: SearchSpace,
    data: Development,
    settings: SearchSettings,
    *,
    workers: Workers,
    folder: Path,
    seed: int = 0,
    progress: Progress = silent,
) -> SearchResult:
    """Searches a space for the best trade-offs.

    Everything evaluated is in ``folder/search.jsonl``. A search that was interrupted is resumed by calling it
    again: NSGA-II is asked from the start and told what the journal knows, which takes milliseconds and gives
    exactly the genomes of the uninterrupted search, without a pickled state that a new version could not read.

    Args:
        space: Where to search.
        data: Development data; its shapes must be the space's.
        settings: Objectives, budgets, population, number of evaluations, training.
        workers: Processes that train the candidates.
        folder: Run folder.
        seed: Fixes all genomes and all trainings.
        progress: Called after every evaluation.

    Raises:
        SpaceError: If the space has no choices, no feasible candidate, or other shapes than the data.
        ConfigError: If an objective or budget is unknown.
        SearchError: If no random candidate keeps the budgets.
    """
    check_fit(space, data)
    objectives, budgets = resolve(settings.objectives, settings.budgets, data.task)
    search = _Search(space, data, settings, budgets, workers, Journal(folder / "search.jsonl"), seed, progress)
    algorithm = Nsga2(space, search.first_generation(), objectives=len(objectives), constraints=1 + len(budgets), seed=seed)
    evaluations: list[Evaluation] = []
    barren = 0
    for generation in count():
        left = settings.evaluations - sum(e.status == "ok" for e in evaluations)
        genomes = algorithm.ask() if left and barren < BARREN_GENERATIONS else []
        if not genomes:
            break  # Done, or every candidate within reach has been asked for.
        made = search.evaluate(genomes, generation, len(evaluations), left)
        evaluations += made
        if len(made) == len(genomes):
            algorithm.tell(*search.values(made, objectives))
        barren = 0 if any(e.status == "ok" for e in made) else barren + 1
    return SearchResult(tuple(evaluations), objectives, budgets, data.task)


def check_fit(space: SearchSpace, data: Development) -> None:
    """Checks a space against data before anything is trained.

    Raises:
        SpaceError: If shapes or outputs differ, or there is nothing to choose.
    """
    if space.input != data.input_shape:
        raise SpaceError(f"the space takes inputs of shape {space.input}, the samples of {data.name} have {data.input_shape}")
    if space.outputs != data.task.outputs:
        raise SpaceError(f"the space has {space.outputs} outputs, {data.name} needs {data.task.outputs}")
    if not space.genes:
        raise SpaceError("the space has no choices: give at least one key a list of values")


@dataclass(frozen=True)
class Job:
    """One candidate to train."""

    candidate: Candidate
    training: Training
    seed: int


def train_candidate(data: Development, job: Job) -> tuple[dict[str, float], float]:
    """Trains a candidate; runs in a worker.

    A candidate with bit widths is trained in float, then quantized and trained for half as many epochs again; its
    metrics are those of the quantized network.

    Returns:
        Its metrics on validation, and the seconds it took.

    Raises:
        TrialError: Whatever goes wrong is a bug, and is shown with the architecture.
    """
    from kerasnac.adapters.keras.train import fit, quantized_start

    architecture, training = job.candidate.architecture, job.training
    try:
        result = fit(architecture, data, training, seed=job.seed)
        seconds = result.seconds
        if architecture.has_widths:
            quantized, start = quantized_start(architecture, result.weights, data, **DEFAULT_WIDTHS, saturation=SATURATION)
            gentle = training.with_(epochs=-(-training.epochs // 2), learning_rate=training.learning_rate / 3)
            result = fit(quantized, data, gentle, seed=job.seed, weights=start)
            seconds += result.seconds
    except Exception as error:
        raise TrialError(f"training [{architecture}] with seed {job.seed} failed: {error!r}") from error
    return {data.task.metric: result.metric, "loss": result.loss}, seconds


class _Search:
    """The state of one search: what is known, and how a generation is evaluated."""

    def __init__(
        self,
        space: SearchSpace,
        data: Development,
        settings: SearchSettings,
        budgets: Sequence[Objective],
        workers: Workers,
        journal: Journal,
        seed: int,
        progress: Progress,
    ) -> None:
        self.space, self.data, self.settings, self.budgets = space, data, settings, budgets
        self.workers, self.journal, self.seed, self.progress = workers, journal, seed, progress
        self.fidelity = digest(settings.training, data.fingerprint, seed)
        records = map(Evaluation.from_record, journal.records())
        self.known = {e.key: e for e in records if e.fidelity == self.fidelity}
        self.best: float | None = None
        self.done = 0

    def first_generation(self) -> list[Genome]:
        """Distinct random candidates that keep the budgets on costs."""
        rng = generator(self.seed, "first generation")
        found: dict[str, Genome] = {}
        closest = np.inf
        for _ in range(SAMPLING_TRIES):
            genome = self.space.sample_feasible(rng)
            candidate = self.space.decode(genome)
            violation = self._over(self._costs(candidate.architecture))
            closest = min(closest, violation)
            if violation <= 0:
                found.setdefault(candidate.id, genome)
            if len(found) == self.settings.population:
                break
        if not found:
            bounds = ", ".join(f"{b.metric} {'<=' if b.sense == 'min' else '>='} {b.budget:g}" for b in self.budgets)
            raise SearchError(
                f"none of {SAMPLING_TRIES} random candidates keeps the budgets ({bounds}), the closest is {closest:.0%} over: "
                "raise the budget, or give the space smaller choices"
            )
        return list(found.values())

    def evaluate(self, genomes: Sequence[Genome], generation: int, first: int, most: int) -> list[Evaluation]:
        """Evaluates a generation.

        Args:
            genomes: What NSGA-II asks for.
            generation: Number of the generation.
            first: Index of the first evaluation.
            most: Trainings left; genomes after the last one that may be trained are left out.

        Returns:
            Evaluations in the order of the genomes.
        """
        made: list[Evaluation] = []
        for genome in genomes:
            if sum(e.status == "ok" for e in made) == most:
                break
            made.append(self._plan(genome, generation, first + len(made)))
        missing = []
        for i, plan in enumerate(made):
            known = self.known.get(plan.key)
            if plan.status != "ok":
                self._record(plan, known)
            elif known is None or known.status != "ok":  # A smaller budget than now may have kept it from training.
                missing.append(i)
            else:
                made[i] = replace(plan, metrics={**known.metrics, **plan.metrics}, seconds=known.seconds)
                self._report(made[i])
        jobs = [Job(_candidate(made[i]), self._training(_candidate(made[i])), made[i].seed) for i in missing]
        for position, (metrics, seconds) in self.workers.map(train_candidate, jobs):
            i = missing[position]
            made[i] = replace(made[i], metrics={**metrics, **made[i].metrics}, seconds=seconds)
            self._record(made[i], None)
            self._report(made[i])
        return made

    def values(
        self, made: Sequence[Evaluation], objectives: Sequence[Objective]
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Losses and constraint violations of evaluations, for NSGA-II."""
        losses = [[o.loss(e.metrics[o.metric]) if e.status == "ok" else UNKNOWN for o in objectives] for e in made]
        # The first constraint is that the candidate can be built at all; no violation of a budget outweighs it.
        violations = [
            [
                UNKNOWN if e.status == "infeasible" else 0.0,
                *(b.violation(e.metrics[b.metric]) if b.metric in e.metrics else 0.0 for b in self.budgets),
            ]
            for e in made
        ]
        # A training that diverged is worse than any other.
        return np.nan_to_num(losses, nan=UNKNOWN, posinf=UNKNOWN), np.nan_to_num(violations, nan=UNKNOWN, posinf=UNKNOWN)

    def _plan(self, genome: Genome, generation: int, index: int) -> Evaluation:
        plan = Evaluation(index, generation, genome, "infeasible", None, {}, self.fidelity)
        try:
            candidate = self.space.decode(genome)
        except Infeasible as misfit:
            return replace(plan, reason=str(misfit))
        costs = self._costs(candidate.architecture)
        over = [b for b in self.budgets if b.metric in costs and b.violation(costs[b.metric]) > 0]
        reason = f"{over[0].metric} {costs[over[0].metric]:g} breaks the budget {over[0].budget:g}" if over else ""
        seed = derive_seed(self.seed, "train", candidate.id)
        return replace(
            plan, status="over_budget" if over else "ok", candidate=candidate, metrics=costs, seed=seed, reason=reason
        )

    def _training(self, candidate: Candidate) -> Training:
        return self.settings.training.with_(**dict(candidate.training))

    def _costs(self, architecture: Architecture) -> dict[str, float]:
        return cost_metrics(architecture, weight_bits=self.settings.weight_bits, activation_bits=self.settings.activation_bits)

    def _over(self, costs: dict[str, float]) -> float:
        return max((b.violation(costs[b.metric]) for b in self.budgets if b.metric in costs), default=0.0)

    def _record(self, evaluation: Evaluation, known: Evaluation | None) -> None:
        if known is None:
            self.journal.append(evaluation.to_record())
            self.known[evaluation.key] = evaluation

    def _report(self, evaluation: Evaluation) -> None:
        task, value = self.data.task, evaluation.metrics[self.data.task.metric]
        if self.best is None or not np.isfinite(self.best) or task.better(value, self.best):
            self.best = value
        self.done += 1
        text = f"generation {evaluation.generation}, best {task.metric} {self.best:.4f} {task.unit}".rstrip()
        self.progress(Step("search", self.done, self.settings.evaluations, text))


def _candidate(evaluation: Evaluation) -> Candidate:
    assert evaluation.candidate is not None
    return evaluation.candidate
