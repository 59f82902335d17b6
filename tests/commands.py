"""The command line, called in the process of a test."""

from __future__ import annotations

from pathlib import Path

from click.testing import CliRunner, Result

from kerasnac.ui.cli import main


def kerasnac(*arguments: str | Path) -> Result:
    """Call a command; what is no error of a user is raised."""
    return CliRunner().invoke(main, [str(argument) for argument in arguments], catch_exceptions=False)
