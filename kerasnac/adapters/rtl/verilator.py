"""Simulation with Verilator 5, which compiles a design and its testbench to a program."""

from __future__ import annotations

import os
import re
import shutil
from dataclasses import dataclass
from pathlib import Path

from kerasnac.adapters.hls4ml.compiler import require_compiler
from kerasnac.adapters.programs import require_tool, run_tool, tail
from kerasnac.adapters.rtl.verilog import FAIL, MISMATCH, PASS, Design
from kerasnac.errors import ConversionError

#: The compiled program runs for milliseconds only, so its compiler need not optimize. Verilator itself must: with -O0 it
#: does not come to an end. da4ml's Verilog switches a warning off that Verilator 5.006 does not know, WIDTHTRUNC.
OPTIONS = ("--timing", "-Wno-fatal", "-Wno-lint", "-Wfuture-WIDTHTRUNC", "-CFLAGS", "-O0", "--output-split", "5000")


@dataclass(frozen=True)
class Simulation:
    """Outcome of a testbench.

    Attributes:
        samples: Samples that it compared.
        mismatches: Those with a wrong output.
        first: The first of them: sample, output, what was expected and what came out, as raw hexadecimal numbers.
    """

    samples: int
    mismatches: int = 0
    first: str = ""

    @property
    def verdict(self) -> str:
        """One line on bit-exactness."""
        if self.mismatches:
            return f"NOT bit-exact: {self.mismatches} of {self.samples} samples differ (first: {self.first})"
        return f"bit-exact: {self.samples} of {self.samples} samples equal"


def require_verilator() -> None:
    """Check that Verilator and a C++ compiler are there.

    Raises:
        EnvironmentProblem: If one is not.
    """
    require_tool("verilator")
    require_compiler()


def simulate(design: Design, testbench: Path, *, timeout: float = 3600.0) -> Simulation:
    """Compile and run a testbench; the logs are ``build.log`` and ``simulation.log`` beside it.

    Args:
        design: What is tested.
        testbench: From :func:`kerasnac.adapters.rtl.verilog.write_testbench`.
        timeout: Seconds after which the compilation, or the simulation, is stopped.

    Raises:
        EnvironmentProblem: If Verilator or a C++ compiler is missing.
        ConversionError: If the design does not compile, or the simulation does not come to an end.
    """
    require_verilator()
    folder, program = testbench.parent, testbench.stem
    log, objects = folder / "build.log", folder / "obj_dir"
    sources = [os.path.relpath(source, folder) for source in design.sources]
    jobs = ["-j", str(os.cpu_count() or 1)]
    command = ["verilator", "--binary", *OPTIONS, *jobs, "--top-module", program, testbench.name, *sources]
    if run_tool(command, folder=folder, log=log, timeout=timeout) != 0:
        raise ConversionError(f"verilator cannot compile the design: {tail(log)}")
    log = folder / "simulation.log"
    run_tool([objects / f"V{program}"], folder=folder, log=log, timeout=timeout)
    shutil.rmtree(objects)  # Many megabytes that the sources bring back.
    said = log.read_text(encoding="utf-8", errors="replace")
    if found := re.search(rf"{FAIL}: (\d+) of (\d+) ", said):
        first = re.search(rf"{MISMATCH} (.*)", said)
        return Simulation(int(found[2]), int(found[1]), first[1] if first else "")
    if found := re.search(rf"{PASS}: (\d+) ", said):
        return Simulation(int(found[1]))
    raise ConversionError(f"the simulation did not come to an end: {tail(log)}")
