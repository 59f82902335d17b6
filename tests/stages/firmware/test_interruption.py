"""A folder is firmware when all of it is there: not one that was interrupted, killed or damaged, and none of others."""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from kerasnac.core.settings import FirmwareSettings
from kerasnac.errors import EnvironmentProblem, RunError
from kerasnac.stages.firmware import delivery as stage
from kerasnac.stages.firmware.delivery import make_firmware
from kerasnac.stages.firmware.manifest import MANIFEST, changes, write_manifest
from kerasnac.stages.firmware.result import Firmware
from kerasnac.stages.firmware.validation import validate
from kerasnac.stages.run import jobs
from kerasnac.stages.run.jobs import ConvertJob, convert_one
from tests.stages.firmware.cases import PART, Case

FULL = OSError(28, "No space left on device")


@pytest.mark.parametrize(
    ("step", "error", "raised"),
    [
        ("convert", KeyboardInterrupt(), KeyboardInterrupt),
        ("emulate", FULL, EnvironmentProblem),
        ("write_models", KeyboardInterrupt(), KeyboardInterrupt),
        ("write_manifest", FULL, EnvironmentProblem),
    ],
)
def test_what_is_interrupted_leaves_what_was_there(
    firmware: Firmware,
    case: Case,
    step: str,
    error: BaseException,
    raised: Any,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The step is done, and what follows it is not."""
    done = getattr(stage, step)

    def interrupted(*arguments: Any, **options: Any) -> None:
        done(*arguments, **options)
        raise error

    monkeypatch.setattr(stage, step, interrupted)
    before = Path(shutil.copytree(firmware.folder, tmp_path / "before"))
    for folder in (before, tmp_path / "new"):
        with pytest.raises(raised):
            make_firmware(case.trained, case.split, case.task, folder=folder, part=PART)
    assert [path.name for path in tmp_path.iterdir()] == ["before"]
    assert Firmware.load(before) == replace(firmware, folder=before)
    assert changes(before) == ()


#: Kills itself when all is written but the manifest. What needs TensorFlow is taken from a folder that is complete.
KILLED = """
import os, shutil, signal, sys
from pathlib import Path

import numpy as np

from kerasnac.core.data.dataset import Split, Task
from kerasnac.core.network.trained import Trained
from kerasnac.stages.firmware import delivery

made, folder = map(Path, sys.argv[1:])
arrays = np.load(made / "kerasnac" / "vectors.npz")
ready = shutil.ignore_patterns("*.json", "*.so", "*.md", "report.txt")


def convert(network, options, *, folder, softmax):
    shutil.copytree(made, folder, dirs_exist_ok=True, ignore=ready)
    shutil.copy(made / "emulation.json", folder)


delivery.convert, delivery.vectors = convert, lambda *arguments: arrays["keras"]
delivery.write_models, delivery.summary = lambda *arguments: None, lambda *arguments: ""
delivery.write_manifest = lambda project: os.kill(os.getpid(), signal.SIGKILL)
split = Split(arrays["x"], np.zeros(len(arrays["x"]), int))
delivery.make_firmware(Trained.load(made / "kerasnac" / "model"), split, Task("classification", 3), folder=folder)
"""


def test_what_is_killed_before_it_is_recorded_is_never_taken_for_firmware(
    firmware: Firmware, case: Case, tmp_path: Path
) -> None:
    folder = tmp_path / "fw"
    command = [sys.executable, "-c", KILLED, str(firmware.folder), str(folder)]
    killed = subprocess.run(command, capture_output=True, text=True, check=False)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    (left,) = tmp_path.iterdir()
    assert (left / "report.json").is_file(), "it was killed between saving and recording"
    assert not folder.exists()
    job = ConvertJob(case.trained, case.split, case.task, FirmwareSettings(), left)
    assert jobs.converted(job) is None
    with pytest.raises(RunError, match=MANIFEST):
        validate(left)
    made = convert_one(None, replace(job, folder=folder))  # type: ignore[arg-type]  # it converts without data
    assert made == Firmware.load(folder)
    assert changes(folder) == ()


def test_a_run_takes_up_only_what_is_whole_and_unchanged(case: Case, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []

    def counted(*arguments: Any, **options: Any) -> Firmware:
        calls.append(options["folder"])
        return make_firmware(*arguments, **options)

    monkeypatch.setattr(stage, "make_firmware", counted)
    job = ConvertJob(case.trained, case.split, case.task, FirmwareSettings(), tmp_path / "fw")
    data: Any = None  # it converts without

    def made() -> int:
        calls.clear()
        assert convert_one(data, job) == Firmware.load(tmp_path / "fw")
        return len(calls)

    assert (made(), made()) == (1, 0)
    for damage in ("firmware/defines.h", "report.json", "kerasnac/model/weights.npz"):
        (tmp_path / "fw" / damage).write_text("")
        assert (damage, made(), made()) == (damage, 1, 0)
    report = tmp_path / "fw" / "report.json"
    report.write_text(report.read_text().replace('"schema": 2', '"schema": 1'))
    write_manifest(tmp_path / "fw")
    assert (made(), made()) == (1, 0)  # It is of another version.
    other = {key: value + 1 for key, value in case.trained.weights.items()}
    job = replace(job, model=replace(case.trained, weights=other))
    assert job.model == case.trained  # weights do not count for this
    assert jobs.converted(job) is None
