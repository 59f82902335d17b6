"""Yosys on a design by hand, and on what it prints."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from kerasnac.adapters.rtl.verilog import Design, Port
from kerasnac.adapters.rtl.yosys import parse, synthesise
from kerasnac.errors import ConversionError, EnvironmentProblem

PORT = Port(count=1, width=8, fractional=0, signed=False)
MODULE = """
module nn_adder(input clk, input [7:0] model_inp, output reg [7:0] model_out);
    always @(posedge clk) model_out <= model_inp + 8'd77;
endmodule
"""


@pytest.fixture
def design(tmp_path: Path) -> Design:
    (tmp_path / "src").mkdir()
    (tmp_path / "src/nn_adder.v").write_text(MODULE)
    return Design(tmp_path, "nn_adder", PORT, PORT, latency=1)


@pytest.mark.skipif(shutil.which("yosys") is None, reason="yosys is not installed")
class TestYosys:
    def test_an_adder(self, design: Design) -> None:
        found = synthesise(design)
        assert (found.ffs, found.dsp, found.bram) == (8, 0, 0)
        assert 1 <= found.luts <= 16
        assert sum(found.cells.values()) >= found.luts + found.ffs
        assert (design.folder / "yosys.log").is_file()

    def test_broken_verilog(self, design: Design) -> None:
        (design.folder / "src/nn_adder.v").write_text("module nn_adder(input clk; endmodule")
        with pytest.raises(ConversionError, match=r"yosys .*ERROR"):
            synthesise(design)


def test_missing(design: Design, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(design.folder))
    with pytest.raises(EnvironmentProblem, match="apt install yosys"):
        synthesise(design)


def test_every_kind_of_cell() -> None:
    cells = {"LUT1": 1, "LUT6": 2, "INV": 3, "SRL16E": 4, "SRLC32E": 5, "FDRE": 6, "FDSE": 7, "CARRY4": 8, "CARRY8": 9}
    cells |= {"MUXF7": 10, "MUXF8": 11, "DSP48E2": 12, "RAMB18E2": 13, "BUFG": 14}
    found = parse("\n12. Printing statistics.\n" + json.dumps({"design": {"num_cells_by_type": cells}}))
    assert (found.luts, found.ffs, found.carry, found.muxes, found.dsp, found.bram) == (15, 13, 17, 21, 12, 13)
    assert found.cells == cells


@pytest.mark.parametrize("text", ["", "ERROR", '{"design": {}}', '{"design": 1}', "{"])
def test_other_output(text: str) -> None:
    with pytest.raises(ConversionError, match="yosys"):
        parse(text)
