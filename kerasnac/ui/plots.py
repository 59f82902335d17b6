"""Plots of results; every function returns a matplotlib figure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from kerasnac.core.data.dataset import Task
from kerasnac.core.network.origin import MixedOrigin, TuningOrigin
from kerasnac.core.network.trained import Trained
from kerasnac.core.search.evaluation import Evaluation
from kerasnac.core.store.files import write_bytes
from kerasnac.stages.compress.points import point_origin
from kerasnac.stages.compress.result import CompressResult
from kerasnac.stages.references.classical import ClassicalPoint
from kerasnac.stages.references.result import TreesResult
from kerasnac.stages.results.outcome import Outcome
from kerasnac.stages.search.result import SearchResult
from kerasnac.ui import curves
from kerasnac.ui.references import LUTS, best_of_each, networks_of
from kerasnac.ui.report.points import curve_of


def search(result: SearchResult, *chosen: str, classical: Sequence[ClassicalPoint] = ()) -> Figure:
    """Plot all trained candidates in the plane of cost and task metric, with the Pareto front and the references.

    Where widths are learned, the networks of a candidate are joined by a line.

    Args:
        result: A global search.
        *chosen: Ids of candidates to mark; of one with several networks, those on the front.
        classical: Methods to compare with, drawn as lines.
    """
    figure, axes = _plane(result.task, "global search", result.cost)
    trained, front = result.points, sorted(result.front, key=lambda e: e.metrics[result.cost])

    def points(evaluations: Sequence[Evaluation]) -> tuple[list[float], list[float]]:
        return [e.metrics[result.cost] for e in evaluations], [e.metrics[result.task.metric] for e in evaluations]

    for evaluation in result.trained:
        if evaluation.points:
            way = sorted(evaluation.expanded, key=lambda e: e.metrics[result.cost])
            axes.plot(*points(way), "-", color="gray", lw=0.5, alpha=0.4, zorder=0)
    dots = axes.scatter(*points(trained), c=[e.generation for e in trained], s=18, cmap="viridis")
    figure.colorbar(dots, ax=axes, label="generation")
    axes.plot(*points(front), "-", color="tab:red", lw=1.2, label="Pareto front")
    if marked := [e for e in trained if e.key in chosen and (not e.cycle or e in front)]:
        style: dict[str, Any] = {"s": 110, "facecolors": "none", "edgecolors": "black", "label": "chosen"}
        axes.scatter(*points(marked), **style)
    for number, (name, candidate) in enumerate(result.references.items()):
        known = [e for e in trained if e.key == candidate]
        axes.scatter(*points(known), marker="*", s=160, color=f"C{number + 1}", edgecolors="black", label=name, zorder=3)
    _lines(axes, classical, result.task)
    _zoom(axes, np.array(points(trained)[1]), result.task)
    axes.legend()
    return figure


def convergence(result: SearchResult) -> Figure:
    """Plot the hypervolume of the front after every generation against the number of candidates trained."""
    figure = Figure(figsize=(8, 4), layout="constrained")
    axes = figure.subplots()
    x, y = [g.evaluations for g in result.generations], [g.hypervolume for g in result.generations]
    axes.plot(x, y, ".-")
    axes.set(xlabel="candidates trained", ylabel="hypervolume", title="convergence of the global search", ylim=(0, None))
    axes.grid(alpha=0.3)
    return figure


def tuning(models: Sequence[Trained], task: Task) -> Figure:
    """Plot the task metric of every trial, and the best so far as a line, one colour per model.

    Args:
        models: Tuned models.
        task: The task of the data.
    """
    figure = Figure(figsize=(8, 4), layout="constrained")
    axes = figure.subplots()
    for number, model in enumerate(models):
        color, values = f"C{number % 10}", np.array(model.origin_as(TuningOrigin).trials)
        axes.plot(values, ".", color=color, alpha=0.5)
        best = (np.fmax if task.sense == "max" else np.fmin).accumulate(values)  # fmax and fmin leave NaN out
        axes.step(range(len(values)), best, where="post", color=color, label=model.name)
    _zoom(axes, np.array([value for model in models for value in model.origin_as(TuningOrigin).trials]), task)
    axes.set(xlabel="trial", ylabel=validation_label(task), title="tuning of the training (0: as in the search)")
    axes.grid(alpha=0.3)
    if models:
        axes.legend(fontsize="small")
    return figure


def compression(result: CompressResult, classical: Sequence[ClassicalPoint] = ()) -> Figure:
    """Plot the task metric against the chosen cost, one curve per model and width, more opaque with every iteration.

    Points of mixed precision, or with the widths of a search, have no order and are not joined. A point without an exact
    adder graph has no such cost and leaves a gap. Classical methods are lines.
    """
    figure, axes = _plane(result.task, "quantization and pruning", result.cost)
    by_label: dict[str, list[Any]] = {}
    for model in result.models:
        by_label.setdefault(curve_of(model), []).append(model)
    last = max((point_origin(model).iteration for model in result.models), default=0)
    for number, (label, models) in enumerate(by_label.items()):
        color = f"C{number % 10}"
        x, y = [result.values(m).get(result.cost, np.nan) for m in models], [m.metrics[result.task.metric] for m in models]
        single = isinstance(models[0].origin, MixedOrigin) or models[0].architecture.has_compression_params
        axes.plot(x, y, "o" if single else "-", color=color, ms=3, lw=1, label=label)
        strength: Any = [(point_origin(m).iteration + 1) / (last + 1) for m in models]
        axes.scatter(x, y, color=color, alpha=strength)
    front = sorted((result.values(m)[result.cost], m.metrics[result.task.metric]) for m in result.front)
    if result.one_front and front:
        axes.plot(*zip(*front, strict=True), color="C3", lw=1, label="Pareto front")
    _zoom(axes, np.array([model.metrics[result.task.metric] for model in result.models]), result.task)
    for number, parent in enumerate(result.parents):
        style: dict[str, Any] = {"ls": ":", "lw": 1, "color": "gray", "alpha": 0.5 if len(result.parents) > 4 else 1}
        axes.axhline(parent.metrics[result.task.metric], **style, label="float models" if number == 0 else None)
    _lines(axes, classical, result.task)
    if result.models:
        axes.legend(fontsize="small")
    return figure


def boosted_trees(result: TreesResult, networks: CompressResult | None = None) -> Figure:
    """Plot the task metric of boosted trees against their look-up tables, beside the networks whose adder graphs are known.

    Args:
        result: The boosted trees.
        networks: The compressed networks.
    """
    figure, axes = _plane(result.task, "boosted trees, for comparison", LUTS[result.cost])
    metric = result.task.metric
    known = [p for p in result.points if result.cost in p.costs]
    axes.plot([p.costs[result.cost] for p in known], [p.metrics[metric] for p in known], ".", color="gray", alpha=0.5)
    axes.plot(*_points(result), "s-", color="C2", ms=4, lw=1.2, label=f"boosted trees, {LUTS[result.cost]}")
    if found := sorted((luts, model.metrics[metric]) for model, luts in networks_of(networks)):
        axes.plot(*zip(*found, strict=True), "o-", color="C3", ms=4, lw=1.2, label="networks, LUT of adder graph (estimate)")
        axes.set(xlabel="look-up tables (LUT)")
    both = ((result.networks.get(model.name), model) for model, _ in networks_of(networks))
    if counted := [(luts, model.metrics[metric]) for luts, model in both if luts is not None]:
        axes.plot(*zip(*counted, strict=True), "*", color="C3", ms=12, label="networks, LUT, Yosys")
    axes.legend()
    return figure


def _lines(axes: Axes, classical: Sequence[ClassicalPoint], task: Task) -> None:
    """Draw a line for the best of each classical method."""
    for number, point in enumerate(best_of_each(classical, task)):
        value = point.metrics[task.metric]
        style: dict[str, Any] = {"ls": ("--", "-.", ":")[number % 3], "lw": 1.2, "color": "black"}
        axes.axhline(value, **style, label=f"{point.name}: {value:.4f}")


def _points(trees: TreesResult) -> tuple[list[float], list[float]]:
    """Return look-up tables and metrics of the front of boosted trees."""
    return [p.costs[trees.cost] for p in trees.front], [p.metrics[trees.task.metric] for p in trees.front]


def save_all(result: Outcome, folder: Path) -> list[Path]:
    """Write the plots of a run as PNG files and return their paths."""
    chosen = (model.origin_as(TuningOrigin).candidate for model in result.tuned)
    figures = {
        "tune.png": tuning(result.tuned, result.search.task),
        "compress.png": compression(result.compressed, result.classical),
    }
    if result.curves:
        figures["curves.png"] = curves.figure(result.curves)
    if result.trees is not None:
        figures["trees.png"] = boosted_trees(result.trees, result.compressed)
    return [*save_search(result.search, folder, *chosen, classical=result.classical), *_saved(figures, folder)]


def save_search(result: SearchResult, folder: Path, *chosen: str, classical: Sequence[ClassicalPoint] = ()) -> list[Path]:
    """Write the plots of a global search as PNG files and return their paths."""
    figures = {"search.png": search(result, *chosen, classical=classical), "convergence.png": convergence(result)}
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
    figure.savefig(content, dpi=120)
    return content.getvalue()


def _zoom(axes: Axes, values: NDArray[np.float64], task: Task) -> None:
    """Leave the worst few values out of sight if they are so far off that the others could not be told apart."""
    good = values[np.isfinite(values)] * (1 if task.sense == "max" else -1)
    if not len(good):
        return
    low, high = np.quantile(good, 0.1), good.max()
    floor = low - 0.5 * (high - low)
    hidden = int((good < floor).sum())
    if hidden:
        axes.set_ylim(*sorted(np.array([floor, high + 0.05 * (high - floor)]) * (1 if task.sense == "max" else -1)))
        axes.annotate(f"{hidden} worse not shown", (0.99, 0.01), xycoords="axes fraction", ha="right", fontsize="small")


def cost_label(cost: str) -> str:
    """Return the label of an axis of costs."""
    return "bit operations (BOPs)" if cost == "bops" else cost.replace("_", " ")


def validation_label(task: Task) -> str:
    """Return the label of an axis of the task metric."""
    return f"validation {task.metric}" + (f" [{task.metric_unit}]" if task.metric_unit else "")


def _plane(task: Task, title: str, cost: str = "bops") -> tuple[Figure, Axes]:
    figure = Figure(figsize=(8, 5), layout="constrained")
    axes = figure.subplots()
    axes.set(
        xscale="log",
        xlabel=cost_label(cost),
        ylabel=validation_label(task),
        title=title,
    )
    axes.grid(alpha=0.3)
    return figure, axes
