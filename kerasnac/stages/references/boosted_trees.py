"""Boosted trees on the data of a run: boosting, Verilog, and their front."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product
from pathlib import Path
from time import monotonic
from typing import Any

from kerasnac.adapters.rtl.tree_verilog import write_trees
from kerasnac.adapters.rtl.verilator import require_verilator, simulate
from kerasnac.adapters.rtl.verilog import write_testbench
from kerasnac.adapters.rtl.yosys import require_yosys, synthesise
from kerasnac.adapters.trees.boosting import Recipe, boost, require_scikit_learn
from kerasnac.core.data.dataset import Development, Task
from kerasnac.core.settings.references import BoostedTreesSettings
from kerasnac.core.store.files import new_folder
from kerasnac.core.store.journal import Journal
from kerasnac.core.store.keys import content_key
from kerasnac.core.store.memo import Memo, Shape
from kerasnac.core.store.progress import Step, working
from kerasnac.core.store.seeding import derive_seed
from kerasnac.core.trees.ensemble import Ensemble
from kerasnac.errors import ConfigError, ConversionError, EnvironmentProblem, RunError
from kerasnac.stages.context import Context
from kerasnac.stages.references.result import TreesPoint, TreesResult, front_of, rounds, thinned

#: The journal in the run folder, the folder of the trees and their Verilog, and the trees beside Verilog.
JOURNAL, FOLDER, TREES = "trees.jsonl", "trees", "trees.json"

#: What a record of Verilog has, besides its key and name.
COUNTED = ("yosys_luts", "ffs", "carry", "muxes", "cycles", "samples")

_BOOSTING = Shape({"key": str, "model": str, "trees": str, "metrics": list[dict[str, float]], "seconds": float})
_VERILOG = Shape({"key": str, "model": str, "seconds": float, **dict.fromkeys(COUNTED, float)})


@dataclass(frozen=True)
class BoostJob:
    """One boosting."""

    recipe: Recipe
    seed: int
    folder: Path

    def key(self, data: Development) -> str:
        """Return the hash of all that decides the trees."""
        return content_key("trees", recipe=vars(self.recipe), seed=self.seed, data=data.fingerprint)

    @property
    def path(self) -> Path:
        """File of its trees."""
        return self.folder / FOLDER / f"{self.recipe.name}.json"


@dataclass(frozen=True)
class VerilogJob:
    """One point to write as Verilog, to simulate and to count."""

    name: str
    ensemble: Ensemble
    samples: int
    folder: Path

    def key(self, data: Development) -> str:
        """Return the hash of all that decides the Verilog and its simulation."""
        samples = {"samples": self.samples, "data": data.fingerprint} if self.samples else {}
        return content_key("trees verilog", trees=self.ensemble.to_dict(), **samples)

    @property
    def path(self) -> Path:
        """Folder of the Verilog."""
        return self.folder / FOLDER / self.name


def boosted_trees(settings: BoostedTreesSettings, context: Context) -> TreesResult:
    """Boost trees with every combination of settings, and count the look-up tables of the best.

    Every boosting and every count is recorded in ``trees.jsonl``, and what it made is in ``trees``; calling again resumes
    after the last one. Points are chosen by their metric on the validation split.

    Args:
        settings: Depths, bits, rounds.
        context: Data, workers, folder, seed.

    Returns:
        All rounds of all boostings; those on the estimated front have Verilog, unless only estimates are wanted.

    Raises:
        ConfigError: If the samples are not flat, or are neither of a classification nor of a regression.
        EnvironmentProblem: If scikit-learn, Yosys or Verilator is missing.
        ConversionError: If a simulated sample differs, or a tool fails.
    """
    check_boosted_trees(settings, context.data)
    report = _Progress(settings, context)
    recipes = _recipes(settings)
    jobs = [BoostJob(recipe, context.seed, context.folder) for recipe in recipes]
    memo = _memo(context.folder)
    known = [_known_boosting(context.data, job, memo) for job in jobs]
    report.known = {found[-1].name for found in known if found}
    watch = working(context.progress, "trees", [job.recipe.name for job in jobs])
    boostings = context.results(boost_one, jobs, known, each=lambda found: report(found[-1], "estimated_luts"), watch=watch)
    # Rounds that compare nothing, since nothing can be learned from the features, are no points.
    points = [point for boosting in boostings for point in boosting if point.ensemble.comparisons]
    task = context.data.task
    if settings.luts == "estimate":
        return TreesResult(tuple(points), task, "estimated_luts")
    chosen = thinned(front_of(points, task, "estimated_luts"), settings.points)
    verilog = [VerilogJob(point.name, point.ensemble, settings.samples, context.folder) for point in chosen]
    report.total = len(jobs) + len(verilog)
    named = {point.name: point for point in chosen}
    counts: dict[str, TreesPoint] = {}

    def counted(result: tuple[str, dict[str, float]]) -> None:
        point, costs = named[result[0]], result[1]
        counts[point.name] = TreesPoint(point.name, point.ensemble, point.metrics, {**point.costs, **costs})
        report(counts[point.name], "yosys_luts")

    known_counts = [_known_count(context.data, job, memo) for job in verilog]
    report.known = {found[0] for found in known_counts if found}
    watch = working(context.progress, "trees", [job.name for job in verilog])
    context.results(count_one, verilog, known_counts, each=counted, watch=watch)
    return TreesResult(tuple(counts.get(point.name, point) for point in points), task, "yosys_luts")


def check_boosted_trees(settings: BoostedTreesSettings, data: Development) -> None:
    """Check that trees can be boosted on some data on this machine.

    Raises:
        ConfigError: If the samples are not flat, or are neither of a classification nor of a regression.
        EnvironmentProblem: If scikit-learn, Yosys or Verilator is missing.
    """
    where = "references: boosted_trees"
    if len(data.input_shape) != 1:
        raise ConfigError(
            f"{where} are for flat samples (features,); those of {data.name} have the shape {data.input_shape}: leave them out"
        )
    if data.task.kind not in ("classification", "regression"):
        raise ConfigError(f"{where} are for classification and regression, not for {data.task.kind}: leave them out")
    require_scikit_learn()
    if settings.luts == "estimate":
        return
    try:
        require_yosys()
        if settings.samples:
            require_verilator()
    except EnvironmentProblem as error:
        remedy = "or do without: references: {boosted_trees: {luts: estimate}}"
        raise EnvironmentProblem(f"{where}: {error}; {remedy}") from None


def _recipes(settings: BoostedTreesSettings) -> list[Recipe]:
    grid = product(settings.depths, settings.leaf_bits, settings.thresholds, settings.learning_rates)
    return [Recipe(*one, settings.rounds, settings.subsample) for one in grid]


class _Progress:
    """Reports every boosting and every count."""

    def __init__(self, settings: BoostedTreesSettings, context: Context) -> None:
        self._context, self._done = context, 0
        #: Points whose boosting, or count, the journal had.
        self.known: set[str] = set()
        self.total = len(_recipes(settings)) + (settings.points if settings.luts == "yosys" else 0)
        context.progress(Step("trees", 0, self.total, "boosting"))

    def __call__(self, point: TreesPoint, cost: str) -> None:
        self._done += 1
        task = self._context.data.task
        text = f"{point.name}: {task.metric} {point.metrics[task.metric]:.4f}, {point.costs[cost]:,.0f} LUT"
        if cost == "estimated_luts":
            text += " (estimate)"
        facts = {"model": point.name, "metrics": {**point.metrics, **point.costs}, "known": point.name in self.known}
        self._context.progress(Step("trees", self._done, self.total, text, "point", facts))


def _memo(folder: Path) -> Memo:
    return Memo(Journal(folder / JOURNAL), lambda r: _BOOSTING if "metrics" in r else _VERILOG, lambda record: record["key"])


def boost_one(data: Development, job: BoostJob) -> tuple[TreesPoint, ...]:
    """Boost trees, or read those that are recorded; runs in a worker.

    Returns:
        One point per round, ascending.
    """
    memo = _memo(job.folder)
    if (known := _known_boosting(data, job, memo)) is not None:
        return known
    started = monotonic()
    ensemble = boost(data, job.recipe, derive_seed(job.seed, "trees", job.recipe.name))
    ensemble.save(job.path)
    record: dict[str, Any] = {
        "key": job.key(data),
        "model": job.recipe.name,
        "trees": _content(ensemble),
        "metrics": _metrics(data, ensemble),
        "seconds": monotonic() - started,
    }
    memo.add(record)
    return rounds(job.recipe.name, ensemble, record["metrics"])


def _known_boosting(data: Development, job: BoostJob, memo: Memo) -> tuple[TreesPoint, ...] | None:
    """Return the points of a boosting that is recorded and whose trees are there; None if they are to be boosted."""
    record = memo.get(job.key(data))
    ensemble = None if record is None else _found(job.path)
    if record is None or ensemble is None or _content(ensemble) != record["trees"]:
        return None
    return rounds(job.recipe.name, ensemble, record["metrics"])


def _content(ensemble: Ensemble) -> str:
    return content_key("ensemble", trees=ensemble.to_dict())


def _found(path: Path) -> Ensemble | None:
    """Return the trees of a file; None if it is missing or damaged: they are made again, with the same result."""
    try:
        return Ensemble.load(path)
    except RunError:
        return None


def _metrics(data: Development, ensemble: Ensemble) -> list[dict[str, float]]:
    """Return the metrics on the validation split after every round."""
    task, split = data.task, data.validation
    return [_scored(task, ensemble, steps, split.y) for steps in ensemble.sums(split.x)]


def _scored(task: Task, ensemble: Ensemble, steps: Any, labels: Any) -> dict[str, float]:
    outputs = ensemble.values(steps)
    return {task.metric: task.score(outputs, labels), **task.further(outputs, labels)}


def count_one(data: Development, job: VerilogJob) -> tuple[str, dict[str, float]]:
    """Write Verilog, simulate it and count its cells, or read what is recorded; runs in a worker.

    Returns:
        Name of the point, and the counts.

    Raises:
        ConversionError: If a sample differs, or a tool fails.
    """
    memo = _memo(job.folder)
    if (known := _known_count(data, job, memo)) is not None:
        return known
    started = monotonic()
    costs = _counted(data, job)
    memo.add({"key": job.key(data), "model": job.name, **costs, "seconds": monotonic() - started})
    return job.name, costs


def _known_count(data: Development, job: VerilogJob, memo: Memo) -> tuple[str, dict[str, float]] | None:
    """Return the counts of a point that are recorded, if its Verilog is there."""
    record = memo.get(job.key(data))
    if record is None or _found(job.path / TREES) != job.ensemble:  # Other settings may have trees of the same name.
        return None
    return job.name, {name: record[name] for name in COUNTED}


def _counted(data: Development, job: VerilogJob) -> dict[str, float]:
    x = data.validation.x[: job.samples]
    with new_folder(job.path) as folder:
        design = write_trees(job.ensemble, job.name, folder)
        if len(x):
            simulation = simulate(design, write_testbench(design, x, job.ensemble.predict(x)))
            if simulation.mismatches:
                raise ConversionError(f"{job.name}: {simulation.verdict}; please report it, trees should be exact")
        cells = synthesise(design)
        job.ensemble.save(folder / TREES)
    counts = (cells.luts, cells.ffs, cells.carry, cells.muxes, design.latency, len(x))
    return dict(zip(COUNTED, map(float, counts), strict=True))
