"""A search that may be killed at any time: ``python -m tests.stages.killable FOLDER KIND EVALUATIONS``.

It is of one of four kinds: real trainings, instant ones, instant ones with halving, or instant ones in steady mode.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from kerasnac.adapters.workers import LocalWorkers
from kerasnac.core.network.training import Training
from kerasnac.core.settings import HalvingSettings, SearchSettings
from kerasnac.core.space.blocks import Mlp
from kerasnac.core.space.search_space import SearchSpace
from kerasnac.stages.context import Context
from kerasnac.stages.search.candidate_training import Job, Result
from kerasnac.stages.search.global_search import global_search
from tests.networks import toy_data

SPACE = SearchSpace(
    input=3, outputs=3, blocks=(Mlp(widths=((2, 3, 4, 5), (2, 3, 4, 5)), depth=(1, 2), activation=("relu", "tanh")),)
)


class Slow:
    """Stands in for the workers: trainings by a formula, each of which takes some seconds."""

    processes = 1

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds

    def try_map(self, task: Any, items: Sequence[Job], **options: Any) -> Iterator[tuple[int, Result]]:
        for index, item in enumerate(items):
            time.sleep(self._seconds)
            accuracy = item.seed % 1000 / 1000
            yield index, Result({"accuracy": accuracy, "loss": 1 - accuracy}, 0.1)

    def try_supply(self, task: Any, supply: Callable[[int], Sequence[Job]], **options: Any) -> Iterator[tuple[int, Result]]:
        supplied = 0
        while items := supply(self.processes):
            yield from ((supplied + index, result) for index, result in self.try_map(task, items))
            supplied += len(items)


def search(folder: Path, kind: str, evaluations: int, workers: Any) -> None:
    changes: dict[str, Any] = {}
    if kind == "halving":
        changes = {"training": Training(epochs=3), "halving": HalvingSettings(epochs=1, keep=0.5)}
    if kind == "steady":
        changes = {"mode": "steady"}
    settings = SearchSettings(
        population=2 if kind == "real" else 4,
        evaluations=evaluations,
        budgets={"parameters": 50},
        **{"training": Training(epochs=1), **changes},
    )
    global_search(SPACE, settings, Context(toy_data().development, workers, folder))


def main(folder: str, kind: str, evaluations: str) -> None:
    if kind != "real":
        return search(Path(folder), kind, int(evaluations), Slow(0.005))
    with LocalWorkers(toy_data().development, 1) as workers:
        return search(Path(folder), kind, int(evaluations), workers)


if __name__ == "__main__":
    main(*sys.argv[1:])
