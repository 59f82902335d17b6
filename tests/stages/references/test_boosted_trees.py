"""Boosted trees as a stage: what is recorded, resumed, chosen and refused."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from kerasnac.adapters.rtl import verilator, yosys
from kerasnac.adapters.trees import boosting
from kerasnac.core.data.dataset import Dataset, Task, make_dataset
from kerasnac.core.settings import BoostedTreesSettings
from kerasnac.core.store.progress import Step
from kerasnac.core.trees.ensemble import Ensemble
from kerasnac.errors import ConfigError, ConversionError, EnvironmentProblem
from kerasnac.stages.context import Context
from kerasnac.stages.references import boosted_trees as stage
from kerasnac.stages.references.boosted_trees import boosted_trees
from kerasnac.stages.references.result import TreesPoint, TreesResult, front_of, thinned
from kerasnac.stages.results.saved import open_run
from kerasnac.stages.run import Run
from tests.events import counted
from tests.stand_ins import InProcess
from tests.trees import random_ensemble, steps

needs_yosys = pytest.mark.skipif(shutil.which("yosys") is None, reason="Yosys is not installed")

SETTINGS = BoostedTreesSettings(
    rounds=3,
    depths=[2, 3],
    leaf_bits=[2],
    thresholds=[8],
    learning_rates=[0.6],
    subsample=400,
    points=2,
    samples=50,
    luts="estimate",
)
COUNTED = SETTINGS.model_copy(update={"luts": "yosys"})


@pytest.fixture(scope="module")
def data() -> Dataset:
    return steps()


def boosted(data: Dataset, folder: Path, settings: BoostedTreesSettings = SETTINGS, **options: Any) -> TreesResult:
    workers: Any = InProcess(data.development)
    return boosted_trees(settings, Context(data.development, workers, folder, **options))


def records(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "trees.jsonl").read_text().splitlines()]


def refuses(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let nothing be boosted or synthesised."""

    def never(*arguments: Any, **options: Any) -> None:
        raise AssertionError("it is computed again")

    for name in ("boost", "synthesise", "simulate"):
        monkeypatch.setattr(stage, name, never)


