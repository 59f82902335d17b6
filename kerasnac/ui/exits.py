"""Exit codes of the command line: the one place that maps errors to them, and prints them."""

from __future__ import annotations

import errno
import os
import sys
from contextlib import suppress
from enum import IntEnum

import click

from kerasnac.errors import KerasnacError


class Exit(IntEnum):
    """Exit codes; those that are not here are of bugs, which keep their tracebacks (1), and of signals."""

    DONE = 0
    #: A validation found a difference, or a file that has changed.
    DIFFERENT = 1
    #: Something that the user can mend: the input, a run folder, the machine.
    PROBLEM = 2
    #: A run is complete, and none of its models has firmware.
    NO_FIRMWARE = 3
    #: Ctrl-C, as shells have it.
    STOPPED = 130
    #: SIGTERM, as shells have it.
    TERMINATED = 143

    @classmethod
    def of(cls, error: BaseException | None) -> int:
        """Return the exit code of a command that an error has ended, or nothing."""
        if isinstance(error, SystemExit):
            return error.code if isinstance(error.code, int) else cls.DONE
        if isinstance(error, KeyboardInterrupt):
            return cls.TERMINATED if isinstance(error, Terminated) else cls.STOPPED
        if isinstance(error, click.ClickException):
            return error.exit_code
        return cls.DONE if error is None else cls.PROBLEM if trouble(error) else cls.DIFFERENT


class Terminated(KeyboardInterrupt):
    """SIGTERM, which is to end a command as Ctrl-C does."""


#: Exit codes at the end of ``kerasnac --help``; docs/troubleshooting.md has the same.
EPILOG = """\b
Exit codes:
  0    done; a run has firmware for at least one of its models
  1    firmware validate: not valid; with a traceback: a bug
  2    one line says what to change: in a file, on the command line or on the machine
  3    the run is complete, and none of its models has firmware
  130  stopped by Ctrl-C
  143  stopped by SIGTERM

Shell completion: kerasnac completion --help
"""

#: Errors of the machine that no file's name came with: on standard output, for one.
_OF_MACHINE = frozenset(
    {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EROFS, errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EACCES}
)


def exit_with(error: BaseException) -> None:
    """Print one line about an error that the user can mend, and exit; return for any other, which is a bug.

    Args:
        error: Of a command.

    Raises:
        SystemExit: With the code of the error.
    """
    if isinstance(error, KeyboardInterrupt):
        sys.exit(Exit.of(error))
    if text := trouble(error):
        complain(text)
        sys.exit(Exit.PROBLEM)


def trouble(error: BaseException | None) -> str:
    """Return a line about an error that the user can mend; empty for any other, which is a bug."""
    if isinstance(error, KerasnacError):
        return str(error)
    if isinstance(error, MemoryError):
        return "there is not enough memory; use fewer workers"
    if isinstance(error, OSError) and error.errno in _OF_MACHINE:
        place = error.filename or "the output"
        return f"cannot write {place}: {error.strerror}; what was computed is kept"
    return ""


def complain(text: str) -> None:
    """Print a line about what went wrong, where there is somewhere to print it."""
    with suppress(OSError):
        click.echo(f"{click.style('error:', fg='red', bold=True)} {text}", err=True)


def drop_output() -> None:
    """Send what is left for standard output nowhere, so that the interpreter does not complain when it ends."""
    with suppress(OSError, ValueError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())
        os.close(nowhere)
