"""The results of a command that runs stages: printed, and written into the run folder."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import RenderableType

    from kerasnac.stages.run import Outcome


def printed(result: Outcome, until: str | None) -> list[RenderableType]:
    """Return what to print.

    Args:
        result: All results so far.
        until: The last stage that was to run; None for all.
    """
    from kerasnac.ui import tables

    if until == "tune":
        return [tables.tuned(result)]
    if until == "compress":
        return [tables.compressed(result)]
    return [tables.outcome(result), *(f"{made.trained.name}: {made.verdict}" for made in result.firmware)]


def written(result: Outcome, folder: Path, until: str | None) -> list[str]:
    """Write tables, plots and the report; of a finished run that was only read, nothing: they are there.

    Returns:
        Names of what is in the folder.
    """
    from kerasnac.stages.results.complete import is_shown, note_shown

    if until is not None:
        return [report(folder), f"{until}.jsonl"]
    if not is_shown(folder):
        from kerasnac.core.store.files import write_text
        from kerasnac.stages.run.folder import SHOWN
        from kerasnac.ui import plots, tables

        write_text(folder / "summary.txt", tables.as_text(tables.outcome(result)))
        plots.save_all(result, folder)
        report(folder)
        note_shown(folder, SHOWN)
    extra = {"curves.png": result.curves, "trees.png": result.trees, "firmware/": result.firmware}
    usual = ("report.html", "summary.txt", "search.png", "tune.png", "compress.png")
    return [*usual, *(name for name, there in extra.items() if there)]


def report(folder: Path) -> str:
    """Write the report of a run folder; return its name."""
    from kerasnac.stages.results.saved import open_run
    from kerasnac.ui.report import page

    return page.write(open_run(folder), folder / page.NAME).name