class TestEstimates:
    def test_every_round_is_a_point_with_its_metric(self, data: Dataset, tmp_path: Path) -> None:
        result = boosted(data, tmp_path)
        assert [point.name for point in result.points] == [f"trees-d{d}-b2-t8-l0.6-r{r:03d}" for d in (2, 3) for r in (1, 2, 3)]
        split = data.development.validation
        for point in result.points:
            assert point.metrics == {"accuracy": data.task.score(point.ensemble.predict(split.x), split.y)}
            assert point.costs["estimated_luts"] > 0
        assert all(point in result.points for point in result.front)
        assert list(result.frame().columns) == ["model", "accuracy", "estimated_luts", "front"]
        assert not any("r001" in path.name for path in (tmp_path / "trees").iterdir())  # no Verilog

    def test_what_is_recorded_is_not_boosted_again(
        self, data: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        first = boosted(data, tmp_path)
        refuses(monkeypatch)
        assert boosted(data, tmp_path) == first

    def test_a_damaged_file_is_boosted_again_with_the_same_result(self, data: Dataset, tmp_path: Path) -> None:
        first = boosted(data, tmp_path)
        (tmp_path / "trees" / "trees-d2-b2-t8-l0.6.json").write_text("{")
        random_ensemble(data.input_grid, 3, 3).save(tmp_path / "trees" / "trees-d3-b2-t8-l0.6.json")
        assert boosted(data, tmp_path) == first
        assert len(records(tmp_path)) == 4

    @pytest.mark.parametrize("change", [{"seed": 1}, {"settings": SETTINGS.model_copy(update={"learning_rates": (0.3,)})}])
    def test_other_settings_are_other_trees(self, data: Dataset, tmp_path: Path, change: dict[str, Any]) -> None:
        first = boosted(data, tmp_path)
        assert boosted(data, tmp_path, **change) != first
        assert boosted(data, tmp_path) == first

    def test_a_regression(self, tmp_path: Path) -> None:
        result = boosted(steps("regression"), tmp_path)
        assert result.task.sense == "min"
        assert result.front[-1].metrics["distance"] < result.front[0].metrics["distance"]

    def test_nothing_to_learn_is_no_point(self, tmp_path: Path) -> None:
        y = np.arange(300) % 3
        flat = make_dataset(np.ones((300, 2)), y, name="flat", task=Task("classification", 3), seed=0)
        result = boosted(flat, tmp_path)
        assert result.points == result.front == ()


class TestVerilog:
    @needs_yosys
    def test_points_are_simulated_counted_and_kept(
        self, data: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        settings = COUNTED.model_copy(update={"points": 1})
        monkeypatch.setattr(stage, "require_verilator", lambda: None)
        monkeypatch.setattr(stage, "simulate", lambda design, testbench: verilator.Simulation(50))
        said: list[Step] = []
        result = boosted(data, tmp_path, settings, progress=said.append)
        (point,) = result.front
        assert point.costs["samples"] == 50
        assert 0.5 < point.costs["yosys_luts"] / point.costs["estimated_luts"] < 1.3
        folder = tmp_path / "trees" / point.name
        assert Ensemble.load(folder / "trees.json") == point.ensemble
        assert (folder / "sim" / "tb.sv").is_file()
        last = counted(said)[-1]
        assert (last.done, last.total) == (3, 3)
        assert last.text.startswith(f"{point.name}: accuracy 0.")
        refuses(monkeypatch)
        assert boosted(data, tmp_path, settings) == result

    def test_verilog_of_the_same_name_by_other_settings_is_replaced(
        self, data: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(stage, "synthesise", lambda design: yosys.Synthesis(1000, 1, 0, 0, 0, 0, {}))
        one, other = (random_ensemble(data.input_grid, 3, rounds) for rounds in (1, 2))
        for ensemble in (one, other, one):
            stage.count_one(data.development, stage.VerilogJob("trees", ensemble, 0, tmp_path))
            assert Ensemble.load(tmp_path / "trees" / "trees" / "trees.json") == ensemble

    def test_a_sample_that_differs_is_an_error(self, data: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(stage, "check_boosted_trees", lambda *arguments: None)
        monkeypatch.setattr(stage, "simulate", lambda *arguments: verilator.Simulation(50, 1, "sample 3"))
        with pytest.raises(ConversionError, match=r"trees-d3-b2-t8-l0.6-r00.: NOT bit-exact: 1 of 50 samples differ"):
            boosted(data, tmp_path, COUNTED)
        assert all("yosys_luts" not in record for record in records(tmp_path))

    def test_estimates_and_counts_are_never_on_one_front(
        self, data: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(stage, "check_boosted_trees", lambda *arguments: None)
        monkeypatch.setattr(stage, "synthesise", lambda design: yosys.Synthesis(1000, 1, 0, 0, 0, 0, {}))
        result = boosted(data, tmp_path, COUNTED.model_copy(update={"samples": 0}))
        assert all(point.costs["yosys_luts"] == 1000 for point in result.front)
        assert len(result.front) == 1
        assert len([point for point in result.points if "yosys_luts" not in point.costs]) == 4


def point(name: str, luts: float, accuracy: float) -> TreesPoint:
    return TreesPoint(name, random_ensemble(steps().input_grid, 3, 1), {"accuracy": accuracy}, {"estimated_luts": luts})


def test_the_front_and_a_part_of_it(data: Dataset) -> None:
    luts = (10, 11, 20, 40, 80, 160)
    points = [point(str(n), n, 0.5 + n / 1000) for n in luts] + [point("worse", 30, 0.4), point("same", 10, 0.51)]
    front = front_of(points, data.task, "estimated_luts")
    assert [p.name for p in front] == [str(n) for n in luts]
    assert [p.name for p in thinned(front, 4)] == ["10", "20", "80", "160"]
    assert [p.name for p in thinned(front, 1)] == ["160"]
    assert thinned(front, 9) == front


class TestRefusals:
    def test_samples_that_are_not_flat(self, tmp_path: Path) -> None:
        y = np.arange(60) % 2
        sets = make_dataset(
            np.random.default_rng(0).normal(size=(60, 4, 3)), y, name="sets", task=Task("classification", 2), seed=0
        )
        with pytest.raises(
            ConfigError, match=r"references: boosted_trees are for flat .* those of sets have the shape \(4, 3\)"
        ):
            boosted(sets, tmp_path)

    def test_anomalies(self, tmp_path: Path) -> None:
        x = np.random.default_rng(0).normal(size=(90, 4))
        data = make_dataset(x, np.arange(90) % 3, name="odd", task=Task("anomaly", 4), seed=0)
        with pytest.raises(ConfigError, match="classification and regression, not for anomaly: leave them out"):
            boosted(data, tmp_path)

    @pytest.mark.parametrize("missing", ["yosys", "verilator"])
    def test_without_the_tools_it_says_what_to_do(
        self, missing: str, data: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        which = shutil.which
        monkeypatch.setattr(shutil, "which", lambda name: None if name == missing else which(name) or f"/bin/{name}")
        monkeypatch.setattr(stage, "boost", None)
        with pytest.raises(EnvironmentProblem, match=rf"references: boosted_trees: {missing} is not .*luts: estimate"):
            boosted(data, tmp_path, COUNTED)

    def test_without_scikit_learn(self, data: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        def missing() -> None:
            raise EnvironmentProblem("pip install scikit-learn")

        monkeypatch.setattr(stage, "require_scikit_learn", missing)
        with pytest.raises(EnvironmentProblem, match="pip install scikit-learn"):
            boosted(data, tmp_path)
        assert boosting.require_scikit_learn() is None


def test_curves_of_a_few_stand_beside_those_of_the_networks(data: Dataset, tmp_path: Path, in_process: None) -> None:
    with Run(tmp_path / "run", data, progress=None) as run:
        result = run.boosted_trees(SETTINGS)
        run.test_trees(result.front)
        curves = run.curves(result.chosen)
    names = [point.name for point in result.chosen]
    assert list(curves) == names
    assert 1 <= len(names) <= 2 <= len(result.front)
    assert max(result.front, key=lambda point: point.metrics["accuracy"]).name == names[0]
    assert [roc.signal for roc in curves[names[0]]] == [str(index) for index in range(data.task.outputs)]  # type: ignore[union-attr]
    assert set(pd.read_csv(tmp_path / "run" / "curves.csv")["model"]) == set(names)
    saved = open_run(tmp_path / "run")
    assert list(saved.test) == [point.name for point in result.front]
    assert set(saved.curves) == set(names)
