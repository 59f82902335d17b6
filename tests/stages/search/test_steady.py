"""Searches in steady mode: the order of events, which no timing changes, and how they are resumed."""

from __future__ import annotations

import json
import logging
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kerasnac.adapters.workers import LocalWorkers
from kerasnac.core.data.dataset import Dataset
from kerasnac.core.network.training import Training
from kerasnac.core.settings import SearchSettings
from kerasnac.core.space.blocks import Mlp
from kerasnac.core.space.search_space import Genome, SearchSpace
from kerasnac.errors import RunError
from kerasnac.stages.run import Run
from kerasnac.stages.search.candidate_training import Job
from kerasnac.stages.search.result import SearchResult
from kerasnac.stages.search.steady import Course, Values
from tests.stages.search.instant import SETTINGS, Instant, changed, course, essence, search
from tests.stand_ins import without_trainings

STEADY = changed(mode="steady")
BUDGET = {"parameters": 170.0}
#: 4096 networks of four layers.
LARGE = SearchSpace(input=6, outputs=3, blocks=tuple(Mlp(widths=(tuple(range(2, 10)),)) for _ in range(4)))


def small(job: Job) -> bool:
    return job.candidate.architecture.parameters < 80


def genomes(result: SearchResult) -> list[Genome]:
    return [e.genome for e in result.evaluations]


# The order of events.


class Counting:
    """Breeder of numbers, which notes all events; nothing is bred at some points."""

    def __init__(self, dry: frozenset[int] = frozenset()) -> None:
        self.events: list[str] = []
        self._dry, self._calls, self._next = dry, 0, 0

    def ask(self) -> Genome | None:
        self._calls += 1
        if self._calls in self._dry:
            self.events.append("none")
            return None
        self._next += 1
        self.events.append(f"ask {self._next - 1}")
        return (self._next - 1,)

    def tell(self, genome: Genome, objectives: Any, constraints: Any) -> None:
        assert objectives.shape == (1, 1)
        self.events.append(f"tell {genome[0]} {objectives[0, 0]:g}")


def value(number: int) -> Values:
    return np.array([[10.0 * number]]), np.array([[0.0]]), [1]


def events(
    lag: int, many: int, workers: int, order: int, *, dry: frozenset[int], trained: set[int], patience: int
) -> list[str]:
    """The events of a course of so many candidates, of which some are trained by workers in a random order."""
    rng, breeder = np.random.default_rng(order), Counting(dry)
    made, running = Course(breeder, lag, patience), []
    while True:
        while len(running) < workers and made.asked < many and made.ready():
            if made.ask() is None:
                continue
            if (number := made.asked - 1) in trained:
                made.enter()
                running.append(number)
            else:
                made.settle(value(number))
        if not running:
            return breeder.events
        number = running.pop(rng.integers(len(running)))
        made.put(number, value(number))


def test_the_events_by_hand() -> None:
    """Three trainings may be without a result; candidate 2 is not trained."""
    assert events(3, 6, 2, 0, dry=frozenset({5}), trained={0, 1, 3, 4, 5}, patience=9) == [
        *("ask 0", "ask 1", "ask 2", "tell 2 20", "ask 3", "tell 0 0"),
        *("none", "tell 1 10", "ask 4", "ask 5"),
    ]


@given(
    lag=st.integers(1, 9),
    trained=st.sets(st.integers(0, 29)),
    dry=st.frozensets(st.integers(1, 35), max_size=6),
    patience=st.integers(1, 5),
    others=st.lists(st.tuples(st.integers(1, 12), st.integers(0, 99)), min_size=1, max_size=3),
)
def test_neither_workers_nor_the_order_of_results_change_the_events(
    lag: int, trained: set[int], dry: frozenset[int], patience: int, others: list[tuple[int, int]]
) -> None:
    """A search that stops after so many candidates has the events of a longer one, up to there."""
    given_events = {"dry": dry, "trained": trained, "patience": patience}
    whole = events(lag, 30, 1, 0, **given_events)
    for workers, order in others:
        assert events(lag, 30, workers, order, **given_events) == whole
    shorter = events(lag, 17, 4, 1, **given_events)
    assert shorter == whole[: len(shorter)]


