"""A firmware folder, checked again: any day, on any samples, against its hashes and against Keras."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from kerasnac.adapters.hls4ml.csim import compile_project, emulate, interface
from kerasnac.adapters.keras.predict import vectors
from kerasnac.adapters.programs import Limits
from kerasnac.core.network.arithmetic import Arithmetic, exact_arithmetic
from kerasnac.core.network.exactness import output_formats
from kerasnac.core.store.progress import Beat, Progress, Step, silent
from kerasnac.datasets.files import read_npz
from kerasnac.datasets.samples import fitted
from kerasnac.errors import ConversionError, RunError, TimeLimitExceeded
from kerasnac.stages.firmware.comparison import Comparison, InputCheck, compare, on_grid
from kerasnac.stages.firmware.delivery import firmware_network
from kerasnac.stages.firmware.folder import VECTORS
from kerasnac.stages.firmware.layer_differences import LayerDifference, changed_types, first_difference, type_lines
from kerasnac.stages.firmware.manifest import changes
from kerasnac.stages.firmware.result import Firmware

#: A compiler may take minutes for a single file.
COMPILING = "compiling the C++ emulation"


@dataclass(frozen=True)
class Validation:
    """Findings about a firmware folder.

    Attributes:
        folder: The folder.
        name: Name of the network.
        changed: Files that are not as they were delivered.
        inputs: The samples as they were given, against the input's grid.
        comparison: Emulation against Keras; None if there is none.
        problem: Why there is none.
        not_emulated: True if there never was one: the backend's C++ cannot be compiled here.
        first_layer: The first layer that differs, if an output does.
        adder_graph: What the adder graph of the network differed in when the folder was made; empty if in nothing.
        types: Types that are not the proven ones, even if no output shows it: name to (proven, declared).
        arithmetic: In which Keras equals the firmware.
    """

    folder: Path
    name: str
    changed: tuple[str, ...]
    inputs: InputCheck | None
    comparison: Comparison | None
    problem: str = ""
    not_emulated: bool = False
    first_layer: LayerDifference | None = None
    adder_graph: str = ""
    types: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    arithmetic: Arithmetic = field(default_factory=Arithmetic)

    @property
    def ok(self) -> bool:
        """True if no file has changed and no output differs: not now, and in the adder graph not at the delivery."""
        return not (self.changed or self.adder_graph) and (
            self.not_emulated or (self.comparison is not None and self.comparison.equal)
        )

    def report(self) -> str:
        """Return all of it as text."""
        lines = [f"Firmware of {self.name} in {self.folder}"]
        lines += [f"  {change}" for change in self.changed] or ["  all files are as they were delivered"]
        if self.comparison is not None:
            lines.append(f"C++ emulation against QKeras in {self.arithmetic.dtype}, {self.comparison.samples} samples:")
            lines += [f"  {line}" for line in self.comparison.lines()]
        if self.problem:
            lines.append(f"{'not emulated' if self.not_emulated else 'no comparison'}: {self.problem}")
        if self.inputs is not None:
            lines.append(str(self.inputs))
        if self.adder_graph:
            lines.append(f"when the folder was made: {self.adder_graph}")
        lines += type_lines(self.types) if self.first_layer is None else [str(self.first_layer)]
        good = "valid: its files are those of the delivery; nothing has computed with them" if self.not_emulated else "valid"
        lines.append(good if self.ok else "NOT valid")
        return "\n".join(lines) + "\n"


def validate(
    folder: Path | str,
    samples: NDArray[Any] | None = None,
    *,
    source: str = "samples",
    limits: Limits | None = None,
    progress: Progress = silent,
) -> Validation:
    """Check the hash of every file, compile a copy of the project and compare every output with the stored model.

    Args:
        folder: A folder of :func:`kerasnac.make_firmware`; it is only read.
        samples: What to compare on, shape (samples, ...); those of the delivery by default.
        source: Where the samples are from, for messages.
        limits: Time and memory that compiling and emulating may take; firmware that takes more time is not valid.
        progress: Called before every step, and about once a second while the emulation is compiled.

    Raises:
        RunError: If the folder is no complete firmware folder, or its model cannot be read.
        ConversionError: If all files are as they were, and yet the emulation does not compile or fails.
        DataError: If the samples do not fit the network.
        EnvironmentProblem: If there is no compiler.
    """
    folder = Path(folder).resolve()
    changed = changes(folder)
    delivered = Firmware.load(folder)
    trained = delivered.trained
    network = firmware_network(trained, delivered.softmax.mode)
    grid = network.architecture.input
    if grid is None:
        raise RunError(f"{folder}: the model in it is not quantized, which no firmware is of")
    classes = delivered.comparison is not None and delivered.comparison.same_decision is not None
    if samples is None:
        (x,) = read_npz(folder / VECTORS, ["x"])
        x = fitted(x, network.architecture, str(folder / VECTORS))
    else:
        x = fitted(samples, trained.architecture, source)[:, trained.architecture.window]
    x, inputs = on_grid(x, grid, source)
    result = Validation(folder, trained.name, changed, inputs, None, adder_graph=delivered.adder_graph.disagreement)
    with tempfile.TemporaryDirectory(prefix="kerasnac-") as temporary:
        copy, log = Path(temporary) / "project", Path(f"{temporary}.log")
        _copy(folder, copy)
        try:
            result = replace(result, types=changed_types(copy))
            if reason := interface(copy).get("not_emulated", ""):
                return replace(result, problem=reason, not_emulated=True)
            output = output_formats(network.architecture, network.weights)[network.architecture.names[-1]]
            arithmetic = exact_arithmetic(network.architecture, network.weights)
            progress(Step("validate", 0, 3, f"computing {len(x)} samples with QKeras"))
            keras = vectors(network.architecture, network.weights, x)
            beat = Beat(progress, "validate", 1, 3)
            beat(COMPILING)
            compile_project(copy, limits=limits, log=log, tick=partial(beat, COMPILING))
            log.unlink()
            progress(Step("validate", 2, 3, f"emulating {len(x)} samples"))
            outputs = emulate(copy, x, limits=limits)
            comparison = compare(outputs, keras, output, classes=classes)
            first = first_difference(copy, network, x, outputs, keras, limits=limits)
            progress(Step("validate", 3, 3, "compared"))
        except ConversionError as error:
            problem = str(error).replace(str(copy), str(folder))  # nobody ever sees the copy
            if not changed and not isinstance(error, TimeLimitExceeded):
                raise ConversionError(problem) from error
            return replace(result, problem=problem)
    return replace(result, comparison=comparison, first_layer=first, arithmetic=arithmetic)


def _copy(folder: Path, copy: Path) -> None:
    """Copy what the emulation is compiled from; the copy can be written to, though the folder may be read-only.

    Raises:
        RunError: If a file cannot be read.
    """
    ignore = shutil.ignore_patterns("*.so", "*_prj")
    try:
        shutil.copytree(folder, copy, ignore=ignore, ignore_dangling_symlinks=True)
    except shutil.Error as error:
        raise RunError(f"{folder}: {len(error.args[0])} files cannot be read, first {error.args[0][0][0]}") from error
    for path in (copy, *copy.rglob("*")):
        if path.is_dir():
            path.chmod(0o755)
