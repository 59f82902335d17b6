"""The command line. Heavy imports are inside the commands, so that ``kerasnac --help`` is instant."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass, fields
from functools import partial, reduce, wraps
from io import TextIOWrapper
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from kerasnac import __version__
from kerasnac.core.hardware.boards import DEFAULT_BOARD
from kerasnac.ui.console import console
from kerasnac.ui.exits import Exit, complain, drop_output, exit_with
from kerasnac.ui.firmware_commands import firmware, input_grid_option, model_argument
from kerasnac.ui.result_commands import COMMANDS

if TYPE_CHECKING:
    from kerasnac.core.hardware.hls_options import HlsOptions
    from kerasnac.core.settings import AdderGraphSettings, DatasetSettings, RunSettings
    from kerasnac.core.store.progress import Progress
    from kerasnac.stages.run import Outcome

Result = TypeVar("Result")


class _Group(click.Group):
    """A group that prints an error of the user as one message and exits with its code; a bug keeps its traceback."""

    def invoke(self, context: click.Context) -> Any:
        try:
            return super().invoke(context)
        except (Exception, KeyboardInterrupt) as error:
            exit_with(error)
            raise

    def main(self, *arguments: Any, **options: Any) -> Any:
        if isinstance(sys.stdout, TextIOWrapper):
            sys.stdout.reconfigure(errors="backslashreplace")  # Files of others hold characters that nobody can print.
        try:
            try:
                return super().main(*arguments, **options)
            finally:
                sys.stdout.flush()  # Here, where a full device can be told, and not when the interpreter ends.
        except OSError as error:
            drop_output()
            exit_with(error)
            raise


class _RunFolder(click.Path):
    """Path of a run folder; an empty one is none, and not the folder that the user happens to be in."""

    def convert(self, value: Any, parameter: click.Parameter | None, context: click.Context | None) -> Any:
        if not str(value):
            self.fail("it is empty: give a folder", parameter, context)
        return super().convert(value, parameter, context)


_workers = click.option("--workers", type=click.IntRange(min=1), help="Processes; all cores by default.")


def _cut(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command the options that say for which clock an adder graph is cut into pipeline stages."""
    options = (
        click.option(
            "--board", default=DEFAULT_BOARD, show_default=True, help="Board or part, for percentages, delays and constraints."
        ),
        click.option("--clock-period", type=float, metavar="NS", help="Clock period in nanoseconds; 5 by default."),
        click.option(
            "--latency-cutoff",
            type=click.IntRange(min=1),
            help="Adder levels between two registers; by default as many as fit into --clock-period, or 5 without one.",
        ),
    )
    return reduce(lambda made, option: option(made), reversed(options), command)


def _cut_for(board: str, clock_period: float | None, latency_cutoff: int | None) -> tuple[HlsOptions, AdderGraphSettings]:
    """Return part and clock, and the settings of an adder graph that is cut for them."""
    from kerasnac.core.hardware.boards import board as board_named
    from kerasnac.core.hardware.hls_options import HlsOptions
    from kerasnac.core.settings import AdderGraphSettings

    period = {} if clock_period is None else {"clock_period": clock_period}
    if latency_cutoff is not None:
        settings = AdderGraphSettings(latency_cutoff=latency_cutoff)
    else:
        settings = AdderGraphSettings() if clock_period is None else AdderGraphSettings(max_depth="clock")
    return HlsOptions.of(part=board_named(board).part, **period), settings


_scheduler = click.option(
    "--scheduler", metavar="ADDRESS", help="Use the workers of the Dask cluster at this address, tcp://host:8786."
)


@click.group(cls=_Group, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__)
def main() -> None:
    """Neural architecture codesign: from a dataset to bit-exact firmware."""


