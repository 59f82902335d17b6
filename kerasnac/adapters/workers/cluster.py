"""The workers of a Dask cluster."""

from __future__ import annotations

from concurrent.futures import Future

from distributed import Client, KilledWorker, Worker, WorkerPlugin

from kerasnac.adapters.workers.base import Item, Result, Task, Workers, keep_data, run_item
from kerasnac.core.data.dataset import Development
from kerasnac.errors import EnvironmentProblem

#: Seconds to wait for an answer of the scheduler.
PATIENCE = 30


class ClusterWorkers(Workers):
    """The workers of a running Dask cluster; they may come and go.

    Every Dask worker must have one thread (``dask worker --nthreads 1``), because TensorFlow's random state belongs
    to a process, and kerasnac installed. The cluster stays up when this is closed.

    Args:
        data: The development data of all tasks; sent to every worker once, also to those that join later.
        scheduler: Address of the scheduler, ``tcp://host:8786``.

    Raises:
        EnvironmentProblem: If no scheduler answers, or its workers cannot load kerasnac.
    """

    death = KilledWorker

    def __init__(self, data: Development, scheduler: str) -> None:
        self._fingerprint = data.fingerprint
        try:
            self._client = Client(scheduler, timeout=PATIENCE, set_as_default=False)
        except (OSError, ValueError) as error:  # TimeoutError is an OSError; a malformed address is a ValueError
            raise EnvironmentProblem(f"no Dask scheduler answers at {scheduler}: {error}") from error
        try:
            self._client.register_plugin(_DataPlugin(data), name=self._plugin)
        except Exception as error:
            self._client.close()
            raise EnvironmentProblem(
                f"the workers of {scheduler} cannot load kerasnac; install the same version there: {error!r}"
            ) from error
        self._executor = self._client.get_executor(pure=False)

    @property
    def processes(self) -> int:
        # While the queue of the cluster keeps all workers waiting, one item waits with them.
        return max(1, len(self._client.scheduler_info(n_workers=-1)["workers"]))

    def close(self) -> None:
        """Remove the data from the workers, and leave the cluster."""
        if self._client.status == "running":
            self._client.unregister_worker_plugin(self._plugin)
        self._client.close()

    @property
    def _plugin(self) -> str:
        return f"kerasnac-{self._fingerprint}-{self._client.id}"

    def _submit(self, task: Task[Item, Result], item: Item) -> Future[Result]:
        future: Future[Result] = self._executor.submit(run_item, task, item, self._fingerprint)
        return future


class _DataPlugin(WorkerPlugin):
    """Dask worker plugin that holds the data. Unlike scattered data, a plugin outlives the death of workers."""

    def __init__(self, data: Development) -> None:
        self._data = data

    def setup(self, worker: Worker) -> None:
        """Keep the data in a worker, and refuse it if it has several threads; Dask calls this in every worker."""
        threads, problem = worker.state.nthreads, None
        if threads != 1:
            problem = EnvironmentProblem(
                f"the Dask worker {worker.address} has {threads} threads: start the workers with --nthreads 1"
            )
        keep_data(self._data, problem)
