"""The workers of a Dask cluster, which may die, and searches on it."""

from __future__ import annotations

import importlib
import os
import signal
import sys
import threading
from collections.abc import Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import cloudpickle
import pytest

from kerasnac.adapters.workers import LocalWorkers, WorkerDied, Workers, base, connect
from kerasnac.core.data.dataset import Dataset, Development
from kerasnac.core.network.training import Training
from kerasnac.core.search.evaluation import Evaluation
from kerasnac.core.settings import SearchSettings
from kerasnac.core.space.search_space import SearchSpace
from kerasnac.core.store.progress import Step
from kerasnac.core.store.versions import versions
from kerasnac.errors import EnvironmentProblem, RunError
from kerasnac.stages.context import Context
from kerasnac.stages.search.global_search import global_search

#: A module that passes for TensorFlow until it is used.
STAND_IN = """
import sys
from types import SimpleNamespace
from unittest.mock import MagicMock

sys.modules[__name__] = MagicMock(keras=SimpleNamespace(__name__="tf_keras", __internal__=None))
"""

TINY = SearchSettings(population=2, evaluations=3, training=Training(epochs=1, batch_size=64))


@pytest.fixture(scope="module")
def distributed() -> Iterator[Any]:
    """Dask; its workers cannot import a test module by name, so that its functions travel whole."""
    package = pytest.importorskip("distributed")
    cloudpickle.register_pickle_by_value(sys.modules[__name__])
    yield package
    cloudpickle.unregister_pickle_by_value(sys.modules[__name__])


@pytest.fixture(scope="module")
def cluster(distributed: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """Two processes without TensorFlow, which takes seconds to start, and whose tasks need none."""
    folder = tmp_path_factory.mktemp("stand-in")
    (folder / "tensorflow.py").write_text(STAND_IN)

    class WithoutTensorFlow(distributed.WorkerPlugin):  # type: ignore[misc, name-defined]
        def setup(self, worker: Any) -> None:
            sys.path.insert(0, str(folder))

    with distributed.LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=":0") as running:
        with distributed.Client(running.scheduler_address, set_as_default=False) as client:
            client.register_plugin(WithoutTensorFlow(), name="stand-in")
        yield running


@pytest.fixture(scope="module")
def dask(cluster: Any, vector_classes: Dataset) -> Iterator[Workers]:
    with connect(vector_classes.development, cluster.scheduler_address) as workers:
        yield workers


def processes(cluster: Any) -> list[int]:
    return [nanny.pid for nanny in cluster.workers.values()]


def add_samples(data: Development, item: int) -> int:
    if item < 0:
        raise ZeroDivisionError(f"the item is {item}")
    return len(data.train) + item


def die_once(data: Development, marker: Path) -> str:
    with marker.open("a") as file:
        file.write("x")
    if marker.read_text() == "x":
        os.kill(os.getpid(), signal.SIGKILL)
    return marker.name


def die_for_odd(data: Development, item: int) -> int:
    if item % 2:
        os.kill(os.getpid(), signal.SIGKILL)
    return 10 * item


def cluster_workers() -> Any:
    pytest.importorskip("distributed")
    return importlib.import_module("kerasnac.adapters.workers.cluster")


def holds(fingerprint: str) -> bool:
    return fingerprint in base._data


def test_results_come_back_with_their_index(dask: Workers) -> None:
    assert sorted(dask.map(add_samples, [1, 2, 3])) == [(0, 211), (1, 212), (2, 213)]
    assert list(dask.map(add_samples, [])) == []
    assert dask.processes == 2


def test_what_a_task_raises_comes_out_as_it_is_and_workers_go_on(dask: Workers) -> None:
    with pytest.raises(ZeroDivisionError, match=r"^the item is -1$"):
        list(dask.map(add_samples, [-1]))
    assert list(dask.map(add_samples, [5])) == [(0, 215)]


