"""Settings of the sources of hardware costs."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self, TypeVar

from pydantic import AfterValidator, NonNegativeInt, PositiveInt, ValidationInfo

from kerasnac.core.hardware.boards import board
from kerasnac.core.hardware.timing import Clock
from kerasnac.core.settings.base import Settings
from kerasnac.core.store.keys import decisive
from kerasnac.errors import ConfigError

#: Search for common subexpressions: ``fast`` tries one decomposition of every kernel, ``full`` tries many.
Effort = Literal["fast", "full"]


class AdderGraphSettings(Settings):
    """Settings of the adder graph into which a network is unrolled, and of its pipeline stages.

    Attributes:
        effort: ``fast`` or ``full`` search for common subexpressions.
        latency_cutoff: Adder levels between two registers, at most, as da4ml counts them: the addition of a constant is none.
        max_depth: In its place, a bound for ``adder_depth``, which counts them all. ``clock``: as many as the clock period
            holds, by the delays of :data:`kerasnac.core.hardware.timing.DELAYS`.
    """

    effort: Effort = "fast"
    latency_cutoff: PositiveInt = 5
    max_depth: PositiveInt | Literal["clock"] | None = None

    @property
    def depth_bound(self) -> int | None:
        """The bound of settings that :meth:`at` has returned."""
        assert self.max_depth != "clock", "AdderGraphSettings.at puts a number in its place"
        return self.max_depth

    @property
    def cut(self) -> str:
        """How the graph is cut, in words."""
        if self.max_depth is None:
            return f"{self.latency_cutoff} adder levels between registers"
        return f"at most {self.max_depth} adders in a row between registers"

    def at(self, clock: Clock | None) -> Self:
        """Return the same settings with the number that ``max_depth: clock`` stands for.

        Args:
            clock: None if the delays of the FPGA are not known.

        Raises:
            ConfigError: If there is no such number.
        """
        if self.max_depth != "clock":
            return self
        if clock is None:
            raise ConfigError("max_depth: clock needs a part of a known family, UltraScale+ or 7 series: give a number")
        if not clock.levels:
            raise ConfigError(
                f"max_depth: a clock period of {clock.period:g} ns is too short for one adder on {clock.delays.family}: "
                f"use {clock.fastest(1):g} ns or more"
            )
        return self.model_copy(update={"max_depth": clock.levels})

    @property
    def identity(self) -> dict[str, Any]:
        """Fields that decide the costs of a graph, for :func:`kerasnac.core.store.keys.content_key`."""
        return decisive(self, ("effort", "latency_cutoff", "max_depth"))


_Graph = TypeVar("_Graph", bound=AdderGraphSettings)


def _cut_by_the_clock(value: _Graph, info: ValidationInfo) -> _Graph:
    """Return settings with the number that ``max_depth: clock`` stands for, by the clock and the part or board before them."""
    given = info.data
    if "clock_period" not in given or not {"part", "board"} & given.keys():
        return value  # The checks of these say what is wrong with them.
    return value.at(Clock.of(given["clock_period"], given["part"] if "part" in given else board(given["board"]).part))


#: Settings of an adder graph beside a ``clock_period``, and a ``part`` or ``board``, which are fields before them.
Clocked = Annotated[_Graph, AfterValidator(_cut_by_the_clock)]


class Rule4mlSettings(Settings):
    """Settings of the resource surrogate rule4ml.

    Attributes:
        strategy: ``latency`` or ``resource``.
        reuse_factor: Multiplications per multiplier.
        precision: The one number format of the whole network.
        hls4ml: Version of hls4ml that the estimate is for.
        vivado: Version of the vendor's tools that the estimate is for.
        samples: Monte-Carlo dropout samples, whose spread is recorded; 0 for one deterministic prediction.
    """

    strategy: Literal["latency", "resource"] = "latency"
    reuse_factor: PositiveInt = 1
    precision: str = "ap_fixed<8,3>"
    hls4ml: str = "1.1.0"
    vivado: str = "2023.2"
    samples: NonNegativeInt = 0
