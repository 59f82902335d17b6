"""The workers of a Dask cluster."""

from __future__ import annotations

import asyncio
import logging
import os
import sys
import time
import uuid
import warnings
from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from distributed import Client, KilledWorker, Worker, WorkerPlugin
from distributed.comm.core import CommClosedError, connect
from distributed.versions import VersionMismatchWarning

from kerasnac.adapters.workers.base import Item, Result, Task, Workers, keep_data, kept_problem, run_item
from kerasnac.core.data.dataset import Development
from kerasnac.core.store.files import write_text
from kerasnac.core.store.versions import versions
from kerasnac.errors import EnvironmentProblem, KerasnacError, RunError

log = logging.getLogger("kerasnac")

#: Seconds to wait for an answer of the scheduler.
PATIENCE = 5.0

#: Seconds to wait for a worker where there is none: one that has died may be started again.
WORKERLESS = 30.0

#: How often the data are sent to workers of which some die while they get them.
ATTEMPTS = 5

#: Seconds after which the machines that share a folder see a new file.
SHARING = 5.0

#: File of the run folder by which a worker finds out that it sees the same folder.
TOKEN = ".workers"


class ClusterWorkers(Workers):
    """The workers of a running Dask cluster; they may come and go.

    Every Dask worker must have one thread (``dask worker --nthreads 1``), because TensorFlow's random state belongs
    to a process, the same versions as this process, and the run folder under the same path. The cluster stays up when this
    is closed.

    Args:
        data: The development data of all tasks; sent to every worker once, also to those that join later.
        scheduler: Address of the scheduler, ``tcp://host:8786``.
        folder: Run folder that the tasks write to; None if they write nothing.

    Raises:
        EnvironmentProblem: If no scheduler answers, or its workers cannot work for this process.
    """

    death = KilledWorker

    def __init__(self, data: Development, scheduler: str, folder: Path | None = None) -> None:
        self._fingerprint, self._address, self._folder = data.fingerprint, scheduler, folder
        self._workerless_since: float | None = None
        _require_scheduler(scheduler)
        # What it has to say about lost connections and versions is said here, in a line.
        logging.getLogger("distributed.client").setLevel(logging.CRITICAL)
        warnings.filterwarnings("ignore", category=VersionMismatchWarning)
        try:
            self._client = Client(scheduler, timeout=PATIENCE, set_as_default=False)
        except (OSError, ValueError) as error:
            raise EnvironmentProblem(f"no Dask scheduler answers at {scheduler}: {error}") from error
        try:
            self._register(data)
        except BaseException:
            self.close()
            raise
        self._executor = self._client.get_executor(pure=False)

    @property
    def processes(self) -> int:
        # While the queue of the cluster keeps all workers waiting, one item waits with them.
        return max(1, self._count())

    def close(self) -> None:
        """Remove the data from the workers, and leave the cluster."""
        # The scheduler has gone, or does so now, and with it all that would be removed; or workers have never got the data.
        with suppress(OSError, KeyError):
            if self._client.status == "running":
                self._client.unregister_worker_plugin(self._plugin)
        with suppress(OSError):
            self._client.close(timeout=PATIENCE)
        if self._folder is not None:
            (self._folder / TOKEN).unlink(missing_ok=True)

    def _register(self, data: Development) -> None:
        """Send the data to the workers, and find out whether they can work.

        Raises:
            EnvironmentProblem: If one cannot, whatever the reason.
        """
        demands = Demands.of(self._folder)
        try:
            problems = self._send_again(_DataPlugin(data, demands))
        except Exception as error:  # Any that loading kerasnac raises in a worker.
            raise EnvironmentProblem(
                f"the workers of {self._address} cannot load kerasnac; install the same version there: {_line(error)}"
            ) from error
        for problem in filter(None, problems.values()):
            raise problem

    def _send_again(self, plugin: WorkerPlugin) -> dict[str, KerasnacError | None]:
        """Send a plugin to the workers as :meth:`_send` does, again if one dies meanwhile."""
        for _ in range(ATTEMPTS - 1):
            with suppress(CommClosedError):
                return self._send(plugin)
            time.sleep(1)
        return self._send(plugin)

    def _send(self, plugin: WorkerPlugin) -> dict[str, KerasnacError | None]:
        """Send a plugin to the workers; return the reasons why they cannot work."""
        self._client.register_plugin(plugin, name=self._plugin)
        problems: dict[str, KerasnacError | None] = self._client.run(kept_problem)
        return problems

    @property
    def _plugin(self) -> str:
        return f"kerasnac-{self._fingerprint}-{self._client.id}"

    def _count(self) -> int:
        return len(self._client.scheduler_info(n_workers=-1)["workers"])

    def _submit(self, task: Task[Item, Result], item: Item) -> Future[Result]:
        future: Future[Result] = self._executor.submit(run_item, task, item, self._fingerprint)
        return future

    def _check(self) -> None:
        if self._count():
            self._workerless_since = None
        elif self._workerless_since is None:
            self._workerless_since = time.monotonic()
            log.warning("no worker is connected to %s: waiting %.0f s for one", self._address, WORKERLESS)
        elif time.monotonic() - self._workerless_since > WORKERLESS:
            raise RunError(
                f"no worker is connected to the Dask scheduler at {self._address}: start some with `dask worker "
                f"{self._address} --nthreads 1`, then resume; all that is computed is kept"
            )


