"""External programs: the one place that starts any, with limits of time and memory, and ends all their processes.

Between kerasnac and a program stands :mod:`kerasnac.adapters.programs.keeper`, so that no process of the program is left
when it ends, takes too long, or when kerasnac itself is interrupted or killed, even by ``kill -9``.
"""

from __future__ import annotations

import math
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from time import monotonic
from typing import Any

from kerasnac.adapters.programs import keeper
from kerasnac.errors import ConfigError, EnvironmentProblem, TimeLimitExceeded

#: Number of lines of a log that a message quotes.
TAIL = 5

#: Seconds that the keeper gets to end all processes, before it is ended too.
GRACE = 10.0

Command = Sequence[str | Path]


@dataclass(frozen=True)
class Limits:
    """Limits of a program, such as of compiling, and of emulating.

    Attributes:
        seconds: Wall time.
        memory: Address space of each of its processes, GiB; infinite is without limit.

    Raises:
        ConfigError: If one is not positive.
    """

    seconds: float = 3600.0
    memory: float = 16.0

    def __post_init__(self) -> None:
        for name, value, unit in (("timeout", self.seconds, "seconds"), ("memory", self.memory, "GiB")):
            if not value > 0:  # NaN is not either.
                raise ConfigError(f"{name}: {value} is no positive number of {unit}")

    @property
    def bytes(self) -> int:
        """:attr:`memory` in bytes, as far as the system counts; 0 is without limit."""
        return max(1, int(min(self.memory * 2**30, sys.maxsize))) if math.isfinite(self.memory) else 0


@dataclass(frozen=True)
class Answer:
    """What a program said.

    Attributes:
        code: Its exit code, or minus the number of the signal that ended it; None if it took too long.
        output: Its output.
        errors: Its error output.
    """

    code: int | None
    output: str
    errors: str


def require_tool(name: str) -> None:
    """Check that a program is on the path.

    Args:
        name: Name of the program, and of its Debian package.

    Raises:
        EnvironmentProblem: If it is missing; says how to install it.
    """
    if shutil.which(name) is None:
        raise EnvironmentProblem(f"{name} is not installed: apt install {name}")


def run_tool(command: Command, *, folder: Path, log: Path, timeout: float) -> int:
    """Run a program, and write its output to a log.

    Args:
        command: The program and its arguments.
        folder: Working directory.
        log: File for both output streams, overwritten.
        timeout: Seconds after which the program is stopped, with all processes that it started.

    Returns:
        The exit code.

    Raises:
        TimeLimitExceeded: If it takes too long; quotes the end of the log.
    """
    code = run_program(command, log=log, limits=Limits(timeout, math.inf), folder=folder)
    if code is None:
        raise TimeLimitExceeded(f"{command[0]} {ending(code, timeout)}: {tail(log)}")
    return code


def run_program(
    command: Command,
    *,
    log: Path,
    limits: Limits,
    folder: Path | None = None,
    environment: Mapping[str, str] | None = None,
    errors_only: bool = False,
    tick: Callable[[], None] = lambda: None,
) -> int | None:
    """Run a program; when this returns or raises, none of its processes is left.

    Args:
        command: The program and its arguments.
        log: File for its output, overwritten.
        limits: Its wall time, and the memory of each of its processes.
        folder: Working directory; this process's by default.
        environment: Its environment; this process's by default.
        errors_only: Write down the error output only; otherwise both streams.
        tick: Called about once a second.

    Returns:
        The exit code, or minus the number of the signal that ended it; None if it took too long.
    """
    until = monotonic() + limits.seconds
    with log.open("w", encoding="utf-8") as stream:
        output = subprocess.DEVNULL if errors_only else stream
        with _kept(command, limits, cwd=folder, env=environment, stdout=output, stderr=stream) as process:
            while (left := until - monotonic()) > 0:
                try:
                    return int(process.wait(min(left, 1.0)))
                except subprocess.TimeoutExpired:
                    tick()
    return None


def ask(command: Command, *, seconds: float, memory: float = math.inf) -> Answer:
    """Run a program and return what it says; when this returns or raises, none of its processes is left.

    Args:
        command: The program and its arguments.
        seconds: Time after which it is stopped.
        memory: Address space of each of its processes, GiB.
    """
    text = {"text": True, "encoding": "utf-8", "errors": "replace"}
    with _kept(command, Limits(seconds, memory), stdout=subprocess.PIPE, stderr=subprocess.PIPE, **text) as process:
        try:
            output, errors = process.communicate(timeout=seconds)
            return Answer(process.returncode, output, errors)
        except subprocess.TimeoutExpired:
            _end(process)
            return Answer(None, *process.communicate())


def ending(code: int | None, seconds: float) -> str:
    """Say how a program ended.

    Args:
        code: What :func:`run_program` returned.
        seconds: The time that it had.
    """
    if code is None:
        return f"did not finish within {seconds:g} s"
    return f"was stopped by {signal.Signals(-code).name}" if code < 0 else f"failed with exit code {code}"


def tail(log: Path) -> str:
    """Return the last lines of a log, joined in one."""
    lines = [line.strip() for line in log.read_text(encoding="utf-8", errors="replace").splitlines()]
    return " | ".join([line for line in lines if line][-TAIL:]) or "it said nothing"


@contextmanager
def _kept(command: Command, limits: Limits, **options: Any) -> Iterator[subprocess.Popen[Any]]:
    """Start a program under a keeper, and end whatever is left of it.

    Args:
        command: The program and its arguments.
        limits: The memory of each process; the time is up to the caller.
        options: Of ``subprocess.Popen``.
    """
    # -I, -S: neither this folder nor any installed package has a part in it, and it starts in hundredths of a second.
    kept = [sys.executable, "-I", "-S", keeper.__file__, str(os.getpid()), str(limits.bytes), *map(str, command)]
    with subprocess.Popen(kept, start_new_session=True, stdin=subprocess.DEVNULL, **options) as process:
        try:
            yield process
        finally:
            _end(process)


def _end(process: subprocess.Popen[Any]) -> None:
    """End a program and its keeper, if they have not ended."""
    if process.poll() is None:
        process.terminate()
        with suppress(subprocess.TimeoutExpired):
            process.wait(GRACE)
    if process.returncode in (None, -signal.SIGKILL):  # It cannot end them all, or was killed itself.
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
