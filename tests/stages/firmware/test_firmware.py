"""Random networks through the whole conversion: every output of the C++ emulation equals Keras, or it is refused."""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from kerasnac.adapters.hls4ml.csim import emulate
from kerasnac.adapters.keras.predict import predict
from kerasnac.adapters.rtl.adder_graph import AdderGraph, adder_graph_costs
from kerasnac.core.data.dataset import Split
from kerasnac.core.hardware.boards import board
from kerasnac.core.hardware.estimators import SOURCES
from kerasnac.core.network.trained import Trained
from kerasnac.core.settings import AdderGraphSettings
from kerasnac.errors import ConversionError, RunError
from kerasnac.stages.firmware import delivery as stage
from kerasnac.stages.firmware.delivery import make_firmware
from kerasnac.stages.firmware.result import Firmware
from kerasnac.stages.firmware.validation import validate
from tests.stages.firmware.cases import PART, Case, random_case

#: Together: convolutions of all shapes, tables, streams, reuse, both signs of the input.
FAST_SEEDS = (2, 14, 17)


def convert_case(case: Case, folder: Path) -> Firmware:
    return make_firmware(case.trained, case.split, case.task, folder=folder, part=PART, exact=False, **case.options)


@pytest.mark.parametrize("seed", [FAST_SEEDS[0], *(pytest.param(seed, marks=pytest.mark.slow) for seed in FAST_SEEDS[1:])])
def test_small_networks_are_exact(seed: int, tmp_path: Path) -> None:
    firmware = convert_case(random_case(seed, most_bits=8), tmp_path / "firmware")
    assert firmware.bit_exact, firmware.report()
    assert f"bit-exact: {firmware.outputs} of {firmware.outputs} outputs equal" in firmware.report()
    assert firmware.metric.firmware == firmware.metric.keras
    assert Firmware.load(tmp_path / "firmware") == firmware


def test_the_folder_holds_all_that_was_compared(firmware: Firmware, case: Case) -> None:
    assert (firmware.folder / "report.txt").read_text() == firmware.report()
    saved = Trained.load(firmware.folder / "kerasnac" / "model")
    assert saved == case.trained
    inputs, outputs = (
        np.loadtxt(firmware.folder / "tb_data" / f"tb_{name}.dat") for name in ("input_features", "output_predictions")
    )
    np.testing.assert_array_equal(inputs, case.split.x[:1000])
    np.testing.assert_array_equal(outputs, predict(saved.architecture, saved.weights, case.split.x)[:1000])


@pytest.mark.usefixtures("da4ml")
def test_costs_of_the_adder_graph_have_one_name(firmware: Firmware, case: Case) -> None:
    settings = AdderGraphSettings(latency_cutoff=2)
    costs = adder_graph_costs(case.trained.architecture, case.trained.weights, settings, board(PART))
    assert firmware.options.clock is not None
    costs = firmware.options.clock.timed(costs)
    written = json.loads((firmware.folder / "report.json").read_text())["adder_graph"]
    assert written["costs"] == firmware.adder_graph.costs == costs
    assert set(costs) == set(SOURCES["adder_graph"])
    assert written["settings"] == {"effort": "fast", "latency_cutoff": 2, "max_depth": None}
    page = (firmware.folder / "summary.md").read_text()
    assert f"{costs['adder_luts']:,.0f} LUT" in page
    assert f"with 2 adder levels between registers {costs['adder_stages']:.0f} pipeline stages" in page
    assert f"{costs['adder_latency_ns']:g} ns with a new sample every {costs['adder_interval_ns']:g} ns" in page


def test_the_folder_can_be_moved(firmware: Firmware, case: Case, tmp_path: Path) -> None:
    moved = Path(shutil.copytree(firmware.folder, tmp_path / "elsewhere"))
    np.testing.assert_array_equal(emulate(moved, case.split.x), emulate(firmware.folder, case.split.x))
    assert Firmware.load(moved) == replace(firmware, folder=moved)


def test_a_folder_without_firmware_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"report\.json is missing"):
        Firmware.load(tmp_path)


def test_softmax_on_the_chip_agrees_with_keras(firmware: Firmware) -> None:
    assert firmware.bit_exact  # The promise is about the linear outputs.
    assert firmware.softmax.agreement is not None
    assert firmware.softmax.agreement.max_difference < 1e-3
    assert firmware.softmax.agreement.argmax > 0.99
    assert "softmax on chip" in firmware.report()


@pytest.mark.usefixtures("da4ml")
def test_an_exact_softmax_is_part_of_the_network(case: Case, tmp_path: Path) -> None:
    made = make_firmware(case.trained, case.split, case.task, folder=tmp_path / "fw", part=PART, softmax="exact")
    assert made.bit_exact
    assert made.softmax.agreement is not None
    assert made.softmax.agreement.max_difference < 0.02
    assert made.softmax.agreement.argmax > 0.99
    assert made.adder_graph.equal == made.adder_graph.outputs == made.outputs
    assert "softmax on chip (ap_ufixed<16,1>, tables that Keras shares)" in made.report()
    assert Firmware.load(tmp_path / "fw") == made
    assert made.trained == case.trained
    again = validate(tmp_path / "fw")
    assert again.ok
    assert again.comparison == made.comparison


