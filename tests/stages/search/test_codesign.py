"""Searches of widths and sparsities together with the architecture, with the adder graphs of trained weights."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from kerasnac.core.data.dataset import Dataset
from kerasnac.core.hardware.boards import board
from kerasnac.core.network.precision import Odd, Precision
from kerasnac.core.network.quantization import CLIP_QUANTILE
from kerasnac.core.network.trained import Trained
from kerasnac.core.network.training import Training
from kerasnac.core.settings import (
    AdderGraphSettings,
    CandidateGraphSettings,
    CompressSettings,
    QuantizedSettings,
    SearchSettings,
)
from kerasnac.core.space.search_space import Candidate, SearchSpace
from kerasnac.core.store.journal import Journal
from kerasnac.errors import ConfigError, ConversionError
from kerasnac.stages.search.candidate_training import Job, QuantizedTraining, train_candidate
from kerasnac.stages.search.global_search import check_search
from kerasnac.stages.search.result import SearchResult
from tests.stages.search.instant import Instant, changed, search

#: As the quantized training follows the float one of :data:`SETTINGS`, too.
TRAINING = Training(epochs=4, batch_size=32, learning_rate=0.01)

SETTINGS = SearchSettings(
    objectives=("metric", "adder_luts"),
    population=6,
    evaluations=20,
    training=Training(epochs=1, batch_size=64),
    adder_graph=CandidateGraphSettings(weights="trained"),
)


@pytest.fixture
def space() -> SearchSpace:
    block = {
        "block": "mlp",
        "depth": [1, 2],
        "widths": [[4, 6], [4]],
        "weight_bits": [3, 5],
        "activation_bits": [3, 6],
        "sparsity": [0.25, 0.5, 0.75],
    }
    output = {"weight_bits": [4, 6], "sparsity": [0, 0.5]}
    return SearchSpace.model_validate(
        {"input": 6, "outputs": 3, "firmware": "exact", "blocks": [block], "output_layer": output}
    )


def luts(job: Job) -> dict[str, float]:
    return {"adder_luts": 100.0 * job.candidate.architecture.parameters}


def found(space: SearchSpace, data: Dataset, folder: Path, workers: Instant | None = None, **changes: Any) -> SearchResult:
    """An instant search whose trainings measure LUTs."""
    return search(space, data, folder, workers=workers or Instant(costs=luts), settings=changed(SETTINGS, **changes))


# Candidates.


def codesign_job(candidate: Candidate, **options: Any) -> Job:
    return Job(candidate, TRAINING, 1, quantized=QuantizedTraining(TRAINING.with_(epochs=6, schedule="cosine"), **options))


@pytest.mark.usefixtures("da4ml")
def test_a_candidate_is_pruned_to_its_sparsities_and_costs_what_its_weights_cost(
    space: SearchSpace, vector_classes: Dataset, keras: Any
) -> None:
    """The same steps by hand: float, quantized, gradually pruned, traced."""
    from kerasnac.adapters.keras.pruning import fit_gradually_pruned
    from kerasnac.adapters.keras.train import fit, quantized_start
    from kerasnac.adapters.rtl.adder_graph import adder_graph_costs

    data = vector_classes.development
    candidate = space.decode(space.sample_feasible(np.random.default_rng(3)))
    job = codesign_job(candidate, graph=CandidateGraphSettings(weights="trained", latency_cutoff=3), board=board("zcu102"))
    result = train_candidate(data, job)
    assert job.quantized is not None
    start = fit(candidate.architecture, data, TRAINING, seed=1).weights
    quantized, start = quantized_start(
        candidate.architecture, start, data, weight_bits=8, activation_bits=8, clip_quantile=CLIP_QUANTILE
    )
    fractions = candidate.architecture.sparsities
    assert len(fractions) == sum(layer.kind == "dense" for layer in candidate.architecture.layers)
    by_hand = fit_gradually_pruned(quantized, data, job.quantized.training, seed=1, start=start, fractions=fractions)
    assert result.metrics == {
        "accuracy": by_hand.metric,
        "loss": by_hand.loss,
        **adder_graph_costs(quantized, by_hand.weights, AdderGraphSettings(latency_cutoff=3), board("zcu102")),
    }
    zeros = Trained("by_hand", quantized, by_hand.weights, TRAINING, {}, 1).layer_sparsity
    for layer, fraction in fractions.items():
        kernel = by_hand.weights[f"{layer}/kernel"]
        assert zeros[layer] >= fraction - 0.5 / kernel.size
        assert (kernel == 0).sum() == round(fraction * kernel.size)


def test_weights_without_an_adder_graph_are_a_reason_and_no_cost(
    space: SearchSpace, vector_classes: Dataset, keras: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(*args: Any, **options: Any) -> None:
        raise ConversionError("dense_0: too wide")

    monkeypatch.setattr("kerasnac.adapters.rtl.adder_graph.adder_graph_costs", refused)
    candidate = space.decode(space.sample_feasible(np.random.default_rng(3)))
    result = train_candidate(vector_classes.development, codesign_job(candidate, graph=CandidateGraphSettings()))
    assert result.reason == "dense_0: too wide"
    assert set(result.metrics) == {"accuracy", "loss"}


@pytest.mark.parametrize(
    ("settings", "epochs", "expected"),
    [
        ({}, 8, (4, 0.003, "constant")),
        ({}, 3, (2, 0.003, "constant")),
        ({"epochs": 20, "learning_rate": 0.01, "schedule": "cosine"}, 8, (20, 0.01, "cosine")),
        ({"epochs": 20}, 3, (8, 0.003, "constant")),
    ],
)
def test_the_quantized_training_follows_the_float_one(
    settings: dict[str, Any], epochs: int, expected: tuple[int, float, str]
) -> None:
    training = QuantizedSettings(**settings).of(Training(epochs=epochs, learning_rate=0.009), full=8)
    assert (training.epochs, pytest.approx(training.learning_rate), training.schedule) == expected


# Searches.


@pytest.mark.usefixtures("da4ml")
def test_a_search_optimises_the_costs_that_its_trainings_measure(
    space: SearchSpace, vector_classes: Dataset, tmp_path: Path
) -> None:
    workers = Instant(costs=luts)
    result = found(space, vector_classes, tmp_path, workers)
    assert result.cost == "adder_luts"
    assert {e.metrics["adder_luts"] for e in result.trained} == {luts(job)["adder_luts"] for job in workers.jobs}
    assert not (tmp_path / "costs.jsonl").exists()  # nothing is drawn
    expected = QuantizedTraining(QuantizedSettings().of(SETTINGS.training, full=1), 8, 8, SETTINGS.adder_graph, board("vu13p"))
    for job in workers.jobs:
        assert job.quantized is not None
        assert job.quantized.folder is not None
        assert job.quantized.folder.name.startswith(f"{job.candidate.id}-")
        assert replace(job.quantized, folder=None) == expected
    assert len({job.quantized.folder for job in workers.jobs if job.quantized}) == 20
    again = Instant(costs=luts)
    assert found(space, vector_classes, tmp_path, again) == result
    assert not again.jobs


@pytest.mark.usefixtures("da4ml")
def test_other_settings_of_the_graph_or_of_the_quantized_training_are_another_search(
    space: SearchSpace, vector_classes: Dataset, tmp_path: Path
) -> None:
    found(space, vector_classes, tmp_path)
    for changes in (
        {"adder_graph": CandidateGraphSettings(weights="trained", effort="full")},
        {"quantized": QuantizedSettings(epochs=7)},
        {"quantized": QuantizedSettings(tie_free=True)},
        {"weight_bits": 4},
    ):
        workers = Instant(costs=luts)
        found(space, vector_classes, tmp_path, workers, **changes)
        assert len(workers.jobs) == 20, changes
    assert not any(job.quantized.tie_free for job in workers.jobs if job.quantized)


def test_candidates_have_biases_off_the_ties_if_asked_for(space: SearchSpace, vector_classes: Dataset, tmp_path: Path) -> None:
    candidate = space.decode(space.sample_feasible(np.random.default_rng(3)))
    train_candidate(vector_classes.development, codesign_job(candidate, folder=tmp_path / "one", tie_free=True))
    *hidden, last = [layer for layer in Trained.load(tmp_path / "one").architecture.layers if layer.kind == "dense"]
    assert Odd in {type(layer.bias) for layer in hidden}
    assert type(last.bias) is Precision


@pytest.mark.usefixtures("da4ml")
def test_a_budget_on_measured_costs_bounds_the_front(space: SearchSpace, vector_classes: Dataset, tmp_path: Path) -> None:
    free = found(space, vector_classes, tmp_path / "free")
    costs = sorted(e.metrics["adder_luts"] for e in free.trained)
    budget = costs[len(costs) // 4]
    bound = found(space, vector_classes, tmp_path / "bound", budgets={"adder_luts": budget})
    assert bound.front
    assert max(e.metrics["adder_luts"] for e in bound.front) <= budget


def stages(job: Job) -> dict[str, float]:
    parameters = job.candidate.architecture.parameters
    return {"adder_luts": 100.0 * parameters, "adder_stages": 1.0 + parameters // 30, "adder_depth": 8.0}


@pytest.mark.usefixtures("da4ml")
def test_latency_follows_the_clock_without_training_again(space: SearchSpace, vector_classes: Dataset, tmp_path: Path) -> None:
    goal: dict[str, Any] = {"objectives": ("metric", "adder_latency_ns"), "budgets": {"adder_latency_ns": 30.0}}
    slow = found(space, vector_classes, tmp_path, Instant(costs=stages), clock_period=10.0, **goal)
    assert slow.cost == "adder_latency_ns"
    assert slow.front
    for evaluation in slow.trained:
        assert evaluation.metrics["adder_latency_ns"] == 10 * evaluation.metrics["adder_stages"]
    assert max(e.metrics["adder_latency_ns"] for e in slow.front) <= 30
    assert "adder_latency_ns" not in (tmp_path / "search.jsonl").read_text()
    workers = Instant(costs=stages)
    fast = found(space, vector_classes, tmp_path, workers, clock_period=5.0, **goal)
    known, latencies = ({e.key: e.metrics for e in result.trained} for result in (slow, fast))
    assert {job.candidate.id for job in workers.jobs} & {*known} == set()
    assert all(latencies[key]["adder_latency_ns"] == 0.5 * known[key]["adder_latency_ns"] for key in {*known} & {*latencies})


@pytest.mark.usefixtures("da4ml")
def test_who_has_no_adder_graph_after_training_is_infeasible_and_not_trained_again(
    space: SearchSpace, vector_classes: Dataset, tmp_path: Path
) -> None:
    class Picky(Instant):
        def try_map(self, task: Any, items: Any, **options: Any) -> Any:
            for index, result in super().try_map(task, items, **options):
                deep = len(items[index].candidate.architecture.sparsities) == 3
                reason = "dense_1: too wide" if deep else ""
                yield index, replace(result, reason=reason)

    result = found(space, vector_classes, tmp_path, Picky(costs=luts))
    refused = [e for e in result.evaluations if e.status == "infeasible"]
    assert {e.reason for e in refused} == {"dense_1: too wide"}
    assert len(result.trained) == 20
    again = Picky(costs=luts)
    assert found(space, vector_classes, tmp_path, again) == result
    assert not again.jobs
    assert len(Journal(tmp_path / "search.jsonl").records()) == len(result.evaluations)


def test_trained_weights_need_a_space_with_widths_or_sparsities(mlp_space: SearchSpace, vector_classes: Dataset) -> None:
    with pytest.raises(ConfigError, match=r"search\.adder_graph\.weights: trained needs a space with weight_bits"):
        check_search(mlp_space, vector_classes.development, SETTINGS)


# What follows.


@pytest.mark.slow
@pytest.mark.usefixtures("da4ml")
def test_compression_ends_at_the_sparsities_of_the_search(
    space: SearchSpace, vector_classes: Dataset, keras: Any, tmp_path: Path
) -> None:
    from kerasnac.adapters.keras.train import fit
    from kerasnac.adapters.workers import LocalWorkers
    from kerasnac.stages.compress.compression import compress
    from kerasnac.stages.context import Context

    data = vector_classes.development
    architecture = space.decode(space.sample_feasible(np.random.default_rng(3))).architecture
    result = fit(architecture, data, TRAINING, seed=1)
    parent = Trained("parent", architecture, result.weights, TRAINING, {"accuracy": result.metric, "loss": result.loss}, 1)
    settings = CompressSettings(schedule="searched", bits=(4,), epochs=3, cost="adder_luts")
    with LocalWorkers(data, 1) as workers:
        compressed = compress([parent], settings, Context(data, workers, tmp_path))
    (model,) = compressed.models
    for layer, fraction in architecture.sparsities.items():
        kernel = model.weights[f"{layer}/kernel"]
        assert (kernel == 0).sum() == round(fraction * kernel.size)
    widths = [dict(layer.params)["weight_bits"] for layer in architecture.layers if layer.kind == "dense"]
    assert [layer.weight.bits for layer in model.architecture.layers if layer.weight] == widths
    assert compressed.costs[model.name]["adder_luts"] > 0
    assert compressed.one_front
    assert compressed.select("best", "knee") == (model,)
    assert parent.bops > 10 * model.bops  # a float network is one of 32 bits


@pytest.mark.slow
@pytest.mark.usefixtures("da4ml")
def test_the_network_of_the_search_is_the_first_point_of_its_compression(
    space: SearchSpace, vector_classes: Dataset, keras: Any, tmp_path: Path
) -> None:
    """The longer training cannot lose what the search has found; nor can a resumed one."""
    from kerasnac.stages.compress.points import point_origin
    from kerasnac.stages.run import Run

    compress = {"schedule": "searched", "bits": [4], "epochs": 2, "cost": "adder_luts"}
    with Run(tmp_path, vector_classes, seed=3, workers=1) as run:
        found = run.search(space, changed(SETTINGS, evaluations=2, population=2))
        tuned = run.tune(found.select("best"), trials=1, epochs=1)
        compressed = run.compress(tuned, **compress)
        known = (tmp_path / "compress.jsonl").read_text()
        again = run.compress(run.tune(found.select("best"), trials=1, epochs=1), **compress)
    (best,) = found.select("best")
    first, longer = compressed.models
    assert {**first.metrics, **compressed.costs[first.name]}.items() <= best.metrics.items()
    assert [point_origin(model).iteration for model in (first, longer)] == [0, 1]
    assert first.training.epochs == 1
    assert longer.training.epochs == 2
    assert again.models == compressed.models
    assert (tmp_path / "compress.jsonl").read_text() == known


def test_rules_pick_from_the_front_of_all_models_of_a_codesign(vector_classes: Dataset) -> None:
    from kerasnac.core.network.architecture import Architecture
    from kerasnac.core.network.layers import LayerSpec
    from kerasnac.core.network.origin import CompressionOrigin
    from kerasnac.stages.compress.result import CompressResult

    network = Architecture((6,), (LayerSpec.of("dense", units=3),))

    def model(name: str, accuracy: float, parent: str = "") -> Trained:
        weights = {"dense_0/kernel": np.ones((6, 3), np.float32)}
        origin = CompressionOrigin(parent, 4, 4, 0) if parent else None
        return Trained(name, network, weights, TRAINING, {"accuracy": accuracy}, 0, origin)

    parents = tuple(model(name, 0.9) for name in "abc")
    values = {"a": (0.7, 100.0), "b": (0.8, 200.0), "c": (0.75, 300.0)}
    models = tuple(model(f"{name}-q", accuracy, parent=name) for name, (accuracy, _) in values.items())
    costs = {f"{name}-q": {"adder_luts": luts} for name, (_, luts) in values.items()}
    result = CompressResult(models, parents, vector_classes.task, "adder_luts", costs=costs, one_front=True)
    assert {m.name for m in result.select("front")} == {"a-q", "b-q"}
    assert [m.name for m in result.select("adder_luts <= 150")] == ["a-q"]
    with pytest.raises(ConfigError, match="no model keeps adder_luts <= 50"):
        result.select("adder_luts <= 50")


def test_a_searched_schedule_begins_at_the_start() -> None:
    with pytest.raises(ValueError, match="rewind: keep is for iterations; a searched training begins at the start"):
        CompressSettings(schedule="searched", rewind="keep")
