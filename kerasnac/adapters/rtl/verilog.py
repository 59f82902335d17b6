"""An adder graph as pipelined Verilog, and a testbench that any simulator of SystemVerilog runs."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kerasnac.adapters.rtl.adder_graph import AdderGraph
from kerasnac.core.hardware.hls_options import HlsOptions
from kerasnac.core.store.files import write_text
from kerasnac.errors import ConversionError, EnvironmentProblem

#: Where in a design its sources, its testbench and the contents of its tables are.
SOURCES, SIMULATION, TABLES = Path("src"), Path("sim"), Path("src/memfiles")

#: What the testbench prints; a simulation is judged by these words, since simulators differ in exit codes.
PASS, FAIL, MISMATCH = "PASS", "FAIL", "MISMATCH"


@dataclass(frozen=True)
class Port:
    """A vector of fixed-point numbers of one format, the first in the lowest bits.

    Attributes:
        count: Numbers in the vector.
        width: Bits of a number.
        fractional: Bits right of the binary point.
        signed: Two's complement or unsigned.
    """

    count: int
    width: int
    fractional: int
    signed: bool

    @classmethod
    def of(cls, intervals: Iterable[Any]) -> Port:
        """Return the port that da4ml's I/O wrapper has for numbers in some of da4ml's intervals."""
        from da4ml.types import minimal_kif

        formats = [minimal_kif(interval) for interval in intervals]
        sign, integer, fractional = (max(values) for values in zip(*formats, strict=True))
        return cls(len(formats), int(sign + integer + fractional), int(fractional), bool(sign))

    def __str__(self) -> str:
        kind = "signed" if self.signed else "unsigned"
        return f"{self.count} x {self.width} bit {kind}, {self.fractional} of them fractional"

    @property
    def bits(self) -> int:
        """Width of the whole vector."""
        return self.count * self.width

    def holds(self, values: NDArray[Any]) -> NDArray[np.bool_]:
        """Return true where a value is a number of this format; the shape stays."""
        raw = np.ldexp(np.asarray(values, np.float64), self.fractional)
        low = -(2.0 ** (self.width - 1)) if self.signed else 0.0
        held: NDArray[np.bool_] = (raw == np.floor(raw)) & (raw >= low) & (raw < low + 2.0**self.width)
        return held

    def words(self, values: NDArray[Any]) -> Iterator[str]:
        """Return every sample as one hexadecimal number, for ``$readmemh``.

        Args:
            values: Numbers of this format, shape (samples, count).
        """
        mask, digits = (1 << self.width) - 1, -(-self.bits // 4)
        for sample in np.ldexp(np.asarray(values, np.float64), self.fractional):
            vector = sum((int(value) & mask) << (i * self.width) for i, value in enumerate(sample))
            yield f"{vector:0{digits}x}"


@dataclass(frozen=True)
class Design:
    """Verilog of a network, in a folder.

    The module reads a sample at every rising edge of ``clk``: initiation interval 1.

    Attributes:
        folder: Holds ``src`` with the sources and da4ml's scripts for Vivado and Quartus.
        top: The module: ``clk``, ``model_inp`` and ``model_out``.
        inputs: Format of ``model_inp``.
        outputs: Format of ``model_out``.
        latency: Clock cycles from the edge that reads a sample to the edge that puts its outputs out: the number of
            pipeline stages.
    """

    folder: Path
    top: str
    inputs: Port
    outputs: Port
    latency: int

    @property
    def sources(self) -> list[Path]:
        """All Verilog files."""
        return sorted((self.folder / SOURCES).rglob("*.v"))


def write_design(graph: AdderGraph, name: str, folder: Path, options: HlsOptions | None = None) -> Design:
    """Write pipelined Verilog.

    Args:
        graph: The network.
        name: Its name; the module's begins with ``nn_`` and has underscores where Verilog allows nothing else.
        folder: Where to write.
        options: Part and clock period of da4ml's scripts and constraints for Vivado and Quartus.

    Raises:
        ConversionError: If all outputs are the constant zero.
        EnvironmentProblem: If da4ml is missing.
    """
    try:
        from da4ml.codegen import RTLModel
    except ImportError as error:
        raise EnvironmentProblem(f"da4ml cannot be imported ({error}): pip install 'kerasnac[da4ml]'") from error

    pipeline = graph.pipeline
    inputs, outputs = Port.of(pipeline.inp_qint), Port.of(pipeline.out_qint)
    if outputs.width == 0:
        raise ConversionError(f"{name}: every output is always zero, which leaves nothing to build; prune less")
    module = f"nn_{re.sub(r'[^A-Za-z0-9]', '_', name)}"
    options = HlsOptions.of(options)
    target = {"part_name": options.part, "clock_period": options.clock_period}
    RTLModel(pipeline, module, folder, flavor="verilog", print_latency=False, **target).write()
    simulation = folder / SIMULATION
    shutil.rmtree(simulation)  # da4ml's binding to C++; the testbench takes its place.
    simulation.mkdir()
    for contents in (folder / TABLES).glob("*.mem"):
        with contents.open("a", encoding="utf-8") as stream:
            stream.write("\n")  # Verilator 5.006 forgets a last entry without an end of line.
        shutil.copy(contents, simulation)  # The tables' modules name them without a folder.
    return Design(folder, f"{module}_wrapper", inputs, outputs, latency=graph.stages)


def write_testbench(design: Design, x: NDArray[Any], expected: NDArray[Any]) -> Path:
    """Write a testbench that checks every output itself, with its samples beside it.

    It feeds one sample per clock cycle, names the first sample with a wrong output and ends with ``PASS``, or with
    ``FAIL`` and an error. It reads its files from the folder that the simulator runs in: its own.

    Args:
        design: What to test.
        x: Inputs on their grid, shape (samples, inputs).
        expected: What the outputs must be, shape (samples, outputs).

    Returns:
        ``tb.sv``.

    Raises:
        ConversionError: If an expected output is no number that the design can give out; names the sample.
    """
    wrong = np.argwhere(~design.outputs.holds(expected))
    if len(wrong):
        sample, output = (int(index) for index in wrong[0])
        raise ConversionError(
            f"sample {sample}, output {output}: {float(expected[sample, output])!r} is expected, "
            f"which the design cannot give out ({design.outputs})"
        )
    folder = design.folder / SIMULATION
    folder.mkdir(exist_ok=True)
    for file, port, values in (("inputs.hex", design.inputs, x), ("expected.hex", design.outputs, expected)):
        write_text(folder / file, "".join(f"{word}\n" for word in port.words(values)))
    testbench = folder / "tb.sv"
    write_text(testbench, _testbench(design, len(x)))
    return testbench


def _testbench(design: Design, samples: int) -> str:
    return f"""// Self-checking testbench of {design.top}: {samples} samples, one per clock cycle.
