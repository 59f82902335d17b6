"""Steady mode against generations: how busy 1 to 512 workers are, and what hypervolume costs in wall time. A simulation.

python tests/benchmarks/steady.py [--out DIR] [--measured FILE] [--evaluations 1000] [--population 20] [--seeds 5]

The searches are those of kerasnac, with all that belongs to them but the trainings: :func:`global_search` runs on workers
whose clock is simulated, so that algorithm and schedule are the product's own. How long a candidate trains, and its accuracy,
come from a regression over measured trainings, with its residuals as noise, drawn once for every candidate. ``--measured``
takes a ``search.jsonl`` of the space; by default it is ``steady_jets.csv``: candidates of random search and NSGA-II in
jets_mlp, 50,400 jets, 10 epochs, batches of 128. Its seconds are those of CPU time of the one thread that trains, since the
machine was shared; ``wall`` is the wall time there, whose tail is longer.

Four ways are compared:

* generations of the population;
* generations as large as the number of workers, where that is more: what one would do without a steady mode;
* steady mode, with a lag of twice the workers, and as large as the population at least;
* as completed: the same algorithm is told results as they come in, so that no worker ever waits, and no two runs are the same.

Hypervolume is of (1 - accuracy, log10 of the BOPs at 32 bits), normalised between (0.30, 4.5) and (0.60, 7.5).
"""

from __future__ import annotations

import argparse
import heapq
import itertools
import json
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from kerasnac.adapters.search.nsga2 import Hypervolume, SteadyNsga2
from kerasnac.core.data.dataset import Task, make_dataset
from kerasnac.core.network.bops import bops
from kerasnac.core.search.random_search import distinct
from kerasnac.core.settings import SearchSettings
from kerasnac.core.settings.yaml_files import load_space
from kerasnac.core.space.search_space import Candidate, SearchSpace
from kerasnac.core.store.seeding import derive_seed, generator
from kerasnac.stages.context import Context
from kerasnac.stages.search.candidate_training import Job, Result
from kerasnac.stages.search.global_search import global_search

MEASURED = Path(__file__).with_name("steady_jets.csv")
WORKERS = tuple(2**i for i in range(10))
WAYS = ("generations", "generations of W", "steady", "as completed")
VOLUME = Hypervolume(np.array([[0.30, 4.5]]), np.array([0.60, 7.5]))

Array = NDArray[np.float64]


# What stands in for trainings.


def features(candidate: Candidate) -> Array:
    """What accuracy and training time depend on."""
    network, training = candidate.architecture, dict(candidate.training)
    kinds = [layer.kind for layer in network.layers]
    functions = [layer["fn"] for layer in network.layers if layer.kind == "activation"]
    return np.array(
        [
            kinds.count("dense") / 3,
            np.log10(network.parameters),
            "batch_norm" in kinds,
            *(name in functions for name in ("relu", "tanh", "sigmoid")),
            1e3 * float(training.get("learning_rate", 1e-3)),
            np.log10(float(training.get("l1", 0)) + 1e-7) / 3,
            10 * float(training.get("dropout", 0)),
        ],
        dtype=float,
    )


class Regression:
    """Kernel ridge regression; its leave-one-out residuals are the noise of the values that it predicts.

    Args:
        x: Features, shape (samples, features).
        y: Values, shape (samples,).
    """

    def __init__(self, x: Array, y: Array) -> None:
        self._x, self._mean = x, y.mean()
        fits = [self._fit(y, width, ridge) for width in (0.5, 1.0, 2.0, 4.0) for ridge in (0.01, 0.1, 1.0)]
        _, self._width, self._weights, self.residuals = min(fits, key=lambda fit: fit[0])
        self.explained = 1 - np.mean(self.residuals**2) / np.var(y)

    def _fit(self, y: Array, width: float, ridge: float) -> tuple[float, float, Array, Array]:
        inverse = np.linalg.inv(self._kernel(self._x, width) + ridge * np.eye(len(y)))
        weights = inverse @ (y - self._mean)
        residuals = weights / np.diag(inverse)
        return float(np.mean(residuals**2)), width, weights, residuals

    def _kernel(self, points: Array, width: float) -> Array:
        return np.exp(-((points[:, np.newaxis] - self._x) ** 2).sum(axis=-1) / (2 * width**2))

    def __call__(self, point: Array, rng: np.random.Generator) -> float:
        """Predict a value, with noise."""
        smooth = self._mean + self._kernel(point[np.newaxis], self._width)[0] @ self._weights
        return float(smooth + rng.choice(self.residuals))


