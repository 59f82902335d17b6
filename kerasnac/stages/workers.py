"""Worker processes: the one way in which stages train anything."""

from __future__ import annotations

import os
import tempfile
import threading
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from typing import Any, TypeVar

from loky import ProcessPoolExecutor
from loky.process_executor import BrokenProcessPool

from kerasnac.core.data import Development
from kerasnac.errors import KerasnacError, RunError

Item = TypeVar("Item")
Result = TypeVar("Result")

#: The data of this worker process: sent once, not with every item.
_data: Development | None = None

#: Why this worker process cannot work; told with its first item, so that the message reaches the user.
_problem: KerasnacError | None = None


class Workers:
    """Processes that each hold the development data and one TensorFlow thread.

    One thread per process makes results independent of the number of processes, and many small networks train
    faster side by side than one network on all cores. loky starts the processes, so that scripts and notebooks
    need no ``if __name__ == "__main__"``.

    Args:
        data: What every task may see.
        processes: How many; all cores by default.
    """

    def __init__(self, data: Development, processes: int | None = None) -> None:
        self.processes = processes or os.cpu_count() or 1
        # TensorFlow writes a file for every function that it traces, and a process that is ended leaves them behind.
        self._scratch = tempfile.TemporaryDirectory(prefix="kerasnac-workers-", ignore_cleanup_errors=True)
        arguments = (data, os.getpid(), self._scratch.name)
        self._pool = ProcessPoolExecutor(max_workers=self.processes, initializer=_start, initargs=arguments)

    def map(
        self,
        task: Callable[[Development, Item], Result],
        items: Sequence[Item],
        *,
        tick: Callable[[], None] = lambda: None,
        seconds: float = 1.0,
    ) -> Iterator[tuple[int, Result]]:
        """Runs a task for every item and yields (index of the item, result) as results come in.

        Args:
            task: A function of a module; gets the development data and one item.
            items: What to run it on.
            tick: Called about every ``seconds`` while waiting, for progress.
            seconds: See ``tick``.

        Raises:
            RunError: If a process dies, for example for lack of memory.
            Exception: Whatever the task raises: a bug surfaces.
        """
        futures: dict[Future[Any], int] = {self._pool.submit(_run, task, item): index for index, item in enumerate(items)}
        waiting = set(futures)
        # loky restarts a process that has grown, as one that traces hundreds of networks does: nothing to act on.
        warnings.filterwarnings("ignore", message="A worker was restarted", category=UserWarning)
        try:
            while waiting:
                done, waiting = wait(waiting, timeout=seconds, return_when=FIRST_COMPLETED)
                tick()
                for future in done:
                    yield futures[future], future.result()
        except BrokenProcessPool as error:
            raise RunError("a worker process died, often for lack of memory: resume with fewer workers") from error
        except KeyboardInterrupt:
            waiting.clear()  # The processes are ended; a cancelled future would trip loky over their last words.
            self.close()
            raise
        finally:
            for future in waiting:
                future.cancel()

    def close(self) -> None:
        """Ends the processes."""
        self._pool.shutdown(wait=True, kill_workers=True)
        self._scratch.cleanup()

    def __enter__(self) -> Workers:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()


def _start(data: Development, parent: int, scratch: str) -> None:
    global _data, _problem
    tempfile.tempdir = scratch
    from kerasnac.adapters.keras.runtime import become_worker

    threading.Thread(target=_end_with, args=(parent,), daemon=True).start()
    try:
        become_worker()
    except KerasnacError as problem:
        _problem = problem
    _data = data


def _end_with(parent: int) -> None:
    """Ends this process soon after its parent; a killed parent cannot do it."""
    while os.getppid() == parent:
        time.sleep(1)
    os._exit(1)


def _run(task: Callable[[Development, Item], Result], item: Item) -> Result:
    if _problem is not None:
        raise _problem
    assert _data is not None
    return task(_data, item)
