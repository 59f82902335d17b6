"""Plots of results; every function returns a matplotlib figure."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from kerasnac.core.data import Task
from kerasnac.stages.compress import CompressResult
from kerasnac.stages.run import Outcome
from kerasnac.stages.search import SearchResult


def search(result: SearchResult, *chosen: str) -> Figure:
    """All trained candidates in the plane of BOPs and task metric, with the Pareto front.

    Args:
        result: A global search.
        *chosen: Ids of candidates to mark.
    """
    figure, axes = _plane(result.task, "global search")
    metric = result.task.metric
    trained, front = result.trained, sorted(result.front, key=lambda e: e.metrics["bops"])
    dots = axes.scatter(
        [e.metrics["bops"] for e in trained],
        [e.metrics[metric] for e in trained],
        c=[e.generation for e in trained],
        s=18,
        cmap="viridis",
    )
    figure.colorbar(dots, ax=axes, label="generation")
    axes.plot(
        [e.metrics["bops"] for e in front],
        [e.metrics[metric] for e in front],
        "-",
        color="tab:red",
        lw=1.2,
        label="Pareto front",
    )
    marked = [e for e in trained if e.candidate and e.candidate.id in chosen]
    if marked:
        style: dict[str, Any] = {"s": 110, "facecolors": "none", "edgecolors": "black", "label": "chosen"}
        axes.scatter([e.metrics["bops"] for e in marked], [e.metrics[metric] for e in marked], **style)
    axes.legend()
    return figure


def compression(result: CompressResult) -> Figure:
    """Task metric against BOPs: one curve per model and width, more opaque with every pruning iteration."""
    figure, axes = _plane(result.task, "quantization and pruning")
    curves: dict[str, list[Any]] = {}
    for model in result.models:
        origin = model.origin
        curves.setdefault(
            f"{origin['parent']}, {origin['weight_bits']}-bit weights, {origin['activation_bits']}-bit activations", []
        ).append(model)
    last = max((model.origin["iteration"] for model in result.models), default=0)
    for number, (label, models) in enumerate(curves.items()):
        color = f"C{number % 10}"
        x, y = [m.bops for m in models], [m.metrics[result.task.metric] for m in models]
        axes.plot(x, y, "-", color=color, lw=1, label=label)
        strength: Any = [(m.origin["iteration"] + 1) / (last + 1) for m in models]
        axes.scatter(x, y, color=color, alpha=strength)
    for number, parent in enumerate(result.parents):
        axes.axhline(
            parent.metrics[result.task.metric], ls=":", lw=1, color="gray", label="float models" if number == 0 else None
        )
    if result.models:
        axes.legend(fontsize="small")
    return figure


def save_all(result: Outcome, folder: Path) -> list[Path]:
    """Writes the plots of a run as PNG files."""
    figures = {
        "search.png": search(result.search, *(model.name for model in result.tuned)),
        "compress.png": compression(result.compressed),
    }
    for name, figure in figures.items():
        figure.savefig(folder / name, dpi=120)
    return [folder / name for name in figures]


def _plane(task: Task, title: str) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(8, 5), layout="constrained")
    axes = figure.subplots()
    axes.set(
        xscale="log",
        xlabel="bit operations (BOPs)",
        ylabel=f"validation {task.metric}" + (f" [{task.unit}]" if task.unit else ""),
        title=title,
    )
    axes.grid(alpha=0.3)
    return figure, axes
