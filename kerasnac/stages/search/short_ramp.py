"""Short trainings with learned widths: a candidate of a search becomes a front of quantized networks."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from kerasnac.core.data.dataset import Development
from kerasnac.core.hardware.boards import BOARDS, DEFAULT_BOARD, Board
from kerasnac.core.network.architecture import Architecture
from kerasnac.core.network.learned import with_places
from kerasnac.core.network.trained import Trained
from kerasnac.core.network.training import Training
from kerasnac.core.network.weights import Weights, fold
from kerasnac.core.search.evaluation import RampPoint
from kerasnac.core.settings import AdderGraphSettings, RampSettings
from kerasnac.core.store.seeding import derive_seed
from kerasnac.errors import ConversionError, RunError


@dataclass(frozen=True)
class ShortRamp:
    """How the widths of a candidate are learned.

    Attributes:
        settings: Lengths, rates, pressure, and the number of points.
        graph: Settings of the adder graphs of the points; None for no graphs.
        board: What ``adder_percent`` of these is of.
    """

    settings: RampSettings
    graph: AdderGraphSettings | None = None
    board: Board = BOARDS[DEFAULT_BOARD]

    def points(
        self, architecture: Architecture, weights: Weights, training: Training, data: Development, seed: int
    ) -> tuple[tuple[RampPoint, ...], str]:
        """Learn the widths of a float network, and measure the networks on the way.

        Args:
            architecture: Float.
            weights: As trained.
            training: The float training; widths are learned on the same fraction of the samples.
            data: The development splits.
            seed: Of the candidate's trainings.

        Returns:
            Networks that are finite and have all costs, by cycle; and if there are none, the reason.
        """
        part = replace(data, train=data.train.take(slice(training.samples(len(data.train)))))
        obstacles: list[str] = []
        points = tuple(self._measured(architecture, weights, part, derive_seed(seed, "learned"), obstacles))
        return points, "" if points else obstacles[-1]

    def _measured(
        self, architecture: Architecture, weights: Weights, data: Development, seed: int, obstacles: list[str]
    ) -> Iterator[RampPoint]:
        """Yield points, and note what there is against others."""
        from kerasnac.adapters.keras.learned.checkpoints import front, measured, spread
        from kerasnac.adapters.keras.learned.ramp import Checkpoint, Ramp
        from kerasnac.adapters.rtl.adder_graph import adder_graph_costs

        kept: list[Checkpoint] = []
        try:
            network, start = fold(architecture.plain, weights)
            ramp = Ramp(with_places(network), start, data, self.settings, seed)
            for number in range(self.settings.cycles):
                kept = front([*kept, ramp.cycle(number)], data.task)
        except (ConversionError, RunError) as obstacle:  # Of a ramp that diverged, the networks before are finite.
            obstacles.append(str(obstacle))
        for checkpoint in spread(kept, self.settings.points):
            try:
                quantized, values, scores = measured(ramp, checkpoint, data)
                graph = {} if self.graph is None else adder_graph_costs(quantized, values, self.graph, self.board)
            except ConversionError as obstacle:
                obstacles.append(str(obstacle))
                continue
            bops = Trained("point", quantized, dict(values), Training(), {}, seed).bops
            yield RampPoint(checkpoint.cycle, {**scores.recorded(data.task), "bops": bops, **graph})
