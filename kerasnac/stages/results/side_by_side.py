"""Models of any runs side by side: metrics, sizes, estimates, synthesis, each with its source."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kerasnac.core.hardware.boards import Board
from kerasnac.core.hardware.boards import board as board_named
from kerasnac.core.hardware.estimators import SOURCES
from kerasnac.core.network.architecture import Architecture
from kerasnac.core.network.bops import costs as layer_costs
from kerasnac.core.network.origin import CompressionOrigin, LearnedOrigin, MixedOrigin
from kerasnac.core.network.published_bops import published_bops
from kerasnac.core.network.trained import Trained
from kerasnac.errors import ConfigError, RunError
from kerasnac.stages.references.classical import ClassicalPoint, best_of_each
from kerasnac.stages.results.published import Row, Study, study_of
from kerasnac.stages.results.saved import SavedRun
from kerasnac.stages.results.story import Story, names_of, nonzero_parameters, story

if TYPE_CHECKING:
    import pandas as pd

    from kerasnac.adapters.hls4ml.vendor import VendorReport

#: Groups of columns, in their order. Estimates and synthesis never share one.
GROUPS: Mapping[str, str] = {
    "rule4ml": "rule4ml (estimate)",
    "adder_graph": "adder graph (estimate)",
    "hls": "high-level synthesis (estimate)",
    "yosys": "Yosys (synthesis)",
    "vivado": "Vivado (synthesis)",
    "processor": "processor (measured)",
}

#: Counts of Yosys.
_YOSYS = {"luts": "yosys_luts", "ffs": "yosys_ffs", "carry": "yosys_carry", "dsp": "yosys_dsp", "bram": "yosys_bram"}


@dataclass(frozen=True)
class Entry:
    """One model of one run.

    Attributes:
        run: Name of the run.
        model: Name of the model.
        kind: ``candidate``, ``tuned``, ``compressed`` or ``trees``; ``classical`` for a classical method; ``published``.
        metrics: On the validation split, by name; of a published network as its study states them.
        test: Value, low and high end of the interval on the test split, by metric.
        parameters: Weights and biases; None for trees.
        nonzero: Those that are not zero, after quantization; None where the weights are not kept.
        widths: Of weights and activations.
        bops: Bit operations at these widths; None for trees.
        bit_exact: True if its firmware equals Keras, False if not; None if nobody has compared.
        groups: Costs by group of :data:`GROUPS`, by name.
        why: Why a group that was asked for has none.
        window: Part of a trace that is read, as ``start:end``; empty for all of it, or other data.
        board: Board that shares of resources are of; empty if it is not known.
        their_bops: Bit operations as the published study counts them; None if it is not known.
        source: Where a published network is from.
    """

    run: str
    model: str
    kind: str
    metrics: Mapping[str, float]
    test: Mapping[str, tuple[float, float, float]]
    parameters: int | None
    nonzero: int | None
    widths: str
    bops: float | None
    bit_exact: bool | None
    groups: Mapping[str, Mapping[str, float]]
    why: Mapping[str, str] = field(default_factory=dict)
    window: str = ""
    board: str = ""
    their_bops: float | None = None
    source: str = ""


def entries(
    runs: Iterable[tuple[SavedRun, Sequence[str]]],
    *,
    board: Board | None = None,
    references: bool = False,
    published: bool = False,
) -> list[Entry]:
    """Return models of runs.

    Args:
        runs: Every run with names of models; with none, those that it has chosen: tuned ones, and those that became firmware,
            or else the front of the compressed ones, or of the search.
        board: Board for which rule4ml and the adder graph are to estimate what is not recorded; None for recorded values
            alone. Estimates take seconds, and may need rule4ml and da4ml.
        references: True for the classical methods of the runs, of each the best one, and their chosen boosted trees as well.
        published: True for the published networks of the studies that the runs are compared with as well; the bit operations
            of all are then counted by the rule of the study, too.

    Raises:
        RunError: If there is no such model; or published numbers are asked for, and there are none.
    """
    given = [(run, list(names) or chosen(run)) for run, names in runs]
    studies = _studies([run for run, _ in given]) if published else {}
    rules = {run.name: studies[run.name].bops_rule for run, _ in given if run.name in studies}
    labels = labels_of([run for run, _ in given])
    found = [
        replace(_entry(run, story(run, name), board, rules.get(run.name, "")), run=labels[run.folder])
        for run, names in given
        for name in names
    ]
    for run in {run.folder: run for run, _ in given if references}.values():
        known = {one.model for one in found if one.run == labels[run.folder]}
        trees = run.trees.chosen if run.trees is not None else ()
        more = [_classical(run, point) for point in best_of_each(run.classical, run.task)]
        more += [_entry(run, story(run, point.name), board) for point in trees if point.name not in known]
        found += [replace(one, run=labels[run.folder]) for one in more]
    distinct = {study.title: study for study in studies.values()}
    return [*found, *(_published(row) for study in distinct.values() for row in study.rows)]


def labels_of(runs: Sequence[SavedRun]) -> dict[Path, str]:
    """Return a name for every run by its folder: that of its run file, or of the folder where several have the same one."""
    names = {run.folder: run.name for run in runs}
    counts = Counter(names.values())
    return {folder: name if counts[name] == 1 else folder.resolve().name for folder, name in names.items()}


def _studies(runs: Sequence[SavedRun]) -> dict[str, Study]:
    """Return the studies of runs by the name of the run file; one of the runs has to have one."""
    found, reason = dict[str, Study](), None
    for run in runs:
        try:
            found[run.name] = study_of(run)
        except RunError as error:
            reason = error
    if not found and reason is not None:
        raise reason
    return found


def chosen(run: SavedRun) -> list[str]:
    """Return the models that a run has chosen.

    Raises:
        RunError: If it has none yet.
    """
    converted = [made.trained.name for made in run.firmware]
    compressed = [model.name for model in run.compressed.front] if run.compressed else []
    found = [*(model.name for model in run.tuned), *(converted or compressed)]
    if not found and run.search is not None:
        found = [e.key for e in run.search.front]
    if not found and run.trees is not None:
        found = [point.name for point in run.trees.front]
    if not found:
        raise RunError(f"{run.folder} has no models yet; `kerasnac show {run.folder}` tells how far it is")
    known = names_of(run)
    return [name for name in dict.fromkeys(found) if name in known]


def frame(found: Sequence[Entry]) -> pd.DataFrame:
    """Return entries as a table: one row each, one column per value; estimates and synthesis in columns of their own."""
    import pandas as pd

    rows = []
    for one in found:
        row: dict[str, Any] = {"run": one.run, "model": one.model, "kind": one.kind, **one.metrics}
        for metric, (value, low, high) in one.test.items():
            row |= {f"test_{metric}": value, f"test_{metric}_low": low, f"test_{metric}_high": high}
        size = {"parameters": one.parameters, "nonzero_parameters": one.nonzero, "widths": one.widths, "bops": one.bops}
        row |= {**size, "their_bops": one.their_bops, "window": one.window, "bit_exact": one.bit_exact}
        row |= {"board": one.board, "source": one.source}
        for group in GROUPS:
            row |= {f"{group}:{name}": value for name, value in one.groups.get(group, {}).items()}
        rows.append(row)
    made = pd.DataFrame(rows)
    made = made.drop(columns=[name for name in ("window", "board", "their_bops", "source") if not _known(made[name]).any()])
    grouped = [column for column in made.columns if ":" in column and column.split(":")[0] in GROUPS]
    order = [column for group in GROUPS for column in grouped if column.startswith(f"{group}:")]
    test = [column for column in made.columns if column.startswith("test_")]
    plain = [column for column in made.columns if column not in (*grouped, *test)]
    at = plain.index("parameters")
    return made[[*plain[:at], *test, *plain[at:], *order]]


def _known(column: pd.Series[Any]) -> pd.Series[bool]:
    return column.notna() & (column != "")


def _entry(run: SavedRun, found: Story, board: Board | None, rule: str = "") -> Entry:
    model, metrics, task = found.model, dict[str, float](), run.task
    if found.trees is not None:
        metrics = dict(found.trees.metrics)
    elif model is not None:
        metrics = dict(model.metrics)
    elif found.evaluation is not None:
        metrics = dict(found.evaluation.metrics)
    shown = {name: metrics[name] for name in (task.metric, *task.metrics) if name in metrics}
    groups, why = _groups(run, found, board)
    architecture = found.architecture
    bops = model.bops if model is not None else metrics.get("bops")
    made = found.firmware
    return Entry(
        run.name,
        found.name,
        found.kind,
        shown,
        _test(run, found),
        None if architecture is None else architecture.parameters,
        None if model is None else nonzero_parameters(model),
        _widths(run, found),
        bops,
        None if made is None or made.comparison is None else made.bit_exact,
        groups,
        why,
        _window(architecture),
        board.name if board is not None else _board(run),
        _their_bops(run, found, rule) if rule else None,
    )


def _classical(run: SavedRun, point: ClassicalPoint) -> Entry:
    """Return a classical method; it has no weights that are counted, and its window is in its name."""
    task, score = run.task, run.test.get(point.name)
    scores = {} if score is None else {task.metric: score, **score.further}
    test = {name: (one.value, one.low, one.high) for name, one in scores.items()}
    window = point.name.rpartition("[")[2].removesuffix("]") if point.name.endswith("]") else ""
    cost = {"processor": {"microseconds": point.microseconds}}
    metrics = {name: point.metrics[name] for name in (task.metric, *task.metrics) if name in point.metrics}
    return Entry(run.name, point.name, "classical", metrics, test, None, None, "", None, None, cost, window=window)


def _published(row: Row) -> Entry:
    """Return a published network; what is not available is None, and NaN among the metrics."""
    metrics = {name: float("nan") if value is None else value for name, value in row.metrics.items()}
    name = f"{row.name}, {row.particles} particles" if row.particles else row.name
    source = f"{row.source} (read in: {row.read})" if row.read else row.source
    return Entry(
        "published",
        name,
        "published",
        metrics,
        {},
        row.parameters,
        None,
        row.widths,
        row.our_bops,
        None,
        row.groups,
        window=row.window,
        board=row.board,
        their_bops=row.bops,
        source=source,
    )


def _window(architecture: Architecture | None) -> str:
    first = architecture.layers[0] if architecture is not None else None
    if first is None or first.kind != "window":
        return ""
    start = int(first["start"])
    return f"{start}:{start + int(first['length'])}"


def _board(run: SavedRun) -> str:
    """Return the board of a run's firmware; empty if its resources are not known."""
    try:
        return board_named(str(run.section("firmware").get("part", ""))).name
    except ConfigError:
        return ""


