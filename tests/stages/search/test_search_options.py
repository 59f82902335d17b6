"""The global search: seeds, hypervolume, when it stops, fidelity, failures, random search, estimators."""

from __future__ import annotations

import itertools
import json
import math
import shutil
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
from pydantic import ValidationError

from kerasnac.core.data.dataset import Dataset, Development
from kerasnac.core.network.architecture import Architecture
from kerasnac.core.network.trained import Trained
from kerasnac.core.network.training import Training
from kerasnac.core.search.evaluation import Evaluation
from kerasnac.core.settings import HalvingSettings
from kerasnac.core.space.blocks import Mlp
from kerasnac.core.space.search_space import SearchSpace
from kerasnac.core.store.journal import Journal
from kerasnac.errors import ConfigError, RunError, SpaceError
from kerasnac.stages.search.candidate_training import Job, train_candidate
from kerasnac.stages.search.result import SearchResult
from tests.stages.search.instant import SETTINGS, Instant, changed, course, essence, search

HALVING = changed(training=Training(epochs=4, batch_size=64), halving=HalvingSettings(epochs=1, keep=0.5))
#: 4096 networks of four layers.
LARGE = SearchSpace(input=6, outputs=3, blocks=tuple(Mlp(widths=(tuple(range(2, 10)),)) for _ in range(4)))


@pytest.fixture
def architectures(mlp_space: SearchSpace) -> list[Architecture]:
    """All networks of the space, the smallest first."""
    genomes = itertools.product(*map(range, mlp_space.cardinalities))
    found = {a.id: a for a in (mlp_space.decode(genome).architecture for genome in genomes)}
    return sorted(found.values(), key=lambda a: (a.parameters, a.id))


def trained_jobs(workers: Instant) -> list[tuple[str, int]]:
    return [(job.candidate.id, job.training.epochs) for job in workers.jobs]


def of_generation(result: SearchResult, number: int) -> list[Evaluation]:
    return [e for e in result.evaluations if e.generation == number]


# Seeds.


def test_seeds_of_every_kind_are_in_the_first_generation(
    architectures: list[Architecture], mlp_space: SearchSpace, vector_classes: Dataset, tmp_path: Path
) -> None:
    first, second, third = architectures[3], architectures[17], architectures[-1]
    (tmp_path / "second.json").write_text(json.dumps(second.to_dict()))
    Trained("favourite", third, {}, Training(), {}, 0).save(tmp_path / "saved")
    settings = changed(seeds=(first, str(tmp_path / "second.json"), tmp_path / "saved"))
    result = search(mlp_space, vector_classes, tmp_path / "run", settings=settings)
    ids = {first.id: first.id, "second": second.id, "favourite": third.id}
    assert result.references == {
        name: mlp_space.decode(mlp_space.encode(a)).id for name, a in zip(ids, (first, second, third), strict=True)
    }
    start = of_generation(result, 0)
    assert [e.candidate.architecture.id for e in start[:3] if e.candidate] == list(ids.values())
    assert all(e.status == "ok" for e in start)
    assert len(start) == SETTINGS.population
    frame = result.frame()
    assert dict(zip(frame["reference"], frame["id"], strict=True)) | {"": ""} == {**result.references, "": ""}
    assert (frame["reference"] != "").sum() == 3


def test_a_seed_outside_the_space_is_named_before_anything_is_written(
    mlp_space: SearchSpace, vector_classes: Dataset, tmp_path: Path
) -> None:
    with pytest.raises(
        SpaceError, match=r"^seed hls4ml_jets: the architecture reads samples of shape \(16,\), not \(6,\): it is not"
    ):
        search(mlp_space, vector_classes, tmp_path / "run", Instant(fails_after=0), changed(seeds=("hls4ml_jets",)))
    assert not (tmp_path / "run").exists()


def test_a_seed_over_budget_is_recorded_and_the_search_goes_on(
    architectures: list[Architecture], mlp_space: SearchSpace, vector_classes: Dataset, tmp_path: Path
) -> None:
    settings = changed(seeds=(architectures[-1],), budgets={"parameters": 100.0}, evaluations=10)
    result = search(mlp_space, vector_classes, tmp_path, settings=settings)
    seed = result.evaluations[0]
    assert (seed.status, seed.key, seed.index) == ("over_budget", result.references[architectures[-1].id], 0)
    assert len(result.trained) == 10
    assert {e.status for e in of_generation(result, 0)[1:]} == {"ok"}


def test_seeds_over_budget_alone_are_a_search_when_others_keep_it(
    architectures: list[Architecture], mlp_space: SearchSpace, vector_classes: Dataset, tmp_path: Path
) -> None:
    """As many seeds as the population has, none of which may be trained."""
    settings = changed(seeds=architectures[-2:], population=2, budgets={"parameters": 60.0}, evaluations=4)
    result = search(mlp_space, vector_classes, tmp_path, settings=settings)
    assert [e.status for e in of_generation(result, 0)] == ["over_budget"] * 2
    assert all(e.metrics["parameters"] <= 60 for e in result.trained)


