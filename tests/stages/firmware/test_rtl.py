"""Verilog of tiny networks, through simulation and synthesis."""

from __future__ import annotations

import json
import shutil
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from kerasnac.adapters.keras.predict import activation_ranges
from kerasnac.adapters.keras.predict import predict as keras_predict
from kerasnac.adapters.rtl import library
from kerasnac.adapters.rtl.adder_graph import unroll
from kerasnac.adapters.rtl.verilator import Simulation
from kerasnac.core.hardware.boards import board
from kerasnac.core.hardware.estimators import SOURCES
from kerasnac.core.hardware.hls_options import HlsOptions
from kerasnac.core.network.architecture import Architecture
from kerasnac.core.network.layers import LayerSpec
from kerasnac.core.network.precision import Precision
from kerasnac.core.network.quantization import quantize
from kerasnac.core.network.trained import Trained
from kerasnac.core.network.training import Training
from kerasnac.core.settings import AdderGraphSettings
from kerasnac.datasets.samples import random_samples
from kerasnac.errors import ConversionError, DataError, EnvironmentProblem, RunError
from kerasnac.stages.firmware import rtl as stage
from kerasnac.stages.firmware.folder import load_model
from kerasnac.stages.firmware.rtl import Rtl, make_rtl
from tests.networks import grid_samples, mlp, normal_weights

pytest.importorskip("da4ml")
needs_verilator = pytest.mark.skipif(shutil.which("verilator") is None, reason="verilator is not installed")
needs_yosys = pytest.mark.skipif(shutil.which("yosys") is None, reason="yosys is not installed")


def network(activation: str, *, dead_output: bool = False) -> Trained:
    """4 -> 4 -> 2 with 3-bit weights, pruned a little."""
    architecture = mlp(4, 4, 2, fn=activation)
    weights = normal_weights(architecture, scale=0.7, zeros=0.3)
    if dead_output:
        last = architecture.nodes[-1].name
        weights[f"{last}/kernel"][:, 0] = 0
        weights[f"{last}/bias"][0] = 0
    grid = Precision(4, 2)
    x = grid_samples(grid, (4,), 200, scale=0.6)
    observed = activation_ranges(architecture, weights, x, clip_quantile=1e-2)
    quantized = quantize(architecture, weights, observed, input_grid=grid, weight_bits=3, activation_bits=4)
    return Trained("table", quantized, weights, Training(), {}, 0)  # Also a keyword of Verilog.


#: A clock whose period holds three adders in a row.
OPTIONS = HlsOptions(part="zcu102", clock_period=2.2)


@pytest.fixture(scope="module")
def trained() -> Trained:
    return network("relu")


@pytest.fixture(scope="module")
def made(trained: Trained, tmp_path_factory: pytest.TempPathFactory) -> Rtl:
    folder, samples = tmp_path_factory.mktemp("rtl") / "design", random_samples(trained.architecture, 1000)
    settings, synthesise = AdderGraphSettings(max_depth="clock"), shutil.which("yosys") is not None
    return make_rtl(trained, samples, folder=folder, adder_graph=settings, options=OPTIONS, synthesise=synthesise)


