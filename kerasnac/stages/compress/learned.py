"""Compression by learned widths: one long training for every model, with a network on every stretch of its way."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any
from zipfile import BadZipFile

import numpy as np

from kerasnac.core.data.dataset import Development, Task
from kerasnac.core.network import origin
from kerasnac.core.network.learned import with_places
from kerasnac.core.network.origin import LearnedOrigin
from kerasnac.core.network.trained import Trained
from kerasnac.core.network.training import Training
from kerasnac.core.network.weights import fold
from kerasnac.core.settings import CompressSettings
from kerasnac.core.store.files import make_folder, read_object, write_bytes, write_json
from kerasnac.core.store.keys import content_key, decisive
from kerasnac.core.store.memo import Memo
from kerasnac.core.store.progress import Step
from kerasnac.core.store.seeding import derive_seed
from kerasnac.errors import KerasnacError, RunError, TrialError
from kerasnac.stages.compress.points import NewPoints, Point, compress_memo, found_model, made_point
from kerasnac.stages.compress.result import tolerated
from kerasnac.stages.context import Context

if TYPE_CHECKING:
    from kerasnac.adapters.keras.learned.ramp import Arrays, Checkpoint, Ramp


log = logging.getLogger("kerasnac")

#: End of the name of the folder with the state of a training.
RAMP = "-ramp"

#: File in it that says how far the training is.
PROGRESS = "progress.json"


@dataclass(frozen=True)
class LearnedJob:
    """One float model whose widths are learned.

    Attributes:
        model: Float, tuned.
        settings: How long, and how narrow.
        seed: Seed of the run.
        folder: Run folder.
        suffix: What the names of its folders end with, see :mod:`kerasnac.core.store.places`.
    """

    model: Trained
    settings: CompressSettings
    seed: int
    folder: Path
    suffix: str = ""

    @property
    def name(self) -> str:
        """Name of the quantized model, without the cycle."""
        return f"{self.model.name}-learned"

    @property
    def stem(self) -> str:
        """Name of all points."""
        return self.name

    def point(self, cycle: int) -> str:
        """Return the name of a point."""
        return f"{self.name}-c{cycle:03d}"

    def path(self, name: str) -> Path:
        """Return the folder of a point."""
        return self.folder / "compressed" / f"{name}{self.suffix}"

    @property
    def ramp(self) -> Path:
        """Folder of the training, from which it goes on after an interruption."""
        return self.path(f"{self.name}{RAMP}")

    @property
    def begun(self) -> str | None:
        """Key of the training whose state has the plain name; None if there is none."""
        path = replace(self, suffix="").ramp / PROGRESS
        try:
            return str(read_object(path).get("key"))
        except RunError:
            return None  # There is none, or it is damaged: the state is checked when it is loaded.

    def ends(self, metrics: Sequence[float], task: Task) -> bool:
        """Return True if the last metrics are all beyond the tolerance."""
        settings, best = self.settings, self.model.metrics[task.metric]
        last = metrics[-settings.patience :]
        return len(last) == settings.patience and not any(tolerated(one, best, settings.tolerance, task) for one in last)

    def key(self, data: Development) -> str:
        """Return the hash of all that decides the points."""
        learned = self.settings.learned
        return content_key(
            "learned",
            model=self.model.identity,
            settings=decisive(learned, list(type(learned).model_fields)),
            seed=self.seed,
            data=data.fingerprint,
        )


class LearnedProgress:
    """Reports how many cycles are trained."""

    def __init__(self, jobs: Sequence[LearnedJob], context: Context) -> None:
        self._jobs, self._context = jobs, context
        self._memo = compress_memo(context.folder, context.data.task)
        self._told = NewPoints(self._memo, [job.key(context.data) for job in jobs])

    def __call__(self) -> None:
        task, text = self._context.data.task, ""
        done, total = 0, sum(job.settings.learned.cycles for job in self._jobs)
        for job in self._jobs:
            path = job.ramp / PROGRESS
            if not path.exists():
                continue
            now = read_object(path)
            if now["key"] == job.key(self._context.data):
                done += now["cycles"]
                total -= job.settings.learned.cycles - now["cycles"] if now.get("ended") else 0
                text = f"{job.model.name}: {task.metric} {now['metric']:.4f}, {now['operations']:,.0f} bit operations"
        self._memo.refresh()
        for step in self._told(Step("compress", done, total, text)):
            self._context.progress(step)


def compress_learned(data: Development, job: LearnedJob) -> tuple[Point, ...]:
    """Train a model with learned widths, and return the networks on its front; runs in a worker.

    Raises:
        TrialError: Whatever a training raises is a bug, and is shown with the architecture.
        RunError: If the training diverged.
    """
    try:
        return _compress(data, job)
    except KerasnacError:
        raise
    except Exception as error:
        raise TrialError(f"learning the widths of [{job.model.architecture}], {job.name} failed: {error!r}") from error


def _compress(data: Development, job: LearnedJob) -> tuple[Point, ...]:
    from kerasnac.adapters.keras.learned.checkpoints import front
    from kerasnac.adapters.keras.learned.ramp import Ramp

    settings, key = job.settings.learned, job.key(data)
    network, start = fold(job.model.architecture.plain, job.model.weights)
    ramp = Ramp(with_places(network), start, data, settings, _seed(job))
    way = _Way(job.ramp, key)
    kept = way.load(ramp)
    while len(way.metrics) < settings.cycles and not job.ends(way.metrics, data.task):
        newest = ramp.cycle(len(way.metrics))
        kept = front([*kept, newest], data.task)
        way.save(ramp, newest, kept, ended=job.ends([*way.metrics, newest.metric], data.task))
    memo = compress_memo(job.folder, data.task)
    records = {record["iteration"]: record for record in memo.all(key)}
    return tuple(_point(data, job, ramp, checkpoint, memo, records.get(checkpoint.cycle)) for checkpoint in kept)


def _seed(job: LearnedJob) -> int:
    return derive_seed(job.seed, "compress", job.name)


def _point(
    data: Development, job: LearnedJob, ramp: Ramp, checkpoint: Checkpoint, memo: Memo, known: dict[str, Any] | None
) -> Point:
    """Return the network of a checkpoint, saved and recorded."""
    return made_point(
        job.settings,
        known,
        find=partial(found_model, job.path(job.point(checkpoint.cycle))),
        train=partial(_new, data, job, ramp, checkpoint),
        add=memo.add,
        suffix=job.suffix,
    )


def _new(data: Development, job: LearnedJob, ramp: Ramp, checkpoint: Checkpoint) -> tuple[Trained, dict[str, Any]]:
    from kerasnac.adapters.keras.learned.checkpoints import measured

    began, settings = time.perf_counter(), job.settings.learned
    network, weights, scores = measured(ramp, checkpoint, data)
    metrics = scores.recorded(data.task)
    made = LearnedOrigin(job.model.name, checkpoint.cycle, checkpoint.pressure)
    training = Training(
        epochs=checkpoint.cycle * settings.cycle,
        batch_size=settings.batch_size,
        learning_rate=settings.learning_rate,
        schedule="cosine",
    )
    model = Trained(job.point(checkpoint.cycle), network, dict(weights), training, metrics, _seed(job), made)
    model.save(job.path(model.name))
    costs = {"sparsity": model.sparsity, "bops": model.bops, "seconds": time.perf_counter() - began}
    return model, {"key": job.key(data), "model": model.name, **origin.to_dict(made), **metrics, **costs}


class _Way:
    """Folder with the state of a training after its last cycle, and the checkpoints on its front.

    Args:
        folder: The folder.
        key: Hash of all that decides the training; a state with another one is not read.
    """

    def __init__(self, folder: Path, key: str) -> None:
        self._folder, self._key = folder, key
        self.metrics: list[float] = []

    def load(self, ramp: Ramp) -> list[Checkpoint]:
        """Bring a training to the state that is saved; return the checkpoints on its front.

        Nothing is brought or returned if there is no state, one of other settings or, with a warning, a damaged one.
        """
        from kerasnac.adapters.keras.learned.ramp import Checkpoint

        path = self._folder / "state.npz"
        if not path.exists():
            return []
        try:
            with np.load(BytesIO(path.read_bytes())) as arrays:
                if str(arrays["key"]) != self._key:
                    return []
                metrics, rows = arrays["metrics"].tolist(), arrays["front"].tolist()
                variables = {name: arrays[name] for name in arrays.files if name.startswith("variable_")}
            kept = [
                Checkpoint(int(cycle), pressure, metric, operations, np.load(self._values(int(cycle))))
                for cycle, pressure, metric, operations in rows
            ]
            ramp.state = variables
        except (OSError, ValueError, LookupError, EOFError, BadZipFile) as damage:
            log.warning("%s is damaged (%r): the widths are learned anew, with the same result", path, damage)
            return []
        self.metrics = metrics
        return kept

    def save(self, ramp: Ramp, newest: Checkpoint, kept: Sequence[Checkpoint], *, ended: bool) -> None:
        """Save the state after a cycle; the file that names the checkpoints appears after theirs."""
        make_folder(self._folder)
        if newest in kept:
            write_bytes(self._values(newest.cycle), _bytes_of(newest.values))
        metrics = [*self.metrics, newest.metric]
        front = np.array([[one.cycle, one.pressure, one.metric, one.operations] for one in kept])
        own: Arrays = {"key": np.array(self._key), "metrics": np.array(metrics), "front": front}
        content = BytesIO()
        np.savez(content, **own, **ramp.state)  # type: ignore[arg-type]
        write_bytes(self._folder / "state.npz", content.getvalue())
        self.metrics = metrics
        now = {"cycles": newest.cycle, "metric": newest.metric, "operations": newest.operations, "ended": ended}
        write_json(self._folder / PROGRESS, {"key": self._key, **now})
        names = {self._values(one.cycle).name for one in kept}
        for path in self._folder.glob("c*.npy"):
            if path.name not in names:
                path.unlink()

    def _values(self, cycle: int) -> Path:
        return self._folder / f"c{cycle:05d}.npy"


def _bytes_of(array: Any) -> bytes:
    content = BytesIO()
    np.save(content, array)
    return content.getvalue()
