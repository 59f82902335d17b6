"""One page on a firmware folder, in Markdown: types, resources and latency, files, versions."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from kerasnac.adapters.hls4ml.conversion import reuse_factors
from kerasnac.adapters.hls4ml.project_files import read_types
from kerasnac.core.hardware.hls_options import HlsOptions
from kerasnac.core.network.bops import LayerCost
from kerasnac.core.network.exactness import KERNEL_KINDS, output_formats
from kerasnac.core.network.trained import Trained
from kerasnac.core.store.files import file_hash
from kerasnac.core.store.versions import versions
from kerasnac.stages.firmware.costs import board_of, rule4ml_estimate
from kerasnac.stages.firmware.folder import ARCHITECTURE, KERAS, MODEL, TEST_VECTORS, VECTORS
from kerasnac.stages.firmware.graph_check import GraphCheck
from kerasnac.stages.firmware.manifest import MANIFEST
from kerasnac.stages.firmware.result import Firmware

_FILES = f"""## Files

`{KERAS}` is the QKeras model (`kerasnac.load_keras`, or `qkeras.utils.load_qmodel` with the layers of
`kerasnac.adapters.keras.custom.custom()` as custom objects), `{ARCHITECTURE}` the network; hls4ml's `keras_model.keras` \
holds the rounded weights without quantizers.
`tb_data` holds {TEST_VECTORS:,} samples at most for the vendor's C simulation and co-simulation, `{VECTORS}` all.
`python validate.py` repeats the comparison with NumPy and a C++ compiler, `kerasnac firmware validate` with Keras."""


def summary(firmware: Firmware, network: Trained, project: Path) -> str:
    """Write the page.

    Args:
        firmware: What was made and compared.
        network: The network of the firmware, without a window.
        project: Where the project is, with all files but the manifest.
    """
    layers = {cost.layer: cost for cost in network.layer_costs}
    reuse = reuse_factors(network.architecture, firmware.options)
    sections = (
        *_head(firmware, network),
        _layers(network, firmware.options, layers, reuse),
        f"{network.architecture.parameters:,} parameters, {network.sparsity:.1%} of the kernel weights zero, "
        f"{sum(cost.bops for cost in layers.values()):,.0f} BOPs.",
        "## Resources and latency, estimated",
        _estimates(firmware, network, slowest=max(reuse.values(), default=1)),
        "Neither is a synthesis: `kerasnac firmware synth` runs one and reads its reports.",
        _FILES,
        "## Where it is from",
        f"Seed {network.seed}; network `{network.architecture.id}`.\n"
        f"Versions: {', '.join(f'{name} {version}' for name, version in versions().items())}.",
        _hashes(project),
        f"All others are in `{MANIFEST}`. `defines.h` has {len(read_types(project))} types.",
    )
    return "\n\n".join(sections) + "\n"


def _head(firmware: Firmware, network: Trained) -> tuple[str, ...]:
    architecture = network.architecture
    output = output_formats(architecture, network.weights)[architecture.names[-1]]
    return (
        f"# {network.name}",
        f"`{architecture}`",
        f"**{firmware.verdict}**",
        f"Arithmetic: {firmware.arithmetic}.",
        f"hls4ml project `kerasnac`: {firmware.options}. Input `{architecture.input}`, shape {architecture.input_shape}; "
        f"output `{output}`, shape {architecture.output_shape}.",
    )


def _layers(network: Trained, options: HlsOptions, layers: dict[str, LayerCost], reuse: dict[str, int]) -> str:
    """Return the table of the layers: their types, zeros, bit operations, strategies and reuse factors."""
    header = ("layer", "output", "weight", "bias", "accumulator", "result", "zeros", "BOPs", "strategy", "reuse")
    formats, rows = output_formats(network.architecture, network.weights), []
    for node in network.architecture.nodes:
        layer, name, exact = node.layer, node.name, formats[node.name]
        cells: tuple[object, ...] = ("", "", "", exact, "", "", "", "")
        if layer.kind in KERNEL_KINDS:
            cost = layers[name]
            cells = (layer.weight, layer.bias, exact, exact, f"{cost.sparsity:.1%}", f"{cost.bops:,.0f}")
            cells += (options.strategy_of(name), reuse[name])
        elif layer.weight is not None:
            own_bops = f"{layers[name].bops:,.0f}" if name in layers else ""
            zeros = f"{layers[name].sparsity:.1%}" if layer.kind == "tables" else ""
            cells = (layer.weight, layer.bias or "", "", exact, zeros, own_bops, "", "")
        rows.append((name, "x".join(map(str, node.output)), *cells))
    return _table(header, rows)


def _estimates(firmware: Firmware, network: Trained, *, slowest: int) -> str:
    """Return a list of estimates, each with its source; the slowest layer has the largest reuse factor."""
    lines = [
        f"- {_graph(firmware.adder_graph)}.",
        f"- rule4ml (a neural surrogate of HLS reports): {_surrogate(network, firmware.options)}.",
    ]
    if slowest > 1:
        clock = firmware.options.clock_period
        lines.append(f"- From the reuse factors: a new sample every {slowest} clock cycles of {clock:g} ns at best.")
    return "\n".join(lines)


def _graph(graph: GraphCheck) -> str:
    if graph.reason:
        return f"Adder graph (da4ml): none: {graph.reason}"
    costs = graph.costs
    timed = ""
    if "adder_latency_ns" in costs:
        timed = (
            f"; {costs['adder_latency_ns']:g} ns with a new sample every {costs['adder_interval_ns']:g} ns, "
            "by the delays of this family before routing"
        )
    return (
        "Adder graph (da4ml; the network unrolled into shifts and additions, one sample per clock cycle): "
        f"{costs['adder_luts']:,.0f} LUT, {costs['adder_levels']:.0f} adder levels; with {graph.settings.cut} "
        f"{costs['adder_stages']:.0f} pipeline stages, that is clock cycles of latency, and "
        f"{costs['adder_registers']:,.0f} register bits{timed}"
    )


def _surrogate(network: Trained, options: HlsOptions) -> str:
    board = board_of(options)
    if board is None:
        return f"none: {options.part} is on none of its boards"
    found = rule4ml_estimate(network, board)
    if isinstance(found, str):
        return f"none: {found}"
    return ", ".join(f"{name.replace('_', ' ')} {value:,.4g}" for name, value in found.items())


def _hashes(project: Path) -> str:
    """Return the table of the hashes of the main files."""
    main = (KERAS, f"{MODEL}/weights.npz", ARCHITECTURE, VECTORS.as_posix(), "emulation.json")
    sources = [path.relative_to(project).as_posix() for path in sorted(project.glob("**/firmware/*.*")) if path.suffix != ".so"]
    there = [name for name in (*main, *sources) if (project / name).is_file()]
    return _table(("file", "SHA-256"), [(f"`{name}`", f"`{file_hash(project / name)}`") for name in there])


def _table(header: Iterable[str], rows: Iterable[Iterable[object]]) -> str:
    """Return a table in Markdown."""
    header = tuple(header)
    lines = ["| " + " | ".join(map(str, row)) + " |" for row in (header, *rows)]
    return "\n".join((lines[0], "|" + "---|" * len(header), *lines[1:]))
