"""What goes with a firmware project: the model, test vectors, a script that repeats the comparison, a summary, hashes."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kerasnac.adapters.hls4ml import csim, standalone
from kerasnac.adapters.hls4ml.conversion import read_types, reuse_factors
from kerasnac.adapters.keras.build import save_keras
from kerasnac.core.hardware.boards import board
from kerasnac.core.hardware.hls_options import HlsOptions
from kerasnac.core.network.bops import costs
from kerasnac.core.network.exactness import KERNEL_KINDS, output_formats
from kerasnac.core.network.trained import Trained
from kerasnac.core.store.files import write_json, write_text
from kerasnac.core.store.versions import versions
from kerasnac.errors import ConfigError, RunError

#: Where in a firmware folder the network, the report and the hashes of all files are.
MODEL, REPORT, MANIFEST = Path("kerasnac/model"), "report.json", "manifest.json"

#: The samples of the comparison on the input grid, and what Keras says of them.
VECTORS = Path("kerasnac/vectors.npz")

#: The QKeras model, and the network as JSON.
KERAS, ARCHITECTURE = "model.keras", "architecture.json"

#: Samples that are written for hls4ml's test bench; RTL co-simulation is slow.
TEST_VECTORS = 1000

#: Files whose content is no part of the result: logs, libraries, and what synthesis writes.
_LOGS = (".log", ".so", ".o", ".pyc")
_SYNTHESIS = ("build_opt.tcl", "vendor_report.json", MANIFEST)

#: Files that a compiler, a shell or Python may read in place of a delivered one, wherever they are.
_READ = (".h", ".hpp", ".cpp", ".sh", ".py")


def write_evidence(
    network: Trained,
    project: Path,
    x: NDArray[np.float32],
    keras: NDArray[np.float32],
    *,
    original: Trained,
    options: HlsOptions,
    report: str,
    data: Mapping[str, Any],
    graph: Mapping[str, float] | str,
) -> None:
    """Puts all into a project that :func:`write_manifest` then closes.

    Args:
        network: The network of the firmware, without a window.
        project: Folder of the project.
        x: Samples on the input grid.
        keras: What Keras says of them.
        original: The network as it was given.
        options: What the project is for.
        report: The comparison as text.
        data: The same as JSON.
        graph: Costs of the adder graph, or why it has none.
    """
    vectors = project / "tb_data"
    vectors.mkdir(exist_ok=True)
    for name, values in (("tb_input_features.dat", x), ("tb_output_predictions.dat", keras)):
        np.savetxt(vectors / name, values[:TEST_VECTORS].reshape(-1, values[0].size), fmt="%.17g")
    original.save(project / MODEL)
    np.savez_compressed(project / VECTORS, x=x, keras=keras)
    save_keras(network.architecture, network.weights, project / KERAS)
    write_json(project / ARCHITECTURE, network.architecture.to_dict())
    shutil.copy(csim.__file__, project / "kerasnac" / "emulate.py")
    shutil.copy(standalone.__file__, project / "validate.py")
    write_json(project / REPORT, data)
    write_text(project / "report.txt", report)
    write_text(project / "summary.md", summary(network, project, options, str(data["verdict"]), graph))


def write_manifest(project: Path) -> None:
    """Writes the hash of every file of a project, which :func:`changes` compares."""
    write_json(project / MANIFEST, {"sha256": {name: _hash(project / name) for name in _files(project)}})


def changes(project: Path) -> tuple[str, ...]:
    """What is not as :func:`write_manifest` found it: ``firmware/defines.h has changed``.

    Raises:
        RunError: If the folder is no firmware folder, or its manifest is damaged.
    """
    path = project / MANIFEST
    if not path.is_file():
        raise RunError(f"{project} is no complete firmware folder: {MANIFEST} is missing")
    try:
        hashes: Mapping[str, str] = json.loads(path.read_text(encoding="utf-8"))["sha256"]
        found = []
        for name, value in hashes.items():
            file = project / name
            try:
                if not file.is_file():
                    found.append(f"{name} is missing")
                elif _hash(file) != value:
                    found.append(f"{name} has changed")
            except OSError as error:
                found.append(f"{name} cannot be read: {error.strerror}")
        added = [name for name in _files(project) if name not in hashes and _counts(name)]
    except (ValueError, KeyError, TypeError, AttributeError, OSError) as error:
        raise RunError(f"{path} is damaged: {error!r}") from error
    return (*found, *(f"{name} was added" for name in added))


def _counts(name: str) -> bool:
    """Whether a file that was not delivered makes a folder another one; notes and what vendors' tools write do not."""
    path = PurePosixPath(name)
    if any(part.endswith("_prj") for part in path.parts):
        return False
    own = name in (csim.INTERFACE, REPORT, KERAS, ARCHITECTURE)  # if somebody has struck them off the manifest
    return own or path.suffix in _READ or "firmware" in path.parts or path.parts[0] == MODEL.parts[0]


