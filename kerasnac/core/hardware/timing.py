"""How fast an adder graph can be clocked, from a delay per adder and FPGA family: an estimate before any routing."""

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
        register: What a path between two registers takes besides its adders, in nanoseconds: the registers, the last net,
            clock uncertainty, the rest of the longest carry chain, and a ReLU before it.
        level: One adder of 8 to 16 bits with the net before it, in nanoseconds.
    """

    family: str
    register: float
    level: float


#: Delays by the beginning of a part number: estimates before any placement and routing, good to some 30 %.
#:
#: 7 series (speed grade -1): static timing by Yosys' ``sta``, with its delays of this family (``xilinx/cells_sim.v``, measured
#: by Project X-Ray) and without wires, of a trained jet network 16-24-24-5 that was cut after 1, 2, 4 and 8 levels: 2.7, 3.3,
#: 4.5 and 7.9 ns, that is 2.0 + 0.74 ns per level. To that come a net for each, 0.55 ns (0.4 to 1.2 in reports of routed
#: designs), and 0.3 ns for setup and clock uncertainty.
#:
#: UltraScale+ (speed grade -2): the same adders take 0.35 of that, LUT 0.12 and CARRY8 0.18 ns against LUT 0.12 and two CARRY4
#: 0.73 ns in Vivado's reports of routed designs; nets take 0.25 ns (0.2 to 0.6).
DELAYS: Mapping[str, Delays] = {
    r"xc(u|vu\d+p|ku\d+p|zu|k26|k24|au)": Delays("UltraScale+", register=0.7, level=0.5),
    r"xc7": Delays("7 series", register=2.3, level=1.3),
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
        """Adders in a row between two registers that a period holds; none if it is too short for one."""
        return max(0, math.floor((self.period - self.delays.register) / self.delays.level + 1e-9))

    def fastest(self, depth: float) -> float:
        """Return the shortest period, in nanoseconds, for so many adders in a row between two registers."""
        return round(self.delays.register + depth * self.delays.level, 6)

    def timed(self, costs: Mapping[str, float]) -> dict[str, float]:
        """Return the costs of an adder graph with those in nanoseconds, :data:`TIMED`.

        A graph takes a new sample in every clock cycle, and ``adder_stages`` cycles for each. Where the deepest stage is
        too deep for the clock, cycles are counted as long as that stage needs.

        Args:
            costs: Metrics by name; without ``adder_stages`` there is nothing to time. Records of earlier versions have no
                ``adder_depth``, and are counted as if they kept the clock.
        """
        costs = dict(costs)
        if "adder_stages" in costs:
            interval = max(self.period, self.fastest(costs.get("adder_depth", 0)))
            costs |= {"adder_latency_ns": costs["adder_stages"] * interval, "adder_interval_ns": interval}
        return costs
