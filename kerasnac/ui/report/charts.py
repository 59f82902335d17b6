"""The figures of a run that belong to several stages, or to its choices; those of results are in :mod:`kerasnac.ui.charts`."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence

from kerasnac.core.data.task import Task
from kerasnac.core.network.trained import Trained
from kerasnac.stages.results.saved import SavedRun
from kerasnac.ui import charts
from kerasnac.ui.charts import classical_lines, in_plane, label
from kerasnac.ui.figures import COLORS, INK, SYMBOLS, Chart, Series, good_range, looks, shades
from kerasnac.ui.report.genes import Choices
from kerasnac.ui.report.importance import Importance
from kerasnac.ui.report.points import STAGES, Point, luts_of

#: Choices that get a figure, and models whose layers are compared, at most.
MOST_CHOICES, MOST_MODELS = 12, 10


def front(run: SavedRun, points: Sequence[Point], x: str) -> Chart | None:
    """Return the points of all stages over one cost, with the front of each; the report's own figure has menus for it."""
    task, series = run.task, list[Series]()
    y = task.metric
    known = [p for p in points if math.isfinite(p.values.get(x, math.nan)) and math.isfinite(p.values.get(y, math.nan))]
    for stage, name in STAGES.items():
        own = [p for p in known if p.stage == stage]
        if own:
            values = [p.values[x] for p in own], [p.values[y] for p in own]
            series.append(Series(name, *values, color=COLORS[stage], symbol=_symbol(stage)))
            front = [(p.values[x], p.values[y]) for p in own if "front" in p.marks]
            best = [front[place] for place in in_plane(front, task)]
            if len(best) > 1:
                x_best, y_best = zip(*best, strict=True)
                series.append(Series(f"front of {name}", x_best, y_best, "step", COLORS[stage]))
    for mark, name, color in (("chosen", "chosen", INK), ("firmware", "firmware", COLORS["firmware"])):
        if own := [p for p in known if mark in p.marks and (mark == "firmware" or p.stage == "search")]:
            series.append(
                Series(name, [p.values[x] for p in own], [p.values[y] for p in own], color=color, symbol="circle-open")
            )
    seeds = [p for p in known if p.stage == "search" and p.reference]
    for point, (color, _) in zip(seeds, looks(COLORS["tune"], len(seeds)), strict=True):
        series.append(Series(point.reference, [point.values[x]], [point.values[y]], color=color, symbol="star"))
    if not series:
        return None
    series += classical_lines(run.classical, task)
    ends = good_range([p.values[y] for p in known], task.sense)
    positive = all(p.values[x] > 0 for p in known)
    return Chart(
        f"front-{x}", "All stages", label(x, task), label(y, task), tuple(series), log_x=positive, range_y=ends, wide=True
    )


def _symbol(stage: str) -> str:
    return dict(zip(STAGES, SYMBOLS, strict=False))[stage]


def choices(found: Choices, task: Task) -> Iterator[Chart]:
    """Yield the distribution of the metric by value of the choices that matter most."""
    scores = [e.metrics[task.metric] for e in found.candidates]
    ends = good_range(scores, task.sense)
    for number, choice in enumerate(found.choices[:MOST_CHOICES]):
        rank = {level: place for place, level in enumerate(choice.levels)}
        rows = sorted(zip(choice.values, scores, (e.key for e in found.candidates), strict=True), key=lambda row: rank[row[0]])
        names, values, texts = (list(column) for column in zip(*rows, strict=True))
        series = Series(choice.name, names, values, "box", COLORS["search"], texts=texts)
        title = f"{choice.name}: explains {choice.effect:.0%}"
        yield Chart(
            f"choice-{number + 1:02d}", title, choice.name, label(task.metric, task), (series,), categories=True, range_y=ends
        )


def effects(found: Choices) -> Chart:
    """Return how much of the metric's variance each choice explains."""
    shown = found.choices[:30]
    bars = Series("explained", [c.name for c in shown], [100 * c.effect for c in shown], "bars", COLORS["search"])
    title = "Variance of the ranks that a choice explains alone"
    return Chart("choices", title, "choice", "variance explained [%]", (bars,), categories=True, wide=True)


def tuning(run: SavedRun) -> Chart | None:
    """Return the metric of every trial, and the best so far; None if nothing but the training of the search is recorded."""
    task, trials = run.task, dict[str, list[tuple[float, float]]]()
    for model, records in run.trials.items():
        own = [r for r in records if r.get("kind") == "trial" and _finite(r.get(task.metric))]
        if own:
            trials[model] = [(float(r.get("number", place)), float(r[task.metric])) for place, r in enumerate(own)]
    return None if all(len(rows) < 2 for rows in trials.values()) else charts.tuning(trials, task)


def importances(found: Importance) -> Chart:
    """Return the importance of the hyperparameters."""
    bars = Series("importance", list(found.values), list(found.values.values()), "bars", COLORS["tune"])
    note = (
        f"Permutation importance in a random forest over {found.trials} trials (loss of R² when the values of one "
        f"hyperparameter are shuffled). The forest explains {max(found.explained, 0):.0%} of trials that it has not seen"
        + ("." if found.explained > 0.1 else ": do not rely on the bars.")
    )
    title = "What the hyperparameters matter"
    return Chart("importance", title, "hyperparameter", "importance", (bars,), categories=True, note=note)


def layer_costs(run: SavedRun, models: Sequence[Trained]) -> Iterator[Chart]:
    """Yield bit operations, bits of the weights, and LUTs of the adder graphs of some networks, side by side by layer."""
    models = models[:MOST_MODELS]
    bops = {model.name: {cost.layer: cost.bops for cost in model.layer_costs} for model in models}
    memory = {model.name: {cost.layer: float(cost.memory) for cost in model.layer_costs} for model in models}
    luts = {name: {layer: sum(own.values()) for layer, own in spent.items()} for name, spent in luts_of(run, models).items()}
    for key, what, unit, values in (
        ("bops", "Bit operations", "BOPs", bops),
        ("memory", "Weights and biases", "bits", memory),
        ("luts", "LUTs of the adder graph (estimate)", "LUTs", luts),
    ):
        layers = list(dict.fromkeys(layer for own in values.values() for layer in own))
        series = []
        for layer, color in zip(layers, shades(COLORS["compress"], len(layers)), strict=True):
            heights = [own.get(layer, 0.0) for own in values.values()]
            texts = [f"{name}, {layer}: {value:,.0f} {unit}" for name, value in zip(values, heights, strict=True)]
            series.append(Series(layer, list(values), heights, "bars", color, texts=texts))
        if series:
            yield Chart(f"layers-{key}", f"{what} by layer", "model", unit, tuple(series), categories=True, stacked=True)


def time_by_stage(run: SavedRun) -> Chart | None:
    """Return the wall time of the stages."""
    known: Mapping[str, float] = {one.stage: one.seconds for one in run.states if one.seconds}
    if not known:
        return None
    bars = Series("minutes", list(known), [seconds / 60 for seconds in known.values()], "bars", COLORS["search"])
    return Chart("time", "Wall time of the stages", "stage", "minutes", (bars,), categories=True)


def _finite(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
