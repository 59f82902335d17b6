"""Verilog of tiny networks, through simulation and synthesis."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from kerasnac.adapters.keras.train import observe
from kerasnac.adapters.keras.train import predict as keras_predict
from kerasnac.core.network.architecture import Architecture
from kerasnac.core.network.precision import Precision
from kerasnac.core.network.quantization import quantize
from kerasnac.core.network.trained import Trained
from kerasnac.core.network.training import Training
from kerasnac.core.space.search_space import SearchSpace
from kerasnac.datasets.samples import random_samples, read_samples
from kerasnac.errors import ConversionError, DataError, EnvironmentProblem, RunError
from kerasnac.stages.firmware import rtl as stage
from kerasnac.stages.firmware.folder import load_model
from kerasnac.stages.firmware.rtl import Rtl, make_rtl

pytest.importorskip("da4ml")
needs_verilator = pytest.mark.skipif(shutil.which("verilator") is None, reason="verilator is not installed")
needs_yosys = pytest.mark.skipif(shutil.which("yosys") is None, reason="yosys is not installed")


def network(activation: str, *, dead_output: bool = False) -> Trained:
    """4 -> 4 -> 2 with 3-bit weights, pruned a little."""
    rng = np.random.default_rng(0)
    mlp = {"block": "mlp", "widths": [[4]], "activation": [activation]}
    space = SearchSpace.model_validate({"input": [4], "outputs": 2, "blocks": [mlp]})
    architecture = space.decode(space.sample_feasible(rng)).architecture
    weights = {}
    for node in architecture.nodes:
        for part, weight in node.weights.items():
            value = rng.normal(0, 0.7, weight.shape)
            weights[f"{node.name}/{part}"] = (value * (rng.random(weight.shape) < 0.7)).astype(np.float32)
    if dead_output:
        last = architecture.nodes[-1].name
        weights[f"{last}/kernel"][:, 0] = 0
        weights[f"{last}/bias"][0] = 0
    grid = Precision(4, 2)
    x = grid.quantize(rng.normal(size=(200, 4))).astype(np.float32)
    observed = observe(architecture, weights, x, clip_quantile=1e-2)
    quantized = quantize(architecture, weights, observed, input_grid=grid, weight_bits=3, activation_bits=4)
    return Trained("table", quantized, weights, Training(), {}, 0)  # Also a keyword of Verilog.


@pytest.fixture(scope="module")
def trained() -> Trained:
    return network("relu")


@pytest.fixture(scope="module")
def made(trained: Trained, tmp_path_factory: pytest.TempPathFactory) -> Rtl:
    folder = tmp_path_factory.mktemp("rtl") / "design"
    synthesise = shutil.which("yosys") is not None
    return make_rtl(trained, random_samples(trained.architecture, 1000), folder=folder, latency_cutoff=2, synthesise=synthesise)


@needs_verilator
class TestDesign:
    def test_it_equals_keras(self, made: Rtl) -> None:
        assert (made.samples, made.mismatches) == (1000, 0)
        assert "1000 of 1000 samples equal" in made.report()
        assert made.latency > 1
        assert f"latency: {made.latency} clock cycles" in made.report()

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
        assert 0.5 < found.luts / made.estimated_luts < 1.5
        assert found.ffs <= made.estimated_ffs
        assert (found.dsp, found.bram) == (0, 0)

    def test_a_table_and_an_output_that_is_always_zero(self, tmp_path: Path) -> None:
        odd = network("tanh", dead_output=True)
        samples = random_samples(odd.architecture, 50)
        assert not keras_predict(odd.architecture, odd.weights, samples)[:, 0].any()
        synthesise = shutil.which("yosys") is not None  # Reads the tables' files as well.
        made = make_rtl(odd, samples, folder=tmp_path / "design", synthesise=synthesise)
        assert made.mismatches == 0
        assert made.synthesis is None or made.synthesis.bram == 0
        assert list((tmp_path / "design/sim").glob("*.mem"))

    def test_one_wrong_output_is_an_error(self, trained: Trained, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        def tampered(architecture: Architecture, weights: Any, x: NDArray[np.float32]) -> NDArray[np.float32]:
            outputs = keras_predict(architecture, weights, x)
            outputs[7, 1] = outputs[8, 1] if outputs[8, 1] != outputs[7, 1] else 0
            return outputs

        monkeypatch.setattr(stage, "predict", tampered)
        samples = random_samples(trained.architecture, 20)
        early = r"table: the adder graph is NOT bit-exact: 1 of 40 outputs differ \(first: sample 7, output 1: Keras"
        with pytest.raises(ConversionError, match=early):
            make_rtl(trained, samples, folder=tmp_path / "design", synthesise=False)
        monkeypatch.setattr(stage, "_check_equal", lambda *arguments: None)  # The simulation sees it, too.
        with pytest.raises(ConversionError, match=r"table: NOT bit-exact: 1 of 20 samples differ \(first: sample 7, output 1"):
            make_rtl(trained, samples, folder=tmp_path / "design", synthesise=False)
        assert list(tmp_path.iterdir()) == []


class TestRefusals:
    def test_a_float_network(self, trained: Trained, tmp_path: Path) -> None:
        plain = replace(trained, architecture=replace(trained.architecture, input=None))
        with pytest.raises(ConversionError, match="not quantized"):
            random_samples(plain.architecture, 10)
        with pytest.raises(ConversionError, match="not quantized"):
            make_rtl(plain, np.zeros((10, 4)), folder=tmp_path / "design")

    def test_a_folder_with_something_else(self, trained: Trained, tmp_path: Path) -> None:
        (tmp_path / "thesis.tex").touch()
        with pytest.raises(RunError, match="something else"):
            make_rtl(trained, np.zeros((10, 4)), folder=tmp_path)
        assert (tmp_path / "thesis.tex").is_file()

    @pytest.mark.parametrize("shape", [(0, 4), (10, 3)])
    def test_samples_of_another_shape(self, trained: Trained, tmp_path: Path, shape: tuple[int, int]) -> None:
        with pytest.raises(DataError, match="do not fit table"):
            make_rtl(trained, np.zeros(shape), folder=tmp_path / "design")

    @pytest.mark.parametrize("tools", [[], ["verilator", "g++"]])
    def test_missing_tools(self, trained: Trained, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tools: list[str]) -> None:
        for tool in tools:
            (tmp_path / tool).write_text("#!/bin/sh\n")
            (tmp_path / tool).chmod(0o755)
        monkeypatch.setenv("PATH", str(tmp_path))
        monkeypatch.delenv("CXX", raising=False)
        missing = "yosys" if tools else "verilator"
        with pytest.raises(EnvironmentProblem, match=f"{missing} is not installed: apt install {missing}"):
            make_rtl(trained, np.zeros((10, 4)), folder=tmp_path / "design")

    def test_a_folder_without_verilog(self, tmp_path: Path) -> None:
        with pytest.raises(RunError, match=r"rtl\.json is missing"):
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
        with pytest.raises(RunError, match=f"{tmp_path} holds no"):
            load_model(tmp_path)


class TestSamples:
    def test_random_ones_reach_the_corners(self, trained: Trained) -> None:
        grid = trained.architecture.input
        assert grid is not None
        x = random_samples(trained.architecture, 100)
        assert (x.shape, x.dtype) == ((100, 4), np.float32)
        assert (x[0] == grid.minimum).all()
        assert (x[1] == grid.maximum).all()
        assert (grid.quantize(x) == x).all()
        assert len(np.unique(x)) > 10
        assert random_samples(trained.architecture, 1).shape == (1, 4)

    def test_of_a_file(self, tmp_path: Path) -> None:
        x = np.arange(12.0).reshape(6, 2)
        np.save(tmp_path / "x.npy", x)
        np.savez(tmp_path / "data.npz", x=x)
        for name in ("x.npy", "data.npz"):
            assert (read_samples(tmp_path / name, 4) == x[:4]).all()
        (tmp_path / "notes.npy").write_text("nothing")
        with pytest.raises(DataError, match=r"notes\.npy"):
            read_samples(tmp_path / "notes.npy", 4)
