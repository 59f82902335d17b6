"""The command line. Heavy imports are inside the commands, so that ``kerasnac --help`` is instant."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass, fields
from functools import partial, reduce, wraps
from io import TextIOWrapper
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from kerasnac import __version__
from kerasnac.ui.completion import completion, profiles, run_files
from kerasnac.ui.exits import EPILOG, Exit, complain, drop_output, exit_with
from kerasnac.ui.firmware_commands import firmware
from kerasnac.ui.hardware_commands import costs, rtl
from kerasnac.ui.output import RUN, Output, Session, output_options
from kerasnac.ui.result_commands import COMMANDS

if TYPE_CHECKING:
    from kerasnac.core.settings import DatasetSettings, RunSettings
    from kerasnac.stages.run import Outcome
    from kerasnac.stages.run.pipeline import Until


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


_changes = click.option(
    "--set",
    "changes",
    multiple=True,
    metavar="KEY=VALUE",
    help="A setting in place of the file's, the value as in YAML: compress.bits=[8,6,4]. Repeatable.",
)
_workers = click.option("--workers", type=click.IntRange(min=1), help="Processes; all cores by default.")


_scheduler = click.option(
    "--scheduler", metavar="ADDRESS", help="Use the workers of the Dask cluster at this address, tcp://host:8786."
)


@click.group(cls=_Group, context_settings={"help_option_names": ["-h", "--help"]}, epilog=EPILOG)
@click.version_option(__version__)
def main() -> None:
    r"""Neural architecture codesign: from a dataset to bit-exact firmware.

    \b
    Examples:
      kerasnac spaces                                    # the run files that come with kerasnac
      kerasnac run bragg_exact --profile quick --out runs/quick
      kerasnac resume runs/quick                         # after a crash, a reboot, Ctrl-C
      kerasnac show runs/quick                           # at any time
      kerasnac COMMAND --help                            # with examples of every command
    """


@dataclass(frozen=True)
class _Start:
    """The arguments that start a run."""

    file: str
    out: Path
    profile: str | None
    data: tuple[Path, ...]
    seed: int | None
    changes: tuple[str, ...]
    workers: int | None
    scheduler: str | None

    @property
    def where(self) -> dict[str, Any]:
        """Who trains."""
        return {"workers": self.workers, "scheduler": self.scheduler}

    def settings(self, baselines: tuple[str, ...] = ()) -> RunSettings:
        """Read the settings of the file, with the changes that the command line makes."""
        from kerasnac.core.settings.yaml_files import load_run, parse_changes
        from kerasnac.core.space.references import Reference

        settings = load_run(self.file, profile=self.profile, changes=parse_changes(self.changes))
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
        click.argument("file", shell_complete=run_files),
        click.option("--out", type=_RunFolder(path_type=Path), required=True, help="Run folder; everything is written there."),
        click.option("--profile", shell_complete=profiles, help="A section under `profiles` of the file, for example quick."),
        click.option(
            "--data",
            type=click.Path(path_type=Path),
            multiple=True,
            help="File or folder with the data, in place of the path in the file; given twice, two files. For jets also: toy.",
        ),
        click.option("--seed", type=click.IntRange(0, 2**63 - 1), help="The run's seed, in place of the file's."),
        _changes,
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
@output_options
def run(start: _Start, baselines: tuple[str, ...], output: Output) -> None:
    r"""Run FILE: search, tune, compress, convert, compare.

    FILE is a YAML file, or the name of one that comes with kerasnac (`kerasnac spaces` lists them). Ctrl-C and SIGTERM leave
    a run that `kerasnac resume` goes on with.

    \b
    Examples:
      kerasnac run jets_mlp --data jets.arff --out runs/jets --log runs/jets.log
      kerasnac run my_run.yaml --profile quick --out runs/mine --workers 4
      kerasnac run my_run.yaml --out runs/mine --json | jq 'select(.event == "candidate") | .metrics'
    """
    with output.session(start.out, planned=RUN) as session:
        settings = start.settings(baselines)
        from kerasnac.stages.run import run_all

        _run_and_show(partial(run_all, settings, start.out, **start.where), session)


@main.command()
@_starts_a_run
@output_options
def search(start: _Start, output: Output) -> None:
    r"""Run the global search of FILE alone; `kerasnac resume` goes on with the rest.

    \b
    Examples:
      kerasnac search jets_mlp --data toy --profile quick --out runs/toy
      kerasnac search my_run.yaml --out runs/seed_1 --seed 1 --quiet
    """
    with output.session(start.out, planned=("search",)) as session:
        settings = start.settings()
        from kerasnac.stages.run import search_only
        from kerasnac.ui import ending, plots, tables

        with session.showing() as progress:
            result = search_only(settings, start.out, **start.where, progress=progress)
        session.say(tables.front(result))
        plots.save_search(result, start.out)
        files = f"{ending.report(start.out)}, search.csv, search.png, convergence.png"
        session.say(f"Everything is in {start.out}: {files}")
        session.say(f"`kerasnac resume {start.out}` goes on with the rest, `kerasnac tune {start.out}` with the tuning alone")


@main.command()
@_starts_a_run
@output_options
def references(start: _Start, output: Output) -> None:
    r"""Train the references of FILE alone: boosted trees and classical methods, to compare networks with.

    A FILE that names no references gets those that there are for its samples. `kerasnac resume` goes on with the rest.

    \b
    Examples:
      kerasnac references jets_mlp --data toy --out runs/toy
    """
    from kerasnac.core.settings import ReferenceSettings
    from kerasnac.core.store.files import write_text
    from kerasnac.stages.run import references_only
    from kerasnac.ui import plots, tables
    from kerasnac.ui.references import classical_table, table

    with output.session(start.out) as session:
        settings = start.settings()
        if settings.references == ReferenceSettings():
            settings = settings.model_copy(update={"references": ReferenceSettings.for_shape(settings.space.input)})
        with session.showing() as progress:
            found = references_only(settings, start.out, **start.where, progress=progress)
        made = {}
        if found.trees is not None:
            made["trees.txt"] = table(found.trees, found.test)
            plots.save_trees(found.trees, start.out)
        if found.classical:
            made["classical.txt"] = classical_table(found.classical, found.task, found.test)
        session.say(*made.values())
        for name, shown in made.items():
            write_text(start.out / name, tables.as_text(shown))
        files = ["trees.txt, trees.png, trees.csv, trees/"] * (found.trees is not None)
        files += ["classical.txt, classical.csv"] * bool(found.classical)
        session.say(f"Everything is in {start.out}: {', '.join(files)}; `kerasnac resume {start.out}` goes on")


def _goes_on(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command the arguments that go on with a run."""
    options = (
        click.argument("folder", type=click.Path(exists=True, file_okay=False, path_type=Path)),
        _changes,
        _workers,
        _scheduler,
    )
    return reduce(lambda made, option: option(made), reversed(options), output_options(command))


