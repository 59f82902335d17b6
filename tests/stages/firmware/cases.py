"""Networks with random weights, and samples for them, to be converted."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from kerasnac.adapters.keras.predict import activation_ranges
from kerasnac.core.data.dataset import Split, Task
from kerasnac.core.network.precision import Precision
from kerasnac.core.network.quantization import quantize
from kerasnac.core.network.trained import Trained
from kerasnac.core.network.training import Training
from kerasnac.core.network.weights import fold
from kerasnac.core.space.search_space import SearchSpace
from tests.networks import trained_weights

PART = "xcvu13p-flga2577-2-e"
SAMPLES = 1500
ACTIVATIONS = ["none", "relu", "leaky_relu", "gelu", "tanh", "sigmoid"]


@dataclass(frozen=True)
class Case:
    """A random network, samples for it and options of the conversion."""

    trained: Trained
    split: Split
    task: Task
    options: dict[str, Any]
    bits: tuple[int, int]


def random_space(rng: np.random.Generator, outputs: int) -> SearchSpace:
    """Convolutions and dense layers, or dense layers alone."""
    common = {"norm": ["none", "batch", "layer"], "activation": ACTIVATIONS}
    mlp = {"block": "mlp", "widths": [[4, 8, 16], [3, 8, 12]], "depth": [1, 2], **common}
    if rng.random() < 0.5:
        return SearchSpace.model_validate({"input": [int(rng.integers(3, 20))], "outputs": outputs, "blocks": [mlp]})
    kernels = {"channels": [2, 3, 5], "kernel": [1, 3], "padding": ["valid", "same"]}
    conv = {"block": "conv", "convolutions": int(rng.integers(1, 3)), **kernels, **common}
    return SearchSpace.model_validate({"input": [6, 5, int(rng.integers(1, 3))], "outputs": outputs, "blocks": [conv, mlp]})


def random_case(seed: int, most_bits: int = 16) -> Case:
    """A network whose formats were fitted on quiet samples, and loud ones that saturate every activation."""
    rng = np.random.default_rng(seed)
    outputs = int(rng.integers(1, 5))
    task = Task("classification", outputs) if rng.random() < 0.5 and outputs > 1 else Task("regression", outputs)
    space = random_space(rng, outputs)
    architecture = space.decode(space.sample_feasible(rng)).architecture
    signed = bool(rng.random() < 0.6)
    grid = Precision(int(rng.integers(2 + signed, 11)), int(rng.integers(-1, 5)), signed)
    values = np.abs if not signed else np.asarray
    x = values(rng.normal(0, 1, (SAMPLES, *architecture.input_shape)) * grid.maximum)
    folded, weights = fold(architecture, trained_weights(architecture, rng))
    quiet = grid.quantize(x[:200] * rng.choice([0.1, 0.5, 1.0])).astype(np.float32)
    observed = activation_ranges(folded, weights, quiet, clip_quantile=1e-2)
    bits = (int(rng.integers(2, most_bits + 1)), int(rng.integers(2, most_bits + 1)))
    quantized = quantize(folded, weights, observed, input_grid=grid, weight_bits=bits[0], activation_bits=bits[1])
    labels = rng.integers(0, outputs, SAMPLES) if task.kind == "classification" else rng.normal(size=(SAMPLES, outputs))
    options = [
        {},
        {"reuse_factor": 2},
        {"strategy": "resource", "reuse_factor": int(rng.integers(1, 20))},
        {"strategy": "distributed_arithmetic"},
        {"io_type": "io_stream"},
        {"io_type": "io_stream", "strategy": "resource", "reuse_factor": int(rng.integers(1, 20))},
        {"backend": "Vivado"},
    ]
    return Case(
        Trained(f"random_{seed}", quantized, weights, Training(), {}, seed),
        Split(x.astype(np.float32), labels),
        task,
        options[int(rng.integers(len(options)))],
        bits,
    )


def small_case() -> Case:
    """A small classification with two blocks of dense layers."""
    rng = np.random.default_rng(5)
    space = SearchSpace.model_validate({"input": [6], "outputs": 3, "blocks": [{"block": "mlp", "widths": [8]}]})
    architecture = space.decode(space.sample_feasible(rng)).architecture
    weights = trained_weights(architecture, rng)
    grid = Precision(8, 3)
    x = grid.quantize(rng.normal(size=(SAMPLES, 6))).astype(np.float32)
    observed = activation_ranges(architecture, weights, x, clip_quantile=1e-3)
    quantized = quantize(architecture, weights, observed, input_grid=grid, weight_bits=6, activation_bits=6)
    labels = rng.integers(0, 3, SAMPLES)
    return Case(
        Trained("small", quantized, weights, Training(), {}, 5), Split(x, labels), Task("classification", 3), {}, (6, 6)
    )
