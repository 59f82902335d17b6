"""Random networks of every space with exact firmware, trained briefly and put through the whole conversion.

python tests/benchmarks/fuzz.py --models 200 --seed 1 --out DIR [--spaces jets_mlp digits] [--samples 1000]

Spaces are those that come with the package (``shipped``, the default), or small ones with every kind of layer (``small``).
Widths are 2 to 16 bits, in the small spaces also ternary, binary and 1 bit; 0 to 95 % of the weights are pruned; samples lie
on the grid and beyond what the formats were fitted to. ``DIR/fuzz.csv`` gets one row per model as it is done; called again,
it goes on where it stopped. What the proof refuses (sums beyond 53 bits) is counted apart, with its reason: it is no failure.
"""

from __future__ import annotations

import argparse
import csv
import shutil
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kerasnac.adapters.hls4ml.backends import check_layers
from kerasnac.adapters.keras.runtime import become_worker
from kerasnac.adapters.keras.train import fit, quantized_start
from kerasnac.adapters.programs import Limits
from kerasnac.core.data.dataset import Dataset, Split, Task, make_dataset
from kerasnac.core.hardware.hls_options import HlsOptions
from kerasnac.core.network.architecture import Architecture
from kerasnac.core.network.exactness import check_exact
from kerasnac.core.network.precision import Precision
from kerasnac.core.network.trained import Trained
from kerasnac.core.network.training import Training
from kerasnac.core.network.widths import Width
from kerasnac.core.settings.yaml_files import load_space, names
from kerasnac.core.space.search_space import SearchSpace
from kerasnac.core.store.seeding import generator
from kerasnac.errors import ConversionError, KerasnacError
from kerasnac.stages.firmware.delivery import make_firmware
from kerasnac.stages.firmware.result import Firmware

COLUMNS = (
    "index",
    "space",
    "model",
    "network",
    "parameters",
    "weight_bits",
    "activation_bits",
    "input_grid",
    "sparsity",
    "io_type",
    "strategy",
    "samples",
    "outputs",
    "mismatches",
    "arithmetic",
    "float32_differs",
    "max_ulp",
    "first_layer",
    "refused",
    "failed",
    "convert_s",
    "compile_s",
    "emulate_s",
    "total_s",
    "graph_equal",
    "graph_outputs",
    "graph_reason",
)

_ACTIVATIONS = ["none", "relu", "leaky_relu", "gelu", "tanh", "sigmoid"]
_NORMS = ["none", "batch", "layer"]
_FEW_BITS = {"weight_bits": ["ternary", "binary", 3, 6], "activation_bits": [1, 2, 4, 6], "table_bits": [4, 8, 12]}
_HEAD = {"block": "mlp", "widths": [[3, 6], [4, 5]], "depth": [0, 1, 2], "norm": _NORMS, "activation": _ACTIVATIONS}
_TRANSFORMER = {
    "block": "transformer",
    "width": [3, 4],
    "depth": [1, 2],
    "heads": [1, 2],
    "head_width": [2, 3],
    "hidden": [3, 5],
    "norm": _NORMS,
    "activation": _ACTIVATIONS,
}