@dataclass(frozen=True)
class Demands:
    """All that a worker must have in common with the process that asks for its work.

    Attributes:
        versions: Versions that decide results, by name.
        folder: Run folder.
        token: Content of :data:`TOKEN` in it.
    """

    versions: Mapping[str, str]
    folder: Path | None
    token: str

    @classmethod
    def of(cls, folder: Path | None) -> Demands:
        """Return the demands of this process, and write the token."""
        token = uuid.uuid4().hex
        if folder is not None:
            write_text(folder / TOKEN, token)
        return cls(_versions(), folder, token)

    def problem(self) -> str:
        """Return what this process lacks; empty if nothing."""
        for name, version in _versions().items():
            if version != self.versions.get(name):
                wanted = self.versions.get(name, "none")
                return f"has {name} {version}, not {wanted}: install the versions of constraints.txt on all machines"
        if self.folder is not None and not self._sees_folder():
            return f"does not see the run folder {self.folder}, or may not write there: share it under the same path"
        return ""

    def _sees_folder(self) -> bool:
        assert self.folder is not None
        until = time.monotonic() + SHARING
        while time.monotonic() < until:
            with suppress(OSError):
                if (self.folder / TOKEN).read_text(encoding="utf-8") == self.token:
                    return os.access(self.folder, os.W_OK)
            time.sleep(0.2)
        return False


class _DataPlugin(WorkerPlugin):
    """Dask worker plugin that holds the data. Unlike scattered data, a plugin outlives the death of workers."""

    def __init__(self, data: Development, demands: Demands) -> None:
        self._data, self._demands = data, demands

    def setup(self, worker: Worker) -> None:
        """Keep the data in a worker, and find out whether it can work; Dask calls this in every worker."""
        threads, lacks = worker.state.nthreads, self._demands.problem()
        if threads != 1:
            lacks = f"has {threads} threads: start the workers with --nthreads 1"
        keep_data(self._data, EnvironmentProblem(f"the Dask worker {worker.address} {lacks}") if lacks else None)


def _versions() -> dict[str, str]:
    return {"Python": "{}.{}".format(*sys.version_info), **versions()}


def _require_scheduler(address: str) -> None:
    """Check that a Dask scheduler answers, in seconds: Dask's own client takes a minute to give up.

    Raises:
        EnvironmentProblem: If none does.
    """

    async def ask() -> Any:
        comm = await connect(address, timeout=PATIENCE)
        try:
            await comm.write({"op": "identity", "n_workers": 0, "reply": True})
            return await comm.read()
        finally:
            comm.abort()

    def answer() -> Any:
        return asyncio.run(asyncio.wait_for(ask(), PATIENCE + 1))

    try:
        with ThreadPoolExecutor(1) as thread:  # A notebook has an event loop of its own in this one.
            found = thread.submit(answer).result()
    except Exception as error:  # Dask takes what another kind of server says for a message, which may raise anything.
        raise EnvironmentProblem(
            f"no Dask scheduler answers at {address or repr('')}: `dask scheduler` prints its address, tcp://host:8786 "
            f"({_line(error)})"
        ) from error
    if not isinstance(found, dict) or found.get("type") != "Scheduler":
        raise EnvironmentProblem(f"what answers at {address} is no Dask scheduler: `dask scheduler` prints its address")


def _line(error: BaseException) -> str:
    return " ".join(f"{type(error).__name__}: {error}".split()).removesuffix(":")
