"""A search with parts of others that may be killed at any time: ``python -m tests.example_run FILE FOLDER``."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from kerasnac.core.data.dataset import Development
from kerasnac.core.settings.yaml_files import load_run
from kerasnac.stages.run import search_only, session
from kerasnac.stages.search.candidate_training import Job, Result
from tests.stages.killable import Slow


class Instant(Slow):
    """Stands in for the workers: trainings by a formula; all else is done in this process."""

    moment = 0.0

    def __init__(self, data: Development, processes: int | None = None) -> None:
        super().__init__(self.moment)
        self._data = data

    def map(self, task: Any, items: Sequence[Any], **options: Any) -> Iterator[tuple[int, Any]]:
        for index, item in enumerate(items):
            yield index, task(self._data, item)

    def try_map(self, task: Any, items: Sequence[Job], **options: Any) -> Iterator[tuple[int, Result]]:
        own, labels = self._data.task, self._data.validation.y
        for index, result in super().try_map(task, items, **options):
            outputs = np.random.default_rng(items[index].seed).normal(size=(len(labels), own.outputs)).astype(np.float32)
            yield index, replace(result, metrics={**result.metrics, **own.further(outputs, labels)})

    def close(self) -> None:
        pass


class Brief(Instant):
    """Every training takes a moment, so that there is time to kill it."""

    moment = 0.02


if __name__ == "__main__":
    session.LocalWorkers = Brief  # type: ignore[misc,assignment]
    search_only(load_run(sys.argv[1]), sys.argv[2])
