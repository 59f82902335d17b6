"""The contracts find what is wrong with blocks, datasets, metrics and sources of costs."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest

from kerasnac import CostModel, LayerSpec, Metric, Task, blocks, datasets
from kerasnac.core.network.kinds import Shape
from kerasnac.testing import BlockContract, CostModelContract, DatasetContract, MetricContract
from tests.test_floors import HEAVY, loaded_after


class Good(blocks.Block):
    """Two dense layers, the second one optional."""

    widths: blocks.Values[int] = (2, 3)

    def choices(self) -> tuple[blocks.Choice, ...]:
        return (blocks.Choice("units", self.widths), blocks.Choice("depth", (1, 2)), blocks.Choice("fn", ("relu", "tanh")))

    def combinations(self) -> int:
        return len(self.widths) * (1 + 2)

    def layers(self, picks: blocks.Picks, shape: Shape) -> Iterator[LayerSpec]:
        yield LayerSpec.of("dense", units=picks["units"])
        if picks["depth"] == 2:
            yield LayerSpec.of("activation", fn=picks["fn"])
            yield LayerSpec.of("dense", units=picks["units"])


class Changeable(Good):
    model_config = {"frozen": False}  # noqa: RUF012


class Lenient(Good):
    model_config = {"extra": "allow"}  # noqa: RUF012


class Miscounting(Good):
    def combinations(self) -> int:
        return 8


class Unbounded(Good):
    def most_kernels(self, axes: int) -> dict[str, float]:
        return {"dense": 1}


class Undeclared(Good):
    def choices(self) -> tuple[blocks.Choice, ...]:
        return (*super().choices(), blocks.Choice("unread", (1, 2)))


class Random(Good):
    def layers(self, picks: blocks.Picks, shape: Shape) -> Iterator[LayerSpec]:
        yield LayerSpec.of("dense", units=int(np.random.default_rng().integers(1, 1000)))


class Misnamed(Good):
    block: Literal["misnamed"] = "misnamed"


def failures(contract: Any, folder: Path) -> set[str]:
    """Names of the tests of a contract that fail; those that need TensorFlow are not called."""
    failed = set()
    for name in (name for name in dir(contract) if name.startswith("test_") and "built" not in name):
        test = getattr(contract, name)
        try:
            test(**{"tmp_path": folder} if "tmp_path" in inspect.signature(test).parameters else {})
        except Exception:
            failed.add(name.removeprefix("test_"))
    return failed


@pytest.mark.parametrize(
    ("block", "expected"),
    [
        (Good, set()),
        (Changeable, {"it_is_immutable"}),
        (Lenient, {"unknown_keys_are_refused"}),
        (Miscounting, {"combinations_count_the_different_active_picks"}),
        (Unbounded, {"most_kernels_is_a_bound"}),
        (Undeclared, {"only_declared_choices_are_read"}),
        (Misnamed, {"it_survives_yaml"}),
    ],
)
def test_wrong_blocks_are_found(block: type[blocks.Block], expected: set[str], tmp_path: Path) -> None:
    contract = BlockContract()
    contract.block, contract.shape = block(), (4,)
    assert failures(contract, tmp_path) == expected


def test_a_random_block_is_found(tmp_path: Path) -> None:
    contract = BlockContract()
    contract.block, contract.shape = Random(), (4,)
    assert "layers_are_a_function_of_picks_and_shape" in failures(contract, tmp_path)


def test_an_example_that_does_not_fit_is_found(tmp_path: Path) -> None:
    contract = BlockContract()
    contract.block, contract.shape = Good(), (4, 4)
    assert "layers_fit_each_other" in failures(contract, tmp_path)


def numbers() -> Any:
    return datasets.from_arrays(np.eye(90)[:, :3] / 2, np.arange(90) % 2, name="numbers")


def unseeded() -> Any:
    return datasets.from_arrays(np.random.default_rng().normal(size=(90, 3)), np.arange(90) % 2, name="unseeded")


@pytest.mark.parametrize(("function", "expected"), [("numbers", set()), ("unseeded", {"it_gives_the_same_data_each_time"})])
def test_wrong_datasets_are_found(function: str, expected: set[str], tmp_path: Path) -> None:
    contract = DatasetContract()
    contract.source = f"{__file__}:{function}"
    assert failures(contract, tmp_path) == expected


def margin(outputs: Any, labels: Any) -> Any:
    return outputs[np.arange(len(labels)), labels] - outputs.mean(axis=1)


def first(outputs: Any, labels: Any) -> float:
    return float(outputs[0, 0])


def greedy(outputs: Any, labels: Any) -> float:
    outputs *= 2
    return float(outputs.mean())


def relative(outputs: Any, labels: Any) -> Any:
    return outputs[:, 0] - outputs[:, 0].mean()


def ratio(outputs: Any, labels: Any) -> float:
    with np.errstate(all="ignore"):
        return float(1 / outputs.std())


@pytest.mark.parametrize(
    ("metric", "expected"),
    [
        ("accuracy", set()),
        ("auc:2", set()),
        (Metric(margin, "margin", "max", averaged=True), set()),
        (Metric(first, "first", "max"), {"it_is_the_same_each_time_in_any_order"}),
        (Metric(greedy, "greedy", "max"), {"it_leaves_its_arguments_as_they_are", "it_is_the_same_each_time_in_any_order"}),
        (Metric(relative, "relative", "max", averaged=True), {"an_average_is_one_over_samples"}),
        (Metric(ratio, "ratio", "max"), {"it_is_a_finite_number_for_finite_outputs"}),
    ],
)
def test_wrong_metrics_are_found(metric: Metric | str, expected: set[str], tmp_path: Path) -> None:
    contract = MetricContract()
    contract.metric = metric
    assert failures(contract, tmp_path) == expected


@pytest.mark.parametrize("task", [Task("regression", 2, scale=3.0), Task("anomaly", 6)])
def test_metrics_of_other_tasks(task: Task, tmp_path: Path) -> None:
    contract = MetricContract()
    contract.metric, contract.task = task.metric, task
    assert failures(contract, tmp_path) == set()


class Layers(CostModel):
    metrics = ("layers",)

    def costs(self, architecture: Any, data: Any) -> dict[str, float]:
        return {"layers": len(architecture.layers)}


class Counting(Layers):
    calls = 0

    def costs(self, architecture: Any, data: Any) -> dict[str, float]:
        self.calls += 1
        return {"layers": self.calls}


class Unnamed(Layers):
    metrics = ()


#: All but that workers find it.
NAMELESS = {
    "some_networks_have_costs",
    "costs_are_those_of_the_network_alone",
    "its_metrics_can_be_objectives",
    "its_key_stays",
}


@pytest.mark.parametrize(
    ("model", "expected"),
    [
        (Layers, set()),
        (Counting, {"costs_are_those_of_the_network_alone"}),
        (
            Unnamed,
            {
                "some_networks_have_costs",
                "costs_are_those_of_the_network_alone",
                "its_metrics_can_be_objectives",
                "its_key_stays",
            },
        ),
    ],
)
def test_wrong_sources_of_costs_are_found(model: type[CostModel], expected: set[str], tmp_path: Path) -> None:
    contract = CostModelContract()
    contract.model = model
    assert failures(contract, tmp_path) == expected


def test_they_need_neither_pytest_nor_tensorflow() -> None:
    assert loaded_after("import kerasnac.testing").isdisjoint((*HEAVY, "pytest", "_pytest"))
