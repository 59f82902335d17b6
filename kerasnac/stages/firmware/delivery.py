"""From a quantized network to a folder with firmware that equals it in every bit."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, get_args

import numpy as np
from numpy.typing import NDArray

from kerasnac.adapters.hls4ml.backends import check_options, require_packages
from kerasnac.adapters.hls4ml.conversion import SOFTMAX_OUTPUT, check_convertible, convert
from kerasnac.adapters.hls4ml.csim import INTERFACE, compile_project, emulate, interface
from kerasnac.adapters.keras.foreign.model import ForeignModel, opened, read_model
from kerasnac.adapters.keras.predict import predict, vectors
from kerasnac.adapters.keras.runtime import undisturbed
from kerasnac.adapters.programs import Limits
from kerasnac.core.data.dataset import Split
from kerasnac.core.data.task import Task
from kerasnac.core.hardware.hls_options import HlsOptions, SoftmaxMode
from kerasnac.core.network.arithmetic import Arithmetic, exact_arithmetic
from kerasnac.core.network.exactness import output_formats
from kerasnac.core.network.layers import LayerSpec
from kerasnac.core.network.precision import Precision
from kerasnac.core.network.trained import Trained
from kerasnac.core.settings import AdderGraphSettings
from kerasnac.core.store.files import deleted, disk_problem, new_folder, write_json, write_text
from kerasnac.core.store.stopwatch import Stopwatch
from kerasnac.errors import ConfigError, ConversionError, DataError
from kerasnac.stages.firmware.checks import check_softmax, require_compiling
from kerasnac.stages.firmware.comparison import (
    ArithmeticCheck,
    InputCheck,
    SoftmaxAgreement,
    compare,
    on_grid,
    softmax_agreement,
)
from kerasnac.stages.firmware.folder import REPORT, SOFTMAX, check_free, write_models, write_scripts, write_vectors
from kerasnac.stages.firmware.graph_check import check_graph
from kerasnac.stages.firmware.layer_differences import first_difference
from kerasnac.stages.firmware.manifest import MANIFEST, write_manifest
from kerasnac.stages.firmware.result import Emulation, Firmware, Original, SoftmaxCheck, TaskMetric
from kerasnac.stages.firmware.summary import summary

#: Widest input of an exact softmax; its table has two to the power of that many entries.
LOGIT_BITS = 12


@undisturbed()
def make_firmware(
    model: Trained | Any,
    samples: Split | tuple[Any, Any] | NDArray[Any],
    task: Task | None = None,
    *,
    folder: Path | str,
    input_grid: Precision | str | None = None,
    float_bits: int | None = None,
    options: HlsOptions | None = None,
    exact: bool = True,
    softmax: SoftmaxMode = "host",
    adder_graph: AdderGraphSettings | None = None,
    limits: Limits | None = None,
    **single: Any,
) -> Firmware:
    """Convert a network, compile its C++ emulation and compare every output with Keras.

    Keras computes in float32 where that adds exactly, else in float64; the report says which, and how often float32 differs.

    Args:
        model: A quantized network; or a QKeras model of your own, or its file, as :func:`kerasnac.from_keras` reads it. The
            outputs of your model itself are then compared as well.
        samples: Samples to compare on, at least 1,000 to mean something: an array ``x``, or ``(x, y)`` with labels; values
            off the input grid are put on it.
        task: Scores the outputs; None if there are no labels.
        input_grid: Format of the input of a model of your own, unless the model has one; by default fitted to the samples.
        float_bits: Width to round weights to that a quantized model of your own has in floating point; by default refused.
        folder: The hls4ml project with all that goes with it; see :mod:`kerasnac.stages.firmware.folder`. A folder that is
            already there is replaced, once all has succeeded.
        options: What the project is for.
        exact: Fail on a single different output, of the emulation or of the adder graph; otherwise only report it.
        softmax: ``"chip"`` also writes a project with softmax on the chip and reports how well it agrees; the
            promise of bit-exactness is then about the linear outputs. ``"exact"`` makes a softmax of tables part of the
            network, see :func:`firmware_network`; its outputs are compared like all others.
        adder_graph: How the adder graph is made that is compared as well, and whose costs are reported.
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
    made_of = None if task is None else task.made_of.firmware
    if made_of is not None and isinstance(model, Trained):
        model = made_of(model)
    folder = Path(folder).resolve()
    check_free(folder, (MANIFEST, REPORT, INTERFACE), "firmware")
    if isinstance(samples, tuple):
        samples = Split(*(np.asarray(array) for array in samples))
    options = HlsOptions.of(options, **single)
    recipe = _Recipe(options, softmax, (adder_graph or AdderGraphSettings()).at(options.clock), limits or Limits())
    foreign = None if isinstance(model, Trained) else _read(model, _inputs(samples), input_grid, float_bits)
    job = _checked(model if foreign is None else foreign.trained(), *_labelled(samples, task, foreign), recipe, foreign)
    require_packages(recipe.options)
    require_compiling(recipe.options, recipe.limits)
    keras = vectors(job.network.architecture, job.network.weights, job.x)
    theirs = None
    if foreign is not None:
        theirs = foreign.outputs(job.x).reshape(len(job.x), -1)
        if not foreign.rounded:
            foreign.compare(job.x, theirs, keras)
    with new_folder(folder) as project, _kept_on_failure(project, folder):
        firmware = _made(job, keras, theirs, project, folder)
        _write_files(firmware, job, keras, project)
        if exact and firmware.disagreements:
            raise ConversionError(
                f"{job.trained.name}: {'; '.join(firmware.disagreements)}; please report it, all its formats should be exact"
            )
    return firmware


