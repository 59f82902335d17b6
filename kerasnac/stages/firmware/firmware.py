"""From a quantized network to firmware that equals it in every bit, with the evidence."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, get_args

import numpy as np
from numpy.typing import NDArray

from kerasnac.adapters.hls4ml.backends import check_options
from kerasnac.adapters.hls4ml.conversion import SOFTMAX_OUTPUT, convert
from kerasnac.adapters.hls4ml.csim import INTERFACE, Limits, compile_project, emulate, interface
from kerasnac.adapters.keras.train import predict
from kerasnac.core.data.dataset import Split, Task
from kerasnac.core.hardware.hls_options import HlsOptions, SoftmaxMode
from kerasnac.core.network.exactness import output_formats
from kerasnac.core.network.layers import LayerSpec
from kerasnac.core.network.precision import Precision
from kerasnac.core.network.trained import Trained
from kerasnac.core.store.files import new_folder
from kerasnac.core.store.stopwatch import Stopwatch
from kerasnac.errors import ConfigError, ConversionError, DataError, RunError
from kerasnac.stages.firmware.comparison import (
    Comparison,
    GraphCheck,
    InputCheck,
    Mismatch,
    SoftmaxAgreement,
    check_graph,
    compare,
    on_grid,
    softmax_agreement,
)
from kerasnac.stages.firmware.layer_differences import LayerDifference, first_difference
from kerasnac.stages.firmware.manifest import MANIFEST, MODEL, REPORT, write_evidence, write_manifest

#: Where in a firmware folder the project with softmax is.
SOFTMAX = Path("softmax")

#: Widest input of an exact softmax; its table has two to the power of that many entries.
LOGIT_BITS = 12


@dataclass(frozen=True)
class Firmware:
    """A converted network and how its C++ emulation compares to Keras.

    Attributes:
        trained: The network.
        folder: The hls4ml project.
        options: What the project is for.
        inputs: The samples as they were given, against the input's grid.
        comparison: Emulation against Keras; None if the project cannot be emulated here.
        not_emulated: Why not.
        first_layer: The first layer that differs, if an output does.
        adder_graph: The adder graph of the network against Keras.
        metric_name: Name and unit of the metric.
        metric: Task metric of the emulation on these samples; None without emulation.
        keras_metric: Task metric of Keras on the same samples.
        softmax_mode: Who computes the softmax.
        softmax: Agreement of the softmax on the chip with that in floating point, if there is one.
        seconds: Wall time of each step.
    """

    trained: Trained
    folder: Path
    options: HlsOptions
    inputs: InputCheck
    comparison: Comparison | None
    not_emulated: str
    first_layer: LayerDifference | None
    adder_graph: GraphCheck
    metric_name: str
    metric: float | None
    keras_metric: float
    softmax_mode: SoftmaxMode
    softmax: SoftmaxAgreement | None
    seconds: Mapping[str, float]

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
        emulation = f"not emulated: {self.not_emulated}" if self.comparison is None else self.comparison.verdict
        return emulation if self.adder_graph.agrees else f"{emulation}; {self.adder_graph.disagreement}"

    @property
    def disagreements(self) -> tuple[str, ...]:
        """What differs from Keras, the emulation or the adder graph, and in which layer."""
        found = [] if self.adder_graph.agrees else [self.adder_graph.disagreement]
        if self.comparison is not None and not self.comparison.equal:
            found.insert(0, f"{self.comparison.verdict}; {self.first_layer}")
        return tuple(found)

    def report(self) -> str:
        """The whole comparison as text."""
        lines = [
            f"Firmware of {self.trained.name}: {self.trained.architecture}",
            f"project: {self.folder} ({self.options})",
        ]
        if self.comparison is None:
            lines += [self.verdict, "  its types are those that were proved to be exact; nothing has computed with them"]
        else:
            lines.append(f"C++ emulation against QKeras, {self.samples} samples:")
            lines += [f"  {line}" for line in self.comparison.lines()]
            lines.append(f"  {self.metric_name}: firmware {self.metric:.6g}, Keras {self.keras_metric:.6g}")
        lines.append(str(self.inputs))
        if self.first_layer is not None:
            lines.append(str(self.first_layer))
        lines.append(str(self.adder_graph))
        if self.softmax is not None:
            equal, largest, argmax = self.softmax.equal, self.softmax.max_difference, self.softmax.argmax
            kind = f"approximate; project in {SOFTMAX}" if self.softmax_mode == "chip" else "tables that Keras shares"
            lines += [
                f"softmax on chip ({SOFTMAX_OUTPUT}, {kind}) against softmax in floating point:",
                f"  {equal:.2%} of the outputs equal, largest difference {largest:.2g}, same class in {argmax:.2%}",
            ]
        lines.append("times: " + ", ".join(f"{step} {seconds:.1f} s" for step, seconds in self.seconds.items()))
        return "\n".join(lines) + "\n"

    def to_dict(self) -> dict[str, Any]:
        """A JSON-ready dictionary; the network itself is in the folder."""
        nested = ("inputs", "comparison", "first_layer", "adder_graph", "softmax")
        plain_keys = ("not_emulated", "metric_name", "metric", "keras_metric", "softmax_mode")
        plain = {key: getattr(self, key) for key in plain_keys}
        parts = {key: None if getattr(self, key) is None else asdict(getattr(self, key)) for key in nested}
        head = {"folder": str(self.folder), "options": self.options.to_dict(), "seconds": dict(self.seconds)}
        return head | plain | parts | {"bit_exact": self.bit_exact, "model": self.trained.name, "verdict": self.verdict}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Firmware:
        """Inverse of :meth:`to_dict`; reads the network from the folder.

        Raises:
            RunError: If the folder holds no network, or the dictionary is of another version.
        """
        folder = Path(data["folder"])
        try:
            softmax, comparison, first = data["softmax"], data["comparison"], data["first_layer"]
            return cls(
                trained=Trained.load(folder / MODEL),
                folder=folder,
                options=HlsOptions.from_dict(data["options"]),
                inputs=InputCheck(**data["inputs"]),
                comparison=None if comparison is None else Comparison.from_dict(comparison),
                not_emulated=data["not_emulated"],
                first_layer=None if first is None else LayerDifference.from_dict(first),
                adder_graph=GraphCheck.from_dict(data["adder_graph"]),
                metric_name=data["metric_name"],
                metric=data["metric"],
                keras_metric=data["keras_metric"],
                softmax_mode=data["softmax_mode"],
                softmax=None if softmax is None else SoftmaxAgreement(**softmax),
                seconds=data["seconds"],
            )
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise RunError(f"{folder / REPORT} is damaged, or of another version of kerasnac: {error!r}") from error

    @classmethod
    def load(cls, folder: Path | str) -> Firmware:
        """Reads a folder that :func:`make_firmware` wrote, wherever it is now.

        Raises:
            RunError: If the folder holds no firmware.
        """
        report = Path(folder) / REPORT
        if not report.is_file():
            raise RunError(f"{folder} holds no firmware: {REPORT} is missing")
        try:
            data = json.loads(report.read_text(encoding="utf-8"))
        except (ValueError, OSError) as error:
            raise RunError(f"{report} is damaged: {error}") from error
        if not isinstance(data, dict):
            raise RunError(f"{report} is damaged: it holds no report")
        return cls.from_dict(data | {"folder": str(folder)})


def make_firmware(
    trained: Trained,
    split: Split,
    task: Task,
    *,
    folder: Path | str,
    options: HlsOptions | None = None,
    exact: bool = True,
    softmax: SoftmaxMode = "host",
    limits: Limits | None = None,
    **single: Any,
) -> Firmware:
    """Converts a network, compiles its C++ emulation and compares every output with Keras.

    Args:
        trained: A quantized network.
        split: Samples to compare on, at least 1,000 to mean something; values off the input grid are put on it.
        task: Scores the outputs.
        folder: The hls4ml project with all that goes with it; see :mod:`kerasnac.stages.firmware.manifest`. A folder that is
            already there is replaced, once all has succeeded.
        options: What the project is for.
        exact: Fail on a single different output, of the emulation or of the adder graph; otherwise only report it.
        softmax: ``"chip"`` also writes a project with softmax on the chip and reports how well it agrees; the
            promise of bit-exactness is then about the linear outputs. ``"exact"`` makes a softmax of tables part of the
            network, see :func:`firmware_network`; its outputs are compared like all others.
        limits: Time and memory that compiling and emulating may take.
        **single: Single options: ``part="zcu102", strategy="resource", reuse_factor=4``.

    Raises:
        ConversionError: If the network has no exact firmware (names the layer and the reason), if converting,
            compiling or emulating fails, or if an output differs. The unfinished project, if there is one, is kept
            in ``<folder>.failed``.
        ConfigError: If the part or an option cannot be right.
        DataError: If the samples do not fit the network.
        RunError: If the folder holds something else than firmware.
        EnvironmentProblem: If the compiler or a package is missing, or the folder cannot be written.
    """
    folder, options = Path(folder).resolve(), HlsOptions.of(options, **single)
    _check_free(folder)
    _check_samples(trained, split)
    if softmax not in get_args(SoftmaxMode):
        raise ConfigError(f"softmax is {softmax!r}; there are {', '.join(get_args(SoftmaxMode))}")
    if softmax != "host" and task.kind != "classification":
        raise ConfigError(f"softmax on the chip needs a classification, not a {task.kind}: leave softmax on the host")
    check_options(options)
    network = firmware_network(trained, softmax)
    architecture = network.architecture
    formats = output_formats(architecture, network.weights)
    assert architecture.input is not None  # output_formats has refused a float network
    x, inputs = on_grid(split.x[:, trained.architecture.window], architecture.input)
    keras = predict(architecture, network.weights, x)
    with new_folder(folder) as project, _kept_on_failure(project, folder):
        outputs, seconds = _emulated(network, x, project, options, limits)
        comparison, first, agreement = None, None, None
        if outputs is not None:
            comparison = compare(outputs, keras, formats[architecture.names[-1]], classes=task.kind == "classification")
            first = first_difference(project, network, x, outputs, keras, limits=limits)
        if softmax == "chip":
            probabilities, more = _emulated(network, x, project / SOFTMAX, options, limits, softmax=True)
            agreement = None if probabilities is None else softmax_agreement(probabilities, keras)
            seconds |= {f"{step} with softmax": spent for step, spent in more.items()}
        elif softmax == "exact" and outputs is not None:
            agreement = softmax_agreement(outputs, predict(trained.architecture.without_window(), trained.weights, x))
        steps = Stopwatch()
        with steps("adder graph"):
            graph = check_graph(network, x, keras)
        firmware = Firmware(
            trained=trained,
            folder=folder,
            options=options,
            inputs=inputs,
            comparison=comparison,
            not_emulated=interface(project).get("not_emulated", ""),
            first_layer=first,
            adder_graph=graph,
            metric_name=f"{task.metric} [{task.unit}]" if task.unit else task.metric,
            metric=None if outputs is None else task.score(outputs, split.y),
            keras_metric=task.score(keras, split.y),
            softmax_mode=softmax,
            softmax=agreement,
            seconds=seconds | steps.seconds,
        )
        write_evidence(
            network,
            project,
            x,
            keras,
            original=trained,
            options=options,
            report=firmware.report(),
            data=firmware.to_dict(),
            graph=graph.costs or graph.reason,
        )
        write_manifest(project)
        if exact and firmware.disagreements:
            raise ConversionError(
                f"{trained.name}: {'; '.join(firmware.disagreements)}; please report it, all its formats should be exact"
            )
    return firmware


def firmware_network(trained: Trained, softmax: SoftmaxMode = "host") -> Trained:
    """The network that is in the firmware.

    A window of a longer readout is cut by whatever feeds the chip: the firmware's input is the window. An exact softmax
    is two more layers: a quantizer, to at most :data:`LOGIT_BITS` bits, and a softmax of tables over its grid.

    Args:
        trained: A quantized network.
        softmax: ``"exact"`` appends one.

    Raises:
        ConversionError: If the network has no exact firmware.
    """
    architecture = trained.architecture.without_window()
    if softmax == "exact":
        logits = output_formats(architecture, trained.weights)[architecture.names[-1]]
        grid = Precision(min(logits.bits, LOGIT_BITS), logits.integer)
        quantizer = replace(LayerSpec.of("activation", fn="none"), activation=grid)
        table = replace(LayerSpec.of("softmax"), activation=SOFTMAX_OUTPUT)
        architecture = replace(architecture, layers=(*architecture.layers, quantizer, table))
    return replace(trained, architecture=architecture)


def _emulated(
    trained: Trained,
    x: NDArray[np.float32],
    project: Path,
    options: HlsOptions,
    limits: Limits | None,
    *,
    softmax: bool = False,
) -> tuple[NDArray[np.float32] | None, dict[str, float]]:
    """Outputs of a freshly converted project, unless it cannot be emulated, and the seconds of each step."""
    steps = Stopwatch()
    with steps("convert"):
        convert(trained, options, folder=project, softmax=softmax)
    if interface(project)["not_emulated"]:
        return None, steps.seconds
    with steps("compile"):
        compile_project(project, limits=limits)
    with steps("emulate"):
        outputs = emulate(project, x, limits=limits)
    return outputs, steps.seconds


def _check_samples(trained: Trained, split: Split) -> None:
    if len(split) == 0 or split.x.shape[1:] != trained.architecture.input_shape or split.x.dtype.kind not in "biuf":
        raise DataError(
            f"samples of shape {split.x.shape} of {split.x.dtype} do not fit {trained.name}, whose input is "
            f"{trained.architecture.input_shape}"
        )
    if len(split.y) != len(split):
        raise DataError(f"{len(split)} samples have {len(split.y)} labels: every sample needs one")


def _check_free(folder: Path) -> None:
    """Refuses a folder that holds anything but firmware: it is going to be replaced."""
    ours = folder.is_dir() and any((folder / name).is_file() for name in (MANIFEST, REPORT, INTERFACE))
    if folder.exists() and not ours and not (folder.is_dir() and not any(folder.iterdir())):
        raise RunError(f"{folder} is there already and holds something else than firmware of kerasnac; choose another folder")


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
