"""The training engine against Keras' own ``fit``: how much faster it is, and whether it trains the same networks.

python tests/benchmarks/engine.py ratio --data jets.npz [--spaces jets_mlp ...] [--populations 1 4 16 64] [--epochs 10]
python tests/benchmarks/engine.py paired --data jets.npz [--spaces jets_mlp ...] [--networks 20]

Both train random candidates of a space by the function that a search calls in its workers, once as it is and once with
every training left to ``fit``: same architectures, hyperparameters, seeds, starting weights and batches.

``ratio`` trains populations in fresh worker processes, so that their start and all compilation count. ``fit`` trains the
first candidates only, and larger populations are extrapolated from them: their mean, and one start of the workers. The
ratio of a population compares the candidates that both have trained; its spread is that of populations drawn from these
with replacement. CPU seconds are those of the worker processes with all their threads, and hold where other programs
share the machine; wall seconds do not.

``paired`` compares metric and loss on validation of the networks whose trainings the engine has all compiled. Beside the
difference of the two ways stands that of the engine with itself under another seed: what the choice of a seed changes.
"""

from __future__ import annotations

import argparse
import os
import resource
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from kerasnac import datasets
from kerasnac.adapters.workers import LocalWorkers
from kerasnac.core.data.dataset import Development, Split
from kerasnac.core.hardware.boards import board
from kerasnac.core.network.mold import fitting
from kerasnac.core.network.training import Training
from kerasnac.core.settings import RunSettings
from kerasnac.core.settings.yaml_files import load_run
from kerasnac.core.space.search_space import Candidate
from kerasnac.core.space.shared_molds import shared_molds
from kerasnac.core.store.seeding import generator
from kerasnac.stages.search.candidate_training import Job, QuantizedTraining, train_candidate, training_seed

SPACES = ("jets_mlp", "jets_mlp_luts", "jets_deepsets", "bragg_exact")

#: Validation samples, at most.
VALIDATION = 20_000

#: Populations that are drawn for the spread of a ratio.
DRAWS = 1000

CONSOLE = Console(width=170, highlight=False)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    commands = parser.add_subparsers(dest="command", required=True)
    ratio = commands.add_parser("ratio", help="candidates per hour both ways")
    ratio.add_argument("--populations", type=int, nargs="+", default=[1, 4, 16, 64], help="numbers of candidates")
    ratio.add_argument("--reference", type=int, default=8, help="candidates that Keras trains, at most")
    paired = commands.add_parser("paired", help="difference of the validation metrics")
    paired.add_argument("--networks", type=int, default=20, help="networks of every space")
    for command, samples, workers in ((ratio, 50_000, 2), (paired, 20_000, 1)):
        command.add_argument("--spaces", nargs="+", default=SPACES, help="names or paths of run files")
        command.add_argument("--data", type=Path, help="jets for kn.datasets.jets")
        command.add_argument("--samples", type=int, default=samples, help="training samples, at most")
        command.add_argument("--epochs", type=int, help="of the float training; that of the space by default")
        command.add_argument("--batch", type=int, help="batch size; that of the space by default")
        command.add_argument("--workers", type=int, default=workers)
        command.add_argument("--seed", type=int, default=0)
        command.add_argument("--out", type=Path, help="folder for a CSV file of all trainings")
    options = parser.parse_args()
    run = compare_speed if options.command == "ratio" else compare_metrics
    for space in options.spaces:
        settings = load_run(space)
        data = development(settings, options)
        training = training_of(settings, options)
        steps = f"{training.epochs} epochs, batches of {training.batch_size}"
        CONSOLE.print(f"{space}: {len(data.train)} training samples, {steps}, {options.workers} workers")
        trained = pd.DataFrame(run(settings, data, options))
        if options.out is not None:
            options.out.mkdir(parents=True, exist_ok=True)
            trained.to_csv(options.out / f"{options.command}_{settings.name}.csv", index=False)


# Candidates.


def development(settings: RunSettings, options: argparse.Namespace) -> Development:
    """Load the data of a run file, and cut them to a number of training samples."""
    own = dict(settings.dataset.options)
    if settings.dataset.source == "jets":
        own["path"] = options.data
    data = datasets.load(settings.dataset.source, **own).development

    def cut(split: Split, count: int) -> Split:
        return Split(split.x[:count], split.y[:count])

    return replace(data, train=cut(data.train, options.samples), validation=cut(data.validation, VALIDATION))


