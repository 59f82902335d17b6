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

SEARCH = """
import sys
from pathlib import Path

import numpy as np

from kerasnac.core.space.blocks import Mlp
from kerasnac.core.data.dataset import Task, make_dataset
from kerasnac.core.settings import HalvingSettings, SearchSettings
from kerasnac.core.space.search_space import SearchSpace
from kerasnac.core.network.training import Training
from kerasnac.stages.context import Context
from kerasnac.stages.search.candidate_training import Result
from kerasnac.stages.search.global_search import global_search
from kerasnac.adapters.workers import LocalWorkers


class Here:
    def try_map(self, task, items):
        import time

        for index, item in enumerate(items):
            time.sleep(0.005)
            accuracy = item.seed % 1000 / 1000
            yield index, Result({"accuracy": accuracy, "loss": 1 - accuracy}, 0.1)


if __name__ == "__main__":
    real, evaluations = sys.argv[2] == "real", int(sys.argv[3])
    y = np.arange(120) % 3
    x = np.eye(3)[y] + 0.3 * np.random.default_rng(0).normal(size=(120, 3))
    data = make_dataset(x, y, name="toy", task=Task("classification", 3), seed=0).development
    block = Mlp(widths=((2, 3, 4, 5), (2, 3, 4, 5)), depth=(1, 2), activation=("relu", "tanh"))
    space = SearchSpace(input=3, outputs=3, blocks=(block,))
    population = 2 if real else 4
    settings = SearchSettings(
        population=population, evaluations=evaluations, training=Training(epochs=1), budgets={"parameters": 50}
    )
    if sys.argv[2] == "halving":
        settings = settings.model_copy(update={"training": Training(epochs=3), "halving": HalvingSettings(epochs=1, keep=0.5)})
    workers = LocalWorkers(data, 1) if real else Here()
    global_search(space, settings, Context(data, workers, Path(sys.argv[1])))
    if real:
        workers.close()
"""


@pytest.fixture
def script(tmp_path: Path) -> Path:
    path = tmp_path / "search.py"
    path.write_text(SEARCH)
    return path


def start(script: Path, folder: Path, *arguments: object) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, str(script), str(folder), *map(str, arguments)], start_new_session=True, stderr=subprocess.PIPE
    )


def finish(process: subprocess.Popen[bytes]) -> None:
    _, errors = process.communicate()
    assert process.returncode == 0, errors.decode()


def kill(process: subprocess.Popen[bytes]) -> None:
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()


def size(folder: Path) -> int:
    journal = folder / "search.jsonl"
    return journal.stat().st_size if journal.exists() else 0


def evaluations(folder: Path) -> list[dict[str, Any]]:
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


def search_with_kills(script: Path, folder: Path, kills: int, *arguments: object) -> int:
    """Kills the search some time after each new record, resumes it, and lets it finish at last; returns the kills."""
    rng = np.random.default_rng(0)
    done = 0
    for _ in range(kills):
        before = size(folder)
        process = start(script, folder, *arguments)
        while size(folder) == before and process.poll() is None:
            time.sleep(0.001)
        time.sleep(rng.uniform(0, 0.03))
        done += process.poll() is None
        kill(process) if process.poll() is None else finish(process)
    finish(start(script, folder, *arguments))
    return done


def check_kills(script: Path, tmp_path: Path, kills: int, *arguments: object) -> None:
    finish(start(script, tmp_path / "whole", *arguments))
    done = search_with_kills(script, tmp_path / "killed", kills, *arguments)
    assert done >= 0.7 * kills
    assert evaluations(tmp_path / "killed") == evaluations(tmp_path / "whole")
    recorded = [(record["id"], record["fidelity.epochs"]) for record in evaluations(tmp_path / "killed")]
    assert len(set(recorded)) == len(recorded)
    assert generations(tmp_path / "killed") == generations(tmp_path / "whole")
    assert len(generations(tmp_path / "whole")) > 0


def test_a_search_that_is_killed_ends_the_same(script: Path, tmp_path: Path) -> None:
    check_kills(script, tmp_path, 4, "instant", 60)


def test_a_search_with_halving_that_is_killed_ends_the_same(script: Path, tmp_path: Path) -> None:
    check_kills(script, tmp_path, 4, "halving", 30)
    statuses = [record["status"] for record in evaluations(tmp_path / "killed")]
    assert statuses.count("ok") == 30
    assert statuses.count("brief") >= 30


def test_a_search_that_is_killed_while_it_trains_ends_the_same(script: Path, tmp_path: Path) -> None:
    check_kills(script, tmp_path, 1, "real", 2)


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "kills", "trained"), [("instant", 30, 150), ("halving", 30, 36), ("real", 12, 24)])
def test_a_search_that_is_killed_many_times_ends_the_same(
    script: Path, tmp_path: Path, kind: str, kills: int, trained: int
) -> None:
    check_kills(script, tmp_path, kills, kind, trained)


def test_a_search_that_is_killed_at_once_leaves_nothing_in_the_way(script: Path, tmp_path: Path) -> None:
    process = start(script, tmp_path / "run", "instant", 8)
    kill(process)
    finish(start(script, tmp_path / "run", "instant", 8))
    assert sum(record["status"] == "ok" for record in evaluations(tmp_path / "run")) == 8
