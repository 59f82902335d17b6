"""The C++ emulation of a firmware project: built with the machine's compiler, run in a process of its own.

This file is also the script of that process (``python csim.py PROJECT in.npy out.npy``). The script needs NumPy and
the standard library alone: an abort in the firmware's C++ code takes down neither TensorFlow nor a run.
"""

from __future__ import annotations

import ctypes
import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

if __name__ != "__main__":  # The script stands on its own, without the package.
    from kerasnac.adapters.tools import run_program
    from kerasnac.errors import ConversionError, EnvironmentProblem

#: What the script needs to know about a project, in the project's folder: inputs, outputs, function, library.
INTERFACE = "emulation.json"

#: Lines of an error log that a message quotes.
TAIL = 5


def require_compiler() -> None:
    """Checks that there is a C++ compiler, ``$CXX`` or g++.

    Raises:
        EnvironmentProblem: If there is none.
    """
    compiler = os.environ.get("CXX") or "g++"
    if shutil.which(shlex.split(compiler)[0]) is None:
        raise EnvironmentProblem(f"the C++ compiler {compiler!r} is not installed: apt install g++, or set CXX to another one")


def compile_project(project: Path, *, timeout: float = 3600.0) -> None:
    """Compiles the emulation of a project with ``$CXX`` (g++ by default); the log is ``compile.log`` in the project.

    Args:
        project: Folder of the project.
        timeout: Seconds after which the compiler is stopped.

    Raises:
        EnvironmentProblem: If there is no compiler.
        ConversionError: If it fails or takes too long; quotes the first error.
    """
    require_compiler()
    log = project / "compile.log"
    with log.open("w", encoding="utf-8") as stream:
        done = run_program(["bash", "build_lib.sh"], timeout, cwd=project, stdout=stream, stderr=subprocess.STDOUT)
    lines = log.read_text(encoding="utf-8", errors="replace").splitlines()
    if done != 0:
        first = next((line for line in lines if "error" in line.lower()), lines[-1] if lines else _ending(done, timeout))
        raise ConversionError(f"the C++ emulation does not compile: {first} (all of it in {log.name})")


def emulate(project: Path, x: NDArray[np.float32], *, timeout: float = 3600.0) -> NDArray[np.float32]:
    """What the compiled firmware computes.

    Args:
        project: Folder of a project after :func:`compile_project`.
        x: Inputs on their grid, shape (samples, ...).
        timeout: Seconds after which the emulation is stopped.

    Returns:
        Shape (samples, outputs).

    Raises:
        ConversionError: If the firmware aborts, crashes or takes too long; quotes the end of its error output.
    """
    with tempfile.TemporaryDirectory() as folder:
        source, target, log = (Path(folder) / name for name in ("in.npy", "out.npy", "log.txt"))
        np.save(source, x)
        # -P: this file's neighbours, a package "keras" among them, must not shadow installed ones.
        command = [sys.executable, "-P", __file__, str(project), str(source), str(target)]
        with log.open("w", encoding="utf-8") as stream:
            done = run_program(command, timeout, stdout=subprocess.DEVNULL, stderr=stream)
        if done != 0:
            tail = " | ".join(log.read_text(encoding="utf-8", errors="replace").splitlines()[-TAIL:])
            raise ConversionError(f"the C++ emulation {_ending(done, timeout)}: {tail or 'no error output'}")
        outputs: NDArray[np.float32] = np.load(target)
    return outputs


def _ending(code: int | None, timeout: float) -> str:
    """How a process ended, in words."""
    if code is None:
        return f"did not finish within {timeout:g} s"
    return f"was stopped by {signal.Signals(-code).name}" if code < 0 else f"failed with exit code {code}"


def _run(project: Path, x: NDArray[np.float32]) -> NDArray[np.float32]:
    """Calls the compiled firmware, in this process, for every sample."""
    interface = json.loads((project / INTERFACE).read_text(encoding="utf-8"))
    x = np.ascontiguousarray(x.reshape(len(x), -1), np.float32)
    if x.shape[1] != interface["inputs"]:
        raise ValueError(f"{x.shape[1]} input values per sample; the firmware takes {interface['inputs']}")
    y = np.zeros((len(x), interface["outputs"]), np.float32)
    function = ctypes.CDLL(str(project / interface["library"]))[interface["function"]]
    function.restype, function.argtypes = None, [ctypes.c_void_p, ctypes.c_void_p]
    os.chdir(project)  # The library finds its weights relative to the project, so that the folder can be moved.
    for sample in range(len(x)):
        function(x.ctypes.data + sample * x.strides[0], y.ctypes.data + sample * y.strides[0])
    return y


if __name__ == "__main__":
    project_folder, source_file, target_file = (Path(argument).resolve() for argument in sys.argv[1:])
    np.save(target_file, _run(project_folder, np.load(source_file)))
