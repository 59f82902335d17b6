"""From a quantized network to Verilog that equals it in every bit, simulated and synthesised with open tools."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kerasnac.adapters.keras.train import predict
from kerasnac.adapters.rtl import yosys
from kerasnac.adapters.rtl.adder_graph import trace
from kerasnac.adapters.rtl.verilator import require_verilator, simulate
from kerasnac.adapters.rtl.verilog import write_design, write_testbench
from kerasnac.adapters.rtl.yosys import Synthesis, require_yosys
from kerasnac.core.network.architecture import Architecture
from kerasnac.core.network.exactness import output_formats
from kerasnac.core.network.trained import Trained
from kerasnac.core.store.files import new_folder, write_json, write_text
from kerasnac.core.store.stopwatch import Stopwatch
from kerasnac.errors import ConversionError, DataError, RunError
from kerasnac.stages.firmware.comparison import GraphCheck
from kerasnac.stages.firmware.manifest import MODEL

#: The report in a folder of Verilog.
REPORT = "rtl.json"


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
        samples: Number of samples simulated.
        mismatches: How many of them have a wrong output.
        latency_cutoff: Adder levels between two registers, at most.
        latency: Clock cycles from the edge that reads a sample to the edge that puts its outputs out. A new sample is
            read in every cycle.
        estimated_luts: da4ml's estimate from the adder graph.
        estimated_ffs: Bits of all registers.
        synthesis: What Yosys counts, if it was asked.
        seconds: Wall time of each step.
    """

    name: str
    architecture: str
    folder: Path
    top: str
    inputs: str
    outputs: str
    samples: int
    mismatches: int
    latency_cutoff: int
    latency: int
    estimated_luts: float
    estimated_ffs: int
    synthesis: Synthesis | None
    seconds: Mapping[str, float]

    @property
    def verdict(self) -> str:
        """One line on bit-exactness."""
        return f"bit-exact: {self.samples - self.mismatches} of {self.samples} samples equal"

    def report(self) -> str:
        """Everything as text."""
        lines = [
            f"Verilog of {self.name}: {self.architecture}",
            f"folder: {self.folder} (top module {self.top})",
            f"  model_inp: {self.inputs}",
            f"  model_out: {self.outputs}",
            f"Verilator against QKeras: {self.verdict}",
            f"latency: {self.latency} clock cycles, one sample per cycle, {self.latency_cutoff} adder levels between registers",
            f"adder graph: {self.estimated_luts:,.0f} LUT, {self.estimated_ffs:,} register bits (estimate)",
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
        """A JSON-ready dictionary."""
        return asdict(self) | {"folder": str(self.folder)}

    @classmethod
    def load(cls, folder: Path | str) -> Rtl:
        """Reads a folder that :func:`make_rtl` wrote, wherever it is now.

        Raises:
            RunError: If the folder holds no Verilog of kerasnac.
        """
        report = Path(folder) / REPORT
        if not report.is_file():
            raise RunError(f"{folder} holds no Verilog of kerasnac: {REPORT} is missing")
        data = json.loads(report.read_text(encoding="utf-8")) | {"folder": Path(folder)}
        if data["synthesis"] is not None:
            data["synthesis"] = Synthesis(**data["synthesis"])
        return cls(**data)


def make_rtl(
    trained: Trained, samples: NDArray[Any], *, folder: Path | str, latency_cutoff: int = 5, synthesise: bool = True
) -> Rtl:
    """Writes pipelined Verilog, simulates it against Keras and synthesises it.

    Args:
        trained: A quantized network.
        samples: To compare on, shape (samples, ...), at least 1,000 to mean something; values off the input grid are
            put on it. :func:`random_samples` makes some.
        folder: Verilog, testbench, ``rtl.json`` and ``report.txt``. A folder of this kind that is already there is
            replaced, once all has succeeded.
        latency_cutoff: Adder levels between two registers: fewer for a faster clock, more for less latency.
        synthesise: Whether to count LUTs and the like with Yosys, which takes a minute or so.

    Raises:
        ConversionError: If the network has no exact adder graph (names the layer and the reason), if a tool fails, or
            if a sample differs.
        DataError: If the samples do not fit the network.
        EnvironmentProblem: If a tool is missing.
        RunError: If the folder holds something else.
    """
    folder = Path(folder).resolve()
    _check_free(folder)
    if len(samples) == 0 or samples.shape[1:] != trained.architecture.input_shape:
        raise DataError(
            f"samples of shape {samples.shape} do not fit {trained.name}, whose input is {trained.architecture.input_shape}"
        )
    require_verilator()
    if synthesise:
        require_yosys()
    # A window of a longer readout is cut by whatever feeds the chip: the design's input is the window.
    architecture = trained.architecture.without_window()
    formats = output_formats(architecture, trained.weights)
    assert architecture.input is not None  # output_formats has refused a float network
    x = architecture.input.quantize(samples[:, trained.architecture.window]).astype(np.float32)
    steps = Stopwatch()
    with steps("Keras"):
        keras = predict(architecture, trained.weights, x)
    with steps("adder graph"):
        graph = trace(architecture, trained.weights)
    with steps("interpreter"):
        _check_equal(trained.name, GraphCheck.of(graph.predict(x), keras, formats[architecture.names[-1]], {}))
    with new_folder(folder) as project:
        with steps("Verilog"):
            design = write_design(graph, trained.name, project, latency_cutoff=latency_cutoff)
            testbench = write_testbench(design, x.reshape(len(x), -1), keras.reshape(len(x), -1))
        with steps("simulation"):
            simulation = simulate(design, testbench)
        if simulation.mismatches:
            raise ConversionError(
                f"{trained.name}: NOT bit-exact: {simulation.mismatches} of {len(x)} samples differ "
                f"(first: {simulation.first}); please report it, all its formats should be exact"
            )
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
            samples=len(x),
            mismatches=simulation.mismatches,
            latency_cutoff=latency_cutoff,
            latency=design.latency,
            estimated_luts=graph.luts,
            estimated_ffs=graph.register_bits(latency_cutoff),
            synthesis=synthesis,
            seconds=steps.seconds,
        )
        write_json(project / REPORT, rtl.to_dict())
        write_text(project / "report.txt", rtl.report())
    return rtl


