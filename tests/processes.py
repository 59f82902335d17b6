"""Processes that a test starts, found by a mark in their environment."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path

#: Name of the mark.
VARIABLE = "KERASNAC_TEST_MARK"


def marked(mark: str, words: str = "") -> list[int]:
    """Process ids, but this one's; one that has ended and waits for its parent has no environment.

    Args:
        mark: Value of the mark.
        words: Part of the command line.
    """
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            try:
                if mark.encode() in (entry / "environ").read_bytes() and words in command_line(int(entry.name)):
                    found.append(int(entry.name))
            except OSError:
                continue
    return found


def command_line(process: int) -> str:
    return Path(f"/proc/{process}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")


def wait_until(condition: Callable[[], object], seconds: float = 10.0) -> None:
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.02)


def wait_for_none(mark: str, seconds: float = 5.0) -> None:
    """Wait until no process has a mark; fails with their commands."""
    until = time.monotonic() + seconds
    while left := marked(mark):
        assert time.monotonic() < until, [command_line(process) for process in left]
        time.sleep(0.02)