def _continue(
    folder: Path,
    changes: tuple[str, ...],
    workers: int | None,
    scheduler: str | None,
    output: Output,
    until: Until | None = None,
) -> None:
    from kerasnac.core.settings.yaml_files import parse_changes
    from kerasnac.stages.run import resume as continue_run

    with output.session(folder, planned=RUN if until is None else RUN[: RUN.index(until) + 1]) as session:
        changed = parse_changes(changes)
        job = partial(continue_run, folder, changes=changed, until=until, workers=workers, scheduler=scheduler)
        _run_and_show(job, session, until)


@main.command()
@_goes_on
def resume(folder: Path, changes: tuple[str, ...], workers: int | None, scheduler: str | None, output: Output) -> None:
    r"""Continue the run in FOLDER where it stopped, also with other settings; nothing known is computed again.

    A run folder belongs to its data, task, seed and space. All other settings may change: what is known is kept, and only what
    is new is computed. Results of other settings stand beside the first ones. Of a finished run, the results are printed.

    \b
    Examples:
      kerasnac resume runs/jets
      kerasnac resume runs/jets --set search.evaluations=400
    """
    _continue(folder, changes, workers, scheduler, output)


@main.command()
@_goes_on
def tune(folder: Path, changes: tuple[str, ...], workers: int | None, scheduler: str | None, output: Output) -> None:
    r"""Tune models of the run in FOLDER, also with other settings, and stop.

    What comes before is finished first, if it is not; `kerasnac resume` goes on with the rest. Known trials are kept.

    \b
    Examples:
      kerasnac tune runs/jets --set tune.trials=40
      kerasnac tune runs/jets --set tune.select=[best] --set search.evaluations=400
    """
    _continue(folder, changes, workers, scheduler, output, "tune")