class Surrogate:
    """Accuracies and times of trainings that nobody has made.

    Args:
        space: Space of the measured genomes.
        measured: Columns ``genome``, numbers between blanks; ``accuracy``; ``seconds``.
    """

    def __init__(self, space: SearchSpace, measured: pd.DataFrame) -> None:
        candidates = [space.decode(tuple(map(int, genome.split()))) for genome in measured["genome"]]
        x = np.array([features(candidate) for candidate in candidates])
        self.accuracy = Regression(x, measured["accuracy"].to_numpy(float))
        self.log_seconds = Regression(x, np.log(measured["seconds"].to_numpy(float)))
        self._known: dict[str, tuple[float, float, Array]] = {}

    def __call__(self, candidate: Candidate) -> tuple[float, float, Array]:
        """Return accuracy, seconds, and the point in the plane of the hypervolume."""
        if candidate.id not in self._known:
            rng, x = np.random.default_rng(derive_seed(0, candidate.id)), features(candidate)
            accuracy, seconds = self.accuracy(x, rng), float(np.exp(self.log_seconds(x, rng)))
            cost = bops(candidate.architecture, weight_bits=32, activation_bits=32, sparsity=0)
            self._known[candidate.id] = accuracy, seconds, np.array([1 - accuracy, np.log10(cost)])
        return self._known[candidate.id]


def read_measured(path: Path) -> pd.DataFrame:
    """Read trainings from a ``search.jsonl``, or from a CSV file that an earlier call has made of one."""
    if path.suffix == ".csv":
        return pd.read_csv(path)
    records: Any = pd.read_json(path, lines=True)
    records = records[(records["status"] == "ok") & records["metrics.accuracy"].notna()]
    genomes = [" ".join(map(str, genome)) for genome in records["genome"]]
    return pd.DataFrame({"genome": genomes, "accuracy": records["metrics.accuracy"].round(5), "seconds": records["seconds"]})


# The simulation.


@dataclass
class Simulated:
    """Workers with a clock of their own: a training takes no time but that of the clock.

    Attributes:
        processes: Number of workers.
        surrogate: Results and times.
        clock: Seconds since the beginning.
        busy: Seconds that workers have trained, in all.
        done: Time at which every result came, and its point.
    """

    processes: int
    surrogate: Surrogate
    clock: float = 0.0
    busy: float = 0.0
    done: list[tuple[float, Array]] = field(default_factory=list)

    def try_map(self, task: Any, items: Sequence[Job], **options: Any) -> Iterator[tuple[int, Result]]:
        """Train items that are all known at the beginning."""
        waiting = list(items)

        def supply(places: int) -> list[Job]:
            taken = waiting[:places]
            del waiting[:places]
            return taken

        return self.try_supply(task, supply)

    def try_supply(self, task: Any, supply: Callable[[int], Sequence[Job]], **options: Any) -> Iterator[tuple[int, Result]]:
        """Train items as places get free."""
        running: list[tuple[float, int, Job]] = []
        numbers = itertools.count()
        while True:
            if places := self.processes - len(running):
                for job in supply(places):
                    heapq.heappush(running, (self.clock + self.surrogate(job.candidate)[1], next(numbers), job))
            if not running:
                return
            self.clock, number, job = heapq.heappop(running)
            accuracy, seconds, point = self.surrogate(job.candidate)
            self.busy += seconds
            self.done.append((self.clock, point))
            yield number, Result({"accuracy": accuracy, "loss": 1 - accuracy}, seconds)


@dataclass(frozen=True)
class Course:
    """One simulated search.

    Attributes:
        hours: Wall time.
        busy: Fraction of the workers' time in which they trained.
        times: Hours at which results came, ascending.
        volumes: Hypervolume after each of them.
        overhead: Seconds of this process for every candidate: breeding, costs, journals.
    """

    hours: float
    busy: float
    times: Array
    volumes: Array
    overhead: float

    @classmethod
    def of(cls, workers: Simulated, overhead: float) -> Course:
        times = np.array([time for time, _ in workers.done]) / 3600
        volumes, front = [], np.empty((0, 2))
        for _, point in workers.done:
            if not (front <= point).all(axis=1).any():
                front = np.vstack([front[~(point <= front).all(axis=1)], point])
            volumes.append(VOLUME(front))
        return cls(times[-1], workers.busy / workers.processes / workers.clock, times, np.array(volumes), overhead)

    def hours_to(self, volume: float) -> float:
        """Hours after which a hypervolume was reached; infinite if it was not."""
        reached = np.flatnonzero(self.volumes >= volume)
        return float(self.times[reached[0]]) if len(reached) else np.inf


