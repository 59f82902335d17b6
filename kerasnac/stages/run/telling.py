"""Events of a run that are of no stage's own module: its beginning, conversions, scores."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING, Any

from kerasnac.core.data.bootstrap import Score
from kerasnac.core.data.dataset import Dataset
from kerasnac.core.store.progress import Progress, Step, event
from kerasnac.core.store.versions import versions
from kerasnac.stages.run.jobs import ConvertJob

if TYPE_CHECKING:
    from kerasnac.stages.firmware.result import Firmware

#: Seconds of a conversion after which the user is told why it takes long.
LONG = 60.0

#: Models that are named while they are converted, at most.
MOST_NAMES = 3


def run_started(folder: Path, seed: int, data: Dataset) -> Step:
    """Return the event that a run begins."""
    own = {"folder": str(folder), "dataset": data.describe(), "metric": data.task.metric, "sense": data.task.sense}
    return event("run_started", seed=seed, kerasnac=versions()["kerasnac"], **own)


def score_step(name: str, metric: str, found: Score, done: int = 0, total: int = 0) -> Step:
    """Return the event that a model is scored on the test split.

    Args:
        name: Of the model.
        metric: Of the task.
        found: The score.
        done: Models scored so far.
        total: Models to score; 0 to say nothing about it.
    """
    facts = {"model": name, "metric": metric, "value": found.value, "low": found.low, "high": found.high}
    return Step("run", done, total, f"{name}: test {metric} {found}", "score", facts)


class ConversionProgress:
    """Reports how many models are converted.

    Args:
        jobs: One for every model.
        timeout: Seconds that each may take.
        progress: Is told.
    """

    def __init__(self, jobs: Sequence[ConvertJob], timeout: float, progress: Progress) -> None:
        self._left, self._total = [job.model.name for job in jobs], len(jobs)
        self._timeout, self._progress, self._started = timeout, progress, monotonic()

    def __call__(self) -> None:
        """Tell what goes on."""
        seconds = monotonic() - self._started
        shown, others = self._left[:MOST_NAMES], len(self._left) - MOST_NAMES
        names = ", ".join(shown) + (f" and {others} more" if others > 0 else "")
        text = f"converting and compiling {names}, {seconds:.0f} s"
        if seconds > LONG:
            text += f" (the C++ of a large network is one file, which takes minutes; at most {self._timeout:.0f} s)"
        self._progress(Step("firmware", self._total - len(self._left), self._total, text))

    def found(self, job: ConvertJob, found: Firmware | str, *, known: bool) -> None:
        """Tell of the result of a conversion.

        Args:
            job: What was to be converted.
            found: The firmware, or why there is none.
            known: True if it was there.
        """
        self._left.remove(job.model.name)
        if isinstance(found, str):
            exact, verdict, reason, text = None, "", found, f"refused: {found}"
        else:
            exact = None if found.comparison is None else found.bit_exact
            verdict, reason, text = found.verdict, "", found.verdict
        facts: dict[str, Any] = {"model": job.model.name, "bit_exact": exact, "verdict": verdict, "reason": reason}
        done = self._total - len(self._left)
        self._progress(Step("firmware", done, self._total, text, "firmware", {**facts, "known": known}))
