"""The sections of a report, each with what there is of it, and with a line where something is missing."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from kerasnac.core.display import counted
from kerasnac.core.network.trained import Trained
from kerasnac.stages.results.layout import SETTINGS
from kerasnac.stages.results.saved import SavedRun
from kerasnac.ui import charts as result_charts
from kerasnac.ui.figures import Chart, plain
from kerasnac.ui.report import charts, files, genes, grids
from kerasnac.ui.report.drawing import Drawing, drawing
from kerasnac.ui.report.grids import Grid
from kerasnac.ui.report.importance import FEWEST, importance
from kerasnac.ui.report.points import Explorer, Point, chosen_of, explorer, points_of, trials

#: Networks that are drawn, at most.
MOST_DRAWN = 16


@dataclass(frozen=True)
class Parallel:
    """Genes of all candidates as parallel coordinates.

    Attributes:
        key: Its place on the page.
        title: What it shows.
        axes: Name, values, and the words for them (empty for numbers) of every axis.
        color: Name of the axis whose value is the colour.
        sense: ``max`` or ``min``: which of its values are good.
    """

    key: str
    title: str
    axes: tuple[tuple[str, tuple[float, ...], tuple[str, ...]], ...]
    color: str
    sense: str

    def to_dict(self) -> dict[str, Any]:
        """Return what the page's script needs."""
        axes = [
            {"name": name, "values": [plain(value) for value in values], "words": list(words)}
            for name, values, words in self.axes
        ]
        return {"axes": axes, "color": self.color, "sense": self.sense}


@dataclass(frozen=True)
class Section:
    """A section of a report.

    Attributes:
        key: Its anchor.
        title: Its heading.
        lines: Sentences at its beginning; those on what is missing among them.
        charts: Figures.
        explorers: Figures with menus.
        parallels: Parallel coordinates.
        drawings: Networks.
        grids: Tables.
        texts: Long texts by title, folded up.
        print_only: Figures that files have, and the page has better ones for.
    """

    key: str
    title: str
    lines: tuple[str, ...] = ()
    charts: tuple[Chart, ...] = ()
    explorers: tuple[Explorer, ...] = ()
    parallels: tuple[Parallel, ...] = ()
    drawings: tuple[Drawing, ...] = ()
    grids: tuple[Grid, ...] = ()
    texts: Mapping[str, str] = field(default_factory=dict)
    print_only: tuple[Chart, ...] = ()

    @property
    def is_empty(self) -> bool:
        """True if there is nothing to show and nothing to say."""
        there = (self.lines, self.charts, self.explorers, self.parallels, self.drawings, self.grids, self.texts)
        return not any(there)