#: Small spaces by name, whose networks compile in seconds.
SMALL: Mapping[str, Mapping[str, Any]] = {
    "norms_on_maps": {
        "input": [6, 5, 2],
        "outputs": 2,
        "blocks": [
            {"block": "conv", "channels": [2, 3], "kernel": [1, 3], "norm": _NORMS, "activation": _ACTIVATIONS},
            {
                "block": "residual",
                "body": {"block": "conv", "channels": [2, 3], "padding": "same", "norm": _NORMS, "activation": _ACTIVATIONS},
                "activation": _ACTIVATIONS,
            },
            {"block": "pool", "op": ["mean", "max"], "size": [0, 2, 3]},
            _HEAD,
        ],
    },
    "sets": {
        "input": [5, 3],
        "outputs": 3,
        "blocks": [
            {
                "block": "deep_sets",
                "depth": [0, 1, 2],
                "widths": [[3, 5], [4, 6]],
                "bottleneck": [2, 3],
                "aggregate": ["mean", "max"],
                "norm": _NORMS,
                "activation": _ACTIVATIONS,
            },
            _HEAD,
        ],
    },
    "masked_sets": {
        "input": [6, 3],
        "outputs": 3,
        "blocks": [
            {"block": "deep_sets", "widths": [[3, 5]], "mask": True, "norm": _NORMS, "activation": _ACTIVATIONS},
            _HEAD,
        ],
    },
    "attention": {
        "input": [4, 3, 2],
        "outputs": 2,
        "blocks": [
            {"block": "attention", "width": [2, 3], "heads": [1, 2], "scaled": [True, False], "scores": ["softmax", "relu"]},
            {"block": "pool", "op": ["mean", "max"], "size": 0},
            _HEAD,
        ],
    },
    "transformers": {"input": [5, 3], "outputs": 3, "blocks": [{**_TRANSFORMER, "aggregate": ["mean", "max"]}]},
    "masked_transformers": {"input": [6, 3], "outputs": 3, "blocks": [{**_TRANSFORMER, "mask": True}]},
    "few_bits": {
        "input": [7],
        "outputs": 3,
        "firmware": "exact",
        "blocks": [
            {
                "block": "mlp",
                "widths": [[4, 8], [4, 6]],
                "depth": [1, 2],
                "norm": _NORMS,
                "activation": _ACTIVATIONS,
                **_FEW_BITS,
            }
        ],
        "output_layer": {"weight_bits": ["ternary", "binary", 4]},
    },
    "few_bits_on_maps": {
        "input": [7, 2],
        "outputs": 2,
        "firmware": "exact",
        "blocks": [
            {"block": "conv", "channels": [2, 4], "norm": _NORMS, "activation": _ACTIVATIONS, **_FEW_BITS},
            {"block": "pool", "op": ["mean", "max"], "size": [0, 3]},
        ],
    },
}

#: Training samples: the weights are to have been trained, not to be good.
TRAINING_SAMPLES = 400


@dataclass(frozen=True)
class Case:
    """A network with samples for it and options of the conversion."""

    space: str
    trained: Trained
    split: Split
    task: Task
    options: HlsOptions


def exact_spaces() -> list[str]:
    """Names of the shipped spaces with ``firmware: exact``."""
    return [name for name in names() if load_space(name).firmware == "exact"]


def space_of(name: str) -> SearchSpace:
    """A shipped space, or a small one."""
    return SearchSpace.model_validate(SMALL[name]) if name in SMALL else load_space(name)


def random_case(space: str, index: int, seed: int, samples: int, *, most_bits: int = 16, smallest: int = 1) -> Case:
    """A random network of a space, trained for an epoch as a float and for one as a quantized network, then pruned.

    Args:
        space: Name of the space.
        index: Number of the case.
        seed: Seed of all cases.
        samples: How many to compare on.
        most_bits: Widest weights and activations.
        smallest: Draw so many networks and take the one with the fewest parameters.
    """
    rng = generator(seed, "fuzz", space, index)
    described = space_of(space)
    drawn = [described.decode(described.sample_feasible(rng)).architecture for _ in range(smallest)]
    architecture = min(drawn, key=lambda a: (a.parameters, a.id))
    task = Task("regression", described.outputs) if space.startswith("bragg") else Task("classification", described.outputs)
    data = _data(rng, architecture, task, seed=index)
    training = Training(epochs=1, batch_size=64, learning_rate=0.003)
    weight_bits, activation_bits = _drawn_widths(rng, most_bits, few=space in SMALL)
    floating = fit(architecture, data.development, training, seed=index)
    quantized, start = quantized_start(
        architecture,
        floating.weights,
        data.development,
        weight_bits=weight_bits,
        activation_bits=activation_bits,
        clip_quantile=1e-2,
    )
    weights = _pruned(fit(quantized, data.development, training, seed=index, start=start).weights, rng.uniform(0, 0.95))
    stream = bool(rng.random() < 0.5)
    strategy = str(rng.choice(["latency", "resource", "distributed_arithmetic"], p=[0.5, 0.35, 0.15]))
    reuse = int(rng.integers(1, 17)) if strategy == "resource" else 1
    options = HlsOptions.of(io_type="io_stream" if stream else "io_parallel", strategy=strategy, reuse_factor=reuse)
    try:
        check_layers(quantized.without_window(), options)
    except ConversionError:  # Products of activations have no streams.
        options = HlsOptions.of(strategy=strategy, reuse_factor=reuse)
    loud = rng.choice([0.3, 1.0, 3.0], (samples, *[1] * len(architecture.input_shape)))
    x = loud * rng.normal(0, 1, (samples, *architecture.input_shape))
    if any(layer.kind == "mask" for layer in architecture.layers):  # Particles that are not there come last.
        there = rng.integers(0, x.shape[1] + 1, samples)
        x *= (np.arange(x.shape[1]) < there[:, None])[:, :, None]
    labels = rng.normal(size=(samples, task.outputs)) if task.kind == "regression" else rng.integers(0, task.outputs, samples)
    trained = Trained(f"{space}_{index}", quantized, weights, training, {}, index)
    return Case(space, trained, Split(x.astype(np.float32), labels), task, options)


