"""What stands in for workers and trainings, where a test is about something else."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from kerasnac.adapters.keras import pruning, train
from kerasnac.adapters.keras.member import Fit, Member
from kerasnac.adapters.workers.base import Watch
from kerasnac.core.data.dataset import Development
from kerasnac.core.network.architecture import Architecture
from kerasnac.core.network.quantization import ActivationRange
from kerasnac.core.network.training import Training
from kerasnac.core.store.seeding import derive_seed
from kerasnac.stages.run import session
from kerasnac.ui import plots
from kerasnac.ui.report import page


class InProcess:
    """Stands in for the workers: this process runs the items, the last one first, as results may come in any order.

    Args:
        data: Given to every task.
        processes: Not used.
    """

    processes = 1

    def __init__(self, data: Development, processes: int | None = None) -> None:
        self._data = data

    def try_map(
        self, task: Any, items: Sequence[Any], *, tick: Callable[[], None] = lambda: None, watch: Watch = lambda numbers: None
    ) -> Iterator[tuple[int, Any]]:
        for index in reversed(range(len(items))):
            watch([index])
            yield index, task(self._data, items[index])
            tick()
        watch([])

    map = try_map

    def try_supply(
        self,
        task: Any,
        supply: Callable[[int], Sequence[Any]],
        *,
        tick: Callable[[], None] = lambda: None,
        watch: Watch = lambda numbers: None,
    ) -> Iterator[tuple[int, Any]]:
        """Run two items at a time, of which the second one ends first."""
        supplied = 0
        while items := supply(2):
            yield from ((supplied + index, result) for index, result in self.try_map(task, items, tick=tick))
            supplied += len(items)

    def close(self) -> None:
        pass


class Formula:
    """Stands in for :func:`kerasnac.adapters.keras.train.fit`: a result by a formula of the arguments.

    Attributes:
        calls: Architecture, number of samples, hyperparameters and seed of every training so far.
        left: How many trainings there may still be before the next one is interrupted; None for any number.
    """

    def __init__(self) -> None:
        self.calls: list[tuple[Architecture, int, Training, int]] = []
        self.left: int | None = None

    def __call__(
        self,
        architecture: Architecture,
        data: Development,
        training: Training,
        *,
        seed: int,
        start: Any = None,
        mold: Any = None,
        repeated: bool = False,
        callbacks: Any = (),
    ) -> Fit:
        if self.left is not None:
            if self.left == 0:
                raise KeyboardInterrupt
            self.left -= 1
        self.calls.append((architecture, len(data.train), training, seed))
        metric = derive_seed(seed, training, architecture.id, data.fingerprint) / 2**31
        weights = start
        if weights is None:
            parts = ((f"{node.name}/{part}", weight) for node in architecture.nodes for part, weight in node.weights.items())
            weights = {name: np.full(weight.shape, metric, np.float32) for name, weight in parts}
        return Fit(dict(weights), metric, 1 - metric, training.epochs, 0.1)


class Drawing:
    """Stands in for a figure."""

    def savefig(self, file: Any, **options: Any) -> None:
        file.write(b"a drawing")


def without_trainings(patch: pytest.MonkeyPatch, *, drawings: bool = False) -> Formula:
    """Put formulas in place of all that needs TensorFlow, and simple files in place of conversions and drawings.

    Args:
        patch: Undoes it.
        drawings: Draw the real ones.
    """
    formula = Formula()

    def pruned(*arguments: Any, trained: Any, fractions: Any, **options: Any) -> Fit:
        return formula(*arguments, **options)

    def snapshot(member: Member, data: Development) -> Fit:
        fit = formula(member.architecture, data, member.training, seed=member.seed, start=member.start)
        return replace(fit, snapshot=fit.weights)

    def ranges(architecture: Any, *arguments: Any, **options: Any) -> dict[str, ActivationRange]:
        names = [node.name for node in architecture.nodes if node.layer.kind == "activation"]
        return {name: ActivationRange((-1.0, 1.0), (0.0, 1.0)) for name in names}

    def predict(architecture: Any, weights: Any, x: Any) -> Any:
        return np.tanh(x[:, :2]).astype(np.float32)

    patch.setattr(session, "LocalWorkers", InProcess)
    patch.setattr(session, "convert_one", lambda data, job: "there is no firmware in this test")
    patch.setattr(train, "fit", formula)
    patch.setattr("kerasnac.adapters.keras.predict.predict", predict)
    patch.setattr(train, "activation_ranges", ranges)
    patch.setattr(pruning, "fit_pruned", pruned)
    patch.setattr(pruning, "fit_gradually_pruned", lambda *a, fractions, **options: formula(*a, **options))
    patch.setattr(train, "train", snapshot)
    if not drawings:
        for name in ("search", "convergence", "tuning", "compression"):
            patch.setattr(plots, name, lambda *arguments, **options: Drawing())
        patch.setattr(page, "plotly_script", str)  # 5 MB for every report
    return formula
