"""The tables of a run: plain values, which the page formats and files keep as they are."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from kerasnac.adapters.rtl.causes import CAUSES
from kerasnac.core.data.curves import EFFICIENCIES, QUANTILES, Distances
from kerasnac.core.network.trained import Trained
from kerasnac.stages.compress.points import point_origin
from kerasnac.stages.results.saved import SavedRun
from kerasnac.stages.results.states import STAGES
from kerasnac.stages.results.story import nonzero_parameters
from kerasnac.ui.report.points import Point, chosen_of, luts_of

Cell = str | int | float | None

#: Rows of a table that the page shows; files have all.
MOST = 60


@dataclass(frozen=True)
class Grid:
    """A table.

    Attributes:
        key: Name of its file.
        title: What it shows.
        columns: Headings.
        rows: As many values each; None is an empty cell.
        note: What else has to be said.
    """

    key: str
    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]
    note: str = ""

    @property
    def shown(self) -> tuple[tuple[Cell, ...], ...]:
        """The rows that the page shows."""
        return self.rows[:MOST]

    @property
    def hidden(self) -> int:
        """How many it does not."""
        return max(0, len(self.rows) - MOST)


def text_of(value: Cell) -> str:
    """Return a value as the page shows it."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return ""
    if isinstance(value, float):
        if value == int(value) if math.isfinite(value) else False:
            return f"{value:,.0f}"
        return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"
    return f"{value:,}" if isinstance(value, int) else value


def states(run: SavedRun) -> Grid:
    """Return how far the stages are."""
    rows = [(s.stage, s.status, s.done, s.total, STAGES[s.stage], s.note, s.seconds, s.began, s.ended) for s in run.states]
    columns = ("stage", "state", "done", "of", "what", "note", "seconds", "began", "ended")
    return _without_empty(Grid("stages", "Stages", columns, tuple(rows)))


def front(run: SavedRun, points: Sequence[Point]) -> Grid | None:
    """Return the front of the global search, and its references."""
    shown = [p for p in points if p.stage == "search" and ("front" in p.marks or p.reference)]
    if not shown or run.search is None:
        return None
    task, search = run.task, run.search
    costs = [o.metric for o in (*search.objectives, *search.budgets) if o.metric not in task.senses]
    names = list(dict.fromkeys((task.metric, *task.metrics, *costs, "bops", "parameters", "seconds")))
    names = [name for name in names if any(name in p.values for p in shown)]
    shown.sort(key=lambda p: p.values.get(search.cost, math.inf))
    rows = [
        (p.name, p.reference, *map(_yes, (p, p), ("front", "chosen")), *(p.values.get(name) for name in names), p.text)
        for p in shown
    ]
    columns = ("candidate", "reference", "front", "tuned", *names, "network")
    return _without_empty(Grid("front", "Pareto front of the global search", columns, tuple(rows)))


def _yes(point: Point, mark: str) -> str:
    return "yes" if mark in point.marks else ""


def models(run: SavedRun, stage: str, points: Sequence[Point]) -> Grid | None:
    """Return the tuned models, or the compressed ones that are on the front or were chosen."""
    own = [p for p in points if p.stage == stage and (stage == "tune" or p.marks)]
    if not own:
        return None
    names = list(dict.fromkeys(name for p in own for name in p.values))
    own.sort(key=lambda p: p.values.get("bops", math.inf))
    rows = [
        (
            p.name,
            p.reference,
            *(_yes(p, mark) for mark in ("front", "chosen", "firmware")),
            *(p.values.get(n) for n in names),
            p.text,
        )
        for p in own
    ]
    title = {"tune": "Tuned models", "compress": "Compressed models on the front, and chosen ones"}[stage]
    note = {"tune": "BOPs of float models are at 32 bits."}.get(stage, "")
    columns = ("model", "baseline", "front", "chosen", "firmware", *names, "network")
    return _without_empty(Grid(stage, title, columns, tuple(rows), note))


def trainings(run: SavedRun) -> Grid | None:
    """Return the hyperparameters of the tuned models that are not the usual ones."""
    names = list(dict.fromkeys(name for model in run.tuned for name in model.training.identity))
    if not names:
        return None
    rows = [(model.name, *(_cell(getattr(model.training, name)) for name in names)) for model in run.tuned]
    return Grid("trainings", "Hyperparameters that were found", ("model", *names), tuple(rows))


