"""Global search: NSGA-II over a space, every evaluation in a journal."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from itertools import count
from typing import Annotated, Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from kerasnac.adapters.rtl.adder_graph import require_da4ml
from kerasnac.adapters.search.nsga2 import Hypervolume, Nsga2, nondominated
from kerasnac.core.data.dataset import Development, Task
from kerasnac.core.search.evaluation import Evaluation
from kerasnac.core.search.objectives import resolve
from kerasnac.core.search.random_search import RandomSearch
from kerasnac.core.settings import SearchSettings
from kerasnac.core.space.search_space import Genome, SearchSpace
from kerasnac.core.store.journal import Journal
from kerasnac.core.store.keys import content_key, decisive
from kerasnac.core.store.memo import Memo, Shape
from kerasnac.errors import ConfigError, DataError, Infeasible, RunError, SpaceError
from kerasnac.stages.context import Context
from kerasnac.stages.search.costs import Costs, estimators
from kerasnac.stages.search.evaluator import Evaluator
from kerasnac.stages.search.planner import Planner
from kerasnac.stages.search.problem import SearchProblem
from kerasnac.stages.search.result import Generation, SearchResult, eligible

#: Generations in a row without a candidate that can be trained, after which the search ends.
BARREN_GENERATIONS = 10

#: Settings that decide which candidates are asked for; the others say when to stop, and what else to record.
KEY_FIELDS = (
    "objectives",
    "budgets",
    "seeds",
    "algorithm",
    "population",
    "quantized",
    "folds",
    "halving",
    "weight_bits",
    "activation_bits",
    "board",
    "rule4ml",
    "adder_graph",
)

#: Shape of the record of a generation.
_LOGGED = Shape(
    {
        "search": str,
        "number": int,
        "asked": str,
        "evaluations": int,
        "hypervolume": float,
        "seconds": float,
        "failed": list[Annotated[list[str], Field(min_length=2, max_length=2)]],
    }
)


def global_search(space: SearchSpace, settings: SearchSettings, context: Context) -> SearchResult:
    """Search a space for the best trade-offs.

    Everything evaluated is in ``search.jsonl``, which several searches may share: a candidate that one of
    them has trained costs the others nothing. A search that was interrupted is resumed by calling it again: the
    algorithm is asked from the start and told what the journal knows, which takes milliseconds and gives exactly
    the genomes of the uninterrupted search, without a pickled state that a new version could not read. After every
    generation ``generations.jsonl`` notes what was asked for, so that a search is never resumed as another.

    Args:
        space: Search space.
        settings: Objectives, budgets, population, number of evaluations, training.
        context: Data, whose shapes must be the space's; workers, folder, seed; progress is reported after every
            evaluation.

    Raises:
        SpaceError: If the space has no choices, no feasible candidate, or other shapes than the data, if a seed
            architecture is not in it, or an estimator does not know what it holds.
        ConfigError: If an objective or budget is unknown.
        SearchError: If no random candidate keeps the budgets.
        RunError: If a folder's search cannot be resumed by this version, or no worker survives a generation.
        TrialError: If the training of a candidate raises: a bug.
    """
    return _Search(space, settings, context).run()


def check_search(space: SearchSpace, data: Development, settings: SearchSettings) -> None:
    """Check all that can be wrong with a search before anything is trained.

    Raises:
        SpaceError: If shapes or outputs differ, there is nothing to choose, a seed architecture is not in the space,
            or an estimator does not know what the space holds.
        ConfigError: If an objective or a budget is unknown, the training is not for this task, or trained weights are
            asked for that there will not be.
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
        raise SpaceError("the space has no choices: give at least one key a list of values")
    _seeds(space, settings)
    for estimator in _estimators(data, settings, seed=0):
        estimator.check(space)
    if settings.adder_graph.weights == "trained":
        if not space.has_compression_genes:
            raise ConfigError(
                "search.adder_graph.weights: trained needs a space with weight_bits, activation_bits or sparsity; candidates "
                "of this one are trained in float: use drawn"
            )
        require_da4ml()


