"""Synthesis with Yosys: how many cells of an FPGA a design takes."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass

from kerasnac.adapters.programs import require_tool, run_tool, tail
from kerasnac.adapters.rtl.verilog import SIMULATION, Design
from kerasnac.core.store.files import write_text
from kerasnac.errors import ConversionError

#: Yosys' name of the family: Xilinx UltraScale+.
FAMILY = "xcup"

#: Cells of every resource. An inverter or a shift register of up to 32 bits takes a look-up table.
KINDS = {
    "luts": r"LUT[1-6]|LUT6_2|INV|SRL16E?|SRLC16E?|SRLC?32E?",
    "ffs": r"FD[RSCP]E(_1)?|LD[CP]E",
    "carry": r"CARRY[48]",
    "muxes": r"MUXF[789]",
    "dsp": r"DSP48E[12]",
    "bram": r"RAMB(18|36)E[12]",
}


@dataclass(frozen=True)
class Synthesis:
    """Cells of an FPGA that a design takes.

    Attributes:
        luts: Look-up tables: one for every LUT1 to LUT6, inverter, and shift register.
        ffs: Flip-flops.
        carry: Carry chains of 4 or 8 bits, as Yosys counts them.
        muxes: Multiplexers behind look-up tables (F7, F8, F9).
        dsp: DSP blocks.
        bram: Block memories.
        cells: Number of cells by primitive.
    """

    luts: int
    ffs: int
    carry: int
    muxes: int
    dsp: int
    bram: int
    cells: Mapping[str, int]


def require_yosys() -> None:
    """Check that Yosys is there.

    Raises:
        EnvironmentProblem: If it is not.
    """
    require_tool("yosys")


def synthesise(design: Design, *, timeout: float = 7200.0) -> Synthesis:
    """Map a design to the cells of Xilinx UltraScale+; the log is ``yosys.log`` in its folder.

    Yosys places and routes nothing and says nothing about timing.

    Args:
        design: What to map.
        timeout: Seconds after which Yosys is stopped.

    Raises:
        EnvironmentProblem: If Yosys is missing.
        ConversionError: If it fails or takes too long; quotes the end of its log.
    """
    require_yosys()
    # Tables are read from the folder that Yosys runs in: that of the testbench has them.
    folder, log = design.folder / SIMULATION, design.folder / "yosys.log"
    folder.mkdir(exist_ok=True)
    sources = " ".join(os.path.relpath(source, folder) for source in design.sources)
    script = design.folder / "synth.ys"
    lines = [
        "# Run with `yosys ../synth.ys` in sim.",
        f"read_verilog -defer {sources}",  # Modules with parameters wait until these are known.
        f"hierarchy -check -top {design.top}",
        "setattr -unset rom_style */m:*",  # Yosys knows no distributed ROM and would give up; look-up tables are the same.
        f"synth_xilinx -family {FAMILY} -top {design.top} -flatten -noiopad -noclkbuf",
        "tee -o ../yosys.json stat -json",
    ]
    write_text(script, "\n".join(lines) + "\n")
    if run_tool(["yosys", os.path.relpath(script, folder)], folder=folder, log=log, timeout=timeout) != 0:
        raise ConversionError(f"yosys cannot synthesise the design: {tail(log)}")
    return parse((design.folder / "yosys.json").read_text(encoding="utf-8"))


def parse(text: str) -> Synthesis:
    """Read what ``stat -json`` prints for a flattened design.

    Raises:
        ConversionError: If it is anything else.
    """
    try:
        # A headline may come before it.
        cells = json.loads(text[text.index("{") :])["design"]["num_cells_by_type"]
    except (ValueError, KeyError, TypeError) as error:
        raise ConversionError(f"yosys' statistics are not as those of version 0.23 or later: {text[:80]!r}") from error
    counts = {
        kind: sum(number for cell, number in cells.items() if re.fullmatch(pattern, cell)) for kind, pattern in KINDS.items()
    }
    return Synthesis(**counts, cells=cells)