def firmware_network(trained: Trained, softmax: SoftmaxMode = "host") -> Trained:
    """Return the network that is in the firmware.

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


@dataclass(frozen=True)
class _Recipe:
    """How firmware is made.

    Attributes:
        options: What the project is for.
        softmax: Who computes the softmax.
        adder_graph: How the adder graph is made.
        limits: Time and memory that compiling and emulating may take.
    """

    options: HlsOptions
    softmax: SoftmaxMode
    adder_graph: AdderGraphSettings
    limits: Limits


@dataclass(frozen=True)
class _Job:
    """A network and samples, of which all has been checked that a user can get wrong.

    Attributes:
        trained: The network as it was given.
        network: The network of the firmware.
        output: Format of its outputs.
        arithmetic: In which Keras equals its firmware.
        x: Samples on its input grid, shape (samples, ...), float32.
        y: Their labels; None if there are none.
        inputs: How many samples were not on the grid.
        task: Scores the outputs.
        recipe: How firmware is made.
        foreign: The model that the network was read from, if it is somebody else's.
    """

    trained: Trained
    network: Trained
    output: Precision
    arithmetic: Arithmetic
    x: NDArray[np.float32]
    y: NDArray[Any] | None
    inputs: InputCheck
    task: Task
    recipe: _Recipe
    foreign: ForeignModel | None = None


def _read(model: Any, x: NDArray[Any], input_grid: Precision | str | None, float_bits: int | None) -> ForeignModel:
    if isinstance(model, ForeignModel):
        return model
    return read_model(opened(model), samples=x, input_grid=input_grid, float_bits=float_bits)


def _inputs(samples: Split | NDArray[Any]) -> NDArray[Any]:
    return np.asarray(samples.x if isinstance(samples, Split) else samples)


def _labelled(
    samples: Split | NDArray[Any], task: Task | None, foreign: ForeignModel | None
) -> tuple[NDArray[Any], NDArray[Any] | None, Task]:
    """Return samples, their labels if there is a task for them, and a task."""
    if task is not None:
        if not isinstance(samples, Split):
            raise DataError("a task scores labels, and the samples have none: give (x, y), or leave the task out")
        return np.asarray(samples.x), samples.y, task
    outputs = foreign.architecture.output_shape[-1] if foreign else 1
    # Classes, if anything says so: it decides what is compared, and there is nothing to score.
    return _inputs(samples), None, Task("classification" if foreign and foreign.host == "softmax" else "regression", outputs)


def _checked(
    trained: Trained,
    samples: NDArray[Any],
    labels: NDArray[Any] | None,
    task: Task,
    recipe: _Recipe,
    foreign: ForeignModel | None,
) -> _Job:
    """Check all that can be wrong with what :func:`make_firmware` is given, without any tool."""
    softmax = recipe.softmax
    if len(samples) == 0 or samples.shape[1:] != trained.architecture.input_shape or samples.dtype.kind not in "biuf":
        raise DataError(
            f"samples of shape {samples.shape} of {samples.dtype} do not fit {trained.name}, whose input is "
            f"{trained.architecture.input_shape}"
        )
    if labels is not None and len(labels) != len(samples):
        raise DataError(f"{len(samples)} samples have {len(labels)} labels: every sample needs one")
    if softmax not in get_args(SoftmaxMode):
        raise ConfigError(f"softmax is {softmax!r}; there are {', '.join(get_args(SoftmaxMode))}")
    check_softmax(softmax, task)
    check_options(recipe.options)
    network = firmware_network(trained, softmax)
    architecture = network.architecture
    formats = check_convertible(network, recipe.options)
    assert architecture.input is not None  # check_convertible has refused a float network
    x, inputs = on_grid(samples[:, trained.architecture.window], architecture.input)
    arithmetic = exact_arithmetic(architecture, network.weights)
    return _Job(trained, network, formats[architecture.names[-1]], arithmetic, x, labels, inputs, task, recipe, foreign)


def _made(job: _Job, keras: NDArray[Any], theirs: NDArray[Any] | None, project: Path, folder: Path) -> Firmware:
    """Convert and compare.

    Args:
        job: What to convert.
        keras: Outputs of Keras, shape (samples, outputs), of the job's arithmetic.
        theirs: Outputs of the model of somebody else that the network was read from, of the same shape; None without one.
        project: Where to write.
        folder: Where the project is going to be.
    """
    steps, recipe = Stopwatch(), job.recipe
    outputs = _emulated(job, project, steps)
    emulation = _compared(job, project, outputs, keras)
    softmax = SoftmaxCheck(recipe.softmax, _softmax_agreement(job, project, outputs, keras, steps))
    with steps("adder graph"):
        graph = check_graph(job.network, job.x, keras, recipe.adder_graph, recipe.options)
    made = (job.trained, folder, recipe.options, job.inputs, emulation, graph, _metric(job, outputs, keras), softmax)
    original = _original(job, theirs, keras if outputs is None else outputs)
    return Firmware(*made, steps.seconds, original, _arithmetic_check(job, keras))


def _metric(job: _Job, outputs: NDArray[Any] | None, keras: NDArray[Any]) -> TaskMetric | None:
    """Return the metric of the task for the outputs of the emulation and of Keras; None without labels."""
    if job.y is None:
        return None
    task = job.task
    name = f"{task.metric} [{task.metric_unit}]" if task.metric_unit else task.metric
    return TaskMetric(name, None if outputs is None else task.score(outputs, job.y), task.score(keras, job.y))


def _original(job: _Job, theirs: NDArray[Any] | None, outputs: NDArray[Any]) -> Original | None:
    """Compare the model of somebody else itself with the firmware."""
    if job.foreign is None or theirs is None:
        return None
    comparison = compare(outputs, theirs, job.output, classes=job.task.classes)
    return Original(job.foreign.model.name, comparison, job.foreign.layers, job.foreign.host, job.foreign.rounded)


def _arithmetic_check(job: _Job, keras: NDArray[Any]) -> ArithmeticCheck:
    """Compare Keras in float32 with outputs of Keras in float64, if that is what the firmware equals."""
    if job.arithmetic.dtype == "float32":
        return ArithmeticCheck()
    usual = vectors(job.network.architecture, job.network.weights, job.x, dtype="float32")
    return ArithmeticCheck(job.arithmetic, compare(usual, keras, job.output, classes=job.task.classes))


def _emulated(job: _Job, project: Path, steps: Stopwatch, *, softmax: bool = False) -> NDArray[Any] | None:
    """Convert, compile and emulate.

    Args:
        job: What to convert.
        project: Where to write.
        steps: Takes the time.
        softmax: Append hls4ml's softmax.

    Returns:
        Shape (samples, outputs), float32 or float64; None if the project cannot be emulated here.
    """
    suffix = " with softmax" if softmax else ""
    with steps(f"convert{suffix}"):
        convert(job.network, job.recipe.options, folder=project, softmax=softmax)
    if interface(project)["not_emulated"]:
        return None
    with steps(f"compile{suffix}"):
        compile_project(project, limits=job.recipe.limits)
    with steps(f"emulate{suffix}"):
        return emulate(project, job.x, limits=job.recipe.limits)


def _compared(job: _Job, project: Path, outputs: NDArray[Any] | None, keras: NDArray[Any]) -> Emulation:
    """Compare the outputs of an emulation, if there are any, with Keras; both of shape (samples, outputs)."""
    if outputs is None:
        return Emulation(None, interface(project)["not_emulated"])
    comparison = compare(outputs, keras, job.output, classes=job.task.classes)
    first = first_difference(project, job.network, job.x, outputs, keras, limits=job.recipe.limits)
    return Emulation(comparison, "", first)


def _softmax_agreement(
    job: _Job, project: Path, outputs: NDArray[Any] | None, keras: NDArray[Any], steps: Stopwatch
) -> SoftmaxAgreement | None:
    """Compare the softmax on the chip, if there is one and it can be emulated, with that in floating point."""
    if job.recipe.softmax == "chip":
        probabilities = _emulated(job, project / SOFTMAX, steps, softmax=True)
        return None if probabilities is None else softmax_agreement(probabilities, keras)
    if job.recipe.softmax == "exact" and outputs is not None:
        plain = job.trained.architecture.without_window()
        return softmax_agreement(outputs, predict(plain, job.trained.weights, job.x))
    return None


def _write_files(firmware: Firmware, job: _Job, keras: NDArray[Any], project: Path) -> None:
    """Write all that goes with a project, the manifest last: a folder without one is not complete."""
    write_models(project, job.network, job.trained)
    write_vectors(project, job.x, keras)
    write_scripts(project)
    write_json(project / REPORT, firmware.to_dict())
    write_text(project / "report.txt", firmware.report())
    write_text(project / "summary.md", summary(firmware, job.network, project))
    write_manifest(project)


@contextmanager
def _kept_on_failure(project: Path, folder: Path) -> Iterator[None]:
    """Keep a project that failed, with its logs, beside the folder that it was to become."""
    try:
        yield
    except ConversionError as error:
        if not project.is_dir():
            raise deleted(folder.parent) from error
        if problem := disk_problem(folder, str(error)):
            raise problem from error
        failed = folder.with_name(f"{folder.name}.failed")
        with new_folder(failed) as kept:
            kept.rmdir()
            project.rename(kept)
        raise ConversionError(f"{error} (kept in {failed})") from error
