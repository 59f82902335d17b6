"""The results of a run as tables."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from kerasnac.core.data.bootstrap import number
from kerasnac.core.data.task import Task
from kerasnac.core.display import counted
from kerasnac.core.hardware.estimators import SOURCES
from kerasnac.core.network.origin import TuningOrigin
from kerasnac.core.network.training import Training
from kerasnac.core.search.evaluation import Evaluation
from kerasnac.stages.compress.points import point_origin
from kerasnac.stages.results.outcome import Outcome
from kerasnac.stages.search.result import SearchResult
from kerasnac.ui import curves, references

_TITLES = {"bops": "BOPs"}

#: Heading -> hyperparameter that few tunings search, and how it is shown.
_FURTHER: dict[str, tuple[str, Callable[[Training], str]]] = {
    "optimizer": ("optimizer", lambda t: t.optimizer),
    "L1": ("l1", lambda t: f"{t.l1:.1g}"),
    "smoothing": ("label_smoothing", lambda t: f"{t.label_smoothing:.2f}"),
}

#: Characters in a line where there is no terminal.
WIDTH = 140


def outcome(result: Outcome) -> RenderableType:
    """Return everything that a run found: the front, the tuned and compressed models, the firmware."""
    small = [tuned(result)] if result.tuned else []
    small += [compressed(result)] if result.compressed.models else []
    small += [made] if (made := estimates(result)) is not None else []
    small += [firmware(result)] if result.firmware else []
    small += [references.table(result.trees, result.test, result.compressed)] if result.trees else []
    small += [references.classical_table(result.classical, result.search.task, result.test)] if result.classical else []
    small += [curves.table(result.curves)] if result.curves else []
    small += [further(result)] if result.search.task.metrics and result.test else []
    floats = {model.name for model in result.tuned}
    refused = (
        Text(f"{name} {'stays float' if name in floats else 'has no firmware'}: {reason}")
        for name, reason in result.refused.items()
    )
    chosen = (model.origin_as(TuningOrigin).candidate for model in result.tuned)
    data = [Text(result.data)] if result.data else []
    return Group(*data, front(result.search, *chosen), *small, *refused)


def front(result: SearchResult, *chosen: str) -> Table:
    """Return a table of the Pareto front of the global search, and of the references.

    Args:
        result: A global search.
        *chosen: Ids of candidates to mark.
    """
    task, front = result.task, result.front
    costs = list(dict.fromkeys(o.metric for o in (*result.objectives, *result.budgets) if o.metric not in task.senses))
    costs += [cost for cost in ("bops", "parameters") if cost not in costs]
    networks = f", {len(result.points):,} networks" if result.points != result.trained else ""
    table = plain(
        f"Pareto front of the global search ({counted(len(result.trained), 'candidate')} trained{networks}: {result.stopped})",
        "model",
        heading(task),
        *task.metrics,
        *(_TITLES.get(cost, cost.replace("_", " ")) for cost in costs),
        "architecture",
    )
    names = {candidate: name for name, candidate in result.references.items()}
    on_front = {e.index for e in front}
    seeds = [_best(e, task) for e in result.evaluations if e.key in names and e.index not in on_front]
    for evaluation in (*front, *seeds):
        assert evaluation.candidate is not None
        metrics, name = evaluation.metrics, evaluation.name
        if evaluation.key in names:
            name = name.replace(evaluation.key, names[evaluation.key])
            name = name if evaluation in front else f"({name})"
        table.add_row(
            f"{name} *" if evaluation.candidate.id in chosen else name,
            f"{metrics[task.metric]:.4f}" if evaluation.status == "ok" else evaluation.status.replace("_", " "),
            *(number(metrics[name]) if name in metrics else "" for name in task.metrics),
            *(_shown(metrics[cost]) if cost in metrics else "" for cost in costs),
            str(evaluation.candidate.architecture),
        )
    notes = ["* chosen for local search"] * bool(chosen) + ["() reference, not on the front"] * bool(seeds)
    table.caption = "; ".join(notes)
    return table


def _best(evaluation: Evaluation, task: Task) -> Evaluation:
    """Return the point of a candidate with the best task metric; the candidate itself if it has no points."""
    sign = 1 if task.sense == "max" else -1
    return max(evaluation.expanded, key=lambda point: sign * point.metrics.get(task.metric, 0.0))


def _shown(cost: float) -> str:
    return f"{cost:,.4g}" if cost < 1000 else f"{cost:,.0f}"


def tuned(result: Outcome) -> Table:
    """Return a table of the tuned models; hyperparameters that have their usual value in all of them get no column."""
    task, usual = result.search.task, Training()
    mean, deviation = f"{task.metric}_mean", f"{task.metric}_std"
    repeated = any(mean in model.metrics for model in result.tuned)
    further = {
        heading: show
        for heading, (name, show) in _FURTHER.items()
        if any(getattr(model.training, name) != getattr(usual, name) for model in result.tuned)
    }
    table = plain(
        "Tuned models (float)",
        "model",
        heading(task),
        *["repeated"] * repeated,
        "test [95 % interval]",
        "BOPs at 32 bit",
        "rate",
        "schedule",
        "batch",
        "decay",
        "dropout",
        *further,
    )
    for model in result.tuned:
        t = model.training
        table.add_row(
            model.name,
            f"{model.metrics[task.metric]:.4f}",
            *[f"{model.metrics[mean]:.4f} ± {model.metrics[deviation]:.4f}" if mean in model.metrics else ""] * repeated,
            _scored(result, model.name),
            f"{model.bops:,.0f}",
            f"{t.learning_rate:.2g}",
            t.schedule,
            str(t.batch_size),
            f"{t.weight_decay:.1g}",
            f"{t.dropout:.2f}",
            *(show(t) for show in further.values()),
        )
    if repeated:
        table.caption = "repeated: mean ± standard deviation on validation of trainings with further seeds"
    return table


def compressed(result: Outcome) -> Table:
    """Return a table of the compressed models that are on the front or became firmware."""
    task = result.search.task
    cost = result.compressed.cost
    title = f"Compressed models (front of metric and {_TITLES.get(cost, cost.replace('_', ' '))})"
    other = () if cost == "bops" else (cost.replace("_", " "),)
    table = plain(title, "model", heading(task), *task.metrics, "sparsity", "BOPs", "vs 32 bit", *other)
    parents = {model.name: model for model in result.compressed.parents}
    converted = {f.trained.name for f in result.firmware}
    # The firmware of some tasks has further layers than the model.
    own = {model.name: model for model in result.compressed.models}
    shown = {m.name: own.get(m.name, m) for m in (*result.compressed.front, *(f.trained for f in result.firmware))}
    by_cost = {model.name: result.compressed.values(model).get(cost, math.inf) for model in shown.values()}
    for model in sorted(shown.values(), key=lambda m: (by_cost[m.name], m.bops)):
        values = result.compressed.values(model)
        table.add_row(
            f"{model.name} *" if model.name in converted else model.name,
            f"{model.metrics[task.metric]:.4f}",
            *(number(model.metrics[name]) for name in task.metrics),
            f"{model.sparsity:.1%}",
            f"{model.bops:,.0f}",
            f"{parents[point_origin(model).parent].bops / model.bops:.0f}x fewer",
            *([f"{values[cost]:,.0f}" if cost in values else "none"] if other else []),
        )
    refused = (f"no mixed precision of {name}: {reason}" for name, reason in result.compressed.mixed_refused.items())
    table.caption = "\n".join([*(["* converted to firmware"] if converted else []), *refused])
    return table


#: Estimates of a network in tables of a whole run: heading, and name.
_ESTIMATES = {
    "LUT, adder graph": "adder_luts",
    "FF, adder graph": "adder_registers",
    "cycles, adder graph": "adder_stages",
    "latency, ns": "adder_latency_ns",
    "average %, rule4ml": "average_percent",
    "LUT, rule4ml": "lut",
    "cycles, rule4ml": "cycles",
}


def estimates(result: Outcome) -> Table | None:
    """Return a table of what is estimated of tuned, compressed and converted models; None if nothing is.

    rule4ml sees no weights: what it said of a candidate is true of the tuned network. The adder graph is that of the weights.
    """
    searched = {e.built.architecture: e.metrics for e in result.search.trained}
    rows: dict[str, Mapping[str, float]] = {}
    for model in result.tuned:
        known = searched.get(model.architecture, {})
        rows[model.name] = {name: known[name] for name in SOURCES["rule4ml"] if name in known}
    for model in result.compressed.front:
        rows[model.name] = result.compressed.values(model)
    for made in result.firmware:
        rows[made.trained.name] = {**rows.get(made.trained.name, {}), **made.adder_graph.costs}
    columns = {heading: name for heading, name in _ESTIMATES.items() if any(name in row for row in rows.values())}
    if not columns:
        return None
    table = plain("Estimates of hardware", "model", *columns)
    for model_name, row in rows.items():
        if any(name in row for name in columns.values()):
            table.add_row(model_name, *(_shown(row[name]) if name in row else "" for name in columns.values()))
    return table


def firmware(result: Outcome) -> Table:
    """Return a table of the firmware and its comparison with Keras."""
    task, floats = result.search.task, {model.name for model in result.tuned}
    table = plain(
        "Firmware (C++ emulation against QKeras)",
        "model",
        f"test {heading(task)} [95 % interval]",
        "samples emulated",
        "outputs equal",
        "bit-exact",
    )
    for made in result.firmware:
        compared = made.comparison is not None
        equal = f"{made.outputs - made.mismatches:,} of {made.outputs:,}" if compared else "not emulated"
        table.add_row(
            made.trained.name,
            _scored(result, made.trained.name),
            f"{made.samples:,}",
            equal,
            ("yes" if made.bit_exact else "NO") if compared else "unknown",
        )
    for name in result.refused:
        if name not in floats:
            table.add_row(name, _scored(result, name), "none", "no firmware", "")
    return table


def further(result: Outcome) -> Table:
    """Return a table of the further metrics on the test split, with their intervals."""
    names = result.search.task.metrics
    table = plain("Further metrics on the test split [95 % interval]", "model", *names)
    for model, scored in result.test.items():
        table.add_row(model, *(str(scored.further[name]) for name in names))
    return table


def _scored(result: Outcome, name: str) -> str:
    """Return the score of a model on the test split; a run that goes on, or of an earlier version, may have none."""
    return str(result.test[name]) if name in result.test else "not recorded"


def as_text(renderable: RenderableType) -> str:
    """Return a table as plain text, for files."""
    console = Console(width=WIDTH, no_color=True, highlight=False)
    with console.capture() as capture:
        console.print(renderable)
    return capture.get()


def heading(task: Task) -> str:
    """Return the heading of the task metric, with its unit."""
    return f"{task.metric}, {task.metric_unit}" if task.metric_unit else task.metric


def plain(title: str, *columns: str) -> Table:
    """Return an empty table: text to the left, numbers to the right."""
    table = Table(title=title, title_justify="left", caption_justify="left")
    for column in columns:
        text = column in ("model", "architecture", "schedule", "stage", "layer", "kind", "reads", "run", "name", "run file")
        table.add_column(column, justify="left" if text else "right", overflow="fold", no_wrap=column in ("model", "run"))
    return table
