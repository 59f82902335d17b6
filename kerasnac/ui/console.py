"""The screen that commands write their tables to."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console


def console() -> Console:
    """Return the terminal, or a page of the usual width in a file or a pipe."""
    from rich.console import Console

    from kerasnac.ui import tables

    screen = Console()
    return screen if screen.is_terminal else Console(width=tables.WIDTH)  # a pipe has no width of its own
