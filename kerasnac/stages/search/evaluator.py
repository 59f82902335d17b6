"""Evaluating the generations of a global search: costs, then trainings, all in the journal."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from kerasnac.adapters.search.nsga2 import UNKNOWN, fittest
from kerasnac.adapters.workers import Died, Workers
from kerasnac.core.data.dataset import Development
from kerasnac.core.hardware.boards import board
from kerasnac.core.hardware.estimators import SOURCES
from kerasnac.core.network.training import Training
from kerasnac.core.search.evaluation import Evaluation, Fidelity, Status
from kerasnac.core.search.objectives import COSTS, Objective, cost_metrics
from kerasnac.core.search.random_search import distinct
from kerasnac.core.settings import SearchSettings
from kerasnac.core.space.search_space import Candidate, Genome, SearchSpace
from kerasnac.core.store.journal import Journal
from kerasnac.core.store.keys import content_key, decisive
from kerasnac.core.store.progress import Progress, Step
from kerasnac.core.store.seeding import generator
from kerasnac.errors import Infeasible, RunError, SearchError
from kerasnac.stages.search.candidate_training import Codesign, Job, searched, train_candidate, training_seed
from kerasnac.stages.search.costs import Costs

#: Random candidates that are tried to fill the first generation before the budgets are called impossible.
SAMPLING_TRIES = 2000

#: The same where costs have to be estimated, which takes up to a second each.
ESTIMATED_TRIES = 400

#: A candidate and the key of a fidelity.
Trial = tuple[str, str]


class Evaluator:
    """Evaluates generations, and remembers all that was ever evaluated.

    Args:
        space: Where the genomes come from.
        data: Development data.
        settings: Of the search.
        objectives: What is optimised.
        budgets: The constraints.
        costs: Costs by estimators.
        workers: Processes.
        journal: Where evaluations are kept.
        seed: Seed of the run.
        progress: Called after every evaluation.
    """

    def __init__(
        self,
        space: SearchSpace,
        data: Development,
        settings: SearchSettings,
        objectives: Sequence[Objective],
        budgets: Sequence[Objective],
        costs: Costs,
        workers: Workers,
        journal: Journal,
        seed: int,
        progress: Progress,
    ) -> None:
        self._space, self._data, self._settings = space, data, settings
        self._objectives, self._budgets, self._costs = objectives, budgets, costs
        self._workers, self._journal, self._seed, self._progress = workers, journal, seed, progress
        records = list(_evaluations(journal))
        self._known = {_trial(e): e for e in records if e.status in ("ok", "brief") or _trained(e)}
        self._failed = {_trial(e): e for e in records if e.status == "failed"}
        self._noted = {_trial(e) for e in records if e.status in ("infeasible", "over_budget")}
        # Costs that a training measures, of its weights; all others are known, or estimated, before.
        graphs = settings.adder_graph.weights == "trained"
        self._measured = SOURCES["adder_graph"] if graphs else ()
        self._best: float | None = None
        self._done = 0
        #: Hypervolume after the last generation, for the progress display.
        self.hypervolume = 0.0

    def first_generation(self, seeds: Sequence[Genome]) -> list[Genome]:
        """The seeds, and distinct random candidates that keep the budgets on costs.

        Raises:
            SearchError: If no candidate keeps them.
        """
        rng = generator(self._seed, "first generation")
        size = self._settings.population
        seen = {self._space.decode(genome).id for genome in seeds}
        within: list[Genome] = []
        closest, reason = np.inf, ""
        tries = ESTIMATED_TRIES if self._costs.estimators else SAMPLING_TRIES
        for tried in range(0, tries, size):
            drawn = distinct(lambda: self._space.sample_feasible(rng), self._space, size, seen)
            plans = self._plans(drawn, generation=0, first=0)
            seen.update(plan.key for plan in plans)
            within += [plan.genome for plan in plans if plan.status == "ok"]
            closest = min([closest, *(self._over(plan) for plan in plans if plan.status == "over_budget")])
            reason = next((plan.reason for plan in plans if plan.status == "infeasible"), reason)
            if len(drawn) < size or (within and len(seeds) + len(within) >= size):
                break
            self._progress(Step("search", 0, self._settings.evaluations, f"{tried + size} candidates tried for the budgets"))
        if not within and not any(plan.status == "ok" for plan in self._plans(seeds, generation=0, first=0)):
            if not np.isfinite(closest):
                raise SearchError(f"no cost can be estimated for any of {len(seen)} random candidates: {reason}")
            bounds = ", ".join(f"{b.metric} {'<=' if b.sense == 'min' else '>='} {b.budget:g}" for b in self._budgets)
            raise SearchError(
                f"none of {len(seen)} random candidates keeps the budgets ({bounds}), the closest is {closest:.0%} over: "
                "raise the budget, or give the space smaller choices"
            )
        return [*seeds, *within[: max(0, size - len(seeds))]]

    def evaluate(
        self, genomes: Sequence[Genome], generation: int, first: int, most: int, *, failures: Collection[Trial] = ()
    ) -> list[Evaluation]:
        """Evaluates a generation.

        Args:
            genomes: What the search asks for.
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
        made = self._plans(genomes, generation, first)
        for plan in made:
            if plan.status != "ok" and _trial(plan) not in self._noted:
                self._noted.add(_trial(plan))
                self._journal.append(plan.to_record())
        chosen = [i for i, plan in enumerate(made) if plan.status == "ok"]
        if self._settings.halving:
            chosen = self._promising(made, chosen, most, failures)
        while chosen and most > 0:  # Again for those whose workers died.
            self._train(made, chosen[:most], self._training, "ok", failures)
            last, most, chosen = chosen[:most][-1], most - sum(made[i].status == "ok" for i in chosen[:most]), chosen[most:]
        if chosen:
            made = made[: last + 1]
        failed = [e for e in made if e.status == "failed"]
        if len(failed) > 1 and not any(e.status == "ok" for e in made):
            raise RunError(
                f"no candidate of generation {generation} could be trained. The first, [{_candidate(failed[0]).architecture}]: "
                f"{failed[0].reason} This is most often a lack of memory: resume with fewer workers"
            )
        return made

    def values(self, made: Sequence[Evaluation]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Losses and constraint violations of evaluations, for NSGA-II."""
        losses = [[o.height(e.metrics[o.metric]) if e.status == "ok" else UNKNOWN for o in self._objectives] for e in made]
        # The first constraint is a training in full. Of those without one, briefly trained candidates are the best, and
        # none keeps it: their metrics are of another fidelity, and no front may mix the two.
        unknown = {"ok": 0.0, "brief": 1.0, "over_budget": 0.0, "infeasible": UNKNOWN, "failed": UNKNOWN}
        violations = [[unknown[e.status], *self._violations(e)] for e in made]
        # A training that diverged is worse than any other.
        return np.nan_to_num(losses, nan=UNKNOWN, posinf=UNKNOWN), np.nan_to_num(violations, nan=UNKNOWN, posinf=UNKNOWN)

    @property
    def _training(self) -> Training:
        return self._settings.training

    def _fidelity(self, training: Training) -> Fidelity:
        settings = self._settings
        read = ["folds"]
        if self._space.codesigned:
            read += ["quantized", "weight_bits", "activation_bits"]
        if self._measured:
            read += ["adder_graph", "board"]
        own = content_key(
            "fidelity",
            training=training.identity,
            settings=decisive(settings, read),
            data=self._data.fingerprint,
            seed=self._seed,
        )
        return Fidelity(training.epochs, training.data_fraction, settings.folds, own)

    def _plans(self, genomes: Sequence[Genome], generation: int, first: int) -> list[Evaluation]:
        """What is known of genomes before any training; ``ok`` are those to train."""
        plans = [self._decoded(genome, generation, first + i) for i, genome in enumerate(genomes)]
        for estimator in self._costs.estimators:
            # What is over budget by what is known already is not estimated.
            left = [i for i, plan in enumerate(plans) if plan.status == "ok"]
            estimates = self._costs.of([_candidate(plans[i]).architecture for i in left], estimator)
            for i, costs in zip(left, estimates, strict=True):
                if isinstance(costs, str):
                    plans[i] = replace(plans[i], status="infeasible", reason=costs)
                else:
                    plans[i] = self._budgeted(replace(plans[i], metrics={**plans[i].metrics, **costs}))
        return plans

    def _decoded(self, genome: Genome, generation: int, index: int) -> Evaluation:
        plan = Evaluation(index, generation, genome, "infeasible", None, {}, self._fidelity(self._training))
        try:
            candidate = self._space.decode(genome)
        except Infeasible as misfit:
            return replace(plan, reason=str(misfit))
        widths = {"weight_bits": self._settings.weight_bits, "activation_bits": self._settings.activation_bits}
        costs = cost_metrics(candidate.architecture, **widths)
        seed = training_seed(self._seed, candidate.id)
        return self._budgeted(replace(plan, status="ok", candidate=candidate, metrics=costs, seed=seed))

    def _budgeted(self, plan: Evaluation) -> Evaluation:
        for budget in self._budgets:
            if budget.metric in plan.metrics and budget.violation(plan.metrics[budget.metric]) > 0:
                reason = f"{budget.metric} {plan.metrics[budget.metric]:g} breaks the budget {budget.budget:g}"
                return replace(plan, status="over_budget", reason=reason)
        return plan

    def _promising(self, made: list[Evaluation], chosen: Sequence[int], most: int, failures: Collection[Trial]) -> list[int]:
        """Trains candidates briefly; returns which of them are to be trained in full, and prepares those."""
        assert self._settings.halving is not None
        plans = list(made)
        self._train(made, chosen, self._training.with_(epochs=self._settings.halving.epochs), "brief", failures)
        alive = [i for i in chosen if made[i].status == "brief"]
        losses = [[o.height(made[i].metrics[o.metric]) for o in self._objectives] for i in alive]
        violations = [[0.0, *self._violations(made[i])] for i in alive]
        keep = min(most, math.ceil(self._settings.halving.keep * len(alive)))
        best = [alive[i] for i in fittest(np.nan_to_num(losses, nan=UNKNOWN), np.nan_to_num(violations, nan=UNKNOWN), keep)]
        for i in best:
            made[i] = plans[i]
        return best

    def _train(
        self, made: list[Evaluation], chosen: Iterable[int], training: Training, status: Status, failures: Collection[Trial]
    ) -> None:
        """Puts the results of trainings in place of plans, from the journal where it has them."""
        fidelity = self._fidelity(training)
        missing = []
        for i in chosen:
            made[i] = replace(made[i], fidelity=fidelity)
            trial = _trial(made[i])
            if trial in failures:
                self._put(made, i, self._failed[trial])
            elif trial in self._known:
                known = self._known[trial]
                # Another search may have called the same training brief, or full.
                self._put(made, i, known if known.status == "infeasible" else replace(known, status=status))
            else:
                missing.append(i)
        jobs = [self._job(made[i], training) for i in missing]
        for position, result in self._workers.attempt(train_candidate, jobs):
            i = missing[position]
            if isinstance(result, Died):
                outcome = replace(made[i], status="failed", reason=result.reason)
                self._failed[_trial(outcome)] = outcome
            else:
                outcome = replace(
                    made[i],
                    status="infeasible" if result.reason else status,
                    metrics={**result.metrics, **made[i].metrics},
                    seconds=result.seconds,
                    reason=result.reason,
                )
                self._known[_trial(outcome)] = outcome
            self._journal.append(outcome.to_record())
            self._put(made, i, outcome)

    def _put(self, made: list[Evaluation], i: int, known: Evaluation) -> None:
        # The costs may be of other settings than the known ones; the metrics of the training are the same.
        before = set(COSTS) - set(self._measured)
        trained = {name: value for name, value in known.metrics.items() if name.removesuffix("_spread") not in before}
        made[i] = replace(
            made[i], status=known.status, metrics={**trained, **made[i].metrics}, seconds=known.seconds, reason=known.reason
        )
        self._report(made[i])

    def _job(self, plan: Evaluation, training: Training) -> Job:
        candidate, settings = _candidate(plan), self._settings
        own, codesign = training.with_(**dict(candidate.training)), None
        if candidate.architecture.codesigned:
            codesign = Codesign(
                settings.quantized.of(own, full=settings.training.epochs),
                settings.weight_bits,
                settings.activation_bits,
                settings.adder_graph if self._measured else None,
                board(settings.board).lut,
                searched(self._journal.path.parent, plan),
            )
        return Job(candidate, own, plan.seed, settings.folds, codesign)

    def _violations(self, evaluation: Evaluation) -> list[float]:
        known = evaluation.metrics
        return [b.violation(known[b.metric]) if b.metric in known else 0.0 for b in self._budgets]

    def _over(self, plan: Evaluation) -> float:
        return max(self._violations(plan), default=0.0)

    def _report(self, evaluation: Evaluation) -> None:
        task = self._data.task
        best = ""
        if evaluation.status == "ok":
            value = evaluation.metrics[task.metric]
            if self._best is None or not np.isfinite(self._best) or task.better(value, self._best):
                self._best = value
            self._done += 1
        if self._best is not None:
            best = f", best {task.metric} {self._best:.4f} {task.unit}".rstrip()
        text = f"generation {evaluation.generation}{best}, hypervolume {self.hypervolume:.3f}"
        self._progress(Step("search", self._done, self._settings.evaluations, text))


def _evaluations(journal: Journal) -> Iterable[Evaluation]:
    for record in journal.records():
        try:
            yield Evaluation.from_record(record)
        except KeyError as error:
            raise RunError(f"{journal.path} is of another version of kerasnac ({error} is missing): start a new run") from None


def _trial(evaluation: Evaluation) -> Trial:
    return evaluation.key, evaluation.fidelity.key


def _trained(evaluation: Evaluation) -> bool:
    """Whether a candidate turned out to be infeasible by its trained weights."""
    return evaluation.status == "infeasible" and evaluation.seconds > 0


def _candidate(evaluation: Evaluation) -> Candidate:
    assert evaluation.candidate is not None
    return evaluation.candidate