def recorded_costs(run: SavedRun, chosen: Sequence[Trained]) -> Grid | None:
    """Return the recorded costs of the chosen models, side by side; estimates and counts are named."""
    result = run.compressed
    if result is None or not chosen:
        return None
    left_out = {run.task.metric, *run.task.metrics, "loss", "sparsity", "parameters"}
    own: dict[str, Mapping[str, float]] = {}
    for model in chosen:
        yosys = {"yosys_luts": run.yosys[model.name]} if model.name in run.yosys else {}
        made = next((one.adder_graph.costs for one in run.firmware if one.trained.name == model.name), {})
        own[model.name] = {**result.values(model), **made, **yosys, **_vendor(run, model.name)}
    names = [name for name in dict.fromkeys(name for costs in own.values() for name in costs) if name not in left_out]
    rows = [
        (
            *(model.name, model.bops, nonzero_parameters(model), model.sparsity),
            *(own[model.name].get(name) for name in names if name != "bops"),
        )
        for model in chosen
    ]
    columns = ("model", "BOPs", "non-zero parameters", "zeros", *(name for name in names if name != "bops"))
    note = (
        "adder_…: estimates from the adder graph; yosys_…: counted after Yosys' synthesis; HLS …: estimates of the vendor's "
        "high-level synthesis; synthesis …: counted after the vendor's logic synthesis."
    )
    return Grid("costs", "Costs of the chosen models", columns, tuple(rows), note)


def _vendor(run: SavedRun, name: str) -> dict[str, float]:
    report = run.vendor.get(name)
    found: dict[str, float] = {}
    if report is not None and report.hls is not None:
        found |= {f"HLS {resource}": float(used) for resource, used in report.hls.used.items()}
        if report.hls.latency[1] is not None:
            found["HLS latency, cycles"] = float(report.hls.latency[1])
    if report is not None and report.vivado is not None:
        found |= {f"synthesis {resource}": float(used) for resource, used in report.vivado.used.items()}
    return found


def layers(chosen: Sequence[Trained]) -> Grid | None:
    """Return the costs of the layers of the chosen models."""
    rows: list[tuple[Cell, ...]] = []
    for model in chosen:
        for c in model.layer_costs:
            shape = "x".join(map(str, c.output_shape))
            rows.append(
                (model.name, c.layer, shape, c.macs, c.weight_bits, c.activation_bits, c.sparsity, c.bops, float(c.memory))
            )
    columns = ("model", "layer", "output", "MACs", "weight bits", "input bits", "zeros", "BOPs", "memory, bits")
    return Grid("layers", "Costs by layer", columns, tuple(rows)) if rows else None


def luts(run: SavedRun, chosen: Sequence[Trained]) -> Grid | None:
    """Return look-up tables of the adder graphs by layer and cause."""
    found = luts_of(run, chosen)
    causes = [cause for cause in CAUSES if any(cause in spent for own in found.values() for spent in own.values())]
    rows = [
        (model, layer, sum(spent.values()), *(spent.get(cause) for cause in causes))
        for model, own in found.items()
        for layer, spent in own.items()
    ]
    note = "An estimate, as of `kerasnac costs`; docs/costs.md says what the causes are."
    columns = ("model", "layer", "LUTs", *causes)
    return Grid("luts", "LUTs of the adder graph by layer and cause", columns, tuple(rows), note) if rows else None


def firmware(run: SavedRun) -> Grid | None:
    """Return the firmware, and how it compares with Keras."""
    rows: list[tuple[Cell, ...]] = []
    for made in run.firmware:
        found, costs = made.comparison, made.adder_graph.costs
        exact = "not emulated" if found is None else "yes" if made.bit_exact else "NO"
        graph = f"{made.adder_graph.equal:,} of {made.adder_graph.outputs:,}" if made.adder_graph.outputs else "none"
        equal = "" if found is None else f"{found.outputs - found.mismatches:,} of {found.outputs:,}"
        formats = made.trained.architecture
        rows.append(
            (
                *(made.trained.name, exact, equal, graph, made.samples, made.max_abs_error, str(formats.input)),
                *(
                    str(made.options.part),
                    float(made.options.clock_period),
                    costs.get("adder_latency_ns"),
                    costs.get("adder_stages"),
                ),
                made.verdict,
            )
        )
    columns = (
        *("model", "bit-exact", "outputs equal", "adder graph equal", "samples", "largest difference", "input"),
        *("part", "clock [ns]", "latency, adder graph [ns]", "pipeline stages", "verdict"),
    )
    note = "The C++ emulation of the hls4ml project, and the adder graph, against QKeras, output by output."
    return _without_empty(Grid("firmware", "Bit-exactness and latency", columns, tuple(rows), note)) if rows else None