def training_of(settings: RunSettings, options: argparse.Namespace) -> Training:
    """Return the float training of a space, with the epochs and the batch size that are asked for."""
    training = settings.search.training
    changes = {"epochs": options.epochs, "batch_size": options.batch}
    return training.with_(**{name: value for name, value in changes.items() if value is not None})


def jobs_of(settings: RunSettings, options: argparse.Namespace, count: int, *, molded: bool = False) -> list[Job]:
    """Draw candidates, and return their trainings as a search has them.

    Args:
        settings: Space and search.
        options: Seed, epochs, batch size.
        count: Number of candidates, all different.
        molded: True leaves out the candidates that share no form with others.
    """
    space, search, training = settings.space, settings.search, training_of(settings, options)
    rng, molds = generator(options.seed, "benchmark of the engine"), shared_molds(space)
    # The second training has its own epochs, or as much less as the first one is shorter.
    full = search.training.epochs

    def job(candidate: Candidate) -> Job:
        own, quantized = training.with_(**dict(candidate.training)), None
        if candidate.architecture.has_compression_params:
            graph = search.adder_graph if search.adder_graph.weights == "trained" else None
            second = search.quantized.of(own, full=full)
            quantized = QuantizedTraining(second, search.weight_bits, search.activation_bits, graph, board(search.board))
        seed = training_seed(options.seed, candidate.id)
        return Job(candidate, own, seed, quantized=quantized, mold=fitting(molds, candidate.architecture))

    found: dict[str, Job] = {}
    while len(found) < count:
        made = job(space.decode(space.sample_feasible(rng)))
        if made.mold is not None or not molded:
            found.setdefault(made.candidate.id, made)
    return list(found.values())


# Trainings, in a worker.


@dataclass(frozen=True)
class Timed:
    """A training to measure.

    Attributes:
        job: The candidate.
        keras: True leaves it to ``fit``.
    """

    job: Job
    keras: bool


def train_timed(data: Development, timed: Timed) -> dict[str, Any]:
    """Train a candidate, and return its metrics with the seconds of its phases; runs in a worker."""
    from kerasnac.adapters.keras import train as choice

    spent = watch()
    spent.clear()
    began, cpu = time.perf_counter(), time.process_time()
    if timed.keras:
        with patch.object(choice, "_form", lambda *_: None):
            result = train_candidate(data, timed.job)
    else:
        result = train_candidate(data, timed.job)
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return {
        "candidate": timed.job.candidate.id,
        "shared": timed.job.mold is not None,
        "dropout": timed.job.training.dropout > 0,
        "keras": timed.keras,
        "process": os.getpid(),
        **{name: result.metrics[name] for name in (data.task.metric, "loss")},
        "seconds": time.perf_counter() - began,
        "cpu": time.process_time() - cpu,
        "memory": usage.ru_maxrss / 2**20,
        **{name: spent[name] for name in ("compile", "compile cpu", "kinds", "steps", "fit", "fits", "graph")},
    }


def watch() -> Counter[str]:
    """Measure the phases of all trainings of this process from now on; return their seconds, and how often they ran.

    The compilation is taken apart from the first steps by a call for no steps before them.
    """
    from kerasnac.adapters.keras import train as choice
    from kerasnac.adapters.keras.engine import trainer
    from kerasnac.adapters.rtl import adder_graph

    if hasattr(trainer.CompiledTraining, "spent"):
        return trainer.CompiledTraining.spent
    spent: Counter[str] = Counter()

    def clocked(function: Callable[..., Any], phase: str, count: str) -> Callable[..., Any]:
        def call(*arguments: Any, **named: Any) -> Any:
            began, cpu = time.perf_counter(), time.process_time()
            try:
                return function(*arguments, **named)
            finally:
                spent[phase] += time.perf_counter() - began
                spent[f"{phase} cpu"] += time.process_time() - cpu
                spent[count] += 1

        return call

    class Watched(trainer.CompiledTraining):
        def __init__(self, kind: Any) -> None:
            clocked(super().__init__, "compile", "made")(kind)
            steps, known = self._steps, set()
            compiling, running = clocked(steps, "compile", "kinds"), clocked(steps, "steps", "calls")

            def call(x: Any, y: Any, own: Any, plan: Any, begin: Any, end: Any) -> None:
                shapes = (x.shape, plan["order"].shape)
                if shapes not in known:
                    known.add(shapes)
                    compiling(x, y, own, plan, begin, begin)
                running(x, y, own, plan, begin, end)

            self._steps = call

    Watched.spent = spent
    trainer.CompiledTraining = Watched
    choice.fit_by_keras = clocked(choice.fit_by_keras, "fit", "fits")
    adder_graph.adder_graph_costs = clocked(adder_graph.adder_graph_costs, "graph", "graphs")
    return spent


