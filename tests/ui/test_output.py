"""What commands that run stages say: quiet, verbose, lines, JSON, a log; and how they end."""

from __future__ import annotations

import json
import logging
import os
import signal
import warnings
from pathlib import Path
from typing import Any

import pytest

from kerasnac.core.store.progress import FACTS, Step, event
from kerasnac.errors import RunError
from kerasnac.stages import run
from kerasnac.ui.output import Output
from tests.commands import kerasnac
from tests.damage import RUN
from tests.events import REST, SEARCH
from tests.stand_ins import without_trainings


@pytest.fixture
def file(whole: Any, tmp_path: Path) -> Path:
    """A run of all stages, whose trainings are formulas."""
    path = tmp_path / "tiny.yaml"
    path.write_text(RUN.format(data=whole.place.parent / "data.npz"))
    return path


def test_json_tells_the_whole_story_and_nothing_else(file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    without_trainings(monkeypatch)
    out, log = tmp_path / "out", tmp_path / "run.log"
    done = kerasnac("run", file, "--out", out, "--json", "--log", log)
    assert done.exit_code == 3, done.output
    told = [json.loads(line) for line in done.stdout.splitlines()]
    assert all(set(FACTS[one["event"]]) <= set(one) for one in told)
    kinds = [one["event"] for one in told]
    assert (kinds[0], kinds[-1]) == ("run_started", "run_ended")
    assert told[-1]["code"] == 3
    for edge in ("stage_started", "stage_ended"):
        stages = [one["stage"] for one in told if one["event"] == edge]
        assert stages == ["search", "tune", "compress", "mixed", "firmware", "run"]
    assert sum(one["event"] == "candidate" and one["status"] == "ok" for one in told) == 8
    models = {one["model"] for one in told if one["event"] == "trial"}
    assert models == {path.name for path in (out / "tuned").iterdir()}
    points = {one["model"] for one in told if one["event"] == "point"}
    assert points == {path.name for path in (out / "compressed").iterdir() if not path.name.endswith("-rewind")}
    assert {one["reason"] for one in told if one["event"] == "firmware"} == {"there is no firmware in this test"}
    scored = [one["model"] for one in told if one["event"] == "score"]
    assert models < set(scored) < models | points
    assert done.stderr == f"error: no model has firmware; the last lines of {out / 'summary.txt'} say why\n"

    lines = log.read_text().splitlines()
    assert len(lines) == len(told)
    (out / "complete.json").unlink(missing_ok=True)  # A finished run is only read.
    assert kerasnac("resume", out, "--quiet", "--log", log).exit_code == 3
    again = log.read_text().splitlines()
    assert again[: len(lines)] == lines, "it is appended to"
    assert sum("(known)" in line for line in again) > sum("(known)" in line for line in lines) == 0


def script(monkeypatch: pytest.MonkeyPatch, *steps: Step, error: BaseException | None = None) -> None:
    """Put some events in place of a search."""

    def search_only(settings: Any, folder: Path, *, progress: Any, **options: Any) -> None:
        for step in (*SEARCH, *steps):
            progress(step)
        logging.getLogger("kerasnac").warning("a worker is slow")
        warnings.warn("dropped 3 jets", stacklevel=1)
        warnings.warn("not for users", FutureWarning, stacklevel=1)
        folder.mkdir(exist_ok=True)
        (folder / "run.yaml").touch()
        raise error or KeyboardInterrupt

    monkeypatch.setattr(run, "search_only", search_only)


@pytest.mark.parametrize(
    ("option", "there", "not_there"),
    [
        (None, ["search    1/10", "warning: dropped 3 jets", "warning: a worker is slow"], ["candidate net1", "for users"]),
        ("--plain", ["search    1/10"], ["candidate net1"]),
        ("--verbose", ["candidate net1 ok: accuracy 0.7", "FutureWarning: not for users"], []),
        ("--quiet", [], ["search", "dropped"]),
    ],
)
def test_how_much_is_said(
    option: str | None,
    there: list[str],
    not_there: list[str],
    file: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    script(monkeypatch, Step("search", 3, 10, "third"), *REST)
    done = kerasnac("search", file, "--out", tmp_path / "out", *filter(None, [option]))
    assert all(text in done.stderr for text in there), done.stderr
    assert not any(text in done.stderr for text in not_there), done.stderr
    assert done.stderr.endswith(f"stopped; `kerasnac resume {tmp_path / 'out'}` goes on from here\n")
    assert not logging.getLogger("kerasnac").handlers


@pytest.mark.parametrize(
    ("error", "code", "message"),
    [
        (KeyboardInterrupt(), 130, "stopped"),
        (RunError("damaged"), 2, "damaged"),
        (MemoryError(), 2, "there is not enough memory; use fewer workers"),
    ],
)
def test_events_tell_how_it_ended(
    error: BaseException, code: int, message: str, file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    script(monkeypatch, error=error)
    done = kerasnac("search", file, "--out", tmp_path / "out", "--json")
    assert done.exit_code == code
    last = json.loads(done.stdout.splitlines()[-1])
    assert (last["event"], last["code"], last["message"]) == ("run_ended", code, message)
    assert last["resume"] == f"kerasnac resume {tmp_path / 'out'}"


def test_what_is_wrong_with_the_file_is_told_as_well(tmp_path: Path) -> None:
    done = kerasnac("search", "no_such_file", "--out", tmp_path / "out", "--json")
    (last,) = [json.loads(line) for line in done.stdout.splitlines()]
    assert (last["code"], last["resume"]) == (2, "")
    assert "no_such_file" in last["message"]


def test_sigterm_ends_a_command_as_ctrl_c_does(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def wait_for_the_end() -> None:
        with Output(quiet=True).session(tmp_path):
            os.kill(os.getpid(), signal.SIGTERM)
            signal.pause()

    before = signal.getsignal(signal.SIGTERM)
    (tmp_path / "run.yaml").touch()
    with pytest.raises(SystemExit) as ended:
        wait_for_the_end()
    assert ended.value.code == 143
    assert f"kerasnac resume {tmp_path}" in capsys.readouterr().err
    assert signal.getsignal(signal.SIGTERM) == before


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--log", "no/folder/run.log"), "--log no/folder/run.log: there is no folder no/folder"),
        (("--quiet", "--verbose"), "--quiet and --verbose"),
    ],
)
def test_refused_at_once(options: tuple[str, ...], message: str, file: Path, tmp_path: Path) -> None:
    done = kerasnac("run", file, "--out", tmp_path / "out", *options)
    assert done.exit_code == 2
    assert message in done.stderr
    assert not (tmp_path / "out").exists()


def test_a_log_that_cannot_be_written(file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    script(monkeypatch, event("message", level="info", message="x"))
    done = kerasnac("search", file, "--out", tmp_path / "out", "--log", "/dev/full")
    assert done.exit_code == 2
    assert "No space left on device; what was computed is kept" in done.stderr
