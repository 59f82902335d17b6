"""Locks of files and run folders: between processes, and between the objects of one."""

from __future__ import annotations

import errno
import fcntl
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from kerasnac.core.store.journal import Journal
from kerasnac.core.store.locks import FolderLock, lock
from kerasnac.errors import EnvironmentProblem, RunError

HOLDER = """
import sys
from pathlib import Path
from kerasnac.core.store.locks import FolderLock
lock = FolderLock(Path(sys.argv[1]))
print("locked", flush=True)
sys.stdin.read()
"""


@contextmanager
def other_process(folder: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Another process, which has locked a folder."""
    command = [sys.executable, "-c", HOLDER, str(folder)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"locked\n"
        yield process
        process.kill()


def failing(number: int) -> Callable[[object, int], None]:
    def flock(file: object, operation: int) -> None:
        raise OSError(number, os.strerror(number))

    return flock


class TestLock:
    def test_only_one_holds_an_exclusive_lock_and_closing_releases_it(self, tmp_path: Path) -> None:
        path = tmp_path / "file"
        with path.open("ab") as first, path.open("ab") as second:
            assert lock(first, path)
            assert not lock(second, path, wait=False)
            assert not lock(second, path, shared=True, wait=False)
            first.close()
            assert lock(second, path, wait=False)

    def test_several_share_one_for_reading(self, tmp_path: Path) -> None:
        path = tmp_path / "file"
        path.touch()
        with path.open("rb") as first, path.open("rb") as second, path.open("ab") as writer:
            assert lock(first, path, shared=True)
            assert lock(second, path, shared=True)
            assert not lock(writer, path, wait=False)

    @pytest.mark.parametrize("number", [errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP])
    @pytest.mark.parametrize("wait", [True, False])
    def test_a_file_system_without_locks(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, wait: bool
    ) -> None:
        monkeypatch.setattr(fcntl, "flock", failing(number))
        with (tmp_path / "file").open("ab") as file, pytest.raises(EnvironmentProblem, match=r"file: .*no locks"):
            lock(file, tmp_path / "file", wait=wait)

    @pytest.mark.parametrize("number", [errno.EAGAIN, errno.EACCES])
    def test_both_answers_of_network_file_systems_say_that_another_has_it(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
    ) -> None:
        monkeypatch.setattr(fcntl, "flock", failing(number))
        with (tmp_path / "file").open("ab") as file:
            assert not lock(file, tmp_path / "file", wait=False)

    def test_any_other_error_is_not_hidden(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(fcntl, "flock", failing(errno.EIO))
        with (tmp_path / "file").open("ab") as file, pytest.raises(OSError, match="Input/output"):
            lock(file, tmp_path / "file", wait=False)

    def test_a_journal_there_says_so(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(fcntl, "flock", failing(errno.ENOLCK))
        with pytest.raises(EnvironmentProblem, match=r"journal.jsonl: .*no locks"):
            Journal(tmp_path / "journal.jsonl").append({})


class TestFolderLock:
    def test_the_folder_is_made(self, tmp_path: Path) -> None:
        folder = tmp_path / "runs" / "one"
        FolderLock(folder).close()
        assert folder.is_dir()

    def test_another_process_is_refused_until_it_is_closed(self, tmp_path: Path) -> None:
        with other_process(tmp_path) as holder:
            with pytest.raises(RunError, match=f"{tmp_path.name} is in use"):
                FolderLock(tmp_path)
            assert holder.stdin is not None
            holder.stdin.close()
            holder.wait(timeout=10)
            own = FolderLock(tmp_path)
        own.check()
        own.close()

    def test_a_killed_process_leaves_no_lock(self, tmp_path: Path) -> None:
        with other_process(tmp_path) as holder:
            holder.send_signal(signal.SIGKILL)
            holder.wait(timeout=10)
            FolderLock(tmp_path).close()

    def test_this_process_keeps_others_out(self, tmp_path: Path) -> None:
        own = FolderLock(tmp_path)
        assert "in use" in refusal_of_another_process(tmp_path)
        own.close()
        with other_process(tmp_path):
            pass

    def test_the_newest_object_of_a_process_has_the_folder(self, tmp_path: Path) -> None:
        old = FolderLock(tmp_path)
        new = FolderLock(tmp_path)
        new.check()
        with pytest.raises(RunError, match=f"{tmp_path.name} was opened again"):
            old.check()
        old.close()  # Releases nothing: it has nothing any more.
        assert "in use" in refusal_of_another_process(tmp_path)
        new.close()
        with other_process(tmp_path):
            pass

    def test_a_link_to_the_folder_is_the_folder(self, tmp_path: Path) -> None:
        (tmp_path / "run").mkdir()
        (tmp_path / "link").symlink_to("run")
        old = FolderLock(tmp_path / "run")
        FolderLock(tmp_path / "link").close()
        with pytest.raises(RunError, match="opened again"):
            old.check()

    def test_two_folders_have_two_locks(self, tmp_path: Path) -> None:
        first, second = FolderLock(tmp_path / "a"), FolderLock(tmp_path / "b")
        for held in (first, second):
            held.check()
            held.close()

    def test_closing_twice_is_harmless_and_the_folder_can_be_opened_again(self, tmp_path: Path) -> None:
        own = FolderLock(tmp_path)
        own.close()
        own.close()
        with pytest.raises(RunError, match=f"{tmp_path.name} is closed"):
            own.check()
        again = FolderLock(tmp_path)
        own.close()
        again.check()
        again.close()

    @pytest.mark.filterwarnings("ignore:unclosed file:ResourceWarning")
    def test_an_object_that_is_gone_holds_nothing(self, tmp_path: Path) -> None:
        own = FolderLock(tmp_path)
        del own
        with other_process(tmp_path):
            pass

    def test_a_folder_that_was_deleted_and_made_again_is_another(self, tmp_path: Path) -> None:
        old = FolderLock(tmp_path / "run")
        (tmp_path / "run" / ".lock").unlink()
        (tmp_path / "run").rmdir()
        FolderLock(tmp_path / "run").close()
        with pytest.raises(RunError, match="was deleted or replaced"):
            old.check()
        old.close()

    def test_a_forked_process_does_not_inherit_the_right_to_the_folder(self, tmp_path: Path) -> None:
        own = FolderLock(tmp_path)
        code = os.fork()
        if not code:
            try:
                FolderLock(tmp_path)
            except RunError:
                os._exit(17)
            os._exit(0)
        assert os.waitstatus_to_exitcode(os.waitpid(code, 0)[1]) == 17
        own.check()
        own.close()

    def test_a_refused_lock_leaves_no_file_open(self, tmp_path: Path) -> None:
        before = len(os.listdir("/proc/self/fd"))
        with other_process(tmp_path) as holder:
            inside = len(os.listdir("/proc/self/fd"))
            with pytest.raises(RunError):
                FolderLock(tmp_path)
            assert len(os.listdir("/proc/self/fd")) == inside
            assert holder.poll() is None
        assert len(os.listdir("/proc/self/fd")) == before

    def test_a_file_system_without_locks_is_no_other_process(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(fcntl, "flock", failing(errno.ENOLCK))
        with pytest.raises(EnvironmentProblem, match="no locks"):
            FolderLock(tmp_path)

    def test_a_folder_that_cannot_be_written_is_named(self, tmp_path: Path) -> None:
        (tmp_path / "file").touch()
        with pytest.raises(EnvironmentProblem, match=r"cannot write to .*file/run.*--out"):
            FolderLock(tmp_path / "file" / "run")


def refusal_of_another_process(folder: Path) -> str:
    command = [sys.executable, "-c", HOLDER, str(folder)]
    done = subprocess.run(command, input=b"", capture_output=True, timeout=60, check=False)
    assert done.returncode != 0
    return done.stderr.decode()
