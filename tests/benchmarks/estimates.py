"""How good are the estimates: BOPs, rule4ml and adder graphs against the look-up tables that Yosys counts.

python tests/benchmarks/estimates.py --data jets.npz --out DIR [--models 24]

Draws random networks of a space, trains, quantizes and prunes them at random widths and sparsities, and compares.
Called again, it continues where it was stopped.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import count, islice
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from scipy.stats import spearmanr

import kerasnac as kn
from kerasnac.adapters.keras.pruning import fit_pruned, prunable_kernels
from kerasnac.adapters.keras.train import fit, quantized_start
from kerasnac.adapters.rtl.adder_graph import unroll
from kerasnac.adapters.rtl.estimator import AdderGraphEstimator
from kerasnac.adapters.rtl.verilog import write_design
from kerasnac.adapters.rtl.yosys import parse, synthesise
from kerasnac.adapters.rule4ml import Rule4mlEstimator
from kerasnac.core.data.dataset import Development
from kerasnac.core.hardware.boards import board
from kerasnac.core.network.trained import Trained
from kerasnac.core.network.training import Training
from kerasnac.core.settings import CandidateGraphSettings, Rule4mlSettings
from kerasnac.core.store.seeding import generator

BOARD = board("vu13p")

#: Networks that may need more LUTs are left out: Yosys takes a quarter of an hour for 100,000.
LARGEST = 40_000

#: Estimate -> what it is.
ESTIMATES = {
    "bops": "bit operations of the trained network",
    "rule4ml": "rule4ml's LUTs, which are of HLS with multipliers, for its architecture and width",
    "drawn graph": "adder graph of drawn weights, before any training",
    "adder graph": "adder graph of the trained weights",
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="jets for kn.datasets.jets")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--space", default="jets_mlp")
    parser.add_argument("--models", type=int, default=24)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    data = kn.datasets.jets(options.data, samples=20_000).development
    with ThreadPoolExecutor(2) as pool:  # Yosys is another process: two run side by side.
        drawn = (draw for i in count() if (draw := Draw.of(options, i)).expected_luts < LARGEST)
        jobs = [pool.submit(synthesised, options.out, *measured(data, options, draw)) for draw in islice(drawn, options.models)]
        frame = pd.DataFrame([job.result() for job in jobs])
    frame.to_csv(options.out / "estimates.csv", index=False)
    print(frame.round(2).to_string())
    print(summary(frame).round(3).to_string())


@dataclass(frozen=True)
class Draw:
    """A random network with random widths and sparsity."""

    number: int
    architecture: kn.Architecture
    widths: dict[str, int]
    sparsity: float

    @classmethod
    def of(cls, options: argparse.Namespace, number: int) -> Draw:
        rng = generator(options.seed, "estimates", number)
        space = kn.load_space(options.space)
        architecture = space.decode(space.sample_feasible(rng)).architecture
        widths = {"weight_bits": int(rng.integers(3, 8)), "activation_bits": int(rng.integers(4, 9))}
        return cls(number, architecture, widths, float(rng.uniform(0.6, 0.95)))

    @property
    def expected_luts(self) -> float:
        """Two LUTs per bit of every weight that is left: good enough to leave out what Yosys would take long for."""
        return 2 * self.widths["weight_bits"] * (1 - self.sparsity) * self.architecture.parameters


def measured(data: Development, options: argparse.Namespace, drawn: Draw) -> tuple[Trained, dict[str, Any]]:
    """A random network, trained, and its estimates with the milliseconds that each takes."""
    architecture, widths, sparsity, number = drawn.architecture, drawn.widths, drawn.sparsity, drawn.number
    folder = options.out / "models" / f"{number:02d}"
    model = Trained.load(folder) if folder.exists() else trained(data, architecture, widths, sparsity, folder)
    surrogate = Rule4mlEstimator(Rule4mlSettings(precision=f"ap_fixed<{widths['weight_bits']},1>"), BOARD)
    draw = AdderGraphEstimator(CandidateGraphSettings(**widths, sparsity=sparsity), BOARD, options.seed)
    row: dict[str, Any] = {"model": number, **widths, "sparsity": model.sparsity}
    sources: dict[str, Callable[[], Any]] = {
        "bops": lambda: kn.bops(model.architecture, sparsity=model.layer_sparsity),
        "rule4ml": lambda: value(surrogate.estimate(data, [architecture])[0], "lut"),
        "drawn graph": lambda: value(draw.estimate(data, [architecture])[0], "adder_luts"),
        "adder graph": lambda: unroll(model.architecture, model.weights).luts,
    }
    for name, source in sources.items():
        start = time.perf_counter()
        row[name] = source()
        row[f"{name}, ms"] = 1000 * (time.perf_counter() - start)
    return model, row


def trained(data: Development, architecture: kn.Architecture, widths: dict[str, int], sparsity: float, folder: Path) -> Trained:
    training = Training(epochs=2, learning_rate=2e-3)
    float_ = fit(architecture, data, training, seed=0)
    quantized, start = quantized_start(architecture, float_.weights, data, **widths, clip_quantile=1e-3)
    warm = fit(quantized, data, training, seed=0, start=start)
    fractions = dict.fromkeys(prunable_kernels(quantized, warm.weights, prune_output=False), sparsity)
    small = fit_pruned(quantized, data, training, seed=0, start=start, trained=warm.weights, fractions=fractions)
    model = Trained(folder.name, quantized, small.weights, training, {"accuracy": small.metric}, 0)
    model.save(folder)
    return model


def synthesised(out: Path, model: Trained, row: dict[str, Any]) -> dict[str, Any]:
    folder = out / "verilog" / model.name
    known = folder / "yosys.json"
    if known.exists():
        cells = parse(known.read_text())
    else:
        folder.mkdir(parents=True, exist_ok=True)
        start = time.perf_counter()
        cells = synthesise(write_design(unroll(model.architecture, model.weights), model.name, folder))
        print(f"{model.name}: {cells.luts} LUT after {time.perf_counter() - start:.0f} s", flush=True)
    return row | {"yosys": cells.luts, "yosys ff": cells.ffs}


def value(costs: dict[str, float] | str, metric: str) -> float:
    return float("nan") if isinstance(costs, str) else costs[metric]


def summary(frame: pd.DataFrame) -> pd.DataFrame:
    """Rank correlation with Yosys' LUTs, median relative error, and the same after the best common factor."""
    rows = {}
    for name in ESTIMATES:
        known = frame.dropna(subset=[name])
        ratio = known[name] / known["yosys"]
        rows[name] = {
            "models": len(known),
            "Spearman": spearmanr(known[name], known["yosys"]).statistic,
            "median error": float("nan") if name == "bops" else np.median(np.abs(ratio - 1)),
            "scaled by its median": np.median(np.abs(ratio / np.median(ratio) - 1)),
            "ms": known[f"{name}, ms"].median(),
        }
    return pd.DataFrame(rows).T


if __name__ == "__main__":
    main()
