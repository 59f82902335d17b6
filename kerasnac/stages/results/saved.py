"""A run folder, opened to look at it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from kerasnac.core.data.bootstrap import Score
from kerasnac.core.data.curves import Curves, Details
from kerasnac.core.data.task import Task
from kerasnac.core.data.task_records import task_from_dict
from kerasnac.core.display import html_table
from kerasnac.core.network.trained import Trained
from kerasnac.core.settings.yaml_files import load_plain
from kerasnac.core.store import stages
from kerasnac.core.store.memo import Record
from kerasnac.errors import ConfigError, RunError
from kerasnac.stages.compress.learned import RAMP
from kerasnac.stages.compress.result import CompressResult
from kerasnac.stages.references import classical
from kerasnac.stages.references.classical import ClassicalPoint
from kerasnac.stages.references.result import TreesResult
from kerasnac.stages.results import scores
from kerasnac.stages.results.complete import is_unchanged
from kerasnac.stages.results.counts import COUNTS
from kerasnac.stages.results.layout import DESCRIPTION, SETTINGS
from kerasnac.stages.results.made import POINTS, read_compressed, read_firmware, read_network_luts, read_trees, read_tuned
from kerasnac.stages.results.outcome import Outcome
from kerasnac.stages.results.reading import Reading
from kerasnac.stages.results.searched import read_search
from kerasnac.stages.results.states import STAGES, Call, PastCall, StageState, is_locked
from kerasnac.stages.search.result import SearchResult

if TYPE_CHECKING:
    from kerasnac.adapters.hls4ml.vendor import VendorReport
    from kerasnac.stages.firmware.result import Firmware
    from kerasnac.stages.firmware.rtl import Rtl

Read = TypeVar("Read")

#: Where the kind of a task stands in descriptions of earlier versions.
_DESCRIBED = re.compile(r", (\S+) with (\d+) outputs?,")


@dataclass(frozen=True)
class Failure:
    """What has no result.

    Attributes:
        stage: Where it failed, a key of :data:`kerasnac.stages.results.states.STAGES`.
        name: Of the candidate or the model.
        reason: Why.
    """

    stage: str
    name: str
    reason: str


class SavedRun:
    """All that a run folder holds, read without a lock, without TensorFlow and without its data.

    Everything is read when it is first asked for, and then kept: open the folder again to see how a run goes on. It may be
    finished, running, interrupted or damaged: what is there is returned, what is not is None or empty, and :attr:`problems`
    names what cannot be read. Folders of earlier versions hold less, which is named, too.

    Args:
        folder: Run folder.

    Raises:
        RunError: If it is no run folder.
    """

    def __init__(self, folder: Path | str) -> None:
        self.folder = Path(folder)
        self._reading = Reading(self.folder)
        known = (DESCRIPTION, SETTINGS, "search.jsonl", stages.JOURNAL)
        if not any((self.folder / name).is_file() for name in known):
            what = "holds no run" if self.folder.is_dir() else "is no folder"
            raise RunError(f"{folder} {what}: none of {', '.join(known)} is there; give what `kerasnac run --out` was given")

    # What the run is.

    @cached_property
    def description(self) -> Mapping[str, Any]:
        """``run.json``: seed, fingerprint of the data, versions, task, samples."""
        if not (self.folder / DESCRIPTION).is_file():
            self._reading.note(f"{DESCRIPTION} is missing: data, seed and versions are not known")
        return self._reading.json_object(DESCRIPTION)

    @cached_property
    def settings(self) -> Mapping[str, Any]:
        """``run.yaml`` as it stands there, with what was set alone; empty for a run that was made in Python.

        :func:`kerasnac.load_run` reads all settings, and imports parts of others that the file names.
        """
        path = self.folder / SETTINGS
        if not path.exists():
            return {}
        try:
            return load_plain(path)
        except ConfigError as error:
            self._reading.note(str(error))
            return {}

    @property
    def name(self) -> str:
        """Name of the run file, or of the folder."""
        return str(self.settings.get("name", self.folder.resolve().name))

    @property
    def seed(self) -> int | None:
        """The seed."""
        return self.description.get("seed")

    @property
    def fingerprint(self) -> str:
        """Hash of the development data; empty if it is not known."""
        return str(self.description.get("data", ""))

    @property
    def dataset(self) -> str:
        """Sizes, shapes and grid of the samples in one line."""
        return str(self.description.get("dataset", "unknown data"))

    @property
    def samples(self) -> Mapping[str, Any]:
        """``name``, ``train``, ``validation``, ``test``: numbers of samples; ``shape``, ``input_grid``, ``saturated``.

        Empty in a folder of an earlier version, where :attr:`dataset` has it as a text.
        """
        found = self.description.get("samples")
        return found if isinstance(found, Mapping) else {}

    @property
    def versions(self) -> Mapping[str, str]:
        """Version of every package that the run was begun with."""
        found = self.description.get("versions")
        return found if isinstance(found, Mapping) else {}

    @cached_property
    def task(self) -> Task:
        """The task; it knows the names, senses and units of its metrics, but cannot measure them."""
        recorded = self.description.get("task")
        if isinstance(recorded, Mapping):
            found = self._reading.tried(lambda: task_from_dict(recorded))
            if found is not None:
                return found
        return self._guessed_task()

    def _guessed_task(self) -> Task:
        """Return the task of a folder of an earlier version, as far as its description and its settings tell."""
        own = self.section("dataset")
        described = _DESCRIBED.search(self.dataset)
        kind, outputs = (described[1], int(described[2])) if described else ("classification", 2)
        known = {name: own[name] for name in ("metric", "metrics") if name in own}
        self._reading.note(f"{DESCRIPTION} does not name the task and its metrics: `kerasnac resume {self.folder}` adds them")
        for options in (known, {}):  # Metrics of single classes cannot be read without the names of these.
            with suppress(ConfigError):
                return Task(kind, outputs, **options)
        return Task("classification", outputs)

    # How far it is.

    @cached_property
    def is_running(self) -> bool | None:
        """True if a process of this machine uses the folder now; None if nobody can tell."""
        return is_locked(self.folder)

    @cached_property
    def calls(self) -> Mapping[str, Call]:
        """The last call of every stage, from ``stages.jsonl``."""
        return {stage: Call.last(self._calls, stage) for stage in STAGES}

    @cached_property
    def history(self) -> tuple[PastCall, ...]:
        """All calls of stages with their settings, oldest first: a folder may have been run with several."""
        return PastCall.all(self._calls)

    @cached_property
    def _calls(self) -> list[Record]:
        records = self._reading.records(stages.JOURNAL)
        sound = [record for record in records if stages.is_sound(record)]
        if len(sound) < len(records):
            self._reading.note(f"{stages.JOURNAL}: {len(records) - len(sound)} records have changed, and are left out")
        return sound

    @cached_property
    def states(self) -> tuple[StageState, ...]:
        """How far every stage is; those that the run does not have are left out."""
        return tuple(state for stage in STAGES if (state := self._state(stage)) is not None)

    @property
    def is_complete(self) -> bool:
        """True if all stages have ended."""
        return self.calls["run"].found is not None or (self._by_earlier_version and (self.folder / "summary.txt").is_file())

    @property
    def _by_earlier_version(self) -> bool:
        return not any(call.asked for call in self.calls.values())

    def _state(self, stage: str) -> StageState | None:
        call = self.calls[stage]
        done, total, seconds = COUNTS[stage](self, call)
        optional = {"mixed": self.section("compress").get("mixed"), "trees": "boosted_trees" in self.section("references")}
        if not (call.asked or done or optional.get(stage, True)):
            return None
        ended = call.found is not None
        # That a run has begun is recorded at once; its own stage, the scoring, comes last.
        status = "done" if ended else "begun" if done or (call.asked and stage != "run") else "waiting"
        if self._by_earlier_version and self.is_complete:
            status = "done"
        seconds = call.seconds if call.seconds is not None and seconds is None else seconds
        note = self._ramps if stage == "compress" and status == "begun" else ""
        if self.calls["run"].found is None and 0 <= call.place < self.calls["run"].place:
            note = "with the settings before the last ones"
        return StageState(stage, status, done, total, seconds, call.began, call.ended, note)  # type: ignore[arg-type]

    @property
    def _ramps(self) -> str:
        """How far trainings of learned widths are."""
        found = []
        for path in sorted((self.folder / "compressed").glob("*/progress.json")):
            now = self._reading.json_object(str(path.relative_to(self.folder)))
            found += [] if now.get("ended") else [f"{path.parent.name.partition(RAMP)[0]}: cycle {now.get('cycles')}"]
        return ", ".join(found)

    # What it has found.

    @cached_property
    def search(self) -> SearchResult | None:
        """The global search, or its evaluations so far."""
        call = self.calls["search"]
        found = read_search(self._reading, self.task, call.asked, call.found, self.section("search"))
        return replace(found, stopped="complete") if found and self._by_earlier_version and self.is_complete else found

    @cached_property
    def tuned(self) -> tuple[Trained, ...]:
        """The tuned models; a model whose tuning goes on is not among them."""
        call = self.calls["tune"]
        return read_tuned(self._reading, call.asked, call.found)

    @cached_property
    def trials(self) -> Mapping[str, list[Record]]:
        """Trials and repeats of the tuning by model, as ``tune.jsonl`` has them: metrics, hyperparameters, seconds."""
        keys = self.calls["tune"].asked.get("models")
        found: dict[str, list[Record]] = {}
        for record in self._reading.records("tune.jsonl"):
            if keys is None or record.get("key") in keys.values():
                found.setdefault(str(record.get("model")), []).append(record)
        return found

    @cached_property
    def compressed(self) -> CompressResult | None:
        """The compressed models so far."""
        found = {stage: self.calls[stage].found for stage in ("compress", "mixed")}
        asked, given = self.calls["compress"].asked, self.section("compress")
        return read_compressed(self._reading, self.task, self.tuned, asked, found, given)

    @cached_property
    def points(self) -> Mapping[str, Record]:
        """Record of every compressed point by its name: metrics, costs, seconds of its training."""
        asked = set(self.calls["compress"].asked.get("jobs", ()))
        found: dict[str, Record] = {}
        for name in POINTS:
            for record in self._reading.records(name):
                if "model" in record and (name != POINTS[0] or not asked or record.get("key") in asked):
                    found[str(record["model"])] = record
        return found

    @cached_property
    def firmware(self) -> tuple[Firmware, ...]:
        """The firmware."""
        return read_firmware(self._reading, self.calls["firmware"].found)

    @cached_property
    def vendor(self) -> Mapping[str, VendorReport]:
        """Reports of the vendor's tools that ``kerasnac firmware import-report`` has read, by model."""
        from kerasnac.adapters.hls4ml.vendor import VendorReport

        files = {made.trained.name: made.folder / "vendor_report.json" for made in self.firmware}
        found = {
            name: self._reading.tried(lambda path=path: VendorReport.load(path))  # type: ignore[misc]
            for name, path in files.items()
            if path.is_file()
        }
        return {name: report for name, report in found.items() if report is not None}

    @cached_property
    def yosys(self) -> Mapping[str, float]:
        """Look-up tables that Yosys has counted of networks, by name."""
        return read_network_luts(self._reading)

    @cached_property
    def rtl(self) -> Mapping[str, Rtl]:
        """Verilog that ``kerasnac rtl MODEL --out FOLDER/rtl/MODEL`` wrote into the folder, by model."""
        from kerasnac.stages.firmware.rtl import REPORT, Rtl

        found = (self._reading.tried(lambda path=path: Rtl.load(path.parent)) for path in self.folder.glob(f"rtl/*/{REPORT}"))  # type: ignore[misc]
        return {one.name: one for one in found if one is not None}

    @cached_property
    def trees(self) -> TreesResult | None:
        """The boosted trees."""
        return read_trees(self._reading, self.task, self.calls["trees"].asked)

    @cached_property
    def test(self) -> Mapping[str, Score]:
        """Score on the test split of every model that was scored, with intervals, by name."""
        if not self._scores and (self.folder / "summary.txt").is_file():
            self._reading.note(f"scores on the test split are not recorded: `kerasnac resume {self.folder}` records them")
        return {record["model"]: scores.score_of(record) for record in self._sound_scores}

    @cached_property
    def curves(self) -> Mapping[str, Curves]:
        """ROC curves or distances on the test split of every model that was scored with them, by name.

        Of the boosted trees on the front, those of a few: :attr:`kerasnac.stages.references.result.TreesResult.chosen`.
        """
        return {name: made.curves for name, made in self._details.items() if made.curves is not None}

    @cached_property
    def confusion(self) -> Mapping[str, NDArray[np.int64]]:
        """Samples of the test split by true (rows) and predicted class, of every model that was scored with them, by name."""
        return {name: made.confusion for name, made in self._details.items() if made.confusion is not None}

    @cached_property
    def _details(self) -> Mapping[str, Details]:
        trees = self.trees
        left_out = {p.name for p in trees.points} - {p.name for p in trees.chosen} if trees is not None else set()
        return {r["model"]: scores.recorded_details(r) for r in self._sound_scores if r["model"] not in left_out}

    @cached_property
    def _sound_scores(self) -> list[Record]:
        """Those of the models that the run has ended with; all, of a run that has not ended."""
        last = self.calls["run"].found or {}
        wanted = set(last["scores"].values()) if "scores" in last else None
        return [r for r in self._scores if scores.is_sound(r) and (wanted is None or r["key"] in wanted)]

    @cached_property
    def _scores(self) -> list[Record]:
        return self._reading.records(scores.JOURNAL, scores.SHAPE)

    @cached_property
    def classical(self) -> tuple[ClassicalPoint, ...]:
        """The classical methods."""
        records = self._reading.records(classical.JOURNAL, classical.SHAPE)
        return tuple({record["model"]: classical.point_of(record) for record in records}.values())

    @cached_property
    def refused(self) -> Mapping[str, str]:
        """Models without firmware, with the reason."""
        compressed, firmware = self.compressed, self.calls["firmware"].found
        found = dict(compressed.excluded) if compressed is not None and self.calls["compress"].found else {}
        found |= firmware["refused"] if firmware else {}
        last = self.calls["run"].found
        return found | (last["refused"] if last else {})

    @cached_property
    def failures(self) -> tuple[Failure, ...]:
        """All that failed or was refused: candidates whose workers died, models that cannot be compressed or converted."""
        search, compressed = self.search, self.compressed
        evaluations = search.evaluations if search else ()
        failed = [Failure("search", e.key, e.reason) for e in evaluations if e.status == "failed"]
        failed += [Failure("mixed", name, reason) for name, reason in (compressed.mixed_refused if compressed else {}).items()]
        return (*failed, *(Failure("firmware", name, reason) for name, reason in self.refused.items()))

    @property
    def outcome(self) -> Outcome | None:
        """All results so far, as :func:`kerasnac.resume` returns them at the end; None before there is a candidate.

        Scores that are not recorded are missing from its ``test``.
        """
        search = self.search
        if search is None:
            return None
        compressed = self.compressed or CompressResult((), (), self.task)
        return Outcome(
            search,
            self.tuned,
            compressed,
            self.firmware,
            dict(self.test),
            dict(self.refused),
            self.trees,
            str(self.description.get("dataset", "")),
            self.classical,
            self.curves,
        )

    @property
    def problems(self) -> tuple[str, ...]:
        """All that cannot be read, or is not recorded, with the reason; everything is read for that."""
        _ = self.states, self.failures, self.firmware, self.vendor, self.rtl, self.trees, self.test, self.versions
        _ = self.classical, self.curves
        return self._reading.problems

    def section(self, name: str) -> Mapping[str, Any]:
        """Return a section of :attr:`settings`; an empty one if there is none."""
        found = self.settings.get(name)
        return found if isinstance(found, Mapping) else {}

    def _repr_html_(self) -> str:
        totals = ["" if one.total is None else one.total for one in self.states]
        own = zip(self.states, totals, strict=True)
        rows = [[one.stage, one.status, one.done, total, STAGES[one.stage]] for one, total in own]
        parts = [html_table(repr(self), ("stage", "state", "done", "of", ""), rows)]
        parts += [self.outcome._repr_html_()] if self.outcome is not None else []
        return "\n".join(parts)

    def __repr__(self) -> str:
        running = {True: "running", False: "complete" if self.is_complete else "not complete", None: "in use, perhaps"}
        return f"SavedRun({str(self.folder)!r}: {self.name}, {running[self.is_running]})"


def open_run(folder: Path | str) -> SavedRun:
    """Open a run folder to look at it, at any time; see :class:`SavedRun`.

    Raises:
        RunError: If it is no run folder.
    """
    return SavedRun(folder)


def read_finished(folder: Path) -> Outcome | None:
    """Return the results of a run that is finished, and that nobody has changed since or uses now; None of any other."""
    return open_run(folder).outcome if is_locked(folder) is False and is_unchanged(folder) else None
