"""Commands on finished and running runs: what they found, side by side, and as files."""

from __future__ import annotations

from pathlib import Path

import click

from kerasnac.ui.console import console

folder_argument = click.argument("folder", type=click.Path(path_type=Path))


@click.command()
@folder_argument
@click.argument("model", required=False)
def show(folder: Path, model: str | None) -> None:
    r"""Show the run in FOLDER, finished or not, or one MODEL of it through all stages.

    Reads the folder without a lock and without TensorFlow, also while the run goes on. What is damaged or missing is named.
    MODEL is the name of a candidate, of a tuned or compressed model, or of boosted trees; its beginning will do.

    \b
    Examples:
      kerasnac show runs/jets
      kerasnac show runs/jets 8f3a
    """
    from kerasnac.stages.results.saved import open_run
    from kerasnac.ui import show as view

    run = open_run(folder)
    console().print(view.overview(run) if model is None else view.one_model(run, model), highlight=False, soft_wrap=False)


COMMANDS = (show,)