class Material:
    """What several sections of a report read.

    Args:
        run: The run.
    """

    def __init__(self, run: SavedRun) -> None:
        self.run = run

    @cached_property
    def points(self) -> tuple[Point, ...]:
        """The points of all stages."""
        return points_of(self.run)

    @cached_property
    def chosen(self) -> tuple[Trained, ...]:
        """The compressed models that were chosen, or a few of the front if none were."""
        front = self.run.compressed.front if self.run.compressed else ()
        step = max(1, len(front) // 6)
        return chosen_of(self.run) or tuple(front[::step][:6])

    def begun(self, stage: str) -> bool:
        """Return True if a stage has begun or is asked for."""
        return any(state.stage == stage for state in self.run.states)


def sections(material: Material) -> tuple[Section, ...]:
    """Return the sections of a report, those without content left out."""
    made = (make(material) for make in _SECTIONS)
    return tuple(section for section in made if not section.is_empty)


def _question(material: Material) -> Section:
    run, search = material.run, material.run.search
    samples, task = run.samples, run.task
    given = run.settings.get("space")
    blocks = given.get("blocks") if isinstance(given, Mapping) else None
    firmware = run.settings.get("firmware")
    saturated = samples.get("saturated")
    values: dict[str, object] = {
        "data": samples.get("name"),
        **{f"{split} samples": samples.get(split) for split in ("train", "validation", "test")},
        "shape of a sample": "x".join(map(str, samples["shape"])) if isinstance(samples.get("shape"), list) else None,
        "input grid": samples.get("input_grid"),
        "values that saturate": f"{saturated:.3%}" if isinstance(saturated, float) else None,
        "task": f"{task.kind}, {task.outputs} outputs",
        "classes": ", ".join(task.names),
        "metrics": ", ".join(f"{name} ({sense})" for name, sense in task.senses.items()),
        "objectives of the search": ", ".join(f"{o.metric} ({o.sense})" for o in search.objectives) if search else None,
        "budgets": ", ".join(f"{b.metric} {b.budget:g}" for b in search.budgets if b.budget is not None) if search else None,
        "blocks": ", ".join(str(b.get("block")) for b in blocks if isinstance(b, Mapping))
        if isinstance(blocks, list)
        else None,
        "genomes": f"{space.size():.3g}" if (space := genes.space_of(run)) else None,
        "part": firmware.get("part") if isinstance(firmware, Mapping) else None,
    }
    facts = grids.pairs("question", "What was asked", values)
    time = charts.time_by_stage(run)
    return Section("question", "Question and data", grids=(facts, grids.states(run)), print_only=(time,) if time else ())


def _fronts(material: Material) -> Section:
    found = explorer(material.run)
    if found is None:
        return Section("fronts", "Fronts", ("Nothing has been trained yet.",))
    lines = (
        "Click a point to see its network, and what it comes from and what was made of it; choose any value for an axis; "
        "click a stage in the legend to hide it.",
        "BOPs of candidates are at the widths that the search assumes, those of tuned models at 32 bits, those of compressed "
        "models at their own widths and without their zeros. Metrics are on validation, test on the test split.",
    )
    costs = [found.axes[0], *(name for name in ("bops", "parameters", "adder_luts") if name in found.keys)]
    printed = (charts.front(material.run, material.points, cost) for cost in dict.fromkeys(costs))
    return Section("fronts", "Fronts", lines, explorers=(found,), print_only=tuple(one for one in printed if one is not None))


def _search(material: Material) -> Section:
    run, search = material.run, material.run.search
    if search is None:
        return Section("search", "Global search", ("No candidate has been evaluated yet.",) if material.begun("search") else ())
    failed = sum(e.status == "failed" for e in search.evaluations)
    trained = counted(len(search.trained), "candidate")
    lines = [f"{trained} trained, {len(search.front)} on the front; {failed} failed: {search.stopped}."]
    volumes = result_charts.hypervolume(search) if len(search.generations) > 1 else []
    if not volumes:
        lines.append("There are fewer than two complete generations: no hypervolume is drawn.")
    return Section(
        "search",
        "Global search",
        tuple(lines),
        tuple(volumes),
        grids=tuple(grids.all_there([grids.front(run, material.points)])),
    )


def _choices(material: Material) -> Section:
    run, found = material.run, genes.choices_of(material.run)
    if found is None:
        return Section("choices", "Choices")
    task, search = run.task, run.search
    lines = [
        "Every box has the candidates with one value of a choice. The percentage is the part of the variance of their ranks "
        "(by the metric) that lies between the values, less what chance gives (omega squared); choices that go together share "
        "it, and a search visits good regions more often.",
    ]
    if not found.of_space:
        lines.append("The search space could not be read, or has blocks of others: choices are read off the networks.")
    if len(found.choices) > charts.MOST_CHOICES:
        lines.append(f"The {charts.MOST_CHOICES} choices that explain most of {len(found.choices)} have a figure.")
    assert search is not None
    axes = [(c.name, tuple(float(c.levels.index(v)) for v in c.values), c.levels) for c in found.choices[: charts.MOST_CHOICES]]
    for key in (search.cost, task.metric):
        axes.append((key, tuple(float(e.metrics.get(key, 0.0)) for e in found.candidates), ()))
    parallel = Parallel("genes", "Choices of all candidates", tuple(axes), task.metric, str(task.sense))
    figures = (charts.effects(found), *charts.choices(found, task))
    return Section("choices", "What choices do", tuple(lines), figures, parallels=(parallel,))


def _tuning(material: Material) -> Section:
    run = material.run
    chart, found = charts.tuning(run), trials(run)
    if chart is None and not run.tuned:
        return Section("tuning", "Tuning", ("No trial has ended yet.",) if material.begun("tune") else ())
    weights = importance(run.trials, run.task.metric)
    lines = (
        () if weights else (f"With fewer than {FEWEST} trials, or nothing varied, no importance of hyperparameters is stated.",)
    )
    figures = [one for one in (chart, charts.importances(weights) if weights else None) if one is not None]
    tables = grids.all_there([grids.models(run, "tune", material.points), grids.trainings(run)])
    return Section("tuning", "Tuning", lines, tuple(figures), (found,) if found else (), grids=tuple(tables))


def _compression(material: Material) -> Section:
    run = material.run
    if run.compressed is None or not run.compressed.models:
        lines = ("There is no compressed model yet.",) if material.begun("compress") else ()
        return Section("compression", "Compression", lines)
    tables = grids.all_there([grids.models(run, "compress", material.points)])
    return Section(
        "compression",
        "Compression",
        charts=tuple(result_charts.compression(run.compressed, run.classical)),
        grids=tuple(tables),
    )


def _networks(material: Material) -> Section:
    run = material.run
    drawn = {model.name: (model, "compressed") for model in material.chosen}
    drawn |= {model.name: (model, "tuned, float") for model in run.tuned}
    made = [drawing(model, _what(run, model, stage)) for model, stage in list(drawn.values())[:MOST_DRAWN]]
    lines = ["A box is as wide as the logarithm of its outputs; green ones have weights, grey ones none."] if made else []
    if len(drawn) > MOST_DRAWN:
        lines.append(f"{MOST_DRAWN} of {len(drawn)} networks are drawn; `kerasnac show {run.folder} MODEL` shows any other.")
    return Section("networks", "Networks", tuple(lines), drawings=tuple(made))


def _what(run: SavedRun, model: Trained, stage: str) -> str:
    metric = run.task.metric
    value = f"{metric} {model.metrics[metric]:.4g}" if metric in model.metrics else "no metric"
    return f"{stage}, {value}, {model.bops:,.0f} BOPs"


def _costs(material: Material) -> Section:
    run, chosen = material.run, material.chosen
    tables = grids.all_there([grids.recorded_costs(run, chosen), grids.layers(chosen), grids.luts(run, chosen)])
    lines = (f"The first {charts.MOST_MODELS} of {len(chosen)} models are drawn.",) if len(chosen) > charts.MOST_MODELS else ()
    return Section("costs", "Costs side by side", lines, tuple(charts.layer_costs(run, chosen)), grids=tuple(tables))


def _firmware(material: Material) -> Section:
    run = material.run
    texts = {made.trained.name: made.report() for made in run.firmware}
    lines = ("No model has been converted yet.",) if not texts and material.begun("firmware") else ()
    return Section("firmware", "Firmware", lines, grids=tuple(grids.all_there([grids.firmware(run)])), texts=texts)


def _test(material: Material) -> Section:
    run = material.run
    found = grids.all_there([grids.scores(run), grids.curves(run)])
    distances = result_charts.distances(run.curves)
    confusions = result_charts.confusions(run.confusion, run.task.names)
    figures = (*result_charts.rocs(run.curves), *confusions, *([distances] if distances else []))
    lines = ["No model has been scored on the test split yet."] if not found and material.begun("run") else []
    lines += ["A row of a confusion matrix is a class, and shows what it was taken for."] if run.confusion else []
    return Section("test", "Test split", tuple(lines), figures, grids=tuple(found))


def _references(material: Material) -> Section:
    run = material.run
    chart = result_charts.trees(run.trees, run.compressed, run.yosys) if run.trees else None
    found = grids.all_there([grids.classical(run)])
    return Section("references", "References", charts=(chart,) if chart else (), grids=tuple(found))


def _failures(material: Material) -> Section:
    run = material.run
    tables = grids.all_there([grids.failures(run)])
    lines = [f"Not shown: {problem}" for problem in run.problems]
    return Section("failures", "Failures, refusals, and what is missing", tuple(lines), grids=tuple(tables))


def _environment(material: Material) -> Section:
    run = material.run
    settings = files.read_text(run.folder / SETTINGS)
    facts = {"seed": run.seed, "fingerprint of the data": run.fingerprint, **run.versions}
    texts = {SETTINGS: settings} if settings else {}
    return Section(
        "environment",
        "Environment, and how to repeat it",
        grids=(grids.pairs("environment", "Seed, data, versions", facts),),
        texts={**texts, "Commands": "\n".join(_commands(run, bool(settings)))},
    )


def _commands(run: SavedRun, has_settings: bool) -> Iterator[str]:
    folder = shlex.quote(str(run.folder))
    if has_settings:
        file, seed = shlex.quote(str(run.folder / SETTINGS)), "" if run.seed is None else f" --seed {run.seed}"
        yield f"kerasnac run {file} --out NEW_FOLDER{seed}"
    else:
        yield "# There is no run.yaml: the run was made in Python, and its script repeats it."
    if not run.is_complete and has_settings:
        yield f"kerasnac resume {folder}"
    yield f"kerasnac show {folder}"
    yield f"kerasnac report {folder} --figures FIGURES --tables TABLES"


_SECTIONS: Sequence[Callable[[Material], Section]] = (
    *(_question, _fronts, _search, _choices, _tuning, _compression, _networks, _costs, _firmware, _test, _references),
    *(_failures, _environment),
)