@needs_verilator
class TestDesign:
    def test_it_equals_keras(self, made: Rtl) -> None:
        assert (made.samples, made.mismatches) == (1000, 0)
        assert "1000 of 1000 samples equal" in made.report()
        assert made.latency == made.costs["adder_stages"] > 1
        assert f"latency: {made.latency} clock cycles" in made.report()

    def test_costs_have_one_name(self, made: Rtl, trained: Trained) -> None:
        graph = unroll(trained.architecture, trained.weights, AdderGraphSettings(max_depth=3))
        written = json.loads((made.folder / "rtl.json").read_text())
        assert written["costs"] == made.costs == graph.costs(board("zcu102"), OPTIONS.clock)
        assert set(written["costs"]) == set(SOURCES["adder_graph"])
        assert written["settings"] == {"effort": "fast", "latency_cutoff": 5, "max_depth": 3}

    def test_it_is_cut_for_the_clock(self, made: Rtl) -> None:
        assert made.costs["adder_depth"] == 3
        assert made.costs["adder_interval_ns"] == 2.2
        assert made.costs["adder_latency_ns"] == pytest.approx(2.2 * made.latency)
        text = made.timing
        assert "at most 3 adders in a row between registers" in text
        assert f"{2.2 * made.latency:g} ns at 2.2 ns per cycle (on UltraScale+ a cycle takes 2.2 ns" in text
        assert "create_clock -period" in (made.folder / f"src/{made.top.removesuffix('_wrapper')}.xdc").read_text()
        assert "set clock_period 2.2\n" in (made.folder / f"src/{made.top.removesuffix('_wrapper')}.xdc").read_text()
        assert "xczu9eg" in (made.folder / "build_vivado_prj.tcl").read_text()
        slow = replace(made, options=HlsOptions(part="zcu102", clock_period=1.0))
        assert "not the 1 ns asked for" in slow.timing
        assert replace(made, options=None).timing.endswith("between registers")

    def test_the_folder_holds_everything(self, made: Rtl) -> None:
        folder = made.folder
        assert Rtl.load(folder) == made
        assert (folder / "report.txt").read_text() == made.report()
        assert (folder / "src" / f"{made.top}.v").is_file()
        assert len((folder / "sim/expected.hex").read_text().splitlines()) == 1000
        assert not (folder / "sim/obj_dir").exists()
        assert "PASS" in (folder / "sim/simulation.log").read_text()

    @needs_yosys
    def test_synthesis(self, made: Rtl) -> None:
        found = made.synthesis
        assert found is not None
        assert 0.5 < found.luts / made.costs["adder_luts"] < 1.5
        assert found.ffs <= made.costs["adder_registers"]
        assert (found.dsp, found.bram) == (0, 0)

    @pytest.mark.slow
    def test_a_table_and_an_output_that_is_always_zero(self, tmp_path: Path) -> None:
        odd = network("tanh", dead_output=True)
        samples = random_samples(odd.architecture, 50)
        assert not keras_predict(odd.architecture, odd.weights, samples)[:, 0].any()
        synthesise = shutil.which("yosys") is not None  # Reads the tables' files as well.
        made = make_rtl(odd, samples, folder=tmp_path / "design", synthesise=synthesise)
        assert made.mismatches == 0
        assert made.synthesis is None or made.synthesis.bram == 0
        assert list((tmp_path / "design/sim").glob("*.mem"))


