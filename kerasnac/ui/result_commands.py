"""Commands on finished and running runs: what they found, side by side, and as files."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from kerasnac.ui.completion import models, runs_and_models
from kerasnac.ui.console import console
from kerasnac.ui.report_command import report

if TYPE_CHECKING:
    from kerasnac.stages.results.saved import SavedRun

folder_argument = click.argument("folder", type=click.Path(path_type=Path))


@click.command()
@folder_argument
@click.argument("model", required=False, shell_complete=models)
def show(folder: Path, model: str | None) -> None:
    r"""Show the run in FOLDER, finished or not, or one MODEL of it through all stages.

    In place of FOLDER also a baseline (`kerasnac spaces` lists them), a JSON file as `kerasnac export --to json` writes it, a
    Keras model or the folder of a saved one: its layers are shown.

    Reads the folder without a lock and without TensorFlow, also while the run goes on. What is damaged or missing is named.
    MODEL is the name of a candidate, of a tuned or compressed model, or of boosted trees; its beginning will do.

    \b
    Examples:
      kerasnac show runs/jets
      kerasnac show runs/jets 8f3a
      kerasnac show braggnn
    """
    from kerasnac.stages.results.saved import open_run
    from kerasnac.ui import networks
    from kerasnac.ui import show as view

    if networks.is_one(folder):
        if model is not None:
            raise click.UsageError(f"{folder} is one network: leave {model} out")
        console().print(networks.one(folder), highlight=False)
        return
    run = open_run(folder)
    console().print(view.overview(run) if model is None else view.one_model(run, model), highlight=False, soft_wrap=False)


@click.command()
@click.argument("models", metavar="RUN[:MODEL]...", nargs=-1, required=True, shell_complete=runs_and_models)
@click.option(
    "--format",
    "form",
    type=click.Choice(["text", "markdown", "csv", "latex"]),
    default="text",
    show_default=True,
    help="How to write it.",
)
@click.option("--out", type=click.Path(path_type=Path, dir_okay=False), help="File to write, in place of the screen.")
@click.option("--estimate", is_flag=True, help="Estimate by rule4ml and adder graph what is not recorded: seconds per model.")
@click.option("--board", metavar="BOARD", help="Board or part of these estimates.")
@click.option("--references", is_flag=True, help="Classical methods and boosted trees of the runs, too, if they have some.")
@click.option("--published", is_flag=True, help="The published networks of the study, too; see docs/results.")
@click.option(
    "--curves", is_flag=True, help="Areas under ROC curves and rejections, or quantiles of distances, too: text and Markdown."
)
def table(
    models: tuple[str, ...],
    form: str,
    out: Path | None,
    estimate: bool,
    board: str | None,
    references: bool,
    published: bool,
    curves: bool,
) -> None:
    r"""Put models of any runs side by side.

    A RUN alone stands for its tuned models and those that became firmware. Metrics are of the validation split, and of the
    test split with 95 % intervals; BOPs are at the widths that stand beside them. Estimates (rule4ml, adder graph, high-level
    synthesis) and synthesis (Yosys, Vivado) are in tables of their own. Yosys' counts are those of the run and of `kerasnac
    rtl MODEL --out RUN/rtl/NAME`; the vendor's are there once `kerasnac firmware import-report` has read them. Shares of
    resources are of the board of the run's firmware.

    \b
    Examples:
      kerasnac table runs/jets
      kerasnac table runs/bragg --published --curves --format markdown
      kerasnac table runs/jets:8f3a-w6a6-i04 runs/other --format latex --out table.tex
    """
    from kerasnac.core.hardware.boards import DEFAULT_BOARD
    from kerasnac.core.hardware.boards import board as board_named
    from kerasnac.stages.results.side_by_side import entries
    from kerasnac.ui import side_by_side, tables

    chosen = board_named(board or DEFAULT_BOARD) if estimate or board else None
    runs = [_run_and_model(one) for one in models]
    found = entries(runs, board=chosen, references=references, published=published)
    shown = side_by_side.curves([run for run, _ in runs], found) if curves else []
    if form == "text" and out is None:
        console().print(side_by_side.text(found, shown), highlight=False)
        return
    write = {
        "text": lambda: tables.as_text(side_by_side.text(found, shown)),
        "markdown": lambda: side_by_side.markdown(found, shown),
        "csv": lambda: side_by_side.csv(found),
        "latex": lambda: side_by_side.latex(found),
    }
    _deliver(write[form](), out)


def _run_and_model(given: str) -> tuple[SavedRun, list[str]]:
    """Return the run and the model of an argument ``RUN:MODEL``; a folder may have a colon in its name."""
    from kerasnac.stages.results.saved import open_run

    folder, colon, name = given.rpartition(":")
    if Path(given).exists() or not colon:
        return open_run(given), []
    return open_run(folder), [name] if name else []


def _deliver(text: str, out: Path | None) -> None:
    """Write a text to a file, or to the screen."""
    from kerasnac.core.store.files import write_text

    if out is None:
        click.echo(text, nl=not text.endswith("\n"))
        return
    write_text(out, text if text.endswith("\n") else text + "\n")
    click.echo(f"written to {out}", err=True)


@click.command()
@click.argument("folders", metavar="RUN...", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--cost", metavar="NAME", help="The cost of the fronts, as bops or adder_luts; by default that of the first run.")
@click.option(
    "--reference", "ends", metavar="NAME=VALUE", multiple=True, help="Reference point: metric=0.5, or bops=1e6. Repeatable."
)
@click.option(
    "--plot",
    type=click.Path(path_type=Path, dir_okay=False),
    default="compare.png",
    show_default=True,
    help="File of the plot.",
)
def compare(folders: tuple[Path, ...], cost: str | None, ends: tuple[str, ...], plot: Path) -> None:
    r"""Put the fronts of several runs into one box, with hypervolumes on one reference point.

    Compares the fronts of the searches, and those of the compressed models, on the validation split. Writes a plot, too.

    \b
    Examples:
      kerasnac compare runs/bops runs/luts
      kerasnac compare runs/a runs/b --cost adder_luts --reference metric=0.55 --reference adder_luts=10000
    """
    from kerasnac.core.store.files import write_bytes
    from kerasnac.stages.results.compare import boxes, different_data
    from kerasnac.stages.results.saved import open_run
    from kerasnac.ui import comparison, plots

    runs = [open_run(folder) for folder in folders]
    found = boxes(runs, cost=cost, reference=dict(map(_end, ends)))
    screen = console()
    if remark := different_data(runs):
        screen.print(remark, highlight=False)
    for box in found:
        screen.print(comparison.volumes(box), highlight=False)
        screen.print(comparison.joint(box), highlight=False)
    write_bytes(plot, plots.png(comparison.figure(found)))
    screen.print(f"plot: {plot}", highlight=False, soft_wrap=True)


def _end(text: str) -> tuple[str, float]:
    """Return name and value of ``bops=1e6``."""
    name, _, value = text.partition("=")
    try:
        return name.strip(), float(value)
    except ValueError:
        raise click.BadParameter(f"{text!r} is no name with a number, as metric=0.5", param_hint="--reference") from None


@click.command()
@folder_argument
@click.argument("model", shell_complete=models)
@click.option(
    "--to",
    type=click.Choice(["keras", "qkeras", "json", "csv", "onnx"]),
    required=True,
    help="keras: float, one file. qkeras: quantized, one file. json: the layers. csv: a folder, a table per array of weights. "
    "onnx: refused, with the reason.",
)
@click.option("--out", type=click.Path(path_type=Path), help="File or folder; by default named after the model, and here.")
def export(folder: Path, model: str, to: str, out: Path | None) -> None:
    r"""Write MODEL of the run in FOLDER as a file that others read.

    A qkeras file is read by `kerasnac.load_keras`, a keras file by Keras 2 (tf_keras); the json file may be a seed or a
    baseline of a run file. Weights in csv are rounded to their formats where the model is quantized. ONNX is not possible,
    and --to onnx says why. Firmware is in FOLDER/firmware already.

    \b
    Examples:
      kerasnac export runs/jets 8f3a --to keras --out tagger.keras
      kerasnac export runs/jets 8f3a-w6a6-i04 --to csv
    """
    from kerasnac.stages.results.export import export as write
    from kerasnac.stages.results.saved import open_run

    path = write(open_run(folder), model, to, out)
    click.echo(f"written to {path}")


@click.command()
@click.argument("data", type=click.Path(path_type=Path))
@click.option("--task", type=click.Choice(["classification", "regression", "anomaly"]), help="By default the labels tell.")
@click.option("--x", "samples", metavar="NAME", help="Array of the samples; by default x, images, features, ...")
@click.option("--y", "labels", metavar="NAME", help="Array or column of the labels; by default y, label, target, ...")
@click.option(
    "--out", type=click.Path(path_type=Path, dir_okay=False), help="Run file to write; by default named after DATA, and here."
)
def init(data: Path, task: str | None, samples: str | None, labels: str | None, out: Path | None) -> None:
    r"""Write a run file, with comments, for DATA: a file or a folder.

    DATA may have one of the known layouts (jets, Bragg peaks, I/Q traces), or be an npz, HDF5, CSV or ARFF file of samples
    and labels. Says what it took them for. Shapes, classes and grid are read from DATA; the space is a start, to be edited.

    \b
    Examples:
      kerasnac init events.csv --y is_signal
      kerasnac init hits.h5 --x train/images --y train/centres --task regression --out hits.yaml
    """
    from kerasnac.core.settings.yaml_files import load_run
    from kerasnac.core.store.files import write_text
    from kerasnac.datasets.recognise import recognise
    from kerasnac.errors import ConfigError
    from kerasnac.ui.run_files import run_file, source_text

    file = out or Path(f"{data.resolve().stem}.yaml")
    if file.exists():
        raise ConfigError(f"{file} is there already: give --out another name")
    found = recognise(data, task=task, samples=samples, labels=labels)
    write_text(file, run_file(found, data, file))
    load_run(file)
    click.echo(f"{data} was taken for {source_text(found)}")
    for line in (*found.reasons, found.data.describe()):
        click.echo(f"  {line}")
    click.echo(f"written to {file}; try it: kerasnac run {file} --profile quick --out runs/{file.stem}")


COMMANDS = (show, report, table, compare, export, init)
