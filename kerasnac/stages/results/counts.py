"""How much of every stage of a run is done."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from kerasnac.core.settings.search import SearchSettings
from kerasnac.core.settings.tune import TuneSettings
from kerasnac.stages.results.states import Call

if TYPE_CHECKING:
    from kerasnac.stages.results.saved import SavedRun

#: Done, total and seconds of a stage.
Counts = tuple[int, int | None, float | None]


def _search_counts(run: SavedRun, call: Call) -> Counts:
    total = call.asked.get("evaluations", run.section("search").get("evaluations", SearchSettings().evaluations))
    result = run.search
    seconds = sum(generation.seconds for generation in result.generations) if result else None
    return len(result.trained) if result else 0, int(total), seconds


def _tune_counts(run: SavedRun, call: Call) -> Counts:
    records = [record for own in run.trials.values() for record in own]
    known = TuneSettings()
    each = sum(call.asked.get(name, run.section("tune").get(name, getattr(known, name))) for name in ("trials", "repeats"))
    models = len(call.asked.get("models", run.trials))
    seconds = sum(float(record.get("seconds", 0.0)) for record in records) if records and call.seconds is None else None
    return len(records), (each * models or None) if call.found is None else len(records), seconds


def _compress_counts(run: SavedRun, call: Call) -> Counts:
    count = sum("mixed" not in name for name in _names(run))
    return count, count if call.found is not None else None, None


def _mixed_counts(run: SavedRun, call: Call) -> Counts:
    count = sum("mixed" in name for name in _names(run))
    return count, count if call.found is not None else None, None


def _names(run: SavedRun) -> list[str]:
    return [model.name for model in run.compressed.models] if run.compressed else []


def _trees_counts(run: SavedRun, call: Call) -> Counts:
    count = len(run.trees.points) if run.trees else 0
    return count, count if call.found is not None else None, None


def _firmware_counts(run: SavedRun, call: Call) -> Counts:
    names = call.asked.get("models")
    return len(run.firmware), None if names is None else len(names), None


def _run_counts(run: SavedRun, call: Call) -> Counts:
    names = (call.found or {}).get("scores", call.asked.get("tested"))
    return len(run.test), None if names is None else len(names), None


#: How the counts of every stage are found.
COUNTS: Mapping[str, Callable[[SavedRun, Call], Counts]] = {
    "search": _search_counts,
    "tune": _tune_counts,
    "compress": _compress_counts,
    "mixed": _mixed_counts,
    "trees": _trees_counts,
    "firmware": _firmware_counts,
    "run": _run_counts,
}