@dataclass(frozen=True)
class _Start:
    """The arguments that start a run."""

    file: str
    out: Path
    profile: str | None
    data: tuple[Path, ...]
    seed: int | None
    workers: int | None
    scheduler: str | None

    def settings(self, baselines: tuple[str, ...] = ()) -> RunSettings:
        """Read the settings of the file, with the changes that the command line makes."""
        from kerasnac.core.settings.yaml_files import load_run
        from kerasnac.core.space.references import Reference

        settings = load_run(self.file, profile=self.profile)
        changes: dict[str, Any] = {}
        if self.data:
            changes["dataset"] = _with_files(settings.dataset, self.data)
        if self.seed is not None:
            changes["seed"] = self.seed
        if baselines:
            known = (*settings.tune.baselines, *map(Reference.read, baselines))
            changes["tune"] = settings.tune.model_copy(update={"baselines": known})
        return settings.model_copy(update=changes)


def _with_files(dataset: DatasetSettings, files: tuple[Path, ...]) -> DatasetSettings:
    """Return the settings of a dataset with other files, or with toy data in place of any."""
    from kerasnac.datasets import TOY, TOYS
    from kerasnac.errors import ConfigError

    if files == (Path(TOY),) and not files[0].exists():
        if dataset.source not in TOYS:
            raise ConfigError(
                f"--data {TOY}: there are no toy data for the dataset {dataset.source}, only for {', '.join(TOYS)}"
            )
        left = {key: value for key, value in dataset.options.items() if key != "path"}
        return type(dataset)(source=TOYS[dataset.source], **left)
    if missing := [file for file in files if not file.exists()]:
        raise ConfigError(f"--data {missing[0]}: there is no such file or folder")
    paths = [str(file.resolve()) for file in files]
    return dataset.model_copy(update={"path": paths[0] if len(paths) == 1 else paths})