@pytest.mark.parametrize("algorithm", ["nsga2", "random"])
def test_more_seeds_than_the_population_are_all_trained(
    algorithm: str, architectures: list[Architecture], mlp_space: SearchSpace, vector_classes: Dataset, tmp_path: Path
) -> None:
    settings = changed(seeds=architectures[::5], population=2, evaluations=11, algorithm=algorithm)
    result = search(mlp_space, vector_classes, tmp_path, settings=settings)
    sizes = Counter(e.generation for e in result.evaluations)
    assert sizes[0] == len(architectures[::5]) == 5
    assert set(sizes.values()) == {5, 2}
    assert {e.key for e in of_generation(result, 0)} == set(result.references.values())
    assert len(result.trained) == 11


@pytest.mark.parametrize("algorithm", ["nsga2", "random"])
def test_one_architecture_as_two_seeds_is_trained_once(
    algorithm: str, architectures: list[Architecture], mlp_space: SearchSpace, vector_classes: Dataset, tmp_path: Path
) -> None:
    seeds = ({"name": "one", "architecture": architectures[0]}, {"name": "two", "architecture": architectures[0]})
    workers = Instant()
    result = search(mlp_space, vector_classes, tmp_path, workers, changed(seeds=seeds, algorithm=algorithm))
    assert result.references["one"] == result.references["two"]
    assert len(set(trained_jobs(workers))) == len(workers.jobs) == 20


def test_two_architectures_of_one_name_are_refused(
    architectures: list[Architecture], mlp_space: SearchSpace, vector_classes: Dataset, tmp_path: Path
) -> None:
    """In tables and plots, one of them would be lost."""
    seeds = tuple({"name": "mine", "architecture": a} for a in architectures[:2])
    with pytest.raises((ValidationError, ConfigError, SpaceError), match="mine"):
        search(mlp_space, vector_classes, tmp_path, settings=changed(seeds=seeds))


@pytest.mark.parametrize("algorithm", ["nsga2", "random"])
def test_few_candidates_that_keep_the_budgets_are_followed_by_whole_generations(
    algorithm: str, vector_classes: Dataset, tmp_path: Path
) -> None:
    settings = changed(population=10, evaluations=15, budgets={"parameters": 49.0}, algorithm=algorithm)
    result = search(LARGE, vector_classes, tmp_path, settings=settings)
    sizes = [len(of_generation(result, number)) for number in range(len(result.generations))]
    assert 0 < sizes[0] < 10
    assert len(sizes) > 2
    assert set(sizes[1:]) == {10}


# Hypervolume and when a search stops.


def area(points: Sequence[tuple[float, float]], reference: tuple[float, float]) -> float:
    """Area between points and the reference, both to minimise: a staircase."""
    total, height = 0.0, reference[1]
    for x, y in sorted(points):
        if x < reference[0] and y < height:
            total += (reference[0] - x) * (height - y)
            height = y
    return total


@pytest.mark.parametrize("given", [{}, {"metric": 0.1}, {"metric": 0.0, "bops": 1e6}, {"accuracy": 0.4, "bops": 1.5e4}])
def test_the_hypervolume_is_the_area_under_the_front_in_units_of_the_first_generation(
    given: dict[str, float], mlp_space: SearchSpace, vector_classes: Dataset, tmp_path: Path
) -> None:
    result = search(mlp_space, vector_classes, tmp_path, settings=changed(evaluations=24, reference_point=given))
    assert len(result.generations) == 4
    heights = [(e.generation, -e.metrics["accuracy"], math.log1p(e.metrics["bops"])) for e in result.trained]
    first = [(x, y) for generation, x, y in heights if generation == 0]
    front = [(x, y) for x, y in first if not any((u, v) != (x, y) and u <= x and v <= y for u, v in first)]
    best, worst = (tuple(pick(values) for values in zip(*front, strict=True)) for pick in (min, max))
    beyond = [w + 0.1 * (w - b) for b, w in zip(best, worst, strict=True)]
    accuracy = next((-v for name, v in given.items() if name in ("metric", "accuracy")), beyond[0])
    reference = (accuracy, math.log1p(given["bops"]) if "bops" in given else beyond[1])
    unit = (reference[0] - best[0]) * (reference[1] - best[1])
    for g in result.generations:
        so_far = [(x, y) for generation, x, y in heights if generation <= g.number]
        assert g.evaluations == len(so_far)
        assert g.hypervolume == pytest.approx(area(so_far, reference) / unit, abs=1e-12)
    volumes = [g.hypervolume for g in result.generations]
    assert volumes == sorted(volumes)
    assert 0 < volumes[0] <= 1
    assert volumes[-1] > volumes[0]


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("objectives", [("metric",), ("metric", "bops", "parameters")])
def test_the_hypervolume_never_falls(
    objectives: tuple[str, ...], seed: int, mlp_space: SearchSpace, vector_classes: Dataset, tmp_path: Path
) -> None:
    settings = changed(objectives=objectives, evaluations=24, population=4)
    volumes = [g.hypervolume for g in search(mlp_space, vector_classes, tmp_path, settings=settings, seed=seed).generations]
    assert volumes == sorted(volumes)
    assert len(volumes) > 5


