"""Worker processes on this machine, and what becomes of items whose process dies."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from kerasnac.adapters.workers import LocalWorkers, WorkerDied
from kerasnac.core.data.dataset import Dataset, Development
from kerasnac.core.network.architecture import Architecture
from kerasnac.core.network.layers import LayerSpec
from kerasnac.core.network.training import Training
from kerasnac.core.space.search_space import Candidate
from kerasnac.errors import ConfigError, EnvironmentProblem, RunError, TrialError
from kerasnac.stages.run import Run
from kerasnac.stages.search.candidate_training import Job, train_candidate


@pytest.fixture
def light(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Processes without TensorFlow, which takes seconds to start, and whose tasks need none."""
    (tmp_path / "tensorflow.py").write_text(STAND_IN)
    monkeypatch.syspath_prepend(tmp_path)


STAND_IN = """
import sys
from types import SimpleNamespace
from unittest.mock import MagicMock

sys.modules[__name__] = MagicMock(keras=SimpleNamespace(__name__="tf_keras", __internal__=None))
"""


def test_workers_go_on_after_a_task_that_raised(vector_classes: Dataset, workers: LocalWorkers) -> None:
    good = Job(Candidate(Architecture((6,), (LayerSpec.of("dense", units=3),))), Training(epochs=1), seed=0)
    bad = replace(good, candidate=Candidate(Architecture((5,), (LayerSpec.of("dense", units=3),))))
    with pytest.raises(TrialError, match="dense-3"):
        list(workers.map(train_candidate, [bad]))
    ((index, result),) = workers.map(train_candidate, [good])
    assert index == 0
    assert set(result.metrics) == {"accuracy", "loss"}


def test_workers_yield_every_item_with_its_index(workers: LocalWorkers) -> None:
    ticks: list[int] = []
    running: list[list[int]] = []
    tell = {"tick": lambda: ticks.append(1), "watch": lambda numbers: running.append([*numbers])}
    results = dict(workers.map(slow_double, [1, 2, 3, 4, 5], tick_seconds=0.05, **tell))
    assert results == {i: 2 * (i + 1) for i in range(5)}
    assert len(ticks) > 3
    assert running[-1] == []
    assert set().union(*running) == set(range(5))
    assert all(len(numbers) <= workers.processes for numbers in running)
    assert list(workers.map(slow_double, [])) == []


