"""Global search: NSGA-II over a space, every evaluation in a journal."""

from __future__ import annotations

import logging
import time
from dataclasses import asdict
from itertools import count
from typing import Any

from kerasnac.adapters.rtl.adder_graph import require_da4ml
from kerasnac.adapters.search.nsga2 import Nsga2, SteadyNsga2
from kerasnac.core.data.dataset import Development
from kerasnac.core.hardware.timing import TIMED
from kerasnac.core.search.evaluation import Evaluation
from kerasnac.core.search.objectives import resolve
from kerasnac.core.search.random_search import RandomSearch
from kerasnac.core.settings import SearchSettings
from kerasnac.core.space.learnable import check_learnable_space
from kerasnac.core.space.search_space import Genome, SearchSpace
from kerasnac.core.store.journal import Journal
from kerasnac.core.store.keys import content_key, decisive
from kerasnac.core.store.stages import stage
from kerasnac.errors import ConfigError, DataError, Infeasible, SpaceError
from kerasnac.stages.context import Context
from kerasnac.stages.search.costs import Costs, estimators
from kerasnac.stages.search.evaluator import Evaluator
from kerasnac.stages.search.generations import Generations, by_metric
from kerasnac.stages.search.planner import Planner
from kerasnac.stages.search.problem import SearchProblem
from kerasnac.stages.search.records import trial_of
from kerasnac.stages.search.result import SearchResult
from kerasnac.stages.search.steady import Breeder, SteadyRandom, SteadySearch

log = logging.getLogger("kerasnac")

#: Why a search ended that made all evaluations.
ENOUGH = "all that were asked for"

#: Generations in a row without a candidate that can be trained, after which the search ends.
BARREN_GENERATIONS = 10

#: Settings that decide which candidates are asked for; the others say when to stop, and what else to record.
KEY_FIELDS = (
    "objectives",
    "budgets",
    "seeds",
    "algorithm",
    "mode",
    "lag",
    "population",
    "quantized",
    "learned",
    "folds",
    "halving",
    "weight_bits",
    "activation_bits",
    "board",
    "rule4ml",
    "adder_graph",
)


def global_search(space: SearchSpace, settings: SearchSettings, context: Context) -> SearchResult:
    """Search a space for the best trade-offs.

    Everything evaluated is in ``search.jsonl``, which several searches may share: a candidate that one of
    them has trained costs the others nothing. A search that was interrupted is resumed by calling it again: the
    algorithm is asked from the start and told what the journal knows, which takes milliseconds and gives exactly
    the genomes of the uninterrupted search, without a pickled state that a new version could not read. After every
    generation ``generations.jsonl`` notes what was asked for, so that a search is never resumed as another. All this holds
    for the steady mode, too; see :mod:`kerasnac.stages.search.steady`.

    Args:
        space: Search space.
        settings: Objectives, budgets, population, number of evaluations, training.
        context: Data, whose shapes must be the space's; workers, folder, seed; progress is reported after every
            evaluation.

    Raises:
        SpaceError: If the space has no feasible candidate, or other shapes than the data, if a seed architecture is not in
            it, or an estimator does not know what it holds.
        ConfigError: If an objective or budget is unknown.
        SearchError: If no random candidate keeps the budgets.
        RunError: If a folder's search cannot be resumed by this version, or no worker survives a generation.
        TrialError: If the training of a candidate raises: a bug.
    """
    return _Search(space, settings, context).run()