// Run it in this folder, where it reads inputs.hex and expected.hex; it prints {PASS} or {FAIL}.
//   model_inp: {design.inputs}; the first in the lowest bits
//   model_out: {design.outputs}
`timescale 1ns / 1ps

module tb;
    localparam SAMPLES = {samples};
    localparam LATENCY = {design.latency};  // clock cycles
    localparam OUTPUTS = {design.outputs.count};
    localparam WIDTH = {design.outputs.width};  // bits of an output

    reg clk = 0;
    reg [{design.inputs.bits - 1}:0] inputs [0:SAMPLES-1];
    reg [{design.outputs.bits - 1}:0] expected [0:SAMPLES-1];
    reg [{design.inputs.bits - 1}:0] x;
    wire [{design.outputs.bits - 1}:0] y;
    reg [{design.outputs.bits - 1}:0] wanted;
    integer cycle, i, mismatches;

    {design.top} dut (.clk(clk), .model_inp(x), .model_out(y));

    always #2.5 clk = !clk;

    initial begin
        $readmemh("inputs.hex", inputs);
        $readmemh("expected.hex", expected);
        mismatches = 0;
        // The design works at rising edges: at a falling edge all is at rest.
        for (cycle = 0; cycle <= SAMPLES + LATENCY; cycle = cycle + 1) begin
            @(negedge clk);
            if (cycle > LATENCY) begin
                wanted = expected[cycle - LATENCY - 1];
                if (y !== wanted) begin
                    if (mismatches == 0)
                        for (i = 0; i < OUTPUTS; i = i + 1)
                            if (y[i*WIDTH +: WIDTH] !== wanted[i*WIDTH +: WIDTH])
                                $display("{MISMATCH} sample %0d, output %0d: expected %h, got %h", cycle - LATENCY - 1, i,
                                         wanted[i*WIDTH +: WIDTH], y[i*WIDTH +: WIDTH]);
                    mismatches = mismatches + 1;
                end
            end
            if (cycle < SAMPLES) x = inputs[cycle];
        end
        if (mismatches != 0) $fatal(1, "{FAIL}: %0d of %0d samples differ", mismatches, SAMPLES);
        $display("{PASS}: %0d samples equal", SAMPLES);
        $finish;
    end
endmodule
"""
