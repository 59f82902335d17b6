"""Training candidates of a generation: from the journal where it has them, else by the workers."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from dataclasses import replace

from kerasnac.adapters.workers import WorkerDied
from kerasnac.core.hardware.boards import board
from kerasnac.core.network.training import Training
from kerasnac.core.search.evaluation import Evaluation, Status
from kerasnac.core.search.objectives import COSTS
from kerasnac.stages.context import Context
from kerasnac.stages.search.candidate_training import Job, QuantizedTraining, Result, train_candidate
from kerasnac.stages.search.problem import SearchProblem
from kerasnac.stages.search.records import EvaluationRecords, Trial, trial_of


class Trainer:
    """Puts the results of trainings in place of plans.

    Args:
        problem: Space, settings.
        records: Journal of all evaluations.
        context: Workers and folder.
        report: Called with every evaluation that has a result.
    """

    def __init__(
        self,
        problem: SearchProblem,
        records: EvaluationRecords,
        context: Context,
        report: Callable[[Evaluation], None],
    ) -> None:
        self._problem, self._records, self._context, self._report = problem, records, context, report

    def train(
        self,
        made: list[Evaluation],
        chosen: Iterable[int],
        training: Training,
        status: Status,
        final_failures: Collection[Trial],
    ) -> None:
        """Train some candidates of a generation.

        Args:
            made: The generation; evaluations with results take the places of plans.
            chosen: Which of it to train.
            training: Float training; brief or in full.
            status: Status of a candidate that has been trained.
            final_failures: What failed when the generation was completed before; any other failure is tried again.
        """
        fidelity = self._problem.fidelity(training)
        missing = []
        for i in chosen:
            plan = made[i] = replace(made[i], fidelity=fidelity)
            if trial_of(plan) in final_failures:
                self._put(made, i, self._records.failed(trial_of(plan)))
            elif (known := self._records.trained(trial_of(plan))) is not None:
                # Another search may have called the same training brief, or full.
                self._put(made, i, known if known.status == "infeasible" else replace(known, status=status))
            else:
                missing.append(i)
        jobs = [self._job(made[i], training) for i in missing]
        for position, result in self._context.workers.try_map(train_candidate, jobs):
            i = missing[position]
            outcome = _outcome(made[i], result, status)
            self._records.add(outcome)
            self._put(made, i, outcome)

    def _put(self, made: list[Evaluation], i: int, known: Evaluation) -> None:
        # The costs may be of other settings than the known ones; the metrics of the training are the same.
        before = set(COSTS) - set(self._problem.measured)
        trained = {name: value for name, value in known.metrics.items() if name.removesuffix("_spread") not in before}
        made[i] = replace(
            made[i],
            status=known.status,
            metrics={**trained, **made[i].metrics},
            seconds=known.seconds,
            reason=known.reason,
            searched=self._searched(known) if known.status == "ok" else "",
        )
        self._report(made[i])

    def _job(self, plan: Evaluation, training: Training) -> Job:
        candidate, settings = plan.built, self._problem.settings
        own, quantized = training.with_(**dict(candidate.training)), None
        if candidate.architecture.has_compression_params:
            name = self._searched(plan)
            quantized = QuantizedTraining(
                settings.quantized.of(own, full=settings.training.epochs),
                settings.weight_bits,
                settings.activation_bits,
                settings.adder_graph if self._problem.measured else None,
                board(settings.board),
                self._context.folder / "searched" / name if name else None,
            )
        return Job(candidate, own, plan.seed, settings.folds, quantized, plan.mold)

    def _searched(self, plan: Evaluation) -> str:
        """Return the name of the folder with the quantized network; a cross-validation has no network to keep."""
        kept = self._problem.space.has_compression_genes and self._problem.settings.folds == 1
        return f"{plan.key}-{plan.fidelity.key}" if kept else ""


def _outcome(plan: Evaluation, result: Result | WorkerDied, status: Status) -> Evaluation:
    """Return a plan with the result of its training."""
    if isinstance(result, WorkerDied):
        return replace(plan, status="failed", reason=result.reason)
    return replace(
        plan,
        status="infeasible" if result.reason else status,
        metrics={**result.metrics, **plan.metrics},
        seconds=result.seconds,
        reason=result.reason,
    )
