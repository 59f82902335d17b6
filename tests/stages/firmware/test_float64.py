"""Firmware of a network whose sums float32 does not hold: it equals QKeras in float64, and says so everywhere."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import numpy as np
import pytest

from kerasnac.adapters.hls4ml.csim import interface
from kerasnac.core.data.dataset import Split, Task
from kerasnac.core.network.architecture import Architecture
from kerasnac.core.network.precision import Precision
from kerasnac.core.network.trained import Trained
from kerasnac.core.network.training import Training
from kerasnac.stages.firmware.comparison import ArithmeticCheck
from kerasnac.stages.firmware.delivery import make_firmware
from kerasnac.stages.firmware.folder import VECTORS
from kerasnac.stages.firmware.result import Firmware
from kerasnac.stages.firmware.validation import validate
from tests.integers import predict_in_integers
from tests.networks import activation, dense, grid_samples, loud_weights

GRID = Precision(14, 3)
NETWORK = Architecture(
    (5,),
    (
        dense(6, "fixed<14,1>", "fixed<24,3>"),
        activation("relu", "ufixed<14,3>"),
        dense(3, "fixed<14,1>", "fixed<20,3>"),
    ),
    GRID,
)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, keras: Any) -> Firmware:
    x = grid_samples(GRID, (5,), 500)
    model = Trained("wide", NETWORK, loud_weights(NETWORK), Training(), {}, 0)
    split = Split(x, np.random.default_rng(0).integers(0, 3, len(x)))
    folder = tmp_path_factory.mktemp("wide") / "fw"
    return make_firmware(model, split, Task("classification", 3), folder=folder, part="xcvu13p-flga2577-2-e")


def test_every_output_equals_keras_in_float64(made: Firmware) -> None:
    assert made.bit_exact
    assert made.verdict == "bit-exact: 1500 of 1500 outputs equal (QKeras in float64)"
    assert made.adder_graph.equal == made.adder_graph.outputs == 1500 or made.adder_graph.reason
    assert interface(made.folder)["function"].endswith("_double")


def test_the_vectors_are_those_of_an_evaluation_in_integers(made: Firmware) -> None:
    with np.load(made.folder / VECTORS) as arrays:
        x, outputs = arrays["x"], arrays["keras"]
    assert outputs.dtype == np.float64
    np.testing.assert_array_equal(outputs, predict_in_integers(NETWORK, made.trained.weights, x))
    bench = np.loadtxt(made.folder / "tb_data" / "tb_output_predictions.dat")
    np.testing.assert_array_equal(bench, outputs)


def test_the_report_says_what_float32_gives(made: Firmware) -> None:
    check = made.arithmetic
    assert (check.exact.dtype, check.exact.layer) == ("float64", "dense_0")
    assert check.float32 is not None
    assert 0 < check.float32.mismatches <= 1500
    other = 500 - (check.float32.same_decision or 0)
    said = (
        f"the firmware equals QKeras in float64: dense_0 needs {check.exact.bits:g} bits, more than the 24 of float32; in "
        f"float32, QKeras gives {check.float32.mismatches:,} of 1,500 outputs differently, and another decision for {other} of "
        "500 samples"
    )
    assert said in made.report()
    assert said in (made.folder / "summary.md").read_text()
    assert "C++ emulation against QKeras in float64, 500 samples:" in made.report()


def test_the_report_is_read_again(made: Firmware) -> None:
    assert Firmware.load(made.folder) == made


@pytest.mark.slow
def test_it_is_validated_in_float64(made: Firmware) -> None:
    found = validate(made.folder)
    assert found.ok, found.report()
    assert "C++ emulation against QKeras in float64, 500 samples:" in found.report()
    alone = subprocess.run([sys.executable, made.folder / "validate.py"], capture_output=True, text=True, check=False)
    assert alone.returncode == 0, alone.stdout + alone.stderr
    assert "1500 of 1500 outputs of 500 samples equal Keras" in alone.stdout


def test_a_float32_network_says_so() -> None:
    assert ArithmeticCheck().note == ""
    assert str(ArithmeticCheck()) == "the firmware equals QKeras in float32: no sum of the network needs more than 24 bits"