def _starts_a_run(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command the arguments that start a run; it gets them as one :class:`_Start` before its own."""
    options = (
        click.argument("file"),
        click.option("--out", type=_RunFolder(path_type=Path), required=True, help="Run folder; everything is written there."),
        click.option("--profile", help="A section under `profiles` of the file, for example quick."),
        click.option(
            "--data",
            type=click.Path(path_type=Path),
            multiple=True,
            help="File or folder with the data, in place of the path in the file; given twice, two files. For jets also: toy.",
        ),
        click.option("--seed", type=click.IntRange(0, 2**63 - 1), help="The run's seed, in place of the file's."),
        _workers,
        _scheduler,
    )

    @wraps(command)
    def packed(**arguments: Any) -> None:
        start = _Start(**{field.name: arguments.pop(field.name) for field in fields(_Start)})
        command(start, **arguments)

    return reduce(lambda wrapped, option: option(wrapped), reversed(options), packed)


@main.command()
@_starts_a_run
@click.option(
    "--baseline",
    "baselines",
    multiple=True,
    metavar="NAME",
    help="A known network to tune and compress as well, besides the file's: a name, or a JSON file. Repeatable.",
)
def run(start: _Start, baselines: tuple[str, ...]) -> None:
    """Run FILE: search, tune, compress, convert, compare.

    FILE is a YAML file, or the name of one that comes with kerasnac (`kerasnac spaces` lists them).
    """
    settings = start.settings(baselines)
    from kerasnac.stages.run import run_all

    job = partial(run_all, settings, start.out, workers=start.workers, scheduler=start.scheduler)
    _run_and_show(lambda progress: job(progress=progress), start.out)


@main.command()
@_starts_a_run
def search(start: _Start) -> None:
    """Run the global search of FILE alone; `kerasnac resume` goes on with the rest."""
    settings = start.settings()
    from kerasnac.stages.run import search_only
    from kerasnac.ui import plots, tables

    job = partial(search_only, settings, start.out, workers=start.workers, scheduler=start.scheduler)
    result = _with_progress(lambda progress: job(progress=progress), start.out)
    console().print(tables.front(result))
    plots.save_search(result, start.out)
    files = "search.csv, search.png, convergence.png"
    click.echo(f"Everything is in {start.out}: {files}; `kerasnac resume {start.out}` goes on")


@main.command()
@_starts_a_run
def references(start: _Start) -> None:
    """Train the references of FILE alone: boosted trees and classical methods, to compare networks with.

    A FILE that names no references gets those that there are for its samples. `kerasnac resume` goes on with the rest.
    """
    from rich.console import Group

    from kerasnac.core.settings import ReferenceSettings
    from kerasnac.core.store.files import write_text
    from kerasnac.stages.run import references_only
    from kerasnac.ui import plots, tables
    from kerasnac.ui.references import classical_table, table

    settings = start.settings()
    if settings.references == ReferenceSettings():
        settings = settings.model_copy(update={"references": ReferenceSettings.for_shape(settings.space.input)})
    job = partial(references_only, settings, start.out, workers=start.workers, scheduler=start.scheduler)
    found = _with_progress(lambda progress: job(progress=progress), start.out)
    made = {}
    if found.trees is not None:
        made["trees.txt"] = table(found.trees, found.test)
        plots.save_trees(found.trees, start.out)
    if found.classical:
        made["classical.txt"] = classical_table(found.classical, found.task, found.test)
    console().print(Group(*made.values()))
    for name, shown in made.items():
        write_text(start.out / name, tables.as_text(shown))
    files = ["trees.txt, trees.png, trees.csv, trees/"] * (found.trees is not None)
    files += ["classical.txt, classical.csv"] * bool(found.classical)
    click.echo(f"Everything is in {start.out}: {', '.join(files)}; `kerasnac resume {start.out}` goes on")


@main.command()
@click.argument("folder", type=click.Path(exists=True, file_okay=False, path_type=Path))
@_workers
@_scheduler
def resume(folder: Path, workers: int | None, scheduler: str | None) -> None:
    """Continue the run in FOLDER where it stopped; nothing computed is computed again."""
    from kerasnac.stages.run import resume as continue_run

    _run_and_show(lambda progress: continue_run(folder, workers=workers, scheduler=scheduler, progress=progress), folder)


@main.command()
@click.argument("file", required=False)
def spaces(file: str | None) -> None:
    """List the run files that come with kerasnac, or describe the search space of FILE."""
    from rich.console import Console
    from rich.table import Table

    from kerasnac.core.network.exactness import firmware_meaning
    from kerasnac.core.settings.yaml_files import load_space, names

    table = Table()
    if file is None:
        for column in ("name", "input", "outputs", "genes", "genomes"):
            table.add_column(column)
        for name in names():
            space = load_space(name)
            table.add_row(name, str(space.input), str(space.outputs), str(len(space.genes)), f"{space.size():.2e}")
    else:
        space = load_space(file)
        table.title = f"{space.size():.3e} genomes, input {space.input}, {space.outputs} outputs, firmware: {space.firmware}"
        for column in ("gene", "values", "firmware"):
            table.add_column(column, overflow="fold")
        for gene, values in space.genes.items():
            notes = [f"{value}: {note}" for value in values if (note := firmware_meaning(gene, value)) != "exact"]
            table.add_row(gene, ", ".join(map(str, values)), "\n".join(notes) or "exact")
    Console().print(table)


@main.command()
@model_argument
@click.option("--out", type=click.Path(path_type=Path), required=True, help="Folder for the Verilog and the report.")
@click.option("--samples", type=click.IntRange(min=1), default=1000, show_default=True, help="Samples to simulate.")
@_cut
@click.option(
    "--data",
    type=click.Path(exists=True, path_type=Path),
    help="Samples: an npy file, or the array x of an npz or HDF5 file; random ones by default.",
)
@input_grid_option
@click.option("--no-synthesis", is_flag=True, help="Simulate only; Yosys need not be installed.")
def rtl(
    model: Path,
    out: Path,
    samples: int,
    board: str,
    clock_period: float | None,
    latency_cutoff: int | None,
    data: Path | None,
    input_grid: str | None,
    no_synthesis: bool,
) -> None:
    """Write MODEL as Verilog without HLS, simulate it against QKeras and count its LUTs.

    MODEL is a folder with a compressed network, for example runs/x/compressed/NAME, a firmware folder, or a file of a
    QKeras model of your own. Needs Verilator and Yosys.
    """
    from rich.console import Console

    from kerasnac.datasets.samples import random_samples, read_samples
    from kerasnac.stages.firmware.folder import load_model
    from kerasnac.stages.firmware.rtl import make_rtl
    from kerasnac.ui import costs

    options, settings = _cut_for(board, clock_period, latency_cutoff)
    given = None if data is None else read_samples(data, samples)
    trained = load_model(model, given, input_grid=input_grid)
    x = random_samples(trained.architecture, samples) if given is None else given
    with Console(stderr=True).status("writing, simulating, synthesising: some minutes for a large network"):
        made = make_rtl(trained, x, folder=out, adder_graph=settings, options=options, synthesise=not no_synthesis)
    screen = console()
    screen.print(costs.verilog(made))
    screen.print(f"{made.name}: {made.verdict}", highlight=False, soft_wrap=True)
    screen.print(f"Everything is in {out}: src/, sim/tb.sv, report.txt", highlight=False, soft_wrap=True)


@main.command()
@model_argument
@input_grid_option
@_cut
def costs(model: Path, input_grid: str | None, board: str, clock_period: float | None, latency_cutoff: int | None) -> None:
    """Show what MODEL costs: by layer, by rule4ml and by its adder graph, whose LUTs have causes.

    MODEL is a folder with a compressed network, for example runs/x/compressed/NAME, a firmware folder, or a file of a
    Keras or QKeras model of your own.
    """
    from kerasnac.stages.firmware.costs import hardware_costs
    from kerasnac.stages.firmware.folder import load_model
    from kerasnac.ui import costs

    options, settings = _cut_for(board, clock_period, latency_cutoff)
    trained = load_model(model, input_grid=input_grid)
    found = hardware_costs(trained, board=board, clock_period=options.clock_period, adder_graph=settings)
    console().print(costs.layers(found))
    console().print(costs.estimates(found))
    if found.luts:
        console().print(costs.luts(found))


for command in (firmware, *COMMANDS):
    main.add_command(command)


@main.command()
def doctor() -> None:
    """Check this machine: versions, compiler, legacy Keras, disk. Exits with 2 if something needed is missing."""
    from kerasnac.ui.doctor import check

    sys.exit(check())


def _run_and_show(job: Callable[[Progress], Outcome], folder: Path) -> None:
    """Run a job with a progress display, then print and write its results."""
    from kerasnac.core.store.files import write_text
    from kerasnac.stages.results.saved import open_run
    from kerasnac.ui import plots, tables
    from kerasnac.ui.report import page

    result = _with_progress(job, folder)
    screen = console()
    screen.print(tables.outcome(result))
    for made in result.firmware:
        screen.print(f"{made.trained.name}: {made.verdict}", highlight=False, soft_wrap=True)
    write_text(folder / "summary.txt", tables.as_text(tables.outcome(result)))
    plots.save_all(result, folder)
    page.write(open_run(folder), folder / page.NAME)
    extra = {"curves.png": result.curves, "trees.png": result.trees, "firmware/": result.firmware}
    files = ", ".join(
        [
            "report.html",
            "summary.txt",
            "search.png",
            "tune.png",
            "compress.png",
            *(name for name, there in extra.items() if there),
        ]
    )
    screen.print(f"Everything is in {folder}: {files}", highlight=False, soft_wrap=True)
    if not result.firmware:
        complain(f"no model has firmware; the last lines of {folder / 'summary.txt'} say why")
        sys.exit(Exit.NO_FIRMWARE)


def _with_progress(job: Callable[[Progress], Result], folder: Path) -> Result:
    """Run a job with a progress display; after Ctrl-C say how to go on."""
    from kerasnac.ui.progress import progress_bar

    try:
        with progress_bar() as progress:
            return job(progress)
    except KeyboardInterrupt:
        click.echo(f"stopped; `kerasnac resume {folder}` goes on from here", err=True)
        sys.exit(Exit.STOPPED)
