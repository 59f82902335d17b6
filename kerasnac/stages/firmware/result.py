"""Firmware of a network as it was made: all comparisons with Keras, as text and as JSON."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from html import escape
from pathlib import Path
from typing import Any

from pydantic import InstanceOf, TypeAdapter, ValidationError

from kerasnac.adapters.hls4ml.conversion import SOFTMAX_OUTPUT
from kerasnac.core.checks import explained
from kerasnac.core.hardware.hls_options import HlsOptions, SoftmaxMode
from kerasnac.core.network.trained import Trained
from kerasnac.errors import RunError
from kerasnac.stages.firmware.comparison import ArithmeticCheck, Comparison, InputCheck, Mismatch, SoftmaxAgreement
from kerasnac.stages.firmware.folder import MODEL, REPORT, SOFTMAX, read_report, report_head
from kerasnac.stages.firmware.graph_check import GraphCheck
from kerasnac.stages.firmware.layer_differences import LayerDifference

#: Layout of ``report.json``.
SCHEMA = 2


@dataclass(frozen=True)
class Emulation:
    """The C++ emulation of a project against Keras.

    Attributes:
        comparison: All outputs; None if the project cannot be emulated here.
        not_emulated: Why not.
        first_layer: The first layer that differs, if an output does.
    """

    comparison: Comparison | None
    not_emulated: str = ""
    first_layer: LayerDifference | None = None

    @property
    def verdict(self) -> str:
        """One line on bit-exactness."""
        return f"not emulated: {self.not_emulated}" if self.comparison is None else self.comparison.verdict


@dataclass(frozen=True)
class TaskMetric:
    """The metric of the task on the samples that were compared.

    Attributes:
        name: Name and unit.
        firmware: Of the emulation; None without one.
        keras: Of Keras.
    """

    name: str
    firmware: float | None
    keras: float


@dataclass(frozen=True)
class Original:
    """A Keras model of somebody else, from which the network was read.

    Attributes:
        name: Name of the model.
        comparison: Its own outputs against the firmware's, or against those of the network that was read without emulation.
        layers: Name of its layer for each of the network.
        host: The activation at its end that is left to the host: softmax, sigmoid, or nothing.
        rounded: Its weights in floating point, which the network has rounded.
    """

    name: str
    comparison: Comparison
    layers: Mapping[str, str]
    host: str
    rounded: tuple[str, ...] = ()

    def lines(self) -> list[str]:
        """Return it as text."""
        names: dict[str, list[str]] = {}
        for ours, theirs in self.layers.items():
            names.setdefault(theirs, []).append(ours)
        host = f", before the {self.host} at its end, which is left to the host" if self.host else ""
        rounded = [f"rounded, which it has in floating point: {', '.join(self.rounded)}"] if self.rounded else []
        return [
            f"the Keras model {self.name} itself{host}: {self.comparison.verdict}",
            "its layers: " + ", ".join(f"{theirs} = {'+'.join(ours)}" for theirs, ours in names.items()),
            *rounded,
        ]


@dataclass(frozen=True)
class SoftmaxCheck:
    """The softmax of a classifier.

    Attributes:
        mode: Who computes it.
        agreement: How well that on the chip agrees with that in floating point; None if there is none, or no emulation.
    """

    mode: SoftmaxMode
    agreement: SoftmaxAgreement | None = None

    def lines(self) -> list[str]:
        """Return the agreement as text; nothing without one."""
        if self.agreement is None:
            return []
        equal, largest, argmax = self.agreement.equal, self.agreement.max_difference, self.agreement.argmax
        kind = f"approximate; project in {SOFTMAX}" if self.mode == "chip" else "tables that Keras shares"
        return [
            f"softmax on chip ({SOFTMAX_OUTPUT}, {kind}) against softmax in floating point:",
            f"  {equal:.2%} of the outputs equal, largest difference {largest:.2g}, same class in {argmax:.2%}",
        ]


@dataclass(frozen=True)
class Firmware:
    """A converted network and how its C++ emulation compares to Keras.

    Attributes:
        trained: The network.
        folder: The hls4ml project.
        options: What the project is for.
        inputs: The samples as they were given, against the input's grid.
        emulation: The emulation of the project against Keras.
        adder_graph: The adder graph of the network against Keras, and its costs.
        metric: Task metric of both on these samples; None without labels.
        softmax: Who computes the softmax, and how well.
        seconds: Wall time of each step.
        original: The Keras model that the network was read from, if it is somebody else's.
        arithmetic: Of the QKeras model that all is compared with.
    """

    trained: InstanceOf[Trained]
    folder: Path
    options: HlsOptions
    inputs: InputCheck
    emulation: Emulation
    adder_graph: GraphCheck
    metric: TaskMetric | None
    softmax: SoftmaxCheck
    seconds: Mapping[str, float]
    original: Original | None = None
    arithmetic: ArithmeticCheck = field(default_factory=ArithmeticCheck)

    def __repr__(self) -> str:
        return f"Firmware({self.trained.name}: {self.verdict}; {self.folder})"

    def _repr_html_(self) -> str:
        return f"<pre>{escape(self.report())}</pre>"

    @property
    def comparison(self) -> Comparison | None:
        """All outputs of the emulation against Keras; None if the project cannot be emulated here."""
        return self.emulation.comparison

    @property
    def samples(self) -> int:
        """Number of samples compared."""
        return self.comparison.samples if self.comparison else 0

    @property
    def outputs(self) -> int:
        """Number of outputs compared, over all samples."""
        return self.comparison.outputs if self.comparison else 0

    @property
    def mismatches(self) -> int:
        """How many of them differ."""
        return self.comparison.mismatches if self.comparison else 0

    @property
    def max_abs_error(self) -> float:
        """Largest difference of two outputs."""
        return self.comparison.max_abs_error if self.comparison else 0.0

    @property
    def first_mismatch(self) -> Mismatch | None:
        """The first output that differs."""
        return self.comparison.first_mismatch if self.comparison else None

    @property
    def bit_exact(self) -> bool:
        """True if outputs were compared and not one differs: neither in the emulation, nor in the adder graph."""
        return self.comparison is not None and not self.disagreements

    @property
    def verdict(self) -> str:
        """One line on bit-exactness."""
        emulation = f"{self.emulation.verdict}{self.arithmetic.note if self.comparison else ''}"
        return emulation if self.adder_graph.agrees else f"{emulation}; {self.adder_graph.disagreement}"

    @property
    def disagreements(self) -> tuple[str, ...]:
        """Differences of the emulation and of the adder graph from Keras, with the first layer that differs."""
        found = [] if self.adder_graph.agrees else [self.adder_graph.disagreement]
        if self.comparison is not None and not self.comparison.equal:
            found.insert(0, f"{self.comparison.verdict}; {self.emulation.first_layer}")
        return tuple(found)

    def report(self) -> str:
        """Return the whole comparison as text."""
        lines = [
            f"Firmware of {self.trained.name}: {self.trained.architecture}",
            f"project: {self.folder} ({self.options})",
        ]
        if self.comparison is None:
            lines += [self.verdict, "  its types are those that were proved to be exact; nothing has computed with them"]
        else:
            lines.append(f"C++ emulation against QKeras in {self.arithmetic.exact.dtype}, {self.samples} samples:")
            lines += [f"  {line}" for line in self.comparison.lines()]
            if self.metric is not None:
                lines.append(f"  {self.metric.name}: firmware {self.metric.firmware:.6g}, Keras {self.metric.keras:.6g}")
        if self.original is not None:
            lines += self.original.lines()
        lines += [str(self.arithmetic), str(self.inputs)]
        if self.emulation.first_layer is not None:
            lines.append(str(self.emulation.first_layer))
        lines.append(str(self.adder_graph))
        lines += self.softmax.lines()
        lines.append("times: " + ", ".join(f"{step} {seconds:.1f} s" for step, seconds in self.seconds.items()))
        return "\n".join(lines) + "\n"

    def to_dict(self) -> dict[str, Any]:
        """Return a JSON-ready dictionary; the network itself is in the folder."""
        found = {"model": self.trained.name, "bit_exact": self.bit_exact, "verdict": self.verdict}
        fields: dict[str, Any] = _FIRMWARE.dump_python(self, mode="json", exclude={"trained"})
        return report_head(SCHEMA) | found | fields

    @classmethod
    def load(cls, folder: Path | str) -> Firmware:
        """Read a folder that :func:`kerasnac.make_firmware` wrote, wherever it is now.

        Raises:
            RunError: If the folder holds no firmware, or that of another version.
        """
        folder = Path(folder)
        data = read_report(folder / REPORT, SCHEMA, "firmware")
        own = {"folder": folder, "trained": Trained.load(folder / MODEL)}
        try:
            return _FIRMWARE.validate_python(data | own)
        except ValidationError as error:
            raise RunError(f"{folder / REPORT} is damaged: {explained(error, 'report')}; make the firmware again") from error


_FIRMWARE = TypeAdapter(Firmware)
