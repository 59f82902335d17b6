"""A search that is killed again and again ends as one that never was."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.networks import toy_data
from tests.stages.killable import Slow, search
from tests.stand_ins import InProcess

ROOT = Path(__file__).parents[2]


def start(folder: Path, kind: str, evaluations: int) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "tests.stages.killable", str(folder), kind, str(evaluations)]
    return subprocess.Popen(command, cwd=ROOT, start_new_session=True, stderr=subprocess.PIPE)


def finish(process: subprocess.Popen[bytes]) -> None:
    _, errors = process.communicate()
    assert process.returncode == 0, errors.decode()


def kill(process: subprocess.Popen[bytes]) -> None:
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()


def size(folder: Path) -> int:
    journal = folder / "search.jsonl"
    return journal.stat().st_size if journal.exists() else 0


def trained(folder: Path) -> list[dict[str, Any]]:
    """The records without the times, in the order of the search."""
    records = [json.loads(line) for line in (folder / "search.jsonl").read_text().splitlines()]
    return sorted(
        ({key: value for key, value in record.items() if key != "seconds"} for record in records),
        key=lambda record: (record["index"], record["fidelity.epochs"]),
    )


def generations(folder: Path) -> list[dict[str, Any]]:
    """Where the search stood after every generation, without the times."""
    records = [json.loads(line) for line in (folder / "generations.jsonl").read_text().splitlines()]
    return [{key: value for key, value in record.items() if key != "seconds"} for record in records]


def search_with_kills(folder: Path, kills: int, kind: str, evaluations: int) -> int:
    """Kills the search some time after each new record, resumes it, and lets it finish at last; returns the kills."""
    rng = np.random.default_rng(0)
    done = 0
    for _ in range(kills):
        before = size(folder)
        process = start(folder, kind, evaluations)
        while size(folder) == before and process.poll() is None:
            time.sleep(0.001)
        time.sleep(rng.uniform(0, 0.03))
        done += process.poll() is None
        kill(process) if process.poll() is None else finish(process)
    finish(start(folder, kind, evaluations))
    return done


def check_kills(tmp_path: Path, kills: int, kind: str, evaluations: int) -> None:
    """What was killed ends like a search in this process."""
    search(tmp_path / "whole", kind, evaluations, InProcess(toy_data().development) if kind == "real" else Slow(0))
    done = search_with_kills(tmp_path / "killed", kills, kind, evaluations)
    assert done >= 0.7 * kills
    assert trained(tmp_path / "killed") == trained(tmp_path / "whole")
    recorded = [(record["id"], record["fidelity.epochs"]) for record in trained(tmp_path / "killed")]
    assert len(set(recorded)) == len(recorded)
    assert generations(tmp_path / "killed") == generations(tmp_path / "whole")
    assert len(generations(tmp_path / "whole")) > 0


def test_a_search_that_is_killed_ends_the_same(tmp_path: Path) -> None:
    check_kills(tmp_path, 4, "instant", 60)


@pytest.mark.slow
def test_a_search_with_halving_that_is_killed_ends_the_same(tmp_path: Path) -> None:
    check_kills(tmp_path, 4, "halving", 30)
    statuses = [record["status"] for record in trained(tmp_path / "killed")]
    assert statuses.count("ok") == 30
    assert statuses.count("brief") >= 30


@pytest.mark.slow
def test_a_search_in_steady_mode_that_is_killed_ends_the_same(tmp_path: Path) -> None:
    check_kills(tmp_path, 4, "steady", 60)


@pytest.mark.slow
@pytest.mark.usefixtures("keras")
def test_a_search_that_is_killed_while_it_trains_ends_the_same(tmp_path: Path) -> None:
    check_kills(tmp_path, 1, "real", 2)


@pytest.mark.slow
@pytest.mark.usefixtures("keras")
@pytest.mark.parametrize(
    ("kind", "kills", "evaluations"), [("instant", 30, 150), ("halving", 30, 36), ("steady", 30, 150), ("real", 12, 24)]
)
def test_a_search_that_is_killed_many_times_ends_the_same(tmp_path: Path, kind: str, kills: int, evaluations: int) -> None:
    check_kills(tmp_path, kills, kind, evaluations)


def test_a_search_that_is_killed_at_once_leaves_nothing_in_the_way(tmp_path: Path) -> None:
    process = start(tmp_path / "run", "instant", 8)
    kill(process)
    finish(start(tmp_path / "run", "instant", 8))
    assert sum(record["status"] == "ok" for record in trained(tmp_path / "run")) == 8
