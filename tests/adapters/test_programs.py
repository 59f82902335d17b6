"""No process of an external program is left behind, however it, or its caller, ends."""

from __future__ import annotations

import math
import os
import signal
import subprocess
import sys
import threading
import uuid
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from kerasnac.adapters.programs import Limits, ask, run_program, run_tool, tail
from kerasnac.errors import ConfigError, ConversionError
from tests.processes import VARIABLE, marked, wait_for_none, wait_until

#: Runs a command in a thread, as workers do.
CALLER = """
import sys, threading
from pathlib import Path
from kerasnac.adapters.programs import Limits, run_program

job = threading.Thread(target=run_program, args=(sys.argv[2:],), kwargs={"log": Path(sys.argv[1]), "limits": Limits(60)})
job.start()
job.join()
"""

#: Starts a child, a grandchild whose parent ends, and one in a session of its own that ignores polite signals.
FAMILY = """
trap '' TERM INT HUP
sleep 60 &
(sleep 60 &)
setsid bash -c "trap '' TERM INT HUP; sleep 60; true" &
echo started
"""


@pytest.fixture
def mark(monkeypatch: pytest.MonkeyPatch) -> str:
    """A mark in the environment of all processes that a test starts."""
    value = uuid.uuid4().hex
    monkeypatch.setenv(VARIABLE, value)
    return value


@pytest.fixture
def script(tmp_path: Path) -> Path:
    path = tmp_path / "family.sh"
    path.write_text(FAMILY)
    return path


@pytest.fixture
def caller(mark: str, script: Path, tmp_path: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A process that waits for a program with descendants, all of which run."""
    script.write_text(f"{FAMILY}\nsleep 60\n")
    log = tmp_path / "log"
    with subprocess.Popen([sys.executable, "-c", CALLER, str(log), "bash", str(script)]) as process:
        wait_until(lambda: log.exists() and "started" in log.read_text())
        assert len(marked(mark)) >= 6
        yield process
        process.kill()


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGHUP])
def test_nothing_survives_the_caller(number: signal.Signals, caller: subprocess.Popen[bytes], mark: str) -> None:
    caller.send_signal(number)
    assert caller.wait(5) == -number
    wait_for_none(mark)


def test_nothing_survives_an_interrupt(mark: str, script: Path, tmp_path: Path) -> None:
    script.write_text(f"{FAMILY}\nsleep 60\n")
    log = tmp_path / "log"
    code = CALLER.replace("job.start()\njob.join()", "job.run()")
    command = [sys.executable, "-c", code, str(log), "bash", str(script)]
    with subprocess.Popen(command, stderr=subprocess.PIPE) as process:
        wait_until(lambda: log.exists() and "started" in log.read_text())
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=10)
    assert b"KeyboardInterrupt" in errors
    assert marked(mark) == []


def test_nothing_survives_its_keeper(mark: str, script: Path, tmp_path: Path) -> None:
    """As when the machine, short of memory, ends just that one."""
    script.write_text("echo started\nsleep 60 &\nsleep 60\n")
    code = CALLER.replace("job.start()\njob.join()", "job.run()")
    log = tmp_path / "log"
    with subprocess.Popen([sys.executable, "-c", code, str(log), "bash", str(script)]) as process:
        wait_until(lambda: log.exists() and "started" in log.read_text())
        (keeper,) = marked(mark, "keeper.py")
        os.kill(keeper, signal.SIGKILL)
        assert process.wait(10) == 0
    assert marked(mark) == []


def test_nothing_survives_a_time_out(mark: str, script: Path, tmp_path: Path) -> None:
    script.write_text(f"{FAMILY}\nsleep 60\n")
    with pytest.raises(ConversionError, match=r"^bash did not finish within 0\.5 s: started$"):
        run_tool(["bash", script], folder=tmp_path, log=tmp_path / "log", timeout=0.5)
    assert marked(mark) == []


@pytest.mark.parametrize(("last", "code"), [("exit 0", 0), ("exit 3", 3), ("kill -SEGV $$", -11), ("kill -KILL $$", -9)])
def test_nothing_survives_the_program_whose_end_is_told(mark: str, script: Path, last: str, code: int) -> None:
    script.write_text(f"{FAMILY}\n{last}\n")
    assert ask(["bash", script], seconds=10).code == code
    assert marked(mark) == []


def test_an_answer_is_cut_off_by_its_time(mark: str) -> None:
    answer = ask(["bash", "-c", "echo one; echo two >&2; sleep 60"], seconds=0.5)
    assert (answer.code, answer.output, answer.errors) == (None, "one\n", "two\n")
    assert marked(mark) == []


def test_a_program_that_is_not_there_is_named(tmp_path: Path) -> None:
    assert run_program(["no-such-program"], log=tmp_path / "log", limits=Limits(5)) == 127
    assert tail(tmp_path / "log") == "no-such-program cannot be started: [Errno 2] No such file or directory"


def test_memory_is_limited(tmp_path: Path) -> None:
    command = [sys.executable, "-c", "b'x' * 2**30"]
    assert run_program(command, log=tmp_path / "log", limits=Limits(30, 0.5)) == 1
    assert tail(tmp_path / "log").endswith("MemoryError")
    assert run_program(command, log=tmp_path / "log", limits=Limits(30)) == 0


@pytest.mark.parametrize("value", [0, -1, math.nan])
def test_limits_are_positive(value: float) -> None:
    with pytest.raises(ConfigError, match=f"timeout: {value} is no positive number"):
        Limits(value)
    with pytest.raises(ConfigError, match=f"memory: {value} is no positive number"):
        Limits(memory=value)


@pytest.mark.parametrize("value", [1e300, math.inf])
def test_limits_may_be_far(value: float, tmp_path: Path) -> None:
    assert run_program(["true"], log=tmp_path / "log", limits=Limits(value, value)) == 0


def test_nothing_leaks(tmp_path: Path) -> None:
    def held() -> tuple[int, int, str]:
        children = Path("/proc/thread-self/children").read_text()  # Also those that have ended and were not waited for.
        return len(os.listdir("/proc/self/fd")), threading.active_count(), children

    before = held()
    for number in range(20):
        run_program(["true"], log=tmp_path / "log", limits=Limits(5))
        with suppress(ConfigError, ConversionError):
            run_tool(["sleep", "9"], folder=tmp_path, log=tmp_path / "log", timeout=0.01 * (number % 2))
        ask(["no-such-program"], seconds=5)
    assert held() == before


def test_time_passes_audibly(tmp_path: Path) -> None:
    ticks = list[int]()
    run_program(["sleep", "1.2"], log=tmp_path / "log", limits=Limits(5), tick=lambda: ticks.append(1))
    assert ticks == [1]