class _Search:
    """One search, from the first generation to the last."""

    def __init__(self, space: SearchSpace, settings: SearchSettings, context: Context) -> None:
        data, seed = context.data, context.seed
        check_search(space, data, settings)
        self.settings, self.task = settings, data.task
        self.problem = SearchProblem.of(space, settings, data.task, data.fingerprint, seed)
        sources = _estimators(data, settings, seed=seed)
        planner = Planner(self.problem, Costs(sources, context))
        self.evaluator = Evaluator(self.problem, planner, context)
        seeds = _seeds(space, settings)
        self.references = {name: space.decode(genome).id for name, genome in seeds.items()}
        first = planner.first_generation(tuple(seeds.values()), context.progress)
        self.algorithm = self._algorithm(first)
        self.log = Memo(Journal(context.folder / "generations.jsonl"), _LOGGED, lambda r: r["search"])
        self.key = content_key(
            "search",
            space=space.identity,
            settings=decisive(settings, KEY_FIELDS),
            training=settings.training.identity,
            estimators=[source.key for source in sources],
            data=data.fingerprint,
            seed=seed,
        )
        self.logged = {g.number: g for g in (map(_logged, self.log.all(self.key)))}
        self.evaluations: list[Evaluation] = []
        self.generations: list[Generation] = []
        self.volume: Hypervolume | None = None

    def _algorithm(self, first: list[Genome]) -> Nsga2 | RandomSearch:
        problem, size = self.problem, self.settings.population
        if self.settings.algorithm == "random":
            return RandomSearch(problem.space, first, size=size, seed=problem.seed)
        constraints = 1 + len(problem.budgets)  # the first one is a training in full
        objectives = len(problem.objectives)
        return Nsga2(problem.space, first, size=size, objectives=objectives, constraints=constraints, seed=problem.seed)

    def run(self) -> SearchResult:
        barren = 0
        for number in count():
            stopped = self._reason_to_stop(barren)
            genomes = [] if stopped else self.algorithm.ask()
            if not genomes:
                stopped = stopped or "every candidate within reach has been evaluated"
                break
            began = time.monotonic()
            known = self._logged_generation(number, genomes)
            made = self.evaluator.evaluate(
                genomes, number, len(self.evaluations), self._left, failures=known.failed if known else ()
            )
            self.evaluations += made
            barren = 0 if any(e.status == "ok" for e in made) else barren + 1
            if len(made) < len(genomes):
                stopped = self._enough
                break  # The generation is completed when a later call asks for more evaluations.
            self.algorithm.tell(*self.problem.values(made))
            self._close(number, genomes, made, known, time.monotonic() - began)
        return SearchResult(
            tuple(self.evaluations),
            self.problem.objectives,
            self.problem.budgets,
            self.task,
            self.references,
            tuple(self.generations),
            stopped,
        )

    @property
    def _enough(self) -> str:
        return "all that were asked for"

    @property
    def _left(self) -> int:
        return self.settings.evaluations - sum(e.status == "ok" for e in self.evaluations)

    def _reason_to_stop(self, barren: int) -> str:
        volumes = [g.hypervolume for g in self.generations]
        patience, hours = self.settings.stagnation, self.settings.max_hours
        if not self._left:
            return self._enough
        if barren == BARREN_GENERATIONS:
            return f"{barren} generations in a row had no candidate that can be trained"
        if hours is not None and sum(g.seconds for g in self.generations) >= 3600 * hours:
            return f"{hours:g} hours are over"
        if patience is not None and len(volumes) > patience and volumes[-1] <= volumes[-1 - patience]:
            return f"the hypervolume has not grown in {patience} generations"
        return ""

    def _logged_generation(self, number: int, genomes: Sequence[Genome]) -> Generation | None:
        logged = self.logged.get(number)
        if logged is not None and logged.asked != _asked(genomes):
            raise RunError(
                f"{self.log.journal.path}: generation {number} asks for other candidates than it did before, with other "
                "versions of kerasnac or pymoo: install those that run.json names, or copy search.jsonl to a new folder, where "
                "a new search finds its evaluations"
            )
        return logged

    def _close(
        self,
        number: int,
        genomes: Sequence[Genome],
        made: Sequence[Evaluation],
        known: Generation | None,
        seconds: float,
    ) -> None:
        """Record a complete generation and its hypervolume."""
        done = [e for e in self.evaluations if e.status == "ok"]
        _, scaled_losses = eligible(done, self.problem.objectives, self.problem.budgets)
        if self.volume is None and len(scaled_losses):
            self.volume = Hypervolume(scaled_losses, self._reference_point(scaled_losses))
        volume = self.volume(scaled_losses) if self.volume else 0.0
        self.evaluator.hypervolume = volume
        taken = seconds if known is None else known.seconds
        failed = tuple((e.key, e.fidelity.key) for e in made if e.status == "failed")
        self.generations.append(Generation(number, _asked(genomes), len(done), volume, round(taken, 3), failed))
        if known != self.generations[-1]:
            self.log.add({"search": self.key, **asdict(self.generations[-1])})

    def _reference_point(self, scaled_losses: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the given reference point, or one somewhat beyond the ends of the first front.

        The worst values of the first generation would not do: a failed training would set the scale.
        """
        given = _named(self.settings.reference_point, self.task)
        front = scaled_losses[nondominated(scaled_losses)]
        beyond = front.max(axis=0) + 0.1 * np.ptp(front, axis=0)
        return np.array(
            [
                o.scaled_loss(given[o.metric]) if o.metric in given else b
                for o, b in zip(self.problem.objectives, beyond, strict=True)
            ]
        )


def _estimators(data: Development, settings: SearchSettings, *, seed: int) -> list[Any]:
    objectives, budgets = resolve(settings.objectives, settings.budgets, data.task)
    if unknown := set(_named(settings.reference_point, data.task)) - {o.metric for o in objectives}:
        raise ConfigError(f"reference_point: {sorted(unknown)[0]!r} is not an objective")
    return estimators(settings, (o.metric for o in (*objectives, *budgets)), seed=seed)


def _named(values: Mapping[str, float], task: Task) -> dict[str, float]:
    """Return values by metric, with the name of the task's metric in place of ``metric``."""
    return {task.metric if name == "metric" else name: value for name, value in values.items()}


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


def _asked(genomes: Sequence[Genome]) -> str:
    """Return the hash of the genomes of a generation."""
    return content_key("genomes", genomes=list(genomes))


def _logged(record: Mapping[str, Any]) -> Generation:
    plain = {name: record[name] for name in ("number", "asked", "evaluations", "hypervolume", "seconds")}
    return Generation(**plain, failed=tuple((key, fidelity) for key, fidelity in record["failed"]))