@main.command()
@_goes_on
def compress(folder: Path, changes: tuple[str, ...], workers: int | None, scheduler: str | None, output: Output) -> None:
    r"""Compress models of the run in FOLDER, also with other settings, and stop.

    What comes before is finished first, if it is not; `kerasnac resume` goes on with the rest. Known points are kept.

    \b
    Examples:
      kerasnac compress runs/jets --set compress.bits=[8,6,4]
    """
    _continue(folder, changes, workers, scheduler, output, "compress")


@main.command()
@_goes_on
def convert(folder: Path, changes: tuple[str, ...], workers: int | None, scheduler: str | None, output: Output) -> None:
    r"""Convert models of the run in FOLDER to firmware, also with other settings; it is the last stage.

    Projects for other parts or with other options stand beside the first ones. A model that was refused is tried again only
    with other settings or versions.

    \b
    Examples:
      kerasnac convert runs/jets --set firmware.part=zcu102
      kerasnac convert runs/jets --set 'firmware.select=[within 5%]' --set firmware.clock_period=4
    """
    _continue(folder, changes, workers, scheduler, output)


@main.command()
@click.argument("file", required=False, shell_complete=run_files)
def spaces(file: str | None) -> None:
    r"""List the run files and the baselines that come with kerasnac, or describe the search space of FILE.

    \b
    Examples:
      kerasnac spaces
      kerasnac spaces jets_mlp
    """
    from kerasnac.core.settings.yaml_files import load_space
    from kerasnac.ui import networks
    from kerasnac.ui.console import console

    console().print(networks.catalogue() if file is None else networks.space(load_space(file)), highlight=False)


for command in (firmware, rtl, costs, *COMMANDS, completion):
    main.add_command(command)


@main.command()
def doctor() -> None:
    r"""Check this machine: versions, compiler, legacy Keras, disk. Exits with 2 if something needed is missing.

    \b
    Examples:
      kerasnac doctor
    """
    from kerasnac.ui.doctor import check

    sys.exit(check())


def _mark_examples(command: click.Command) -> None:
    """Let click see which lines of a help stay as they are: raw docstrings have its mark as two characters."""
    command.help = (command.help or "").replace("\\b\n", "\b\n")
    for other in command.commands.values() if isinstance(command, click.Group) else ():
        _mark_examples(other)


_mark_examples(main)


def _run_and_show(job: Callable[..., Outcome], session: Session, until: Until | None = None) -> None:
    """Run a job with a progress display, then print and write its results."""
    from kerasnac.ui import ending

    folder = session.folder
    with session.showing() as progress:
        result = job(progress=progress)
    session.say(*ending.printed(result, until))
    files = ", ".join(ending.written(result, folder, until))
    rest = f"; `kerasnac resume {folder}` goes on with the rest" if until else ""
    session.say(f"Everything is in {folder}: {files}{rest}")
    if not until and not result.firmware:
        complain(f"no model has firmware; the last lines of {folder / 'summary.txt'} say why")
        sys.exit(Exit.NO_FIRMWARE)
