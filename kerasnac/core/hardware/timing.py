"""How fast an adder graph can be clocked: a delay per adder level and FPGA family, estimated before any routing."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass

#: Clock period where none is stated, in nanoseconds: 200 MHz.
DEFAULT_PERIOD = 5.0

#: Metrics of an adder graph that depend on the clock. They are computed from the others whenever those are read, so that
#: no journal holds them for a clock that has changed since.
TIMED = ("adder_latency_ns", "adder_interval_ns")


@dataclass(frozen=True)
class Delays:
    """Delays of logic on one family of FPGAs.

    Attributes:
        family: Its name.
        register: What every path between two registers takes besides its adders, in nanoseconds: clock to output, setup,
            clock uncertainty, and the net to the second register.
        level: One adder of some 8 bits with the net before it, in nanoseconds.
    """

    family: str
    register: float
    level: float


#: Delays by the beginning of a part number. They are sums of what Vivado's ``report_timing`` lists along routed adders, for
#: the slow corner; nets, half of them or more, vary with placement by a factor of two, so that a clock may turn out 30 %
#: faster or slower.
#:
#: UltraScale+ (16 nm, speed grade -2): net 0.30, LUT 0.12, CARRY8 0.18 ns; register 0.10 + 0.03 + 0.035 + 0.035 ns. In speed
#: grade -1, routed reports of an xczu3eg say 0.2 to 0.6, 0.04 to 0.18, 0.15 to 0.25 and 0.10 ns. Eight levels in 5 ns and
#: two in 2 ns are what da4ml's authors use on such chips (https://github.com/calad0i/da4ml).
#:
#: 7 series (28 nm, Artix fabric, speed grade -1): net 0.75, LUT 0.12, two CARRY4 0.40 + 0.33 ns; register 0.46 + 0.1 + 0.1 +
#: 0.04 ns. Routed reports say 0.6 to 1.2, 0.124, 0.40 to 0.55 and 0.22 to 0.33 ns.
DELAYS: Mapping[str, Delays] = {
    r"xc(u|vu\d+p|ku\d+p|zu|k26|k24|au)": Delays("UltraScale+", register=0.2, level=0.6),
    r"xc7": Delays("7 series", register=0.7, level=1.6),
}


def delays(part: str) -> Delays | None:
    """Return the delays of a part; None if its family is not in :data:`DELAYS`."""
    return next((found for pattern, found in DELAYS.items() if re.match(pattern, part.lower())), None)


@dataclass(frozen=True)
class Clock:
    """Clock of a design on an FPGA.

    Attributes:
        period: In nanoseconds.
        delays: Of the family.
    """

    period: float
    delays: Delays

    @classmethod
    def of(cls, period: float, part: str) -> Clock | None:
        """Return the clock of a part, by its number; None if the delays of its family are not known."""
        found = delays(part)
        return None if found is None else cls(period, found)

    @property
    def levels(self) -> int:
        """Adder levels between two registers that a period holds; none if it is too short for one."""
        return max(0, math.floor((self.period - self.delays.register) / self.delays.level + 1e-9))

    def fastest(self, depth: float) -> float:
        """Return the shortest period, in nanoseconds, for so many adder levels between two registers."""
        return round(self.delays.register + depth * self.delays.level, 6)

    def timed(self, costs: Mapping[str, float], cutoff: int) -> dict[str, float]:
        """Return the costs of an adder graph with those in nanoseconds, :data:`TIMED`.

        A graph takes a new sample in every clock cycle, and ``adder_stages`` cycles for each. Where the deepest stage is
        too deep for the clock, cycles are counted as long as that stage needs.

        Args:
            costs: Metrics by name; without ``adder_stages`` there is nothing to time.
            cutoff: Adder levels between two registers at which the graph was cut.
        """
        costs = dict(costs)
        if "adder_stages" in costs:
            # Records of earlier versions have no depth. Without tables and products, it is this.
            depth = costs.get("adder_depth", min(cutoff, costs["adder_levels"]))
            interval = max(self.period, self.fastest(depth))
            costs |= {"adder_latency_ns": costs["adder_stages"] * interval, "adder_interval_ns": interval}
        return costs
