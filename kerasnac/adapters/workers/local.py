"""Worker processes on this machine."""

from __future__ import annotations

import os
import tempfile
import threading
import time
import warnings
from concurrent.futures import Future

from loky import ProcessPoolExecutor
from loky.process_executor import BrokenProcessPool

from kerasnac.adapters.workers.base import Item, Result, Task, Workers, keep_data, run_item
from kerasnac.core.data.dataset import Development
from kerasnac.errors import ConfigError

#: Processes per core, at most; more than one are of no use, and each takes a gigabyte.
MOST_PER_CORE = 8

#: Bytes by which a process may grow before another one takes its place.
GROWTH = 1_000_000_000


class LocalWorkers(Workers):
    """Processes on this machine.

    loky starts them, so that scripts and notebooks need no ``if __name__ == "__main__"``.

    Args:
        data: The development data of all tasks.
        processes: Number of processes; one per core by default.

    Raises:
        ConfigError: If it is no sensible number.
    """

    death = BrokenProcessPool

    def __init__(self, data: Development, processes: int | None = None) -> None:
        check_processes(processes)
        self._data = data
        self._processes = os.cpu_count() or 1 if processes is None else processes
        # TensorFlow writes a file for every function that it traces, and a process that is ended leaves them behind.
        self._scratch = tempfile.TemporaryDirectory(prefix="kerasnac-workers-", ignore_cleanup_errors=True)
        # loky restarts a process whose memory has grown, as one that traces hundreds of networks does: no need to act. By
        # default that would be after the second compiled training, which would have to be compiled again.
        warnings.filterwarnings("ignore", message="A worker was restarted", category=UserWarning)
        self._size = 0
        self._pool: ProcessPoolExecutor | None = None

    @property
    def processes(self) -> int:
        return self._processes

    def close(self) -> None:
        """End the processes."""
        self._end()
        self._scratch.cleanup()

    def _check(self) -> None:
        """Do nothing: the futures of processes that die say so."""

    def _prepare(self, items: int) -> None:
        """Have as many processes as there are items, but no more than were asked for: each takes seconds to start."""
        wanted = min(items, self._processes)
        if wanted > self._size:
            self._end()
            self._size = wanted

    def _end(self) -> None:
        if self._pool is not None:
            self._pool.shutdown(wait=True, kill_workers=True)
            self._pool = None

    def _start(self) -> ProcessPoolExecutor:
        arguments = (self._data, os.getpid(), self._scratch.name)
        limit = {"LOKY_MAX_MEMORY_LEAK_SIZE": str(GROWTH)}
        return ProcessPoolExecutor(max_workers=self._size, initializer=_initialize, initargs=arguments, env=limit)

    def _submit(self, task: Task[Item, Result], item: Item) -> Future[Result]:
        if self._pool is None:
            self._pool = self._start()
        try:
            future: Future[Result] = self._pool.submit(run_item, task, item, self._data.fingerprint)
        except BrokenProcessPool:  # One death ends a pool; its other processes are ended with it.
            self._pool = self._start()
            future = self._pool.submit(run_item, task, item, self._data.fingerprint)
        return future


def check_processes(processes: int | None) -> None:
    """Check a number of processes that a user gives; None is right.

    Raises:
        ConfigError: If it is not a number, not positive, or more than this machine can bear.
    """
    most = MOST_PER_CORE * (os.cpu_count() or 1)
    if processes is None:
        return
    if isinstance(processes, bool) or not isinstance(processes, int) or processes < 1:
        raise ConfigError(f"workers: {processes!r} is no number of processes; give 1 or more, or none for one per core")
    if processes > most:
        raise ConfigError(
            f"workers: {processes} processes are too many for this machine; give {most} at most, {MOST_PER_CORE} per core"
        )


def _initialize(data: Development, parent: int, scratch: str) -> None:
    """Prepare a worker process.

    Args:
        data: The development data of all tasks.
        parent: Process id of the parent.
        scratch: Folder for temporary files.
    """
    tempfile.tempdir = scratch
    threading.Thread(target=_exit_after, args=(parent,), daemon=True).start()
    keep_data(data)


def _exit_after(parent: int) -> None:
    """End this process soon after its parent, which may be killed and then ends nothing itself."""
    while os.getppid() == parent:
        time.sleep(1)
    os._exit(1)
