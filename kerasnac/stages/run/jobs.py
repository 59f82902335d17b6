"""Tasks of the workers after the last choice: converting a model, and scoring it on the test split."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from kerasnac.core.data.bootstrap import Score, score
from kerasnac.core.data.curves import Details, details_of
from kerasnac.core.data.dataset import Development, Split, Task
from kerasnac.core.network.trained import Trained
from kerasnac.core.network.weights import weights_hash
from kerasnac.core.settings import FirmwareSettings
from kerasnac.core.store.journal import Journal
from kerasnac.core.store.keys import content_key
from kerasnac.core.store.memo import Memo, Shape
from kerasnac.core.store.places import suffix_of
from kerasnac.core.store.versions import versions
from kerasnac.errors import ConfigError, ConversionError, RunError

if TYPE_CHECKING:
    from kerasnac.stages.firmware.result import Firmware

#: Name of the journal of refusals in the run folder.
REFUSALS = "refused.jsonl"

_REFUSAL = Shape({"key": str, "model": str, "reason": str, "versions": dict[str, str]})


@dataclass(frozen=True)
class ConvertJob:
    """One model to convert.

    Attributes:
        model: The model.
        samples: What it is compared on.
        task: Scores the outputs.
        settings: All settings; those of a refusal include the limits.
        folder: The project.
    """

    model: Trained
    samples: Split
    task: Task
    settings: FirmwareSettings
    folder: Path

    @cached_property
    def key(self) -> str:
        """Hash of all that decides a conversion, or the reason why there is none, the versions of packages left out."""
        weights = weights_hash(self.model.weights)
        settings = self.settings.model_dump(mode="json", exclude={"select", "samples"})
        return content_key("firmware", model=self.model.identity, weights=weights, samples=len(self.samples), settings=settings)

    def placed(self) -> ConvertJob:
        """Return this job with a folder that no other conversion has: the plain one, or one beside it."""
        beside = self.folder.with_name(f"{self.folder.name}{suffix_of(self.key)}")
        return replace(self, folder=beside) if beside.is_dir() or _is_of_another(self) else self


class Refusals:
    """Conversions that were refused, or failed, in a journal: with the same settings and versions they are again.

    Args:
        folder: Run folder.
    """

    def __init__(self, folder: Path) -> None:
        self._memo = Memo(Journal(folder / REFUSALS), _REFUSAL, lambda record: record["key"])

    def get(self, job: ConvertJob) -> str | None:
        """Return why a model has no firmware; None if it has some, or has not been tried."""
        record = self._memo.get(job.key)
        return None if record is None or record["versions"] != versions() else str(record["reason"])

    def add(self, job: ConvertJob, reason: str) -> None:
        """Record why a model has no firmware."""
        self._memo.add({"key": job.key, "model": job.model.name, "reason": reason, "versions": versions()})


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
    from kerasnac.stages.firmware.manifest import changes

    try:
        known = _firmware_in(job.folder)
        return known if known is not None and _is_of(job, known) and not changes(job.folder) else None
    except RunError:
        return None  # It is damaged: all that it is made of is at hand, to make it again.


def _is_of_another(job: ConvertJob) -> bool:
    """Return True if a job's folder has whole firmware of another model or with other options."""
    try:
        known = _firmware_in(job.folder)
    except RunError:
        return False
    return known is not None and not _is_of(job, known)


def _firmware_in(folder: Path) -> Firmware | None:
    """Return the firmware of a folder; None if it is not complete."""
    from kerasnac.stages.firmware.manifest import MANIFEST
    from kerasnac.stages.firmware.result import Firmware

    return Firmware.load(folder) if (folder / MANIFEST).exists() else None


def _is_of(job: ConvertJob, known: Firmware) -> bool:
    """Return True if firmware is that of a job's model, samples and options."""
    settings = job.settings
    asked = (job.model, len(job.samples), settings.options, settings.softmax, settings.adder_graph)
    made = (known.trained, known.inputs.samples, known.options, known.softmax.mode, known.adder_graph.settings)
    before, now = known.trained.weights, job.model.weights
    return made == asked and before.keys() == now.keys() and all(np.array_equal(before[key], now[key]) for key in now)


@dataclass(frozen=True)
class ScoreJob:
    """One model to score on the test split."""

    model: Trained
    split: Split
    seed: int


def score_one(data: Development, job: ScoreJob) -> tuple[Score, Details]:
    """Score one model on a split, with a confidence interval, and return details as well; runs in a worker."""
    from kerasnac.adapters.keras.predict import predict

    outputs = predict(job.model.architecture, job.model.weights, job.split.x)
    return score(data.task, outputs, job.split.y, seed=job.seed), details_of(data.task, outputs, job.split.y)