def _their_bops(run: SavedRun, found: Story, rule: str) -> float | None:
    """Return the bit operations of a network by the rule of a published study."""
    network, model = found.architecture, found.model
    if network is None:
        return None
    if model is not None:
        return published_bops(rule, network, model.layer_costs)
    bits = run.calls["search"].asked.get("bits") or (32, 32)
    return published_bops(rule, network, layer_costs(network, weight_bits=bits[0], activation_bits=bits[1]))


def _test(run: SavedRun, found: Story) -> dict[str, tuple[float, float, float]]:
    score = (found.test or {}).get(found.name) if found.kind != "candidate" else None
    if score is None:
        return {}
    every = {run.task.metric: score, **score.further}
    return {name: (one.value, one.low, one.high) for name, one in every.items()}


def _widths(run: SavedRun, found: Story) -> str:
    """Return the widths at which bit operations are counted, in a few words."""
    if found.kind == "trees":
        return ""
    if found.compressed is not None:
        return widths_of(found.compressed)
    if found.tuned is not None:
        return "32-bit float"
    bits = run.calls["search"].asked.get("bits")
    own = found.architecture is not None and found.architecture.has_compression_params
    return "of the search" if own or not bits else f"{bits[0]}-bit weights, {bits[1]}-bit activations, assumed"