def check_search(space: SearchSpace, data: Development, settings: SearchSettings) -> None:
    """Check all that can be wrong with a search before anything is trained.

    Raises:
        SpaceError: If shapes or outputs differ, the one network of a space without choices does not fit together, a seed
            architecture is not in the space, or an estimator does not know what the space holds.
        ConfigError: If an objective or a budget is unknown, the training is not for this task, or trained weights are
            asked for that there will not be.
        PluginError: If a block or a source of costs of others does not do its work.
        DataError: If there are fewer samples than folds.
        EnvironmentProblem: If the package of an estimator is missing.
    """
    data.check(settings.training)
    if settings.folds > 1:
        try:
            data.check_folds(settings.folds)
        except DataError as error:
            raise DataError(f"search.folds: {error}") from None
    if space.input != data.input_shape:
        raise SpaceError(f"the space takes inputs of shape {space.input}, the samples of {data.name} have {data.input_shape}")
    if space.outputs != data.task.outputs:
        raise SpaceError(f"the space has {space.outputs} outputs, {data.name} needs {data.task.outputs}")
    if not space.genes:
        try:
            space.decode(())
        except Infeasible as reason:
            raise SpaceError(f"the space has no network: {reason}") from None
    space.probe()
    _seeds(space, settings)
    for estimator in _estimators(data, settings, seed=0):
        estimator.check(space)
    if settings.learned:
        if space.has_compression_genes:
            raise ConfigError(
                "search.learned: every weight and channel learns its own width, and the space has weight_bits, "
                "activation_bits, sparsity or table_bits: take them out of its blocks, or leave learned out"
            )
        check_learnable_space(space, "search.learned")
    if settings.adder_graph.weights == "trained":
        if not space.has_compression_genes and not settings.learned:
            raise ConfigError(
                "search.adder_graph.weights: trained needs a space with weight_bits, activation_bits or sparsity, or "
                "search.learned; candidates of this one are trained in float: use drawn"
            )
        require_da4ml()


