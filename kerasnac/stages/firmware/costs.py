"""The costs of a trained, quantized network on an FPGA, by every source there is, side by side."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from kerasnac.adapters.keras.foreign.model import as_trained
from kerasnac.core.hardware.boards import DEFAULT_BOARD, Board
from kerasnac.core.hardware.boards import board as board_named
from kerasnac.core.hardware.hls_options import HlsOptions
from kerasnac.core.hardware.timing import DEFAULT_PERIOD
from kerasnac.core.network.bops import LayerCost
from kerasnac.core.network.trained import Trained
from kerasnac.core.settings import AdderGraphSettings, Rule4mlSettings
from kerasnac.errors import ConfigError, ConversionError, EnvironmentProblem

if TYPE_CHECKING:
    from kerasnac.adapters.rtl.adder_graph import AdderGraph

Found = TypeVar("Found")


@dataclass(frozen=True)
class HardwareCosts:
    """Costs of one network.

    Attributes:
        name: Name of the network.
        board: Board or part that percentages are of.
        layers: MACs, widths, zeros of the quantized weights, BOPs and memory of every layer that multiplies.
        estimates: Source -> its metrics, or the reason why it has none.
        luts: ``adder_luts`` by layer, and by cause in it; see :data:`kerasnac.adapters.rtl.causes.CAUSES`. Empty without
            an adder graph.
    """

    name: str
    board: str
    layers: tuple[LayerCost, ...]
    estimates: Mapping[str, Mapping[str, float] | str]
    luts: Mapping[str, Mapping[str, float]]

    @property
    def bops(self) -> float:
        """Bit operations of one inference."""
        return sum(layer.bops for layer in self.layers)

    @property
    def memory(self) -> int:
        """Bits of all weights and biases."""
        return sum(layer.memory for layer in self.layers)


def hardware_costs(
    model: Trained | Any,
    *,
    board: str = DEFAULT_BOARD,
    clock_period: float = DEFAULT_PERIOD,
    rule4ml: Rule4mlSettings | None = None,
    adder_graph: AdderGraphSettings | None = None,
) -> HardwareCosts:
    """Return the costs of a network by all sources.

    Args:
        model: A network, or a Keras model of your own, or its file; estimates need it quantized.
        board: Board or part.
        clock_period: In nanoseconds, by which the latency of the adder graph is counted.
        rule4ml: Settings of the surrogate; its precision is by default that of the weights.
        adder_graph: How the adder graph is made, which has the network's own widths and weights.

    Returns:
        Costs; a source that has no estimate gives its reason in place of one.

    Raises:
        ConfigError: If the board is unknown, or the clock period is not one.
    """
    entry, model = board_named(board), as_trained(model)
    surrogate = rule4ml_estimate(model, entry, rule4ml)
    clock = HlsOptions.of(part=entry.part, clock_period=clock_period).clock
    settings = (adder_graph or AdderGraphSettings()).at(clock)
    graph = _or_reason(lambda: _adder_graph(model, settings))
    found, luts = (graph, {}) if isinstance(graph, str) else (graph.costs(entry, clock), graph.spent)
    return HardwareCosts(model.name, entry.name, model.layer_costs, {"rule4ml": surrogate, "adder_graph": found}, luts)


def rule4ml_estimate(model: Trained, board: Board, settings: Rule4mlSettings | None = None) -> Mapping[str, float] | str:
    """Return the estimate of rule4ml for a network, or the reason why there is none.

    Raises:
        ConfigError: If rule4ml does not know what the settings ask for; without settings, that is a reason.
    """
    try:
        return _or_reason(lambda: _surrogate(model, board, settings))
    except ConfigError as reason:
        if settings is not None:
            raise
        return str(reason)


def board_of(options: HlsOptions) -> Board | None:
    """Return the board, or bare part, that a project is for; None if its resources are not known."""
    try:
        return board_named(options.part)
    except ConfigError:
        return None


def _or_reason(estimate: Callable[[], Found]) -> Found | str:
    """Return an estimate, or why there is none: one source that cannot say anything must not silence the others."""
    try:
        return estimate()
    except (ConversionError, EnvironmentProblem) as reason:
        return str(reason)


def _surrogate(model: Trained, board: Board, settings: Rule4mlSettings | None) -> Mapping[str, float] | str:
    from kerasnac.adapters.rule4ml import Rule4mlEstimator

    widths = sorted({layer.weight.fixed.bits for layer in model.architecture.layers if layer.weight is not None})
    if settings is None:
        if len(widths) != 1:
            return f"rule4ml sees one precision for the whole network, this one has weights of {widths or 'no'} bits"
        # It looks at the width alone.
        settings = Rule4mlSettings(precision=f"ap_fixed<{widths[0]},1>")
    estimator = Rule4mlEstimator(settings, board)
    return estimator.estimate_one(model.architecture)


def _adder_graph(model: Trained, settings: AdderGraphSettings) -> AdderGraph:
    from kerasnac.adapters.rtl.adder_graph import unroll

    return unroll(model.architecture, model.weights, settings)
