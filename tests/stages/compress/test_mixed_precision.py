"""Mixed precision: what a point is, where the search begins, and that it resumes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError

from kerasnac.adapters.keras import train
from kerasnac.adapters.keras.predict import activation_ranges
from kerasnac.adapters.keras.train import fit, quantized_start
from kerasnac.core.data.dataset import Dataset
from kerasnac.core.network.architecture import Architecture
from kerasnac.core.network.exactness import check_exact
from kerasnac.core.network.origin import CompressionOrigin, MixedOrigin, to_dict
from kerasnac.core.network.precision import Binary, Ternary
from kerasnac.core.network.trained import Trained
from kerasnac.core.network.training import Training
from kerasnac.core.network.weights import fold
from kerasnac.core.settings import CompressSettings, DatasetSettings, MixedSettings, RunSettings
from kerasnac.core.settings.yaml_files import dump, load_run
from kerasnac.core.space.blocks import Nothing
from kerasnac.core.space.layer_bits import LayerBits, LayerBitsSpace, layer_bits, with_layer_bits
from kerasnac.core.space.search_space import SearchSpace
from kerasnac.core.store.journal import Journal
from kerasnac.core.store.progress import Step
from kerasnac.errors import TrialError
from kerasnac.stages.compress import mixed_precision as stage
from kerasnac.stages.compress import sensitivity
from kerasnac.stages.compress.mixed_precision import mixed_precision
from kerasnac.stages.compress.points import Point
from kerasnac.stages.compress.result import CompressResult
from kerasnac.stages.context import Context
from kerasnac.stages.run import session
from kerasnac.ui.plots import compression
from tests.events import counted
from tests.networks import mlp
from tests.stand_ins import InProcess

NETWORK = mlp(6, 6, 3, fn="tanh", norm=True)
LAYERS = ["dense_0", "activation_0", "dense_1"]
TRAINING = Training(epochs=8, batch_size=32, learning_rate=0.02)


@pytest.fixture(scope="module")
def uniform(vector_classes: Dataset, keras: Any) -> CompressResult:
    """One trained model, and one point of it at 6 bits with half of the first kernel pruned."""
    data = vector_classes.development
    trained = fit(NETWORK, data, TRAINING, seed=0)
    float_ = Trained("toy", NETWORK, trained.weights, TRAINING, {"accuracy": trained.metric}, seed=0)
    widths = {"weight_bits": 6, "activation_bits": 6}
    quantized, weights = quantized_start(NETWORK, trained.weights, data, **widths, clip_quantile=1e-3)
    kernel = weights["dense_0/kernel"]
    pruned = {**weights, "dense_0/kernel": np.where(np.abs(kernel) < np.median(np.abs(kernel)), 0, kernel)}
    origin = CompressionOrigin("toy", **widths, iteration=1)
    point = Trained("toy-w6a6-i01", quantized, pruned, TRAINING, {"accuracy": trained.metric, "loss": 1.0}, 0, origin)
    return CompressResult((point,), (float_,), data.task)


@pytest.fixture
def search(uniform: CompressResult, vector_classes: Dataset, tmp_path: Path) -> Callable[..., CompressResult]:
    def run(
        result: CompressResult = uniform,
        *,
        folder: Path = tmp_path,
        seed: int = 3,
        progress: Any = lambda step: None,
        cost: Any = "bops",
        **mixed: Any,
    ) -> CompressResult:
        options = {"evaluations": 4, "population": 3, "epochs": 1, "weight_bits": (3, 4, 6), "activation_bits": (4, 5)}
        settings = CompressSettings(cost=cost, mixed=MixedSettings(**{**options, "max_drop": 0.5, **mixed}))
        workers: Any = InProcess(vector_classes.development)
        context = Context(vector_classes.development, workers, folder, seed, progress)
        return mixed_precision(replace(result, cost=cost), settings, context)

    return run


class Instant:
    """Stands in for the trainings: better with every bit."""

    def __init__(self, fails_after: int | None = None) -> None:
        self.widths: list[dict[str, int]] = []
        self._left = fails_after

    def __call__(self, data: Any, job: stage.PointJob, key: str, name: str) -> tuple[Trained, dict[str, Any]]:
        if self._left is not None and len(self.widths) == self._left:
            raise KeyboardInterrupt
        widths = dict(job.widths.by_layer)
        self.widths.append(widths)
        origin = MixedOrigin(parent="toy", start=job.start.point.name, iteration=1, widths=widths)
        metrics = {"accuracy": sum(widths.values()) / 30, "loss": 1.0}
        quantized = job.start.quantized(data, job.widths)
        model = Trained(name, quantized, job.start.point.weights, TRAINING, metrics, 0, origin)
        costs = {"sparsity": 0.0, "bops": model.bops, "seconds": 0.0}
        return model, {"key": key, "model": name, **to_dict(origin), **metrics, **costs}


@pytest.fixture
def instant(uniform: CompressResult, vector_classes: Dataset, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Instant]:
    """Puts an instant training in place of the real one; ranges are observed once, and all widths are tolerated."""
    (parent,) = uniform.parents
    ranges = activation_ranges(
        *fold(parent.architecture, parent.weights), vector_classes.development.train.x, clip_quantile=1e-3
    )
    monkeypatch.setattr(train, "activation_ranges", lambda *arguments, **options: ranges)

    def put(*, real_sensitivity: bool = False, **options: Any) -> Instant:
        if not real_sensitivity:
            monkeypatch.setattr(sensitivity, "sensitivity", lambda data, job: dict.fromkeys(job.choices, 0.0))
        made = Instant(**options)
        monkeypatch.setattr(stage, "_trained", made)
        return made

    return put


@pytest.mark.slow
def test_the_real_thing(
    search: Callable[..., CompressResult], uniform: CompressResult, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (start,) = uniform.models
    steps: list[Step] = []
    result = search(progress=steps.append)
    assert result.models[0] is start
    points = result.models[1:]
    assert len({m.name for m in points}) == 4
    assert (counted(steps)[-1].done, counted(steps)[-1].total) == (4, 4)
    assert dict.fromkeys(LAYERS, 6) in [m.origin_as(MixedOrigin).widths for m in points[:3]]
    zeros = start.weights["dense_0/kernel"] == 0
    assert 0.4 < zeros.mean() < 0.6
    for model in points:
        widths = model.origin_as(MixedOrigin).widths
        assert list(widths) == sorted(LAYERS)
        layers = dict(zip(model.architecture.names, model.architecture.layers, strict=True))
        grids = [layers["dense_0"].weight, layers["activation_1"].activation, layers["dense_1"].weight]
        assert [grid and grid.bits for grid in grids] == [widths[name] for name in LAYERS]
        kernel = model.weights["dense_0/kernel"]
        assert (kernel[zeros] == 0).all()
        assert (kernel[~zeros] != start.weights["dense_0/kernel"][~zeros]).any(), "it is trained"
        check_exact(model.architecture, model.weights)
        assert Trained.load(tmp_path / "compressed" / model.name) == model
    monkeypatch.setattr(stage, "_trained", None)
    assert search() == result, "a second call trains nothing"


def test_kernels_may_become_ternary_or_binary(search: Callable[..., CompressResult], monkeypatch: pytest.MonkeyPatch) -> None:
    result = search(weight_bits=("binary", "ternary", 3), activation_bits=(1, 6), evaluations=5, max_drop=2)
    points = result.models[1:]
    kinds = {type(layer.weight) for model in points for layer in model.architecture.layers}
    assert kinds & {Ternary, Binary}
    for model in points:
        widths = model.origin_as(MixedOrigin).widths
        layers = dict(zip(model.architecture.names, model.architecture.layers, strict=True))
        for name in ("dense_0", "dense_1"):
            assert str(layers[name].weight).partition("<")[0] == {3: "ap_fixed", 6: "ap_fixed"}.get(widths[name], widths[name])  # type: ignore[call-overload]
        check_exact(model.architecture, model.weights)
    monkeypatch.setattr(stage, "_trained", None)
    assert search(weight_bits=("binary", "ternary", 3), activation_bits=(1, 6), evaluations=5, max_drop=2) == result


def test_the_starting_point_keeps_its_formats(
    search: Callable[..., CompressResult], uniform: CompressResult, instant: Callable[..., Instant]
) -> None:
    instant()
    first = search().models[1]
    grids = [(layer.weight, layer.bias, layer.activation) for layer in first.architecture.layers]
    assert grids == [(layer.weight, layer.bias, layer.activation) for layer in uniform.models[0].architecture.layers]


def test_the_seed_decides(search: Callable[..., CompressResult], instant: Callable[..., Instant], tmp_path: Path) -> None:
    made = instant()
    runs = [search(folder=tmp_path / name, seed=seed, evaluations=9) for name, seed in (("a", 1), ("b", 1), ("c", 2))]
    assert runs[0] == runs[1]
    assert made.widths[:9] == made.widths[9:18] != made.widths[18:]


@pytest.mark.parametrize("trained", [0, 2, 7])
def test_a_killed_search_goes_on_as_if_nothing_had_happened(
    trained: int, search: Callable[..., CompressResult], instant: Callable[..., Instant], tmp_path: Path
) -> None:
    whole = instant()
    result = search(folder=tmp_path / "whole", evaluations=9)
    cut = instant(fails_after=trained)
    with pytest.raises(KeyboardInterrupt):
        search(evaluations=9)
    assert len(cut.widths) == trained
    rest = instant()
    assert search(evaluations=9) == result
    assert cut.widths + rest.widths == whole.widths
    path = tmp_path / "mixed.jsonl"
    path.write_bytes(path.read_bytes()[:-40])
    (tmp_path / "stages.jsonl").unlink()  # Nothing says that it has ended.
    again = instant()
    assert search(evaluations=9) == result
    assert len(again.widths) == 1, "the model of the record that was cut is made again"
    assert search(evaluations=12).models[:10] == result.models


def test_the_sensitivity_limits_the_widths(
    search: Callable[..., CompressResult], instant: Callable[..., Instant], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    asked: list[Architecture] = []

    def predict(architecture: Architecture, weights: Any, x: Any) -> Any:
        asked.append(architecture)
        narrow = [layer.weight.bits for layer in architecture.layers if layer.weight and layer.weight.bits < 6]
        return np.array(0.9 if not narrow or narrow[0] > 4 else 0.1)

    monkeypatch.setattr("kerasnac.adapters.keras.predict.predict", predict)
    monkeypatch.setattr("kerasnac.core.data.dataset.Task.score", lambda task, outputs, y: float(outputs))
    made = instant(real_sensitivity=True)
    search(weight_bits=(2, 3, 4, 5, 8), activation_bits=5, evaluations=20)
    seen = {name: {widths[name] for widths in made.widths} for name in LAYERS}
    assert seen == {"dense_0": {5, 6, 8}, "activation_0": {5, 6}, "dense_1": {5, 6, 8}}
    assert len(made.widths) == 18, "all there are"
    records = {r["layer"]: r for r in Journal(tmp_path / "mixed.jsonl").records() if "layer" in r}
    assert records["dense_0"]["lowered"] == {"5": 0.9, "4": 0.1}, "what is narrower still is not tried"
    assert (records["dense_0"]["metric"], records["dense_0"]["kept"]) == (0.9, [5, 6, 8])
    count = len(asked)
    search(weight_bits=(2, 3, 4, 5, 8), activation_bits=5, evaluations=20)
    assert len(asked) == count, "it is recorded"


def test_it_joins_the_other_points(search: Callable[..., CompressResult], instant: Callable[..., Instant]) -> None:
    instant()
    result = search(evaluations=9)
    assert len(result.frame()) == 10
    assert any(isinstance(m.origin, MixedOrigin) for m in result.front)
    cheapest = min(result.models, key=lambda m: m.bops)
    assert result.select(f"bops <= {cheapest.bops}") == (cheapest,)
    assert isinstance(cheapest.origin, MixedOrigin)
    labels = [text.get_text() for text in compression(result).axes[0].get_legend().get_texts()]
    assert labels == ["toy, 6-bit weights, 6-bit activations", "toy, mixed precision", "toy, float"]


def test_adder_graphs_as_the_cost(
    search: Callable[..., CompressResult], uniform: CompressResult, instant: Callable[..., Instant]
) -> None:
    pytest.importorskip("da4ml")
    instant()
    given = replace(uniform, costs={uniform.models[0].name: {"adder_luts": 1e3}})
    result = search(given, cost="adder_luts", evaluations=3)
    assert all(result.values(m)["adder_luts"] > 0 for m in result.models)
    assert search(given, cost="adder_luts", evaluations=3) == result


def test_a_point_without_a_cost_is_worse_than_any(uniform: CompressResult, vector_classes: Dataset) -> None:
    (model,) = uniform.models
    points = [Point(model, {"adder_luts": 5.0}), Point(model), Point(replace(model, metrics={"accuracy": np.nan}))]
    losses, violations = stage._values(points, "adder_luts", vector_classes.task)
    assert violations.ravel().tolist() == [0, 1, 1]
    assert np.isfinite(losses).all()


@pytest.mark.parametrize(
    ("changes", "mixed", "reason"),
    [
        ({"models": ()}, {}, "there is nothing to select: there is no compressed model of toy"),
        ({"tolerance": 0.0}, {}, "there is nothing to select: no compressed model of toy is within the tolerance"),
        ({}, {"start": "metric 2"}, "no model reaches a metric of 2"),
        ({}, {"weight_bits": 6, "activation_bits": 6}, "no layer of toy-w6a6-i01 may have another width"),
    ],
)
def test_a_model_that_cannot_begin_is_left_out_with_a_reason(
    changes: Any, mixed: Any, reason: str, search: Callable[..., CompressResult], uniform: CompressResult
) -> None:
    better = tuple(replace(parent, metrics={"accuracy": 1.1}) for parent in uniform.parents)
    given = replace(uniform, parents=better, **changes)
    result = search(given, **mixed)
    assert result.models == given.models
    assert reason in result.mixed_refused["toy"]


def test_a_training_that_raises_is_shown_with_its_widths(
    search: Callable[..., CompressResult], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sensitivity, "sensitivity", lambda data, job: dict.fromkeys(job.choices, 0.0))
    monkeypatch.setattr("kerasnac.adapters.keras.pruning.fit_masked", None)
    with pytest.raises(TrialError, match=r"training toy with the widths dense_0=\d activation_0=\d dense_1=\d failed"):
        search()


def test_without_settings_nothing_is_done(uniform: CompressResult, vector_classes: Dataset, tmp_path: Path) -> None:
    workers: Any = None
    data = vector_classes.development
    assert mixed_precision(uniform, CompressSettings(), Context(data, workers, tmp_path)) is uniform


def test_a_run_goes_on_to_mixed_precision(
    uniform: CompressResult, vector_classes: Dataset, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(session, "compress", lambda *arguments, **options: uniform)
    monkeypatch.setattr(session.Run, "_workers", InProcess(vector_classes.development))
    with session.Run(tmp_path, vector_classes) as run:
        result = run.compress(uniform.parents, mixed={"evaluations": 1, "epochs": 1, "weight_bits": 5, "activation_bits": 6})
    assert [getattr(m.origin, "widths", None) for m in result.models] == [None, dict.fromkeys(LAYERS, 6)]
    assert (tmp_path / "compress.csv").read_text().count("toy-mixed-") == 1


def test_the_settings_survive_yaml(tmp_path: Path) -> None:
    space = SearchSpace(input=6, outputs=3, blocks=(Nothing(),))
    compress = CompressSettings(bits=(("ternary", 4), (8, 8)), mixed=MixedSettings(weight_bits=("binary", 2, 5), start="knee"))
    run = RunSettings(name="made", space=space, dataset=DatasetSettings(source="digits"), compress=compress)
    (tmp_path / "made.yaml").write_text(dump(run))
    assert load_run(tmp_path / "made.yaml") == run


@pytest.mark.parametrize(
    ("settings", "complaint"),
    [
        ({"mixed": {"weight_bits": [1, 4]}}, "ternary, binary, or a number of bits from 2 to 16"),
        ({"mixed": {"activation_bits": ["ternary"]}}, "valid integer"),
        ({"mixed": {"activation_bits": 17}}, "less than or equal to 16"),
        ({"mixed": {"start": "cheap"}}, "unknown selection"),
        ({"mixed": {"start": "adder_luts <= 5000"}}, r"needs estimators: \[adder_graph\]"),
    ],
)
def test_settings_that_cannot_work_are_refused(settings: Any, complaint: str) -> None:
    with pytest.raises(ValidationError, match=complaint):
        CompressSettings.model_validate(settings)


class TestWidths:
    def test_a_layers_own_width_wins(self) -> None:
        own = with_layer_bits(NETWORK, {"dense_1": 3, "activation_0": 5})
        assert layer_bits(own, weight_bits=7, activation_bits=8) == {"dense_0": 7, "activation_0": 5, "dense_1": 3}
        assert own.names == NETWORK.names
        assert with_layer_bits(own, {"dense_1": 4}).layers[-1]["weight_bits"] == 4

    def test_a_layer_with_one_width_is_no_gene(self) -> None:
        space = LayerBitsSpace((("a", (2, 4)), ("b", (6,)), ("c", (3, 5, 8))))
        assert space.cardinalities == (2, 3)
        assert space.decode((1, 2)) == LayerBits((("a", 4), ("b", 6), ("c", 8)))
        assert space.decode((1, 2)).id == "a=4 b=6 c=8"
        assert space.encode({"a": 2, "b": 6, "c": 5}) == (0, 1)
