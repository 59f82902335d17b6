"""Random boosted trees, and data that trees can learn."""

from __future__ import annotations

import numpy as np

from kerasnac.core.data.dataset import Dataset, Task, make_dataset
from kerasnac.core.network.precision import Precision
from kerasnac.core.trees.ensemble import Ensemble, Node, Round, split


def random_ensemble(grid: Precision, outputs: int, rounds: int, *, depth: int = 3, offset: int = 0, seed: int = 0) -> Ensemble:
    """Trees of 4 features whose leaves have 3 bits, and shifts that differ from round to round."""
    rng = np.random.default_rng(seed)
    low = int(grid.minimum / grid.step)

    def tree(left: int) -> Node:
        if left == 0 or rng.random() < 0.1:
            return int(rng.integers(8))
        threshold = int(rng.integers(low + 1, low + 2**grid.bits))
        return split(int(rng.integers(4)), threshold, tree(left - 1), tree(left - 1))

    made = (Round(tuple(tree(depth) for _ in range(outputs)), int(rng.integers(3)), offset) for _ in range(rounds))
    return Ensemble(grid, 4, 2, tuple(rng.integers(-5, 6, outputs).tolist()), tuple(made))


def steps(kind: str = "classification", samples: int = 1200, outputs: int = 3) -> Dataset:
    """Samples of 4 features, of which two say what is asked for, in steps and with some noise."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(samples, 4))
    score = np.floor(1.5 * x[:, 0]) + (x[:, 1] > 0.3) + 0.2 * rng.normal(size=samples)
    if kind == "classification":
        y = np.clip(np.round(score + 1), 0, outputs - 1).astype(int)
    else:
        y = np.stack([100 + score, 7 * (x[:, 1] > 0.3) - score], axis=1)
        outputs = 2
    return make_dataset(x, y, name="steps", task=Task(kind, outputs), seed=0, input_bits=8)
