"""A run folder as tables: its state, its results, one of its models."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from kerasnac.core.data.bootstrap import number
from kerasnac.core.network.origin import LearnedOrigin, MixedOrigin
from kerasnac.core.network.trained import Trained
from kerasnac.core.settings.changes import changed
from kerasnac.stages.compress.points import point_origin
from kerasnac.stages.results.saved import SavedRun
from kerasnac.stages.results.states import STAGES, PastCall, StageState
from kerasnac.stages.results.story import Story, layers_of, nonzero_parameters, story
from kerasnac.ui import costs, references, tables

#: Failures and problems that are shown, at most.
MOST = 12

#: Titles of the stages.
_TITLES = {"search": "global search", "mixed": "mixed precision", "trees": "boosted trees", "run": "test split"}


def overview(run: SavedRun) -> RenderableType:
    """Return the state of a run and all its results so far."""
    parts: list[RenderableType] = [Text("\n".join(head(run))), states(run)]
    if (outcome := run.outcome) is not None:
        parts.append(tables.outcome(replace(outcome, data="")))  # The first lines have it.
    elif run.trees is not None:
        parts.append(references.table(run.trees, run.test))
    parts += [Text(f"{made.trained.name}: {made.verdict}") for made in run.firmware]
    failed = [f"{failure.name} failed: {failure.reason}" for failure in run.failures if failure.stage != "firmware"]
    if any(len(calls) > 1 for calls in _calls(run).values()):
        parts.append(history(run))
    parts += _listed("failures", failed) + _listed("not shown", run.problems)
    return Group(*parts, Text(how_to_go_on(run)))


def head(run: SavedRun) -> list[str]:
    """Return lines on what a run is."""
    description = str(run.settings.get("description", ""))
    title = f"{run.name}: {description}" if description else run.name
    own = [f"seed {run.seed}"] if run.seed is not None else []
    own += [f"data {run.fingerprint}"] if run.fingerprint else []
    own += [f"kerasnac {run.versions['kerasnac']}"] if "kerasnac" in run.versions else []
    return [title, f"{run.folder}: {state(run)}", run.dataset, ", ".join(own)]


def state(run: SavedRun) -> str:
    """Return how a run is doing, in a few words."""
    if run.is_running:
        journals = [path.stat().st_mtime for path in run.folder.glob("*.jsonl")]
        return f"running, last record {_time(max(0.0, time.time() - max(journals)))} ago" if journals else "running"
    if run.is_complete:
        return "complete"
    return "not complete" if run.is_running is False else "not complete; whether it runs cannot be told here"


def how_to_go_on(run: SavedRun) -> str:
    """Return the next commands to try."""
    models = [made.trained.name for made in run.firmware] or [model.name for model in run.tuned]
    lines = [f"kerasnac show {run.folder} {models[0]}: one model through all stages"] if models else []
    if not run.is_complete and not run.is_running and run.settings:
        lines.insert(0, f"kerasnac resume {run.folder}: goes on where it stopped")
    return "\n".join(lines)


def states(run: SavedRun) -> Table:
    """Return how far every stage is."""
    table = Table(title="Stages", title_justify="left")
    for heading in ("stage", "state", "done", "of", "", "time"):
        table.add_column(heading, justify="right" if heading in ("done", "of", "time") else "left")
    for one in run.states:
        total = "" if one.total is None else f"{one.total:,}"
        spent = "" if one.seconds is None else _time(one.seconds)
        what = f"{STAGES[one.stage]}; {one.note}" if one.note else STAGES[one.stage]
        table.add_row(_TITLES.get(one.stage, one.stage), _status(one, run), f"{one.done:,}", total, what, spent)
    return table


def history(run: SavedRun) -> Table:
    """Return the calls of stages that were run with several settings: what changed, and what they found."""
    table = tables.plain("Settings", "stage", "begun", "settings", "found")
    for stage, calls in _calls(run).items():
        before: Mapping[str, Any] = {}
        for call in calls if len(calls) > 1 else ():
            found = "not finished" if call.found is None else _found(stage, call.found)
            when = call.began.partition("+")[0].replace("T", " ")
            table.add_row(_TITLES.get(stage, stage), when, Text(_changed(before, call.settings)), found)
            before = call.settings
    table.caption = "Of each stage, the results of the last call are shown; those of the others are in the folder"
    return table


def _changed(before: Mapping[str, Any], settings: Mapping[str, Any]) -> str:
    """Return what differs from the settings of the call before; without one, the settings."""
    if not settings:
        return "not recorded"
    listed = changed(before, settings)
    text = ", ".join(map(str, listed) if before else (f"{one.key} {one.after}" for one in listed))
    return text.replace("'", "") or "the same, for other models"


def _calls(run: SavedRun) -> dict[str, list[PastCall]]:
    """Return the calls of the stages that have settings of their own."""
    return {
        stage: [call for call in run.history if call.stage == stage] for stage in ("search", "tune", "compress", "firmware")
    }


def _found(stage: str, found: Mapping[str, Any]) -> str:
    """Return what a call of a stage has found, in a few words."""
    if stage == "search":
        return f"{len(found.get('evaluations', ()))} evaluations"
    if stage == "tune":
        return f"{len(found.get('models', ()))} models: {', '.join(found.get('models', ()))}"
    if stage == "compress":
        return f"{sum(map(len, found.get('jobs', ())))} points"
    refused = f"; {len(found['refused'])} refused" if found.get("refused") else ""
    return f"firmware/: {', '.join(found.get('made', ())) or 'none'}{refused}"


def _status(one: StageState, run: SavedRun) -> str:
    if one.status != "begun":
        return one.status
    return {True: "running", False: "interrupted", None: "begun"}[run.is_running]


def _listed(title: str, lines: Iterable[str]) -> list[RenderableType]:
    lines = list(lines)
    more = [f"and {len(lines) - MOST} more"] if len(lines) > MOST else []
    return [Text("\n".join([f"{title}:", *(f"  {line}" for line in [*lines[:MOST], *more])]))] if lines else []


def _time(seconds: float) -> str:
    if seconds < 60:
        return f"{seconds:.0f} s" if seconds >= 10 else f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"


def one_model(run: SavedRun, name: str) -> RenderableType:
    """Return a model through all stages.

    Raises:
        RunError: If there is no such model.
    """
    found = story(run, name)
    parts: list[RenderableType] = [Text(f"{found.name}, {found.kind} of {run.name} ({run.folder})")]
    if found.trees is not None:
        parts.append(Text(f"{found.trees.ensemble}"))
    if found.architecture is not None:
        parts.append(Text(f"{found.architecture}"))
    parts += [_stages(run, found), *_made_of(found)]
    if found.model is not None:
        parts.append(layers(found.model))
    elif found.evaluation is not None:
        parts.append(Text("It was not chosen for tuning, and the search keeps no weights: there are no layers to show."))
    if found.compressed is None and found.points:
        parts.append(_points(run, found))
    if found.firmware is not None:
        parts.append(Text(found.firmware.report().rstrip()))
    if found.vendor is not None:
        parts.append(costs.vendor(found.vendor))
    parts += [Text(note) for note in found.notes]
    return Group(*parts)


def _stages(run: SavedRun, found: Story) -> Table:
    """Return the model in every stage: metrics, size, costs."""
    task = run.task
    table = tables.plain(
        "Through the stages", "stage", "model", tables.heading(task), *task.metrics, "test [95 % interval]", "BOPs", "zeros"
    )

    def row(stage: str, name: str, metrics: Mapping[str, float], bops: float | None, zeros: str) -> None:
        score = None if stage == "candidate" else (found.test or {}).get(name)
        cells = [number(metrics[metric]) if metric in metrics else "" for metric in (task.metric, *task.metrics)]
        table.add_row(stage, name, *cells, "" if score is None else str(score), "" if bops is None else f"{bops:,.0f}", zeros)

    if (evaluation := found.evaluation) is not None:
        for point in evaluation.expanded:
            row("candidate", point.name, point.metrics, point.metrics.get("bops"), "")
    for stage, model in (("tuned, float", found.tuned), ("compressed", found.compressed)):
        if model is not None:
            row(stage, model.name, model.metrics, model.bops, f"{model.sparsity:.1%}")
    if (made := found.firmware) is not None:
        exact = f"bit-exact: {'yes' if made.bit_exact else 'NO'}" if made.comparison is not None else "not emulated"
        table.add_row("firmware", exact, *[""] * (len(table.columns) - 2))
    if found.trees is not None:
        row("boosted trees", found.name, found.trees.metrics, None, "")
    if found.evaluation is not None and not found.evaluation.points:
        table.caption = "BOPs of a candidate are at the widths that the search assumes, those of a float model at 32 bits"
    return table


def _made_of(found: Story) -> list[RenderableType]:
    """Return lines on the trainings, and the costs that are recorded."""
    lines = []
    if (evaluation := found.evaluation) is not None:
        lines.append(
            f"candidate: generation {evaluation.generation}, {evaluation.status}, {evaluation.fidelity.epochs} epochs, "
            f"{_time(evaluation.seconds)}" + (f": {evaluation.reason}" if evaluation.reason else "")
        )
    for name, model in (("tuned", found.tuned), ("compressed", found.compressed)):
        if model is not None:
            lines.append(f"{name}: {_training(model)}")
    if found.compressed is not None:
        lines.append(f"point: {_origin(found.compressed)}")
    own = found.costs or {}
    known = {name: value for name, value in own.items() if name not in ("bops", "sparsity", "loss")}
    if known:
        lines.append("recorded: " + ", ".join(f"{name} {_value(value)}" for name, value in known.items()))
    return [Text("\n".join(lines))] if lines else []


def _origin(model: Trained) -> str:
    """Return where a compressed model comes from, in a few words."""
    origin = point_origin(model)
    if isinstance(origin, MixedOrigin):
        widths = ", ".join(f"{layer} {bits}" for layer, bits in origin.widths.items())
        return f"mixed precision, from {origin.start}: {widths}"
    if isinstance(origin, LearnedOrigin):
        return f"learned widths, after {origin.iteration} cycles, at a pressure of {origin.pressure:.3g}"
    return (
        f"weights of {origin.weight_bits}, activations of {origin.activation_bits} bits, pruning iteration {origin.iteration}"
    )


def _training(model: Trained) -> str:
    changed = model.training.identity
    return ", ".join(f"{name} {_value(value)}" for name, value in changed.items()) or "the usual training"


def _value(value: object) -> str:
    if isinstance(value, float):
        return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"
    return str(value)


def layers(model: Trained) -> Table:
    """Return the layers of a trained network: shapes, formats, zeros, bit operations."""
    quantized = model.architecture.quantized
    formats = ("weights", "biases", "outputs") if quantized else ()
    other = ("mean bits", "non-zero", "zeros", "BOPs")
    table = tables.plain(f"Layers of {model.name}", "layer", "kind", "output", *formats, *other)
    total = 0.0
    for one in layers_of(model):
        total += one.bops or 0.0
        table.add_row(
            one.name,
            one.text,
            "x".join(map(str, one.output)),
            *((one.weight, one.bias, one.activation) if quantized else ()),
            "" if one.weight_bits is None else f"{one.weight_bits:.3g}",
            f"{one.nonzero:,} of {one.weights:,}" if one.weights else "",
            "" if one.zeros is None else f"{one.zeros:.1%}",
            "" if one.bops is None else f"{one.bops:,.0f}",
        )
    parameters = f"{nonzero_parameters(model):,} of {model.architecture.parameters:,} parameters are not zero"
    table.caption = f"{total:,.0f} BOPs; {parameters}"
    return table


def _points(run: SavedRun, found: Story) -> Table:
    """Return the compressed points of a tuned model."""
    assert run.compressed is not None
    result, task = run.compressed, run.task
    front = {model.name for model in result.front}
    other = () if result.cost == "bops" else (result.cost,)
    costs = ("BOPs", *(name.replace("_", " ") for name in other))
    table = tables.plain("Compressed from it", "model", tables.heading(task), "zeros", *costs, "front")
    for model in found.points:
        values = result.values(model)
        table.add_row(
            model.name,
            number(model.metrics[task.metric]),
            f"{model.sparsity:.1%}",
            f"{model.bops:,.0f}",
            *(f"{values[name]:,.0f}" if name in values else "none" for name in other),
            "yes" if model.name in front else "",
        )
    return table