@pytest.fixture
def without_tools(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Neither da4ml nor a program is there; returns the folder that is searched for programs."""
    programs = tmp_path / "bin"
    programs.mkdir()
    monkeypatch.setenv("PATH", str(programs))
    monkeypatch.delenv("CXX", raising=False)
    monkeypatch.setitem(sys.modules, "da4ml.trace", None)
    library.da4ml.cache_clear()
    return programs


def float_network(trained: Trained) -> Trained:
    return replace(trained, architecture=replace(trained.architecture, input=None))


class TestRefusals:
    def test_random_samples_of_a_float_network(self, trained: Trained) -> None:
        with pytest.raises(ConversionError, match="not quantized"):
            random_samples(float_network(trained).architecture, 10)

    def test_a_float_network(self, trained: Trained, without_tools: Path, tmp_path: Path) -> None:
        with pytest.raises(ConversionError, match="not quantized"):
            make_rtl(float_network(trained), np.zeros((10, 4)), folder=tmp_path / "design")

    def test_a_network_that_is_too_large(self, trained: Trained, without_tools: Path, tmp_path: Path) -> None:
        layer = replace(LayerSpec.of("dense", units=600), weight=Precision(8, 1), bias=Precision(8, 1))
        weights = {"dense_0/kernel": np.full((600, 600), 0.5, np.float32), "dense_0/bias": np.zeros(600, np.float32)}
        large = replace(trained, architecture=Architecture((600,), (layer,), Precision(4, 2)), weights=weights)
        with pytest.raises(ConversionError, match="too large"):
            make_rtl(large, np.zeros((10, 600)), folder=tmp_path / "design")

    def test_a_folder_with_something_else(self, trained: Trained, without_tools: Path, tmp_path: Path) -> None:
        (tmp_path / "thesis.tex").touch()
        with pytest.raises(RunError, match=str(tmp_path)):
            make_rtl(trained, np.zeros((10, 4)), folder=tmp_path)
        assert (tmp_path / "thesis.tex").is_file()

    @pytest.mark.parametrize(
        "samples", [np.zeros((0, 4)), np.zeros((10, 3)), np.full((10, 4), "a"), np.full((10, 4), np.nan)], ids=str
    )
    def test_samples_that_are_none(self, trained: Trained, without_tools: Path, tmp_path: Path, samples: NDArray[Any]) -> None:
        with pytest.raises(DataError):
            make_rtl(trained, samples, folder=tmp_path / "design")

    @pytest.mark.parametrize(
        ("there", "missing"), [(["da4ml"], "verilator"), (["da4ml", "verilator", "g++"], "yosys"), ([], "da4ml")]
    )
    def test_missing_tools(
        self,
        trained: Trained,
        without_tools: Path,
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
        there: list[str],
        missing: str,
    ) -> None:
        monkeypatch.setattr(stage, "unroll", lambda *arguments: pytest.fail("it began without its tools"))
        if "da4ml" in there:
            monkeypatch.delitem(sys.modules, "da4ml.trace")
        for tool in there:
            (without_tools / tool).write_text("#!/bin/sh\n")
            (without_tools / tool).chmod(0o755)
        with pytest.raises(EnvironmentProblem, match=missing):
            make_rtl(trained, np.zeros((10, 4)), folder=tmp_path / "design")
        assert not (tmp_path / "design").exists()


class TestDifferences:
    @pytest.fixture(autouse=True)
    def tools(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """The graph is made, but no program is run."""
        monkeypatch.setattr(stage, "_require_tools", lambda **options: None)

    def test_of_the_adder_graph(self, trained: Trained, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        def tampered(architecture: Architecture, weights: Any, x: NDArray[np.float32]) -> NDArray[np.float32]:
            outputs = keras_predict(architecture, weights, x)
            outputs[7, 1] = outputs[8, 1] if outputs[8, 1] != outputs[7, 1] else 0
            return outputs

        monkeypatch.setattr(stage, "vectors", tampered)
        monkeypatch.setattr(stage, "simulate", lambda *arguments: pytest.fail("minutes go into tools"))
        with pytest.raises(ConversionError, match=r"table: .* 1 of 40 outputs .*sample 7, output 1"):
            make_rtl(trained, random_samples(trained.architecture, 20), folder=tmp_path / "design", synthesise=False)
        assert list(tmp_path.iterdir()) == []

    def test_of_the_simulation(self, trained: Trained, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(stage, "simulate", lambda *arguments: Simulation(20, 1, "sample 7, output 1"))
        with pytest.raises(ConversionError, match=r"table: NOT bit-exact: 1 of 20 samples .*sample 7, output 1"):
            make_rtl(trained, random_samples(trained.architecture, 20), folder=tmp_path / "design", synthesise=False)
        assert list(tmp_path.iterdir()) == []

    def test_the_verdict_is_true_of_what_was_found(
        self, trained: Trained, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(stage, "simulate", lambda *arguments: Simulation(20))
        made = make_rtl(trained, random_samples(trained.architecture, 20), folder=tmp_path / "design", synthesise=False)
        assert made.verdict == "bit-exact: 20 of 20 samples equal"
        assert Rtl.load(tmp_path / "design") == made
        wrong = replace(made, simulation=Simulation(20, 3, "sample 7, output 1"))
        for text in (wrong.verdict, wrong.report(), wrong.to_dict()["verdict"]):
            assert "NOT bit-exact: 3 of 20 samples" in text


class TestFolders:
    def test_without_verilog(self, tmp_path: Path) -> None:
        with pytest.raises(RunError, match=r"rtl\.json is missing"):
            Rtl.load(tmp_path)

    @pytest.mark.parametrize("content", ["", "[]", "{", '{"name": "table"}', '{"schema": 2, "name": "table"}'])
    def test_damaged_or_of_another_version(self, tmp_path: Path, content: str) -> None:
        (tmp_path / "rtl.json").write_text(content)
        with pytest.raises(RunError, match=r"rtl\.json"):
            Rtl.load(tmp_path)


class TestModels:
    def test_a_saved_network_or_firmware(self, trained: Trained, tmp_path: Path) -> None:
        trained.save(tmp_path / "plain")
        trained.save(tmp_path / "firmware/kerasnac/model")
        assert load_model(tmp_path / "plain") == load_model(tmp_path / "firmware") == trained

    @pytest.mark.parametrize("content", [None, "", "{}", "[]"])
    def test_no_network(self, tmp_path: Path, content: str | None) -> None:
        if content is not None:
            (tmp_path / "model.json").write_text(content)
            np.savez(tmp_path / "weights.npz")
        with pytest.raises(RunError, match=f"{tmp_path} holds no" if content is None else r"model\.json is damaged"):
            load_model(tmp_path)
