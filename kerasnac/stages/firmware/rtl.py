"""From a quantized network to Verilog that equals it in every bit, simulated and synthesised with open tools."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import TypeAdapter

from kerasnac.adapters.keras.foreign.model import as_trained
from kerasnac.adapters.keras.predict import vectors
from kerasnac.adapters.rtl import yosys
from kerasnac.adapters.rtl.adder_graph import AdderGraph, check_unrollable, require_da4ml, unroll
from kerasnac.adapters.rtl.verilator import Simulation, require_verilator, simulate
from kerasnac.adapters.rtl.verilog import Design, write_design, write_testbench
from kerasnac.adapters.rtl.yosys import Synthesis, require_yosys
from kerasnac.core.hardware.hls_options import HlsOptions
from kerasnac.core.network.arithmetic import Arithmetic, exact_arithmetic
from kerasnac.core.network.exactness import output_formats
from kerasnac.core.network.trained import Trained
from kerasnac.core.settings import AdderGraphSettings
from kerasnac.core.store.files import new_folder, write_json, write_text
from kerasnac.core.store.stopwatch import Stopwatch
from kerasnac.errors import ConversionError, DataError, RunError
from kerasnac.stages.firmware.comparison import on_grid
from kerasnac.stages.firmware.costs import board_of
from kerasnac.stages.firmware.folder import check_free, read_report, report_head
from kerasnac.stages.firmware.graph_check import GraphCheck

#: The report in a folder of Verilog, and its layout.
REPORT, SCHEMA = "rtl.json", 2


@dataclass(frozen=True)
class Rtl:
    """Verilog of a network, how it compares to Keras and what it takes of an FPGA.

    Attributes:
        name: Name of the network.
        architecture: Its layers.
        folder: Holds ``src`` (Verilog, and scripts for Vivado and Quartus beside it) and ``sim`` (the testbench).
        top: The top module.
        inputs: Format of the input vector.
        outputs: Format of the output vector.
        settings: How the adder graph was made, and cut into pipeline stages.
        costs: Its estimated costs, by the names of the source ``adder_graph``.
        simulation: Samples that were simulated, and those with a wrong output.
        synthesis: Cells that Yosys counts, if it was asked.
        seconds: Wall time of each step.
        arithmetic: In which Keras computes the numbers that all is compared with.
        options: Part and clock of the scripts and constraints for Vivado and Quartus; None in folders of earlier versions.
    """

    name: str
    architecture: str
    folder: Path
    top: str
    inputs: str
    outputs: str
    settings: AdderGraphSettings
    costs: Mapping[str, float]
    simulation: Simulation
    synthesis: Synthesis | None
    seconds: Mapping[str, float]
    arithmetic: Arithmetic = field(default_factory=Arithmetic)
    options: HlsOptions | None = None

    @property
    def samples(self) -> int:
        """Number of samples simulated."""
        return self.simulation.samples

    @property
    def mismatches(self) -> int:
        """How many of them have a wrong output."""
        return self.simulation.mismatches

    @property
    def latency(self) -> int:
        """Clock cycles from the edge that reads a sample to the edge that puts its outputs out.

        A new sample is read in every cycle.
        """
        return round(self.costs["adder_stages"])

    @property
    def timing(self) -> str:
        """One line on latency and interval."""
        text = f"{self.latency} clock cycles, one sample per cycle, {self.settings.cut}"
        if self.options is None or self.options.clock is None:
            return text
        clock, costs = self.options.clock, self.costs
        fastest = clock.fastest(costs["adder_depth"])
        text += f"; {costs['adder_latency_ns']:g} ns at {costs['adder_interval_ns']:g} ns per cycle"
        if fastest > clock.period:
            text += f", not the {clock.period:g} ns asked for: cut it after fewer levels"
        return f"{text} (on {clock.delays.family} a cycle takes {fastest:g} ns, estimated before routing)"

    @property
    def verdict(self) -> str:
        """One line on bit-exactness."""
        return self.simulation.verdict

    def report(self) -> str:
        """Return everything as text."""
        costs = self.costs
        lines = [
            f"Verilog of {self.name}: {self.architecture}",
            f"folder: {self.folder} (top module {self.top})",
            f"  model_inp: {self.inputs}",
            f"  model_out: {self.outputs}",
            f"Verilator against QKeras in {self.arithmetic.dtype}: {self.verdict}",
            f"latency: {self.timing}",
            f"adder graph: {costs['adder_luts']:,.0f} LUT, {costs['adder_registers']:,.0f} register bits (estimate)",
        ]
        if (found := self.synthesis) is not None:
            lines += [
                "Yosys, Xilinx UltraScale+, not placed and routed:",
                f"  {found.luts:,} LUT, {found.ffs:,} FF, {found.carry:,} carry chains, {found.muxes:,} wide multiplexers, "
                f"{found.dsp:,} DSP, {found.bram:,} BRAM",
            ]
        lines.append("times: " + ", ".join(f"{step} {seconds:.1f} s" for step, seconds in self.seconds.items()))
        return "\n".join(lines) + "\n"

    def to_dict(self) -> dict[str, Any]:
        """Return a JSON-ready dictionary."""
        fields: dict[str, Any] = _RTL.dump_python(self, mode="json")
        return report_head(SCHEMA) | {"verdict": self.verdict} | fields

    @classmethod
    def load(cls, folder: Path | str) -> Rtl:
        """Read a folder that :func:`make_rtl` wrote, wherever it is now.

        Raises:
            RunError: If the folder holds no Verilog of kerasnac, or that of another version.
        """
        folder = Path(folder)
        data = read_report(folder / REPORT, SCHEMA, "Verilog")
        try:
            return _RTL.validate_python(data | {"folder": folder})
        except ValueError as error:
            raise RunError(f"{folder / REPORT} is damaged: {error}") from error


_RTL = TypeAdapter(Rtl)


def make_rtl(
    trained: Trained | Any,
    samples: NDArray[Any],
    *,
    folder: Path | str,
    adder_graph: AdderGraphSettings | None = None,
    options: HlsOptions | None = None,
    synthesise: bool = True,
) -> Rtl:
    """Write pipelined Verilog, simulate it against Keras and synthesise it.

    Args:
        trained: A quantized network, or a QKeras model of your own, or its file.
        samples: To compare on, shape (samples, ...), at least 1,000 to mean something; values off the input grid are
            put on it. :func:`kerasnac.datasets.samples.random_samples` makes some.
        folder: Verilog, testbench, ``rtl.json`` and ``report.txt``. A folder of this kind that is already there is
            replaced, once all has succeeded.
        adder_graph: How hard common subexpressions are searched for, and the adder levels between two registers: fewer for
            a faster clock, more for less latency; ``max_depth: clock`` for as many as the clock period holds.
        options: Part and clock period, of which the scripts and constraints for Vivado and Quartus are; no other option is
            used.
        synthesise: Count LUTs and the like with Yosys, which takes a minute or so.

    Raises:
        ConfigError: If the clock period holds no adder level.
        ConversionError: If the network has no exact adder graph (names the layer and the reason), if a tool fails, or
            if a sample differs.
        DataError: If the samples do not fit the network.
        EnvironmentProblem: If a tool is missing.
        RunError: If the folder holds something else.
    """
    folder, options = Path(folder).resolve(), HlsOptions.of(options)
    settings = (adder_graph or AdderGraphSettings()).at(options.clock)
    check_free(folder, (REPORT,), "Verilog")
    trained = as_trained(trained, samples)
    x = _checked(trained, samples)
    _require_tools(synthesise=synthesise)
    steps = Stopwatch()
    graph, keras = _compared(trained, x, settings, steps)
    with new_folder(folder) as project:
        with steps("Verilog"):
            design = write_design(graph, trained.name, project, options)
        simulation = _simulated(trained.name, design, x, keras, steps)
        synthesis = None
        if synthesise:
            with steps("synthesis"):
                synthesis = yosys.synthesise(design)
        rtl = Rtl(
            name=trained.name,
            architecture=str(trained.architecture),
            folder=folder,
            top=design.top,
            inputs=str(design.inputs),
            outputs=str(design.outputs),
            settings=graph.settings,
            costs=graph.costs(board_of(options), options.clock),
            simulation=simulation,
            synthesis=synthesis,
            seconds=steps.seconds,
            arithmetic=exact_arithmetic(trained.architecture.without_window(), trained.weights),
            options=options,
        )
        write_json(project / REPORT, rtl.to_dict())
        write_text(project / "report.txt", rtl.report())
    return rtl


def _checked(trained: Trained, samples: NDArray[Any]) -> NDArray[np.float32]:
    """Check all that can be wrong with what :func:`make_rtl` is given, without any tool.

    Returns:
        The samples on the input grid, cut to the network's window, shape (samples, ...).
    """
    architecture = trained.architecture
    if len(samples) == 0 or samples.shape[1:] != architecture.input_shape or samples.dtype.kind not in "biuf":
        raise DataError(
            f"samples of shape {samples.shape} of {samples.dtype} do not fit {trained.name}, whose input is "
            f"{architecture.input_shape}"
        )
    check_unrollable(architecture, trained.weights)
    assert architecture.input is not None  # check_unrollable has refused a float network
    x, _ = on_grid(samples[:, architecture.window], architecture.input)
    return x


def _require_tools(*, synthesise: bool) -> None:
    """Check that all is installed that Verilog is made with."""
    require_da4ml()
    require_verilator()
    if synthesise:
        require_yosys()


def _compared(
    trained: Trained, x: NDArray[np.float32], settings: AdderGraphSettings, steps: Stopwatch
) -> tuple[AdderGraph, NDArray[Any]]:
    """Unroll a network, and compare the graph with Keras before minutes go into tools.

    Args:
        trained: The network.
        x: Samples on the input grid, cut to its window, shape (samples, ...), float32.
        settings: How the graph is made.
        steps: Takes the time.

    Returns:
        The graph, and the outputs of Keras, shape (samples, outputs), float32 or float64.

    Raises:
        ConversionError: If an output differs.
    """
    # A window of a longer readout is cut by whatever feeds the chip: the design's input is the window.
    architecture = trained.architecture.without_window()
    with steps("Keras"):
        keras = vectors(architecture, trained.weights, x)
    with steps("adder graph"):
        graph = unroll(architecture, trained.weights, settings)
    with steps("interpreter"):
        grid = output_formats(architecture, trained.weights)[architecture.names[-1]]
        _check_equal(trained.name, GraphCheck.of(graph, x, keras, grid).disagreement)
    return graph, keras.reshape(len(x), -1)


def _simulated(name: str, design: Design, x: NDArray[np.float32], keras: NDArray[Any], steps: Stopwatch) -> Simulation:
    """Simulate a design against Keras.

    Args:
        name: Name of the network.
        design: Its Verilog.
        x: Samples on the input grid, shape (samples, ...), float32.
        keras: Outputs of Keras, shape (samples, outputs), float32 or float64.
        steps: Takes the time.

    Raises:
        ConversionError: If a sample differs.
    """
    with steps("simulation"):
        simulation = simulate(design, write_testbench(design, x.reshape(len(x), -1), keras))
    _check_equal(name, simulation.verdict if simulation.mismatches else "")
    return simulation


def _check_equal(name: str, disagreement: str) -> None:
    """Refuse Verilog of a network that differs from Keras."""
    if disagreement:
        raise ConversionError(f"{name}: {disagreement}; please report it, all its formats should be exact")
