"""Run a program, and leave no process of it behind: ``python -I -S keeper.py PARENT MEMORY COMMAND...``.

This process stands between a program and the one that wants it. It ends all processes that came of the program, whatever
sessions they opened: as soon as the program itself has ended, on SIGTERM, and when process PARENT is no longer its parent,
which is also so after a ``kill -9``. Its exit code, or its signal, is the program's. MEMORY limits the address space of
each process, in bytes; 0 is no limit. It needs the standard library alone, and Linux.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import resource
import signal
import sys
from pathlib import Path
from typing import NoReturn

#: Options of prctl(2).
PR_SET_PDEATHSIG, PR_SET_CHILD_SUBREAPER = 1, 36

#: Signals that it waits for.
WATCHED = (signal.SIGCHLD, signal.SIGTERM, signal.SIGINT, signal.SIGHUP)

#: Seconds between two looks for the parent.
PERIOD = 0.2

#: Exit codes: of a command that cannot be started, as shells have it, and after a request to stop.
NO_COMMAND, STOPPED = 127, 128 + signal.SIGTERM


def keep(parent: int, memory: int, command: list[str]) -> int:
    """Run a command.

    Args:
        parent: Process id of the process that everything ends with.
        memory: Address space of each process, bytes; 0 for no limit.
        command: The program and its arguments.

    Returns:
        Its exit code, or minus the number of the signal that ended it.
    """
    signal.pthread_sigmask(signal.SIG_BLOCK, WATCHED)
    prctl = ctypes.CDLL(None, use_errno=True).prctl
    # Processes whose parents end become children of this one, and not of the machine's first, where nobody finds them.
    prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    keeper, child = os.getpid(), os.fork()
    if child == 0:
        prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)  # This process has one thread, so that it means the process.
        if os.getppid() != keeper:
            os._exit(STOPPED)
        _start(memory, command)
    code = None
    while code is None and os.getppid() == parent:
        code = _reap().get(child)
        if code is None:
            received = signal.sigtimedwait(WATCHED, PERIOD)
            if received is not None and received.si_signo != signal.SIGCHLD:
                break
    _end_all()
    return STOPPED if code is None else code


def _start(memory: int, command: list[str]) -> NoReturn:
    """Become the command."""
    if memory:
        _, hard = resource.getrlimit(resource.RLIMIT_AS)
        least = memory if hard == resource.RLIM_INFINITY else min(memory, hard)
        resource.setrlimit(resource.RLIMIT_AS, (least, least))
    signal.pthread_sigmask(signal.SIG_UNBLOCK, WATCHED)
    try:
        os.execvp(command[0], command)
    except (OSError, MemoryError) as error:
        os.write(2, f"{command[0]} cannot be started: {error}\n".encode(errors="replace"))
    finally:
        os._exit(NO_COMMAND)


def _reap() -> dict[int, int]:
    """Collect the children that have ended: exit code, or minus the signal, by process id."""
    ended = {}
    with contextlib.suppress(ChildProcessError):
        while (found := os.waitpid(-1, os.WNOHANG))[0]:
            ended[found[0]] = os.waitstatus_to_exitcode(found[1])
    return ended


def _end_all() -> None:
    """Kill all descendants, until there are none."""
    while descendants := _descendants():
        for process in descendants:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(process, signal.SIGKILL)
        signal.sigtimedwait([signal.SIGCHLD], 0.02)
        _reap()


def _descendants() -> list[int]:
    """Return the process ids of all children and their children, from the oldest generation on."""
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):  # It has just ended.
                # The name before the last bracket may hold anything.
                parent = int((entry / "stat").read_text(errors="replace").rpartition(")")[2].split()[1])
                children.setdefault(parent, []).append(int(entry.name))
    found, generation = [], [os.getpid()]
    while generation:
        generation = [child for process in generation for child in children.get(process, [])]
        found += generation
    return found


def _end_as(code: int) -> NoReturn:
    """End this process with an exit code, or by a signal if it is negative."""
    if code < 0:
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # The program has left its own, if one is wanted.
        with contextlib.suppress(OSError, ValueError):  # SIGKILL has no handler.
            signal.signal(-code, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_SETMASK, ())
        os.kill(os.getpid(), -code)
    sys.exit(code)


if __name__ == "__main__":
    _end_as(keep(int(sys.argv[1]), int(sys.argv[2]), sys.argv[3:]))
