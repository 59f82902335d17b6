"""Figures of results: of a search, of compressed models, of boosted trees, of the test split."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from itertools import accumulate, cycle
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kerasnac.adapters.search.fronts import nondominated
from kerasnac.core.data.curves import Curves, Distances
from kerasnac.core.data.task import Task
from kerasnac.core.network.origin import LearnedOrigin, MixedOrigin
from kerasnac.core.network.trained import Trained
from kerasnac.core.search.evaluation import Evaluation
from kerasnac.stages.compress.points import point_origin
from kerasnac.stages.compress.result import CompressResult
from kerasnac.stages.references.classical import ClassicalPoint, best_of_each
from kerasnac.stages.references.result import TreesResult
from kerasnac.stages.search.result import SearchResult
from kerasnac.ui.figures import COLORS, DASHES, SYMBOLS, Chart, Series, Style, good_range, hidden_note, looks, shades
from kerasnac.ui.references import LUTS

#: Models whose confusion of classes is drawn, and classes beyond which it is in tables alone.
MOST_MODELS, MOST_CLASSES = 10, 25

_AXES = {"bops": "bit operations (BOPs)", "adder_luts": "LUTs of the adder graph (estimate)", "yosys_luts": "LUTs (Yosys)"}


def label(key: str, task: Task) -> str:
    """Return the label of an axis."""
    if key in task.senses:
        return f"validation {key}" + (f" [{task.metric_unit}]" if key == task.metric and task.metric_unit else "")
    return _AXES.get(key, key.replace("_", " "))


def search(result: SearchResult, *chosen: str, classical: Sequence[ClassicalPoint] = ()) -> Chart:
    """Return all trained candidates in the plane of cost and task metric, with the Pareto front and the references.

    Later generations are more opaque. Where widths are learned, the networks of a candidate are joined by a line.

    Args:
        result: A global search.
        *chosen: Ids of candidates to mark; of one with several networks, those on the front.
        classical: Methods to compare with, drawn as lines.
    """
    task, cost = result.task, result.cost
    plane = [(e.metrics[cost], e.metrics[task.metric]) for e in result.front]
    front = [result.front[i] for i in in_plane(plane, task)]

    def made(name: str, found: Sequence[Evaluation], **options: Any) -> Series:
        x, y = [e.metrics[cost] for e in found], [e.metrics[task.metric] for e in found]
        texts = [f"{e.name}: {b:.5g} at {a:,.5g}; {e.built.architecture}" for e, a, b in zip(found, x, y, strict=True)]
        return Series(name, x, y, texts=texts, **options)

    points, last = result.points, max((e.generation for e in result.trained), default=0)
    ways = [sorted(e.expanded, key=lambda p: p.metrics[cost]) for e in result.trained if e.points]
    series = []
    if ways:
        x = [value for way in ways for value in (*(p.metrics[cost] for p in way), math.nan)]
        y = [value for way in ways for value in (*(p.metrics[task.metric] for p in way), math.nan)]
        series.append(Series("networks of one candidate", x, y, "line", "#BBBBBB"))
    opacity = [0.35 + 0.65 * e.generation / max(1, last) for e in points]
    series.append(made("candidates", points, color=COLORS["search"], opacity=opacity))
    series.append(made("Pareto front", front, style="step", color=COLORS["firmware"]))
    if marked := [e for e in points if e.key in chosen and (not e.cycle or e in result.front)]:
        series.append(made("chosen", marked, symbol="circle-open"))
    for (name, key), (color, _) in zip(result.references.items(), looks(COLORS["tune"], len(result.references)), strict=True):
        if known := [e for e in points if e.key == key]:
            series.append(made(name, known, color=color, symbol="star"))
    series += classical_lines(classical, task)
    values = [e.metrics[task.metric] for e in points]
    ends = good_range(values, task.sense)
    note = hidden_note(values, ends)
    names = label(cost, task), label(task.metric, task)
    log = all(e.metrics[cost] > 0 for e in points)
    return Chart("search", "Global search", *names, tuple(series), log_x=log, range_y=ends, note=note, wide=True)


def in_plane(points: Sequence[tuple[float, float]], task: Task) -> list[int]:
    """Return the places of the front of some costs and metrics, ascending: that of three objectives is none in a plane."""
    sign = -1 if task.sense == "max" else 1
    front = nondominated(np.array([[cost, sign * metric] for cost, metric in points])) if points else []
    return sorted(front, key=lambda place: points[place])


def hypervolume(result: SearchResult) -> list[Chart]:
    """Return the hypervolume of the front over evaluations and over time."""
    found = result.generations
    volumes = [g.hypervolume for g in found]
    ends = (0.0, 1.1 * max(volumes, default=0.0) or 1.0)
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


def tuning(trials: Mapping[str, Sequence[tuple[float, float]]], task: Task) -> Chart:
    """Return the metric of every trial, and the best so far.

    Args:
        trials: Number and metric of the trials, by model.
        task: The task of the data.
    """
    series, every = list[Series](), list[float]()
    for (model, rows), (color, symbol) in zip(trials.items(), looks(COLORS["tune"], len(trials)), strict=True):
        numbers, values = [number for number, _ in rows], [value for _, value in rows]
        best = (np.fmax if task.sense == "max" else np.fmin).accumulate(values)  # fmax and fmin leave NaN out
        series.append(Series(model, numbers, values, "points", color, symbol))
        series.append(Series(f"{model}, best so far", numbers, best.tolist(), "step", color))
        every += values
    ends = good_range(every, task.sense)
    note = " ".join(filter(None, ("Trial 0 is the training of the search.", hidden_note(every, ends))))
    title = "Tuning: trials, and the best so far"
    return Chart("tuning", title, "trial", label(task.metric, task), tuple(series), range_y=ends, note=note)


def compression(result: CompressResult, classical: Sequence[ClassicalPoint] = ()) -> Iterator[Chart]:
    """Yield the metric of all compressed models over the cost of the compression, over BOPs and over zeros.

    There is a curve per model and width, more opaque with every iteration; curves of one model share a shade, those of one
    width a symbol. Points of mixed precision, or with the widths of a search, have no order and are not joined. A point
    without an exact adder graph has no such cost. Parents and classical methods are lines.
    """
    metric, task = result.task.metric, result.task
    curves: dict[str, list[Trained]] = {}
    for model in result.models:
        curves.setdefault(curve_of(model), []).append(model)
    values = [model.metrics[metric] for model in (*result.parents, *result.models)]
    ends = good_range(values, task.sense)
    last = max((point_origin(model).iteration for model in result.models), default=0)
    for key in dict.fromkeys((result.cost, "bops", "sparsity")):
        series = []
        for (name, models), (color, symbol) in zip(curves.items(), _looks(curves), strict=True):
            strength = [(point_origin(m).iteration + 1) / (last + 1) for m in models]
            rows = [
                (result.values(m).get(key, math.nan), m.metrics[metric], m.name, opacity)
                for m, opacity in zip(models, strength, strict=True)
            ]
            rows = [row for row in rows if math.isfinite(row[0])]
            single = isinstance(models[0].origin, MixedOrigin) or models[0].architecture.has_compression_params
            if rows:
                x, y, texts, opacity = (list(column) for column in zip(*rows, strict=True))
                style: Style = "points" if single else "curve"
                series.append(Series(name, x, y, style, color, symbol, texts=_hover(texts, x, y), opacity=opacity))
        best = sorted((own[key], own[metric]) for m in result.front if key in (own := result.values(m)))
        if result.one_front and key == result.cost and len(best) > 1:
            costs, metrics = zip(*best, strict=True)
            series.append(Series("Pareto front", costs, metrics, "step", COLORS["firmware"]))
        parents = [p for p in result.parents if math.isfinite(p.metrics[metric])]
        tints = shades(COLORS["tune"], len(parents)) if len(parents) > 1 else [COLORS["tune"]]
        dashes = DASHES if len(parents) <= len(DASHES) else ["dot"] * len(parents)
        series += [
            Series(f"{parent.name}, float", [], [parent.metrics[metric]], "level", color, dash=dash)
            for parent, color, dash in zip(parents, tints, dashes, strict=False)
        ]
        series += classical_lines(classical, task)
        known = [float(value) for one in series for value in one.x]
        hidden = sum(value <= 0 for value in known)
        log = key != "sparsity" and hidden < len(known) / 10
        notes = [hidden_note(values, ends)]
        notes += [f"{hidden} models of no cost at all are not on a logarithmic axis."] if log and hidden else []
        title = f"Compression: {label(key, task)}"
        yield Chart(
            f"compression-{key}",
            title,
            label(key, task),
            label(metric, task),
            tuple(series),
            log_x=log,
            range_y=ends,
            note=" ".join(filter(None, notes)),
            wide=True,
        )


def _looks(curves: Mapping[str, Sequence[Trained]]) -> list[tuple[str, str]]:
    """Return colour and symbol of curves of :func:`curve_of`; the curves of a single model differ in both."""
    parents = [point_origin(models[0]).parent for models in curves.values()]
    if len(set(parents)) == 1:
        return looks(COLORS["compress"], len(curves))
    widths = [name.removeprefix(f"{parent}, ") for name, parent in zip(curves, parents, strict=True)]
    shade = dict(zip(dict.fromkeys(parents), shades(COLORS["compress"], len(set(parents))), strict=True))
    symbol = dict(zip(dict.fromkeys(widths), cycle(SYMBOLS), strict=False))
    return [(shade[parent], symbol[width]) for parent, width in zip(parents, widths, strict=True)]


def curve_of(model: Trained) -> str:
    """Return the label of the curve of a compression that a model belongs to."""
    origin = point_origin(model)
    if isinstance(origin, MixedOrigin):
        return f"{origin.parent}, mixed precision"
    if isinstance(origin, LearnedOrigin):
        return f"{origin.parent}, learned widths"
    if model.architecture.has_compression_params:
        return "widths of the search"
    weights = origin.weight_bits if isinstance(origin.weight_bits, str) else f"{origin.weight_bits}-bit"
    return f"{origin.parent}, {weights} weights, {origin.activation_bits}-bit activations"


def _hover(names: Sequence[str], x: Sequence[float], y: Sequence[float]) -> list[str]:
    return [f"{name}: {b:.5g} at {a:,.5g}" for name, a, b in zip(names, x, y, strict=True)]


def trees(found: TreesResult, networks: CompressResult | None = None, yosys: Mapping[str, float] | None = None) -> Chart:
    """Return boosted trees beside the networks, in look-up tables of the same kind.

    Args:
        found: The boosted trees.
        networks: The compressed networks.
        yosys: Look-up tables that Yosys counts of them, by name; by default those that were counted with the trees.
    """
    counted = found.networks if yosys is None else yosys
    metric, task = found.task.metric, found.task
    known = [p for p in found.points if found.cost in p.costs]
    series = [
        Series(
            "boosted trees", [p.costs[found.cost] for p in known], [p.metrics[metric] for p in known], color=COLORS["trees"]
        ),
        Series(
            f"front of boosted trees, {LUTS[found.cost]}",
            *([p.costs[found.cost] for p in found.front], [p.metrics[metric] for p in found.front]),
            style="line",
            color=COLORS["trees"],
        ),
    ]
    models = networks.models if networks else ()
    for name, of in (
        (
            "networks, LUTs of the adder graph (estimate)",
            {m.name: networks.values(m).get("adder_luts") for m in models} if networks else {},
        ),
        ("networks, LUTs (Yosys)", {m.name: counted.get(m.name) for m in models}),
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


def classical_lines(points: Sequence[ClassicalPoint], task: Task) -> list[Series]:
    """Return a line for the best of each classical method."""
    metric, dashes = task.metric, list(DASHES)
    best = [p for p in best_of_each(points, task) if math.isfinite(p.metrics.get(metric, math.nan))]
    return [
        Series(
            f"{point.name}: {point.metrics[metric]:.4g}",
            [],
            [point.metrics[metric]],
            "level",
            COLORS["classical"],
            dash=dashes[n % len(dashes)],
        )
        for n, point in enumerate(best)
    ]


def rocs(curves: Mapping[str, Curves], *, areas: bool = True) -> Iterator[Chart]:
    """Yield the ROC curves of every class, with all models, and if asked for the areas under them."""
    own = {model: found for model, found in curves.items() if not isinstance(found, Distances)}
    looks_of = dict(zip(own, _many(len(own)), strict=True))
    for number, signal in enumerate(dict.fromkeys(roc.signal for found in own.values() for roc in found)):
        series = []
        for model, found in own.items():
            for roc in (one for one in found if one.signal == signal):
                seen = roc.mistaken > 0  # The vertical axis is logarithmic.
                x, y = roc.efficiency[seen].tolist(), roc.mistaken[seen].tolist()
                name = f"{model}, area {roc.auc:.4f}" if areas else model
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


def confusions(confusion: Mapping[str, NDArray[np.int64]], classes: Sequence[str]) -> Iterator[Chart]:
    """Yield for every model how its predictions are distributed over the classes, class by class."""
    for number, (model, counts) in enumerate(list(confusion.items())[:MOST_MODELS]):
        if len(counts) > MOST_CLASSES:
            return
        names = classes or tuple(map(str, range(len(counts))))
        cells = [
            (true, found, int(counts[i, j]), int(counts[i].sum()))
            for i, true in enumerate(names)
            for j, found in enumerate(names)
        ]
        texts = [f"{true} taken for {found}: {count:,} of {whole:,} samples" for true, found, count, whole in cells]
        series = Series(
            model,
            [found for _, found, _, _ in cells],
            [count / whole if whole else math.nan for _, _, count, whole in cells],
            "heat",
            COLORS["compress"],
            texts=texts,
            rows=[true for true, _, _, _ in cells],
        )
        title = f"Confusion: {model}"
        yield Chart(f"confusion-{number + 1}", title, "predicted class", "true class", (series,), categories=True)


def _many(count: int) -> list[tuple[str, str]]:
    """Return colours and dashes of models of several stages."""
    colors, dashes = list(COLORS.values()), list(DASHES)
    return [(colors[n % len(colors)], dashes[n // len(colors) % len(dashes)]) for n in range(count)]
