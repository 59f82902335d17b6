"""What all workers have in common: items go out, results come in, and a process may die on the way."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, CancelledError, Future, wait
from dataclasses import dataclass
from functools import cache
from typing import TypeVar

from kerasnac.core.data.dataset import Development
from kerasnac.errors import KerasnacError, RunError

Item = TypeVar("Item")
Result = TypeVar("Result")
Task = Callable[[Development, Item], Result]

#: In a worker process: the data that it was sent, once and not with every item, by fingerprint.
_data: dict[str, Development] = {}

#: In a worker process: why it cannot work; told with its first item, so that the message reaches the user.
_problem: KerasnacError | None = None


@dataclass(frozen=True)
class Died:
    """In place of a result: the worker process died with the item, and so did a second one that had no other item.

    Attributes:
        reason: What is known of the second death.
    """

    reason: str


class Workers(ABC):
    """Processes that each hold the development data and one TensorFlow thread.

    One thread per process makes results independent of the number of processes, and many small networks train
    faster side by side than one network on all cores.
    """

    #: What the future of an item raises when its process died.
    death: type[BaseException]

    @property
    @abstractmethod
    def processes(self) -> int:
        """How many items run at the same time."""

    @abstractmethod
    def close(self) -> None:
        """Lets the processes go."""

    @abstractmethod
    def _submit(self, task: Task[Item, Result], item: Item) -> Future[Result]:
        """Runs one item in a process that lives."""

    def map(
        self, task: Task[Item, Result], items: Sequence[Item], *, tick: Callable[[], None] = lambda: None, seconds: float = 1.0
    ) -> Iterator[tuple[int, Result]]:
        """Runs a task for every item and yields (index of the item, result) as results come in.

        Args:
            task: A function of a module; gets the development data and one item.
            items: What to run it on.
            tick: Called about every ``seconds`` while waiting, for progress.
            seconds: See ``tick``.

        Raises:
            RunError: If two processes die with one item, for example for lack of memory.
            Exception: Whatever the task raises: a bug surfaces.
        """
        for index, result in self.attempt(task, items, tick=tick, seconds=seconds):
            if isinstance(result, Died):
                raise RunError(f"{result.reason} This is most often a lack of memory: resume with fewer workers")
            yield index, result

    def attempt(
        self, task: Task[Item, Result], items: Sequence[Item], *, tick: Callable[[], None] = lambda: None, seconds: float = 1.0
    ) -> Iterator[tuple[int, Result | Died]]:
        """As :meth:`map`, but an item that two processes died with yields :class:`Died`, and the others go on."""
        waiting, running = deque(range(len(items))), dict[Future[Result], int]()
        # What was running when a process died. Each is run once more, alone: if its process dies again, it is to blame.
        suspects, alone = deque[int](), False
        try:
            while waiting or suspects or running:
                if suspects and not running:
                    alone = True
                    index = suspects.popleft()
                    running[self._submit(task, items[index])] = index
                elif not suspects and not (alone and running):
                    alone = False
                    while waiting and len(running) < self.processes:
                        index = waiting.popleft()
                        running[self._submit(task, items[index])] = index
                done, _ = wait(running, timeout=seconds, return_when=FIRST_COMPLETED)
                tick()
                for future in done:
                    index = running.pop(future)
                    try:
                        result = future.result()
                    except self.death as death:
                        if alone:
                            yield (
                                index,
                                Died(f"its worker process died, and so did the next one: {' '.join(str(death).split())}"),
                            )
                        else:
                            suspects.append(index)
                    except CancelledError as error:
                        raise RunError("the workers are gone: resume when they are back") from error
                    else:
                        yield index, result
        except KeyboardInterrupt:
            running.clear()  # The processes are ended; a cancelled future would trip loky over their last words.
            self.close()
            raise
        finally:
            for future in running:
                future.cancel()

    def __enter__(self) -> Workers:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()


def receive(data: Development, problem: KerasnacError | None = None) -> None:
    """In a worker process: keeps the data, and what is wrong with the process, for the items to come."""
    global _problem
    _data[data.fingerprint] = data
    _problem = problem


def run(task: Task[Item, Result], item: Item, fingerprint: str) -> Result:
    """In a worker process: runs one item on data received before."""
    if _problem is not None:
        raise _problem
    _become_worker()
    return task(_data[fingerprint], item)


@cache
def _become_worker() -> None:
    from kerasnac.adapters.keras.runtime import become_worker

    become_worker()
