"""The report of a run as one HTML file, and its figures and tables as files."""

from __future__ import annotations

import functools
import re
from collections.abc import Iterator
from importlib import resources
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kerasnac.core.store.files import write_bytes
from kerasnac.errors import ConfigError, EnvironmentProblem
from kerasnac.stages.results.saved import SavedRun
from kerasnac.ui import figures, show
from kerasnac.ui.report.drawing import Drawing
from kerasnac.ui.report.files import for_script
from kerasnac.ui.report.grids import Grid, text_of
from kerasnac.ui.report.sections import Material, sections

if TYPE_CHECKING:
    import pandas as pd
    from jinja2 import Environment

#: Name of the report in the run folder.
NAME = "report.html"

_TEMPLATES = "kerasnac.ui.report"


def write(run: SavedRun, path: Path) -> Path:
    """Write the report of a run as one HTML file that needs no network.

    Args:
        run: The run, finished or not.
        path: The file; replaced if it exists.

    Raises:
        EnvironmentProblem: If it cannot be written, or plotly is missing.
    """
    write_bytes(path, page(run).encode("utf-8", "xmlcharrefreplace"))  # Names may hold halves of characters.
    return path


def page(run: SavedRun) -> str:
    """Return the report of a run as HTML."""
    made = sections(Material(run))
    data = {
        "charts": {c.key: figures.plotly(c) for section in made for c in section.charts},
        "explorers": {e.key: e.to_dict() for section in made for e in section.explorers},
        "parallels": {p.key: p.to_dict() for section in made for p in section.parallels},
        "colors": dict(figures.COLORS),
    }
    return (
        _environment()
        .get_template("report.html")
        .render(
            run=run,
            head=show.head(run),
            sections=made,
            data=for_script(data),
            plotly=plotly_script(),
            style=_text("report.css"),
            script=_text("report.js"),
        )
    )


def write_figures(run: SavedRun, folder: Path) -> list[Path]:
    """Write all figures of the report: PNG, PDF, and drawings of networks as SVG; and return the paths.

    Raises:
        EnvironmentProblem: If they cannot be written.
    """
    from kerasnac.ui import figures_static

    _make(folder)
    made = sections(Material(run))
    charts = {chart.key: chart for section in made for chart in (*section.charts, *section.print_only)}
    paths = figures_static.save(charts.values(), folder)
    for drawing in (drawing for section in made for drawing in section.drawings):
        path = folder / f"{drawing.key}.svg"
        write_bytes(path, svg(drawing).encode("utf-8", "xmlcharrefreplace"))
        paths.append(path)
    return paths


def svg(drawing: Drawing) -> str:
    """Return the drawing of a network as SVG that stands alone."""
    return _environment().get_template("network.svg").render(drawing=drawing)


def write_tables(run: SavedRun, folder: Path) -> list[Path]:
    """Write all tables of the report, and those of all points, as CSV, and as Parquet if pyarrow is installed.

    Raises:
        EnvironmentProblem: If they cannot be written.
    """
    _make(folder)
    paths = []
    for name, frame in _frames(run):
        path = folder / f"{name}.csv"
        write_bytes(path, frame.to_csv(index=False).encode("utf-8", "backslashreplace"))
        paths.append(path)
        if find_spec("pyarrow") is not None:
            texts = {str(column): frame[column].astype(str) for column in frame if frame[column].dtype == object}
            frame.assign(**texts).to_parquet(path.with_suffix(".parquet"), index=False)
            paths.append(path.with_suffix(".parquet"))
    return paths


def _frames(run: SavedRun) -> Iterator[tuple[str, pd.DataFrame]]:
    import pandas as pd

    for grid in (grid for section in sections(Material(run)) for grid in section.grids):
        yield grid.key, pd.DataFrame(list(grid.rows), columns=list(grid.columns))
    whole: dict[str, Any] = {"all-candidates": run.search, "all-compressed": run.compressed, "all-trees": run.trees}
    for name, result in whole.items():
        if result is not None:
            yield name, result.frame()
    if run.confusion:
        from kerasnac.stages.run.curves import confusion_frame

        yield "confusion", confusion_frame(run.confusion, run.task.names)
    if trials := [record for records in run.trials.values() for record in records]:
        yield "all-trials", pd.DataFrame(trials)


def _make(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"{folder}: {error.strerror}; give another folder") from error


@functools.cache
def _environment() -> Environment:
    from jinja2 import Environment, PackageLoader, StrictUndefined

    made = Environment(
        loader=PackageLoader(_TEMPLATES), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    made.filters["cell"] = text_of
    made.tests["number"] = lambda value: isinstance(value, int | float)
    made.globals["wide"] = _is_wide
    return made


def _is_wide(grid: Grid) -> bool:
    return len(grid.columns) > 8


@functools.cache
def _text(name: str) -> str:
    return (resources.files(_TEMPLATES) / "templates" / name).read_text(encoding="utf-8")


@functools.cache
def plotly_script() -> str:
    """Return the script of plotly, from the installed package.

    Raises:
        EnvironmentProblem: If it is not installed.
    """
    try:
        from plotly.offline import get_plotlyjs
    except ImportError as error:
        raise EnvironmentProblem(f"the report needs plotly, which cannot be imported: {error}; pip install plotly") from error
    script = str(get_plotlyjs())
    return re.sub(r"</(?=script)", r"<\\/", script, flags=re.IGNORECASE)