class _Search:
    """One search, from the first generation to the last."""

    def __init__(self, space: SearchSpace, settings: SearchSettings, context: Context) -> None:
        data, seed = context.data, context.seed
        check_search(space, data, settings)
        self.settings, self.task, self.folder, self.progress = settings, data.task, context.folder, context.progress
        self.problem = SearchProblem.of(space, settings, data.task, data.fingerprint, seed)
        sources = _estimators(data, settings, seed=seed)
        planner = Planner(self.problem, Costs(sources, context))
        self.evaluator = Evaluator(self.problem, planner, context)
        seeds = _seeds(space, settings)
        self.references = {name: space.decode(genome).id for name, genome in seeds.items()}
        self.first = planner.first_generation(tuple(seeds.values()), context.progress)
        # The clock decides nothing else: runs of earlier versions, which had none here, keep their keys.
        timed = {o.metric for o in (*self.problem.objectives, *self.problem.budgets)} & {*TIMED}
        key = content_key(
            "search",
            space=space.identity,
            settings=decisive(settings, KEY_FIELDS),
            training=settings.training.identity,
            estimators=[source.key for source in sources],
            data=data.fingerprint,
            seed=seed,
            **({"clock_period": settings.clock_period} if timed else {}),
        )
        self.key = key
        self.generations = Generations(Journal(context.folder / "generations.jsonl"), key, self.problem, data.task)
        if settings.mode == "steady" and settings.steady_lag < context.workers.processes:
            log.warning("search.lag: %d keeps no more than %d workers busy", settings.steady_lag, settings.steady_lag)

    def run(self) -> SearchResult:
        """Search, and record in ``stages.jsonl`` what is asked for and which evaluations are the result."""
        given = self.settings.model_dump(mode="json", exclude_unset=True)
        with stage(self.folder, "search", self._asked, given, progress=self.progress) as call:
            evaluations, stopped = self._steady() if self.settings.mode == "steady" else self._generational()
            call.found.update(evaluations=[[*trial_of(e), e.status] for e in evaluations], stopped=stopped)
        return SearchResult(
            tuple(evaluations),
            self.problem.objectives,
            self.problem.budgets,
            self.task,
            self.references,
            tuple(self.generations.complete),
            stopped,
        )

    @property
    def _asked(self) -> dict[str, Any]:
        """All that a reader of the journals needs to know besides."""
        problem, settings = self.problem, self.settings
        brief = [settings.training.with_(epochs=settings.halving.epochs)] if settings.halving else []
        return {
            "search": self.key,
            "fidelities": [problem.fidelity(training).key for training in (settings.training, *brief)],
            "objectives": [asdict(one) for one in problem.objectives],
            "budgets": [asdict(one) for one in problem.budgets],
            "references": self.references,
            "evaluations": problem.most,
            "bits": [settings.weight_bits, settings.activation_bits],
            "board": settings.board,
            "clock_period": settings.clock_period,
        }

    def _steady(self) -> tuple[list[Evaluation], str]:
        """Return the evaluations of a steady-state search, and why it ended."""
        problem, size = self.problem, self.settings.population
        breeder: Breeder
        if self._draws:
            breeder = SteadyRandom(RandomSearch(problem.space, self.first, size=1, seed=problem.seed))
        else:
            breeder = SteadyNsga2(problem.space, self.first, size=size, seed=problem.seed, **self._counts)
        first = len({problem.space.decode(genome).id for genome in self.first})
        search = SteadySearch(problem, breeder, first, self.evaluator, self.generations, BARREN_GENERATIONS * size)
        stopped = search.run()
        return search.evaluations, stopped

    def _generational(self) -> tuple[list[Evaluation], str]:
        """Return the evaluations of a search in generations, and why it ended."""
        problem, size = self.problem, self.settings.population
        algorithm: Nsga2 | RandomSearch
        if self._draws:
            algorithm = RandomSearch(problem.space, self.first, size=size, seed=problem.seed)
        else:
            algorithm = Nsga2(problem.space, self.first, size=size, seed=problem.seed, **self._counts)
        evaluations: list[Evaluation] = []
        barren = 0
        for number in count():
            left = self.settings.evaluations - sum(e.status == "ok" for e in evaluations)
            stopped = self._reason_to_stop(left, barren)
            genomes = [] if stopped else algorithm.ask()
            if not genomes:
                stopped = stopped or problem.exhausted
                break
            began = time.monotonic()
            known = self.generations.logged(number, genomes)
            made = self.evaluator.evaluate(genomes, number, len(evaluations), left, failures=known.failed if known else ())
            evaluations += made
            barren = 0 if any(e.status == "ok" for e in made) else barren + 1
            if len(made) < len(genomes):
                stopped = ENOUGH
                break  # The generation is completed when a later call asks for more evaluations.
            algorithm.tell(*problem.values(made))
            self.evaluator.close_generation(self.generations.close(genomes, evaluations, time.monotonic() - began))
        return evaluations, stopped

    @property
    def _draws(self) -> bool:
        """True if nothing is bred: candidates are drawn, or there is one alone."""
        return self.settings.algorithm == "random" or not self.problem.space.genes

    @property
    def _counts(self) -> dict[str, int]:
        # The first constraint is a training in full.
        points = self.settings.learned.points if self.settings.learned else 1
        return {"objectives": len(self.problem.objectives), "constraints": 1 + len(self.problem.budgets), "points": points}

    def _reason_to_stop(self, left: int, barren: int) -> str:
        if not left:
            return ENOUGH
        if barren == BARREN_GENERATIONS:
            return f"{barren} generations in a row had no candidate that can be trained"
        return self.generations.reason_to_stop(len(self.generations.complete))


def _estimators(data: Development, settings: SearchSettings, *, seed: int) -> list[Any]:
    objectives, budgets = resolve(settings.objectives, settings.budgets, data.task, settings.foreign_costs)
    if unknown := set(by_metric(settings.reference_point, data.task)) - {o.metric for o in objectives}:
        raise ConfigError(f"reference_point: {sorted(unknown)[0]!r} is not an objective")
    return estimators(settings, (o.metric for o in (*objectives, *budgets)), seed=seed)


def _seeds(space: SearchSpace, settings: SearchSettings) -> dict[str, Genome]:
    """Return the genomes of the seed architectures, by name.

    Raises:
        SpaceError: If two have the same name, or one is not in the space.
    """
    genomes = {}
    for reference in settings.seeds:
        if reference.name in genomes:
            raise SpaceError(f"seed {reference.name}: another seed has this name")
        try:
            genomes[reference.name] = space.encode(reference.architecture)
        except SpaceError as error:
            raise SpaceError(f"seed {reference.name}: {error}") from None
    return genomes
