"""Costs of a design on an FPGA, as tables."""

from __future__ import annotations

from collections.abc import Mapping

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from kerasnac.adapters.hls4ml.vendor import Hls, VendorReport
from kerasnac.adapters.rtl.causes import CAUSES
from kerasnac.stages.firmware.costs import HardwareCosts
from kerasnac.stages.firmware.rtl import Rtl


def layers(costs: HardwareCosts) -> Table:
    """Return the table of bit operations and memory by layer."""
    names = ("layer", "output", "MACs", "weight bits", "input bits", "zeros", "BOPs", "memory, bits")
    table = Table(title=f"{costs.name}, layer by layer", title_justify="left", show_footer=True)
    totals = {"layer": "total", "MACs": f"{sum(layer.macs for layer in costs.layers):,}"}
    totals |= {"BOPs": f"{costs.bops:,.0f}", "memory, bits": f"{costs.memory:,}"}
    for name in names:
        table.add_column(name, totals.get(name, ""), justify="left" if name == "layer" else "right")
    for layer in costs.layers:
        table.add_row(
            layer.layer,
            "x".join(map(str, layer.output_shape)),
            f"{layer.macs:,}",
            f"{layer.weight_bits:.3g}",
            f"{layer.activation_bits:.3g}",
            f"{layer.sparsity:.1%}",
            f"{layer.bops:,.0f}",
            f"{layer.memory:,}",
        )
    return table


def luts(costs: HardwareCosts) -> Table:
    """Return the table of the adder graph's LUTs by layer and cause; what is zero is left blank."""
    causes = [cause for cause in CAUSES if any(cause in spent for spent in costs.luts.values())]
    sums = {cause: sum(spent.get(cause, 0.0) for spent in costs.luts.values()) for cause in causes}
    total = sum(sums.values())
    table = Table(title="LUT of the adder graph (estimate), by layer and cause", title_justify="left", show_footer=True)
    for name, footer in {"layer": "total", **{cause: _luts(sums[cause], total) for cause in causes}}.items():
        table.add_column(name, footer, justify="left" if name == "layer" else "right")
    table.add_column("total", f"{total:,.0f}", justify="right")
    for layer, spent in costs.luts.items():
        cells = (f"{spent[cause]:,.0f}" if cause in spent else "" for cause in causes)
        table.add_row(layer, *cells, f"{sum(spent.values()):,.0f}")
    return table


def _luts(part: float, total: float) -> str:
    return f"{part:,.0f} ({part / total:.0%})"


def estimates(costs: HardwareCosts) -> RenderableType:
    """Return the estimates of every source, one table each, or the reasons why there are none."""
    return Group(*(_estimate(source, found, costs.board) for source, found in costs.estimates.items()))


def _estimate(source: str, found: Mapping[str, float] | str, board: str) -> RenderableType:
    if isinstance(found, str):
        return Text(f"{source}: {found}")
    table = Table(title=f"{source}, {board}", title_justify="left", caption_justify="left")
    if "adder_interval_ns" in found:
        table.caption = "A new sample in every clock cycle; nanoseconds by the delays of this FPGA family, before any routing."
    for metric in found:
        table.add_column(metric.replace("_", " "), justify="right")
    table.add_row(*(f"{value:,.0f}" if value >= 1000 or value == int(value) else f"{value:.3g}" for value in found.values()))
    return table


def verilog(rtl: Rtl) -> Table:
    """Return the table with the estimate of the adder graph and the count of the synthesis."""
    table = Table("", title=f"Verilog of {rtl.name}: {rtl.timing}", title_justify="left")
    for column in ("LUT", "FF", "carry chains", "DSP", "BRAM"):
        table.add_column(column, justify="right")
    luts, registers = rtl.costs["adder_luts"], rtl.costs["adder_registers"]
    table.add_row("adder graph (estimate)", f"{luts:,.0f}", f"{registers:,.0f}", "", "0", "0")
    if (found := rtl.synthesis) is not None:
        counts = (found.luts, found.ffs, found.carry, found.dsp, found.bram)
        table.add_row("Yosys, Xilinx UltraScale+", *(f"{count:,}" for count in counts))
    return table


def vendor(report: VendorReport) -> Table:
    """Return the table of the vendor's reports: resources, and in the caption the timing of high-level synthesis."""
    table = Table("", title="Reports of the vendor's tools", title_justify="left", caption_justify="left")
    sources = {"high-level synthesis (estimate)": report.hls, "logic synthesis": report.vivado}
    there = {name: found for name, found in sources.items() if found is not None}
    resources = list(dict.fromkeys(resource for found in there.values() for resource in found.used))
    for resource in resources:
        table.add_column(resource, justify="right")
    for name, found in there.items():
        table.add_row(name, *(_share(found.used.get(key), found.available.get(key)) for key in resources))
    if report.hls is not None:
        table.caption = _timing(report.hls)
    return table


def _share(used: int | None, available: int | None) -> str:
    if used is None:
        return ""
    return f"{used:,} ({used / available:.1%})" if available else f"{used:,}"


def _timing(hls: Hls) -> str:
    latency, interval = (_range(pair) for pair in (hls.latency, hls.interval))
    return (
        f"{hls.part}: latency {latency} and interval {interval} clock cycles, "
        f"clock period {hls.estimated_clock:g} ns expected, {hls.target_clock:g} ns asked for"
    )


def _range(pair: tuple[int | None, int | None]) -> str:
    low, high = ("unknown" if cycles is None else str(cycles) for cycles in pair)
    return low if low == high else f"{low} to {high}"
