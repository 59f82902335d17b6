"""Plans of candidates before any training: their architectures and costs, and the budgets that they break."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from kerasnac.core.network.learned import check_learnable
from kerasnac.core.network.widths import Widths
from kerasnac.core.search.evaluation import Evaluation
from kerasnac.core.search.objectives import cost_metrics
from kerasnac.core.search.random_search import distinct
from kerasnac.core.space.search_space import Genome
from kerasnac.core.store.progress import Progress, Step
from kerasnac.core.store.seeding import generator
from kerasnac.errors import ConversionError, Infeasible, SearchError
from kerasnac.stages.search.candidate_training import training_seed
from kerasnac.stages.search.costs import Costs
from kerasnac.stages.search.problem import SearchProblem

#: Random candidates that are tried to fill the first generation before the budgets are called impossible.
SAMPLING_TRIES = 2000

#: The same where costs have to be estimated, which takes up to a second each.
ESTIMATED_TRIES = 400


class Planner:
    """Decodes genomes and holds their costs against the budgets.

    Args:
        problem: Space, objectives, budgets.
        costs: Costs by estimators.
    """

    def __init__(self, problem: SearchProblem, costs: Costs) -> None:
        self._problem, self._costs = problem, costs

    def plans(self, genomes: Sequence[Genome], generation: int = 0, first: int = 0) -> list[Evaluation]:
        """Return an evaluation without training for every genome; those with the status ``ok`` are to be trained.

        Args:
            genomes: Canonical genomes.
            generation: Number of their generation.
            first: Index of the first evaluation.
        """
        plans = [self._decoded(genome, generation, first + i) for i, genome in enumerate(genomes)]
        for estimator in self._costs.estimators:
            # A candidate that is already over a budget is not estimated.
            left = [i for i, plan in enumerate(plans) if plan.status == "ok"]
            estimates = self._costs.of([plans[i].built.architecture for i in left], estimator)
            for i, costs in zip(left, estimates, strict=True):
                if isinstance(costs, str):
                    plans[i] = replace(plans[i], status="infeasible", reason=costs)
                else:
                    metrics = self._problem.timed({**plans[i].metrics, **costs})
                    plans[i] = self._budgeted(replace(plans[i], metrics=metrics))
        return plans

    def first_generation(self, seeds: Sequence[Genome], progress: Progress) -> list[Genome]:
        """Return the seeds, and distinct random candidates that keep the budgets on costs.

        Raises:
            SearchError: If no candidate keeps them.
        """
        problem, space = self._problem, self._problem.space
        rng = generator(problem.seed, "first generation")
        size = problem.settings.population
        seen = {space.decode(genome).id for genome in seeds}
        within: list[Genome] = []
        closest, reason = np.inf, ""
        tries = ESTIMATED_TRIES if self._costs.estimators else SAMPLING_TRIES
        for tried in range(0, tries, size):
            drawn = distinct(lambda: space.sample_feasible(rng), space, size, seen)
            plans = self.plans(drawn)
            seen.update(plan.key for plan in plans)
            within += [plan.genome for plan in plans if plan.status == "ok"]
            closest = min([closest, *(max(problem.violations(p), default=0.0) for p in plans if p.status == "over_budget")])
            reason = next((plan.reason for plan in plans if plan.status == "infeasible"), reason)
            if len(drawn) < size or (within and len(seeds) + len(within) >= size):
                break
            progress(Step("search", 0, problem.most, f"{tried + size} candidates tried for the budgets"))
        if not within and not any(plan.status == "ok" for plan in self.plans(seeds)):
            raise self._nothing_within(len(seen), closest, reason)
        return [*seeds, *within[: max(0, size - len(seeds))]]

    def _nothing_within(self, tried: int, closest: float, reason: str) -> SearchError:
        if not np.isfinite(closest):
            return SearchError(f"no cost can be estimated for any of {tried} random candidates: {reason}")
        budgets = self._problem.budgets
        bounds = ", ".join(f"{b.metric} {'<=' if b.sense == 'min' else '>='} {b.budget:g}" for b in budgets)
        return SearchError(
            f"none of {tried} random candidates keeps the budgets ({bounds}), the closest is {closest:.0%} over: "
            "raise the budget, or give the space smaller choices"
        )

    def _decoded(self, genome: Genome, generation: int, index: int) -> Evaluation:
        problem, settings = self._problem, self._problem.settings
        fidelity = problem.fidelity(settings.training)
        plan = Evaluation(index, generation, genome, "infeasible", None, {}, fidelity, search_training=settings.training)
        try:
            candidate = problem.space.decode(genome)
        except Infeasible as misfit:
            return replace(plan, reason=str(misfit))
        widths = Widths(weight_bits=settings.weight_bits, activation_bits=settings.activation_bits)
        costs = cost_metrics(candidate.architecture, **widths)
        costs = {name: value for name, value in costs.items() if name not in problem.measured}
        seed = training_seed(problem.seed, candidate.id)
        if settings.learned:
            try:
                check_learnable(candidate.architecture)
            except ConversionError as obstacle:
                return replace(plan, candidate=candidate, metrics=costs, seed=seed, reason=str(obstacle))
        return self._budgeted(replace(plan, status="ok", candidate=candidate, metrics=costs, seed=seed))

    def _budgeted(self, plan: Evaluation) -> Evaluation:
        for budget in self._problem.budgets:
            if budget.metric in plan.metrics and budget.violation(plan.metrics[budget.metric]) > 0:
                reason = f"{budget.metric} {plan.metrics[budget.metric]:g} breaks the budget {budget.budget:g}"
                return replace(plan, status="over_budget", reason=reason)
        return plan
