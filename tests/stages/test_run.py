"""Whole runs of tiny spaces, from samples to firmware, and candidates that are trained quantized."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from kerasnac.core.data.dataset import Dataset
from kerasnac.core.network.architecture import Architecture
from kerasnac.core.network.origin import TuningOrigin
from kerasnac.core.network.quantization import CLIP_QUANTILE
from kerasnac.core.network.training import Training
from kerasnac.core.settings import QuantizedSettings, RunSettings
from kerasnac.core.space.search_space import Candidate, SearchSpace
from kerasnac.core.store.keys import SCHEMA
from kerasnac.errors import ConfigError, RunError
from kerasnac.stages.run import Outcome, Run, run_all
from kerasnac.stages.search.candidate_training import Job, QuantizedTraining, train_candidate
from kerasnac.ui import tables
from kerasnac.ui.plots import tuning
from kerasnac.ui.tables import as_text, tuned
from tests.networks import mlp

pytestmark = pytest.mark.usefixtures("in_process")


def tiny_run(
    folder: Path,
    shape: tuple[int, ...],
    block: dict[str, Any],
    tune: dict[str, Any] | None = None,
    convert: dict[str, Any] | None = None,
    **space: Any,
) -> Outcome:
    """A run of one search, one tuned model and one compressed one, on two classes of small samples."""
    rng = np.random.default_rng(0)
    y = np.arange(240) % 2
    x = rng.normal(size=(240, *shape)) * 0.5
    x[..., 0] += y.reshape(-1, *[1] * (len(shape) - 1)) - 0.5
    np.savez(folder / "data.npz", x=x, y=y)
    settings = RunSettings.model_validate(
        {
            "name": "tiny",
            "space": {"input": shape, "outputs": 2, "blocks": [block], **space},
            "dataset": {"source": "npz", "path": str(folder / "data.npz")},
            "search": {"population": 2, "evaluations": 2, "training": {"epochs": 1, "batch_size": 32}},
            "tune": {"select": ["best"], "trials": 1, "epochs": 1} | (tune or {}),
            "compress": {"bits": [6], "iterations": 0, "epochs": 1},
            "firmware": {"select": ["best"], "samples": 40} | (convert or {}),
        }
    )
    return run_all(settings, folder / "run", workers=1)


BLOCKS: dict[str, tuple[tuple[int, ...], dict[str, Any]]] = {
    "deep_sets": ((4, 3), {"block": "deep_sets", "widths": [[2, 3]], "bottleneck": 2, "norm": "batch", "aggregate": "mean"}),
    "attention": ((2, 2, 2), {"block": "attention", "width": [1, 2], "heads": 2, "scaled": True, "activation": "relu"}),
}


@pytest.mark.parametrize("name", ["attention", pytest.param("deep_sets", marks=pytest.mark.slow)])
def test_a_run_of_graphs_ends_bit_exact(name: str, tmp_path: Path) -> None:
    shape, block = BLOCKS[name]
    outcome = tiny_run(tmp_path, shape, block, firmware="exact")
    assert [evaluation.status for evaluation in outcome.search.evaluations] == ["ok", "ok"]
    (firmware,) = outcome.firmware
    assert firmware.bit_exact
    assert firmware.outputs >= 2 * 20
    assert {"deep_sets": "pool", "attention": "softmax"}[name] in str(firmware.trained.architecture)
    assert firmware.metric.firmware == firmware.metric.keras
    assert outcome.refused == {}


@pytest.mark.usefixtures("formula")
def test_a_run_of_what_cannot_be_exact_is_reported_and_finishes(tmp_path: Path) -> None:
    """A window that does not come first cannot be cut from the samples."""
    outcome = tiny_run(tmp_path, (6, 2), {"block": "window", "start": [0, 1], "length": [2, 3], "repeat": 2})
    (model,) = outcome.tuned
    assert list(outcome.refused) == [model.name]
    assert outcome.refused[model.name].startswith("window_1: a window is cut from the samples")
    assert (outcome.compressed.models, outcome.firmware) == ((), ())
    assert list(outcome.test) == [model.name]


@pytest.mark.usefixtures("formula")
def test_a_model_whose_conversion_is_refused_does_not_end_the_run(tmp_path: Path) -> None:
    """The run file cannot know how many layers the chosen network will have."""
    block = {"block": "mlp", "widths": [[2, 3], 2], "depth": [1, 2]}
    layers = {"dense_1": {"reuse_factor": 2}, "dense_2": {"reuse_factor": 2}}
    outcome = tiny_run(tmp_path, (4,), block, tune={"baselines": [mlp_baseline("long", 2, 3)]}, convert={"layers": layers})
    short, long = outcome.compressed.models
    reason = "layers.dense_2: the network has no such layer; those with a kernel are dense_0, dense_1"
    assert outcome.refused == {short.name: reason}
    assert [firmware.trained.name for firmware in outcome.firmware] == [long.name]
    assert {short.name, long.name} < outcome.test.keys()
    shown = " ".join(as_text(tables.outcome(outcome)).split())
    assert f"{short.name} has no firmware: {reason}" in shown
    assert "none │ no firmware │" in shown


@pytest.mark.usefixtures("formula")
def test_a_run_in_which_nothing_is_selected_ends_without_firmware(tmp_path: Path) -> None:
    outcome = tiny_run(tmp_path, (4,), {"block": "mlp", "widths": [[2, 3]]}, convert={"select": ["bops <= 1"]})
    (model,) = outcome.tuned
    assert outcome.firmware == ()
    assert outcome.refused[model.name].startswith("no model keeps bops <= 1; the cheapest needs ")
    assert outcome.compressed.models
    assert outcome.compressed.models[0].name in as_text(tables.outcome(outcome))


def mlp_baseline(name: str, *units: int, inputs: int = 4) -> dict[str, Any]:
    return {"name": name, "architecture": mlp(inputs, *units, 2).to_dict()}


@pytest.mark.usefixtures("formula")
def test_a_baseline_is_tuned_tested_and_shown_like_the_others(tmp_path: Path) -> None:
    block = {"block": "mlp", "widths": [[2, 3]]}
    outcome = tiny_run(tmp_path, (4,), block, tune={"baselines": [mlp_baseline("known", 5)], "repeats": 2, "trials": 2})
    found, known = outcome.tuned
    assert known.name == "known"
    assert outcome.refused == {}
    assert list(outcome.test)[:2] == [found.name, "known"]
    assert len(known.origin_as(TuningOrigin).trials) == len(found.origin_as(TuningOrigin).trials) == 2
    assert {"accuracy_mean", "accuracy_std"} <= known.metrics.keys()
    for score in outcome.test.values():
        assert 0 <= score.low <= score.value <= score.high <= 1
    shown = as_text(tuned(outcome))
    assert f"{known.metrics['accuracy_mean']:.4f} ± {known.metrics['accuracy_std']:.4f}" in shown
    assert all(str(score) in shown for score in outcome.test.values())
    assert "smoothing" not in shown
    (axes,) = tuning(outcome.tuned, outcome.search.task).axes
    labels = [text.get_text() for text in axes.get_legend().get_texts()]
    assert labels == [label for model in (found, known) for label in (model.name, f"{model.name}, best so far")]


def test_a_baseline_that_does_not_fit_is_refused_before_any_training(tmp_path: Path) -> None:
    block = {"block": "mlp", "widths": [[2, 3]]}
    with pytest.raises(ConfigError, match=r"tune\.baselines: known: it takes inputs of shape \(5,\)"):
        tiny_run(tmp_path, (4,), block, tune={"baselines": [mlp_baseline("known", 5, inputs=5)]})
    assert not (tmp_path / "run").exists()


def with_widths(weight_bits: int, activation_bits: int) -> Architecture:
    block = {
        "block": "mlp",
        "widths": [8],
        "norm": "batch",
        "activation": "relu",
        "weight_bits": weight_bits,
        "activation_bits": activation_bits,
    }
    space = SearchSpace.model_validate({"input": 6, "outputs": 3, "firmware": "exact", "blocks": [block]})
    return space.decode(()).architecture


TRAINING = Training(epochs=6, batch_size=16, learning_rate=0.01)


def codesign_job(architecture: Architecture, **options: Any) -> Job:
    """As a search with the usual settings trains it."""
    return Job(
        Candidate(architecture), TRAINING, 1, quantized=QuantizedTraining(QuantizedSettings().of(TRAINING, full=6), **options)
    )


def test_a_candidate_with_widths_is_scored_as_it_will_be_quantized(vector_classes: Dataset, keras: Any) -> None:
    """The same steps by hand: a float training, half as many epochs quantized at a third of the rate."""
    from kerasnac.adapters.keras.train import fit, quantized_start

    data = vector_classes.development
    architecture = with_widths(3, 2)
    result = train_candidate(data, codesign_job(architecture))
    floating = fit(architecture, data, TRAINING, seed=1)
    widths = {"weight_bits": 8, "activation_bits": 8}
    quantized, start = quantized_start(architecture, floating.weights, data, **widths, clip_quantile=CLIP_QUANTILE)
    assert [layer.weight.bits for layer in quantized.layers if layer.weight] == [3, 8]
    assert [layer.activation.bits for layer in quantized.layers if layer.activation] == [2]
    expected = fit(quantized, data, TRAINING.with_(epochs=3, learning_rate=0.01 / 3), seed=1, start=start)
    assert result.metrics == {"accuracy": expected.metric, "loss": expected.loss}
    assert result.metrics["loss"] != floating.loss
    assert result.seconds > 0


@pytest.mark.slow
def test_fewer_bits_cost_accuracy(vector_classes: Dataset, keras: Any) -> None:
    data = vector_classes.development
    jobs = [[replace(codesign_job(with_widths(*bits)), seed=seed) for seed in range(3)] for bits in ((8, 8), (2, 2))]
    many, few = (sum(train_candidate(data, job).metrics["loss"] for job in some) for some in jobs)
    assert many < few


@pytest.mark.parametrize("schema", [None, SCHEMA + 1])
def test_a_folder_of_another_schema_is_refused_in_one_line(schema: int | None, vector_classes: Dataset, tmp_path: Path) -> None:
    with Run(tmp_path, vector_classes):
        pass
    path = tmp_path / "run.json"
    description = json.loads(path.read_text()) | {"schema": schema, "versions": {"kerasnac": "9.8.7"}}
    path.write_text(json.dumps(description))
    with pytest.raises(RunError, match=r"schema.*kerasnac 9\.8\.7") as refused:
        Run(tmp_path, vector_classes)
    assert "\n" not in str(refused.value)
    assert json.loads(path.read_text()) == description


class TestFolder:
    def test_a_refused_run_leaves_the_folder_to_the_right_one(
        self, vector_classes: Dataset, vector_values: Dataset, tmp_path: Path
    ) -> None:
        with Run(tmp_path, vector_classes):
            pass
        with pytest.raises(RunError, match="other data"):
            Run(tmp_path, vector_values)
        Run(tmp_path, vector_classes).close()

    def test_a_cell_that_is_run_again_takes_the_folder_over(self, vector_classes: Dataset, tmp_path: Path) -> None:
        first = Run(tmp_path, vector_classes)
        second = Run(tmp_path, vector_classes)
        with pytest.raises(RunError, match="opened again"):
            first.tune([])
        first.close()
        assert second.tune([]) == ()
        second.close()

    def test_a_closed_run_trains_nothing(self, vector_classes: Dataset, tmp_path: Path) -> None:
        run = Run(tmp_path, vector_classes)
        run.close()
        run.close()
        for stage in (run.tune, run.compress, run.test, run.try_convert):
            with pytest.raises(RunError, match="is closed"):
                stage([])