@pytest.mark.parametrize("lag", [1, 4, 12])
def test_no_more_than_the_lag_are_without_a_result(lag: int) -> None:
    seen = events(lag, 40, 99, 0, dry=frozenset(), trained=set(range(40)), patience=9)
    untold = np.cumsum([1 if event.startswith("ask") else -1 for event in seen])
    assert untold.max() == lag
    assert [event for event in seen if event.startswith("tell")] == [f"tell {i} {10 * i}" for i in range(40 - lag)]


# Searches.


@pytest.mark.parametrize("algorithm", ["nsga2", "random"])
def test_a_steady_search_depends_on_no_timing(algorithm: str, vector_classes: Dataset, tmp_path: Path) -> None:
    settings = changed(STEADY, algorithm=algorithm, budgets=BUDGET, stagnation=3)
    results = []
    for number, (processes, order) in enumerate([(1, 0), (2, 1), (3, 2), (16, 3), (16, 4)]):
        workers = Instant(processes=processes, order=order)
        results.append(search(LARGE, vector_classes, tmp_path / str(number), workers, settings))
    for result in results[1:]:
        assert (essence(result), course(result)) == (essence(results[0]), course(results[0]))
    assert Counter(e.status for e in results[0].evaluations).keys() == {"ok", "over_budget"}
    assert len(results[0].trained) == 20
    keys = [e.key for e in results[0].evaluations]
    assert len(set(keys)) == len(keys)
    assert [e.index for e in results[0].evaluations] == list(range(len(keys)))


def test_seed_and_lag_decide_the_candidates(vector_classes: Dataset, tmp_path: Path) -> None:
    made = [
        genomes(search(LARGE, vector_classes, tmp_path / str(i), settings=settings, seed=seed))
        for i, (settings, seed) in enumerate([(STEADY, 0), (STEADY, 1), (changed(STEADY, lag=3), 0), (SETTINGS, 0)])
    ]
    assert made[0][:6] == made[2][:6] == made[3][:6] != made[1][:6]
    assert len({tuple(sequence) for sequence in made}) == 4
    six = genomes(search(LARGE, vector_classes, tmp_path / "six", settings=changed(STEADY, lag=6)))
    assert six == made[0]


@pytest.mark.parametrize("evaluations", [1, 5, 6, 7, 13])
def test_any_number_of_evaluations_is_met_exactly_and_continued(
    evaluations: int, mlp_space: SearchSpace, vector_classes: Dataset, tmp_path: Path
) -> None:
    short = search(mlp_space, vector_classes, tmp_path, settings=changed(STEADY, evaluations=evaluations))
    assert len(short.trained) == evaluations
    assert short.stopped == "all that were asked for"
    workers = Instant(processes=5)
    long = search(mlp_space, vector_classes, tmp_path, workers, STEADY)
    whole = search(mlp_space, vector_classes, tmp_path / "whole", settings=STEADY)
    assert essence(long) == essence(whole)
    assert long.evaluations[:evaluations] == short.evaluations
    assert len(workers.jobs) == 20 - evaluations


@pytest.mark.parametrize("trained", [0, 1, 6, 13, 19])
def test_an_interrupted_search_is_resumed(trained: int, vector_classes: Dataset, tmp_path: Path) -> None:
    settings = changed(STEADY, budgets=BUDGET)
    whole = search(LARGE, vector_classes, tmp_path / "whole", settings=settings)
    with pytest.raises(KeyboardInterrupt):
        search(LARGE, vector_classes, tmp_path / "cut", Instant(fails_after=trained, processes=4), settings)
    workers = Instant(processes=3, order=7)
    resumed = search(LARGE, vector_classes, tmp_path / "cut", workers, settings)
    assert (essence(resumed), course(resumed)) == (essence(whole), course(whole))
    assert len(workers.jobs) == 20 - trained
    assert search(LARGE, vector_classes, tmp_path / "cut", Instant(fails_after=0), settings) == resumed