def _drawn_widths(rng: np.random.Generator, most_bits: int, *, few: bool) -> tuple[Width, int]:
    """Widths of weights and activations; with ``few``, one in five is the narrowest there is."""
    weights: Width = int(rng.integers(2, most_bits + 1))
    activations = int(rng.integers(2, most_bits + 1))
    if few and rng.random() < 0.2:
        weights = str(rng.choice(["ternary", "binary"]))
    return weights, 1 if few and rng.random() < 0.2 else activations


def _data(rng: np.random.Generator, architecture: Architecture, task: Task, *, seed: int) -> Dataset:
    """Samples that have something to learn: the labels are linear in them."""
    x = rng.normal(size=(TRAINING_SAMPLES, *architecture.input_shape))
    heights = x.reshape(len(x), -1) @ rng.normal(size=(int(np.prod(architecture.input_shape)), task.outputs))
    y: Any = np.arange(len(x)) % task.outputs if task.kind == "classification" else heights / heights.std()
    if task.kind == "classification":
        x += 0.3 * rng.normal(size=(task.outputs, *architecture.input_shape))[y]
    grid = Precision(int(rng.integers(6, 13)), int(rng.integers(2, 4)))
    return make_dataset(x, y, name="random", task=task, seed=seed, input_grid=grid, max_saturation=0.2, split=_blocks)


