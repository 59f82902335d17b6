"""Tasks of the workers after the last choice: converting a model, and scoring it on the test split."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from kerasnac.core.data.bootstrap import Score, score
from kerasnac.core.data.curves import Curves, curves_of
from kerasnac.core.data.dataset import Development, Split, Task
from kerasnac.core.network.trained import Trained
from kerasnac.core.settings import FirmwareSettings
from kerasnac.errors import ConfigError, ConversionError, RunError

if TYPE_CHECKING:
    from kerasnac.stages.firmware.result import Firmware


@dataclass(frozen=True)
class ConvertJob:
    """One model to convert."""

    model: Trained
    samples: Split
    task: Task
    settings: FirmwareSettings
    folder: Path


def convert_one(data: Development, job: ConvertJob) -> Firmware | str:
    """Convert one model, or read the firmware that an earlier call left; runs in a worker.

    Returns:
        The firmware, or why the model has none: one model must not end a run.
    """
    from kerasnac.adapters.programs import Limits
    from kerasnac.stages.firmware.delivery import make_firmware

    settings = job.settings
    if (known := converted(job)) is not None:
        return known
    try:
        settings.options.check(job.model.architecture.without_window())
        return make_firmware(
            job.model,
            job.samples,
            job.task,
            folder=job.folder,
            options=settings.options,
            softmax=settings.softmax,
            adder_graph=settings.adder_graph,
            limits=Limits(settings.timeout, settings.memory),
        )
    except (ConversionError, ConfigError) as error:
        return str(error)


def converted(job: ConvertJob) -> Firmware | None:
    """Return the firmware of an earlier call, if it is of the same model and options and no file has changed since."""
    from kerasnac.stages.firmware.manifest import MANIFEST, changes
    from kerasnac.stages.firmware.result import Firmware

    if not (job.folder / MANIFEST).exists():
        return None
    try:
        known, changed = Firmware.load(job.folder), changes(job.folder)
    except RunError:
        return None  # It is damaged: all that it is made of is at hand, to make it again.
    settings = job.settings
    asked = (job.model, len(job.samples), settings.options, settings.softmax, settings.adder_graph)
    made = (known.trained, known.inputs.samples, known.options, known.softmax.mode, known.adder_graph.settings)
    before, now = known.trained.weights, job.model.weights
    weights = before.keys() == now.keys() and all(np.array_equal(before[key], now[key]) for key in now)
    return known if made == asked and weights and not changed else None


@dataclass(frozen=True)
class ScoreJob:
    """One model to score on the test split."""

    model: Trained
    split: Split
    seed: int


def score_one(data: Development, job: ScoreJob) -> tuple[Score, Curves | None]:
    """Score one model on a split, with a confidence interval, and return its curves as well; runs in a worker."""
    from kerasnac.adapters.keras.predict import predict

    outputs = predict(job.model.architecture, job.model.weights, job.split.x)
    return score(data.task, outputs, job.split.y, seed=job.seed), curves_of(data.task, outputs, job.split.y)