def load_model(folder: Path | str) -> Trained:
    """The network in a folder of :meth:`Trained.save`, or in a firmware folder.

    Raises:
        RunError: If there is none.
    """
    folder = Path(folder)
    inside = folder / MODEL
    return Trained.load(inside if inside.is_dir() else folder)


def random_samples(architecture: Architecture, count: int, *, seed: int = 0) -> NDArray[np.float32]:
    """Samples on the input grid: its lowest and highest values everywhere, random corners, and quiet and loud noise.

    Args:
        architecture: A quantized network.
        count: How many.
        seed: For the random ones.

    Returns:
        Shape (count, ...).

    Raises:
        ConversionError: If the network is not quantized.
    """
    grid, shape = architecture.input, architecture.input_shape
    if grid is None:
        raise ConversionError("the network is not quantized: it has no number formats; compress it before making Verilog")
    rng = np.random.default_rng(seed)
    values = rng.uniform(grid.minimum, grid.maximum, (count, *shape))
    values *= rng.choice([1.0, 0.5, 0.25, 0.125], (count, *[1] * len(shape)))
    corners = rng.choice([grid.minimum, grid.maximum], (len(values[::4]), *shape))
    values[::4] = corners
    values[:2] = np.array([grid.minimum, grid.maximum]).reshape(2, *[1] * len(shape))[:count]
    return grid.quantize(values).astype(np.float32)


def _check_equal(name: str, graph: GraphCheck) -> None:
    """Refuses an adder graph that differs from Keras, before minutes go into tools."""
    if not graph.agrees:
        raise ConversionError(f"{name}: {graph.disagreement}; please report it, all its formats should be exact")


def _check_free(folder: Path) -> None:
    if folder.exists() and not (folder.is_dir() and ((folder / REPORT).is_file() or not any(folder.iterdir()))):
        raise RunError(f"{folder} is there already and holds something else than Verilog of kerasnac; choose another folder")