@pytest.mark.parametrize("processes", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_an_item_that_two_processes_die_with_is_told_and_the_others_give_results(
    processes: int, light: None, vector_classes: Dataset
) -> None:
    items = [1, 2, POISON, 4, POISON, 6]
    with LocalWorkers(vector_classes.development, processes) as pool:
        results = list(pool.try_map(double_unless_poison, items))
        assert Counter(index for index, _ in results) == dict.fromkeys(range(6), 1)
        for index, result in results:
            if items[index] == POISON:
                assert isinstance(result, WorkerDied)
                assert "worker process died" in result.reason
            else:
                assert result == 2 * items[index]
        assert dict(pool.try_map(double_unless_poison, [7])) == {0: 14}


@pytest.mark.parametrize("processes", [1, 2])
def test_an_item_whose_process_dies_once_gives_its_result(
    processes: int, light: None, vector_classes: Dataset, tmp_path: Path
) -> None:
    items = [tmp_path / name for name in "abc"]
    with LocalWorkers(vector_classes.development, processes) as pool:
        assert sorted(pool.try_map(die_once, items)) == [(0, "a"), (1, "b"), (2, "c")]
    # One death ends both processes: an item that did not die by itself has run twice as well.
    assert {len(item.read_text()) for item in items} <= {1, 2}
    assert len(items[0].read_text()) == 2


@pytest.mark.parametrize("processes", [pytest.param(1, marks=pytest.mark.slow), 2])
def test_items_are_supplied_as_places_get_free(processes: int, light: None, vector_classes: Dataset) -> None:
    """Some of them by other items, and one kills two processes."""
    items, asked = [1, 2, POISON, 4, 5, 6], list[int]()
    with LocalWorkers(vector_classes.development, processes) as pool:

        def supply(places: int) -> list[int]:
            asked.append(places)
            made = [items.pop(0) for _ in range(min(places, len(items)))]
            return [item if item == POISON else found for item in made for _, found in pool.try_map(same, [item])]

        results = dict(pool.try_supply(double_unless_poison, supply))
        assert isinstance(results.pop(2), WorkerDied)
        assert results == {0: 2, 1: 4, 3: 8, 4: 10, 5: 12}
        assert set(asked) <= set(range(1, processes + 1))
        assert list(pool.try_supply(double_unless_poison, lambda places: [])) == []


def test_no_item_is_asked_for_while_all_places_are_taken(light: None, vector_classes: Dataset, tmp_path: Path) -> None:
    """And again as soon as one is free, also where there was none to start before."""
    supplied: list[int] = []
    ended: list[int] = []

    def supply(places: int) -> list[int]:
        if len(supplied) == 2 and not ended:
            return []  # The third one needs a result.
        new = [len(supplied) + i for i in range(places)][: 5 - len(supplied)]
        supplied.extend(new)
        assert len(supplied) - len(ended) <= 3
        return new

    with LocalWorkers(vector_classes.development, 2) as pool:
        for number, result in pool.try_supply(same, supply):
            assert result == number
            ended.append(number)
    assert sorted(ended) == supplied == [0, 1, 2, 3, 4]


def test_what_the_supply_raises_comes_out(light: None, vector_classes: Dataset) -> None:
    def supply(places: int) -> list[int]:
        raise ZeroDivisionError("no supply")

    with LocalWorkers(vector_classes.development, 1) as pool:
        with pytest.raises(ZeroDivisionError, match="no supply"):
            list(pool.try_supply(same, supply))
        assert list(pool.map(same, [3])) == [(0, 3)]


def test_a_worker_that_dies_is_reported(light: None, vector_classes: Dataset) -> None:
    with LocalWorkers(vector_classes.development, 1) as pool:
        with pytest.raises(RunError, match=r"worker process died.*memory"):
            list(pool.map(double_unless_poison, [POISON]))
        assert list(pool.map(double_unless_poison, [1])) == [(0, 2)]


def test_what_a_task_raises_comes_out_as_it_is_and_workers_go_on(workers: LocalWorkers) -> None:
    for run in (workers.map, workers.try_map):
        with pytest.raises(ZeroDivisionError, match=r"^the item is 0$"):
            list(run(reciprocal, [0]))
        assert list(run(reciprocal, [4])) == [(0, 0.25)]


def test_results_that_came_before_a_task_raised_are_not_lost(light: None, vector_classes: Dataset) -> None:
    with LocalWorkers(vector_classes.development, 1) as pool:
        results = pool.try_map(reciprocal, [4, 2, 0, 1])
        assert [next(results), next(results)] == [(0, 0.25), (1, 0.5)]
        with pytest.raises(ZeroDivisionError):
            next(results)
        assert list(results) == []


POISON = -1


def slow_double(data: Development, item: int) -> int:
    assert len(data.train) == 210
    time.sleep(0.1)
    return 2 * item


def same(data: Development, item: int) -> int:
    return item


def double_unless_poison(data: Development, item: int) -> int:
    if item == POISON:
        os.kill(os.getpid(), signal.SIGKILL)
    return 2 * item


def die_once(data: Development, marker: Path) -> str:
    """Counts in the marker how often it was begun."""
    with marker.open("a") as file:
        file.write("x")
    if marker.name == "a" and marker.read_text() == "x":
        os.kill(os.getpid(), signal.SIGKILL)
    return marker.name


def reciprocal(data: Development, item: int) -> float:
    if item == 0:
        raise ZeroDivisionError("the item is 0")
    return 1 / item


def test_a_worker_without_tensorflow_says_so(vector_classes: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "tensorflow.py").write_text("raise ImportError('no such wheel')")
    monkeypatch.syspath_prepend(tmp_path)
    with (
        LocalWorkers(vector_classes.development, 1) as pool,
        pytest.raises(EnvironmentProblem, match=r"TensorFlow.*no such wheel"),
    ):
        list(pool.map(slow_double, [1]))


def test_workers_end_when_their_parent_is_killed(tmp_path: Path) -> None:
    """Otherwise every interrupted run would leave processes behind that hold its data."""
    script = tmp_path / "parent.py"
    script.write_text(PARENT)
    parent = subprocess.Popen([sys.executable, str(script)], stdout=subprocess.PIPE, text=True)
    assert parent.stdout
    worker = int(parent.stdout.readline())
    parent.kill()
    parent.wait()
    end = time.monotonic() + 20
    while is_running(worker) and time.monotonic() < end:
        time.sleep(0.1)
    assert not is_running(worker)


PARENT = """
import os
import numpy as np
from kerasnac.core.data.dataset import Task, make_dataset
from kerasnac.adapters.workers import LocalWorkers

def name_and_wait(data, item):
    import time
    time.sleep(item)
    return os.getpid()

if __name__ == "__main__":
    data = make_dataset(np.eye(40), np.arange(40) % 2, name="toy", task=Task("classification", 2), seed=0)
    workers = LocalWorkers(data.development, 1)
    for _, pid in workers.map(name_and_wait, [0, 1000]):
        print(pid, flush=True)
"""


def is_running(pid: int) -> bool:
    """Whether a process exists and is more than an exit code that nobody has collected."""
    try:
        return "\nState:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return False


@pytest.mark.parametrize("processes", [0, -1, True, 2.0, "2", 10**9])
def test_a_number_of_processes_that_makes_no_sense(processes: Any, vector_classes: Dataset, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=rf"^workers: '?{processes}"):
        LocalWorkers(vector_classes.development, processes)
    with pytest.raises(ConfigError, match=rf"^workers: '?{processes}"):
        Run(tmp_path / "run", vector_classes, workers=processes)
    assert not (tmp_path / "run").exists()