def scores(run: SavedRun) -> Grid | None:
    """Return the scores on the test split, with their intervals."""
    task, rows = run.task, list[tuple[Cell, ...]]()
    parents = {m.name: point_origin(m).parent for m in chosen_of(run)}
    for name, score in run.test.items():
        stage = "compressed" if name in parents else "tuned" if any(m.name == name for m in run.tuned) else ""
        further = [
            value
            for metric in task.metrics
            if (one := score.further.get(metric)) is not None
            for value in (one.value, one.low, one.high)
        ]
        rows.append((name, stage, parents.get(name, ""), score.value, score.low, score.high, *further))
    if not rows:
        return None
    metrics = [name for metric in task.metrics for name in (metric, f"{metric} low", f"{metric} high")]
    metrics = metrics if all(len(row) == 6 + len(metrics) for row in rows) else []
    unit = f" [{task.metric_unit}]" if task.metric_unit else ""
    columns = ("model", "stage", "compressed from", f"{task.metric}{unit}", "low", "high", *metrics)
    note = "low, high: 95 % interval by resampling the test samples (bootstrap)."
    shown = tuple(row[: len(columns)] for row in rows)
    return _without_empty(Grid("test", "Scores on the test split", columns, shown, note))


def failures(run: SavedRun) -> Grid | None:
    """Return all that failed or was refused, with the reason."""
    rows = tuple((one.stage, one.name, one.reason) for one in run.failures)
    search = run.search
    others = [e for e in search.evaluations if e.status in ("infeasible", "over_budget", "brief")] if search else []
    rows += tuple((f"search: {e.status.replace('_', ' ')}", e.key, e.reason) for e in others)
    return Grid("failures", "Failures and refusals", ("stage", "name", "reason"), rows) if rows else None


def curves(run: SavedRun) -> Grid | None:
    """Return what is quoted of the curves on the test split: areas and rejections of classes, or quantiles of distances."""
    rows: list[tuple[Cell, ...]] = []
    for model, found in run.curves.items():
        if isinstance(found, Distances):
            rows.append((model, found.mean, *found.quantiles.values()))
        else:
            rows += [(model, roc.signal, roc.auc, *roc.rejection.values()) for roc in found]
    if not rows:
        return None
    columns: tuple[str, ...]
    if any(isinstance(found, Distances) for found in run.curves.values()):
        columns = ("model", "mean", *(f"{level:.0%} of samples below" for level in QUANTILES))
        title, note = "Distances", ""
    else:
        columns = ("model", "class", "area", *(f"rejection at {efficiency:.0%}" for efficiency in EFFICIENCIES))
        title = "Areas under ROC curves, and background rejections"
        note = "Rejection: one over the part of all others that is taken for the class, where so much of the class is found."
    return Grid("curves", title, columns, tuple(row for row in rows if len(row) == len(columns)), note)


def classical(run: SavedRun) -> Grid | None:
    """Return the classical methods: metrics on validation and on the test split, time per sample."""
    task, rows = run.task, list[tuple[Cell, ...]]()
    for p in run.classical:
        test = run.test[p.name].value if p.name in run.test else None
        metrics = [p.metrics.get(name) for name in (task.metric, *task.metrics)]
        rows.append((p.name, p.method, *metrics, test, p.microseconds, p.samples, p.note))
    columns = ("method", "kind", task.metric, *task.metrics, "test", "µs per sample", "samples", "note")
    note = "µs: of the processor, with NumPy and SciPy on the machine of the run."
    return _without_empty(Grid("classical", "Classical methods", columns, tuple(rows), note)) if rows else None


def pairs(key: str, title: str, values: Mapping[str, object]) -> Grid:
    """Return names and values as a table without empty rows."""
    rows = tuple((name, _cell(value)) for name, value in values.items() if value not in ("", None))
    return Grid(key, title, ("", " "), rows)


def _without_empty(grid: Grid) -> Grid:
    """Return a table without the columns that have no value at all."""
    keep = [i for i in range(len(grid.columns)) if any(row[i] not in ("", None) for row in grid.rows)]
    rows = tuple(tuple(row[i] for i in keep) for row in grid.rows)
    return Grid(grid.key, grid.title, tuple(grid.columns[i] for i in keep), rows, grid.note)


def _cell(value: object) -> Cell:
    return value if isinstance(value, int | float) and not isinstance(value, bool) else None if value is None else str(value)


def all_there(grids: Iterable[Grid | None]) -> list[Grid]:
    """Return the tables that there are."""
    return [grid for grid in grids if grid is not None]
