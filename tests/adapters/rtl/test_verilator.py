"""Verilator on a design by hand: a register that keeps its input for one cycle, and one more."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from kerasnac.adapters.rtl.verilator import Simulation, simulate
from kerasnac.adapters.rtl.verilog import Design, Port, write_testbench
from kerasnac.errors import ConversionError, EnvironmentProblem

PORT = Port(count=2, width=4, fractional=0, signed=True)
X = np.array([[0, 1], [-8, 7], [3, -1], [2, 2]])
MODULE = """
module nn_delay(input clk, input [7:0] model_inp, output reg [7:0] model_out);
    reg [7:0] kept;
    always @(posedge clk) begin kept <= model_inp; model_out <= kept; end
endmodule
"""
needs_verilator = pytest.mark.skipif(shutil.which("verilator") is None, reason="verilator is not installed")


@pytest.fixture
def design(tmp_path: Path) -> Design:
    (tmp_path / "src").mkdir()
    (tmp_path / "src/nn_delay.v").write_text(MODULE)
    return Design(tmp_path, "nn_delay", PORT, PORT, latency=1)


@needs_verilator
def test_the_first_mismatch_is_named(design: Design) -> None:
    expected = X.copy()
    expected[1, 1] = 0
    expected[3, 0] = 0
    found = simulate(design, write_testbench(design, X, expected))
    assert found == Simulation(4, 2, "sample 1, output 1: expected 0, got 7")


def test_what_differs_is_never_called_exact() -> None:
    assert Simulation(4).verdict == "bit-exact: 4 of 4 samples equal"
    verdict = Simulation(4, 2, "sample 1, output 1").verdict
    assert verdict.startswith("NOT bit-exact: 2 of 4 samples differ")
    assert "sample 1, output 1" in verdict


@needs_verilator
def test_broken_verilog(design: Design) -> None:
    (design.folder / "src/nn_delay.v").write_text("module nn_delay(input clk; endmodule")
    with pytest.raises(ConversionError, match=r"verilator .*nn_delay\.v"):
        simulate(design, write_testbench(design, X, X))


def test_a_tool_that_hangs_is_stopped(design: Design, monkeypatch: pytest.MonkeyPatch) -> None:
    fake = design.folder / "bin/verilator"
    fake.parent.mkdir()
    fake.write_text("#!/bin/sh\necho compiling\nsleep 60\n")
    fake.chmod(0o755)
    monkeypatch.setenv("PATH", str(fake.parent), prepend=":")
    with pytest.raises(ConversionError, match=r"verilator .* 0\.5 s: compiling"):
        simulate(design, write_testbench(design, X, X), timeout=0.5)


def test_missing(design: Design, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(design.folder))
    with pytest.raises(EnvironmentProblem, match="apt install verilator"):
        simulate(design, write_testbench(design, X, X))
