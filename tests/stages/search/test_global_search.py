"""The global search: what is trained, what is recorded, and how it is resumed."""

from __future__ import annotations

import pickle
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest

from kerasnac.adapters.workers import LocalWorkers
from kerasnac.core.data.dataset import Dataset
from kerasnac.core.network.kinds import Shape
from kerasnac.core.network.layers import LayerSpec
from kerasnac.core.network.precision import Precision
from kerasnac.core.network.training import Training
from kerasnac.core.search.evaluation import Evaluation
from kerasnac.core.settings import SearchSettings
from kerasnac.core.space.blocks import Block, Choice, Conv, Mlp, Picks
from kerasnac.core.space.search_space import SearchSpace
from kerasnac.core.store.journal import Journal
from kerasnac.core.store.progress import Step
from kerasnac.errors import ConfigError, SearchError, SpaceError, TrialError
from kerasnac.stages.search.candidate_training import Job
from kerasnac.stages.search.result import SearchResult
from tests.events import counted
from tests.stages.search.instant import SETTINGS, Instant, course, essence, search

TINY = SearchSettings(population=2, evaluations=4, training=Training(epochs=1, batch_size=64))


def without_repeats(evaluations: Sequence[Evaluation]) -> bool:
    return len({e.key for e in evaluations}) == len(evaluations)


@pytest.fixture(scope="module")
def real(
    mlp_space: SearchSpace, vector_classes: Dataset, workers: LocalWorkers, tmp_path_factory: pytest.TempPathFactory
) -> tuple[SearchResult, bytes]:
    """A search with two real processes, and its journal."""
    folder = tmp_path_factory.mktemp("real")
    result = search(mlp_space, vector_classes, folder, workers, TINY)
    return result, (folder / "search.jsonl").read_bytes()


def test_a_real_search_is_the_same_on_one_process(
    real: tuple[SearchResult, bytes], mlp_space: SearchSpace, vector_classes: Dataset, tmp_path: Path
) -> None:
    with LocalWorkers(vector_classes.development, 1) as single:
        assert essence(search(mlp_space, vector_classes, tmp_path, single, TINY)) == essence(real[0])
    assert len(real[0].trained) == 4
    assert all(0 <= e.metrics["accuracy"] <= 1 and e.metrics["loss"] > 0 and e.seconds > 0 for e in real[0].trained)


@pytest.mark.parametrize("part", [0.4, 0.9])
def test_a_real_search_is_resumed_where_its_journal_was_cut(
    part: float,
    real: tuple[SearchResult, bytes],
    mlp_space: SearchSpace,
    vector_classes: Dataset,
    workers: LocalWorkers,
    tmp_path: Path,
) -> None:
    result, journal = real
    (tmp_path / "search.jsonl").write_bytes(journal[: int(part * len(journal))])
    assert essence(search(mlp_space, vector_classes, tmp_path, workers, TINY)) == essence(result)


def test_a_search_makes_the_evaluations_asked_for(mlp_space: SearchSpace, vector_classes: Dataset, tmp_path: Path) -> None:
    workers = Instant()
    result = search(mlp_space, vector_classes, tmp_path, workers)
    assert len(result.trained) == len(workers.jobs) == 20
    assert [e.index for e in result.evaluations] == list(range(len(result.evaluations)))
    assert [e.generation for e in result.evaluations] == sorted(e.generation for e in result.evaluations)
    assert without_repeats(result.evaluations)
    for e in result.trained:
        assert e.candidate is not None
        assert mlp_space.decode(e.genome) == e.candidate
        assert e.metrics["parameters"] == e.candidate.architecture.parameters


@pytest.mark.parametrize("evaluations", [1, 5, 6, 7, 12])
def test_any_number_of_evaluations_is_met_exactly(
    evaluations: int, mlp_space: SearchSpace, vector_classes: Dataset, tmp_path: Path
) -> None:
    settings = SETTINGS.model_copy(update={"evaluations": evaluations})
    assert len(search(mlp_space, vector_classes, tmp_path, settings=settings).trained) == evaluations


def test_the_journal_holds_every_evaluation(mlp_space: SearchSpace, vector_classes: Dataset, tmp_path: Path) -> None:
    result = search(mlp_space, vector_classes, tmp_path)
    recorded = sorted(map(Evaluation.from_record, Journal(tmp_path / "search.jsonl").records()), key=lambda e: e.index)
    assert recorded == list(result.evaluations)


