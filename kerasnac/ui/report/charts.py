"""The figures of a run."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from itertools import accumulate

import numpy as np

from kerasnac.core.data.curves import Curves, Distances
from kerasnac.core.data.task import Task
from kerasnac.core.network.origin import MixedOrigin
from kerasnac.core.network.trained import Trained
from kerasnac.stages.results.saved import SavedRun
from kerasnac.ui.figures import COLORS, DASHES, INK, SYMBOLS, Chart, Series, good_range, looks, shades
from kerasnac.ui.references import best_of_each
from kerasnac.ui.report.genes import Choices
from kerasnac.ui.report.importance import Importance
from kerasnac.ui.report.points import STAGES, Point, curve_of

#: Choices that get a figure, and models whose layers are compared, at most.
MOST_CHOICES, MOST_MODELS = 12, 10

_AXES = {"bops": "bit operations (BOPs)", "adder_luts": "LUTs of the adder graph (estimate)", "yosys_luts": "LUTs (Yosys)"}


def label(key: str, task: Task) -> str:
    """Return the label of an axis."""
    if key in task.senses:
        return f"validation {key}" + (f" [{task.metric_unit}]" if key == task.metric and task.metric_unit else "")
    return _AXES.get(key, key.replace("_", " "))


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
            best = sorted((p.values[x], p.values[y]) for p in own if "front" in p.marks)
            if len(best) > 1:
                x_best, y_best = zip(*best, strict=True)
                series.append(Series(f"front of {name}", x_best, y_best, "step", COLORS[stage]))
    for mark, name, color in (("chosen", "chosen", INK), ("firmware", "firmware", COLORS["firmware"])):
        if own := [p for p in known if mark in p.marks and (mark == "firmware" or p.stage == "search")]:
            series.append(Series(name, [p.values[x] for p in own], [p.values[y] for p in own], color=color, symbol="star"))
    if not series:
        return None
    series += _classical(run)
    ends = good_range([p.values[y] for p in known], task.sense)
    positive = all(p.values[x] > 0 for p in known)
    return Chart(
        f"front-{x}", "All stages", label(x, task), label(y, task), tuple(series), log_x=positive, range_y=ends, wide=True
    )


def _classical(run: SavedRun) -> list[Series]:
    """Return a line for the best of each classical method."""
    metric, dashes = run.task.metric, list(DASHES)
    best = [p for p in best_of_each(run.classical, run.task) if _finite(p.metrics.get(metric))]
    return [
        Series(point.name, [], [point.metrics[metric]], "level", COLORS["classical"], dash=dashes[n % len(dashes)])
        for n, point in enumerate(best)
    ]


def _symbol(stage: str) -> str:
    return dict(zip(STAGES, SYMBOLS, strict=False))[stage]


def hypervolume(run: SavedRun) -> list[Chart]:
    """Return the hypervolume of the front over evaluations and over time."""
    found = run.search.generations if run.search else ()
    if len(found) < 2:
        return []
    volumes = [g.hypervolume for g in found]
    ends = (0.0, 1.1 * max(volumes) or 1.0)
    texts = [f"generation {g.number}: {g.evaluations} trained, hypervolume {g.hypervolume:.4f}" for g in found]
    minutes = [seconds / 60 for seconds in accumulate(g.seconds for g in found)]
    return [
        Chart(
            key,
            title,
            x,
            "hypervolume",
            (Series("front", values, volumes, "curve", COLORS["search"], texts=texts),),
            range_y=ends,
        )
        for key, title, x, values in (
            ("hypervolume", "Hypervolume over candidates", "candidates trained", [float(g.evaluations) for g in found]),
            ("hypervolume-time", "Hypervolume over time", "wall time of the search [min]", minutes),
        )
    ]


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
    """Return the metric of every trial, and the best so far."""
    task, series, every = run.task, list[Series](), list[float]()
    rows = {m: [r for r in rs if r.get("kind") == "trial" and _finite(r.get(task.metric))] for m, rs in run.trials.items()}
    rows = {model: records for model, records in rows.items() if records}
    for (model, records), (color, symbol) in zip(rows.items(), looks(COLORS["tune"], len(rows)), strict=True):
        numbers = [float(record.get("number", place)) for place, record in enumerate(records)]
        values = [float(record[task.metric]) for record in records]
        best = np.maximum.accumulate(values) if task.sense == "max" else np.minimum.accumulate(values)
        series.append(Series(model, numbers, values, "points", color, symbol))
        series.append(Series(f"{model}, best so far", numbers, best.tolist(), "step", color))
        every += values
    if all(len(records) < 2 for records in rows.values()):
        return None  # The training of the search alone.
    ends = good_range(every, task.sense)
    note = "Trial 0 is the training of the search."
    title = "Tuning: trials, and the best so far"
    return Chart("tuning", title, "trial", label(task.metric, task), tuple(series), range_y=ends, note=note)


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


def compression(run: SavedRun) -> Iterator[Chart]:
    """Yield the metric of all compressed models over the cost of the compression, and over zeros."""
    result = run.compressed
    if result is None or not result.models:
        return
    metric, task = result.task.metric, result.task
    curves: dict[str, list[Trained]] = {}
    for model in result.models:
        curves.setdefault(curve_of(model), []).append(model)
    ends = good_range([model.metrics[metric] for model in (*result.parents, *result.models)], task.sense)
    for key in dict.fromkeys((result.cost, "bops", "sparsity")):
        series = []
        for (name, models), (color, symbol) in zip(curves.items(), looks(COLORS["compress"], len(curves)), strict=True):
            rows = [(result.values(m).get(key, math.nan), m.metrics[metric], m.name) for m in models]
            rows = [row for row in rows if math.isfinite(row[0])]
            single = isinstance(models[0].origin, MixedOrigin) or models[0].architecture.has_compression_params
            if rows:
                x, y, texts = (list(column) for column in zip(*rows, strict=True))
                series.append(Series(name, x, y, "points" if single else "curve", color, symbol, texts=_hover(texts, x, y)))
        parents = [p for p in result.parents if math.isfinite(p.metrics[metric])]
        levels = zip(parents, DASHES if len(parents) <= len(DASHES) else ["dot"] * len(parents), strict=False)
        series += [
            Series(f"{p.name}, float", [], [p.metrics[metric]], "level", COLORS["tune"], dash=dash) for p, dash in levels
        ]
        series += _classical(run)
        known = [float(value) for one in series for value in one.x]
        hidden = sum(value <= 0 for value in known)
        log = key != "sparsity" and hidden < len(known) / 10
        note = f"{hidden} models of no cost at all are not on a logarithmic axis." if log and hidden else ""
        title = f"Compression: {label(key, task)}"
        yield Chart(
            f"compression-{key}",
            title,
            label(key, task),
            label(metric, task),
            tuple(series),
            log_x=log,
            range_y=ends,
            note=note,
            wide=True,
        )


def _hover(names: Sequence[str], x: Sequence[float], y: Sequence[float]) -> list[str]:
    return [f"{name}: {b:.5g} at {a:,.5g}" for name, a, b in zip(names, x, y, strict=True)]


def layer_costs(models: Sequence[Trained]) -> Iterator[Chart]:
    """Yield bit operations and bits of the weights of some networks, side by side by layer."""
    models = models[:MOST_MODELS]
    if not models:
        return
    layers = list(dict.fromkeys(cost.layer for model in models for cost in model.layer_costs))
    colors = dict(zip(layers, shades(COLORS["compress"], len(layers)), strict=True))
    for key, what, unit in (("bops", "Bit operations", "BOPs"), ("memory", "Weights and biases", "bits")):
        series = []
        for layer in layers:
            own = [next((float(getattr(c, key)) for c in m.layer_costs if c.layer == layer), 0.0) for m in models]
            texts = [f"{model.name}, {layer}: {value:,.0f} {unit}" for model, value in zip(models, own, strict=True)]
            series.append(Series(layer, [m.name for m in models], own, "bars", colors[layer], texts=texts))
        title = f"{what} by layer"
        yield Chart(f"layers-{key}", title, "model", unit, tuple(series), categories=True, stacked=True)


def trees(run: SavedRun) -> Chart | None:
    """Return boosted trees beside the networks, in look-up tables of the same kind."""
    found = run.trees
    if found is None:
        return None
    metric, task = found.task.metric, found.task
    known = [p for p in found.points if found.cost in p.costs]
    series = [
        Series(
            "boosted trees", [p.costs[found.cost] for p in known], [p.metrics[metric] for p in known], color=COLORS["trees"]
        ),
        Series(
            "front of boosted trees",
            *([p.costs[found.cost] for p in found.front], [p.metrics[metric] for p in found.front]),
            style="line",
            color=COLORS["trees"],
        ),
    ]
    result = run.compressed
    models = result.models if result else ()
    for name, of in (
        (
            "networks, LUTs of the adder graph (estimate)",
            {m.name: result.values(m).get("adder_luts") for m in models} if result else {},
        ),
        ("networks, LUTs (Yosys)", {m.name: run.yosys.get(m.name) for m in models}),
    ):
        rows = [(luts, m.metrics[metric], m.name) for m in models if (luts := of.get(m.name)) is not None]
        if rows:
            x, y, texts = (list(column) for column in zip(*rows, strict=True))
            symbol = "star" if "Yosys" in name else "square"
            series.append(Series(name, x, y, color=COLORS["compress"], symbol=symbol, texts=_hover(texts, x, y)))
    ends = good_range([p.metrics[metric] for p in known], task.sense)
    title = "Boosted trees, for comparison"
    note = (
        ""
        if found.cost == "yosys_luts"
        else "LUTs of the trees are estimated from the trees; those of networks from adder graphs."
    )
    return Chart("trees", title, "look-up tables (LUTs)", label(metric, task), tuple(series), True, range_y=ends, note=note)


def rocs(curves: Mapping[str, Curves]) -> Iterator[Chart]:
    """Yield a ROC curve per class, with all models."""
    own = {model: found for model, found in curves.items() if not isinstance(found, Distances)}
    looks_of = dict(zip(own, _many(len(own)), strict=True))
    for number, signal in enumerate(dict.fromkeys(roc.signal for found in own.values() for roc in found)):
        series = []
        for model, found in own.items():
            for roc in (one for one in found if one.signal == signal):
                seen = roc.mistaken > 0  # The vertical axis is logarithmic.
                x, y = roc.efficiency[seen].tolist(), roc.mistaken[seen].tolist()
                name = f"{model}, area {roc.auc:.4f}"
                if x:
                    series.append(Series(name, x, y, "line", looks_of[model][0], dash=looks_of[model][1]))
        if not series:
            continue  # All models tell this class from the others without a mistake.
        title, y_label = f"ROC: {signal}", "efficiency for all others"
        yield Chart(f"roc-{number + 1}", title, f"efficiency for {signal}", y_label, tuple(series), log_y=True)


def distances(curves: Mapping[str, Curves]) -> Chart | None:
    """Return the distribution of the distances of all models; None if they have none."""
    own = {model: found for model, found in curves.items() if isinstance(found, Distances)}
    if not own:
        return None
    series = []
    for (model, one), (color, dash) in zip(own.items(), _many(len(own)), strict=True):
        density = one.counts / max(1, one.counts.sum()) / np.diff(one.edges)
        series.append(Series(model, one.edges.tolist(), [*density.tolist(), 0.0], "step", color, dash=dash))
    unit = next(iter(own.values())).unit
    x = "distance" + (f" [{unit}]" if unit else "")
    note = "The last bin holds all that is beyond."
    return Chart("distances", "Distances on the test split", x, "density", tuple(series), note=note, wide=True)


def _many(count: int) -> list[tuple[str, str]]:
    """Return colours and dashes of models of several stages."""
    colors, dashes = list(COLORS.values()), list(DASHES)
    return [(colors[n % len(colors)], dashes[n // len(colors) % len(dashes)]) for n in range(count)]


def time_by_stage(run: SavedRun) -> Chart | None:
    """Return the wall time of the stages."""
    known: Mapping[str, float] = {one.stage: one.seconds for one in run.states if one.seconds}
    if not known:
        return None
    bars = Series("minutes", list(known), [seconds / 60 for seconds in known.values()], "bars", COLORS["search"])
    return Chart("time", "Wall time of the stages", "stage", "minutes", (bars,), categories=True)


def _finite(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
