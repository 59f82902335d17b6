"""Every precision pruned step by step: where it ends, what is recorded, what is selected."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError

from kerasnac.adapters.keras import pruning
from kerasnac.adapters.keras.member import Fit
from kerasnac.adapters.rtl.adder_graph import adder_graph_costs
from kerasnac.core.data.dataset import Dataset, Task
from kerasnac.core.hardware.boards import board
from kerasnac.core.network.architecture import Architecture
from kerasnac.core.network.precision import Binary, Odd, Precision, Ternary
from kerasnac.core.network.quantization import check_representable
from kerasnac.core.network.trained import Trained
from kerasnac.core.network.training import Training
from kerasnac.core.settings import AdderGraphSettings, CompressSettings, RunSettings
from kerasnac.core.store.journal import Journal
from kerasnac.core.store.progress import Step
from kerasnac.core.store.seeding import derive_seed
from kerasnac.errors import ConfigError, ConversionError
from kerasnac.stages.compress import points, qat
from kerasnac.stages.compress.compression import compress
from kerasnac.stages.compress.points import point_origin
from kerasnac.stages.compress.qat import CompressJob
from kerasnac.stages.compress.result import CompressResult
from kerasnac.stages.context import Context
from kerasnac.ui.plots import compression
from tests.events import counted
from tests.networks import mlp, normal_weights
from tests.stand_ins import InProcess

NETWORK = mlp(6, 8, 3)


@pytest.fixture
def model() -> Trained:
    weights = normal_weights(NETWORK, scale=0.5)
    return Trained("toy", NETWORK, weights, Training(epochs=1, batch_size=64, learning_rate=0.01), {"accuracy": 0.8}, seed=0)


@pytest.fixture
def made(vector_classes: Dataset, keras: Any, model: Trained, tmp_path: Path) -> Callable[..., CompressResult]:
    """Compresses one model at one width."""

    def make(models: Sequence[Trained] = (model,), progress: Any = lambda step: None, **settings: Any) -> CompressResult:
        checked = CompressSettings(**{"bits": (6,), "iterations": 3, "epochs": 2, **settings})
        workers: Any = InProcess(vector_classes.development)
        return compress(models, checked, Context(vector_classes.development, workers, tmp_path, 4, progress))

    return make


class Instant:
    """Stands in for the trainings: given accuracies, weights with ever more zeros."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *accuracies: float) -> None:
        self.accuracies, self.trained = accuracies, 0
        monkeypatch.setattr(qat, "_fit", self)

    def __call__(self, data: Any, job: Any, begin: Any, training: Any, before: Sequence[Trained]) -> Fit:
        self.trained += 1
        kernel = begin.weights["dense_0/kernel"]
        pruned = np.argsort(np.abs(kernel), axis=None)[: 8 * len(before)]
        weights = {**begin.weights, "dense_0/kernel": kernel.copy()}
        weights["dense_0/kernel"].flat[pruned] = 0
        return Fit(weights, self.accuracies[len(before)], 1.0, 1, 0.1)


def names(result: CompressResult) -> list[str]:
    return [model.name.removeprefix("toy-w6a6-") for model in result.models]


@pytest.mark.parametrize(
    ("settings", "complaint"),
    [
        ({"sparsities": (0.8, 0.5)}, "must ascend"),
        ({"sparsities": (0.5, 1.0)}, "less than 1"),
        ({"schedule": "one_shot", "rewind": "keep"}, "a one_shot training begins at the start"),
        ({"rewind": "early", "rewind_epochs": 5}, "5 are not fewer than the 5 epochs"),
        ({"tolerance": -0.1}, "greater than or equal to 0"),
        ({"bits": ["ternary"]}, r"give that of activations too, as \[ternary, 6\]"),
        ({"bits": [1]}, "ternary, binary, or a number of bits from 2 to 16"),
        ({"bits": [("binary", 0)]}, "greater than or equal to 1"),
        ({"schedule": "learned", "tie_free": True}, "tie_free: with learned widths ties are rounded up"),
    ],
)
def test_settings_that_cannot_work_are_refused(settings: dict[str, Any], complaint: str) -> None:
    with pytest.raises(ConfigError, match=complaint):
        CompressSettings(**settings)


