"""The surroundings of a stage: the same for every stage of a run."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from kerasnac.adapters.workers import Workers
from kerasnac.core.data.dataset import Development
from kerasnac.core.store.progress import Progress, silent

Item = TypeVar("Item")
Result = TypeVar("Result")


@dataclass(frozen=True)
class Context:
    """The surroundings of a stage.

    Attributes:
        data: Training and validation samples; no test samples.
        workers: Processes, which hold the same data.
        folder: Run folder; every stage keeps its journal and its models there.
        seed: The one seed of the run.
        progress: Called after every unit of work.
    """

    data: Development
    workers: Workers
    folder: Path
    seed: int = 0
    progress: Progress = silent

    def results(
        self,
        task: Callable[[Development, Item], Result],
        items: Sequence[Item],
        known: Sequence[Result | None],
        *,
        each: Callable[[Result], None] = lambda result: None,
        tick: Callable[[], None] = lambda: None,
        watch: Callable[[Sequence[int]], None] = lambda numbers: None,
    ) -> list[Result]:
        """Return the results of a task for all items; workers get only those that are not known.

        Args:
            task: A function of a module; gets the data and one item.
            items: Arguments of the task.
            known: Result of every item, or None where it is not known.
            each: Called for every result, known ones first.
            tick: Called while waiting, for progress.
            watch: Called with the numbers of the items that workers have, whenever these are others.
        """
        found = {index: result for index, result in enumerate(known) if result is not None}
        for result in found.values():
            each(result)
        missing = [index for index in range(len(items)) if index not in found]

        def running(places: Sequence[int]) -> None:
            watch([missing[place] for place in places])

        for place, result in self.workers.map(task, [items[index] for index in missing], tick=tick, watch=running):
            found[missing[place]] = result
            each(result)
        return [found[index] for index in range(len(items))]
