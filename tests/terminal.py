"""A terminal for tests: a program runs in it, and what stands on its screen at the end is text."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import struct
import subprocess
import sys
import termios
from pathlib import Path

ROOT = Path(__file__).parents[1]

_CODES = re.compile(r"\x1b\[([?\d;]*)([A-Za-z])|([\r\n])|([^\x1b])")


def screen(output: str) -> list[str]:
    """Return the lines that a program has left on a terminal; knows the codes that rich uses to draw in place."""
    rows, row, column = [""], 0, 0
    for given, code, end, character in _CODES.findall(output):
        if code == "A":
            row = max(0, row - int(given or 1))
        elif code == "K":
            rows[row] = "" if given == "2" else rows[row][:column]
        elif end == "\r":
            column = 0
        elif end == "\n":
            row += 1
            rows += [""] * (row + 1 - len(rows))
        elif character:
            rows[row] = rows[row].ljust(column)[:column] + character + rows[row][column + 1 :]
            column += 1
    return [line.rstrip() for line in rows]


def run_in_terminal(code: str, *, columns: int = 80, rows: int = 24) -> tuple[int, list[str]]:
    """Run a Python program in a terminal; return its exit code and the lines that it has left there."""
    own, its = pty.openpty()
    fcntl.ioctl(its, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
    hidden = ("COLUMNS", "LINES", "NO_COLOR")
    environment = {name: value for name, value in os.environ.items() if name not in hidden} | {"TERM": "xterm-256color"}
    path = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))
    process = subprocess.Popen(
        [sys.executable, "-c", code], stdin=its, stdout=its, stderr=its, env=environment | {"PYTHONPATH": path}
    )
    os.close(its)
    output = b""
    try:
        while data := os.read(own, 65536):
            output += data
    except OSError:  # The other end is closed.
        pass
    os.close(own)
    return process.wait(60), screen(output.decode())