def test_the_generations_are_in_their_own_journal(mlp_space: SearchSpace, vector_classes: Dataset, tmp_path: Path) -> None:
    result = search(mlp_space, vector_classes, tmp_path, settings=changed(evaluations=18))
    frame = pd.read_json(tmp_path / "generations.jsonl", lines=True)
    assert list(frame["number"]) == [0, 1, 2]
    assert list(frame["evaluations"]) == [6, 12, 18]
    assert list(frame["hypervolume"]) == pytest.approx([g.hypervolume for g in result.generations])
    assert frame["search"].nunique() == 1
    search(mlp_space, vector_classes, tmp_path, settings=changed(evaluations=18))
    assert len(pd.read_json(tmp_path / "generations.jsonl", lines=True)) == 3


def test_a_reference_point_of_what_is_no_objective_is_refused(
    mlp_space: SearchSpace, vector_classes: Dataset, tmp_path: Path
) -> None:
    settings = changed(reference_point={"metric": 0.2, "parameters": 100.0})
    with pytest.raises(ConfigError, match=r"^reference_point: 'parameters' is not an objective$"):
        search(mlp_space, vector_classes, tmp_path, Instant(fails_after=0), settings)


@pytest.mark.parametrize("patience", [1, 3])
def test_a_search_that_does_not_improve_ends(
    patience: int, mlp_space: SearchSpace, vector_classes: Dataset, tmp_path: Path
) -> None:
    settings = changed(objectives=("metric",), stagnation=patience, population=4, evaluations=24)
    workers = Instant(accuracy=lambda job: 0.5)
    result = search(mlp_space, vector_classes, tmp_path, workers, settings)
    assert result.stopped == f"the hypervolume has not grown in {patience} generations"
    assert len(result.generations) == patience + 1
    assert len(workers.jobs) == 4 * (patience + 1)
    assert search(mlp_space, vector_classes, tmp_path, Instant(fails_after=0), settings) == result


def test_a_search_that_improves_goes_on(mlp_space: SearchSpace, vector_classes: Dataset, tmp_path: Path) -> None:
    counter = itertools.count()
    workers = Instant(accuracy=lambda job: next(counter) / 100)
    result = search(mlp_space, vector_classes, tmp_path, workers, changed(objectives=("metric",), stagnation=1))
    assert result.stopped == "all that were asked for"


