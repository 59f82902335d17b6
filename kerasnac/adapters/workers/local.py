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

from kerasnac.adapters.workers.base import Item, Result, Task, Workers, receive, run
from kerasnac.core.data.dataset import Development


class LocalWorkers(Workers):
    """Processes on this machine.

    loky starts them, so that scripts and notebooks need no ``if __name__ == "__main__"``.

    Args:
        data: What every task may see.
        processes: How many; all cores by default.
    """

    death = BrokenProcessPool

    def __init__(self, data: Development, processes: int | None = None) -> None:
        self._data = data
        self._processes = processes or os.cpu_count() or 1
        # TensorFlow writes a file for every function that it traces, and a process that is ended leaves them behind.
        self._scratch = tempfile.TemporaryDirectory(prefix="kerasnac-workers-", ignore_cleanup_errors=True)
        # loky restarts a process that has grown, as one that traces hundreds of networks does: nothing to act on.
        warnings.filterwarnings("ignore", message="A worker was restarted", category=UserWarning)
        self._pool = self._start()

    @property
    def processes(self) -> int:
        return self._processes

    def close(self) -> None:
        """Ends the processes."""
        self._pool.shutdown(wait=True, kill_workers=True)
        self._scratch.cleanup()

    def _start(self) -> ProcessPoolExecutor:
        arguments = (self._data, os.getpid(), self._scratch.name)
        return ProcessPoolExecutor(max_workers=self._processes, initializer=_begin, initargs=arguments)

    def _submit(self, task: Task[Item, Result], item: Item) -> Future[Result]:
        try:
            future: Future[Result] = self._pool.submit(run, task, item, self._data.fingerprint)
        except BrokenProcessPool:  # One death ends a pool; its other processes are ended with it.
            self._pool = self._start()
            future = self._pool.submit(run, task, item, self._data.fingerprint)
        return future


def _begin(data: Development, parent: int, scratch: str) -> None:
    tempfile.tempdir = scratch
    threading.Thread(target=_end_with, args=(parent,), daemon=True).start()
    receive(data)


def _end_with(parent: int) -> None:
    """Ends this process soon after its parent; a killed parent cannot do it."""
    while os.getppid() == parent:
        time.sleep(1)
    os._exit(1)
