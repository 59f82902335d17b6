"""Pages of ``docs/results``: ``python docs/results.py PAGE RUN [RUN...]`` writes one from the folders of finished runs.

PAGE is ``bragg``, ``jets_deepsets``, ``jets_mlp``, ``qubit`` or ``luts``. A page has what the runs recorded: command, seed,
versions, hours, tables with the published numbers, figures, the verdicts of the firmware. What a person has to say stands in
``PAGE.notes.md``, which is put into the page and never written here. Without arguments the index is written again.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

from matplotlib import rc_context
from matplotlib.figure import Figure
from numpy import linspace

from kerasnac.errors import KerasnacError
from kerasnac.stages.results.layout import SETTINGS
from kerasnac.stages.results.published import Study, study_of
from kerasnac.stages.results.saved import SavedRun, open_run
from kerasnac.stages.results.side_by_side import Entry, chosen, entries
from kerasnac.ui import charts, figures_static, plots, side_by_side
from kerasnac.ui.figures import Chart
from kerasnac.ui.report.charts import front
from kerasnac.ui.report.points import points_of

FOLDER = Path(__file__).with_suffix("")

#: A figure larger than this is drawn again with fewer dots per inch.
MOST_BYTES = 150_000

#: Models of a front that stand in a table, at most.
MOST_ROWS = 16

#: Resolutions that are tried.
DPI = (110, 80, 60)


@dataclass(frozen=True)
class Page:
    """A page.

    Attributes:
        title: Its heading.
        question: What the study asks.
        curves: True for ROC curves or distances, and for a table of what is quoted of them.
        references: True for the classical methods and boosted trees in the table.
        figures: Beginnings of the keys of the figures that it has.
    """

    title: str
    question: str
    curves: bool = True
    references: bool = False
    figures: tuple[str, ...] = ("front-", "compression-bops", "compression-adder_luts", "trees")


PAGES = {
    "bragg": Page(
        "Bragg peaks",
        "Networks for the centre of Bragg peaks: distance against bit operations, beside BraggNN and NAC's base network.",
        references=True,
    ),
    "jets_deepsets": Page("Jets, Deep Sets", "Jets of five classes from lists of particles: accuracy against bit operations."),
    "jets_mlp": Page(
        "Jets, MLP with hardware objectives",
        "Accuracy, average resources and clock cycles by rule4ml as objectives, against bit operations over the same space.",
    ),
    "qubit": Page(
        "Qubit readout",
        "Ground or excited from I and Q traces: fidelity against cost, with the window as a gene, beside filters.",
        references=True,
    ),
    "luts": Page(
        "The LUT frontier",
        "Accuracy per look-up table on jets with 16 features: learned widths and tables, and boosted trees as the yardstick.",
        curves=False,
        references=True,
    ),
}


def write(name: str, folders: Sequence[Path], place: Path = FOLDER, *, cores: int | None = None) -> Path:
    """Write a page with its figures, the settings of its runs, and the index; return its path.

    Args:
        name: Key of :data:`PAGES`.
        folders: Run folders.
        place: Folder of the pages.
        cores: Cores that the runs had, which nothing records.

    Raises:
        KerasnacError: If a folder holds no run, or the run has no models yet.
    """
    runs = [open_run(folder) for folder in folders]
    drawn = draw(name, runs, place)
    for run in runs:
        if (run.folder / SETTINGS).is_file():
            (place / _settings(name, run, runs)).write_bytes((run.folder / SETTINGS).read_bytes())
    notes = place / f"{name}.notes.md"
    if not notes.exists():
        notes.parent.mkdir(parents=True, exist_ok=True)
        notes.write_text("Nothing is written here yet.\n", encoding="utf-8")
    path = place / f"{name}.md"
    path.write_text(text(name, runs, drawn, notes.read_text(encoding="utf-8"), cores), encoding="utf-8")
    index(place)
    return path


def text(name: str, runs: Sequence[SavedRun], drawn: Sequence[tuple[str, str]], notes: str, cores: int | None = None) -> str:
    """Return a page.

    Args:
        name: Key of :data:`PAGES`.
        runs: Its runs.
        drawn: Title and file name of every figure.
        notes: What a person has to say.
        cores: Cores that the runs had; None to leave it out.
    """
    page, study = PAGES[name], _study(runs)
    found = found_in(name, runs)
    further = side_by_side.curves(runs, found) if page.curves else []
    shown = [f"![{title}]({file})" for title, file in drawn]
    claims = [f"* {claim.text}{f' ({claim.read})' if claim.read else ''}" for claim in study.claims] if study else []
    parts = [
        f"# {page.title}",
        page.question,
        f"Written by `python docs/results.py {name} {' '.join(run.folder.name for run in runs)}` from what the runs recorded; "
        f"the section on differences is `{name}.notes.md`.",
        "## How it was made",
        *(_made(run, _settings(name, run, runs), cores) for run in runs),
        "## Results",
        f"Published: {study.title}." if study else "",
        side_by_side.markdown(found, further).rstrip(),
        "### Hardware" if any(run.firmware for run in runs) else "",
        *_verdicts(runs),
        "## Figures" if shown else "",
        *shown,
        "## What differs, and why",
        notes.strip(),
        "Published claims, and what is known of the published numbers:" if claims else "",
        "\n".join(claims),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def found_in(name: str, runs: Sequence[SavedRun]) -> list[Entry]:
    """Return the rows of a page's table: what the runs have chosen, references, and the published networks."""
    given = [(run, _rows(name, run)) for run in runs]
    return entries(given, references=PAGES[name].references, published=_study(runs) is not None)


