"""The surroundings of a stage: the same for every stage of a run."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from kerasnac.adapters.workers import Workers
from kerasnac.core.data.dataset import Development
from kerasnac.core.store.progress import Progress, silent


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