def test_a_binary_kernel_is_not_pruned_and_a_ternary_one_is(
    made: Callable[..., CompressResult], monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = {"bits": (("binary", 4), ("ternary", 1)), "iterations": 2, "epochs": 1}
    result = made(**settings)
    assert names(result) == ["toy-binary-a4-i00", "toy-ternary-a1-i00", "toy-ternary-a1-i01", "toy-ternary-a1-i02"]
    assert [type(model.architecture.layers[0].weight) for model in result.models] == [Binary, *[Ternary] * 3]
    assert result.models[0].sparsity == 0
    pruned = [np.mean(model.weights["dense_0/kernel"] == 0) for model in result.models[1:]]
    assert pruned == pytest.approx([0, 0.2, 0.36], abs=0.02)
    monkeypatch.setattr(qat, "_fit", None)
    assert names(made(**settings)) == names(result)


def test_biases_off_the_ties_are_other_points(made: Callable[..., CompressResult], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(qat, "_fit", instant := Instant(monkeypatch, 0.8, 0.7))
    for choice, biases in ((False, [Precision, Precision]), (True, [Odd, Precision])):
        result = made(iterations=1, tie_free=choice)
        assert [type(layer.bias) for layer in result.models[1].architecture.layers if layer.kind == "dense"] == biases
    assert instant.trained == 4


def test_a_selection_by_a_cost_needs_its_estimates() -> None:
    run = {
        "name": "x",
        "space": {"input": 6, "outputs": 3, "blocks": [{"block": "none"}]},
        "dataset": {"source": "digits"},
        "firmware": {"select": ["adder_luts <= 5000"]},
    }
    with pytest.raises(ValidationError, match=r"needs compress.estimators: \[adder_graph\]"):
        RunSettings.model_validate(run)
    assert RunSettings.model_validate(run | {"compress": {"cost": "adder_luts"}}).compress.adder_graphs


def test_iterations_from_early_weights_by_global_rank(
    made: Callable[..., CompressResult], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The real thing: masks are nested, every point starts at the same weights, a second call trains nothing."""
    rewinds = []
    fit_pruned = pruning.fit_pruned

    def watched(*arguments: Any, **options: Any) -> Fit:
        rewinds.append(options["start"])
        return fit_pruned(*arguments, **options)

    monkeypatch.setattr(pruning, "fit_pruned", watched)
    settings: dict[str, Any] = {"rewind": "early", "ranking": "global", "iterations": 2, "prune_output": True}
    result = made(**settings)
    assert names(result) == [f"early1-global-i{i:02d}" for i in range(3)]
    early = Trained.load(tmp_path / "compressed" / "toy-w6a6-early1-global-rewind").weights
    for rewind in rewinds:
        for key in early:
            np.testing.assert_array_equal(rewind[key], early[key])
    pruned = [np.concatenate([m.weights[f"dense_{i}/kernel"].ravel() == 0 for i in (0, 1)]) for m in result.models]
    assert [mask.mean() for mask in pruned] == pytest.approx([0, 0.2, 0.36], abs=0.01)
    assert not (pruned[1] & ~pruned[2]).any()
    monkeypatch.setattr(qat, "_fit", None)
    assert made(**settings) == result


@pytest.mark.parametrize("rewind", ["start", "keep"])
def test_what_an_iteration_trains_from(
    rewind: str, made: Callable[..., CompressResult], model: Trained, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = []

    def fit_pruned(*arguments: Any, **options: Any) -> Fit:
        calls.append(options)
        return Fit({k: v + 1 for k, v in options["trained"].items()}, 0.8, 1.0, 1, 0.1)

    fit = Fit({k: v + 1 for k, v in model.weights.items()}, 0.8, 1.0, 1, 0.1)
    monkeypatch.setattr("kerasnac.adapters.keras.train.fit", lambda *arguments, **options: fit)
    monkeypatch.setattr(pruning, "fit_pruned", fit_pruned)
    result = made(rewind=rewind, iterations=2)
    assert names(result) == ([f"i{i:02d}" for i in range(3)] if rewind == "start" else [f"keep-i{i:02d}" for i in range(3)])
    key = "dense_0/kernel"
    for i, call in enumerate(calls):
        np.testing.assert_array_equal(call["trained"][key], model.weights[key] + 1 + i)
        np.testing.assert_array_equal(call["start"][key], call["trained"][key] if rewind == "keep" else model.weights[key])
    assert [call["fractions"]["dense_0"] for call in calls] == [1 - 0.8, 1 - 0.8**2]
    assert [call["seed"] for call in calls] == [derive_seed(4, "compress", "toy-w6a6", i) for i in (1, 2)]


def test_one_shot(made: Callable[..., CompressResult], tmp_path: Path) -> None:
    result = made(schedule="one_shot", sparsities=(0.05, 0.75), bits=(3,))
    assert [m.name for m in result.models] == [f"toy-w3a3-one_shot-i{i:02d}" for i in range(3)]
    assert [float(np.mean(m.weights["dense_0/kernel"] == 0)) for m in result.models[1:]] == [round(0.05 * 48) / 48, 0.75]
    zeros = result.models[0].layer_sparsity["dense_0"]
    assert zeros > 0.05, "quantization alone leaves zeros"
    (note,) = result.notes.values()
    assert note.startswith("a sparsity of 0.05 is asked for")
    assert [record.get("note") for record in Journal(tmp_path / "compress.jsonl").records()] == [None, note, None]
    assert result.frame()["note"][1] == note


class TestTolerance:
    def test_a_precision_ends_after_some_bad_points_in_a_row(
        self, made: Callable[..., CompressResult], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        instant = Instant(monkeypatch, 0.8, 0.7, 0.79, 0.78, float("nan"), 0.9)
        steps: list[Step] = []
        result = made(tolerance=0.02, patience=2, iterations=5, progress=steps.append)
        assert names(result) == [f"i{i:02d}" for i in range(5)], "0.784 is the limit: i03 and i04 are beyond"
        assert (counted(steps)[-1].done, counted(steps)[-1].total) == (5, 5)
        assert {m.metrics["accuracy"] for m in result.front} <= {0.8, 0.79}
        assert made(tolerance=0.02, patience=2, iterations=5).models[:3] == result.models[:3]
        assert instant.trained == 5, "a second call ends at the same place"
        assert len(made(tolerance=0.02, patience=1, iterations=5).models) == 2
        assert len(made(tolerance=None, iterations=5).models) == 6
        assert instant.trained == 6, "what was trained is used again"

    def test_small_is_good_in_regression(self, model: Trained) -> None:
        task = Task("regression", 2)
        parent = replace(model, metrics={task.metric: 2.0})
        job = CompressJob(parent, 6, 6, CompressSettings(tolerance=0.1, patience=1), 0, Path())
        assert job.length([2.2, 2.21], task) == 2
        assert job.length([1.0, 2.2], task) == 6

    def test_nothing_within_it(self, made: Callable[..., CompressResult], monkeypatch: pytest.MonkeyPatch) -> None:
        Instant(monkeypatch, 0.5, 0.6)
        result = made(tolerance=0.01)
        assert (len(result.models), result.front) == (2, ())
        reason = "no compressed model of toy is within the tolerance of 0.01 of its accuracy, 0.8; "
        assert result.excluded == {"toy": reason + "the closest is toy-w6a6-i01 with 0.6"}
        with pytest.raises(ConfigError, match=r"there is nothing to select: .* the closest is toy-w6a6-i01 with 0.6"):
            result.select("best")

    def test_one_model_without_a_point_does_not_stop_the_others(
        self, made: Callable[..., CompressResult], model: Trained, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        Instant(monkeypatch, 0.7, 0.7)
        modest = replace(model, name="modest", metrics={"accuracy": 0.7})
        result = made([model, modest], tolerance=0.01, iterations=1)
        assert list(result.excluded) == ["toy"]
        assert [point_origin(m).parent for m in result.select("best", "knee")] == ["modest"]


class TestCosts:
    def test_of_the_real_weights(
        self, made: Callable[..., CompressResult], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        pytest.importorskip("da4ml")
        instant = Instant(monkeypatch, 0.8, 0.8, 0.79, 0.78)
        before = made()
        assert before.costs == {}
        result = made(cost="adder_luts", board="zcu102", adder_graph={"latency_cutoff": 3})
        assert instant.trained == 4, "costs are added to points that are there"
        luts = [result.costs[m.name]["adder_luts"] for m in result.models]
        clock = CompressSettings(board="zcu102").clock
        assert clock is not None
        for m in result.models:
            assert result.costs[m.name] == clock.timed(
                adder_graph_costs(m.architecture, m.weights, AdderGraphSettings(latency_cutoff=3), board("zcu102"))
            )
        records = Journal(tmp_path / "compress.jsonl").records()
        assert [r["adder_luts"] for r in records[4:]] == luts == list(result.frame()["adder_luts"])
        assert luts == sorted(luts, reverse=True)
        assert names(result)[-2:] == ["i02", "i03"]
        assert [m.name for m in result.select(f"adder_luts <= {luts[2]}", "best")] == ["toy-w6a6-i02", "toy-w6a6-i01"]
        assert made(cost="adder_luts", board="zcu102", adder_graph={"latency_cutoff": 3}) == result
        assert len(Journal(tmp_path / "compress.jsonl")) == 8
        axes = compression(result).axes[0]
        assert axes.get_xlabel() == "LUTs of the adder graph (estimate)"
        np.testing.assert_array_equal(axes.lines[0].get_xdata(), luts)

    def test_a_point_without_a_graph(self, made: Callable[..., CompressResult], monkeypatch: pytest.MonkeyPatch) -> None:
        def refuse(architecture: Architecture, weights: Any, *arguments: Any) -> Any:
            if np.mean(weights["dense_0/kernel"] == 0) < 0.1:
                raise ConversionError("too large")
            return adder_graph_costs(architecture, weights, *arguments)

        pytest.importorskip("da4ml")
        monkeypatch.setattr(points, "adder_graph_costs", refuse)
        Instant(monkeypatch, 0.9, 0.8)
        result = made(estimators=["adder_graph"], iterations=1)
        assert result.notes == {"toy-w6a6-i00": "too large"}
        assert [m.name for m in result.select("best")] == ["toy-w6a6-i00"]
        assert [m.name for m in replace(result, cost="adder_luts").select("best")] == ["toy-w6a6-i01"]
        compression(replace(result, cost="adder_luts"))
        none = replace(result, cost="adder_luts", costs={})
        assert none.front == ()
        with pytest.raises(ConfigError, match=r"no 'adder_luts' is recorded .*\(too large\)"):
            none.select("best")

    def test_an_unknown_cost(self, made: Callable[..., CompressResult], monkeypatch: pytest.MonkeyPatch) -> None:
        Instant(monkeypatch, 0.9)
        with pytest.raises(ConfigError, match="no 'lutts' is recorded to select by; there are accuracy"):
            made(iterations=0).select("lutts <= 4")


def test_a_folder_that_another_call_has_overwritten_is_made_again(
    made: Callable[..., CompressResult], monkeypatch: pytest.MonkeyPatch
) -> None:
    first = Instant(monkeypatch, 0.8, 0.8)
    result = made(iterations=1)
    Instant(monkeypatch, 0.7, 0.7)
    made(iterations=1, fraction=0.5)
    Instant(monkeypatch, 0.8, 0.8)
    assert made(iterations=1) == result
    assert first.trained == 2


def test_settings_of_before_mean_what_they_meant() -> None:
    settings = CompressSettings.model_validate(json.loads('{"bits": [8, [6, 7]], "iterations": 2, "fraction": 0.5}'))
    assert (settings.steps, [settings.sparsity(i) for i in range(3)]) == (2, [0, 0.5, 0.75])
    assert not settings.adder_graphs


def test_weights_that_are_not_finite(made: Callable[..., CompressResult], model: Trained) -> None:
    bad = {**model.weights, "dense_1/bias": np.array([0, np.nan, 0], np.float32)}
    with pytest.raises(ConversionError, match="toy cannot be quantized: dense_1/bias holds NaN or infinity"):
        made([replace(model, weights=bad)])


def test_a_range_that_float32_cannot_scale(made: Callable[..., CompressResult], model: Trained) -> None:
    tiny = {**model.weights, "dense_0/kernel": model.weights["dense_0/kernel"] * np.float32(1e-36)}
    with pytest.raises(ConversionError, match=r"dense_0: the observed range of its weight needs .* float32"):
        made([replace(model, weights=tiny)])
    huge = replace(NETWORK.layers[1], activation=Precision(8, 120, signed=False))
    with pytest.raises(ConversionError, match="activation_0: the observed range of its activation"):
        check_representable(Architecture((6,), (NETWORK.layers[0], huge, NETWORK.layers[2]), Precision(8, 3)))
