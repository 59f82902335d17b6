"""Boosted trees and classical methods beside the networks of a run, as tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from rich.markup import escape
from rich.table import Table

from kerasnac.core.data.bootstrap import Score, number
from kerasnac.core.data.task import Task
from kerasnac.core.network.trained import Trained
from kerasnac.stages.compress.result import CompressResult
from kerasnac.stages.references.classical import ClassicalPoint
from kerasnac.stages.references.result import TreesResult

#: Headings of the look-up tables of trees.
LUTS = {"yosys_luts": "LUT, Yosys", "estimated_luts": "LUT, estimated from the trees"}

#: Further counts of Yosys, with their headings.
_COUNTS = {"muxes": "muxes", "ffs": "FF", "cycles": "cycles"}


def table(trees: TreesResult, test: Mapping[str, Score], compressed: CompressResult | None = None) -> Table:
    """Return the front of boosted trees, and the networks whose look-up tables are known, by accuracy.

    Args:
        trees: The boosted trees.
        test: Scores on the test split, by name.
        compressed: The networks.
    """
    task = trees.task
    networks = networks_of(compressed)
    graph = ["adder graph (estimate)"] if networks else []
    counts = _COUNTS if trees.cost == "yosys_luts" else {}
    unit = f", {task.metric_unit}" if task.metric_unit else ""
    made = Table(title="Boosted trees, for comparison", title_justify="left", caption_justify="left")
    costs = (LUTS[trees.cost], *graph, *counts.values())
    for heading in ("model", f"{task.metric}{unit}", *task.metrics, "test [95 % interval]", *costs):
        made.add_column(heading, justify="left" if heading == "model" else "right", overflow="fold", no_wrap=heading == "model")
    rows = []
    for point in trees.front:
        cells = [f"{point.costs[trees.cost]:,.0f}", *[""] * len(graph), *(f"{point.costs[name]:,.0f}" for name in counts)]
        rows.append((point.metrics, point.name, cells))
    for model, luts in networks:
        counted = f"{trees.networks[model.name]:,.0f}" if model.name in trees.networks else ""
        rows.append((model.metrics, model.name, [counted, f"{luts:,.0f}", *[""] * len(counts)]))
    for metrics, name, cells in sorted(rows, key=lambda row: row[0][task.metric], reverse=task.sense == "min"):
        scored = str(test[name]) if name in test else ""
        made.add_row(name, f"{metrics[task.metric]:.4f}", *(number(metrics[one]) for one in task.metrics), scored, *cells)
    made.caption = _caption(trees, bool(networks))
    return made


def classical_table(points: Sequence[ClassicalPoint], task: Task, test: Mapping[str, Score]) -> Table:
    """Return the classical methods with their metrics and the time that a sample takes.

    Args:
        points: The methods.
        task: The task of the data.
        test: Scores on the test split, by name.
    """
    unit = f", {task.metric_unit}" if task.metric_unit else ""
    made = Table(title="Classical methods, for comparison", title_justify="left", caption_justify="left")
    headings = ("method", f"{task.metric}{unit}", *task.metrics, "test [95 % interval]", "µs per sample", "samples", "note")
    for heading in headings:
        text = heading in ("method", "note")
        made.add_column(heading, justify="left" if text else "right", overflow="fold", no_wrap=heading == "method")
    for point in points:
        metrics = (number(point.metrics[name]) for name in (task.metric, *task.metrics))
        scored = str(test[point.name]) if point.name in test else ""
        time = f"{point.microseconds:.2g}" if point.microseconds < 10 else f"{point.microseconds:,.0f}"
        made.add_row(escape(point.name), *metrics, scored, time, f"{point.samples:,}", point.note)
    made.caption = "µs: of the processor, with NumPy and SciPy on this machine, when it was first run"
    return made


def networks_of(compressed: CompressResult | None) -> list[tuple[Trained, float]]:
    """Return the compressed networks on the front whose adder graphs are known, with the look-up tables of these."""
    if compressed is None:
        return []
    known = ((model, compressed.costs.get(model.name, {})) for model in compressed.front)
    return [(model, costs["adder_luts"]) for model, costs in known if "adder_luts" in costs]


def _caption(trees: TreesResult, beside_networks: bool) -> str:
    lines = ["trees: d depth, b bits of a leaf, t thresholds of a feature at most, l learning rate, r rounds"]
    if trees.cost == "estimated_luts":
        lines.append("no Yosys, no Verilog: the estimate is no count")
    elif simulated := min((point.costs["samples"] for point in trees.front), default=0):
        lines.append(f"each simulated by Verilator: {simulated:,.0f} of {simulated:,.0f} samples equal")
    if beside_networks and trees.cost == "yosys_luts":
        lines.append("adder graphs are estimates: Yosys counts from 15 % fewer to 25 % more LUTs, more with learned widths")
    return "\n".join(lines)