def _rows(name: str, run: SavedRun) -> list[str]:
    """Return the models of a run that stand on a page; of the LUT frontier, evenly spread ones of the whole front."""
    if name == "luts" and run.compressed is not None and run.compressed.front:
        front = [model.name for model in run.compressed.front]
        places = linspace(0, len(front) - 1, min(len(front), MOST_ROWS)).round().astype(int)
        return [front[place] for place in places]
    return chosen(run)


def draw(name: str, runs: Sequence[SavedRun], place: Path) -> list[tuple[str, str]]:
    """Draw the figures of a page; return title and file name, below the page's folder, of each."""
    drawn = []
    for stale in (place / name).glob("*.png"):
        stale.unlink()
    for run in runs:
        for chart in _charts(run):
            if any(chart.key.startswith(key) for key in PAGES[name].figures):
                file = f"{name}/{_slug(run, runs)}{chart.key}.png"
                _save(figures_static.draw(chart), place / file)
                drawn.append((f"{run.folder.name}: {chart.title}", file))
        if run.search is not None and len(run.search.objectives) > 2:
            file = f"{name}/{_slug(run, runs)}fronts.png"
            _save(plots.objectives(run.search), place / file)
            drawn.append((f"{run.folder.name}: fronts of all pairs of objectives, and of all three", file))
        shown = {one.model for one in entries([(run, _rows(name, run))], references=PAGES[name].references)}
        if PAGES[name].curves and (own := {model: made for model, made in run.curves.items() if model in shown}):
            file = f"{name}/{_slug(run, runs)}curves.png"
            _save(plots.curves(own), place / file)
            drawn.append((f"{run.folder.name}: curves on the test split", file))
    return drawn


def _charts(run: SavedRun) -> Iterator[Chart]:
    points = points_of(run)
    costs = [run.search.cost if run.search else "bops", "bops", "adder_luts"]
    made = (front(run, points, cost) for cost in dict.fromkeys(costs))
    yield from (one for one in made if one is not None)
    if run.compressed is not None and run.compressed.models:
        yield from charts.compression(run.compressed, run.classical)
    if run.trees is not None:
        yield charts.trees(run.trees, run.compressed, run.yosys)


