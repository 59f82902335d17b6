"""The global search of a run folder."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from kerasnac.core.data.dataset import Task
from kerasnac.core.hardware.boards import DEFAULT_BOARD, board
from kerasnac.core.hardware.timing import DEFAULT_PERIOD, Clock
from kerasnac.core.search.evaluation import Evaluation
from kerasnac.core.search.objectives import Objective, resolve
from kerasnac.core.store.memo import Record
from kerasnac.errors import ConfigError, KerasnacError
from kerasnac.stages.results.reading import Reading
from kerasnac.stages.search import records as search_records
from kerasnac.stages.search.result import Generation, SearchResult

#: Why a search that has not ended has the evaluations that it has.
UNFINISHED = "not finished"

#: What reading a record that its shape does not give away may raise.
_DAMAGE = (KerasnacError, LookupError, TypeError, AttributeError, ValueError)


def read_search(
    reading: Reading, task: Task, asked: Mapping[str, Any], found: Mapping[str, Any] | None, settings: Mapping[str, Any]
) -> SearchResult | None:
    """Return the global search; None if nothing has been evaluated.

    Args:
        reading: The folder.
        task: The task of the data.
        asked: What the search was asked for; empty in a folder of an earlier version.
        found: What it has found; None if it has not ended.
        settings: Those of the search in the run file, as they stand there, for folders of earlier versions.
    """
    records = reading.records("search.jsonl", search_records.SHAPE)
    if not records:
        return None
    chosen = _of_result(records, found) if found else _of_fidelities(records, asked)
    clock = _clock(asked or settings)
    evaluations = []
    for place, record in enumerate(chosen):
        try:
            evaluation = Evaluation.from_record(record)
        except _DAMAGE as error:
            reading.note(f"{reading.folder / 'search.jsonl'}: candidate {record['id']} is damaged: {error}")
            continue
        if clock is not None:
            points = tuple(replace(point, metrics=clock.timed(point.metrics)) for point in evaluation.points)
            evaluation = replace(evaluation, metrics=clock.timed(evaluation.metrics), points=points)
        name = f"{evaluation.key}-{evaluation.fidelity.key}"
        searched = name if (reading.folder / "searched" / name).is_dir() else ""
        evaluations.append(replace(evaluation, index=place, searched=searched))
    objectives, budgets = _objectives(reading, task, asked, settings)
    recorded = {o.metric for o in (*objectives, *budgets)}
    complete = [e for e in evaluations if e.status != "ok" or all(recorded <= p.metrics.keys() for p in e.expanded)]
    if len(complete) < len(evaluations):
        reading.note(f"{reading.folder / 'search.jsonl'}: {len(evaluations) - len(complete)} candidates lack an objective")
    return SearchResult(
        tuple(complete),
        objectives,
        budgets,
        task,
        dict(asked.get("references", {})),
        tuple(_generations(reading, asked.get("search"))),
        str(found["stopped"]) if found else UNFINISHED,
    )


def _of_result(records: Iterable[Record], found: Mapping[str, Any]) -> list[Record]:
    """Return the records of the evaluations that a search has ended with, in their order."""
    last = {(*search_records.recorded_trial(record), record["status"]): record for record in records}
    return [last[key, fidelity, status] for key, fidelity, status in found["evaluations"] if (key, fidelity, status) in last]


def _of_fidelities(records: Sequence[Record], asked: Mapping[str, Any]) -> list[Record]:
    """Return the last record of every candidate with the fidelities of a search, or with that of the last one."""
    wanted = asked.get("fidelities") or [records[-1]["fidelity.key"]]
    own = [record for record in records if record["fidelity.key"] in wanted]
    rank = {status: number for number, status in enumerate(("failed", "over_budget", "infeasible", "brief", "ok"))}
    best: dict[str, Record] = {}
    for record in own:
        before = best.get(search_records.recorded_trial(record)[0])
        if before is None or rank[record["status"]] >= rank[before["status"]]:
            best[search_records.recorded_trial(record)[0]] = record
    return sorted(best.values(), key=lambda record: record["index"])


def _clock(settings: Mapping[str, Any]) -> Clock | None:
    try:
        return Clock.of(float(settings.get("clock_period", DEFAULT_PERIOD)), board(settings.get("board", DEFAULT_BOARD)).part)
    except (ConfigError, TypeError, ValueError):
        return None


def _objectives(
    reading: Reading, task: Task, asked: Mapping[str, Any], settings: Mapping[str, Any]
) -> tuple[tuple[Objective, ...], tuple[Objective, ...]]:
    try:
        if asked:
            first, second = (tuple(Objective(**one) for one in asked[name]) for name in ("objectives", "budgets"))
            return first, second
        return resolve(settings.get("objectives", ["metric", "bops"]), settings.get("budgets", {}), task)
    except (ConfigError, TypeError, LookupError, AttributeError) as error:
        reading.note(f"the objectives of the search cannot be read ({error}): metric and BOPs are shown")
        return resolve(["metric", "bops"], {}, task)


def _generations(reading: Reading, key: object) -> list[Generation]:
    """Return the complete generations of a search; without a key those of the last one."""
    own = [record for record in reading.records("generations.jsonl", search_records.generation_shape) if "number" in record]
    key = key or (own[-1].get("search") if own else None)
    found: dict[int, Generation] = {}
    for record in own:
        if record.get("search") == key:
            found[record["number"]] = Generation.from_record(record)
    return [found[number] for number in sorted(found)]
