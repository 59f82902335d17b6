"""Plots of results; every function returns a matplotlib figure, drawn as in the report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from io import BytesIO
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from kerasnac.adapters.search.fronts import nondominated
from kerasnac.core.data.curves import Curves
from kerasnac.core.data.task import Task
from kerasnac.core.network.origin import TuningOrigin
from kerasnac.core.network.trained import Trained
from kerasnac.core.store.files import write_bytes
from kerasnac.stages.compress.result import CompressResult
from kerasnac.stages.references.classical import ClassicalPoint
from kerasnac.stages.references.result import TreesResult
from kerasnac.stages.results.outcome import Outcome
from kerasnac.stages.search.result import SearchResult
from kerasnac.ui import charts
from kerasnac.ui.figures import good_range
from kerasnac.ui.figures_static import draw, panels


def search(result: SearchResult, *chosen: str, classical: Sequence[ClassicalPoint] = ()) -> Figure:
    """Plot all trained candidates; see :func:`kerasnac.ui.charts.search`."""
    return draw(charts.search(result, *chosen, classical=classical))


def objectives(result: SearchResult) -> Figure:
    """Plot every pair of the objectives of a search with the front of that pair, and the first three of them in space.

    Args:
        result: A global search with three objectives or more.
    """
    names = [objective.metric for objective in result.objectives]
    pairs = list(combinations(result.objectives, 2))
    points = [e for e in result.points if all(name in e.metrics for name in names)]
    front = [e for e in result.front if e in points]
    columns = 2 if len(pairs) == 3 else 3
    lines = -(-(len(pairs) + 1) // columns)
    figure = Figure(figsize=(4.4 * columns, 3.9 * lines), layout="constrained")
    for place, (second, first) in enumerate(pairs, start=1):  # Costs to the right, the metric upwards.
        axes = figure.add_subplot(lines, columns, place)
        x, y = ([e.metrics[one.metric] for e in points] for one in (first, second))
        axes.scatter(x, y, s=12, color="lightgray", label="trained")
        own_x, own_y = ([e.metrics[one.metric] for e in front] for one in (first, second))
        axes.scatter(own_x, own_y, s=14, color="tab:blue", label=f"front of all {len(names)}")
        losses = np.array([[o.loss(e.metrics[o.metric]) for o in (first, second)] for e in points])
        best = sorted((x[i], y[i]) for i in nondominated(losses))
        axes.step(*zip(*best, strict=True), where="post", color="tab:red", lw=1.2, label="front of these two")
        axes.set(xlabel=charts.label(first.metric, result.task), ylabel=charts.label(second.metric, result.task))
        axes.set(xscale=_scale(x), yscale=_scale(y))
        if second.metric == result.task.metric:
            axes.set_ylim(good_range(y, result.task.sense))
        axes.grid(alpha=0.3)
        if place == 1:
            axes.legend(fontsize="small")
    space: Any = figure.add_subplot(lines, columns, len(pairs) + 1, projection="3d")
    three = [names[1], names[2], names[0]]
    for shown, color, size in ((points, "lightgray", 6), (front, "tab:blue", 14)):
        space.scatter(*([e.metrics[name] for e in shown] for name in three), color=color, s=size, depthshade=False)
    space.set_box_aspect(None, zoom=0.85)  # Leaves room for the labels.
    labels = [charts.label(name, result.task) for name in three]
    space.set(xlabel=labels[0], ylabel=labels[1], zlabel=labels[2])
    return figure


def _scale(values: Sequence[float]) -> str:
    """Return a logarithmic scale for values that span more than a decade."""
    return "log" if min(values) > 0 and max(values) > 10 * min(values) else "linear"


def convergence(result: SearchResult) -> Figure:
    """Plot the hypervolume of the front after every generation against the number of candidates trained."""
    return draw(charts.hypervolume(result)[0])


def tuning(models: Sequence[Trained], task: Task) -> Figure:
    """Plot the task metric of every trial, and the best so far as a line, one colour per model.

    Args:
        models: Tuned models.
        task: The task of the data.
    """
    trials = {model.name: [*enumerate(model.origin_as(TuningOrigin).trials)] for model in models}
    return draw(charts.tuning(trials, task))


def compression(result: CompressResult, classical: Sequence[ClassicalPoint] = ()) -> Figure:
    """Plot the task metric against the chosen cost, a curve per model and width; see :func:`kerasnac.ui.charts.compression`."""
    return draw(next(charts.compression(result, classical)))


def boosted_trees(result: TreesResult, networks: CompressResult | None = None) -> Figure:
    """Plot the task metric of boosted trees against their look-up tables, beside the networks whose adder graphs are known.

    Args:
        result: The boosted trees.
        networks: The compressed networks.
    """
    return draw(charts.trees(result, networks))


def curves(found: Mapping[str, Curves]) -> Figure:
    """Plot the ROC curves of every class, all models in one picture, or the distributions of the distances."""
    distances = charts.distances(found)
    return panels(list(charts.rocs(found, areas=False))) if distances is None else draw(distances)


def save_all(result: Outcome, folder: Path) -> list[Path]:
    """Write the plots of a run as PNG files and return their paths."""
    chosen = (model.origin_as(TuningOrigin).candidate for model in result.tuned)
    figures = {
        "tune.png": tuning(result.tuned, result.search.task),
        "compress.png": compression(result.compressed, result.classical),
    }
    if result.curves:
        figures["curves.png"] = curves(result.curves)
    if result.trees is not None:
        figures["trees.png"] = boosted_trees(result.trees, result.compressed)
    return [*save_search(result.search, folder, *chosen, classical=result.classical), *_saved(figures, folder)]


def save_search(result: SearchResult, folder: Path, *chosen: str, classical: Sequence[ClassicalPoint] = ()) -> list[Path]:
    """Write the plots of a global search as PNG files and return their paths."""
    figures = {"search.png": search(result, *chosen, classical=classical), "convergence.png": convergence(result)}
    if len(result.objectives) > 2 and result.front:
        figures["fronts.png"] = objectives(result)
    return _saved(figures, folder)


def save_trees(result: TreesResult, folder: Path) -> list[Path]:
    """Write the plot of boosted trees as a PNG file and return its path."""
    return _saved({"trees.png": boosted_trees(result)}, folder)


def _saved(figures: Mapping[str, Figure], folder: Path) -> list[Path]:
    for name, figure in figures.items():
        write_bytes(folder / name, png(figure))
    return [folder / name for name in figures]


def png(figure: Figure) -> bytes:
    """Return a figure as the content of a PNG file."""
    content = BytesIO()
    figure.savefig(content, dpi=150)
    return content.getvalue()
