"""From a quantized network to firmware that equals it in every bit, with the evidence."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from kerasnac.adapters.csim import compile_project, emulate
from kerasnac.adapters.hls import SOFTMAX_OUTPUT, convert
from kerasnac.adapters.keras.train import predict
from kerasnac.core.data import Split, Task
from kerasnac.core.exactness import check_exact
from kerasnac.core.files import new_folder, write_json, write_text
from kerasnac.core.settings import Backend, IoType, Strategy
from kerasnac.core.stopwatch import Stopwatch
from kerasnac.core.trained import Trained
from kerasnac.errors import ConfigError, ConversionError, DataError, RunError

#: Where in a firmware folder the network, the project with softmax and the report are.
MODEL, SOFTMAX, REPORT = Path("kerasnac/model"), Path("softmax"), "report.json"

#: Samples that are written for hls4ml's test bench; RTL co-simulation is slow.
TEST_VECTORS = 1000


@dataclass(frozen=True)
class Mismatch:
    """An output in which firmware and Keras differ."""

    sample: int
    output: int
    keras: float
    firmware: float


@dataclass(frozen=True)
class SoftmaxAgreement:
    """How well the softmax on the chip, an approximation by tables, agrees with softmax in floating point.

    Attributes:
        equal: Fraction of outputs that are equal once both are on the chip's output grid.
        max_difference: Largest difference of two probabilities.
        argmax: Fraction of samples with the same most probable class.
    """

    equal: float
    max_difference: float
    argmax: float


@dataclass(frozen=True)
class Firmware:
    """A converted network and how its C++ emulation compares to Keras.

    Attributes:
        trained: The network.
        folder: The hls4ml project.
        options: Part, clock period (ns), backend and the other options of the conversion.
        samples: Number of samples compared.
        outputs: Number of outputs compared, over all samples.
        mismatches: How many of them differ.
        max_abs_error: Largest difference.
        first_mismatch: The first output that differs.
        metric_name: Name and unit of the metric.
        metric: Task metric of the emulation on these samples.
        keras_metric: Task metric of Keras on the same samples.
        softmax: Agreement of the softmax on the chip, if there is one.
        seconds: Wall time of each step.
    """

    trained: Trained
    folder: Path
    options: Mapping[str, Any]
    samples: int
    outputs: int
    mismatches: int
    max_abs_error: float
    first_mismatch: Mismatch | None
    metric_name: str
    metric: float
    keras_metric: float
    softmax: SoftmaxAgreement | None
    seconds: Mapping[str, float]

    @property
    def bit_exact(self) -> bool:
        """True if not one output differs."""
        return self.mismatches == 0

    @property
    def verdict(self) -> str:
        """One line on bit-exactness."""
        first = self.first_mismatch
        if first is None:
            return f"bit-exact: {self.outputs} of {self.outputs} outputs equal"
        return (
            f"NOT bit-exact: {self.mismatches} of {self.outputs} outputs differ "
            f"(first: sample {first.sample}, output {first.output}: Keras {first.keras!r}, firmware {first.firmware!r})"
        )

    def report(self) -> str:
        """The whole comparison as text."""
        options = ", ".join(f"{key} {value}" for key, value in self.options.items())
        lines = [
            f"Firmware of {self.trained.name}: {self.trained.architecture}",
            f"project: {self.folder} ({options})",
            f"C++ emulation against QKeras, {self.samples} samples:",
            f"  {self.verdict}",
            f"  largest difference: {self.max_abs_error:g}",
            f"  {self.metric_name}: firmware {self.metric:.6g}, Keras {self.keras_metric:.6g}",
        ]
        if self.softmax is not None:
            equal, largest, argmax = self.softmax.equal, self.softmax.max_difference, self.softmax.argmax
            lines += [
                f"softmax on chip ({SOFTMAX_OUTPUT}, approximate; project in {SOFTMAX}) against softmax of Keras:",
                f"  {equal:.2%} of the outputs equal, largest difference {largest:.2g}, same class in {argmax:.2%}",
            ]
        lines.append("times: " + ", ".join(f"{step} {seconds:.1f} s" for step, seconds in self.seconds.items()))
        return "\n".join(lines) + "\n"

    def to_dict(self) -> dict[str, Any]:
        """A JSON-ready dictionary; the network itself is in the folder."""
        plain = {f.name: getattr(self, f.name) for f in fields(self) if f.name != "trained"}
        nested = {key: None if plain[key] is None else asdict(plain[key]) for key in ("first_mismatch", "softmax")}
        return plain | nested | {"folder": str(self.folder), "bit_exact": self.bit_exact, "model": self.trained.name}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Firmware:
        """Inverse of :meth:`to_dict`; reads the network from the folder.

        Raises:
            RunError: If the folder holds no network.
        """
        values = {f.name: data[f.name] for f in fields(cls) if f.name != "trained"}
        first, softmax, folder = data["first_mismatch"], data["softmax"], Path(data["folder"])
        values["first_mismatch"] = None if first is None else Mismatch(**first)
        values["softmax"] = None if softmax is None else SoftmaxAgreement(**softmax)
        return cls(**(values | {"folder": folder, "trained": Trained.load(folder / MODEL)}))

    @classmethod
    def load(cls, folder: Path | str) -> Firmware:
        """Reads a folder that :func:`make_firmware` wrote, wherever it is now.

        Raises:
            RunError: If the folder holds no firmware.
        """
        report = Path(folder) / REPORT
        if not report.is_file():
            raise RunError(f"{folder} holds no firmware: {REPORT} is missing")
        return cls.from_dict(json.loads(report.read_text(encoding="utf-8")) | {"folder": str(folder)})


def make_firmware(
    trained: Trained,
    split: Split,
    task: Task,
    *,
    folder: Path | str,
    part: str,
    clock_period: float = 5.0,
    backend: Backend = "Vitis",
    io_type: IoType = "io_parallel",
    strategy: Strategy = "latency",
    reuse_factor: int = 1,
    exact: bool = True,
    softmax: Literal["host", "chip"] = "host",
) -> Firmware:
    """Converts a network, compiles its C++ emulation and compares every output with Keras.

    Args:
        trained: A quantized network.
        split: Samples to compare on, at least 1,000 to mean something; values off the input grid are put on it.
        task: Scores the outputs.
        folder: The hls4ml project with test vectors, ``report.json``, ``report.txt`` and the network in
            ``kerasnac/model``. A folder that is already there is replaced, once all has succeeded.
        part: FPGA part, ``xcvu13p-flga2577-2-e`` for example.
        clock_period: Target clock period, ns.
        backend: HLS compiler.
        io_type: Parallel arrays, or one pixel after the other.
        strategy: How kernel layers are implemented.
        reuse_factor: How often a multiplier is used per inference; with the strategy ``resource`` every layer takes
            the closest factor that it can have.
        exact: Fail on a single different output; otherwise only report it.
        softmax: ``"chip"`` also writes a project with softmax on the chip and reports how well it agrees. The
            promise of bit-exactness is about the linear outputs.

    Raises:
        ConversionError: If the network has no exact firmware (names the layer and the reason), if converting,
            compiling or emulating fails, or if an output differs. The unfinished project, if there is one, is kept
            in ``<folder>.failed``.
        ConfigError: If the part or an option cannot be right.
        DataError: If the samples do not fit the network.
        EnvironmentProblem: If the compiler or a package is missing.
    """
    folder = Path(folder).resolve()
    if len(split) == 0 or split.x.shape[1:] != trained.architecture.input_shape:
        raise DataError(
            f"samples of shape {split.x.shape} do not fit {trained.name}, whose input is {trained.architecture.input_shape}"
        )
    if softmax == "chip" and task.kind != "classification":
        raise ConfigError(f"softmax on the chip needs a classification, not a {task.kind}: leave softmax on the host")
    # A window of a longer readout is cut by whatever feeds the chip: the firmware's input is the window.
    network = replace(trained, architecture=trained.architecture.without_window())
    architecture = network.architecture
    check_exact(architecture, network.weights)
    assert architecture.input is not None  # check_exact has refused a float network
    x = architecture.input.quantize(split.x[:, trained.architecture.window]).astype(np.float32)
    keras = predict(architecture, network.weights, x)
    options: dict[str, Any] = {
        "part": part,
        "clock_period": clock_period,
        "backend": backend,
        "io_type": io_type,
        "strategy": strategy,
        "reuse_factor": reuse_factor,
    }
    with new_folder(folder) as project, _kept_on_failure(project, folder):
        outputs, seconds = _emulated(network, x, project, options)
        agreement = None
        if softmax == "chip":
            probabilities, more = _emulated(network, x, project / SOFTMAX, options, softmax=True)
            agreement = softmax_agreement(probabilities, keras)
            seconds |= {f"{step} with softmax": spent for step, spent in more.items()}
        mismatches, largest, first = compare(outputs, keras)
        firmware = Firmware(
            trained=trained,
            folder=folder,
            options=options,
            samples=len(x),
            outputs=outputs.size,
            mismatches=mismatches,
            max_abs_error=largest,
            first_mismatch=first,
            metric_name=f"{task.metric} [{task.unit}]" if task.unit else task.metric,
            metric=task.score(outputs, split.y),
            keras_metric=task.score(keras, split.y),
            softmax=agreement,
            seconds=seconds,
        )
        _write_evidence(firmware, project, x, keras)
        if exact and not firmware.bit_exact:
            raise ConversionError(f"{trained.name}: {firmware.verdict}; please report it, all its formats should be exact")
    return firmware


def compare(firmware: NDArray[np.float32], keras: NDArray[np.float32]) -> tuple[int, float, Mismatch | None]:
    """Number of different outputs, largest difference, first difference.

    Args:
        firmware: Outputs of the emulation, shape (samples, outputs).
        keras: Outputs of Keras, of the same shape.
    """
    different = np.argwhere(firmware != keras)
    largest = float(np.abs(firmware.astype(np.float64) - keras).max())
    if len(different) == 0:
        return 0, largest, None
    sample, output = (int(index) for index in different[0])
    return len(different), largest, Mismatch(sample, output, float(keras[sample, output]), float(firmware[sample, output]))


def softmax_agreement(probabilities: NDArray[np.float32], logits: NDArray[np.float32]) -> SoftmaxAgreement:
    """Compares probabilities from the chip with the softmax of Keras outputs, both of shape (samples, classes)."""
    exponentials = np.exp(logits.astype(np.float64) - logits.max(axis=1, keepdims=True))
    expected = exponentials / exponentials.sum(axis=1, keepdims=True)
    return SoftmaxAgreement(
        equal=float(np.mean(probabilities == SOFTMAX_OUTPUT.quantize(expected))),
        max_difference=float(np.abs(probabilities - expected).max()),
        argmax=float(np.mean(probabilities.argmax(axis=1) == logits.argmax(axis=1))),
    )


def _emulated(
    trained: Trained, x: NDArray[np.float32], project: Path, options: Mapping[str, Any], *, softmax: bool = False
) -> tuple[NDArray[np.float32], dict[str, float]]:
    """Outputs of a freshly converted project, and the seconds of each step."""
    steps = Stopwatch()
    with steps("convert"):
        convert(trained, folder=project, softmax=softmax, **options)
    with steps("compile"):
        compile_project(project)
    with steps("emulate"):
        outputs = emulate(project, x)
    return outputs, steps.seconds


def _write_evidence(firmware: Firmware, project: Path, x: NDArray[np.float32], keras: NDArray[np.float32]) -> None:
    """Puts the network, test vectors for hls4ml's test bench and the report into the project."""
    vectors = project / "tb_data"
    for name, values in (("tb_input_features.dat", x), ("tb_output_predictions.dat", keras)):
        np.savetxt(vectors / name, values[:TEST_VECTORS].reshape(-1, values[0].size), fmt="%.17g")
    firmware.trained.save(project / MODEL)
    write_json(project / REPORT, firmware.to_dict())
    write_text(project / "report.txt", firmware.report())


@contextmanager
def _kept_on_failure(project: Path, folder: Path) -> Iterator[None]:
    """Keeps a project that failed, with its logs, beside the folder that it was to become."""
    try:
        yield
    except ConversionError as error:
        failed = folder.with_name(f"{folder.name}.failed")
        with new_folder(failed) as kept:
            kept.rmdir()
            project.rename(kept)
        raise ConversionError(f"{error} (kept in {failed})") from error
