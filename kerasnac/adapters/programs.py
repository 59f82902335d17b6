"""Programs for hardware, run in a folder with a log."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from collections.abc import Sequence
from pathlib import Path

from kerasnac.errors import ConversionError, EnvironmentProblem

#: Lines of a log that a message quotes.
TAIL = 5


def require_tool(name: str) -> None:
    """Checks that a program of the Debian package of the same name is on the path.

    Raises:
        EnvironmentProblem: If it is not.
    """
    if shutil.which(name) is None:
        raise EnvironmentProblem(f"{name} is not installed: apt install {name}")


def run_tool(command: Sequence[str | Path], *, folder: Path, log: Path, timeout: float) -> int:
    """Runs a program; what it prints goes to a log.

    Args:
        command: The program and its arguments.
        folder: Where it runs.
        log: Where to write.
        timeout: Seconds after which it is stopped, with all that it started.

    Returns:
        The exit code.

    Raises:
        ConversionError: If it takes too long.
    """
    with log.open("w", encoding="utf-8") as stream:
        streams = {"stdin": subprocess.DEVNULL, "stdout": stream, "stderr": subprocess.STDOUT}
        done = run_program([str(part) for part in command], timeout, cwd=folder, **streams)
    if done is None:
        raise ConversionError(f"{command[0]} did not finish within {timeout:g} s: {tail(log)}")
    return done


def run_program(command: list[str], timeout: float, **options: object) -> int | None:
    """Runs a command with its children in a session of their own; the exit code, or None if it was stopped.

    Stopping a shell alone would leave its compiler running.
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
    """The last lines of a log, in one line."""
    lines = [line.strip() for line in log.read_text(encoding="utf-8", errors="replace").splitlines()]
    return " | ".join([line for line in lines if line][-TAIL:]) or "it said nothing"