class Simulation:
    """Searches of one space by any of the ways."""

    def __init__(self, space: SearchSpace, surrogate: Surrogate, evaluations: int, population: int) -> None:
        self._space, self._surrogate = space, surrogate
        self._common = {"evaluations": evaluations, "weight_bits": 32, "activation_bits": 32}
        self._population = population
        samples = np.zeros((500, *space.input), np.float32)
        samples[:, 0] = np.arange(500) / 512
        task = Task("classification", space.outputs)
        self._data = make_dataset(samples, np.arange(500) % space.outputs, name="none", task=task, seed=0).development

    def lag(self, workers: int) -> int:
        return max(self._population, 2 * workers)

    def run(self, way: str, workers: int, seed: int, lag: int | None = None) -> Course:
        """Simulate a search."""
        if way == "as completed":
            return self._as_completed(workers, seed)
        settings: dict[str, Any] = {"population": self._population}
        if way == "generations of W":
            settings["population"] = max(self._population, workers)
        if way == "steady":
            settings |= {"mode": "steady", "lag": lag or self.lag(workers)}
        pool, began = Simulated(workers, self._surrogate), time.process_time()
        with tempfile.TemporaryDirectory(dir="/dev/shm" if Path("/dev/shm").is_dir() else None) as folder:
            context = Context(self._data, pool, Path(folder), seed)  # type: ignore[arg-type]
            result = global_search(self._space, SearchSettings(**self._common, **settings), context)
        return Course.of(pool, (time.process_time() - began) / len(result.evaluations))

    def _as_completed(self, workers: int, seed: int) -> Course:
        """Simulate the algorithm of steady mode where results are told as they come in."""
        rng, size = generator(seed, "first generation"), self._population
        first = distinct(lambda: self._space.sample_feasible(rng), self._space, size, set())
        breeder = SteadyNsga2(self._space, first, size=size, objectives=2, constraints=1, seed=seed)
        pool, genomes, most = Simulated(workers, self._surrogate), list[Any](), self._common["evaluations"]

        def supply(places: int) -> list[Job]:
            new = []
            while len(new) < places and len(genomes) < most and (genome := breeder.ask()) is not None:
                genomes.append(genome)
                new.append(Job(self._space.decode(genome), None, 0))  # type: ignore[arg-type]
            return new

        began = time.process_time()
        for number, _ in pool.try_supply(None, supply):
            point = pool.done[-1][1]
            breeder.tell(genomes[number], np.array([[point[0], point[1] * np.log(10)]]), np.zeros((1, 1)))
        return Course.of(pool, (time.process_time() - began) / most)


# Tables.


Runs = dict[tuple[str, int], list[Course]]


def mean(courses: Sequence[Course], value: Callable[[Course], float]) -> float:
    return float(np.mean([value(course) for course in courses]))


def table(title: str, first: str, rows: dict[Any, list[str]], columns: Sequence[str]) -> Table:
    made = Table(title=title)
    for name in (first, *columns):
        made.add_column(name, justify="right")
    for key, cells in rows.items():
        made.add_row(str(key), *cells)
    return made


def show(runs: Runs, population: int, evaluations: int, console: Console) -> None:
    """Print how busy the workers are, how long the searches take, and when they reach which hypervolume."""
    seeds = len(runs["steady", 1])
    goals = [0.99 * min(run.volumes[-1] for run in runs["generations", 1])]
    goals.insert(0, 0.95 * goals[0])
    what = f"{evaluations} candidates, population {population}, {seeds} seeds"
    busy = {w: [f"{100 * mean(runs[way, w], lambda c: c.busy):.1f}" for way in WAYS] for w in WORKERS}
    console.print(table(f"busy workers in percent: {what}", "workers", busy, WAYS))
    hours = {w: [f"{60 * mean(runs[way, w], lambda c: c.hours):.1f}" for way in WAYS] for w in WORKERS}
    console.print(table(f"minutes for all candidates: {what}", "workers", hours, WAYS))
    for goal in goals:
        cells = {w: [reached(runs[way, w], goal) for way in WAYS] for w in WORKERS}
        console.print(table(f"minutes to a hypervolume of {goal:.4f} (median)", "workers", cells, WAYS))
    last = {w: [f"{mean(runs[way, w], lambda c: c.volumes[-1]):.4f}" for way in WAYS] for w in WORKERS}
    console.print(table("hypervolume of all candidates", "workers", last, WAYS))
    overhead = {way: f"{1000 * mean(runs[way, 1], lambda c: c.overhead):.1f} ms" for way in WAYS}
    console.print("this process needs, for every candidate: " + ", ".join(f"{way} {o}" for way, o in overhead.items()))