# Ratio.


@dataclass(frozen=True)
class Population:
    """Trainings of a population in fresh workers.

    Attributes:
        rows: One per candidate, in their order.
        wall: Seconds to the last result, the start of the workers included.
        cpu: CPU seconds of the workers.
        workers: Number of workers.
    """

    rows: pd.DataFrame
    wall: float
    cpu: float
    workers: int

    @classmethod
    def train(cls, data: Development, jobs: Sequence[Job], workers: int, *, keras: bool) -> Population:
        """Train candidates."""
        before, began = _children(), time.perf_counter()
        with LocalWorkers(data, workers) as pool:
            found = dict(pool.map(train_timed, [Timed(job, keras) for job in jobs]))
            wall = time.perf_counter() - began
        rows = pd.DataFrame([found[i] for i in range(len(jobs))])
        return cls(rows, wall, _children() - before, workers)

    def own(self, clock: str) -> NDArray[np.float64]:
        """Seconds by which each candidate prolongs the training of the population, without any compilation.

        Args:
            clock: ``wall`` or ``cpu``.
        """
        return self._seconds(clock) - self._compilation(clock)

    def fixed(self, clock: str) -> float:
        """Seconds that do not grow with the population: the start of the workers, and the compilation."""
        return self.total(clock) - float(self.own(clock).sum())

    def total(self, clock: str) -> float:
        """Seconds of the population."""
        return self.wall if clock == "wall" else self.cpu

    def _seconds(self, clock: str) -> NDArray[np.float64]:
        return (self.rows["seconds"] / self.workers if clock == "wall" else self.rows["cpu"]).to_numpy()

    def _compilation(self, clock: str) -> NDArray[np.float64]:
        return (self.rows["compile"] / self.workers if clock == "wall" else self.rows["compile cpu"]).to_numpy()


