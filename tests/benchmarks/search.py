"""NSGA-II against random search: hypervolume over evaluations, several seeds.

python tests/benchmarks/search.py --data jets.npz --out DIR [--evaluations 200] [--seeds 3]

Both searches of a seed share a journal, so what one has trained costs the other nothing. The hypervolumes of all
searches are in one box, spanned by everything that any of them has trained.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

import kerasnac as kn
from kerasnac.adapters.search.nsga2 import Hypervolume
from kerasnac.core.network.training import Training
from kerasnac.core.settings import SearchSettings
from kerasnac.stages.search.result import SearchResult


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="jets for kn.datasets.jets")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--space", default="jets_mlp")
    parser.add_argument("--evaluations", type=int, default=200)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--samples", type=int, default=30_000)
    parser.add_argument("--epochs", type=int, default=3)
    options = parser.parse_args()
    data = kn.datasets.jets(options.data, samples=options.samples)
    settings = SearchSettings(evaluations=options.evaluations, training=Training(epochs=options.epochs))
    results: dict[tuple[str, int], SearchResult] = {}
    with kn.progress_bar() as progress:
        for seed in range(options.seeds):
            for algorithm in ("nsga2", "random"):
                with kn.Run(options.out / str(seed), data, seed=seed, progress=progress) as run:
                    results[algorithm, seed] = run.search(options.space, settings, algorithm=algorithm)
    everything = np.concatenate([scaled_losses(result) for result in results.values()])
    # The worst trainings fail altogether; a box that holds them leaves no room to see the others.
    volume = Hypervolume(everything, np.quantile(everything, 0.9, axis=0))
    curves = {key: [volume(scaled_losses(result)[:n]) for n in steps(options)] for key, result in results.items()}
    frame = pd.DataFrame(curves, index=pd.Index(steps(options), name="evaluations"))
    frame.to_csv(options.out / "hypervolume.csv")
    means = frame.T.groupby(level=0).agg(["mean", "min", "max"]).T.unstack()
    print(means.iloc[::2].round(4).to_string())
    figure = Figure(figsize=(8, 5), layout="constrained")
    axes = figure.subplots()
    for color, algorithm in (("tab:red", "nsga2"), ("tab:gray", "random")):
        for seed in range(options.seeds):
            axes.plot(frame[algorithm, seed], color=color, label=algorithm if seed == 0 else None)
    axes.set(xlabel="candidates trained", ylabel="hypervolume", title=f"{options.space}, {options.seeds} seeds")
    axes.legend()
    figure.savefig(options.out / "hypervolume.png", dpi=120)


def scaled_losses(result: SearchResult) -> np.ndarray:
    """What the objectives of the trained candidates are compared by, in the order of the search."""
    values = [[o.scaled_loss(e.metrics[o.metric]) for o in result.objectives] for e in result.trained]
    return np.array(values)


def steps(options: argparse.Namespace) -> list[int]:
    return list(range(10, options.evaluations + 1, 10))


if __name__ == "__main__":
    main()