def test_a_search_is_resumed_from_journals_cut_anywhere(
    mlp_space: SearchSpace, vector_classes: Dataset, tmp_path: Path
) -> None:
    whole = search(mlp_space, vector_classes, tmp_path / "whole", Instant(processes=5), STEADY)
    evaluations, generations = ((tmp_path / "whole" / f"{name}.jsonl").read_bytes() for name in ("search", "generations"))
    for cut in [*range(0, len(evaluations), 997), len(evaluations)]:
        folder = tmp_path / str(cut)
        folder.mkdir()
        (folder / "search.jsonl").write_bytes(evaluations[:cut])
        if cut % 2:
            (folder / "generations.jsonl").write_bytes(generations[: cut % len(generations)])
        workers = Instant(processes=3, order=cut)
        resumed = search(mlp_space, vector_classes, folder, workers, STEADY)
        assert (essence(resumed), course(resumed)) == (essence(whole), course(whole))
        assert len(workers.jobs) == 20 - evaluations[:cut].count(b"\n")


def test_generations_are_blocks_of_candidates(mlp_space: SearchSpace, vector_classes: Dataset, tmp_path: Path) -> None:
    result = search(mlp_space, vector_classes, tmp_path, Instant(processes=9), changed(STEADY, evaluations=18))
    frame = pd.read_json(tmp_path / "generations.jsonl", lines=True)
    assert list(frame["number"]) == [0, 1, 2]
    assert list(frame["evaluations"]) == [6, 12, 18]
    assert [e.generation for e in result.evaluations] == [i // 6 for i in range(18)]
    assert list(frame["hypervolume"]) == sorted(frame["hypervolume"])


def test_a_search_that_does_not_improve_ends(mlp_space: SearchSpace, vector_classes: Dataset, tmp_path: Path) -> None:
    settings = changed(STEADY, objectives=("metric",), stagnation=2, population=3, lag=4)
    results = [
        search(mlp_space, vector_classes, tmp_path / str(n), Instant(accuracy=lambda job: 0.5, processes=n), settings)
        for n in (1, 7)
    ]
    assert results[0].stopped == "the hypervolume has not grown in 2 generations"
    assert essence(results[0]) == essence(results[1])
    # Three generations must have been told, when some others have been asked for.
    assert len(results[0].trained) == 9 + 4 - 1


def test_hours_end_a_search_at_the_same_candidate_again(
    mlp_space: SearchSpace, vector_classes: Dataset, tmp_path: Path
) -> None:
    settings = changed(STEADY, max_hours=1.0, lag=2)
    search(mlp_space, vector_classes, tmp_path, settings=changed(STEADY, lag=2, evaluations=12))
    path = tmp_path / "generations.jsonl"
    records = [json.loads(line) | {"seconds": 2000.0} for line in path.read_text().splitlines()]
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    result = search(mlp_space, vector_classes, tmp_path, settings=settings)
    assert result.stopped == "1 hours are over"
    assert len(result.trained) == 12 + 1
    assert search(mlp_space, vector_classes, tmp_path, Instant(fails_after=0), settings) == result


@pytest.mark.parametrize("algorithm", ["nsga2", "random"])
def test_the_whole_space_is_searched(algorithm: str, mlp_space: SearchSpace, vector_classes: Dataset, tmp_path: Path) -> None:
    settings = changed(STEADY, algorithm=algorithm, evaluations=1000, lag=4)
    result = search(mlp_space, vector_classes, tmp_path, Instant(processes=7), settings)
    assert len(result.trained) == len(result.evaluations) == mlp_space.size()
    assert result.stopped == "every candidate within reach has been evaluated"
    assert result.generations[-1].evaluations == mlp_space.size()
    assert search(mlp_space, vector_classes, tmp_path, Instant(fails_after=0), settings) == result


def test_candidates_over_budget_are_recorded_but_never_trained(vector_classes: Dataset, tmp_path: Path) -> None:
    workers = Instant(processes=4)
    result = search(LARGE, vector_classes, tmp_path, workers, changed(STEADY, budgets=BUDGET, evaluations=12))
    assert all(job.candidate.architecture.parameters <= 170 for job in workers.jobs)
    over = [e for e in result.evaluations if e.status == "over_budget"]
    assert over
    assert not any("accuracy" in e.metrics for e in over)
    assert result.evaluations[-1].status == "ok"


def test_a_search_without_anything_to_train_ends(vector_classes: Dataset, tmp_path: Path) -> None:
    """Two of many networks keep the budget; random search finds no others."""
    smallest = min(LARGE.decode((i, 0, 0, 0)).architecture.parameters for i in range(8))
    settings = changed(STEADY, algorithm="random", budgets={"parameters": float(smallest)}, population=2)
    seeds = (LARGE.decode((0, 0, 0, 0)).architecture,)
    result = search(LARGE, vector_classes, tmp_path, settings=changed(settings, seeds=seeds))
    assert result.stopped == "20 candidates in a row cannot be trained"
    assert 0 < len(result.trained) < 20


# Workers that die.


def test_failures_that_were_told_are_final(mlp_space: SearchSpace, vector_classes: Dataset, tmp_path: Path) -> None:
    """Later candidates are bred from them, also where their generation is not complete."""
    settings = changed(STEADY, lag=2, population=4)
    whole = search(mlp_space, vector_classes, tmp_path / "whole", Instant(dies=small), settings)
    assert Counter(e.status for e in whole.evaluations).keys() == {"ok", "failed"}
    noted = [json.loads(line) for line in (tmp_path / "whole" / "generations.jsonl").read_text().splitlines()]
    assert any("died" in record for record in noted)
    for trained in range(5, 20, 4):
        folder = tmp_path / str(trained)
        with pytest.raises(KeyboardInterrupt):
            search(mlp_space, vector_classes, folder, Instant(dies=small, fails_after=trained), settings)
        resumed = search(mlp_space, vector_classes, folder, Instant(dies=small, processes=3), settings)
        assert (essence(resumed), course(resumed)) == (essence(whole), course(whole))
        final = {pair[0] for r in map(json.loads, (folder / "generations.jsonl").open()) for pair in r.get("died", ())}
        again = Instant()
        assert essence(search(mlp_space, vector_classes, folder, again, settings))[:10] == essence(whole)[:10]
        assert final.isdisjoint(job.candidate.id for job in again.jobs)


def test_a_death_at_the_end_is_made_up_for(mlp_space: SearchSpace, vector_classes: Dataset, tmp_path: Path) -> None:
    """By the candidate that a longer search asks for in this place."""
    settings = changed(STEADY, evaluations=9, lag=3)
    last = search(mlp_space, vector_classes, tmp_path / "whole", settings=settings).evaluations[-1].key
    results = [
        search(
            mlp_space,
            vector_classes,
            tmp_path / f"{evaluations}",
            Instant(dies=lambda job: job.candidate.id == last, processes=4),
            changed(settings, evaluations=evaluations),
        )
        for evaluations in (9, 14)
    ]
    assert [len(result.trained) for result in results] == [9, 14]
    assert essence(results[0]) == essence(results[1])[: len(results[0].evaluations)]


def test_workers_that_always_die_end_the_search(mlp_space: SearchSpace, vector_classes: Dataset, tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"no candidate of generation 0 could be trained\. .*fewer workers"):
        search(mlp_space, vector_classes, tmp_path, Instant(dies=lambda job: True, processes=3), STEADY)
    assert not (tmp_path / "generations.jsonl").exists()
    result = search(mlp_space, vector_classes, tmp_path, settings=STEADY)
    assert essence(result) == essence(search(mlp_space, vector_classes, tmp_path / "whole", settings=STEADY))


def test_a_search_goes_on_after_a_generation_that_died(vector_classes: Dataset, tmp_path: Path) -> None:
    after = iter(range(1000))
    workers = Instant(dies=lambda job: next(after) >= 6)
    with pytest.raises(RunError, match="no candidate of generation 1 could be trained"):
        search(LARGE, vector_classes, tmp_path, workers, changed(STEADY, lag=2))
    assert len(search(LARGE, vector_classes, tmp_path, Instant(), changed(STEADY, lag=2)).trained) == 20


def test_a_folder_that_was_searched_with_other_choices_is_not_resumed(
    mlp_space: SearchSpace, vector_classes: Dataset, tmp_path: Path
) -> None:
    search(mlp_space, vector_classes, tmp_path, settings=STEADY)
    path = tmp_path / "generations.jsonl"
    records = [json.loads(line) for line in path.read_text().splitlines()]
    records[1]["asked"] = "0" * 12
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    with pytest.raises(RunError, match=r"generations\.jsonl: generation 1 asks for other candidates than it did before"):
        search(mlp_space, vector_classes, tmp_path, Instant(fails_after=0), STEADY)


def test_both_modes_share_a_folder(mlp_space: SearchSpace, vector_classes: Dataset, tmp_path: Path) -> None:
    workers = Instant()
    results = [search(mlp_space, vector_classes, tmp_path, workers, settings) for settings in (SETTINGS, STEADY)]
    trained = [job.candidate.id for job in workers.jobs]
    assert len(set(trained)) == len(trained) < 40
    for settings, result in zip((SETTINGS, STEADY), results, strict=True):
        assert search(mlp_space, vector_classes, tmp_path, Instant(fails_after=0), settings) == result


def test_more_workers_than_the_lag_keeps_busy_are_mentioned(
    mlp_space: SearchSpace, vector_classes: Dataset, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING, "kerasnac"):
        search(mlp_space, vector_classes, tmp_path / "1", Instant(processes=6), STEADY)
        assert not caplog.messages
        search(mlp_space, vector_classes, tmp_path / "2", Instant(processes=7), STEADY)
    assert caplog.messages == ["search.lag: 6 keeps no more than 6 workers busy"]


# All together.


def test_a_run_in_steady_mode(mlp_space: SearchSpace, vector_classes: Dataset, tmp_path: Path) -> None:
    """With folds, interrupted, and resumed."""
    settings = changed(STEADY, folds=2, evaluations=9)
    with pytest.MonkeyPatch.context() as patch:
        formula = without_trainings(patch)
        with Run(tmp_path / "whole", vector_classes) as run:
            whole = run.search(mlp_space, settings)
        formula.calls.clear()
        formula.left = 7
        with pytest.raises(KeyboardInterrupt), Run(tmp_path / "cut", vector_classes) as run:
            run.search(mlp_space, settings)
        formula.left = None
        with Run(tmp_path / "cut", vector_classes) as run:
            resumed = run.search(mlp_space, settings)
    assert essence(resumed) == essence(whole)
    assert len(formula.calls) == 2 * 9 + 1  # The seventh call was one of two folds.
    assert all("accuracy_std" in e.metrics for e in resumed.trained)


@pytest.mark.slow
@pytest.mark.usefixtures("keras")
def test_a_real_search_is_resumed_where_its_journal_was_cut(
    mlp_space: SearchSpace, vector_classes: Dataset, workers: LocalWorkers, tmp_path: Path
) -> None:
    tiny = SearchSettings(mode="steady", population=2, lag=3, evaluations=5, training=Training(epochs=1, batch_size=64))
    whole = search(mlp_space, vector_classes, tmp_path / "whole", workers, tiny)
    assert len(whole.trained) == 5
    journal = (tmp_path / "whole" / "search.jsonl").read_bytes()
    (tmp_path / "cut").mkdir()
    (tmp_path / "cut" / "search.jsonl").write_bytes(journal[: int(0.5 * len(journal))])
    assert essence(search(mlp_space, vector_classes, tmp_path / "cut", workers, tiny)) == essence(whole)
