"""The C++ compiler of this machine."""

from __future__ import annotations

import math
import os
import shlex
import shutil
import tempfile
from functools import cache
from importlib.util import find_spec
from pathlib import Path

from kerasnac.adapters.programs import Limits, ask, ending
from kerasnac.errors import EnvironmentProblem

#: For a few lines on a cold, slow disk.
PATIENCE = Limits(300.0, math.inf)

#: GiB of memory with which a compiler does not fail for lack of it here.
ENOUGH = 1.0

REMEDY = "apt install g++, or set CXX to another compiler"

#: Multiplies fixed-point numbers as all firmware does; without hls4ml, which brings them, it only shows that C++ works.
_PROGRAM = """#include <cstdio>
#include <vector>
#ifdef FIXED
#include "ap_fixed.h"
typedef ap_fixed<8, 4, AP_RND_CONV, AP_SAT> number;
double product(number a, number b) { return ap_fixed<16, 8>(a * b).to_double(); }
#else
double product(double a, double b) { return a * b; }
#endif
int main() {
    std::vector<double> answer(1, product(3.1875, -2.5));
    std::printf("%.5f", answer[0]);
}
"""
_ANSWER = "-7.96875"


def require_compiler() -> list[str]:
    """Return the command of the C++ compiler, ``$CXX`` or g++.

    Raises:
        EnvironmentProblem: If there is none.
    """
    compiler = os.environ.get("CXX", "").strip() or "g++"
    try:
        command = shlex.split(compiler)
    except ValueError as error:
        raise EnvironmentProblem(f"CXX is {compiler!r}, which is no command: {error}") from error
    if shutil.which(command[0]) is None:
        raise EnvironmentProblem(f"the C++ compiler {compiler!r} is not installed: {REMEDY}")
    return command


def check_compiler(limits: Limits = PATIENCE) -> None:
    """Check that the compiler compiles hls4ml's fixed-point numbers, and that they compute; once in a process.

    Args:
        limits: Time and memory that it may take.

    Raises:
        EnvironmentProblem: If there is no compiler, or it does not.
    """
    if problem := _problem(tuple(require_compiler()), limits):
        raise EnvironmentProblem(problem)


@cache
def _problem(command: tuple[str, ...], limits: Limits) -> str:
    """Return the reason why a compiler cannot be used, or an empty string."""
    name = shlex.join(command)
    with tempfile.TemporaryDirectory(prefix="kerasnac-") as folder:
        source, program = Path(folder) / "answer.cpp", Path(folder) / "answer"
        source.write_text(_PROGRAM, encoding="utf-8")
        done = ask([*command, "-std=c++11", *_fixed(), source, "-o", program], seconds=limits.seconds, memory=limits.memory)
        if done.code != 0:
            lines = [line.strip() for line in done.errors.splitlines() if line.strip()]
            said = next((line for line in lines if "error" in line.lower()), lines[-1] if lines else "it said nothing")
            within = f" in {limits.memory:g} GiB of memory" if limits.memory < ENOUGH else ""
            return f"{name} compiles no firmware, it {ending(done.code, limits.seconds)}{within} ({said}): {REMEDY}"
        done = ask([program], seconds=limits.seconds, memory=limits.memory)
    if done.code != 0:
        where = f"let programs run in {tempfile.gettempdir()}, or set TMPDIR to another folder"
        said = done.errors.strip() or "it said nothing"
        return f"a program from {name} {ending(done.code, limits.seconds)} ({said}): {REMEDY}; {where}"
    if done.output != _ANSWER:
        return f"a program from {name} gives a wrong result ({done.output}, not {_ANSWER}): {REMEDY}"
    return ""


def _fixed() -> list[str]:
    """Return the compiler's options for hls4ml's fixed-point numbers; none if hls4ml is not installed."""
    found = find_spec("hls4ml")
    folders = [Path(folder) / "templates/vivado/ap_types" for folder in (found and found.submodule_search_locations) or ()]
    return ["-DFIXED", *(f"-I{folder}" for folder in folders)] if folders else []