def test_a_search_ends_after_its_hours_and_again_when_it_is_resumed(
    mlp_space: SearchSpace, vector_classes: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = itertools.count(0, 1800)  # half an hour between two looks at it
    limited = changed(max_hours=0.75)
    with monkeypatch.context() as patch:
        patch.setattr("kerasnac.stages.search.global_search.time", SimpleNamespace(monotonic=lambda: next(clock)))
        result = search(mlp_space, vector_classes, tmp_path, settings=limited)
    assert result.stopped == "0.75 hours are over"
    assert [g.seconds for g in result.generations] == [1800, 1800]
    assert len(result.trained) == 12
    again = search(mlp_space, vector_classes, tmp_path, Instant(fails_after=0), limited)
    assert again == result
    workers = Instant()
    longer = search(mlp_space, vector_classes, tmp_path, workers, changed(max_hours=10))
    assert len(workers.jobs) == 8
    whole = search(mlp_space, vector_classes, tmp_path / "whole")
    assert (essence(longer), course(longer)) == (essence(whole), course(whole))


# Fidelity: halving, folds, fractions of the data.


def test_halving_trains_all_briefly_and_the_promising_in_full(
    mlp_space: SearchSpace, vector_classes: Dataset, tmp_path: Path
) -> None:
    workers = Instant()
    settings = changed(HALVING, objectives=("metric",), evaluations=9)
    result = search(mlp_space, vector_classes, tmp_path, workers, settings)
    assert len(result.generations) == 3
    accuracy = {(job.candidate.id, job.training.epochs): workers._accuracy(job) for job in workers.jobs}
    for number in range(3):
        made = of_generation(result, number)
        full = [e for e in made if e.status == "ok"]
        assert {e.status for e in made} == {"ok", "brief"}
        assert (len(made), len(full)) == (6, 3)
        assert {e.fidelity.epochs for e in full} == {4}
        assert {e.fidelity.epochs for e in made if e.status == "brief"} == {1}
        order = sorted((accuracy[e.key, 1] for e in made), reverse=True)
        assert sorted((accuracy[e.key, 1] for e in full), reverse=True) == order[:3]
    assert Counter(job.training.epochs for job in workers.jobs) == {1: 18, 4: 9}
    assert all(e.metrics["accuracy"] == accuracy[e.key, e.fidelity.epochs] for e in result.evaluations)


@pytest.mark.parametrize(("keep", "full"), [(0.01, 1), (0.34, 3), (0.5, 3), (0.99, 6)])
def test_halving_keeps_its_fraction_rounded_up(
    keep: float, full: int, mlp_space: SearchSpace, vector_classes: Dataset, tmp_path: Path
) -> None:
    settings = changed(HALVING, halving=HalvingSettings(epochs=1, keep=keep), evaluations=full)
    result = search(mlp_space, vector_classes, tmp_path, settings=settings)
    assert Counter(e.status for e in result.evaluations) == {"ok": full, **({"brief": 6 - full} if full < 6 else {})}


def test_briefly_trained_candidates_are_never_on_the_front(
    mlp_space: SearchSpace, vector_classes: Dataset, tmp_path: Path
) -> None:
    """Even where they look better, as they do when trainings overfit."""

    def accuracy(job: Job) -> float:
        return 0.99 if job.training.epochs == 1 else 0.5 + job.candidate.architecture.parameters / 1e4

    result = search(LARGE, vector_classes, tmp_path, Instant(accuracy=accuracy), HALVING)
    assert result.front
    assert all(e.status == "ok" and e.metrics["accuracy"] < 0.99 for e in result.front)
    frame = result.frame()
    assert set(frame["epochs"][frame["status"] == "brief"]) == {1}
    assert set(frame["epochs"][frame["status"] == "ok"]) == {4}
    assert not frame["front"][frame["status"] == "brief"].any()
    assert len(result.trained) == 20


def test_more_evaluations_continue_a_search_with_halving(
    mlp_space: SearchSpace, vector_classes: Dataset, tmp_path: Path
) -> None:
    """The last generation of the short search kept fewer than its half: the long one trains the rest of it."""
    short, long = Instant(), Instant()
    search(mlp_space, vector_classes, tmp_path / "run", short, changed(HALVING, evaluations=5))
    result = search(mlp_space, vector_classes, tmp_path / "run", long, changed(HALVING, evaluations=12))
    whole = search(mlp_space, vector_classes, tmp_path / "whole", settings=changed(HALVING, evaluations=12))
    assert (essence(result), course(result)) == (essence(whole), course(whole))
    assert set(trained_jobs(short)).isdisjoint(trained_jobs(long))


def test_the_journal_of_generations_follows_a_search_with_halving_that_goes_on(
    mlp_space: SearchSpace, vector_classes: Dataset, tmp_path: Path
) -> None:
    search(mlp_space, vector_classes, tmp_path, settings=changed(HALVING, evaluations=5))
    result = search(mlp_space, vector_classes, tmp_path, settings=changed(HALVING, evaluations=12))
    noted = pd.read_json(tmp_path / "generations.jsonl", lines=True).drop_duplicates("number", keep="last")
    assert list(noted["evaluations"]) == [g.evaluations for g in result.generations]


@pytest.mark.parametrize("evaluations", [1, 3, 4, 7, 12])
def test_halving_makes_exactly_the_evaluations_asked_for(
    evaluations: int, mlp_space: SearchSpace, vector_classes: Dataset, tmp_path: Path
) -> None:
    workers = Instant()
    result = search(mlp_space, vector_classes, tmp_path, workers, changed(HALVING, evaluations=evaluations))
    assert len(result.trained) == sum(job.training.epochs == 4 for job in workers.jobs) == evaluations


@pytest.mark.slow
def test_a_search_with_halving_is_resumed_from_journals_cut_anywhere(
    mlp_space: SearchSpace, vector_classes: Dataset, tmp_path: Path
) -> None:
    """The generations are noted after the evaluations, so that their journal may be whole or shorter."""
    settings = changed(HALVING, budgets={"parameters": 120.0}, evaluations=9)
    whole = search(mlp_space, vector_classes, tmp_path / "whole", settings=settings)
    evaluations, generations = ((tmp_path / "whole" / f"{name}.jsonl").read_bytes() for name in ("search", "generations"))
    ends = {len(evaluations[:cut].splitlines()) for cut in range(0, len(evaluations), 1499)}
    assert len(ends) > 5
    for cut in [*range(0, len(evaluations), 1499), len(evaluations)]:
        folder = tmp_path / str(cut)
        folder.mkdir()
        (folder / "search.jsonl").write_bytes(evaluations[:cut])
        if cut % 2:
            (folder / "generations.jsonl").write_bytes(generations[: cut % len(generations)])
        workers = Instant()
        resumed = search(mlp_space, vector_classes, folder, workers, settings)
        assert (essence(resumed), course(resumed)) == (essence(whole), course(whole))
        kept = [json.loads(line) for line in evaluations[:cut].split(b"\n")[:-1]]
        known = {(r["id"], r["fidelity.epochs"]) for r in kept if r["status"] in ("ok", "brief")}
        assert known.isdisjoint(trained_jobs(workers))
        assert len(set(trained_jobs(workers))) == len(workers.jobs)


def test_halving_that_is_not_briefer_is_refused() -> None:
    with pytest.raises(ConfigError, match="halving: 4 epochs are not fewer than the 4 of the training"):
        changed(HALVING, halving=HalvingSettings(epochs=4))


@pytest.mark.parametrize("first", ["full", "halving"])
def test_a_short_training_is_brief_in_one_search_and_full_in_another(
    first: str, mlp_space: SearchSpace, vector_classes: Dataset, tmp_path: Path
) -> None:
    """One epoch is all that the one search wants, and a first look for the other: they share it, and no status."""
    order = [("full", SETTINGS), ("halving", changed(HALVING, evaluations=9))]
    workers = Instant()
    results = {
        name: search(mlp_space, vector_classes, tmp_path, workers, settings)
        for name, settings in (order if first == "full" else order[::-1])
    }
    for name, settings in order:
        alone = search(mlp_space, vector_classes, tmp_path / name, settings=settings)
        assert [(e.key, e.status) for e in results[name].evaluations] == [(e.key, e.status) for e in alone.evaluations]
    assert len(set(trained_jobs(workers))) == len(workers.jobs)


def test_the_fidelity_is_recorded_in_flat_columns(mlp_space: SearchSpace, vector_classes: Dataset, tmp_path: Path) -> None:
    training = Training(epochs=4, batch_size=64, data_fraction=0.25)
    result = search(mlp_space, vector_classes, tmp_path, settings=changed(HALVING, training=training, folds=3, evaluations=6))
    journal = pd.read_json(tmp_path / "search.jsonl", lines=True)
    assert set(journal["fidelity.data_fraction"]) == {0.25}
    assert set(journal["fidelity.folds"]) == {3}
    assert set(journal["fidelity.epochs"][journal["status"] == "ok"]) == {4}
    assert set(journal["fidelity.epochs"][journal["status"] == "brief"]) == {1}
    assert journal.groupby("fidelity.key")["fidelity.epochs"].nunique().to_list() == [1, 1]
    assert {"metrics.accuracy", "metrics.bops", "metrics.parameters", "id", "genome"} <= set(journal.columns)
    frame = result.frame()
    assert (set(frame["data_fraction"]), set(frame["folds"])) == ({0.25}, {3})


@pytest.mark.parametrize(
    "change", [{"folds": 2}, {"training": Training(epochs=1, batch_size=64, data_fraction=0.5)}], ids=["folds", "fraction"]
)
def test_results_of_another_fidelity_are_not_reused(
    change: dict[str, Any], mlp_space: SearchSpace, vector_classes: Dataset, tmp_path: Path
) -> None:
    search(mlp_space, vector_classes, tmp_path)
    workers = Instant()
    search(mlp_space, vector_classes, tmp_path, workers, changed(**change))
    assert len(workers.jobs) == 20
    assert {job.folds for job in workers.jobs} == {change.get("folds", 1)}


def test_folds_give_means_and_the_spread_of_the_metric(keras: Any, mlp_space: SearchSpace, vector_classes: Dataset) -> None:
    data = vector_classes.development
    job = Job(mlp_space.decode(mlp_space.sample_feasible(np.random.default_rng(0))), Training(epochs=1, batch_size=64), 7)
    result = train_candidate(data, replace(job, folds=2))
    metrics, seconds = result.metrics, result.seconds
    single = [train_candidate(part, job) for part in data.folds(2)]
    assert set(metrics) == {"accuracy", "loss", "accuracy_std"}
    assert set(single[0].metrics) == {"accuracy", "loss"}
    values = np.array([one.metrics["accuracy"] for one in single])
    assert metrics["accuracy"] == pytest.approx(values.mean())
    assert metrics["accuracy_std"] == pytest.approx(values.std(ddof=1))
    assert metrics["loss"] == pytest.approx(np.mean([one.metrics["loss"] for one in single]))
    assert seconds > 0


# Workers that die.


def small(job: Job) -> bool:
    return job.candidate.architecture.parameters < 80


def test_candidates_that_workers_died_with_are_recorded_and_the_search_goes_on(
    mlp_space: SearchSpace, vector_classes: Dataset, tmp_path: Path
) -> None:
    result = search(mlp_space, vector_classes, tmp_path, Instant(dies=small), changed(evaluations=15))
    failed = [e for e in result.evaluations if e.status == "failed"]
    assert failed
    assert all(e.metrics["parameters"] < 80 and "accuracy" not in e.metrics and e.reason == "killed." for e in failed)
    assert all(e.metrics["parameters"] >= 80 for e in result.trained)
    assert len(result.trained) == 15
    assert {e.index for e in failed}.isdisjoint(e.index for e in result.front)
    frame = result.frame()
    assert list(frame["reason"][frame["status"] == "failed"]) == ["killed."] * len(failed)
    recorded = [Evaluation.from_record(r) for r in Journal(tmp_path / "search.jsonl").records()]
    assert sorted(recorded, key=lambda e: e.index) == list(result.evaluations)


def test_failures_of_complete_generations_are_final(mlp_space: SearchSpace, vector_classes: Dataset, tmp_path: Path) -> None:
    settings = changed(evaluations=1000)  # the whole space, so that all generations are complete
    result = search(mlp_space, vector_classes, tmp_path, Instant(dies=small), settings)
    assert Counter(e.status for e in result.evaluations).keys() == {"ok", "failed"}
    again = search(mlp_space, vector_classes, tmp_path, Instant(fails_after=0), settings)
    assert again == result


def test_failures_of_an_interrupted_generation_are_tried_again(
    mlp_space: SearchSpace, vector_classes: Dataset, tmp_path: Path
) -> None:
    dying = Instant(dies=lambda job: job.seed % 2 == 0, fails_after=16)
    with pytest.raises(KeyboardInterrupt):
        search(mlp_space, vector_classes, tmp_path, dying, changed(evaluations=17))
    before = Journal(tmp_path / "search.jsonl").records()
    failed = [{r["id"] for r in before if r["status"] == "failed" and (r["generation"] < 2) == done} for done in (True, False)]
    assert all(failed)
    workers = Instant()
    result = search(mlp_space, vector_classes, tmp_path, workers, changed(evaluations=17))
    assert {job.candidate.id for job in workers.jobs} >= failed[1]
    assert {job.candidate.id for job in workers.jobs}.isdisjoint(failed[0])
    assert {e.key for e in result.evaluations if e.status == "failed"} == failed[0]
    assert len(result.trained) == 17


def test_a_generation_without_a_survivor_stops_the_search(
    mlp_space: SearchSpace, vector_classes: Dataset, tmp_path: Path
) -> None:
    with pytest.raises(
        RunError, match=r"no candidate of generation 0 could be trained\. The first, \[dense-.*\]: killed\. .*fewer workers"
    ):
        search(mlp_space, vector_classes, tmp_path, Instant(dies=lambda job: True))
    assert not (tmp_path / "generations.jsonl").exists()
    result = search(mlp_space, vector_classes, tmp_path)
    assert essence(result) == essence(search(mlp_space, vector_classes, tmp_path / "whole"))


def test_a_generation_that_died_briefly_stops_the_search(
    mlp_space: SearchSpace, vector_classes: Dataset, tmp_path: Path
) -> None:
    with pytest.raises(RunError, match="no candidate of generation 0 could be trained"):
        search(mlp_space, vector_classes, tmp_path, Instant(dies=lambda job: job.training.epochs == 1), HALVING)


def test_halving_goes_on_with_those_that_lived(mlp_space: SearchSpace, vector_classes: Dataset, tmp_path: Path) -> None:
    settings = changed(HALVING, halving=HalvingSettings(epochs=1, keep=0.99), evaluations=12)
    result = search(mlp_space, vector_classes, tmp_path, Instant(dies=small), settings)
    failed = [e for e in result.evaluations if e.status == "failed"]
    assert failed
    assert {e.fidelity.epochs for e in failed} == {1}
    assert len(result.trained) == 12
    again = search(mlp_space, vector_classes, tmp_path, Instant(fails_after=0), settings)
    assert again.evaluations == result.evaluations


def test_a_failure_that_another_search_mends_does_not_change_a_search(
    mlp_space: SearchSpace, vector_classes: Dataset, tmp_path: Path
) -> None:
    """Searches share a folder: what died here may be trained there."""
    result = search(mlp_space, vector_classes, tmp_path, Instant(dies=small))
    everything = changed(objectives=("metric", "parameters"), evaluations=mlp_space.size())
    mended = search(mlp_space, vector_classes, tmp_path, Instant(), everything)
    assert len(mended.trained) == mlp_space.size()
    again = search(mlp_space, vector_classes, tmp_path)
    assert [e.genome for e in again.evaluations] == [e.genome for e in result.evaluations]


@pytest.mark.parametrize("evaluations", [7, 9])
def test_a_death_in_the_last_generation_is_made_up_for(
    evaluations: int, mlp_space: SearchSpace, vector_classes: Dataset, tmp_path: Path
) -> None:
    """Also where it was the only one left to train."""
    settings = changed(evaluations=evaluations)
    last = [e.key for e in search(mlp_space, vector_classes, tmp_path / "whole", settings=settings).evaluations][-1]
    result = search(mlp_space, vector_classes, tmp_path, Instant(dies=lambda job: job.candidate.id == last), settings)
    assert result.stopped == "all that were asked for"
    assert len(result.trained) == evaluations


# Random search.


def test_random_search_asks_for_distinct_candidates_whatever_it_is_told(
    mlp_space: SearchSpace, vector_classes: Dataset, tmp_path: Path
) -> None:
    settings = changed(algorithm="random", evaluations=24)
    runs = [
        search(mlp_space, vector_classes, tmp_path / str(i), Instant(accuracy=lambda job, i=i: i / 10), settings, seed=i // 2)
        for i in range(3)
    ]
    genomes = [[e.genome for e in run.evaluations] for run in runs]
    assert genomes[0] == genomes[1] != genomes[2]
    assert len({e.key for e in runs[0].evaluations}) == len(runs[0].evaluations) == 24
    assert [len(of_generation(runs[0], i)) for i in range(4)] == [6, 6, 6, 6]


def test_a_random_search_is_resumed(mlp_space: SearchSpace, vector_classes: Dataset, tmp_path: Path) -> None:
    settings = changed(algorithm="random")
    whole = search(mlp_space, vector_classes, tmp_path / "whole", settings=settings)
    with pytest.raises(KeyboardInterrupt):
        search(mlp_space, vector_classes, tmp_path / "cut", Instant(fails_after=15), settings)
    workers = Instant()
    resumed = search(mlp_space, vector_classes, tmp_path / "cut", workers, settings)
    assert (essence(resumed), course(resumed)) == (essence(whole), course(whole))
    assert len(workers.jobs) == 5


@pytest.mark.parametrize("algorithm", ["nsga2", "random"])
def test_a_search_of_the_whole_space_says_so(
    algorithm: str, mlp_space: SearchSpace, vector_classes: Dataset, tmp_path: Path
) -> None:
    result = search(mlp_space, vector_classes, tmp_path, settings=changed(algorithm=algorithm, evaluations=1000))
    assert len(result.trained) == len(result.evaluations) == mlp_space.size()
    assert result.stopped == "every candidate within reach has been evaluated"


# Folders.


def test_a_folder_that_was_searched_with_other_choices_is_not_resumed(
    mlp_space: SearchSpace, vector_classes: Dataset, tmp_path: Path
) -> None:
    search(mlp_space, vector_classes, tmp_path)
    path = tmp_path / "generations.jsonl"
    records = [json.loads(line) for line in path.read_text().splitlines()]
    records[1]["asked"] = "0" * 12
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    before = (tmp_path / "search.jsonl").read_bytes()
    with pytest.raises(RunError, match=r"generations\.jsonl: generation 1 asks for other candidates than it did before"):
        search(mlp_space, vector_classes, tmp_path, Instant(fails_after=0))
    assert (tmp_path / "search.jsonl").read_bytes() == before


def test_the_way_out_of_a_folder_that_cannot_be_resumed_works(
    mlp_space: SearchSpace, vector_classes: Dataset, tmp_path: Path
) -> None:
    """The message says: copy search.jsonl to a new folder."""
    first = search(mlp_space, vector_classes, tmp_path / "old")
    (tmp_path / "new").mkdir()
    shutil.copy(tmp_path / "old" / "search.jsonl", tmp_path / "new")
    assert search(mlp_space, vector_classes, tmp_path / "new", Instant(fails_after=0)).evaluations == first.evaluations


def test_a_journal_of_another_version_is_refused(mlp_space: SearchSpace, vector_classes: Dataset, tmp_path: Path) -> None:
    search(mlp_space, vector_classes, tmp_path)
    record = Journal(tmp_path / "search.jsonl").records()[0]
    del record["fidelity.key"]
    Journal(tmp_path / "search.jsonl").append(record)
    with pytest.raises(
        RunError, match=r"search\.jsonl:\d+ is of another version of kerasnac \('fidelity\.key' is missing\): start a new run"
    ):
        search(mlp_space, vector_classes, tmp_path, Instant(fails_after=0))


def test_searches_that_share_a_folder_train_nothing_twice(
    mlp_space: SearchSpace, vector_classes: Dataset, tmp_path: Path
) -> None:
    workers = Instant()
    every = [
        SETTINGS,
        changed(objectives=("metric", "parameters")),
        changed(objectives=("metric",), algorithm="random"),
        changed(budgets={"parameters": 100.0}, evaluations=10),
        changed(weight_bits=4, population=4),
    ]
    shared = [search(mlp_space, vector_classes, tmp_path / "shared", workers, settings) for settings in every]
    assert len(set(trained_jobs(workers))) == len(workers.jobs) <= mlp_space.size()
    for i, (settings, result) in enumerate(zip(every, shared, strict=True)):
        alone = search(mlp_space, vector_classes, tmp_path / str(i), settings=settings)
        assert (essence(result), course(result)) == (essence(alone), course(alone))
        assert search(mlp_space, vector_classes, tmp_path / "shared", Instant(fails_after=0), settings) == result


# Estimators.


@dataclass
class Doubling:
    """LUTs are twice the parameters, cycles are the layers; networks with more parameters than ``most`` have none."""

    source: str = "rule4ml"
    key: str = "doubling"
    most: float = math.inf
    refuses: str = ""
    batches: list[list[str]] = field(default_factory=list)

    def check(self, space: SearchSpace) -> None:
        if self.refuses:
            raise SpaceError(self.refuses)

    def estimate(self, data: Development, architectures: Sequence[Architecture]) -> list[dict[str, float] | str]:
        self.batches.append([a.id for a in architectures])
        return [self._costs(a) for a in architectures]

    def _costs(self, network: Architecture) -> dict[str, float] | str:
        if network.parameters > self.most:
            return f"{network.parameters}: too large"
        return {"lut": 2.0 * network.parameters, "cycles": float(len(network.layers))}

    @property
    def estimated(self) -> list[str]:
        return [id for batch in self.batches for id in batch]


Use = Callable[..., Doubling]


@pytest.fixture
def use(monkeypatch: pytest.MonkeyPatch) -> Use:
    """Makes searches use an estimator, and gives it."""

    def made(**options: Any) -> Doubling:
        estimator = Doubling(**options)
        monkeypatch.setattr("kerasnac.stages.search.global_search.estimators", lambda settings, metrics, *, seed: [estimator])
        return estimator

    return made


def test_what_is_estimated_can_be_an_objective_and_a_budget(
    use: Use, mlp_space: SearchSpace, vector_classes: Dataset, tmp_path: Path
) -> None:
    estimator, workers = use(), Instant()
    settings = changed(objectives=("metric", "lut", "cycles"), budgets={"lut": 200.0}, evaluations=10)
    result = search(mlp_space, vector_classes, tmp_path, workers, settings)
    assert [o.metric for o in result.objectives] == ["accuracy", "lut", "cycles"]
    assert len(result.trained) == 10
    for e in result.evaluations:
        assert e.metrics["lut"] == 2 * e.metrics["parameters"]
        assert e.status == ("ok" if e.metrics["lut"] <= 200 else "over_budget")
    over = [e for e in result.evaluations if e.status == "over_budget"]
    assert over
    assert all(e.reason == f"lut {e.metrics['lut']:g} breaks the budget 200" for e in over)
    assert all(job.candidate.architecture.parameters <= 100 for job in workers.jobs)
    assert len(set(estimator.estimated)) == len(estimator.estimated)
    assert (result.select("lut <= 150")[0].metrics["lut"], result.cost) <= (150, "lut")


def test_every_architecture_is_estimated_once_over_all_sessions(
    use: Use, mlp_space: SearchSpace, vector_classes: Dataset, tmp_path: Path
) -> None:
    settings = changed(objectives=("metric", "lut"))
    first = use()
    whole = search(mlp_space, vector_classes, tmp_path / "whole", settings=settings)
    again = use()
    with pytest.raises(KeyboardInterrupt):
        search(mlp_space, vector_classes, tmp_path / "cut", Instant(fails_after=9), settings)
    resumed = search(mlp_space, vector_classes, tmp_path / "cut", settings=settings)
    assert (essence(resumed), course(resumed)) == (essence(whole), course(whole))
    assert len(set(again.estimated)) == len(again.estimated)
    assert set(again.estimated) == set(first.estimated)
    costs = pd.read_json(tmp_path / "cut" / "costs.jsonl", lines=True)
    assert sorted(costs["id"]) == sorted(again.estimated)
    assert set(costs["source"]) == {"rule4ml"}
    assert set(costs["key"]) == {"doubling"}
    assert {"metrics.lut", "metrics.cycles"} <= set(costs.columns)
    other = use(key="with other settings")
    search(mlp_space, vector_classes, tmp_path / "cut", settings=settings)
    assert set(other.estimated) == set(first.estimated)


def test_costs_of_another_search_in_the_folder_are_not_taken_over(
    use: Use, mlp_space: SearchSpace, vector_classes: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They may be of another board."""
    use()
    search(mlp_space, vector_classes, tmp_path / "shared", settings=changed(objectives=("metric", "lut")))
    monkeypatch.undo()
    shared, alone = (search(mlp_space, vector_classes, tmp_path / name) for name in ("shared", "alone"))
    assert essence(shared) == essence(alone)


def test_candidates_of_steady_mode_are_estimated_once_each(
    use: Use, mlp_space: SearchSpace, vector_classes: Dataset, tmp_path: Path
) -> None:
    estimator = use(most=150)
    settings = changed(objectives=("metric", "lut"), mode="steady", evaluations=10)
    whole = search(mlp_space, vector_classes, tmp_path / "whole", settings=settings)
    assert {e.status for e in whole.evaluations} == {"ok", "infeasible"}
    assert len(set(estimator.estimated)) == len(estimator.estimated)
    with pytest.raises(KeyboardInterrupt):
        search(mlp_space, vector_classes, tmp_path / "cut", Instant(fails_after=7), settings)
    resumed = search(mlp_space, vector_classes, tmp_path / "cut", Instant(processes=5), settings)
    assert (essence(resumed), course(resumed)) == (essence(whole), course(whole))


def test_estimates_are_shared_among_the_workers(
    use: Use, mlp_space: SearchSpace, vector_classes: Dataset, tmp_path: Path
) -> None:
    estimator = use()
    search(mlp_space, vector_classes, tmp_path, settings=changed(objectives=("metric", "lut")))
    assert len(estimator.batches[0]) == len(estimator.batches[1]) == 3


def test_what_is_over_budget_anyway_is_not_estimated(
    use: Use, mlp_space: SearchSpace, vector_classes: Dataset, tmp_path: Path
) -> None:
    estimator = use()
    settings = changed(objectives=("metric", "lut"), budgets={"parameters": 100.0}, evaluations=10)
    result = search(mlp_space, vector_classes, tmp_path, settings=settings)
    over = [e for e in result.evaluations if e.status == "over_budget"]
    assert over
    assert not any("lut" in e.metrics for e in over)
    assert {e.candidate.architecture.id for e in over if e.candidate}.isdisjoint(estimator.estimated)


def test_a_network_that_cannot_be_estimated_is_infeasible_with_the_reason(
    use: Use, mlp_space: SearchSpace, vector_classes: Dataset, tmp_path: Path
) -> None:
    use(most=100)
    workers = Instant()
    settings = changed(objectives=("metric", "lut"), evaluations=14)
    result = search(mlp_space, vector_classes, tmp_path, workers, settings)
    infeasible = [e for e in result.evaluations if e.status == "infeasible"]
    assert infeasible
    assert all(e.candidate and e.reason == f"{e.candidate.architecture.parameters}: too large" for e in infeasible)
    assert all(job.candidate.architecture.parameters <= 100 for job in workers.jobs)
    costs = Journal(tmp_path / "costs.jsonl").records()
    assert {r["reason"] for r in costs if "reason" in r} >= {e.reason for e in infeasible}
    again = search(mlp_space, vector_classes, tmp_path, Instant(fails_after=0), settings)
    assert again == result


def test_a_space_that_an_estimator_does_not_know_is_refused_before_anything_is_written(
    use: Use, mlp_space: SearchSpace, vector_classes: Dataset, tmp_path: Path
) -> None:
    estimator = use(refuses="block 0 (mlp): tanh is unheard-of")
    with pytest.raises(SpaceError, match=r"^block 0 \(mlp\): tanh is unheard-of$"):
        search(mlp_space, vector_classes, tmp_path / "run", Instant(fails_after=0))
    assert not (tmp_path / "run").exists()
    assert not estimator.batches