def test_what_nothing_has_computed_with_is_never_called_exact(case: Case, tmp_path: Path) -> None:
    options = {"backend": "oneAPI", "part": "Agilex7", "strategy": "resource"}
    made = make_firmware(case.trained, case.split, case.task, folder=tmp_path / "fw", **options)
    assert not made.bit_exact
    assert (made.comparison, made.metric.firmware, made.outputs) == (None, None, 0)
    assert made.verdict.startswith("not emulated: oneAPI's C++ is SYCL")
    assert "bit-exact" not in made.report()
    assert "bit-exact" not in (tmp_path / "fw" / "summary.md").read_text()
    assert Firmware.load(tmp_path / "fw") == made
    found = validate(tmp_path / "fw")
    assert found.ok
    assert "not emulated" in found.report()


def test_inputs_are_put_on_the_grid(case: Case, tmp_path: Path) -> None:
    off_grid = Split(case.split.x + np.float32(0.003), case.split.y)
    assert make_firmware(case.trained, off_grid, case.task, folder=tmp_path / "fw", part=PART).bit_exact


def tampered(project: Path, x: NDArray[np.float32], **options: Any) -> NDArray[np.float32]:
    outputs = emulate(project, x, **options)
    outputs[7, 1] += 0.5
    return outputs


def test_one_different_output_is_an_error(case: Case, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stage, "emulate", tampered)
    with pytest.raises(ConversionError, match=r"NOT bit-exact: 1 of 4500 .*sample 7, output 1"):
        make_firmware(case.trained, case.split, case.task, folder=tmp_path / "fw", part=PART)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["fw.failed"]
    assert (tmp_path / "fw.failed" / "compile.log").is_file()


def test_different_outputs_can_be_reported_instead(case: Case, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stage, "emulate", tampered)
    firmware = make_firmware(case.trained, case.split, case.task, folder=tmp_path / "fw", part=PART, exact=False)
    assert not firmware.bit_exact
    assert (firmware.mismatches, firmware.max_abs_error) == (1, 0.5)
    assert "NOT bit-exact: 1 of 4500 outputs differ" in firmware.report()
    assert Firmware.load(tmp_path / "fw") == firmware


def wrong_graph(graph: Any, x: NDArray[np.float32]) -> NDArray[np.float32]:
    outputs = np.array(RIGHT_GRAPH(graph, x))
    outputs[7, 1] += 0.5
    return outputs


RIGHT_GRAPH = AdderGraph.predict


@pytest.mark.usefixtures("da4ml")
def test_an_adder_graph_that_differs_is_an_error(case: Case, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(AdderGraph, "predict", wrong_graph)
    with pytest.raises(ConversionError, match=r"small: the adder graph is NOT bit-exact: 1 of 4500 .*sample 7, output 1"):
        make_firmware(case.trained, case.split, case.task, folder=tmp_path / "fw", part=PART)
    assert [path.name for path in tmp_path.iterdir()] == ["fw.failed"]
    found = validate(tmp_path / "fw.failed")
    assert not found.ok
    assert "when the folder was made: the adder graph is NOT bit-exact" in found.report()


@pytest.mark.usefixtures("da4ml")
def test_an_adder_graph_that_differs_is_in_every_verdict(case: Case, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(AdderGraph, "predict", wrong_graph)
    made = make_firmware(case.trained, case.split, case.task, folder=tmp_path / "fw", part=PART, exact=False)
    assert made.comparison is not None
    assert made.comparison.equal
    assert not made.bit_exact
    assert made.verdict.startswith("bit-exact: 4500 of 4500 outputs equal; the adder graph is NOT bit-exact: 1 of 4500")
    assert made.adder_graph.disagreement in made.report()
    assert made.adder_graph.disagreement in (tmp_path / "fw" / "summary.md").read_text()
    assert Firmware.load(tmp_path / "fw") == made


@pytest.mark.slow
def test_random_networks_are_exact_or_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """``KERASNAC_FUZZ=100 KERASNAC_FUZZ_SEED=7 pytest -m slow`` sets how many networks, and the first seed."""
    count, first = int(os.environ.get("KERASNAC_FUZZ", "40")), int(os.environ.get("KERASNAC_FUZZ_SEED", "0"))
    wrong = []
    for seed in range(first, first + count):
        case = random_case(seed)
        network = case.trained.architecture
        head = f"seed {seed}: w{case.bits[0]} a{case.bits[1]} in {network.input} {case.options} {network}"
        try:
            firmware = convert_case(case, tmp_path / f"{seed}")
        except ConversionError as error:
            line = f"{head}\n    REFUSED {error}"
            if "float64" not in str(error):
                wrong.append(line)
        else:
            line = f"{head}\n    {firmware.samples} samples, {firmware.verdict}, {firmware.seconds}"
            if not firmware.bit_exact:
                wrong.append(line)
        with capsys.disabled():
            print(line, flush=True)
    assert not wrong, "\n".join(wrong)
