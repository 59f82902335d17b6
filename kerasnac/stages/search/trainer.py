"""Training candidates of a generation: from the journal where it has them, else by the workers."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import replace

from kerasnac.adapters.workers import WorkerDied
from kerasnac.core.hardware.boards import board
from kerasnac.core.network.training import Training
from kerasnac.core.search.evaluation import Evaluation, Status
from kerasnac.core.search.objectives import COSTS
from kerasnac.core.store.progress import working
from kerasnac.stages.context import Context
from kerasnac.stages.search.candidate_training import Job, QuantizedTraining, Result, train_candidate
from kerasnac.stages.search.problem import SearchProblem
from kerasnac.stages.search.records import EvaluationRecords, Trial, trial_of
from kerasnac.stages.search.short_ramp import ShortRamp


class Trainer:
    """Puts the results of trainings in place of plans.

    Args:
        problem: Space, settings.
        records: Journal of all evaluations.
        context: Workers and folder.
        report: Called with every evaluation that has a result, and True if the journal had it.

    Attributes:
        by_keras: Number of candidates so far of which a training could not be compiled, and took longer.
    """

    def __init__(
        self,
        problem: SearchProblem,
        records: EvaluationRecords,
        context: Context,
        report: Callable[[Evaluation, bool], None],
    ) -> None:
        self._problem, self._records, self._context, self._report = problem, records, context, report
        self.by_keras = 0

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
        missing = []
        for i in chosen:
            plan = made[i] = replace(made[i], fidelity=self._problem.fidelity(training))
            known = self.known(plan, status, final_failures)
            if known is None:
                missing.append(i)
            else:
                made[i] = known
        jobs = [self._job(made[i], training) for i in missing]
        watch = working(self._context.progress, "search", [made[i].key for i in missing])
        for position, result in self._context.workers.try_map(train_candidate, jobs, watch=watch):
            i = missing[position]
            made[i] = self._finished(made[i], result, status)

    def train_supplied(self, supply: Callable[[int], Sequence[Evaluation]]) -> Iterator[Evaluation]:
        """Train candidates in full as places get free, and yield them with their results as those come in.

        Args:
            supply: Called with a number of free places; returns as many plans at most, or none if there are none for now.
        """
        plans: list[Evaluation] = []
        names: list[str] = []
        watch = working(self._context.progress, "search", names)

        def jobs(places: int) -> list[Job]:
            new = supply(places)
            plans.extend(new)
            names.extend(plan.key for plan in new)
            return [self._job(plan, self._problem.settings.training) for plan in new]

        for number, result in self._context.workers.try_supply(train_candidate, jobs, watch=watch):
            yield self._finished(plans[number], result, "ok")

    def known(self, plan: Evaluation, status: Status, final_failures: Collection[Trial]) -> Evaluation | None:
        """Return a plan with the result that the journal has; None if it is to be trained.

        Args:
            plan: A candidate to train, with its fidelity.
            status: Status of a candidate that has been trained.
            final_failures: What failed when the generation was completed before; any other failure is tried again.
        """
        if trial_of(plan) in final_failures:
            return self._with_result(plan, self._records.failed(trial_of(plan)), recorded=True)
        known = self._records.trained(trial_of(plan))
        if known is None:
            return None
        # Another search may have called the same training brief, or full.
        return self._with_result(plan, known if known.status == "infeasible" else replace(known, status=status), recorded=True)

    def _finished(self, plan: Evaluation, result: Result | WorkerDied, status: Status) -> Evaluation:
        self.by_keras += isinstance(result, Result) and not result.compiled
        outcome = _outcome(plan, result, status)
        self._records.add(outcome)
        return self._with_result(plan, outcome, recorded=False)

    def _with_result(self, plan: Evaluation, known: Evaluation, *, recorded: bool) -> Evaluation:
        # The costs may be of other settings than the known ones; the metrics of the training are the same.
        before = {*COSTS, *self._problem.settings.foreign_costs} - {*self._problem.measured}
        trained = {name: value for name, value in known.metrics.items() if name.removesuffix("_spread") not in before}
        made = replace(
            plan,
            status=known.status,
            metrics=self._problem.timed({**trained, **plan.metrics}),
            points=tuple(replace(point, metrics=self._problem.timed(point.metrics)) for point in known.points),
            seconds=known.seconds,
            reason=known.reason,
            searched=self._searched(known) if known.status == "ok" else "",
            mold=self._problem.mold(plan.built.architecture),
        )
        self._report(made, recorded)
        return made

    def _job(self, plan: Evaluation, training: Training) -> Job:
        candidate, settings = plan.built, self._problem.settings
        own, quantized, ramp = training.with_(**dict(candidate.training)), None, None
        graph, of_board = settings.adder_graph if self._problem.unrolls else None, board(settings.board)
        if settings.learned:
            ramp = ShortRamp(settings.learned, graph, of_board)
        if candidate.architecture.has_compression_params:
            name = self._searched(plan)
            quantized = QuantizedTraining(
                settings.quantized.of(own, full=settings.training.epochs),
                settings.weight_bits,
                settings.activation_bits,
                graph,
                of_board,
                self._context.folder / "searched" / name if name else None,
                settings.quantized.tie_free,
            )
        return Job(candidate, own, plan.seed, settings.folds, quantized, ramp, self._problem.mold(candidate.architecture))

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
        points=result.points,
        seconds=result.seconds,
        reason=result.reason,
    )
