"""Records of all evaluations of a run folder, by candidate and fidelity."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any

from pydantic import Field
from typing_extensions import TypedDict

from kerasnac.core.search.evaluation import Evaluation, Status
from kerasnac.core.store.journal import Journal
from kerasnac.core.store.memo import Memo, Record, Shape
from kerasnac.errors import ConfigError, RunError

#: A candidate's key and the key of a fidelity.
Trial = tuple[str, str]


class _PointRecord(TypedDict):
    cycle: int
    metrics: dict[str, float]


#: Shape of the record of an evaluation.
SHAPE = Shape(
    {
        "index": int,
        "generation": int,
        "id": str | None,
        "status": Status,
        "metrics.*": float,
        "points?": list[_PointRecord],
        "seconds": float,
        "seed": int,
        "fidelity.epochs": int,
        "fidelity.data_fraction": float,
        "fidelity.folds": int,
        "fidelity.key": str,
        "reason": str,
        "genome": list[int],
        "training": dict[str, Any] | None,
        "architecture": dict[str, Any] | None,
    }
)

_Pair = Annotated[list[str], Field(min_length=2, max_length=2)]

#: Shape of the record of a generation.
_LOGGED = Shape(
    {
        "search": str,
        "number": int,
        "asked": str,
        "evaluations": int,
        "hypervolume": float,
        "seconds": float,
        "failed": list[_Pair],
    }
)

#: Shape of the record of trainings whose workers died, and which candidates of an incomplete generation are bred from.
_DIED = Shape({"search": str, "died": list[_Pair]})


def generation_shape(record: Record) -> Shape:
    """Return the shape of a record of ``generations.jsonl``."""
    return _DIED if "died" in record else _LOGGED


def trial_of(evaluation: Evaluation) -> Trial:
    """Return candidate and fidelity of an evaluation."""
    return evaluation.key, evaluation.fidelity.key


class EvaluationRecords:
    """Records of evaluations: of trained candidates, of those whose workers died, and of those that are not trained.

    Args:
        journal: Shared by all searches of a run folder.
    """

    def __init__(self, journal: Journal) -> None:
        self._memo = Memo(journal, SHAPE, recorded_trial)

    def trained(self, trial: Trial) -> Evaluation | None:
        """Return a candidate that was trained, in full or briefly, or that its trained weights made infeasible."""
        # A candidate turns out to be infeasible after its training, which took some seconds, or before any.
        return self._last(trial, lambda r: r["status"] in ("ok", "brief") or (r["status"] == "infeasible" and r["seconds"] > 0))

    def failed(self, trial: Trial) -> Evaluation:
        """Return a candidate whose worker processes died.

        Raises:
            RunError: If the journal has none.
        """
        found = self._last(trial, lambda record: record["status"] == "failed")
        if found is None:
            raise RunError(f"{self._memo.journal.path}: the failure of candidate {trial[0]} is missing: restore the file")
        return found

    def add(self, outcome: Evaluation) -> None:
        """Record the outcome of a training."""
        self._memo.add(outcome.to_record())

    def add_plan(self, plan: Evaluation) -> bool:
        """Record a candidate that is not going to be trained; False if it is in the journal already."""
        if self._last(trial_of(plan), lambda record: record["status"] in ("infeasible", "over_budget")) is not None:
            return False
        self._memo.add(plan.to_record())
        return True

    def _last(self, trial: Trial, holds: Callable[[Record], bool]) -> Evaluation | None:
        found = [record for record in self._memo.all(trial) if holds(record)]
        try:
            return Evaluation.from_record(found[-1]) if found else None
        except (ConfigError, LookupError, TypeError, AttributeError, ValueError) as error:
            raise RunError(
                f"{self._memo.journal.path}: the record of candidate {trial[0]} is damaged ({error}); restore the file or "
                "start a new run"
            ) from error


def recorded_trial(record: Record) -> Trial:
    """Return candidate and fidelity of the record of an evaluation."""
    return record["id"] or str(tuple(record["genome"])), record["fidelity.key"]
