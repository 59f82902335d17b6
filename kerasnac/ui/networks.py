"""Search spaces, and networks without weights, as tables: those that come with kerasnac, and those of files."""

from __future__ import annotations

import math
from pathlib import Path

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from kerasnac.core.network.architecture import Architecture, short
from kerasnac.core.network.bops import bops, costs
from kerasnac.core.network.exactness import firmware_meaning
from kerasnac.core.network.trained import Trained
from kerasnac.core.settings.yaml_files import load_space, names
from kerasnac.core.space.baselines import BASELINES, get
from kerasnac.core.space.references import Reference
from kerasnac.core.space.search_space import SearchSpace
from kerasnac.ui import show, tables


def is_one(place: Path) -> bool:
    """Return True for the name of a baseline, a file, or the folder of a saved model, and not for a run folder."""
    saved = any((place / name).is_file() for name in ("model.json", "saved_model.pb"))
    return place.is_file() or saved or (str(place) in BASELINES and not place.exists())


def one(place: Path) -> RenderableType:
    """Return the layers of a baseline, of the network of a file, or of a saved model.

    Raises:
        ConfigError: If the file holds no network.
        RunError: If the saved model is damaged.
    """
    if (place / "model.json").is_file():
        model = Trained.load(place)
        return Group(Text(f"{model.name}: {model.architecture}"), show.layers(model))
    return network(Reference.read(str(place)))


def network(found: Reference) -> RenderableType:
    """Return a network without weights by its layers, with what they cost."""
    architecture = found.architecture
    space = BASELINES[found.name][0] if found.name in BASELINES else ""
    lines = [
        f"{found.name}: {_shape(architecture.input_shape)} to {_shape(architecture.output_shape)}, id {architecture.id}",
        f"{architecture}",
        f"It is in the search space of the run file {space} (`kerasnac spaces {space}`)." if space else "",
        f"As one of a run file: seeds: [{found.name}], or tune: {{baselines: [{found.name}]}}" if space else "",
    ]
    return Group(Text("\n".join(filter(None, lines))), layers(architecture))


def layers(architecture: Architecture) -> Table:
    """Return the layers of a float network: what they read, their outputs, parameters and bit operations."""
    table = tables.plain("Layers", "layer", "kind", "reads", "output", "parameters", "BOPs at 32 bits", "at 8 bits")
    wide, narrow = (
        {cost.layer: cost.bops for cost in costs(architecture, weight_bits=bits, activation_bits=bits)} for bits in (32, 8)
    )
    for number, node in enumerate(architecture.nodes):
        others = [source for source in node.inputs if source != number - 1]
        reads = ", ".join("input" if source < 0 else architecture.names[source] for source in node.inputs) if others else ""
        count = sum(math.prod(weight.shape) for weight in node.weights.values() if weight.trainable)
        own = (f"{spent[node.name]:,.0f}" if node.name in spent else "" for spent in (wide, narrow))
        table.add_row(node.name, short(node.layer), reads, _shape(node.output), f"{count:,}" if count else "", *own)
    sums = (f"{bops(architecture, weight_bits=bits, activation_bits=bits):,.0f} BOPs at {bits} bits" for bits in (32, 8))
    table.caption = ", ".join([f"{architecture.parameters:,} parameters", *sums])
    return table


def catalogue() -> RenderableType:
    """Return the run files and the baselines that come with kerasnac."""
    files = Table()
    for heading in ("name", "input", "outputs", "genes", "genomes"):
        files.add_column(heading)
    for name in names():
        found = load_space(name)
        files.add_row(name, str(found.input), str(found.outputs), str(len(found.genes)), f"{found.size():.2e}")
    title = "Baselines, for `seeds` and `baselines` of run files; `kerasnac show NAME` shows one"
    known = tables.plain(title, "name", "input", "outputs", "parameters", "run file")
    for name, (file, _) in BASELINES.items():
        network = get(name)
        (outputs,) = network.output_shape
        known.add_row(name, str(network.input_shape), str(outputs), f"{network.parameters:,}", file)
    return Group(files, known)


def space(found: SearchSpace) -> RenderableType:
    """Return the genes of a space; of one without choices, its network."""
    title = f"{found.size():.3e} genomes, input {found.input}, {found.outputs} outputs, firmware: {found.firmware}"
    if not found.genes:
        return Group(Text(f"{title}: no choices, one network"), layers(found.decode(()).architecture))
    table = Table(title=title)
    for heading in ("gene", "values", "firmware"):
        table.add_column(heading, overflow="fold")
    for gene, values in found.genes.items():
        notes = [f"{value}: {note}" for value in values if (note := firmware_meaning(gene, value)) != "exact"]
        table.add_row(gene, ", ".join(map(str, values)), "\n".join(notes) or "exact")
    return table


def _shape(shape: tuple[int, ...]) -> str:
    return "x".join(map(str, shape))
