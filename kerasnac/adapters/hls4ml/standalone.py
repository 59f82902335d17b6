"""Repeats the comparison of this firmware folder with Keras, whose outputs are stored: ``python validate.py``.

It needs Python 3.11, NumPy and a C++ compiler (``$CXX``, or g++). It checks the hash of every file, compiles a copy of
the project and compares every output. The exit code is 0 if all is as it was and every output equal, 1 if not, 2 if the
folder or the machine is not what it needs.
"""

from __future__ import annotations

import hashlib
import json
import os
import shlex
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any, NoReturn

import numpy as np

FOLDER = Path(__file__).resolve().parent


def main() -> int:
    """Validate the folder that this file is in."""
    hashes = _json("manifest.json").get("sha256")
    if not isinstance(hashes, dict) or not hashes:
        _stop("manifest.json has no hashes: it is damaged")
    wrong = [f"{name} is missing" for name in hashes if not (FOLDER / name).is_file()]
    for name, value in hashes.items():
        if (FOLDER / name).is_file() and hashlib.sha256((FOLDER / name).read_bytes()).hexdigest() != value:
            wrong.append(f"{name} has changed")
    same = len(hashes) - len(wrong)
    wrong += [f"{name} was added" for name in sorted(_sources()) if name not in hashes]
    for line in wrong:
        _say(line)
    _say(f"{same} of {len(hashes)} files are as they were")
    reason = _json("emulation.json").get("not_emulated")
    if reason:
        _say(f"not emulated: {reason}")
        return 1 if wrong else 0
    try:
        with np.load(FOLDER / "kerasnac" / "vectors.npz") as arrays:
            x, keras = arrays["x"], arrays["keras"]
    except Exception as error:  # whatever is wrong with the file, it is what the message says
        _stop(f"kerasnac/vectors.npz cannot be read: {error}")
    with tempfile.TemporaryDirectory() as temporary:
        copy = Path(temporary) / "project"
        ignore = shutil.ignore_patterns("*.so", "*_prj")
        shutil.copytree(FOLDER, copy, ignore=ignore, ignore_dangling_symlinks=True)
        for path in (copy, *copy.rglob("*")):
            if path.is_dir():
                path.chmod(0o755)  # This folder may be read-only.
        firmware = _emulated(copy, x)
    if firmware.shape != keras.shape:
        _stop(f"the emulation has outputs of shape {firmware.shape}, kerasnac/vectors.npz of {keras.shape}")
    different = np.argwhere(firmware != keras)
    _say(f"{keras.size - len(different)} of {keras.size} outputs of {len(x)} samples equal Keras")
    if len(different):
        sample, output = different[0]
        _say(f"first: sample {sample}, output {output}: Keras {keras[sample, output]}, firmware {firmware[sample, output]}")
        _say(f"largest difference: {np.abs(firmware.astype(np.float64) - keras).max():g}")
    good = not wrong and not len(different)
    _say("bit-exact" if good else "NOT validated")
    return 0 if good else 1


def _sources() -> set[str]:
    """Return the files that a compiler, a shell or Python may read in place of a delivered one; not those of vendors' tools."""
    found = set()
    for path in FOLDER.rglob("*"):
        name = path.relative_to(FOLDER)
        inside = path.suffix in (".h", ".hpp", ".cpp", ".sh", ".py") or "firmware" in name.parts or name.parts[0] == "kerasnac"
        theirs = path.suffix in (".log", ".so", ".o", ".pyc") or any(part.endswith("_prj") for part in name.parts)
        if inside and not theirs and (path.is_file() or path.is_symlink()):
            found.add(name.as_posix())
    return found


def _emulated(project: Path, x: np.ndarray) -> np.ndarray:
    compiler = os.environ.get("CXX", "").strip() or "g++"
    try:
        found = shutil.which(shlex.split(compiler)[0])
    except ValueError as error:
        _stop(f"CXX is {compiler!r}, which is no command: {error}")
    if found is None:
        _stop(f"the C++ compiler {compiler!r} is not installed: install g++, or set CXX to another one")
    for old in project.glob("firmware/*.so"):
        old.unlink()
    _run(["bash", "build_lib.sh"], project, "the C++ emulation does not compile")
    np.save(project / "in.npy", x)
    script = [sys.executable, str(project / "kerasnac" / "emulate.py"), str(project), "in.npy", "out.npy"]
    _run(script, project, "the C++ emulation failed")
    result: np.ndarray = np.load(project / "out.npy")
    return result


def _run(command: list[str], folder: Path, problem: str) -> None:
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        lines = (done.stdout + done.stderr).splitlines()
        _stop(f"{problem}: {next((line for line in lines if 'error' in line.lower()), lines[-1] if lines else 'no output')}")


def _json(name: str) -> dict[str, Any]:
    try:
        data = json.loads((FOLDER / name).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        _stop(f"{name} cannot be read: {error}")
    if not isinstance(data, dict):
        _stop(f"{name} is damaged: it is no JSON object")
    return data


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")


def _stop(problem: str) -> NoReturn:
    sys.stderr.write(f"error: {problem}\n")
    sys.exit(2)


if __name__ == "__main__":
    sys.exit(main())
