"""The C++ emulation of a firmware project: built with the machine's compiler, run in a process of its own.

This file is also the script of that process (``python csim.py PROJECT in.npy out.npy``). The script needs NumPy and
the standard library alone: an abort in the firmware's C++ code takes down neither TensorFlow nor a run.
"""

from __future__ import annotations

import ctypes
import json
import os
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

if __name__ != "__main__":  # The script stands on its own, without the package.
    from kerasnac.adapters.hls4ml.compile_cache import cache_key, fetch, store
    from kerasnac.adapters.hls4ml.compiler import require_compiler
    from kerasnac.adapters.programs import Limits, ending, run_program, tail
    from kerasnac.errors import ConversionError, TimeLimitExceeded

#: What the script needs to know about a project, in the project's folder: inputs, outputs, function, library; and the
#: layers that it can trace.
INTERFACE = "emulation.json"


def interface(project: Path) -> dict[str, Any]:
    """Read how the emulation of a project is called, and which layers and types it has.

    Raises:
        ConversionError: If it says nothing, or nothing readable.
    """
    path = project / INTERFACE
    try:
        data: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        missing = {"inputs", "outputs", "function", "library"} - data.keys()
        inside = missing or (project / data["library"]).resolve().is_relative_to(project.resolve())
    except (OSError, ValueError, AttributeError, TypeError, RecursionError) as error:
        raise ConversionError(f"{project} is no firmware project of kerasnac: {INTERFACE} cannot be read ({error})") from error
    if missing:
        raise ConversionError(f"{path} has no {sorted(missing)[0]!r}: it is damaged, or of another version of kerasnac")
    if not inside:  # Whatever is there before is deleted.
        raise ConversionError(f"{path} is damaged: the library {data['library']} is outside the project")
    return data


def compile_project(
    project: Path, *, limits: Limits | None = None, log: Path | None = None, tick: Callable[[], None] = lambda: None
) -> bool:
    """Compile the emulation of a project with ``$CXX`` (g++ by default).

    Args:
        project: Folder of the project.
        limits: When the compiler is stopped.
        log: Where to write what the compiler says; ``compile.log`` in the project by default.
        tick: Called about once a second while it compiles.

    Returns:
        True if it was compiled; False if the cache had it.

    Raises:
        EnvironmentProblem: If there is no compiler.
        TimeLimitExceeded: If it takes too much time.
        ConversionError: If it fails or takes too much memory; quotes the first error.
    """
    compiler = require_compiler()
    limits = limits or Limits()
    library = project / interface(project)["library"]
    log = log or project / "compile.log"
    key = cache_key(project, compiler)
    if fetch(key, library, log):
        return False
    library.unlink(missing_ok=True)  # That of other sources must not pass for this one.
    done = run_program(["bash", "build_lib.sh"], log=log, limits=limits, folder=project, tick=tick)
    if done is None:
        raise TimeLimitExceeded(f"the C++ emulation does not compile: the compiler {ending(done, limits.seconds)}")
    # Catapult's script goes on after an error, and ends well.
    if done != 0 or not library.is_file():
        lines = log.read_text(encoding="utf-8", errors="replace").splitlines()
        how = ending(done, limits.seconds) if done != 0 else f"build_lib.sh made no {library.name}"
        first = next((line for line in lines if "error" in line.lower()), lines[-1] if lines else how)
        where = log.name if log.parent == project else log
        raise ConversionError(
            f"the C++ emulation does not compile{_memory_hint(lines, limits)}: {first} (all of it in {where})"
        )
    store(key, library, log)
    return True


def emulate(project: Path, x: NDArray[np.float32], *, limits: Limits | None = None) -> NDArray[Any]:
    """Compute the outputs of the compiled firmware.

    Args:
        project: Folder of a project after :func:`compile_project`.
        x: Inputs on their grid, shape (samples, ...).
        limits: When the emulation is stopped.

    Returns:
        Shape (samples, outputs); float32, or float64 where the project was converted for it.

    Raises:
        TimeLimitExceeded: If it takes too much time.
        ConversionError: If the firmware aborts, crashes or takes too much memory; quotes the end of its error output.
    """
    return _in_a_process(project, x, limits or Limits(), "outputs")["outputs"]