def _files(project: Path) -> Iterator[str]:
    for path in sorted(project.rglob("*")):
        name = path.relative_to(project).as_posix()
        if (path.is_file() or path.is_symlink()) and path.suffix not in _LOGS and path.name not in _SYNTHESIS:
            yield name


def _hash(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def summary(network: Trained, project: Path, options: HlsOptions, verdict: str, graph: Mapping[str, float] | str) -> str:
    """One page on a project, in Markdown."""
    architecture = network.architecture
    kept = {cost.layer: cost for cost in costs(architecture, sparsity=network.layer_sparsity)}
    formats, reuse = output_formats(architecture, network.weights), reuse_factors(architecture, options)
    lines = [
        f"# {network.name}",
        "",
        f"`{architecture}`",
        "",
        f"**{verdict}**",
        "",
        f"hls4ml project `kerasnac`: {options}. Input `{architecture.input}`, shape {architecture.input_shape}; output "
        f"`{formats[architecture.names[-1]]}`, shape {architecture.output_shape}.",
        "",
        "| layer | output | weight | bias | accumulator | result | zeros | BOPs | strategy | reuse |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for node in architecture.nodes:
        layer, name, exact = node.layer, node.name, formats[node.name]
        shape = "x".join(map(str, node.output))
        if layer.kind in KERNEL_KINDS:
            cost = kept[name]
            cells: list[object] = [layer.weight, layer.bias, exact, exact, f"{cost.sparsity:.1%}", f"{cost.bops:,.0f}"]
            cells += [options.strategy_of(name), reuse[name]]
        else:
            cells = ["", "", "", exact, "", "", "", ""]
        lines.append(f"| {name} | {shape} | " + " | ".join(str(cell) for cell in cells) + " |")
    total = sum(cost.bops for cost in kept.values())
    lines += [
        "",
        f"{architecture.parameters:,} parameters, {network.sparsity:.1%} of the kernel weights zero, {total:,.0f} BOPs.",
        "",
        "## Resources and latency, estimated",
        "",
        *_estimates(network, options, graph, slowest=max(reuse.values(), default=1)),
        "",
        "Neither is a synthesis: `kerasnac firmware synth` runs one and reads its reports.",
        "",
        "## Files",
        "",
        f"`{KERAS}` is the QKeras model (`kerasnac.load_keras`, or `qkeras.utils.load_qmodel` with the layers of",
        "`kerasnac.adapters.keras.custom.custom()` as custom objects), "
        f"`{ARCHITECTURE}` the network; hls4ml's `keras_model.keras` holds the rounded weights without quantizers.",
        f"`tb_data` holds {TEST_VECTORS:,} samples at most for the vendor's C simulation and co-simulation, `{VECTORS}` all.",
        "`python validate.py` repeats the comparison with NumPy and a C++ compiler, `kerasnac firmware validate` with Keras.",
        "",
        "## Where it is from",
        "",
        f"Seed {network.seed}; network `{architecture.id}`.",
        f"Versions: {', '.join(f'{name} {version}' for name, version in versions().items())}.",
        "",
        "| file | SHA-256 |",
        "|---|---|",
    ]
    main = (KERAS, f"{MODEL}/weights.npz", ARCHITECTURE, VECTORS.as_posix(), "emulation.json")
    sources = [path.relative_to(project).as_posix() for path in sorted(project.glob("**/firmware/*.*")) if path.suffix != ".so"]
    lines += [f"| `{name}` | `{_hash(project / name)}` |" for name in (*main, *sources) if (project / name).is_file()]
    lines += ["", f"All others are in `{MANIFEST}`. `defines.h` has {len(read_types(project))} types."]
    return "\n".join(lines) + "\n"


def _estimates(network: Trained, options: HlsOptions, graph: Mapping[str, float] | str, *, slowest: int) -> list[str]:
    """Lines about resources and latency, each saying of what it is."""
    lines = []
    if isinstance(graph, str):
        lines.append(f"- Adder graph (da4ml): none: {graph}.")
    else:
        lines.append(
            f"- Adder graph (da4ml; the network unrolled into shifts and additions, one sample per clock cycle): "
            f"{graph['luts']:,.0f} LUT, {graph['levels']:.0f} adder levels; with {graph['latency_cutoff']:.0f} levels between "
            f"registers {graph['stages']:.0f} pipeline stages, that is clock cycles of latency, and "
            f"{graph['register_bits']:,.0f} register bits."
        )
    lines.append(f"- rule4ml (a neural surrogate of HLS reports): {_surrogate(network, options)}.")
    if slowest > 1:
        lines.append(
            f"- From the reuse factors: a new sample every {slowest} clock cycles of {options.clock_period:g} ns at best."
        )
    return lines


def _surrogate(network: Trained, options: HlsOptions) -> str:
    from kerasnac.stages.firmware.costs import rule4ml_estimate

    try:
        entry = board(options.part)
    except ConfigError:
        return f"none: {options.part} is on none of its boards"
    found = rule4ml_estimate(network, entry)
    if isinstance(found, str):
        return f"none: {found}"
    return ", ".join(f"{name.replace('_', ' ')} {value:,.4g}" for name, value in found.items())