def _blocks(count: int) -> tuple[NDArray[np.intp], NDArray[np.intp], NDArray[np.intp]]:
    """Splits one after the other: the classes alternate, so that every split has all of them."""
    train, validation, test = np.split(np.arange(count), [count // 2, 3 * count // 4])
    return train, validation, test


def _pruned(weights: Mapping[str, Any], sparsity: float) -> dict[str, Any]:
    """The smallest weights of every kernel set to zero."""
    result = dict(weights)
    for name, value in weights.items():
        if name.endswith("/kernel"):
            result[name] = np.where(np.abs(value) < np.quantile(np.abs(value), sparsity), 0, value).astype(np.float32)
    return result


def convert(case: Case, folder: Path, limits: Limits | None = None) -> tuple[Firmware | None, str, str]:
    """The firmware, why the proof refuses the network, why the conversion failed: one of the three."""
    architecture = case.trained.architecture.without_window()
    try:
        check_exact(architecture, case.trained.weights)
    except ConversionError as error:
        return None, str(error), ""
    try:
        made = make_firmware(
            case.trained, case.split, case.task, folder=folder, options=case.options, exact=False, limits=limits
        )
    except KerasnacError as error:
        return None, "", str(error)
    return made, "", ""


def row(index: int, case: Case, made: Firmware | None, refused: str, failed: str, seconds: float) -> dict[str, object]:
    """A line of the table."""
    architecture = case.trained.architecture
    result: dict[str, object] = {
        "index": index,
        "space": case.space,
        "model": architecture.id,
        "network": str(architecture),
        "parameters": architecture.parameters,
        "weight_bits": _widths(layer.weight for layer in architecture.layers),
        "activation_bits": _widths(layer.activation for layer in architecture.layers),
        "input_grid": str(architecture.input),
        "sparsity": f"{case.trained.sparsity:.3f}",
        "io_type": case.options.io_type,
        "strategy": case.options.strategy,
        "samples": len(case.split),
        "refused": refused,
        "failed": failed,
        "total_s": f"{seconds:.1f}",
    }
    if made is not None and made.comparison is not None:
        result |= {
            "outputs": made.outputs,
            "mismatches": made.mismatches,
            "arithmetic": made.arithmetic.exact.dtype,
            "float32_differs": made.arithmetic.float32.mismatches if made.arithmetic.float32 else 0,
            "max_ulp": made.comparison.max_ulp,
            "first_layer": made.emulation.first_layer.layer if made.emulation.first_layer else "",
            "convert_s": f"{made.seconds['convert']:.2f}",
            "compile_s": f"{made.seconds['compile']:.2f}",
            "emulate_s": f"{made.seconds['emulate']:.2f}",
            "graph_equal": made.adder_graph.equal,
            "graph_outputs": made.adder_graph.outputs,
            "graph_reason": made.adder_graph.reason,
        }
    return result


def _widths(grids: Iterable[Precision | None]) -> str:
    """All widths that occur: those of a space with widths of its own are not those that were drawn."""
    return " ".join(map(str, sorted({grid.bits for grid in grids if grid is not None})))


def done(path: Path) -> set[int]:
    """Numbers of the models that are in a table; a row that was cut off is removed."""
    if not path.exists():
        return set()
    text = path.read_text(encoding="utf-8")
    if not text.endswith("\n"):
        path.write_text(text[: text.rfind("\n") + 1], encoding="utf-8")
    with path.open(encoding="utf-8", newline="") as stream:
        return {int(line["index"]) for line in csv.DictReader(stream)}


def fuzz(models: int, seed: int, out: Path, *, spaces: list[str], samples: int, limits: Limits | None = None) -> Path:
    """Fills the table; returns its path."""
    out.mkdir(parents=True, exist_ok=True)
    table = out / "fuzz.csv"
    known = done(table)
    with table.open("a", encoding="utf-8", newline="") as stream:
        writer = csv.DictWriter(stream, COLUMNS)
        if stream.tell() == 0:
            writer.writeheader()
        for index in range(models):
            if index in known:
                continue
            start = time.perf_counter()
            case = random_case(spaces[index % len(spaces)], index, seed, samples)
            folder = out / "project"
            made, refused, failed = convert(case, folder, limits)
            line = row(index, case, made, refused, failed, time.perf_counter() - start)
            writer.writerow(line)
            stream.flush()
            wrong = bool(failed) or (made is not None and not made.bit_exact)
            if wrong:  # kept, to look at
                for kept in (folder, folder.with_name("project.failed")):
                    if kept.exists():
                        shutil.move(kept, out / f"wrong-{index}")
            verdict = made.verdict if made else f"refused: {refused}" if refused else f"FAILED: {failed}"
            widths = f"w {line['weight_bits']}, a {line['activation_bits']}, {case.trained.sparsity:.0%} zero"
            print(f"{index} {case.space}, {widths}, {case.options.io_type}: {verdict}", flush=True)
    return table


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--models", type=int, default=200)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--samples", type=int, default=1000)
    parser.add_argument("--spaces", nargs="+", default=["shipped"])
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    become_worker()
    groups = {"shipped": exact_spaces(), "small": list(SMALL)}
    table = fuzz(
        options.models,
        options.seed,
        options.out,
        spaces=[name for given in options.spaces for name in groups.get(given, [given])],
        samples=options.samples,
        limits=Limits(seconds=1800),
    )
    with table.open(encoding="utf-8", newline="") as stream:
        rows = list(csv.DictReader(stream))
    compared = [line for line in rows if line["outputs"]]
    outputs, wrong = (sum(int(line[key]) for line in compared) for key in ("outputs", "mismatches"))
    graphs = [line for line in compared if int(line["graph_outputs"])]
    double = sum(line["arithmetic"] == "float64" for line in compared)
    graph_wrong = sum(int(line["graph_outputs"]) - int(line["graph_equal"]) for line in graphs)
    print(
        f"{len(rows)} models: {len(compared)} compared, {double} of them in float64, {outputs:,} outputs, {wrong:,} differ; "
        f"{sum(bool(line['refused']) for line in rows)} refused by the proof, "
        f"{sum(bool(line['failed']) for line in rows)} failed; {len(graphs)} with an adder graph, "
        f"{graph_wrong:,} of whose outputs differ"
    )


if __name__ == "__main__":
    main()
