"""Options of a high-level synthesis project: one frozen object from the run file to the report."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, PositiveInt

from kerasnac.core.checks import Checked, with_options
from kerasnac.core.hardware.boards import BOARDS, DEFAULT_BOARD, board
from kerasnac.core.hardware.timing import DEFAULT_PERIOD, Clock
from kerasnac.core.network.architecture import Architecture
from kerasnac.core.network.exactness import KERNEL_KINDS
from kerasnac.errors import ConfigError

#: HLS compilers that a project can be written for.
Backend = Literal["Vitis", "Vivado", "Catapult", "Quartus", "oneAPI"]

#: Parallel arrays, or one position after the other.
IoType = Literal["io_parallel", "io_stream"]

#: How kernel layers are implemented.
Strategy = Literal["latency", "resource", "distributed_arithmetic"]

#: A clock period in nanoseconds.
Period = Annotated[float, Field(gt=0, le=1e6)]

#: Who computes the softmax of a classifier: whoever reads the firmware, a second project that approximates it, or the
#: firmware itself, by tables that Keras reads as well.
SoftmaxMode = Literal["host", "chip", "exact"]

#: Names that layers with a kernel can have in any network: ``dense_0``, ``conv2d_3``.
LayerName = Annotated[str, Field(pattern=rf"^({'|'.join(KERNEL_KINDS)})_(0|[1-9]\d*)$")]


def _part_number(text: str) -> str:
    return board(text).part if text.lower() in BOARDS else text


class LayerOptions(Checked):
    """Options of a single layer; None is the option of the network.

    Attributes:
        strategy: How it is implemented.
        reuse_factor: Multiplications per multiplier.
    """

    strategy: Strategy | None = None
    reuse_factor: PositiveInt | None = None


class HlsOptions(Checked):
    """Options of a conversion.

    Attributes:
        part: FPGA part number, or the name of a board.
        backend: HLS compiler for which the project is written.
        clock_period: In nanoseconds.
        io_type: ``io_parallel`` or ``io_stream``.
        strategy: ``latency``, ``resource`` or ``distributed_arithmetic`` (adder graphs, with da4ml).
        reuse_factor: Multiplications per multiplier; with the strategy ``resource`` every layer takes the closest
            factor that it can have.
        layers: Strategy and reuse factor of single layers with a kernel, by name.
    """

    part: Annotated[str, AfterValidator(_part_number)] = BOARDS[DEFAULT_BOARD].part
    backend: Backend = "Vitis"
    clock_period: Period = DEFAULT_PERIOD
    io_type: IoType = "io_parallel"
    strategy: Strategy = "latency"
    reuse_factor: PositiveInt = 1
    layers: dict[LayerName, LayerOptions] = Field(default_factory=dict)

    @classmethod
    def of(cls, options: HlsOptions | None = None, /, **single: Any) -> HlsOptions:
        """Return options with single ones replaced: ``HlsOptions.of(part="zcu102", strategy="resource")``.

        Raises:
            ConfigError: Naming the first option that cannot be right.
        """
        given = {} if options is None else {name: getattr(options, name) for name in HlsOptions.model_fields}
        return with_options(HlsOptions, HlsOptions(**given), single)

    @property
    def clock(self) -> Clock | None:
        """Clock by which the latency of the adder graph is counted; None if the delays of the part are not known."""
        return Clock.of(self.clock_period, self.part)

    def strategy_of(self, layer: str) -> Strategy:
        """Return the strategy of a layer."""
        own = self.layers.get(layer)
        return (own and own.strategy) or self.strategy

    def reuse_factor_of(self, layer: str) -> int:
        """Return the reuse factor that is asked for in a layer."""
        own = self.layers.get(layer)
        return (own and own.reuse_factor) or self.reuse_factor

    def check(self, architecture: Architecture | None = None) -> None:
        """Check what is possible in any network, or in one.

        Raises:
            ConfigError: If strategy and reuse factor exclude each other, or a layer of :attr:`layers` is not there.
        """
        for name in (None, *self.layers):
            strategy, reuse = (
                (self.strategy, self.reuse_factor) if name is None else (self.strategy_of(name), self.reuse_factor_of(name))
            )
            if strategy == "distributed_arithmetic" and reuse != 1:
                where = f"layers.{name}: " if name else ""
                raise ConfigError(f"{where}strategy {strategy} has no multipliers to reuse: set reuse_factor to 1, not {reuse}")
        if architecture is None:
            return
        kernels = [node.name for node in architecture.nodes if node.layer.kind in KERNEL_KINDS]
        for name in self.layers:
            if name not in kernels:
                raise ConfigError(f"layers.{name}: the network has no such layer; those with a kernel are {', '.join(kernels)}")

    @property
    def strategies(self) -> frozenset[Strategy]:
        """All strategies that occur."""
        return frozenset((self.strategy, *(self.strategy_of(name) for name in self.layers)))

    def to_dict(self) -> dict[str, Any]:
        """Return the options by name, JSON-ready."""
        return HlsOptions.of(self).model_dump(mode="json", exclude_none=True)

    def __str__(self) -> str:
        data = self.to_dict()
        own = data.pop("layers")
        words = [f"{key} {value}" for key, value in data.items()]
        words += [f"{name} {' '.join(f'{k} {v}' for k, v in options.items())}" for name, options in own.items()]
        return ", ".join(words)
