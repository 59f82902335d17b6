"""Learned widths as a schedule of the compression: the points, and an interrupted training that goes on."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from kerasnac.adapters.keras.learned.ramp import Ramp
from kerasnac.adapters.rtl.adder_graph import unroll
from kerasnac.core.data.dataset import Dataset
from kerasnac.core.network.origin import LearnedOrigin
from kerasnac.core.network.trained import Trained
from kerasnac.core.network.training import Training
from kerasnac.core.settings import CompressSettings, LearnedSettings
from kerasnac.core.space.search_space import SearchSpace
from kerasnac.core.store.progress import Step
from kerasnac.errors import ConfigError, ConversionError
from kerasnac.stages.compress.compression import check_compress, compress, reason_against
from kerasnac.stages.compress.result import CompressResult
from kerasnac.stages.context import Context
from kerasnac.ui.plots import compression
from tests.events import counted
from tests.networks import mlp, normal_weights
from tests.stand_ins import InProcess

pytestmark = pytest.mark.usefixtures("keras")


def trained(fn: str = "relu") -> Trained:
    network = mlp(6, 8, 3, fn=fn, norm=True)
    weights = normal_weights(network, scale=0.5)
    weights["batch_norm_0/moving_variance"] = np.ones(8, np.float32)
    return Trained("toy", network, weights, Training(epochs=1), {"accuracy": 0.8}, seed=0)


@pytest.fixture
def made(vector_classes: Dataset) -> Callable[..., CompressResult]:
    """Learns the widths of a model."""

    def make(folder: Path, model: Trained | None = None, progress: Any = lambda step: None, **learned: Any) -> CompressResult:
        settings = CompressSettings(
            schedule="learned", learned={"epochs": 12, "cycle": 2, "batch_size": 64, "pressure": (0.1, 3), **learned}
        )
        workers: Any = InProcess(vector_classes.development)
        return compress([model or trained()], settings, Context(vector_classes.development, workers, folder, 4, progress))

    return make


def values(result: CompressResult) -> list[tuple[str, float, float]]:
    return [(model.name, model.metrics["accuracy"], model.bops) for model in result.models]


def test_points_are_those_on_the_front_of_the_way(made: Callable[..., CompressResult], tmp_path: Path) -> None:
    steps: list[Step] = []
    result = made(tmp_path, progress=steps.append)
    last = counted(steps)[-1]
    assert (last.done, last.total) == (6, 6)
    assert "toy: accuracy" in last.text
    assert result.models
    for model in result.models:
        origin = model.origin_as(LearnedOrigin)
        assert model.name == f"toy-learned-c{origin.iteration:03d}"
        assert model.training.epochs == 2 * origin.iteration
        assert model.architecture.quantized
    assert len(list((tmp_path / "compressed" / "toy-learned-ramp").glob("c*.npy"))) == len(result.models)
    assert compression(result).axes[0].get_legend() is not None


def test_a_front_of_luts(da4ml: Any, vector_classes: Dataset, tmp_path: Path) -> None:
    settings = CompressSettings(schedule="learned", cost="adder_luts", learned={"epochs": 4, "cycle": 2, "batch_size": 64})
    workers: Any = InProcess(vector_classes.development)
    result = compress([trained()], settings, Context(vector_classes.development, workers, tmp_path))
    (model, *_) = result.front
    assert result.costs[model.name]["adder_luts"] == unroll(model.architecture, model.weights).luts


def test_an_interrupted_training_goes_on_where_it_was(
    made: Callable[..., CompressResult], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = made(tmp_path / "whole")
    cycle, trained_cycles = Ramp.cycle, []

    def interrupted(self: Ramp, number: int) -> Any:
        if number == 3 and 3 not in trained_cycles:
            trained_cycles.append(3)
            raise KeyboardInterrupt
        trained_cycles.append(number)
        return cycle(self, number)

    monkeypatch.setattr(Ramp, "cycle", interrupted)
    with pytest.raises(KeyboardInterrupt):
        made(tmp_path / "parts")
    assert values(made(tmp_path / "parts")) == values(expected)
    assert trained_cycles == [0, 1, 2, 3, 3, 4, 5]
    again = made(tmp_path / "parts")
    assert values(again) == values(expected)
    assert len(trained_cycles) == 7
    for one, other in zip(again.models, expected.models, strict=True):
        assert all(np.array_equal(one.weights[key], other.weights[key]) for key in other.weights)


def test_a_way_with_other_settings_is_another_one(made: Callable[..., CompressResult], tmp_path: Path) -> None:
    first = made(tmp_path)
    second = made(tmp_path, epochs=4)
    assert max(model.origin_as(LearnedOrigin).iteration for model in second.models) <= 2
    assert values(made(tmp_path)) == values(first)


def test_a_way_ends_beyond_the_tolerance_and_goes_on_with_another_one(
    vector_classes: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cycle, trained_cycles = Ramp.cycle, []

    def told(self: Ramp, number: int) -> Any:
        trained_cycles.append(number)
        return replace(cycle(self, number), metric=[0.8, 0.7, 0.79, 0.7, 0.6, 0.5][number])

    monkeypatch.setattr(Ramp, "cycle", told)
    workers: Any = InProcess(vector_classes.development)
    context = Context(vector_classes.development, workers, tmp_path)
    learned = {"epochs": 12, "cycle": 2, "batch_size": 64}
    compress([trained()], CompressSettings(schedule="learned", tolerance=0.05, learned=learned), context)
    assert trained_cycles == [0, 1, 2, 3, 4]
    compress([trained()], CompressSettings(schedule="learned", learned=learned), context)
    assert trained_cycles == [0, 1, 2, 3, 4, 5]


def test_of_equal_networks_on_the_way_the_first_is_kept(
    vector_classes: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cycle, ends = Ramp.cycle, [(0.7, 9.0), (0.8, 5.0), (0.3, 0.0), (0.3, 0.0), (0.3, 0.0), (0.8, 6.0)]

    def told(self: Ramp, number: int) -> Any:
        metric, operations = ends[number]
        return replace(cycle(self, number), metric=metric, operations=operations)

    monkeypatch.setattr(Ramp, "cycle", told)
    workers: Any = InProcess(vector_classes.development)
    settings = CompressSettings(schedule="learned", tolerance=1, learned={"epochs": 6, "cycle": 1, "batch_size": 64})
    result = compress([trained()], settings, Context(vector_classes.development, workers, tmp_path))
    assert [model.origin_as(LearnedOrigin).iteration for model in result.models] == [2, 3]


def test_the_pressure_is_held_then_rises() -> None:
    for epochs, cycle in ((40, 20), (39, 20), (30, 20)):
        learned = LearnedSettings(epochs=epochs, cycle=cycle, hold=2 / 3, pressure=(0.5, 8))
        whole = learned.cycles * cycle
        pressures = learned.pressure_at(np.array([0, 0.6 * whole, 5 / 6 * whole, whole]))
        np.testing.assert_allclose(pressures, [0.5, 0.5, 2, 8])


def test_the_rate_falls_in_every_cycle_and_later_cycles_begin_with_less() -> None:
    learned = LearnedSettings(epochs=110, cycle=10, learning_rate=1.0)  # Eleven cycles; those from 44 epochs on cool.
    rates = learned.rates_at(np.array([0, 5, 10 - 1e-9, 10, 40, 77, 110 - 1e-9]))
    np.testing.assert_allclose(rates, [1, 0.51, 0.02, 1, 1, 0.15**0.5 * (0.02 + 0.49 * (1 + np.cos(0.7 * np.pi))), 0.003], 1e-6)


@pytest.mark.parametrize("damage", ["state", "checkpoint"])
def test_a_damaged_state_is_made_again(
    damage: str, made: Callable[..., CompressResult], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    expected = made(tmp_path, epochs=4)
    folder = tmp_path / "compressed" / "toy-learned-ramp"
    if damage == "state":
        (folder / "state.npz").write_bytes((folder / "state.npz").read_bytes()[:100])
    else:
        next(folder.glob("c*.npy")).unlink()
    (tmp_path / "stages.jsonl").unlink()  # Nothing says that it has ended.
    assert values(made(tmp_path, epochs=4)) == values(expected)
    assert "state.npz is damaged" in caplog.text


def test_layers_without_widths_are_refused_before_any_training(made: Callable[..., CompressResult], tmp_path: Path) -> None:
    with pytest.raises(ConversionError, match=r"toy cannot be quantized: activation_0: .* not behind tanh"):
        made(tmp_path, trained("tanh"))
    assert not (tmp_path / "compressed").exists()
    learned = CompressSettings(schedule="learned")
    assert "not behind tanh" in reason_against(trained("tanh"), learned)
    assert not reason_against(trained("relu"), learned)
    assert not reason_against(trained("tanh"), CompressSettings())


def test_spaces_in_which_no_widths_can_be_learned_are_refused() -> None:
    def space(*functions: str) -> SearchSpace:
        block = {"block": "mlp", "widths": [4], "norm": ["none", "batch"], "activation": functions}
        return SearchSpace.model_validate({"input": 6, "outputs": 3, "blocks": [block]})

    learned = CompressSettings(schedule="learned")
    with pytest.raises(
        ConfigError, match=r"compress: none of 1000 random networks .*activation_0: .* not behind (tanh|gelu); use relu"
    ):
        check_compress(learned, space("tanh", "gelu"), [])
    check_compress(learned, space("tanh", "relu"), [])
    check_compress(learned, space("tanh"), [mlp(6, 4, 3)])
    check_compress(CompressSettings(), space("tanh"), [])


@pytest.mark.parametrize(
    ("settings", "complaint"),
    [
        ({"learned": {"epochs": 10}}, "epochs: 10 are fewer than the 20 of a cycle"),
        ({"learned": {"pressure": [1, 0.1]}}, r"pressure: \[1.0, 0.1\] must not fall"),
        ({"schedule": "learned", "mixed": {}}, "leave mixed out"),
        ({"schedule": "learned", "rewind": "keep"}, "a learned training begins at the start"),
    ],
)
def test_settings_that_cannot_work_are_refused(settings: dict[str, Any], complaint: str) -> None:
    with pytest.raises(ConfigError, match=complaint):
        CompressSettings(**settings)
