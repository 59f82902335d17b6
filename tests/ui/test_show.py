"""``kerasnac show``: a run folder in a terminal."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from kerasnac.core.store.locks import FolderLock
from kerasnac.stages.results.saved import open_run
from tests.commands import kerasnac


def test_a_finished_run(folder: Path) -> None:
    result = kerasnac("show", folder)
    assert result.exit_code == 0, result.output
    shown = " ".join(result.output.split())
    assert "damage: A run of all stages" in shown
    assert f"{folder}: complete" in result.output.replace("\n", "")
    for title in ("Stages", "Pareto front of the global search (8 candidates", "Tuned models", "Compressed models"):
        assert title in shown
    assert "has no firmware: there is no firmware in this test" in shown
    assert "not recorded" not in shown
    assert "not shown:" not in shown


def test_a_run_that_goes_on(folder: Path) -> None:
    lock = FolderLock(folder)
    try:
        assert "running, last record" in kerasnac("show", folder).output
    finally:
        lock.close()
    assert "running" not in kerasnac("show", folder).output


def test_a_run_that_was_interrupted(folder: Path) -> None:
    for name in ("compressed", "firmware"):
        shutil.rmtree(folder / name, ignore_errors=True)
    for name in ("compress.jsonl", "mixed.jsonl", "scores.jsonl"):
        (folder / name).unlink()
    path = folder / "stages.jsonl"
    lines = path.read_text().splitlines(keepends=True)
    path.write_text("".join(lines[: next(i for i, line in enumerate(lines) if '"compress"' in line) + 1]))
    output = kerasnac("show", folder).output
    assert "interrupted" in output
    assert f"kerasnac resume {folder}: goes on where it stopped" in output.replace("\n", "")
    assert "not recorded" in output


@pytest.mark.parametrize("kind", ["candidate", "tuned", "compressed"])
def test_one_model(kind: str, folder: Path) -> None:
    run = open_run(folder)
    assert run.search is not None
    assert run.compressed is not None
    others = [e.key for e in run.search.evaluations if e.key not in {model.name for model in run.tuned}]
    name = {"candidate": others[0], "tuned": run.tuned[0].name, "compressed": run.compressed.models[-1].name}[kind]
    result = kerasnac("show", folder, name)
    assert result.exit_code == 0, result.output
    assert f"{name}, {kind} of damage" in result.output
    assert ("Layers of" in result.output) == (kind != "candidate")
    assert ("Compressed from it" in result.output) == (kind == "tuned")
    assert ("ap_fixed<" in result.output) == (kind == "compressed")


def test_a_network_alone(folder: Path, tmp_path: Path) -> None:
    shown = kerasnac("show", "hls4ml_jets").stdout
    assert "4,389 parameters" in shown
    assert "run file jets_mlp" in shown
    model = open_run(folder).tuned[0]
    (tmp_path / "mine.json").write_text(json.dumps({"name": "mine", **model.architecture.to_dict()}))
    assert f"id {model.architecture.id}" in kerasnac("show", tmp_path / "mine.json").stdout
    assert f"Layers of {model.name}" in kerasnac("show", folder / "tuned" / model.name).stdout
    assert "leave x out" in kerasnac("show", "hls4ml_jets", "x").stderr
    (tmp_path / "mine.json").write_text("{}")
    assert "holds no architecture" in kerasnac("show", tmp_path / "mine.json").stderr


def test_bad_input(folder: Path) -> None:
    result = kerasnac("show", folder, "nobody")
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr.startswith(f"error: {folder} has no model 'nobody'; there are")
    assert "holds no run" in kerasnac("show", folder / "tuned").stderr
