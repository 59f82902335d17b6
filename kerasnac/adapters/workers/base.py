"""The common part of all workers: they run a task for many items, and survive the death of processes."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, CancelledError, Future, wait
from dataclasses import dataclass, field
from functools import cache
from typing import Generic, TypeVar

from kerasnac.core.data.dataset import Development
from kerasnac.errors import KerasnacError, RunError

Item = TypeVar("Item")
Result = TypeVar("Result")
Task = Callable[[Development, Item], Result]

#: Called with the numbers of the items that run, whenever others do.
Watch = Callable[[Sequence[int]], None]

#: In a worker process: the data by fingerprint, which are sent once and not with every item.
_data: dict[str, Development] = {}

#: In a worker process: the reason why it cannot work. Its first item raises it, so that the message reaches the user.
_problem: KerasnacError | None = None


@dataclass(frozen=True)
class WorkerDied:
    """In place of a result: a worker process died while it had the item, and so did a second one that ran it alone.

    Attributes:
        reason: Message about the second death.
    """

    reason: str


class Workers(ABC):
    """Processes that each hold the development data and one TensorFlow thread.

    One thread per process makes results independent of the number of processes, and many small networks train
    faster side by side than one network on all cores.
    """

    #: Exception that the future of an item raises when its process died.
    death: type[BaseException]

    @property
    @abstractmethod
    def processes(self) -> int:
        """Number of items that run at the same time."""

    @abstractmethod
    def close(self) -> None:
        """Release the processes."""

    @abstractmethod
    def _submit(self, task: Task[Item, Result], item: Item) -> Future[Result]:
        """Start one item in a process that lives."""

    def _prepare(self, items: int) -> None:  # noqa: B027 - others have nothing to do
        """Get ready for so many items; called before the first of them is started."""

    @abstractmethod
    def _check(self) -> None:
        """Make sure that results may come; called about once a tick while none do.

        Raises:
            RunError: If none will.
        """

    def map(
        self,
        task: Task[Item, Result],
        items: Sequence[Item],
        *,
        tick: Callable[[], None] = lambda: None,
        tick_seconds: float = 1.0,
        watch: Watch = lambda numbers: None,
    ) -> Iterator[tuple[int, Result]]:
        """Run a task for every item, and yield (index of the item, result) as results come in.

        Args:
            task: A function of a module; gets the development data and one item.
            items: Arguments of the task.
            tick: Called while waiting, for progress.
            tick_seconds: Time between two calls of ``tick``, about.
            watch: See :data:`Watch`.

        Raises:
            RunError: If two processes die with one item, for example for lack of memory, or if the workers are gone.
            Exception: Any exception of the task.
        """
        for index, result in self.try_map(task, items, tick=tick, tick_seconds=tick_seconds, watch=watch):
            if isinstance(result, WorkerDied):
                raise RunError(f"{result.reason} This is most often a lack of memory: resume with fewer workers")
            yield index, result

    def try_map(
        self,
        task: Task[Item, Result],
        items: Sequence[Item],
        *,
        tick: Callable[[], None] = lambda: None,
        tick_seconds: float = 1.0,
        watch: Watch = lambda numbers: None,
    ) -> Iterator[tuple[int, Result | WorkerDied]]:
        """Run a task as :meth:`map` does, but yield :class:`WorkerDied` for an item that two processes died with, and go on."""
        self._prepare(len(items))
        return self._run(task, _Schedule(deque(enumerate(items))), tick, tick_seconds, watch)

    def try_supply(
        self,
        task: Task[Item, Result],
        supply: Callable[[int], Sequence[Item]],
        *,
        tick: Callable[[], None] = lambda: None,
        tick_seconds: float = 1.0,
        watch: Watch = lambda numbers: None,
    ) -> Iterator[tuple[int, Result | WorkerDied]]:
        """Run a task as :meth:`try_map` does, for items that are made while others run, as places get free.

        Args:
            task: A function of a module; gets the development data and one item.
            supply: Called with a number of free places, returns as many items at most, or none if there are none for now. It
                may use these workers itself. All is done when it returns none while nothing runs.
            tick: Called while waiting, for progress.
            tick_seconds: Time between two calls of ``tick``, about.
            watch: See :data:`Watch`.

        Yields:
            Number of the item, in the order in which they were supplied, and its result.

        Raises:
            RunError: If the workers are gone.
            Exception: Any exception of the task, or of ``supply``.
        """
        self._prepare(self.processes)
        return self._run(task, _Schedule(deque(), supply=supply), tick, tick_seconds, watch)

    def _run(
        self,
        task: Task[Item, Result],
        schedule: _Schedule[Item],
        tick: Callable[[], None],
        tick_seconds: float,
        watch: Watch,
    ) -> Iterator[tuple[int, Result | WorkerDied]]:
        running: dict[Future[Result], tuple[int, Item]] = {}
        told: list[int] = []
        try:
            while True:
                for numbered in schedule.next_items(len(running), lambda: self.processes):
                    running[self._submit(task, numbered[1])] = numbered
                if (now := [number for number, _ in running.values()]) != told:
                    told = now
                    watch(now)
                if not running:
                    break
                done, _ = wait(running, timeout=tick_seconds, return_when=FIRST_COMPLETED)
                tick()
                if not done:
                    self._check()
                for future in done:
                    numbered = running.pop(future)
                    try:
                        result = future.result()
                    except self.death as death:
                        if schedule.alone:
                            message = " ".join(str(death).split())
                            yield numbered[0], WorkerDied(f"its worker process died, and so did the next one: {message}")
                        else:
                            schedule.suspects.append(numbered)
                    except CancelledError as error:
                        raise RunError(
                            "the workers are gone, or their scheduler: resume when they are back; all that is computed is kept"
                        ) from error
                    else:
                        yield numbered[0], result
        except KeyboardInterrupt:
            running.clear()  # The processes are ended; loky fails on messages of theirs for a cancelled future.
            self.close()
            raise
        finally:
            for future in running:
                future.cancel()

    def __enter__(self) -> Workers:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()


@dataclass
class _Schedule(Generic[Item]):
    """Order in which items run.

    All items that were running when a process died are suspects: each is run once more, alone. If its process dies again,
    the item is to blame.

    Attributes:
        waiting: Items that have not run, with their numbers.
        suspects: Items to run alone, with their numbers.
        alone: True while a suspect runs.
        supply: Makes further items when none wait, as many at most as it is given; None if there are no others.
        supplied: Number of items that were made so far.
    """

    waiting: deque[tuple[int, Item]]
    suspects: deque[tuple[int, Item]] = field(default_factory=deque)
    alone: bool = False
    supply: Callable[[int], Sequence[Item]] | None = None
    supplied: int = 0

    def next_items(self, running: int, processes: Callable[[], int]) -> list[tuple[int, Item]]:
        """Take the items to start now, with their numbers; none, while nothing runs, if all have run.

        Args:
            running: Number of items that run.
            processes: Gives the number of items that may run at the same time; called only if there may be items to start,
                since a cluster takes time to answer.
        """
        if self.suspects and not running:
            self.alone = True
            return [self.suspects.popleft()]
        if self.suspects or (self.alone and running):
            return []
        self.alone = False
        places = processes() - running if self.waiting or self.supply else 0
        if self.supply and places > len(self.waiting):
            made = self.supply(places - len(self.waiting))
            self.waiting.extend(enumerate(made, self.supplied))
            self.supplied += len(made)
        return [self.waiting.popleft() for _ in range(min(places, len(self.waiting)))]


def keep_data(data: Development, problem: KerasnacError | None = None) -> None:
    """Keep the data for items to come; called in a worker process.

    Args:
        data: The development data of the tasks.
        problem: Raised by every item, if the process cannot work.
    """
    global _problem
    _data[data.fingerprint] = data
    _problem = problem


def kept_problem() -> KerasnacError | None:
    """Return the reason why this process cannot work; None if it can."""
    return _problem


def run_item(task: Task[Item, Result], item: Item, fingerprint: str) -> Result:
    """Run one item on the data of a fingerprint; called in a worker process.

    Raises:
        KerasnacError: If the process cannot work.
        Exception: Any exception of the task.
    """
    if _problem is not None:
        raise _problem
    _become_worker()
    return task(_data[fingerprint], item)


@cache
def _become_worker() -> None:
    from kerasnac.adapters.keras.runtime import become_worker

    become_worker()