def widths_of(model: Trained) -> str:
    """Return the widths of a compressed model in a few words."""
    origin = model.origin
    if isinstance(origin, MixedOrigin):
        return "by layer"
    if isinstance(origin, LearnedOrigin):
        return "learned, by weight and channel"
    if model.architecture.has_compression_params:
        return "of the search"
    if isinstance(origin, CompressionOrigin):
        weights = f"{origin.weight_bits}-bit" if isinstance(origin.weight_bits, int) else str(origin.weight_bits)
        return f"{weights} weights, {origin.activation_bits}-bit activations"
    return "its own" if model.architecture.quantized else "32-bit float"


def _groups(run: SavedRun, found: Story, board: Board | None) -> tuple[dict[str, Mapping[str, float]], dict[str, str]]:
    """Return the costs of every source, and why there are none."""
    groups: dict[str, Mapping[str, float]] = {}
    why: dict[str, str] = {}
    costs = dict(found.costs or {})
    if found.kind == "trees":
        trees = {"yosys_luts": "yosys_luts", "ffs": "yosys_ffs", "carry": "yosys_carry"}
        counted = {name: costs[own] for own, name in trees.items() if own in costs}
        return ({"yosys": counted} if counted else {}), why
    if found.kind == "tuned" and (seen := _seen(run, found)):
        groups["rule4ml"] = seen
    if found.kind in ("candidate", "compressed"):
        for source in ("rule4ml", "adder_graph"):
            if own := {name: costs[name] for name in SOURCES[source] if name in costs}:
                groups[source] = own
    if found.firmware is not None and found.firmware.adder_graph.costs:
        groups["adder_graph"] = dict(found.firmware.adder_graph.costs)  # Of the clock of the firmware.
    if board is not None and found.compressed is not None:
        for source, estimate in _estimated(
            run, found.compressed, board, [name for name in SOURCES if name not in groups]
        ).items():
            if isinstance(estimate, str):
                why[source] = estimate
            else:
                groups[source] = estimate
    if (counted_luts := run.yosys.get(found.name)) is not None:
        groups["yosys"] = {"yosys_luts": counted_luts}
    rtl = run.rtl.get(found.name)
    if rtl is not None and rtl.synthesis is not None:
        groups["yosys"] = {name: float(getattr(rtl.synthesis, own)) for own, name in _YOSYS.items()}
    if found.vendor is not None:
        groups |= _vendor(found.vendor)
    return groups, why