def reached(courses: Sequence[Course], goal: float) -> str:
    minutes = 60 * float(np.median([course.hours_to(goal) for course in courses]))
    return f"{minutes:.1f}" if np.isfinite(minutes) else "not"


def show_lags(simulation: Simulation, workers: int, seeds: int, console: Console) -> None:
    """Print what the lag costs and brings."""
    rows = {}
    for factor in (1, 1.25, 1.5, 2, 3, 4):
        lag = max(1, round(factor * workers))
        runs = [simulation.run("steady", workers, seed, lag) for seed in range(seeds)]
        rows[f"{factor:g}"] = [
            str(lag),
            f"{100 * mean(runs, lambda c: c.busy):.1f}",
            f"{60 * mean(runs, lambda c: c.hours):.1f}",
            f"{mean(runs, lambda c: c.volumes[-1]):.4f}",
        ]
    columns = ("lag", "busy, percent", "minutes", "hypervolume")
    console.print(table(f"steady mode, {workers} workers, by the lag", "lag / workers", rows, columns))


def plot(runs: Runs, path: Path) -> None:
    """Draw busy workers by their number, and hypervolume by wall time for some of them."""
    from matplotlib.figure import Figure

    shown = (4, 64, 512)
    figure = Figure(figsize=(16, 4), layout="constrained")
    axes = figure.subplots(1, 1 + len(shown))
    for way in WAYS:
        axes[0].plot(WORKERS, [100 * mean(runs[way, w], lambda c: c.busy) for w in WORKERS], ".-", label=way)
    axes[0].set(xscale="log", xlabel="workers", ylabel="busy, percent", ylim=(0, 102))
    axes[0].legend()
    for axis, workers in zip(axes[1:], shown, strict=True):
        end = max(course.times[-1] for way in WAYS for course in runs[way, workers])
        grid = np.geomspace(end / 300, end, 300)
        for way in WAYS:
            curves = [np.concatenate([[0], c.volumes])[np.searchsorted(c.times, grid)] for c in runs[way, workers]]
            axis.plot(60 * grid, np.mean(curves, axis=0), label=way)
        axis.set(xscale="log", xlabel="minutes", ylabel="hypervolume", title=f"{workers} workers")
    figure.savefig(path, dpi=120)


def remember_decoded() -> None:
    """Let spaces decode every genome once: this process makes the same searches again and again."""
    decode, known = SearchSpace.decode, dict[Any, Any]()

    def remembered(space: SearchSpace, genome: Sequence[int]) -> Candidate:
        key = id(space), tuple(genome)
        if key not in known:
            known[key] = decode(space, genome)
        return known[key]  # type: ignore[no-any-return]

    SearchSpace.decode = remembered  # type: ignore[method-assign]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, help="folder for measured.csv, steady.json and steady.png")
    parser.add_argument("--measured", type=Path, default=MEASURED)
    parser.add_argument("--space", default="jets_mlp")
    parser.add_argument("--evaluations", type=int, default=1000)
    parser.add_argument("--population", type=int, default=20)
    parser.add_argument("--seeds", type=int, default=5)
    options = parser.parse_args()
    console, space = Console(width=110), load_space(options.space)
    remember_decoded()
    measured = read_measured(options.measured)
    surrogate = Surrogate(space, measured)
    seconds = measured["seconds"]
    console.print(
        f"{len(measured)} measured trainings: {seconds.mean():.2f} s, deviation {seconds.std():.2f} s, longest "
        f"{seconds.max():.2f} s; the regression explains {100 * surrogate.accuracy.explained:.0f} % of the variance of the "
        f"accuracy and {100 * surrogate.log_seconds.explained:.0f} % of that of log(seconds)"
    )
    simulation = Simulation(space, surrogate, options.evaluations, options.population)
    runs: Runs = {
        (way, workers): [simulation.run(way, workers, seed) for seed in range(options.seeds)]
        for way in WAYS
        for workers in WORKERS
    }
    show(runs, options.population, options.evaluations, console)
    show_lags(simulation, 64, options.seeds, console)
    if options.out:
        options.out.mkdir(parents=True, exist_ok=True)
        measured.to_csv(options.out / "measured.csv", index=False)
        record = {
            f"{way}, {w} workers": {"busy": [c.busy for c in r], "hours": [c.hours for c in r]} for (way, w), r in runs.items()
        }
        (options.out / "steady.json").write_text(json.dumps(record, indent=1))
        plot(runs, options.out / "steady.png")


if __name__ == "__main__":
    main()