def _slug(run: SavedRun, runs: Sequence[SavedRun]) -> str:
    return "" if len(runs) == 1 else re.sub(r"[^a-z0-9]+", "-", run.folder.resolve().name.lower()) + "-"


def _save(figure: Figure, path: Path) -> None:
    """Write a figure with as many dots per inch as its size allows."""
    content = BytesIO()
    for dpi in DPI:
        content = BytesIO()
        with rc_context(figures_static.STYLE):
            figure.savefig(content, format="png", dpi=dpi)
        if len(content.getvalue()) < MOST_BYTES:
            break
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content.getvalue())


def _study(runs: Sequence[SavedRun]) -> Study | None:
    for run in runs:
        try:
            return study_of(run)
        except KerasnacError:
            continue
    return None


def _settings(name: str, run: SavedRun, runs: Sequence[SavedRun]) -> str:
    """Return where a page keeps the settings of a run, below the folder of the pages."""
    return f"{name}/{_slug(run, runs)}run.yaml"


def _made(run: SavedRun, settings: str, cores: int | None) -> str:
    """Return how a run was made: command, seed, data, versions, hours by stage."""
    told = ", ".join(f"{name} {value}" for name, value in run.versions.items())
    spent = [(state.stage, state.done, state.seconds) for state in run.states]
    rows = [(stage, str(done), "" if seconds is None else f"{seconds / 3600:.2f}") for stage, done, seconds in spent]
    hours = sum(seconds or 0.0 for _, _, seconds in spent) / 3600
    table = side_by_side.markdown_table(("stage", "done", "hours"), [*rows, ("all", "", f"{hours:.2f}")])
    seed = "" if run.seed is None else f" --seed {run.seed}"
    return "\n".join(
        [
            f"**{run.folder.name}** ({run.name}: {run.settings.get('description', '')}). `kerasnac run "
            f"docs/results/{settings} --out NEW{seed}` repeats it; files of data are given with `--data`.",
            "",
            f"* data: {run.dataset}",
            f"* versions: {told or 'not recorded'}",
            f"* wall time{f' on {cores} cores' if cores else ''}:",
            "",
            table,
        ]
    )


def _verdicts(runs: Sequence[SavedRun]) -> Iterator[str]:
    """Yield one line per model that was converted, or refused."""
    for run in runs:
        lines = [f"* {made.trained.name}: {made.verdict}" for made in run.firmware]
        lines += [f"* {name}: {reason}" for name, reason in run.refused.items()]
        if lines:
            yield f"{run.folder.name}:\n\n" + "\n".join(lines)


def index(place: Path = FOLDER) -> None:
    """Write the index of the pages that there are."""
    place.mkdir(parents=True, exist_ok=True)
    (place / "README.md").write_text(index_text(place), encoding="utf-8")


def index_text(place: Path = FOLDER) -> str:
    """Return the index of the pages that there are."""
    lines = ["# Results", "", "The studies of the papers, repeated with kerasnac. Each page says how it was made.", ""]
    for name, page in PAGES.items():
        there = (place / f"{name}.md").exists()
        title = f"[{page.title}]({name}.md)" if there else f"{page.title} (no run yet)"
        lines.append(f"* {title}: {page.question}")
    lines += ["", "`python docs/results.py PAGE RUN [RUN...]` writes a page from run folders."]
    return "\n".join(lines) + "\n"


def main() -> None:
    """Write a page, or the index."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("page", nargs="?", choices=PAGES)
    parser.add_argument("runs", nargs="*", type=Path)
    parser.add_argument("--cores", type=int, help="cores that the runs had")
    parser.add_argument("--to", type=Path, default=FOLDER, help="folder of the pages")
    given = parser.parse_args()
    if given.page is None:
        index(given.to)
    elif not given.runs:
        parser.error("name the folders of the runs")
    else:
        write(given.page, given.runs, given.to, cores=given.cores)


if __name__ == "__main__":
    main()
