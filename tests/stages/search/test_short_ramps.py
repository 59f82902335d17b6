"""Searches whose candidates are fronts of short trainings with learned widths."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from kerasnac.adapters.search.fronts import nondominated
from kerasnac.core.data.dataset import Dataset
from kerasnac.core.hardware.boards import board
from kerasnac.core.network.training import Training
from kerasnac.core.search.evaluation import RampPoint
from kerasnac.core.settings import CandidateGraphSettings, RampSettings, SearchSettings, TuneSettings
from kerasnac.core.space.blocks import Mlp
from kerasnac.core.space.search_space import Candidate, SearchSpace
from kerasnac.errors import ConfigError, RunError
from kerasnac.stages.context import Context
from kerasnac.stages.results.reading import Reading
from kerasnac.stages.results.searched import read_search
from kerasnac.stages.search.candidate_training import Job, train_candidate
from kerasnac.stages.search.global_search import check_search, global_search
from kerasnac.stages.search.result import SearchResult
from kerasnac.stages.search.short_ramp import ShortRamp
from kerasnac.stages.tune import _jobs
from kerasnac.ui import charts, tables
from tests.stages.search.instant import Instant, changed, course, essence, search
from tests.stand_ins import InProcess

RAMP = RampSettings(epochs=8, cycle=2, batch_size=64, points=3)

SETTINGS = SearchSettings(
    objectives=("metric", "adder_luts"),
    population=6,
    evaluations=20,
    training=Training(epochs=1, batch_size=64),
    learned=RAMP,
    adder_graph=CandidateGraphSettings(weights="trained"),
)


def drawn_points(job: Job) -> tuple[RampPoint, ...]:
    """A front of one to three points, of the candidate and its seed alone."""
    rng = np.random.default_rng(job.seed)
    luts = np.sort(rng.uniform(10, 1000, rng.integers(1, 4)))[::-1]
    good = rng.uniform(0.3, 0.5) + 0.1 * np.log10(luts)
    return tuple(
        RampPoint(i + 1, {"accuracy": a, "loss": 1 - a, "bops": 10 * size, "adder_luts": size, "adder_stages": 2.0})
        for i, (a, size) in enumerate(zip(good.tolist(), luts.tolist(), strict=True))
    )


def found(space: SearchSpace, data: Dataset, folder: Path, workers: Any = None, **changes: Any) -> SearchResult:
    """A search whose trainings are formulas."""
    return search(space, data, folder, workers=workers or Instant(points=drawn_points), settings=changed(SETTINGS, **changes))


@pytest.fixture(scope="module")
def relu_space() -> SearchSpace:
    return SearchSpace(input=6, outputs=3, blocks=(Mlp(widths=((4, 5, 6, 8), (4, 5, 6, 8)), depth=(1, 2)),))


# Candidates.


def candidate_of(space: SearchSpace) -> Candidate:
    return space.decode(space.sample_feasible(np.random.default_rng(3)))


@pytest.mark.usefixtures("da4ml", "keras")
def test_points_are_networks_of_the_ramp_with_the_costs_of_their_weights(
    relu_space: SearchSpace, vector_classes: Dataset
) -> None:
    """The same steps by hand."""
    from kerasnac.adapters.keras.learned.ramp import Ramp
    from kerasnac.adapters.keras.predict import predict
    from kerasnac.adapters.keras.train import fit
    from kerasnac.adapters.rtl.adder_graph import adder_graph_costs
    from kerasnac.core.network.learned import with_places
    from kerasnac.core.network.weights import fold
    from kerasnac.core.store.seeding import derive_seed

    data, candidate, training = vector_classes.development, candidate_of(relu_space), Training(epochs=2, batch_size=32)
    settings = RAMP.model_copy(update={"epochs": 4})
    ramp = ShortRamp(settings, CandidateGraphSettings(latency_cutoff=3), board("zcu102"))
    result = train_candidate(data, Job(candidate, training, 1, ramp=ramp))
    start = fit(candidate.architecture, data, training, seed=1)
    assert result.metrics == {"accuracy": start.metric, "loss": start.loss}
    assert result.points
    network, weights = fold(candidate.architecture, start.weights)
    way = Ramp(with_places(network), weights, data, settings, derive_seed(1, "learned"))
    checkpoints = {number + 1: way.cycle(number) for number in range(settings.cycles)}
    for point in result.points:
        quantized, values = way.network_of(checkpoints[point.cycle])
        outputs = predict(quantized, values, data.validation.x)
        assert point.metrics["accuracy"] == np.mean(outputs.argmax(axis=1) == data.validation.y)
        costs = adder_graph_costs(quantized, values, CandidateGraphSettings(latency_cutoff=3), board("zcu102"))
        assert costs.items() <= point.metrics.items()
        assert {*point.metrics} == {"accuracy", "loss", "bops", *costs}


@pytest.mark.usefixtures("keras")
@pytest.mark.parametrize("cycles", [0, 2])
def test_of_a_ramp_that_diverges_the_finite_networks_are_kept(
    cycles: int, relu_space: SearchSpace, vector_classes: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    from kerasnac.adapters.keras.learned.ramp import Ramp

    cycle = Ramp.cycle

    def diverging(self: Ramp, number: int) -> Any:
        if number == cycles:
            raise RunError("the training diverged in epoch 6")
        return replace(cycle(self, number), metric=0.9 - 0.1 * number, operations=100.0 - number)

    monkeypatch.setattr(Ramp, "cycle", diverging)
    job = Job(candidate_of(relu_space), Training(epochs=1, batch_size=64), 1, ramp=ShortRamp(RAMP))
    result = train_candidate(vector_classes.development, job)
    assert [point.cycle for point in result.points] == [1, 2][:cycles]
    assert result.reason == ("" if cycles else "the training diverged in epoch 6")


@pytest.mark.usefixtures("keras")
def test_points_are_spread_over_the_sizes_of_the_front() -> None:
    from kerasnac.adapters.keras.learned.checkpoints import spread
    from kerasnac.adapters.keras.learned.ramp import Checkpoint

    def front(*operations: float) -> list[Checkpoint]:
        return [Checkpoint(i + 1, 1.0, 0.5, size, np.zeros(0, np.float32)) for i, size in enumerate(operations)]

    way = front(10_000, 9_000, 8_000, 1_000, 900, 100, 0)
    assert [one.operations for one in spread(way[:-1], 3)] == [10_000, 1_000, 100]
    assert [one.cycle for one in spread(way, 1)] == [1]
    assert [one.cycle for one in spread(way, 2)] == [1, 7]
    assert spread(way, 7) == way
    assert spread([], 3) == []
    assert len(spread(front(5, 5, 5, 5), 3)) == 3


# Searches.


@pytest.mark.usefixtures("da4ml")
@pytest.mark.parametrize("mode", ["generational", "steady"])
@pytest.mark.parametrize("algorithm", ["nsga2", "random"])
def test_an_interrupted_search_goes_on_as_if_it_had_not_been(
    mode: str, algorithm: str, relu_space: SearchSpace, vector_classes: Dataset, tmp_path: Path
) -> None:
    changes: dict[str, Any] = {"mode": mode, "algorithm": algorithm}
    whole = found(relu_space, vector_classes, tmp_path / "whole", **changes)
    for after in (3, 5, 8):
        workers = Instant(points=drawn_points, fails_after=after, order=after)
        with pytest.raises(KeyboardInterrupt):
            found(relu_space, vector_classes, tmp_path / "parts", workers, **changes)
    parts = found(relu_space, vector_classes, tmp_path / "parts", Instant(points=drawn_points, order=9), **changes)
    assert essence(parts) == essence(whole)
    assert course(parts) == course(whole)
    assert len(whole.trained) == 20
    assert len({e.key for e in whole.trained}) == 20
    again = Instant(points=drawn_points)
    assert found(relu_space, vector_classes, tmp_path / "parts", again, **changes) == parts
    assert not again.jobs


@pytest.mark.usefixtures("da4ml")
def test_every_point_counts(relu_space: SearchSpace, vector_classes: Dataset, tmp_path: Path) -> None:
    workers = Instant(points=drawn_points)
    result = found(relu_space, vector_classes, tmp_path, workers)
    assert {job.ramp for job in workers.jobs} == {ShortRamp(RAMP, SETTINGS.adder_graph, board("vu13p"))}
    assert len(result.points) == sum(len(e.points) for e in result.trained) > len(result.trained)
    losses = np.array([[-p.metrics["accuracy"], p.metrics["adder_luts"]] for p in result.points])
    front = {result.points[i].name for i in nondominated(losses)}
    assert {p.name for p in result.front} == front
    assert all(p.metrics["adder_latency_ns"] == 10 for p in result.points)
    assert "adder_latency_ns" not in (tmp_path / "search.jsonl").read_text()
    frame = result.frame()
    assert list(frame["cycle"]) == [p.cycle for p in result.points]
    assert frame["front"].sum() == len(result.front)
    assert list(frame["bops"]) == [p.metrics["bops"] for p in result.points]
    assert result.generations[-1].hypervolume >= result.generations[0].hypervolume > 0
    (best,) = result.select("best")
    assert best.metrics["accuracy"] == max(p.metrics["accuracy"] for p in result.points)
    chosen = result.select("best", "front")
    assert len({e.key for e in chosen}) == len(chosen) == len({p.key for p in result.front})
    context = Context(vector_classes.development, workers, tmp_path)  # type: ignore[arg-type]
    assert [job.name for job in _jobs(chosen, TuneSettings(), context)] == [e.key for e in chosen]
    (ways,) = [one for one in charts.search(result, best.key).series if one.name == "networks of one candidate"]
    assert len(ways.x) == len(result.points) + len(result.trained)
    text = tables.as_text(tables.front(result, best.key))
    assert f"20 candidates trained, {len(result.points)} networks" in text
    assert f"{best.name} *" in text


@pytest.mark.usefixtures("da4ml")
@pytest.mark.parametrize("noted", [True, False])
def test_the_points_can_be_read_from_the_folder(
    noted: bool, relu_space: SearchSpace, vector_classes: Dataset, tmp_path: Path
) -> None:
    result = found(relu_space, vector_classes, tmp_path, evaluations=12)
    calls = [json.loads(line) for line in (tmp_path / "stages.jsonl").read_text().splitlines()]
    asked = next(call["asked"] for call in calls if "asked" in call) if noted else {}
    settings = {"objectives": ["metric", "adder_luts"]}
    read = read_search(Reading(tmp_path), vector_classes.task, asked, None, settings)
    assert read is not None
    assert [(p.name, p.metrics) for p in read.points] == [(p.name, p.metrics) for p in result.points]
    assert [p.name for p in read.front] == [p.name for p in result.front]


@pytest.mark.usefixtures("da4ml")
def test_budgets_hold_for_every_point(relu_space: SearchSpace, vector_classes: Dataset, tmp_path: Path) -> None:
    free = found(relu_space, vector_classes, tmp_path / "free")
    budget = float(np.median([p.metrics["adder_luts"] for p in free.points]))
    bound = found(relu_space, vector_classes, tmp_path / "bound", budgets={"adder_luts": budget, "bops": 1e4})
    assert bound.front
    assert max(p.metrics["adder_luts"] for p in bound.front) <= budget
    assert max(p.metrics["adder_luts"] for p in bound.points) > budget


@pytest.mark.usefixtures("da4ml")
def test_a_candidate_without_points_is_infeasible_and_not_trained_again(
    relu_space: SearchSpace, vector_classes: Dataset, tmp_path: Path
) -> None:
    class Picky(Instant):
        def try_map(self, task: Any, items: Any, **options: Any) -> Any:
            for index, result in super().try_map(task, items, **options):
                large = items[index].candidate.architecture.parameters > 80
                yield index, replace(result, points=(), reason="it diverged") if large else result

    result = found(relu_space, vector_classes, tmp_path, Picky(points=drawn_points), evaluations=8)
    assert {e.reason for e in result.evaluations if e.status == "infeasible"} == {"it diverged"}
    again = Picky(points=drawn_points)
    assert found(relu_space, vector_classes, tmp_path, again, evaluations=8) == result
    assert not again.jobs


@pytest.mark.usefixtures("da4ml")
def test_a_network_that_cannot_learn_its_widths_is_not_trained(
    mlp_space: SearchSpace, vector_classes: Dataset, tmp_path: Path
) -> None:
    result = found(mlp_space, vector_classes, tmp_path, evaluations=30)
    assert {str(e.built.architecture).count("tanh") for e in result.trained} == {0}
    refused = [e for e in result.evaluations if e.status == "infeasible"]
    assert refused
    assert all("not behind tanh" in e.reason for e in refused)


@pytest.mark.usefixtures("da4ml")
def test_other_settings_of_the_ramp_are_another_search(
    relu_space: SearchSpace, vector_classes: Dataset, tmp_path: Path
) -> None:
    short: dict[str, Any] = {"evaluations": 8}
    first = found(relu_space, vector_classes, tmp_path, **short)
    for changes in (
        {"learned": RAMP.model_copy(update={"points": 2})},
        {"adder_graph": {"weights": "trained", "effort": "full"}},
    ):
        workers = Instant(points=drawn_points)
        found(relu_space, vector_classes, tmp_path, workers, **short, **changes)
        assert len(workers.jobs) == 8
    assert found(relu_space, vector_classes, tmp_path, Instant(fails_after=0), **short) == first


@pytest.mark.usefixtures("da4ml")
def test_a_damaged_point_is_named(relu_space: SearchSpace, vector_classes: Dataset, tmp_path: Path) -> None:
    found(relu_space, vector_classes, tmp_path, evaluations=2, population=2)
    path = tmp_path / "search.jsonl"
    first, *others = path.read_text().splitlines()
    record = json.loads(first)
    record["points"][0]["metrics"]["accuracy"] = "good"
    path.write_text("\n".join([json.dumps(record), *others]) + "\n")
    with pytest.raises(RunError, match=r"search\.jsonl:1: damaged record: points\.0\.metrics\.accuracy is 'good'"):
        found(relu_space, vector_classes, tmp_path, evaluations=2, population=2)


@pytest.mark.usefixtures("da4ml", "keras")
def test_a_search_with_real_trainings(relu_space: SearchSpace, vector_classes: Dataset, tmp_path: Path) -> None:
    settings = changed(SETTINGS, population=2, evaluations=2, learned=RAMP.model_copy(update={"epochs": 4}))
    workers: Any = InProcess(vector_classes.development)
    result = global_search(relu_space, settings, Context(vector_classes.development, workers, tmp_path))
    assert len(result.trained) == 2
    assert all(1 <= len(e.points) <= 2 for e in result.trained)
    assert result.front
    again = search(relu_space, vector_classes, tmp_path, Instant(fails_after=0), settings)
    assert essence(again) == essence(result)


# What is refused.


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"training": Training(epochs=5), "halving": {"epochs": 1}}, "halving: a brief training has no learned widths"),
        ({"folds": 3}, "folds: the networks of one training are a front"),
        ({"adder_graph": {}}, "adder_graph.weights: with learned widths .* add weights: trained"),
        ({"adder_graph": {}, "objectives": ("metric", "bops"), "estimators": ("adder_graph",)}, "add weights: trained"),
        ({"learned": {"epochs": 5}}, "epochs: 5 are fewer than the 10 of a cycle"),
        ({"learned": {"points": 0}}, "points"),
    ],
)
def test_settings_that_cannot_work_are_refused(changes: dict[str, Any], complaint: str) -> None:
    with pytest.raises(ConfigError, match=complaint):
        changed(SETTINGS, **changes)


@pytest.fixture
def check(vector_classes: Dataset) -> Callable[..., None]:
    def checked(firmware: str = "any", **block: Any) -> None:
        space = {"input": 6, "outputs": 3, "firmware": firmware, "blocks": [{"block": "mlp", "widths": [[4, 8]], **block}]}
        check_search(SearchSpace.model_validate(space), vector_classes.development, SETTINGS)

    return checked


@pytest.mark.usefixtures("da4ml")
def test_spaces_that_cannot_work_are_refused(check: Callable[..., None]) -> None:
    check()
    check(activation=["tanh", "relu"])
    with pytest.raises(ConfigError, match=r"search\.learned: none of 1000 random networks .* not behind tanh"):
        check(activation="tanh")
    with pytest.raises(ConfigError, match=r"search\.learned: every weight .* take them out of its blocks"):
        check("exact", weight_bits=[3, 4])
