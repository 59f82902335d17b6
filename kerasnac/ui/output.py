"""What a command that runs stages says: options, listeners, and how it ends."""

from __future__ import annotations

import logging
import signal
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, fields
from functools import reduce, wraps
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn, TextIO

import click

from kerasnac.core.store.progress import Progress, Step, event, silent
from kerasnac.errors import ConfigError, EnvironmentProblem
from kerasnac.ui.exits import Exit, Terminated, trouble

#: Stages of a whole run.
RUN = ("search", "tune", "compress", "firmware", "run")


@dataclass(frozen=True)
class Output:
    """What a command says, and where.

    Attributes:
        quiet: Errors and the final result only.
        verbose: Every candidate, trial and point, and what libraries say, as well.
        plain: Lines in a terminal, too.
        json: Events as JSON on standard output, and nothing else there.
        log: File that gets everything with times; None for none.
    """

    quiet: bool = False
    verbose: bool = False
    plain: bool = False
    json: bool = False
    log: Path | None = None

    @contextmanager
    def session(self, folder: Path, *, planned: Sequence[str] = ()) -> Iterator[Session]:
        """Tell of a command from its beginning to its end: that it was stopped, and how to go on, too.

        Args:
            folder: Of the run.
            planned: Stages that are going to come, for the live view.

        Raises:
            SystemExit: With the exit code, if the command is stopped.
            Exception: Whatever the command raises.
        """
        if self.quiet and self.verbose:
            raise click.UsageError("--quiet and --verbose: give one of them")
        with ExitStack() as stack:
            session = Session(self, folder, planned, self._listeners(stack))
            stack.enter_context(_terminable())
            stack.enter_context(_heard(session.tell))
            try:
                yield session
            except BaseException as error:
                session.end(error)
                if not isinstance(error, KeyboardInterrupt):
                    raise
                complain_stopped(session.resume)
                sys.exit(Exit.of(error))
            session.end(None)

    def _listeners(self, stack: ExitStack) -> list[Progress]:
        from kerasnac.ui.event_lines import EventLines, json_line, log_line

        found: list[Progress] = []
        if self.json:
            found.append(EventLines(sys.stdout, json_line, time.monotonic))
        if self.log is not None:
            file = stack.enter_context(_opened(self.log))
            found.append(EventLines(file, log_line, time.monotonic))
        return found


@dataclass
class Session:
    """One command that runs stages.

    Attributes:
        output: What it says.
        folder: Of the run.
        planned: Stages that are going to come.
        listeners: Those that hear everything.
    """

    output: Output
    folder: Path
    planned: Sequence[str]
    listeners: list[Progress]
    _shown: Progress = silent
    _began: float = field(default_factory=time.monotonic)

    def tell(self, step: Step) -> None:
        """Tell all listeners of an event."""
        for listener in (*self.listeners, self._shown):
            listener(step)

    @contextmanager
    def showing(self) -> Iterator[Progress]:
        """Show the progress, and give the function that tells of it."""
        from kerasnac.ui.progress import progress_bar

        output = self.output
        if output.quiet or output.json:
            yield self.tell
            return
        with progress_bar(plain=output.plain, verbose=output.verbose, planned=self.planned) as self._shown:
            try:
                yield self.tell
            finally:
                self._shown = silent

    def say(self, *renderables: Any) -> None:
        """Print a part of the result, unless standard output is for events."""
        from kerasnac.ui.console import console

        if not self.output.json:
            for one in renderables:
                console().print(one, highlight=False, soft_wrap=isinstance(one, str), markup=False)

    @property
    def resume(self) -> str:
        """The command that goes on; empty if there is nothing to go on with."""
        from kerasnac.stages.results.layout import SETTINGS

        return f"kerasnac resume {self.folder}" if (self.folder / SETTINGS).exists() else ""

    def end(self, error: BaseException | None) -> None:
        """Tell that the command has ended.

        Args:
            error: What has ended it; None for nothing.
        """
        code = Exit.of(error)
        stopped = code not in (Exit.DONE, Exit.NO_FIRMWARE)
        message = "stopped" if isinstance(error, KeyboardInterrupt) else trouble(error) if stopped else ""
        seconds = round(time.monotonic() - self._began, 3)
        self.tell(event("run_ended", code=int(code), seconds=seconds, message=message, resume=self.resume if stopped else ""))


def output_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command the options that say what it tells; it gets them as one :class:`Output`, named ``output``."""
    options = (
        click.option("-q", "--quiet", is_flag=True, help="Print errors and the final result only."),
        click.option("-v", "--verbose", is_flag=True, help="Print every candidate, trial and point, and what libraries say."),
        click.option("--plain", is_flag=True, help="Print lines in place of the live view, as in a pipe."),
        click.option(
            "--json", is_flag=True, help="Print events as JSON, one object per line, and nothing else; see docs/events.md."
        ),
        click.option(
            "--log",
            type=click.Path(path_type=Path, dir_okay=False),
            metavar="FILE",
            help="Append everything to FILE, with times.",
        ),
    )

    @wraps(command)
    def packed(*positional: Any, **arguments: Any) -> Any:
        output = Output(**{one.name: arguments.pop(one.name) for one in fields(Output)})
        return command(*positional, output=output, **arguments)

    return reduce(lambda wrapped, option: option(wrapped), reversed(options), packed)


def complain_stopped(resume: str) -> None:
    """Say that a command was stopped, and how to go on."""
    click.echo(f"stopped; `{resume}` goes on from here" if resume else "stopped before anything was computed", err=True)


@contextmanager
def _opened(path: Path) -> Iterator[TextIO]:
    """Open a log to append to.

    Raises:
        ConfigError: If its folder is not there.
        EnvironmentProblem: If it cannot be written.
    """
    if not path.parent.is_dir():
        raise ConfigError(f"--log {path}: there is no folder {path.parent}")
    try:
        file = path.open("a", encoding="utf-8", errors="backslashreplace")
    except OSError as error:
        raise EnvironmentProblem(f"--log {path}: {error.strerror}") from error
    with file:
        yield file


@contextmanager
def _terminable() -> Iterator[None]:
    """Let SIGTERM end a command as Ctrl-C does, so that it says how to go on and leaves no process behind."""

    def stop(number: int, frame: FrameType | None) -> NoReturn:
        raise Terminated

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


class _Handler(logging.Handler):
    """Tells of what kerasnac logs."""

    def __init__(self, tell: Progress) -> None:
        super().__init__(logging.WARNING)
        self._tell = tell

    def emit(self, record: logging.LogRecord) -> None:
        self._tell(_message(record.levelname.lower(), record.getMessage()))


def _message(level: str, text: str) -> Step:
    return event("message", level=level, message=" ".join(text.split()))


@contextmanager
def _heard(tell: Progress) -> Iterator[None]:
    """Tell of what kerasnac and the libraries log and warn of meanwhile; what is for programmers only is information."""

    def showwarning(message: Warning | str, category: type[Warning], filename: str, lineno: int, *others: Any) -> None:
        for_users = category is UserWarning
        text = str(message) if for_users else f"{filename}:{lineno}: {category.__name__}: {message}"
        tell(_message("warning" if for_users else "info", text))

    handler, shown, log = _Handler(tell), warnings.showwarning, logging.getLogger("kerasnac")
    log.addHandler(handler)
    warnings.showwarning = showwarning  # type: ignore[assignment]
    try:
        yield
    finally:
        warnings.showwarning = shown
        log.removeHandler(handler)