def _seen(run: SavedRun, found: Story) -> dict[str, float]:
    """Return what rule4ml, which sees no weights, has said of the same network in the search."""
    evaluations = run.search.evaluations if run.search is not None else ()
    same = next((e for e in evaluations if e.candidate and e.built.architecture == found.architecture), None)
    return {name: same.metrics[name] for name in SOURCES["rule4ml"] if name in same.metrics} if same is not None else {}


def _estimated(run: SavedRun, model: Trained, board: Board, missing: Sequence[str]) -> dict[str, Mapping[str, float] | str]:
    """Estimate what is not recorded."""
    from kerasnac.stages.firmware.costs import hardware_costs

    if not {"rule4ml", "adder_graph"} & {*missing}:
        return {}
    found = hardware_costs(model, board=board.name).estimates
    return {source: costs for source, costs in found.items() if source in missing}


def _vendor(report: VendorReport) -> dict[str, Mapping[str, float]]:
    """Return the reports of the vendor's tools: of high-level synthesis, which are estimates, and of logic synthesis."""
    groups: dict[str, Mapping[str, float]] = {}
    if report.hls is not None:
        timing = {"latency_cycles": report.hls.latency[1], "interval_cycles": report.hls.interval[1]}
        known = {name: float(value) for name, value in timing.items() if value is not None}
        if "latency_cycles" in known:
            known["latency_ns"] = known["latency_cycles"] * report.hls.estimated_clock
        used = {name: float(value) for name, value in report.hls.used.items()}
        groups["hls"] = {**used, **known, "clock_ns": report.hls.estimated_clock}
    if report.vivado is not None:
        groups["vivado"] = {name: float(value) for name, value in report.vivado.used.items()}
    return groups
