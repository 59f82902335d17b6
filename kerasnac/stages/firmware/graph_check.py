"""The adder graph of a network against Keras: a third opinion beside the emulation, and its costs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from kerasnac.core.hardware.boards import Board
from kerasnac.core.hardware.hls_options import HlsOptions
from kerasnac.core.hardware.timing import Clock
from kerasnac.core.network.exactness import output_formats
from kerasnac.core.network.precision import Precision
from kerasnac.core.network.trained import Trained
from kerasnac.core.settings import AdderGraphSettings
from kerasnac.errors import ConversionError, EnvironmentProblem
from kerasnac.stages.firmware.comparison import Mismatch, compare
from kerasnac.stages.firmware.costs import board_of

if TYPE_CHECKING:
    from kerasnac.adapters.rtl.adder_graph import AdderGraph


@dataclass(frozen=True)
class GraphCheck:
    """Every output of da4ml's integer interpreter against Keras, and the costs of the adder graph.

    Attributes:
        outputs: Number of outputs compared; 0 if there is no adder graph.
        equal: How many of them equal Keras.
        reason: Why there is no adder graph, if there is none.
        settings: How the graph was made.
        costs: ``adder_luts`` and the like, by the names of the source ``adder_graph``.
        first_mismatch: The first output that differs.
        luts: ``adder_luts`` by layer, and by cause in it; see :data:`kerasnac.adapters.rtl.causes.CAUSES`. Empty in reports of
            earlier versions.
    """

    outputs: int
    equal: int
    reason: str
    settings: AdderGraphSettings
    costs: Mapping[str, float]
    first_mismatch: Mismatch | None = None
    luts: Mapping[str, Mapping[str, float]] = field(default_factory=dict)

    @property
    def agrees(self) -> bool:
        """True if not one output differs; also where there is no adder graph."""
        return self.equal == self.outputs

    @property
    def disagreement(self) -> str:
        """One line on what differs; empty if nothing does."""
        first = self.first_mismatch
        if first is None:
            return ""
        return (
            f"the adder graph is NOT bit-exact: {self.outputs - self.equal} of {self.outputs} outputs differ (first: sample "
            f"{first.sample}, output {first.output}: Keras {first.keras!r}, adder graph {first.firmware!r})"
        )

    def __str__(self) -> str:
        if self.reason:
            return f"adder graph: none ({self.reason})"
        text = f"adder graph, da4ml's integer interpreter against QKeras: {self.equal} of {self.outputs} outputs equal"
        return text if self.agrees else f"{text}\n  {self.disagreement}"

    @classmethod
    def of(
        cls,
        graph: AdderGraph,
        x: NDArray[np.float32],
        keras: NDArray[Any],
        grid: Precision,
        board: Board | None = None,
        clock: Clock | None = None,
    ) -> GraphCheck:
        """Compare an adder graph with Keras.

        Args:
            graph: The graph.
            x: Samples on the input grid, shape (samples, ...), float32.
            keras: Outputs of Keras, shape (samples, ...), float32 or float64.
            grid: Format of the outputs.
            board: What ``adder_percent`` is of, if it is known.
            clock: By which latency is counted in nanoseconds, if the delays of the part are known.
        """
        expected = keras.reshape(len(keras), -1)
        found = compare(graph.predict(x), expected, grid)
        equal = expected.size - found.mismatches
        costs = graph.costs(board, clock)
        return cls(expected.size, equal, "", graph.settings, costs, found.first_mismatch, graph.spent)


def check_graph(
    network: Trained,
    x: NDArray[np.float32],
    keras: NDArray[Any],
    settings: AdderGraphSettings,
    options: HlsOptions,
) -> GraphCheck:
    """Unroll a network and compare its adder graph with Keras, or say why it has none.

    Args:
        network: A quantized network without a window.
        x: Samples on the input grid, shape (samples, ...), float32.
        keras: Outputs of Keras, shape (samples, ...), float32 or float64.
        settings: How the graph is made.
        options: Part and clock of the firmware, by which its costs are counted.
    """
    from kerasnac.adapters.rtl.adder_graph import unroll

    try:
        graph = unroll(network.architecture, network.weights, settings)
    except (ConversionError, EnvironmentProblem) as reason:
        return GraphCheck(0, 0, str(reason), settings, {})
    grid = output_formats(network.architecture, network.weights)[network.architecture.names[-1]]
    return GraphCheck.of(graph, x, keras, grid, board_of(options), options.clock)
