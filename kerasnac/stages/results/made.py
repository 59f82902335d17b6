"""The models of a run folder: tuned, compressed, converted; and boosted trees."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from kerasnac.core.data.dataset import Task
from kerasnac.core.hardware.estimators import SOURCES
from kerasnac.core.network.origin import CompressionOrigin, LearnedOrigin, MixedOrigin, TuningOrigin
from kerasnac.core.network.trained import Trained
from kerasnac.core.settings import CompressSettings
from kerasnac.core.store.memo import Record
from kerasnac.core.store.places import folder_of
from kerasnac.core.trees.ensemble import Ensemble
from kerasnac.stages.compress.points import Point
from kerasnac.stages.compress.result import CompressResult
from kerasnac.stages.references.result import Luts, TreesPoint, TreesResult, rounds
from kerasnac.stages.results.layout import OWN
from kerasnac.stages.results.reading import Reading

if TYPE_CHECKING:
    from kerasnac.stages.firmware.result import Firmware

#: Journals with compressed points; those of mixed precision last.
POINTS = ("compress.jsonl", "mixed.jsonl")

#: What Yosys and Verilator say of boosted trees.
COUNTED = ("yosys_luts", "ffs", "carry", "muxes", "cycles", "samples")


def read_tuned(reading: Reading, asked: Mapping[str, Any], found: Mapping[str, Any] | None) -> tuple[Trained, ...]:
    """Return the tuned models, in the order of the tuning; one whose tuning has not ended is left out."""
    recorded = [str(record.get("model")) for record in reading.records("tune.jsonl") if record.get("kind") == "trial"]
    names, keys = found["models"] if found else asked.get("models") or recorded, asked.get("models", {})
    models = []
    for name in dict.fromkeys(names):
        folder = folder_of(reading.folder / "tuned", name, keys.get(name))
        model = reading.model(folder) if found or folder.is_dir() else None
        if model is not None and isinstance(model.origin, TuningOrigin):
            models.append(model)
    return tuple(models)


def read_compressed(
    reading: Reading,
    task: Task,
    parents: Sequence[Trained],
    asked: Mapping[str, Any],
    found: Mapping[str, Mapping[str, Any] | None],
    given: Mapping[str, Any],
) -> CompressResult | None:
    """Return the compressed models; None if there are none, and none were asked for.

    Args:
        reading: The folder.
        task: The task of the data.
        parents: Tuned models.
        asked: What the compression was asked for; empty in a folder of an earlier version.
        found: What ``compress`` and ``mixed`` have found; None for one that has not ended.
        given: Settings of the compression in the run file, as they stand there.
    """
    settings = reading.settings(CompressSettings, asked.get("settings") or given, "compress")
    known = {parent.name: parent for parent in parents}
    names = asked.get("parents", list(known))
    for name in names:
        if name not in known and (model := reading.model(reading.folder / OWN / Path(name).name)) is not None:
            known[name] = model
    asked_for = tuple(known[name] for name in names if name in known)
    if found["compress"] is not None:
        recorded = [point for points in found["compress"]["jobs"] for point in points]
        recorded += found["mixed"]["points"] if found["mixed"] is not None else []
        points = _points_of(reading, recorded)
    else:
        points = _points_of_journals(reading, settings, asked)
    points = [point for point in points if getattr(point.model.origin, "parent", None) in {one.name for one in asked_for}]
    if not points and found["compress"] is None:
        return None
    cost, tolerance = asked.get("cost", settings.cost), asked.get("tolerance", settings.tolerance)
    one_front = asked.get("one_front", settings.schedule in ("searched", "learned"))
    refused = dict(found["mixed"]["refused"]) if found["mixed"] else {}
    empty = CompressResult((), asked_for, task, cost, tolerance, one_front=one_front, mixed_refused=refused)
    return empty.with_points(points)


def _points_of(reading: Reading, recorded: Iterable[Mapping[str, Any]]) -> list[Point]:
    """Return the points that stages have ended with."""
    found = []
    for one in recorded:
        suffix = one.get("suffix", "")
        model = reading.model(reading.folder / "compressed" / Path(f"{one['model']}{suffix}").name)
        if model is not None and model.digest != one["digest"]:
            reading.note(f"compressed/{model.name} is of another call than the one that ended last: it is left out")
        elif model is not None:
            found.append(Point(model, one["costs"], one["note"], suffix))
    return found


def _points_of_journals(reading: Reading, settings: CompressSettings, asked: Mapping[str, Any]) -> list[Point]:
    """Return the points that are recorded and whose models are there, of a compression that has not ended."""
    last: dict[str, Record] = {}
    for name in POINTS:
        for record in reading.records(name):
            own = name != POINTS[0] or record.get("key") in asked.get("jobs", [record.get("key")])
            if "model" in record and "layer" not in record and own:
                last[str(record["model"])] = record
    points = []
    for name, record in last.items():
        folder = folder_of(reading.folder / "compressed", name, record.get("key"))
        model = reading.model(folder) if folder.is_dir() else None
        if model is None or not isinstance(model.origin, CompressionOrigin | MixedOrigin | LearnedOrigin):
            continue
        recorded = [record.get(metric, np.nan) for metric in model.metrics]
        if not np.array_equal(recorded, list(model.metrics.values()), equal_nan=True):
            continue  # A call with other settings has saved its own model there since.
        costs = {cost: record[cost] for cost in SOURCES["adder_graph"] if cost in record}
        if settings.clock is not None:
            costs = settings.clock.timed(costs)
        notes = (str(record[note]) for note in ("note", "reason") if record.get(note))
        points.append(Point(model, costs, "; ".join(notes), folder.name.removeprefix(name)))
    return points


def read_firmware(reading: Reading, found: Mapping[str, Any] | None) -> tuple[Firmware, ...]:
    """Return the firmware in a folder: that which the conversion has ended with, or all that there is."""
    from kerasnac.stages.firmware.folder import REPORT
    from kerasnac.stages.firmware.result import Firmware

    place = reading.folder / "firmware"
    names = found["made"] if found else sorted(path.parent.name for path in place.glob(f"*/{REPORT}"))
    loaded = (reading.tried(lambda name=name: Firmware.load(place / Path(name).name)) for name in names)  # type: ignore[misc]
    return tuple(one for one in loaded if one is not None)


def read_trees(reading: Reading, task: Task, asked: Mapping[str, Any]) -> TreesResult | None:
    """Return the boosted trees; None if there are none."""
    records = reading.records("trees.jsonl")
    counts = {record.get("model"): record for record in records if "yosys_luts" in record}
    points: dict[str, TreesPoint] = {}
    for record in records:
        name = str(record.get("model"))
        if "metrics" not in record or name not in asked.get("recipes", [name]):
            continue
        path = reading.folder / "trees" / f"{Path(name).name}.json"
        ensemble = reading.tried(lambda path=path: Ensemble.load(path))  # type: ignore[misc]
        if ensemble is None:
            continue
        if len(record["metrics"]) != len(ensemble.rounds):
            reading.note(f"{path} has another number of rounds than its record: it is left out")
            continue
        for point in rounds(name, ensemble, record["metrics"]):
            if point.ensemble.comparisons:
                own = counts.get(point.name, {})
                costs = {**point.costs, **{cost: own[cost] for cost in COUNTED if cost in own}}
                points[point.name] = TreesPoint(point.name, point.ensemble, point.metrics, costs)
    if not points:
        return None
    cost: Luts = asked.get("cost") or ("yosys_luts" if counts else "estimated_luts")
    return TreesResult(tuple(points.values()), task, cost, read_network_luts(reading))


def read_network_luts(reading: Reading) -> dict[str, float]:
    """Return the look-up tables that Yosys has counted of networks, by name."""
    records = reading.records("network_luts.jsonl")
    return {str(record.get("model")): float(record["yosys_luts"]) for record in records if "yosys_luts" in record}
