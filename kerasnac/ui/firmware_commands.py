"""Commands on firmware: making it, checking it, and the vendor's tools."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from kerasnac.core.hardware.boards import DEFAULT_BOARD
from kerasnac.errors import EnvironmentProblem
from kerasnac.ui.console import console
from kerasnac.ui.exits import Exit

if TYPE_CHECKING:
    from kerasnac.adapters.hls4ml.vendor import VendorReport

model_argument = click.argument("model", type=click.Path(exists=True, path_type=Path))

input_grid_option = click.option(
    "--input-grid",
    metavar="FORMAT",
    help="Format of the input of a model of your own, as ap_fixed<12,4>; by default the model's, or one fitted to the data.",
)


@click.group()
def firmware() -> None:
    r"""Firmware of a model, firmware folders, and the vendor's tools.

    \b
    Examples:
      kerasnac firmware make tagger.keras --out firmware/tagger
      kerasnac firmware validate firmware/tagger
    """


@firmware.command()
@model_argument
@click.option(
    "--data",
    type=click.Path(exists=True, path_type=Path),
    help="Samples to compare on: an npy or csv file, or the array x of an npz or HDF5 file; random ones by default.",
)
@click.option("--out", type=click.Path(path_type=Path), required=True, help="Folder for the project.")
@click.option("--samples", type=click.IntRange(min=1), default=2000, show_default=True, help="Samples to compare.")
@input_grid_option
@click.option(
    "--float-bits",
    type=click.IntRange(min=2, max=24),
    help="Width to round weights to that a model of your own has in floating point; by default they are refused.",
)
@click.option("--part", default=DEFAULT_BOARD, show_default=True, help="Board, or part number.")
@click.option("--backend", default="Vitis", show_default=True, help="Vitis, Vivado, Catapult, Quartus or oneAPI.")
@click.option("--io-type", default="io_parallel", show_default=True, help="io_parallel or io_stream.")
@click.option("--strategy", default="latency", show_default=True, help="latency, resource or distributed_arithmetic.")
@click.option("--reuse-factor", type=click.IntRange(min=1), default=1, show_default=True)
@click.option("--clock-period", type=click.FloatRange(min=0, min_open=True), default=5.0, show_default=True, metavar="NS")
def make(
    model: Path,
    data: Path | None,
    out: Path,
    samples: int,
    input_grid: str | None,
    float_bits: int | None,
    **options: Any,
) -> None:
    r"""Convert MODEL to an hls4ml project, compile its emulation and compare every output with Keras.

    MODEL is a folder with a compressed network, or a file of a QKeras model of your own: .keras, .h5, a SavedModel, or
    .json beside its weights in .h5. The layer that makes exact firmware impossible is named, with the remedy.

    \b
    Examples:
      kerasnac firmware make runs/jets/compressed/8f3a-w6a6-i04 --out firmware/tagger --part vu13p --clock-period 2.8
      kerasnac firmware make tagger.keras --data test.npy --out firmware/tagger --strategy resource --reuse-factor 4
    """
    from rich.console import Console

    from kerasnac.datasets.samples import random_samples, read_samples
    from kerasnac.stages.firmware.delivery import make_firmware
    from kerasnac.stages.firmware.folder import load_any

    given = None if data is None else read_samples(data, samples)
    network = load_any(model, given, input_grid=input_grid, float_bits=float_bits)
    x = random_samples(network.architecture, samples) if given is None else given
    with Console(stderr=True).status("converting, compiling, emulating: minutes for a large network"):
        made = make_firmware(network, x, folder=out, **options)
    click.echo(made.report(), nl=False)
    click.echo(f"Everything is in {out}: firmware/, report.txt, summary.md, validate.py")


@firmware.command()
@click.argument("folder", type=click.Path(exists=True, file_okay=False, path_type=Path))
def synth(folder: Path) -> None:
    r"""Synthesise the firmware in FOLDER with Vitis or Vivado HLS, and Vivado.

    Where these are not on the path, prints the commands to run elsewhere and exits with 2.

    \b
    Examples:
      kerasnac firmware synth runs/jets/firmware/8f3a-w6a6-i04
    """
    from rich.console import Console

    from kerasnac.adapters.hls4ml.vendor import commands, run_vendor

    with Console(stderr=True).status("synthesising: minutes to hours"):
        report = run_vendor(folder)
    if report is None:
        first, *others = commands(folder)
        click.echo(f"cd {folder.resolve()} && {first}")
        for command in others:
            click.echo(f"# with an older version: {command}")
        click.echo(f"kerasnac firmware import-report {folder}")
        raise EnvironmentProblem(f"{first.split()[0]} is not on the path; run the commands above where it is")
    _show_vendor(report, folder)


@firmware.command()
@click.argument("folder", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option(
    "--data",
    type=click.Path(exists=True, path_type=Path),
    help="Samples: an npy or csv file, or the array x of an npz or HDF5 file; those of the delivery by default.",
)
@click.option(
    "--timeout",
    type=click.FloatRange(min=0, min_open=True),
    default=3600.0,
    show_default=True,
    metavar="SECONDS",
    help="Time for compiling, and for emulating; firmware that takes longer is not valid.",
)
def validate(folder: Path, data: Path | None, timeout: float) -> None:
    r"""Check that the firmware in FOLDER is what was delivered, and still equals Keras.

    Compares the hash of every file, compiles a copy and compares every output. Exits with 1 if a file has changed, an
    output differs, or it takes too long, and names the first layer that differs.

    \b
    Examples:
      kerasnac firmware validate runs/jets/firmware/8f3a-w6a6-i04
      kerasnac firmware validate firmware/tagger --data more.npy
    """
    from kerasnac.adapters.programs import Limits
    from kerasnac.datasets.samples import read_samples
    from kerasnac.stages.firmware.validation import validate as check
    from kerasnac.ui.progress import progress_bar

    samples = None if data is None else read_samples(data)
    with progress_bar() as progress:
        found = check(folder, samples, source=str(data), limits=Limits(timeout), progress=progress)
    click.echo(found.report(), nl=False)
    if not found.ok:
        sys.exit(Exit.DIFFERENT)


@firmware.command("import-report")
@click.argument("path", type=click.Path(path_type=Path))
def import_report(path: Path) -> None:
    r"""Show the vendor's reports in PATH: a firmware folder, csynth.xml or vivado_synth.rpt.

    In a firmware folder they are kept as vendor_report.json.

    \b
    Examples:
      kerasnac firmware import-report runs/jets/firmware/8f3a-w6a6-i04
      kerasnac firmware import-report csynth.xml
    """
    from kerasnac.adapters.hls4ml.vendor import read_reports

    _show_vendor(read_reports(path), path)


def _show_vendor(report: VendorReport, path: Path) -> None:
    """Print the vendor's reports, and keep them beside the report of the firmware that they belong to."""
    from kerasnac.adapters.hls4ml.vendor import project_of
    from kerasnac.core.store.files import write_json
    from kerasnac.stages.firmware.folder import REPORT
    from kerasnac.ui import costs

    screen = console()
    screen.print(costs.vendor(report))
    project = project_of(path)
    if project is not None and (project / REPORT).is_file():
        kept = project / "vendor_report.json"
        write_json(kept, report.to_dict())
        screen.print(f"kept in {kept}", highlight=False, soft_wrap=True)
