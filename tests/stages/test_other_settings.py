"""Runs that go on with other settings: what is known is kept, and the results are those of a new folder."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from kerasnac.core.network.trained import Trained
from kerasnac.core.settings.yaml_files import load_run
from kerasnac.core.store import versions
from kerasnac.errors import ConfigError, RunError
from kerasnac.stages.results.complete import COMPLETE
from kerasnac.stages.results.saved import open_run
from kerasnac.stages.run import Outcome, resume, run_all, search_only, session
from tests.damage import FILE, Whole, contents
from tests.stages.test_resume import killed_before_record
from tests.stand_ins import Formula, without_trainings

#: Settings that are changed, what undoes it, and how many trainings a folder needs then at most in which the run of
#: :mod:`tests.damage` is finished. It has one model, with 3 trials and 2 repeats, then 4 points and 2 of mixed precision.
CHANGES: dict[str, tuple[dict[str, Any], dict[str, Any], int]] = {
    "another part": ({"firmware.part": "zcu102"}, {"firmware.part": "xcvu13p-flga2577-2-e"}, 0),
    "more widths": ({"compress.bits": [6, [5, 4], 8]}, {"compress.bits": [6, [5, 4]]}, 2 + 2),
    "more iterations, another rule": (
        {"compress.iterations": 2, "firmware.select": ["knee"]},
        {"compress.iterations": 1, "firmware.select": ["best"]},
        2 + 2,
    ),
    "more trials, other trainings": (
        {"tune.trials": 4, "compress.epochs": 3},
        {"tune.trials": 3, "compress.epochs": 2},
        1 + 2 + 4 + 2,
    ),
    "more trials": ({"tune.trials": 4}, {"tune.trials": 3}, 1 + 2 + 2),
    "more candidates": ({"search.evaluations": 10}, {"search.evaluations": 8}, 2 + 2 * (3 + 2 + 4 + 2)),
}


@pytest.fixture
def formula(monkeypatch: pytest.MonkeyPatch) -> Formula:
    """Trainings are formulas, and nothing is converted."""
    return without_trainings(monkeypatch)


def essence(outcome: Outcome | None) -> Any:
    """All that two runs with the same settings have in common."""
    assert outcome is not None
    evaluations = [(e.key, e.metrics, e.status, e.index) for e in outcome.search.evaluations]
    models = (*outcome.tuned, *outcome.compressed.models)
    weights = [{name: array.tolist() for name, array in model.weights.items()} for model in models]
    return evaluations, models, weights, outcome.compressed.costs, outcome.test, outcome.refused


def new(whole: Whole, folder: Path, changes: Mapping[str, Any]) -> Outcome:
    """The run in a new folder."""
    return run_all(load_run(whole.place / FILE, changes=changes), folder, progress=None)


@pytest.mark.parametrize("name", CHANGES)
def test_only_what_is_new_is_computed(name: str, formula: Formula, whole: Whole, folder: Path, tmp_path: Path) -> None:
    changes, back, most = CHANGES[name]
    fresh = new(whole, tmp_path / "new", changes)
    formula.calls.clear()
    before, first = contents(folder), open_run(folder).outcome
    changed = resume(folder, changes=changes, progress=None)
    assert essence(changed) == essence(fresh)
    assert len(formula.calls) <= most
    after = contents(folder)
    assert [file for file in before if file.endswith(("weights.npz", "model.json")) and after[file] != before[file]] == []
    assert all(after[file].startswith(before[file]) for file in before if file.endswith(".jsonl"))
    read = open_run(folder)
    assert read.problems == ()
    assert read.is_complete
    assert essence(read.outcome) == essence(fresh)

    formula.calls.clear()
    assert essence(resume(folder, changes=back, progress=None)) == essence(first)
    assert formula.calls == [], "all of it is known"
    assert essence(open_run(folder).outcome) == essence(first)


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        (
            {"space.outputs": 3},
            RunError,
            r"holds a run with another space: space\.outputs: 2 -> 3; a run folder belongs to",
        ),
        ({"seed": 3}, RunError, r"another seed: seed: 0 -> 3; .*kerasnac run FILE --set seed=\.\.\. --out ANOTHER_FOLDER"),
        ({"dataset.metric": "auc"}, RunError, r"another dataset: dataset\.metric"),
        ({"firmware.prt": "zcu102"}, ConfigError, r"^--set: firmware\.prt: unknown key; did you mean part\?$"),
        ({"search.training.epoch": 2}, ConfigError, r"^--set: search\.training\.epoch: unknown key; did you mean epochs\?$"),
        ({"compress.epochs": "x"}, ConfigError, r"^--set: compress\.epochs: Input should be a valid integer"),
        ({"compress.": 1}, ConfigError, r"^--set compress\.: no key"),
    ],
)
def test_what_cannot_be_changed(
    changes: dict[str, Any], error: type[Exception], message: str, formula: Formula, folder: Path
) -> None:
    before = contents(folder)
    with pytest.raises(error, match=message) as refused:
        resume(folder, changes=changes, progress=None)
    assert "\n" not in str(refused.value)
    assert contents(folder) == before
    assert formula.calls == []


def test_a_file_with_other_settings_goes_on_in_the_folder(formula: Formula, whole: Whole, folder: Path) -> None:
    said: list[str] = []
    settings = load_run(whole.place / FILE, changes={"search.evaluations": 9})
    search_only(settings, folder, progress=lambda step: said.extend(filter(None, [step.text])))
    assert len(formula.calls) == 1
    assert said[0].startswith("search.evaluations: 8 -> 9; from search on, what is new is computed (8 evaluations")
    run = open_run(folder)
    assert not run.is_complete
    notes = {state.stage: state.note for state in run.states}
    assert notes["compress"] == "with the settings before the last ones"
    assert notes["search"] == ""
    assert load_run(folder / "run.yaml") == settings


def test_stages_alone(formula: Formula, whole: Whole, folder: Path) -> None:
    changes = {"tune.trials": 4, "compress.bits": [6]}
    tuned = resume(folder, changes=changes, until="tune", progress=None)
    assert len(formula.calls) == 1 + 2
    assert (tuned.compressed.models, tuned.firmware) == ((), ())
    formula.calls.clear()
    compressed = resume(folder, until="compress", progress=None)
    assert compressed.tuned == tuned.tuned
    assert len(formula.calls) == 2, "of mixed precision: the points are those of the same weights, tuned with fewer trials"
    assert not open_run(folder).is_complete
    formula.calls.clear()
    resume(folder, progress=None)
    assert formula.calls == []
    assert open_run(folder).is_complete


def test_the_folder_remembers_all_settings(formula: Formula, folder: Path) -> None:
    for part in ("zcu102", "xcvu13p-flga2577-2-e"):
        resume(folder, changes={"firmware.part": part}, progress=None)
    calls = [call for call in open_run(folder).history if call.stage == "firmware"]
    assert [call.settings.get("part") for call in calls] == [None, "xczu9eg-ffvb1156-2-e", "xcvu13p-flga2577-2-e"]
    assert all(call.found is not None for call in calls)


@pytest.mark.parametrize(
    ("journal", "number"),
    [("stages.jsonl", 0), ("stages.jsonl", 4), ("tune.jsonl", 3), ("compress.jsonl", 2), ("mixed.jsonl", 1)],
)
def test_a_changed_run_that_is_killed_ends_the_same(
    journal: str, number: int, formula: Formula, whole: Whole, folder: Path, tmp_path: Path
) -> None:
    changes = {"tune.trials": 4, "compress.epochs": 3}
    fresh = new(whole, tmp_path / "new", changes)
    with killed_before_record(number, journal):
        resume(folder, changes=changes, progress=None)
    assert essence(resume(folder, progress=None)) == essence(fresh)
    assert essence(open_run(folder).outcome) == essence(fresh)


class TestRefusals:
    """What was refused is not tried again."""

    @pytest.fixture
    def tried(self, formula: Formula, monkeypatch: pytest.MonkeyPatch) -> list[str]:
        tried: list[str] = []

        def convert(data: Any, job: Any) -> str:
            tried.append(job.model.name)
            return "not in this test"

        monkeypatch.setattr(session, "convert_one", convert)
        return tried

    def test_it_is_recorded(self, tried: list[str], folder: Path) -> None:
        (folder / COMPLETE).unlink()
        assert set(resume(folder, progress=None).refused.values()) == {"there is no firmware in this test"}
        assert tried == []

    def test_other_settings(self, tried: list[str], folder: Path) -> None:
        for timeout in (10.0, 10.0, 20.0):
            resume(folder, changes={"firmware.timeout": timeout}, progress=None)
            (folder / COMPLETE).unlink()
        assert len(tried) == 2

    def test_other_versions(self, tried: list[str], folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(versions, "_version", lambda package: "another one")
        assert set(resume(folder, progress=None).refused.values()) == {"not in this test"}
        resume(folder, progress=None)
        assert len(tried) == 1


class TestFinished:
    """A finished run is read."""

    def test_nothing_is_loaded_or_written(self, folder: Path) -> None:
        code = (
            "import sys, time\n"
            "began = time.process_time()\n"
            "from kerasnac.stages.run import resume\n"
            f"assert resume({str(folder)!r}).search.front\n"
            "print(time.process_time() - began, *{name.split('.')[0] for name in sys.modules})"
        )
        before = {path: path.stat().st_mtime_ns for path in [folder, *folder.rglob("*")]}
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        seconds, *loaded = done.stdout.split()
        assert set(loaded).isdisjoint(("tensorflow", "keras", "tf_keras", "qkeras", "torch", "hls4ml", "keras_tuner"))
        assert float(seconds) < 5
        assert {path: path.stat().st_mtime_ns for path in [folder, *folder.rglob("*")]} == before

    def test_what_has_changed_is_computed_again(self, formula: Formula, folder: Path) -> None:
        first = open_run(folder).outcome
        weights = next(folder.glob("tuned/*/weights.npz"))
        weights.write_bytes(b"")
        assert essence(resume(folder, progress=None)) == essence(first)
        assert len(formula.calls) == 1
        Trained.load(weights.parent)

    @pytest.mark.parametrize("text", ["", "[]", "{}", '{"files": {}}', '{"files": {"run.json": 5}}', '{"files": 5}'])
    def test_a_list_that_is_damaged(self, text: str, formula: Formula, folder: Path) -> None:
        whole = (folder / COMPLETE).read_bytes()
        (folder / COMPLETE).write_text(text)
        first = open_run(folder).outcome
        assert essence(resume(folder, progress=None)) == essence(first)
        assert formula.calls == []
        assert len((folder / COMPLETE).read_bytes()) < len(whole), "the tables have not been written again"
