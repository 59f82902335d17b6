"""Run folders that are opened to look at them: finished, half-finished, damaged, of earlier versions."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from kerasnac.core.data.task import Task
from kerasnac.core.data.task_records import task_from_dict, task_to_dict
from kerasnac.errors import RunError
from kerasnac.stages.results.saved import SavedRun, open_run
from kerasnac.stages.results.story import story
from kerasnac.stages.run import resume
from kerasnac.ui.tables import as_text, outcome
from tests.damage import FOLDER, Whole
from tests.stand_ins import without_trainings


def test_a_finished_run_is_read_as_it_was_returned(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*")}
    run = open_run(folder)
    assert run.problems == ()
    assert run.is_complete
    assert run.is_running is False
    read = run.outcome
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*")} == before, "reading writes nothing"
    without_trainings(monkeypatch)
    made = resume(folder)
    assert read is not None
    assert read.search.evaluations == made.search.evaluations
    assert read.search.front == made.search.front
    assert [replace(one, seconds=0) for one in read.search.generations] == [
        replace(one, seconds=0) for one in made.search.generations
    ]
    assert (read.search.objectives, read.search.references, read.search.stopped) == (
        made.search.objectives,
        made.search.references,
        made.search.stopped,
    )
    assert read.tuned == made.tuned
    assert read.compressed.models == made.compressed.models
    assert [one.name for one in read.compressed.front] == [one.name for one in made.compressed.front]
    assert read.compressed.costs == made.compressed.costs
    assert [one.verdict for one in read.firmware] == [one.verdict for one in made.firmware]
    assert (read.test, read.refused) == (made.test, made.refused)
    assert as_text(outcome(read)) == as_text(outcome(made))


def test_a_resumed_run_records_nothing_new(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    names = [path.name for path in folder.glob("*.jsonl")]
    before = {name: (folder / name).read_bytes() for name in names}
    assert {"stages.jsonl", "scores.jsonl", "search.jsonl"} <= set(names)
    without_trainings(monkeypatch)
    for place in ("tune.tune_one", "compress.compression.compress_one", "run.session.score_one"):
        monkeypatch.setattr(f"kerasnac.stages.{place}", None)  # No worker has anything to do.
    resume(folder)
    assert {name: (folder / name).read_bytes() for name in names} == before


@pytest.mark.parametrize(("references", "waits"), [({"boosted_trees": {}}, True), ({"matched_filter": {}}, False), ({}, False)])
def test_stages_that_are_asked_for_wait(references: dict[str, Any], waits: bool, folder: Path) -> None:
    (folder / "begun").mkdir()
    settings = yaml.safe_load((folder / "run.yaml").read_text()) | {"references": references}
    (folder / "begun" / "run.yaml").write_text(yaml.safe_dump(settings))
    assert ("trees" in [state.stage for state in open_run(folder / "begun").states]) is waits


def test_reading_loads_no_framework_and_takes_a_moment(folder: Path) -> None:
    code = (
        "import sys, time\n"
        "from kerasnac.stages.results.saved import open_run\n"
        "began = time.process_time()\n"
        f"run = open_run({str(folder)!r})\n"
        "assert not run.problems and run.outcome\n"
        "print(time.process_time() - began, *{name.split('.')[0] for name in sys.modules})"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    seconds, *loaded = done.stdout.split()
    assert set(loaded).isdisjoint(("tensorflow", "keras", "tf_keras", "qkeras", "torch", "hls4ml", "keras_tuner", "matplotlib"))
    assert float(seconds) < 5


def test_many_candidates_take_less_than_a_second(folder: Path) -> None:
    journal, stages = folder / "search.jsonl", folder / "stages.jsonl"
    lines = [json.loads(line) for line in journal.read_text().splitlines()]
    with journal.open("a") as file:
        for number in range(1000):
            file.write(json.dumps({**lines[number % len(lines)], "id": f"{number:012x}", "index": 100 + number}) + "\n")
    stages.unlink()
    began = time.process_time()
    search = open_run(folder).search
    assert search is not None
    assert len(search.evaluations) > 1000
    assert time.process_time() - began < 3, "0.3 s on a machine with nothing else to do"


@pytest.mark.parametrize("kept", ["run.json run.yaml", "run.json run.yaml search.jsonl", "search.jsonl tune.jsonl tuned"])
def test_a_run_that_has_not_got_far(kept: str, folder: Path) -> None:
    for path in folder.iterdir():
        if path.name not in kept.split():
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    run = open_run(folder)
    assert not run.is_complete
    assert bool(run.search) == ("search.jsonl" in kept)
    assert bool(run.tuned) == ("tuned" in kept)
    assert run.compressed is None
    assert ("run.json is missing" in str(run.problems)) == ("run.json" not in kept)


def test_a_folder_of_an_earlier_version(folder: Path) -> None:
    """It has neither the journal of the stages nor scores, and no task in its description."""
    complete = open_run(folder).outcome
    for name in ("stages.jsonl", "scores.jsonl"):
        (folder / name).unlink()
    description = json.loads((folder / "run.json").read_text())
    del description["task"], description["samples"]
    (folder / "run.json").write_text(json.dumps(description))
    run = open_run(folder)
    assert run.is_complete
    assert complete is not None
    assert run.search is not None
    assert [e.key for e in run.search.front] == [e.key for e in complete.search.front]
    assert {model.name for model in run.tuned} == {model.name for model in complete.tuned}
    assert run.compressed is not None
    assert {model.name for model in run.compressed.front} == {model.name for model in complete.compressed.front}
    assert len(run.firmware) == len(complete.firmware)
    assert "resume" in str(run.problems)
    assert "task" in str(run.problems)


class TestDamage:
    """What is there is shown, what is not is named."""

    def test_a_record(self, folder: Path) -> None:
        path = folder / "search.jsonl"
        lines = path.read_text().splitlines()
        path.write_text("\n".join(['{"id": 5}', *lines[1:]]) + '\n{"half')
        run = open_run(folder)
        assert run.search is not None
        assert len(run.search.evaluations) == len(lines) - 1
        (problem,) = run.problems
        assert f"{path}: 1 of {len(lines)} records are damaged: line 1" in problem

    def test_a_model(self, folder: Path) -> None:
        known = open_run(folder)
        (folder / "tuned" / known.tuned[0].name / "weights.npz").write_bytes(b"")
        run = open_run(folder)
        assert len(run.tuned) == len(known.tuned) - 1
        assert "weights.npz is damaged" in str(run.problems)

    def test_the_record_of_a_stage_that_has_changed(self, folder: Path) -> None:
        path = folder / "stages.jsonl"
        path.write_text(path.read_text().replace('"stopped":"all', '"stopped":"nearly all'))
        run = open_run(folder)
        assert "1 records have changed" in str(run.problems)
        assert run.search is not None
        assert "nearly" not in run.search.stopped

    def test_another_folder(self, tmp_path: Path) -> None:
        with pytest.raises(RunError, match="holds no run: none of "):
            open_run(tmp_path)
        with pytest.raises(RunError, match="is no folder"):
            open_run(tmp_path / "nothing")


class TestStory:
    @pytest.fixture
    def run(self, whole: Whole) -> SavedRun:
        return open_run(whole.place / FOLDER)

    def test_a_compressed_model(self, run: SavedRun) -> None:
        assert run.compressed is not None
        model = run.compressed.front[0]
        found = story(run, model.name)
        assert (found.kind, found.compressed) == ("compressed", model)
        assert found.tuned is not None
        assert found.tuned.name == model.origin.parent  # type: ignore[union-attr]
        assert found.evaluation is not None
        assert found.evaluation.key == found.tuned.origin.candidate  # type: ignore[union-attr]

    def test_the_beginning_of_a_name(self, run: SavedRun) -> None:
        name = run.tuned[0].name
        found = story(run, name[:8])
        assert (found.name, found.kind) == (name, "tuned")
        assert found.points

    def test_no_such_model(self, run: SavedRun) -> None:
        with pytest.raises(RunError, match="has no model 'nobody'; there are"):
            story(run, "nobody")


def test_a_task_is_read_without_the_functions_of_others() -> None:
    task = Task("regression", 2, scale=11.0, unit="px", names=("x", "y"), metrics=("quantile:0.68", "mse"))
    read = task_from_dict(json.loads(json.dumps(task_to_dict(task))))
    assert (read.metric, read.metrics, read.senses, read.metric_unit) == (
        task.metric,
        task.metrics,
        task.senses,
        task.metric_unit,
    )
    other = task_to_dict(task) | {"kind": "/nowhere/mine.py:kind", "loss": "/nowhere/mine.py:loss"}
    assert task_from_dict(other).kind == "/nowhere/mine.py:kind"
    with pytest.raises(RunError, match="metric distance"):
        read.measured[0].function(None, None)
    with pytest.raises(RunError, match="the task is damaged"):
        task_from_dict({"kind": "regression"})