def test_a_worker_that_dies_while_it_gets_the_data_does_not_end_the_run(
    cluster: Any, vector_classes: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    module, failures = cluster_workers(), iter([True, True, False])
    send = module.ClusterWorkers._send

    def sometimes(workers: Any, plugin: Any) -> Any:
        if next(failures):
            raise module.CommClosedError("Address removed.")
        return send(workers, plugin)

    monkeypatch.setattr(module.ClusterWorkers, "_send", sometimes)
    with connect(vector_classes.development, cluster.scheduler_address) as workers:
        assert list(workers.map(add_samples, [1])) == [(0, 211)]


@pytest.mark.slow
def test_a_search_is_the_same_on_processes_and_on_a_cluster_whose_worker_is_killed(
    distributed: Any, workers: LocalWorkers, mlp_space: SearchSpace, vector_classes: Dataset, tmp_path: Path
) -> None:
    killed = list[int]()

    def search(pool: Workers, **options: Any) -> list[Evaluation]:
        folder = tmp_path / str(len(list(tmp_path.iterdir())))
        result = global_search(mlp_space, TINY, Context(vector_classes.development, pool, folder, **options))
        return [replace(e, seconds=0.0) for e in result.evaluations]

    with (
        distributed.LocalCluster(n_workers=1, threads_per_worker=1, dashboard_address=":0") as cluster,
        connect(vector_classes.development, cluster.scheduler_address) as dask,
    ):

        def kill_once(step: Step) -> None:
            if not killed:
                killed.extend(processes(cluster))
                os.kill(killed[0], signal.SIGKILL)

        on_cluster = search(dask, progress=kill_once)
        assert killed
        assert killed[0] not in processes(cluster)
    assert search(workers) == on_cluster
    assert [e.status for e in on_cluster] == ["ok"] * 3


def test_an_item_whose_worker_dies_once_gives_its_result(dask: Workers, tmp_path: Path) -> None:
    marker = tmp_path / "item"
    assert list(dask.map(die_once, [marker])) == [(0, "item")]
    assert marker.read_text() == "xx"


def test_an_item_that_workers_die_with_is_told_and_the_others_give_results(
    dask: Workers, cluster: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cluster.scheduler, "allowed_failures", 0)  # Dask itself would try it on three more workers.
    results = dict(dask.try_map(die_for_odd, [2, 3, 4]))
    assert (results[0], results[2]) == (20, 40)
    assert isinstance(results[1], WorkerDied)
    assert "worker process died" in results[1].reason
    assert dict(dask.try_map(die_for_odd, [6])) == {0: 60}


def test_workers_that_join_later_get_the_data(dask: Workers, distributed: Any, cluster: Any, vector_classes: Dataset) -> None:
    with distributed.Client(cluster.scheduler_address, set_as_default=False) as client:
        cluster.scale(3)
        client.wait_for_workers(3, timeout=60)
        assert list(client.run(holds, vector_classes.development.fingerprint).values()) == [True] * 3
        assert dask.processes == 3


def test_two_connections_with_the_same_data_do_not_disturb_each_other(
    distributed: Any, cluster: Any, vector_values: Dataset
) -> None:
    data, address = vector_values.development, cluster.scheduler_address
    with connect(data, address), distributed.Client(address, set_as_default=False) as client:
        connect(data, address).close()
        cluster.scale(4)
        client.wait_for_workers(4, timeout=60)  # Workers that join later get the data, too.
        assert list(client.run(holds, data.fingerprint).values()) == [True] * 4


def test_workers_with_several_threads_are_refused(distributed: Any, vector_classes: Dataset) -> None:
    with (
        distributed.LocalCluster(n_workers=1, threads_per_worker=2, dashboard_address=":0") as wide,
        pytest.raises(EnvironmentProblem, match=r"2 threads.*--nthreads 1"),
    ):
        connect(vector_classes.development, wide.scheduler_address)


def test_workers_that_lack_something_are_refused_at_once_and_when_they_join_later(
    cluster: Any, vector_classes: Dataset, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    data, address = vector_classes.development, cluster.scheduler_address
    connect(data, address, tmp_path).close()
    with monkeypatch.context() as patch:
        patch.setattr("kerasnac.adapters.workers.cluster.versions", lambda: versions() | {"qkeras": "0.1"})
        with pytest.raises(EnvironmentProblem, match=r"^the Dask worker tcp:.* has qkeras .*, not 0\.1: install"):
            connect(data, address, tmp_path)
        patch.setattr(cluster_workers(), "kept_problem", lambda: None)  # As if they had not been there.
        with (
            connect(data, address, tmp_path) as pool,
            pytest.raises(EnvironmentProblem, match=r"^the Dask worker tcp:.* has qkeras"),
        ):
            list(pool.map(add_samples, [1]))
    with connect(data, address, tmp_path) as pool:
        assert list(pool.map(add_samples, [1])) == [(0, 211)]


def test_a_folder_that_is_another_one_under_the_same_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    module = cluster_workers()
    monkeypatch.setattr(module, "SHARING", 0.3)
    demands = module.Demands.of(tmp_path)
    assert demands.problem() == ""
    for spoil in ((tmp_path / module.TOKEN).unlink, lambda: module.Demands.of(tmp_path)):
        spoil()
        assert demands.problem().startswith(f"does not see the run folder {tmp_path}")
    assert module.Demands.of(None).problem() == ""


def test_without_workers_it_waits_and_then_says_so(
    distributed: Any, vector_classes: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cluster_workers(), "WORKERLESS", 0.3)
    with (
        distributed.LocalCluster(n_workers=0, dashboard_address=":0") as running,
        connect(vector_classes.development, running.scheduler_address) as pool,
        pytest.raises(RunError, match=r"no worker is connected to the Dask scheduler at tcp:.*dask worker tcp:"),
    ):
        list(pool.map(add_samples, [1], tick_seconds=0.1))


def test_a_server_of_another_kind_is_no_scheduler(vector_classes: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cluster_workers(), "PATIENCE", 1.0)
    with ThreadingHTTPServer(("127.0.0.1", 0), BaseHTTPRequestHandler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        with pytest.raises(EnvironmentProblem, match="no Dask scheduler"):
            connect(vector_classes.development, f"tcp://127.0.0.1:{server.server_port}")
        server.shutdown()


def test_a_cluster_that_goes_away_is_reported(distributed: Any, vector_classes: Dataset) -> None:
    """Without workers nothing runs; without a scheduler nothing can."""
    running = distributed.LocalCluster(n_workers=0, dashboard_address=":0")
    pool = connect(vector_classes.development, running.scheduler_address)
    results = pool.try_map(add_samples, [1], tick=running.close, tick_seconds=0.1)
    with pytest.raises(RunError, match="workers are gone"):
        next(results)
    pool.close()


@pytest.mark.parametrize("address", ["tcp://127.0.0.1:1", "nowhere"])
def test_an_address_where_nobody_answers_is_named(
    address: str, distributed: Any, vector_classes: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("kerasnac.adapters.workers.cluster.PATIENCE", 0.5)
    with pytest.raises(EnvironmentProblem, match=f"scheduler.*{address}"):
        connect(vector_classes.development, address)


def test_without_dask_it_says_what_to_install(vector_classes: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "distributed", None)
    monkeypatch.delitem(sys.modules, "kerasnac.adapters.workers.cluster", raising=False)
    with pytest.raises(EnvironmentProblem, match=r"Dask.*pip install 'kerasnac\[dask\]'"):
        connect(vector_classes.development, "tcp://127.0.0.1:8786")
