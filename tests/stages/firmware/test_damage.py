"""Firmware folders that were damaged at random, or by somebody who wants to have something executed."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from kerasnac.stages.firmware import validation
from kerasnac.stages.firmware.manifest import MANIFEST
from kerasnac.stages.firmware.result import Firmware
from tests.damage import Damage, Verdict, around_of, contents, damaged, fence, in_process, message, touched

pytestmark = pytest.mark.usefixtures("keras")

#: Events by which Python starts programs, loads libraries or rebuilds objects of any class.
EXECUTING = frozenset(
    {"subprocess.Popen", "os.posix_spawn", "os.exec", "os.system", "os.fork", "ctypes.dlopen", "pickle.find_class"}
)

#: Where the events go while a case runs.
_watching: list[list[str]] = []


def _watch(event: str, arguments: tuple[Any, ...]) -> None:
    if _watching and event in EXECUTING:
        _watching[-1].append(f"{event} {arguments!r:.200}")


sys.addaudithook(_watch)


@contextmanager
def watched(patch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """Yield a list of what is executed, in which ``hashes`` stands where all hashes have been compared.

    Compiling and emulating are steps that are only noted, and give the outputs of Keras.
    """
    events: list[str] = []
    outputs: list[Any] = []
    vectors, changes = validation.vectors, validation.changes

    def computed(*arguments: Any) -> Any:
        outputs.append(vectors(*arguments))
        return outputs[-1]

    def compared(folder: Path) -> tuple[str, ...]:
        found = changes(folder)
        events.append("hashes")
        return found

    def compiled(project: Path, *, log: Path, **options: Any) -> None:
        events.append("compile")
        log.touch()

    def emulated(*arguments: Any, **options: Any) -> Any:
        events.append("emulate")
        return outputs[-1]

    patch.setattr(validation, "vectors", computed)
    patch.setattr(validation, "changes", compared)
    patch.setattr(validation, "compile_project", compiled)
    patch.setattr(validation, "emulate", emulated)
    patch.setattr(validation, "first_difference", lambda *arguments, **options: None)
    _watching.append(events)
    try:
        yield events
    finally:
        _watching.pop()


def check(number: int, firmware: Firmware, place: Path) -> Verdict:
    """Damage one file or folder, or none if the number is negative, validate, and look at what must hold."""
    rng = np.random.default_rng([14, number + 1])
    folder, outside = place / "a" / "firmware", place / "outside"
    shutil.copytree(firmware.folder, folder)
    fence(outside)
    paths = sorted(path for path in folder.rglob("*") if not path.name.startswith("ap_") and "ac_" not in str(path))
    # The descriptions, which are read, as often as all the rest together.
    read = [path for path in paths if path.suffix in (".json", ".npz", ".keras")]
    chosen = read if rng.random() < 0.5 else paths
    path = chosen[int(rng.integers(len(chosen)))]
    done = damaged(rng, path, str(path.relative_to(folder)), outside) if number >= 0 else Damage("nothing")
    verdict = Verdict(number, done, ["firmware", "validate", str(folder)])
    before, around = contents(folder), around_of(place, folder)
    with pytest.MonkeyPatch.context() as patch, watched(patch) as events:
        in_process(verdict, outside)
    fails = verdict.failures
    fails += touched(around, around_of(place, folder))
    if contents(folder) != before:
        fails.append(("changed", "the folder is not as it was"))
    early = events[: events.index("hashes")] if "hashes" in events else events
    if early or any("pickle" in event for event in events):
        fails.append(("executed", f"before the hashes were compared, or from a pickle: {events}"))
    delivered = json.loads((firmware.folder / MANIFEST).read_text())["sha256"]
    original = contents(firmware.folder)
    same = all(before.get(name) == original[name] for name in delivered)
    if verdict.code not in ((0, 1, 2) if same else (1, 2)) and not any(cause.startswith("traceback") for cause, _ in fails):
        fails.append((f"exit code {verdict.code}", verdict.output[-300:]))
    if verdict.code == 2:
        fails += message(verdict)
    return verdict


def test_a_folder_without_damage_is_valid(firmware: Firmware, tmp_path: Path) -> None:
    """Else the cases would prove nothing."""
    verdict = check(-1, firmware, tmp_path)
    assert verdict.code == 0, verdict.output
    assert not verdict.failures, str(verdict)


@pytest.mark.parametrize("number", range(10))
def test_a_damaged_folder(number: int, firmware: Firmware, tmp_path: Path) -> None:
    verdict = check(number, firmware, tmp_path)
    assert not verdict.failures, str(verdict)


@pytest.mark.slow
def test_many_damaged_folders(firmware: Firmware, tmp_path: Path) -> None:
    failed = []
    for number in range(10, 1010):
        verdict = check(number, firmware, tmp_path / str(number))
        failed += [str(verdict)] if verdict.failures else []
        shutil.rmtree(tmp_path / str(number))
    assert not failed, "\n".join([f"{len(failed)} of 1000 fail", *failed])
