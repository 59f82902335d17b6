"""External programs: run with a time-out, their output in a log."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from collections.abc import Sequence
from pathlib import Path

from kerasnac.errors import ConversionError, EnvironmentProblem

#: Number of lines of a log that a message quotes.
TAIL = 5


def require_tool(name: str) -> None:
    """Check that a program is on the path.

    Args:
        name: Name of the program, and of its Debian package.

    Raises:
        EnvironmentProblem: If it is missing; says how to install it.
    """
    if shutil.which(name) is None:
        raise EnvironmentProblem(f"{name} is not installed: apt install {name}")


def run_tool(command: Sequence[str | Path], *, folder: Path, log: Path, timeout: float) -> int:
    """Run a program, and write its output to a log.

    Args:
        command: The program and its arguments.
        folder: Working directory.
        log: File for both output streams, overwritten.
        timeout: Seconds after which the program is stopped, with all processes that it started.

    Returns:
        The exit code.

    Raises:
        ConversionError: If it takes too long; quotes the end of the log.
    """
    with log.open("w", encoding="utf-8") as stream:
        streams = {"stdin": subprocess.DEVNULL, "stdout": stream, "stderr": subprocess.STDOUT}
        done = run_program([str(part) for part in command], timeout, cwd=folder, **streams)
    if done is None:
        raise ConversionError(f"{command[0]} did not finish within {timeout:g} s: {tail(log)}")
    return done


def run_program(command: list[str], timeout: float, **options: object) -> int | None:
    """Run a command in a session of its own, so that a time-out stops its children too.

    Args:
        command: The program and its arguments.
        timeout: Seconds after which it is stopped.
        options: Of ``subprocess.Popen``.

    Returns:
        The exit code, or None if it was stopped.
    """
    with subprocess.Popen(command, start_new_session=True, **options) as process:  # type: ignore[call-overload]
        try:
            return int(process.wait(timeout))
        except subprocess.TimeoutExpired:
            return None
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)


def tail(log: Path) -> str:
    """Return the last lines of a log, joined in one."""
    lines = [line.strip() for line in log.read_text(encoding="utf-8", errors="replace").splitlines()]
    return " | ".join([line for line in lines if line][-TAIL:]) or "it said nothing"
