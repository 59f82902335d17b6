"""Help of all commands, and completion by shells."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from kerasnac.ui.cli import main
from kerasnac.ui.exits import EPILOG, Exit
from tests.commands import kerasnac

PAGE = Path(__file__).parents[2] / "docs" / "troubleshooting.md"


def commands(group: click.Group, *above: str) -> Iterator[tuple[str, ...]]:
    for name, command in group.commands.items():
        yield (*above, name)
        if isinstance(command, click.Group):
            yield from commands(command, *above, name)


@pytest.mark.parametrize("command", list(commands(main)), ids=" ".join)
def test_every_command_has_an_example_of_itself(command: tuple[str, ...]) -> None:
    text = kerasnac(*command, "--help").stdout
    examples = text.partition("Examples:\n")[2].partition("\n\n")[0].splitlines()
    assert examples
    assert "\\b" not in text
    assert all(re.match(r" +(eval \"\$\()?kerasnac ", line) for line in examples)
    assert f"kerasnac {' '.join(command)}" in examples[0]


def test_exit_codes_are_the_same_everywhere() -> None:
    in_help = set(map(int, re.findall(r"^  (\d+)  ", EPILOG, re.M)))
    in_page = set(map(int, re.findall(r"^\| (\d+) \|", PAGE.read_text(encoding="utf-8"), re.M)))
    assert in_help == in_page == set(map(int, Exit))
    assert "143  stopped by SIGTERM" in kerasnac("--help").stdout


def completed(*words: str) -> list[str]:
    """What a shell offers for the last word."""
    asked = {"_KERASNAC_COMPLETE": "bash_complete", "COMP_WORDS": " ".join(words), "COMP_CWORD": str(len(words) - 1)}
    code = "from kerasnac.ui.cli import main; main(prog_name='kerasnac')"
    done = subprocess.run([sys.executable, "-c", code], env={**os.environ, **asked}, capture_output=True, text=True, check=True)
    return [line.partition(",")[2] for line in done.stdout.splitlines()]


def test_completion(folder: Path) -> None:
    assert "jets_mlp" in completed("kerasnac", "run", "jets")
    assert completed("kerasnac", "run", "digits", "--profile", "") == ["quick"]
    (model,) = [path.name for path in sorted((folder / "tuned").iterdir())][:1]
    assert model in completed("kerasnac", "show", str(folder), model[:3])
    assert f"{folder}:{model}" in completed("kerasnac", "table", f"{folder}:{model[:3]}")
    assert "--log" in completed("kerasnac", "resume", "--l")


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_scripts_of_shells(shell: str) -> None:
    assert "_KERASNAC_COMPLETE" in kerasnac("completion", shell).stdout


def test_help_takes_no_time() -> None:
    """Neither do imports: processor time, since others may use the machine."""
    for code in ("import kerasnac", "from kerasnac.ui.cli import main; main(['--help'])"):
        before = os.times()
        subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)
        after = os.times()
        assert after.children_user + after.children_system - before.children_user - before.children_system < 0.5
