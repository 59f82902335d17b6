"""Commands on the hardware of a model: its Verilog without HLS, and what it costs."""

from __future__ import annotations

from collections.abc import Callable
from functools import reduce
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from kerasnac.core.hardware.boards import DEFAULT_BOARD
from kerasnac.ui.console import console
from kerasnac.ui.firmware_commands import input_grid_option, model_argument

if TYPE_CHECKING:
    from kerasnac.core.hardware.hls_options import HlsOptions
    from kerasnac.core.settings import AdderGraphSettings


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


@click.command()
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
    r"""Write MODEL as Verilog without HLS, simulate it against QKeras and count its LUTs.

    MODEL is a folder with a compressed network, for example runs/x/compressed/NAME, a firmware folder, or a file of a
    QKeras model of your own. Needs Verilator and Yosys.

    \b
    Examples:
      kerasnac rtl runs/jets/compressed/8f3a-w6a6-i04 --out runs/jets/rtl/8f3a-w6a6-i04 --data test.npy
      kerasnac rtl tagger.keras --out verilog --clock-period 2.8 --board vu13p --no-synthesis
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


@click.command()
@model_argument
@input_grid_option
@_cut
def costs(model: Path, input_grid: str | None, board: str, clock_period: float | None, latency_cutoff: int | None) -> None:
    r"""Show what MODEL costs: by layer, by rule4ml and by its adder graph, whose LUTs have causes.

    MODEL is a folder with a compressed network, for example runs/x/compressed/NAME, a firmware folder, or a file of a
    Keras or QKeras model of your own.

    \b
    Examples:
      kerasnac costs runs/jets/compressed/8f3a-w6a6-i04
      kerasnac costs tagger.keras --clock-period 5
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