def _children() -> float:
    """Return the CPU seconds of all processes that this one has started and that have ended."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def compare_speed(settings: RunSettings, data: Development, options: argparse.Namespace) -> list[dict[str, Any]]:
    """Print the ratio table of a space and the phases of its trainings; return all trainings."""
    jobs = jobs_of(settings, options, max(options.populations))
    reference = Population.train(data, jobs[: options.reference], options.workers, keras=True)
    trained = {n: Population.train(data, jobs[:n], options.workers, keras=False) for n in sorted(options.populations)}
    print_ratios(settings.name, trained, reference)
    print_phases(settings.name, trained, reference)
    groups = {"fit": reference, **{f"engine, {n}": population for n, population in trained.items()}}
    return [{"population": name, **row} for name, group in groups.items() for row in group.rows.to_dict("records")]


def print_ratios(name: str, trained: dict[int, Population], reference: Population) -> None:
    """Print how many candidates per hour both ways train, by the size of the population."""
    table = Table(title=f"{name}: seconds per candidate, candidates per hour, and fit / engine", title_justify="left")
    columns = (
        "candidates",
        "wall engine",
        "fit",
        "CPU engine",
        "fit",
        "per hour engine",
        "fit",
        "ratio of wall",
        "ratio of CPU",
    )
    for column in (*columns, "compilation s wall", "CPU", "memory GB engine", "fit"):
        table.add_column(column, justify="right")
    largest = trained[max(trained)]
    for n, population in trained.items():
        matched = min(n, len(reference.rows))
        seconds = {
            clock: (population.total(clock) / n, reference.fixed(clock) / n + reference.own(clock)[:matched].mean())
            for clock in ("wall", "cpu")
        }
        table.add_row(
            str(n),
            *(f"{value:.2f}" for pair in seconds.values() for value in pair),
            *(f"{3600 / value:.0f}" for value in seconds["wall"]),
            *(f"{b / a:.1f} ± {spread(n, population, largest, reference, c):.1f}" for c, (a, b) in seconds.items()),
            *(f"{population.rows[clock].sum():.1f}" for clock in ("compile", "compile cpu")),
            f"{population.rows['memory'].max():.2f}",
            f"{reference.rows['memory'].max():.2f}",
        )
    CONSOLE.print(table)


def spread(n: int, population: Population, largest: Population, reference: Population, clock: str) -> float:
    """Return the standard deviation of the ratio over populations of ``n`` candidates that both ways have trained."""
    known = min(len(reference.rows), len(largest.rows))
    drawn = np.random.default_rng(0).integers(0, known, (DRAWS, n))
    by_keras = reference.fixed(clock) + reference.own(clock)[drawn].sum(axis=1)
    by_engine = population.fixed(clock) + largest.own(clock)[drawn].sum(axis=1)
    return float(np.std(by_keras / by_engine))


def print_phases(name: str, trained: dict[int, Population], reference: Population) -> None:
    """Print where the wall seconds of a candidate go."""
    table = Table(title=f"{name}: seconds per candidate by phase", title_justify="left")
    phases = ("worker start", "compile", "steps", "fit", "adder graph", "rest")
    for column in (
        "trained by",
        "candidates",
        *phases,
        "processes",
        "functions compiled",
        "trainings by fit",
        "with a shared form",
    ):
        table.add_column(column, justify="right")
    groups = [("fit", reference), *(("engine", population) for population in trained.values())]
    for way, population in groups:
        rows, n = population.rows, len(population.rows)
        known = [rows[phase].sum() for phase in ("compile", "steps", "fit", "graph")]
        start = population.wall * population.workers - rows["seconds"].sum()
        seconds = (start, *known, rows["seconds"].sum() - sum(known))
        counts = (rows["process"].nunique(), *(int(rows[count].sum()) for count in ("kinds", "fits", "shared")))
        table.add_row(way, str(n), *(f"{value / n:.2f}" for value in seconds), *map(str, counts))
    CONSOLE.print(table)


# Paired comparison.


def compare_metrics(settings: RunSettings, data: Development, options: argparse.Namespace) -> list[dict[str, Any]]:
    """Print the paired comparison of a space; return all trainings."""
    jobs = jobs_of(settings, options, options.networks, molded=True)
    reseeded = [replace(job, seed=training_seed(options.seed + 1, job.candidate.id)) for job in jobs]
    ways = {"engine": (jobs, False), "another seed": (reseeded, False), "fit": (jobs, True)}
    trained: dict[str, pd.DataFrame] = {}
    with LocalWorkers(data, options.workers) as pool:
        for way, (chosen, keras) in ways.items():
            began = time.perf_counter()
            found = dict(pool.map(train_timed, [Timed(job, keras) for job in chosen]))
            trained[way] = pd.DataFrame([found[i] for i in range(len(chosen))])
            CONSOLE.print(f"{way}: {time.perf_counter() - began:.0f} s")
    compiled = trained["engine"]["fits"] == 0
    print_differences(settings.name, data.task.metric, {way: rows[compiled] for way, rows in trained.items()})
    return [{"way": way, **row} for way, rows in trained.items() for row in rows.to_dict("records")]


def print_differences(name: str, metric: str, trained: dict[str, pd.DataFrame]) -> None:
    """Print the differences of metric and loss between the two ways, and between two seeds.

    Args:
        name: Of the space.
        metric: Name of the task metric.
        trained: Trainings by way, one per network and in one order.
    """
    table = Table(title=f"{name}: engine - fit, and engine - engine with another seed", title_justify="left")
    columns = ("on validation", "dropout", "networks", "mean of fit")
    for column in (*columns, "difference", "deviation", "median", "largest", "of seeds", "deviation", "median", "largest"):
        table.add_column(column, justify="right")
    for value in (metric, "loss"):
        engine, other, fit = (trained[way][value].to_numpy() for way in ("engine", "another seed", "fit"))
        dropout = trained["engine"]["dropout"].to_numpy()
        for word, own in (("no", ~dropout), ("yes", dropout), ("any", np.full_like(dropout, True))):
            if own.sum() > 1 and (word != "any" or len(set(dropout)) > 1):
                parts = (*statistics(engine[own] - fit[own]), *statistics(engine[own] - other[own]))
                table.add_row(value, word, str(own.sum()), f"{fit[own].mean():.4f}", *parts)
    CONSOLE.print(table)


def statistics(differences: NDArray[np.float64]) -> tuple[str, ...]:
    """Return the mean with its standard error, the standard deviation, and median and largest of the absolute values."""
    deviation, sizes = float(np.std(differences, ddof=1)), np.abs(differences)
    mean = f"{np.mean(differences):.5f} ± {deviation / len(differences) ** 0.5:.5f}"
    return mean, *(f"{value:.5f}" for value in (deviation, np.median(sizes), sizes.max()))


if __name__ == "__main__":
    main()
