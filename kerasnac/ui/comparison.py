"""Fronts of several runs: as tables, and as a plot."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.figure import Figure
from rich.table import Table

from kerasnac.core.data.bootstrap import number
from kerasnac.stages.results.compare import Box
from kerasnac.ui import charts, tables

#: What the fronts are of, in titles.
TITLES = {"search": "global search", "compressed": "compressed models"}


def volumes(box: Box) -> Table:
    """Return a table of the hypervolumes, the best first."""
    cost, metric = box.cost.replace("_", " "), box.task.metric
    best = max(box.volumes.values())
    table = tables.plain(
        f"Fronts of {metric} and {cost}, {TITLES[box.stage]}",
        "run",
        "points",
        "on the joint front",
        f"best {metric}",
        f"{cost}, from",
        "to",
        "hypervolume",
        "of the best",
    )
    for name in sorted(box.fronts, key=lambda name: -box.volumes[name]):
        front, volume = box.fronts[name], box.volumes[name]
        if not front:
            table.add_row(name, "0", *[""] * 6)
            continue
        metrics = [point.metric for point in front]
        table.add_row(
            name,
            str(len(front)),
            str(sum(point.run == name for point in box.joint)),
            number(max(metrics) if box.task.sense == "max" else min(metrics)),
            f"{front[0].cost:,.0f}",
            f"{front[-1].cost:,.0f}",
            f"{volume:.4f}",
            f"{volume / best:.1%}" if best else "",
        )
    table.caption = (
        f"reference point: {metric} {number(box.reference[0])}, {cost} {box.reference[1]:,.0f}; the cost counts by its "
        "logarithm; 1 is the box from there to the best values of all fronts"
    )
    return table


def joint(box: Box) -> Table:
    """Return the front of all runs together, the best metric first."""
    cost = box.cost.replace("_", " ")
    table = tables.plain(f"Joint front, {TITLES[box.stage]}", "run", "model", tables.heading(box.task), cost)
    for point in reversed(box.joint):
        table.add_row(point.run, point.model, number(point.metric), f"{point.cost:,.0f}")
    return table


def figure(boxes: Sequence[Box]) -> Figure:
    """Plot the fronts of every stage, one colour per run."""
    made = Figure(figsize=(8, 5 * len(boxes)), layout="constrained")
    for axes, box in zip(made.subplots(len(boxes), squeeze=False)[:, 0], boxes, strict=True):
        for place, (name, front) in enumerate(box.fronts.items()):
            label = f"{name} (hypervolume {box.volumes[name]:.3f})"
            axes.plot([p.cost for p in front], [p.metric for p in front], "o-", color=f"C{place}", ms=4, lw=1.2, label=label)
        joined = [p.cost for p in box.joint], [p.metric for p in box.joint]
        axes.plot(*joined, ":", color="black", lw=0.8, label="joint front")
        axes.plot(box.reference[1], box.reference[0], "x", color="gray", label="reference point")
        axes.set(xscale="log", title=f"fronts of the {TITLES[box.stage]}")
        axes.set(xlabel=charts.label(box.cost, box.task), ylabel=charts.label(box.task.metric, box.task))
        axes.grid(alpha=0.3)
        axes.legend(fontsize="small")
    return made
