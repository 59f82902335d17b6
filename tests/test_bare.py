"""The machine without optional tools, on which the tests run a second time."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

BARE = Path(__file__).with_name("bare.py")

#: Looks around in a process of a process.
LOOK = """
import importlib.machinery, importlib.metadata, importlib.util, json, shutil, subprocess, sys
if len(sys.argv) == 1:
    sys.exit(subprocess.run([sys.executable, __file__, "again"]).returncode)
found = {name: shutil.which(name) is not None for name in ("tool", "other", "sh")}
found |= {name: importlib.util.find_spec(name) is not None for name in ("yaml", "click")}
class Second:  # The finder that a package brings, as importlib_metadata does.
    find_spec = staticmethod(lambda *_: None)
    find_distributions = staticmethod(importlib.machinery.PathFinder.find_distributions)
sys.meta_path.append(Second)
found["PyYAML"] = "PyYAML" in {distribution.metadata["Name"] for distribution in importlib.metadata.distributions()}
print(json.dumps(found))
"""


def bare(folder: Path, hidden: str, *command: str) -> subprocess.CompletedProcess[str]:
    for name in ("tool", "other"):
        (folder / name).write_text("#!/bin/sh\n")
        (folder / name).chmod(0o755)
    environment = {**os.environ, "PATH": f"{folder}{os.pathsep}{os.environ['PATH']}"}
    arguments = [sys.executable, str(BARE), "--without", hidden, "--", *command]
    return subprocess.run(arguments, env=environment, capture_output=True, text=True)


def test_programs_and_packages_are_hidden_and_all_others_are_there(tmp_path: Path) -> None:
    (tmp_path / "look.py").write_text(LOOK)
    done = bare(tmp_path, "tool,yaml,pyyaml,not_installed", sys.executable, str(tmp_path / "look.py"))
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == {
        "tool": False,
        "other": True,
        "sh": True,
        "yaml": False,
        "click": True,
        "PyYAML": False,
    }


def test_the_exit_code_is_that_of_the_command(tmp_path: Path) -> None:
    assert bare(tmp_path, "tool", sys.executable, "-c", "raise SystemExit(7)").returncode == 7


def test_nothing_runs_if_something_cannot_be_hidden(tmp_path: Path) -> None:
    done = bare(tmp_path, "tool,marshal", sys.executable, "-c", "print('ran')")
    assert done.returncode != 0
    assert "not hidden: marshal" in done.stderr
    assert done.stdout == ""