def test_the_seed_decides_the_genomes(mlp_space: SearchSpace, vector_classes: Dataset, tmp_path: Path) -> None:
    results = [search(mlp_space, vector_classes, tmp_path / str(i), seed=seed) for i, seed in enumerate((0, 0, 1))]
    assert essence(results[0]) == essence(results[1])
    assert [e.genome for e in results[0].evaluations] != [e.genome for e in results[2].evaluations]


def test_a_search_is_resumed_from_a_journal_cut_anywhere(
    mlp_space: SearchSpace, vector_classes: Dataset, tmp_path: Path
) -> None:
    whole = search(mlp_space, vector_classes, tmp_path / "whole")
    content = (tmp_path / "whole" / "search.jsonl").read_bytes()
    for cut in [*range(0, len(content), 997), len(content) - 1, len(content)]:
        folder = tmp_path / str(cut)
        folder.mkdir()
        (folder / "search.jsonl").write_bytes(content[:cut])
        workers = Instant()
        assert essence(search(mlp_space, vector_classes, folder, workers)) == essence(whole)
        assert len(workers.jobs) == 20 - content[:cut].count(b'"status":"ok"') + content[:cut].rpartition(b"\n")[2].count(
            b'"status":"ok"'
        )


@pytest.mark.parametrize("trained", [0, 1, 6, 13, 19])
def test_an_interrupted_search_is_resumed(
    trained: int, mlp_space: SearchSpace, vector_classes: Dataset, tmp_path: Path
) -> None:
    whole = search(mlp_space, vector_classes, tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        search(mlp_space, vector_classes, tmp_path / "cut", Instant(fails_after=trained))
    workers = Instant()
    resumed = search(mlp_space, vector_classes, tmp_path / "cut", workers)
    assert (essence(resumed), course(resumed)) == (essence(whole), course(whole))
    assert len(workers.jobs) == 20 - trained


def test_a_finished_search_is_read_without_training(mlp_space: SearchSpace, vector_classes: Dataset, tmp_path: Path) -> None:
    first = search(mlp_space, vector_classes, tmp_path)
    content = (tmp_path / "search.jsonl").read_bytes()
    assert search(mlp_space, vector_classes, tmp_path, Instant(fails_after=0)).evaluations == first.evaluations
    assert (tmp_path / "search.jsonl").read_bytes() == content


def test_more_evaluations_continue_a_search(mlp_space: SearchSpace, vector_classes: Dataset, tmp_path: Path) -> None:
    short = search(mlp_space, vector_classes, tmp_path, settings=SETTINGS.model_copy(update={"evaluations": 8}))
    workers = Instant()
    long = search(mlp_space, vector_classes, tmp_path, workers)
    assert long.evaluations[: len(short.evaluations)] == short.evaluations
    assert len(workers.jobs) == 12


@pytest.mark.parametrize("change", ["seed", "training", "data"])
def test_results_of_other_seeds_trainings_or_data_are_not_reused(
    change: str, mlp_space: SearchSpace, vector_classes: Dataset, tmp_path: Path
) -> None:
    search(mlp_space, vector_classes, tmp_path)
    workers, settings, data = Instant(), SETTINGS, vector_classes
    if change == "training":
        settings = SETTINGS.model_copy(update={"training": Training(epochs=2, batch_size=64)})
    if change == "data":
        train = data.development.train
        data = replace(data, development=replace(data.development, train=replace(train, x=train.x + np.float32(0.5))))
    search(mlp_space, data, tmp_path, workers, settings, seed=int(change == "seed"))
    assert len(workers.jobs) == 20


def test_other_objectives_reuse_what_is_known(mlp_space: SearchSpace, vector_classes: Dataset, tmp_path: Path) -> None:
    search(mlp_space, vector_classes, tmp_path)
    workers = Instant()
    result = search(
        mlp_space,
        vector_classes,
        tmp_path,
        workers,
        SETTINGS.model_copy(update={"objectives": ("metric", "parameters"), "weight_bits": 4}),
    )
    assert len(workers.jobs) < 20
    assert {o.metric for o in result.objectives} == {"accuracy", "parameters"}
    bops = {e.metrics["bops"] for e in result.trained}
    assert bops.isdisjoint({e.metrics["bops"] for e in search(mlp_space, vector_classes, tmp_path).trained})


BUDGET = {"parameters": 100.0}


def test_candidates_over_budget_are_recorded_but_never_trained(
    mlp_space: SearchSpace, vector_classes: Dataset, tmp_path: Path
) -> None:
    workers = Instant()
    settings = SETTINGS.model_copy(update={"budgets": BUDGET, "evaluations": 12})
    result = search(mlp_space, vector_classes, tmp_path, workers, settings)
    assert all(job.candidate.architecture.parameters <= 100 for job in workers.jobs)
    over = [e for e in result.evaluations if e.status == "over_budget"]
    assert over
    for e in over:
        assert e.metrics["parameters"] > 100
        assert "accuracy" not in e.metrics
        assert e.reason == f"parameters {e.metrics['parameters']:g} breaks the budget 100"
    assert all(e.metrics["parameters"] <= 100 for e in result.front)


def test_a_larger_budget_trains_what_the_smaller_one_did_not(
    mlp_space: SearchSpace, vector_classes: Dataset, tmp_path: Path
) -> None:
    settings = SETTINGS.model_copy(update={"budgets": BUDGET, "evaluations": 12})
    first = search(mlp_space, vector_classes, tmp_path, settings=settings)
    over = {e.key for e in first.evaluations if e.status == "over_budget"}
    everything = SETTINGS.model_copy(update={"evaluations": mlp_space.size()})
    result = search(mlp_space, vector_classes, tmp_path, settings=everything)
    assert {e.key for e in result.trained} >= over
    assert len(result.trained) == mlp_space.size()
    again = search(mlp_space, vector_classes, tmp_path, Instant(fails_after=0), everything)
    assert essence(again) == essence(result)


def test_a_budget_on_the_metric_filters_the_front(mlp_space: SearchSpace, vector_classes: Dataset, tmp_path: Path) -> None:
    result = search(mlp_space, vector_classes, tmp_path, settings=SETTINGS.model_copy(update={"budgets": {"metric": 0.5}}))
    assert any(e.metrics["accuracy"] < 0.5 for e in result.trained)
    assert result.front
    assert all(e.metrics["accuracy"] >= 0.5 for e in result.front)
    best = max(e.metrics["accuracy"] for e in result.trained)
    nothing = search(mlp_space, vector_classes, tmp_path, settings=SETTINGS.model_copy(update={"budgets": {"metric": 0.999}}))
    assert not nothing.front
    with pytest.raises(
        SearchError, match=rf"accuracy at least 0\.999, of which the best has {best:g}\): loosen search\.budgets"
    ):
        nothing.select("best")


def test_an_impossible_budget_is_refused_before_any_training(
    mlp_space: SearchSpace, vector_classes: Dataset, tmp_path: Path
) -> None:
    workers = Instant(fails_after=0)
    with pytest.raises(
        SearchError,
        match=r"none of .* random candidates keeps the budgets \(bops <= 10\), the closest is .* over: raise the budget",
    ):
        search(mlp_space, vector_classes, tmp_path, workers, SETTINGS.model_copy(update={"budgets": {"bops": 10.0}}))
    assert not (tmp_path / "search.jsonl").exists()


@pytest.mark.parametrize("wrong", [{"objectives": ("metric", "speed")}, {"budgets": {"luts": 5.0}}])
def test_unknown_metrics_are_refused_before_any_training(
    wrong: dict[str, Any], mlp_space: SearchSpace, vector_classes: Dataset, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match="unknown objective or budget"):
        search(mlp_space, vector_classes, tmp_path, Instant(fails_after=0), SETTINGS.model_copy(update=wrong))


@pytest.mark.parametrize(
    ("space", "message"),
    [
        (
            SearchSpace(input=7, outputs=3, blocks=(Mlp(widths=((4, 8),)),)),
            r"inputs of shape \(7,\), the samples of vectors have \(6,\)",
        ),
        (SearchSpace(input=6, outputs=2, blocks=(Mlp(widths=((4, 8),)),)), "2 outputs, vectors needs 3"),
        (
            SearchSpace(input=6, outputs=3, blocks=(Conv(channels=1),)),
            "the space has no network: .* a convolution needs positions, but gets a vector of 6 values",
        ),
        (
            SearchSpace(input=6, outputs=3, blocks=(Conv(channels=(1, 2)),)),
            "none of 1000 random genomes .* a convolution needs positions, but gets a vector of 6 values",
        ),
    ],
)
def test_spaces_that_do_not_fit_are_refused(space: SearchSpace, message: str, vector_classes: Dataset, tmp_path: Path) -> None:
    with pytest.raises(SpaceError, match=message):
        search(space, vector_classes, tmp_path, Instant(fails_after=0))


@pytest.mark.parametrize("mode", ["generational", "steady"])
@pytest.mark.parametrize("algorithm", ["nsga2", "random"])
def test_a_space_without_choices_has_one_candidate(mode: str, algorithm: str, vector_classes: Dataset, tmp_path: Path) -> None:
    space = SearchSpace(input=6, outputs=3, blocks=(Mlp(widths=4),))
    settings = SETTINGS.model_copy(update={"mode": mode, "algorithm": algorithm, "halving": None})
    first, again = (search(space, vector_classes, tmp_path, Instant(), settings) for _ in range(2))
    assert [e.status for e in first.evaluations] == ["ok"]
    assert first == again
    assert first.stopped == "the space has no choices: this is its one network"
    assert [e.key for e in first.select("knee")] == [space.decode(()).id]


def test_a_small_space_is_searched_to_its_end(mlp_space: SearchSpace, vector_classes: Dataset, tmp_path: Path) -> None:
    result = search(mlp_space, vector_classes, tmp_path, settings=SETTINGS.model_copy(update={"evaluations": 1000}))
    assert len(result.trained) == len(result.evaluations) == mlp_space.size()


def test_infeasible_candidates_are_recorded_with_the_reason(map_classes: Dataset, tmp_path: Path) -> None:
    space = SearchSpace(input=(8, 8, 1), outputs=2, blocks=(Conv(channels=2, kernel=(3, 9, 10, 11)),))
    result = search(space, map_classes, tmp_path)
    ok, *infeasible = result.evaluations
    assert ok.status == "ok"
    assert sorted(e.reason for e in infeasible) == sorted(
        f"block 0 (conv): {k}x{k} kernel is larger than its 8x8 map" for k in (9, 10, 11)
    )
    assert all(e.status == "infeasible" and e.candidate is None and not e.metrics for e in infeasible)
    assert search(space, map_classes, tmp_path, Instant(fails_after=0)).evaluations == result.evaluations


def test_a_training_that_diverged_is_never_on_the_front(
    mlp_space: SearchSpace, vector_classes: Dataset, tmp_path: Path
) -> None:
    def accuracy(job: Job) -> float:
        return float("nan") if job.candidate.architecture.parameters < 100 else 0.5

    steps: list[Step] = []
    workers = Instant(accuracy=accuracy)
    result = search(mlp_space, vector_classes, tmp_path, workers, progress=steps.append)
    assert len(result.trained) == 20
    assert any(np.isnan(e.metrics["accuracy"]) for e in result.trained)
    assert result.front
    assert all(e.metrics["accuracy"] == 0.5 for e in result.front)
    assert "best accuracy 0.5000" in counted(steps)[-1].text
    assert result.select("best")[0].metrics["accuracy"] == 0.5
    again = search(mlp_space, vector_classes, tmp_path, Instant(fails_after=0))
    assert [e.genome for e in again.evaluations] == [e.genome for e in result.evaluations]


def test_progress_counts_the_trainings(mlp_space: SearchSpace, vector_classes: Dataset, tmp_path: Path) -> None:
    steps: list[Step] = []
    result = search(mlp_space, vector_classes, tmp_path, progress=steps.append)
    told = counted(steps)
    assert [(step.stage, step.done, step.total) for step in told] == [("search", i + 1, 20) for i in range(20)]
    assert f"best accuracy {max(e.metrics['accuracy'] for e in result.trained):.4f}" in told[-1].text
    assert {step.facts["model"] for step in told} == {e.key for e in result.trained}
    volumes = [step.facts["hypervolume"] for step in steps if step.kind == "generation"]
    assert volumes == [generation.hypervolume for generation in result.generations]
    assert (steps[0].kind, steps[-1].kind) == ("stage_started", "stage_ended")
    again: list[Step] = []
    search(mlp_space, vector_classes, tmp_path, Instant(fails_after=0), progress=again.append)
    assert [step.facts["known"] for step in counted(again)] == [True] * 20


def test_training_genes_reach_the_training(vector_classes: Dataset, tmp_path: Path) -> None:
    space = SearchSpace(
        input=6, outputs=3, blocks=(Mlp(widths=((4, 8),)),), training={"learning_rate": [1e-3, 1e-2], "dropout": [0.0, 0.1]}
    )
    workers = Instant()
    result = search(space, vector_classes, tmp_path, workers, SETTINGS.model_copy(update={"evaluations": 8}))
    assert len(result.trained) == 8
    assert {(job.training.learning_rate, job.training.dropout) for job in workers.jobs} == {
        (1e-3, 0.0),
        (1e-3, 0.1),
        (1e-2, 0.0),
        (1e-2, 0.1),
    }
    assert all(job.training.batch_size == 64 for job in workers.jobs)
    assert {"learning_rate", "dropout"} <= set(result.frame().columns)


def test_the_front_is_not_dominated_and_dominates_the_rest(
    mlp_space: SearchSpace, vector_classes: Dataset, tmp_path: Path
) -> None:
    result = search(mlp_space, vector_classes, tmp_path)
    losses = {e.index: (-e.metrics["accuracy"], e.metrics["bops"]) for e in result.trained}

    def dominated(index: int) -> bool:
        return any(
            all(a <= b for a, b in zip(other, losses[index], strict=True)) and other != losses[index]
            for other in losses.values()
        )

    assert {e.index for e in result.front} == {index for index in losses if not dominated(index)}
    frame = result.frame()
    assert set(frame.loc[frame["front"], "index"]) == {e.index for e in result.front}
    assert len(frame) == len(result.evaluations)


def test_rules_pick_points_of_the_front_once(mlp_space: SearchSpace, vector_classes: Dataset, tmp_path: Path) -> None:
    result = search(mlp_space, vector_classes, tmp_path)
    picked = result.select("best", "within 0%", "knee", "best")
    assert len(picked) == len({e.index for e in picked}) <= 2
    assert picked[0].metrics["accuracy"] == max(e.metrics["accuracy"] for e in result.trained)
    assert {e.index for e in picked} <= {e.index for e in result.front}


def test_a_rule_with_a_budget_picks_the_best_that_keeps_it(
    mlp_space: SearchSpace, vector_classes: Dataset, tmp_path: Path
) -> None:
    larger_is_better = Instant(accuracy=lambda job: 1 - 1 / job.candidate.architecture.parameters)
    result = search(mlp_space, vector_classes, tmp_path, larger_is_better)
    (chosen,) = result.select("parameters <= 120")
    within = [e for e in result.front if e.metrics["parameters"] <= 120]
    assert 1 < len(within) < len(result.front)
    assert chosen.metrics["accuracy"] == max(e.metrics["accuracy"] for e in within)
    assert chosen.metrics["parameters"] == max(e.metrics["parameters"] for e in within)
    with pytest.raises(ConfigError, match=r"no model keeps parameters <= 3; the cheapest needs \d+"):
        result.select("parameters <= 3")
    with pytest.raises(ConfigError, match="no 'lut' is recorded to select by; there are accuracy, loss, bops, parameters"):
        result.select("lut <= 100")


def test_what_the_workers_get_holds_no_test_sample(vector_classes: Dataset) -> None:
    sent = pickle.dumps(vector_classes.development)
    assert vector_classes.development.train.x[0].tobytes() in sent
    assert not any(sample.tobytes() in sent for sample in vector_classes.open_test().x)


class Broken(Block):
    """A block whose networks cannot be trained: a table in a float network has no grid to look up.

    One of others is refused; this one stands for a bug in one of ours.
    """

    block: Literal["broken"] = "broken"

    def choices(self) -> tuple[Choice, ...]:
        return (Choice("units", (4, 5, 6)),)

    def layers(self, picks: Picks, shape: Shape) -> Iterator[LayerSpec]:
        yield LayerSpec.of("dense", units=picks["units"])
        yield replace(LayerSpec.of("activation", fn="tanh"), activation=Precision(6, 1))


def test_a_task_that_raises_surfaces_with_its_architecture(
    vector_classes: Dataset, workers: LocalWorkers, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("kerasnac.core.space.search_space.layers_of", lambda block, *arguments: block.layers(*arguments))
    space = SearchSpace(input=6, outputs=3, blocks=(Broken(),))
    with pytest.raises(TrialError, match=r"training \[dense-\d tanh dense-3\] with seed \d+ failed: AssertionError\(\)"):
        search(space, vector_classes, tmp_path, workers, TINY)
