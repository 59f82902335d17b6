"""Models of any runs side by side: metrics, sizes, estimates, synthesis, each with its source."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from kerasnac.core.hardware.boards import Board
from kerasnac.core.hardware.estimators import SOURCES
from kerasnac.core.network.origin import CompressionOrigin, LearnedOrigin, MixedOrigin
from kerasnac.core.network.trained import Trained
from kerasnac.errors import RunError
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
}

#: Counts of Yosys.
_YOSYS = {"luts": "yosys_luts", "ffs": "yosys_ffs", "carry": "yosys_carry", "dsp": "yosys_dsp", "bram": "yosys_bram"}


@dataclass(frozen=True)
class Entry:
    """One model of one run.

    Attributes:
        run: Name of the run.
        model: Name of the model.
        kind: ``candidate``, ``tuned``, ``compressed`` or ``trees``.
        metrics: On the validation split, by name.
        test: Value, low and high end of the interval on the test split, by metric.
        parameters: Weights and biases; None for trees.
        nonzero: Those that are not zero, after quantization; None where the weights are not kept.
        widths: Of weights and activations.
        bops: Bit operations at these widths; None for trees.
        bit_exact: True if its firmware equals Keras, False if not; None if nobody has compared.
        groups: Costs by group of :data:`GROUPS`, by name.
        why: Why a group that was asked for has none.
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


def entries(runs: Iterable[tuple[SavedRun, Sequence[str]]], *, board: Board | None = None) -> list[Entry]:
    """Return models of runs.

    Args:
        runs: Every run with names of models; with none, those that it has chosen: tuned ones, and those that became firmware,
            or else the front of the compressed ones, or of the search.
        board: Board for which rule4ml and the adder graph are to estimate what is not recorded; None for recorded values
            alone. Estimates take seconds, and may need rule4ml and da4ml.

    Raises:
        RunError: If there is no such model.
    """
    return [_entry(run, story(run, name), board) for run, names in runs for name in (names or chosen(run))]


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
        row |= {**size, "bit_exact": one.bit_exact}
        for group in GROUPS:
            row |= {f"{group}:{name}": value for name, value in one.groups.get(group, {}).items()}
        rows.append(row)
    made = pd.DataFrame(rows)
    grouped = [column for column in made.columns if ":" in column and column.split(":")[0] in GROUPS]
    order = [column for group in GROUPS for column in grouped if column.startswith(f"{group}:")]
    test = [column for column in made.columns if column.startswith("test_")]
    plain = [column for column in made.columns if column not in (*grouped, *test)]
    at = plain.index("parameters")
    return made[[*plain[:at], *test, *plain[at:], *order]]


def _entry(run: SavedRun, found: Story, board: Board | None) -> Entry:
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
    )


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
