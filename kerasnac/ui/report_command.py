"""``kerasnac report``: the HTML report of a run, its figures and its tables."""

from __future__ import annotations

from pathlib import Path

import click


@click.command()
@click.argument("folder", type=click.Path(path_type=Path))
@click.option("--out", type=click.Path(dir_okay=False, path_type=Path), help="The file; report.html in FOLDER by default.")
@click.option("--open", "opened", is_flag=True, help="Open it in the web browser.")
@click.option(
    "--figures",
    type=click.Path(file_okay=False, path_type=Path),
    metavar="FOLDER",
    help="Write all figures there, too: PNG with 300 dpi and PDF, and the networks as SVG.",
)
@click.option(
    "--tables",
    type=click.Path(file_okay=False, path_type=Path),
    metavar="FOLDER",
    help="Write all tables there, too: CSV, and Parquet if pyarrow is installed.",
)
def report(folder: Path, out: Path | None, opened: bool, figures: Path | None, tables: Path | None) -> None:
    r"""Write the report of the run in FOLDER, finished or not: one HTML file that needs no network.

    Reads the folder without a lock and without TensorFlow, also while the run goes on. What is damaged or missing is named in
    the report.

    \b
    Examples:
      kerasnac report runs/jets --open
      kerasnac report runs/jets --out jets.html --figures paper/figures --tables paper/tables
    """
    from kerasnac.stages.results.saved import open_run
    from kerasnac.ui.report import page

    run = open_run(folder)
    made = page.write(run, out or folder / page.NAME)
    click.echo(f"{made}: {made.stat().st_size / 1e6:.1f} MB")
    for place, write, what in ((figures, page.write_figures, "figures"), (tables, page.write_tables, "tables")):
        if place is not None:
            click.echo(f"{place}: {len(write(run, place))} files of {what}")
    if opened:
        click.launch(str(made))