def emulate_layers(project: Path, x: NDArray[np.float32], *, limits: Limits | None = None) -> dict[str, NDArray[np.float64]]:
    """Compute the outputs of every layer of the compiled firmware, in the order of the layers.

    Args:
        project: Folder of a project after :func:`compile_project`.
        x: Inputs on their grid, shape (samples, ...).
        limits: When the emulation is stopped.

    Returns:
        By the name that hls4ml gives the layer, shape (samples, values).

    Raises:
        ConversionError: If the firmware aborts, crashes or takes too much.
    """
    return _in_a_process(project, x, limits or Limits(), "layers")


def _in_a_process(project: Path, x: NDArray[np.float32], limits: Limits, what: str) -> dict[str, NDArray[Any]]:
    """Run this file as a script: ``what`` is ``outputs`` or ``layers``."""
    with tempfile.TemporaryDirectory() as folder:
        source, target, log = (Path(folder) / name for name in ("in.npy", "out.npz", "log.txt"))
        np.save(source, x)
        # -P: this file's neighbours, a package "keras" among them, must not shadow installed ones.
        command = [sys.executable, "-P", __file__, *map(str, (project, source, target, what))]
        environment = os.environ | {"OPENBLAS_NUM_THREADS": "1"}  # every thread of it takes address space
        done = run_program(command, log=log, limits=limits, environment=environment, errors_only=True)
        if done is None:
            raise TimeLimitExceeded(f"the C++ emulation {ending(done, limits.seconds)}: {tail(log)}")
        if done != 0:
            lines = log.read_text(encoding="utf-8", errors="replace").splitlines()
            how = ending(done, limits.seconds)
            raise ConversionError(f"the C++ emulation {how}{_memory_hint(lines, limits)}: {tail(log)}")
        with np.load(target) as arrays:
            return {name: arrays[name] for name in arrays.files}


def _memory_hint(lines: list[str], limits: Limits) -> str:
    text = "\n".join(lines)
    short = any(sign in text for sign in ("bad_alloc", "MemoryError", "out of memory", "Cannot allocate memory"))
    return f" in {limits.memory:g} GiB of memory" if short else ""


def _run(project: Path, x: NDArray[np.float32], what: str) -> dict[str, NDArray[Any]]:
    """Call the compiled firmware, in this process, for every sample."""
    known = json.loads((project / INTERFACE).read_text(encoding="utf-8"))
    dtype = np.float64 if known["function"].endswith("_double") else np.float32
    x = np.ascontiguousarray(x.reshape(len(x), -1), dtype)
    if x.shape[1] != known["inputs"]:
        raise ValueError(f"{x.shape[1]} input values per sample; the firmware takes {known['inputs']}")
    y = np.zeros((len(x), known["outputs"]), dtype)
    library = ctypes.CDLL(str(project / known["library"]))
    function = library[known["function"]]
    function.restype, function.argtypes = None, [ctypes.c_void_p, ctypes.c_void_p]
    os.chdir(project)  # The library finds its weights relative to the project, so that the folder can be moved.
    traced: dict[str, NDArray[Any]] = {}
    if what == "layers":
        traced = {layer["name"]: np.zeros((len(x), layer["size"])) for layer in known["layers"]}
        library.allocate_trace_storage(ctypes.c_size_t(8))  # doubles: a type that is not the proven one may be wide
    slots = (_Traced * max(len(traced), 1))()
    for sample in range(len(x)):
        function(x.ctypes.data + sample * x.strides[0], y.ctypes.data + sample * y.strides[0])
        if traced:
            library.collect_trace_output(ctypes.byref(slots))
            for slot in slots:
                values = traced[slot.name.decode()]
                values[sample] = np.ctypeslib.as_array(
                    ctypes.cast(slot.data, ctypes.POINTER(ctypes.c_double)), values.shape[1:]
                )
    return traced if what == "layers" else {"outputs": y}


class _Traced(ctypes.Structure):
    """hls4ml's ``trace_data``."""

    _fields_ = (("name", ctypes.c_char_p), ("data", ctypes.c_void_p))


if __name__ == "__main__":
    project_folder, source_file, target_file = (Path(argument).resolve() for argument in sys.argv[1:4])
    wanted = sys.argv[4] if len(sys.argv) > 4 else "outputs"
    try:
        results = _run(project_folder, np.load(source_file), wanted)
    except (OSError, ValueError, KeyError, AttributeError, MemoryError) as problem:
        sys.exit(f"{type(problem).__name__}: {problem}")  # One line: a message quotes the end of this output.
    if target_file.suffix == ".npz":
        np.savez(target_file, **results)  # type: ignore[arg-type]
    else:
        np.save(target_file, results[wanted])
