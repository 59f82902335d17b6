"""Settings of the sources of hardware costs."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import NonNegativeInt, PositiveInt

from kerasnac.core.settings.base import Settings
from kerasnac.core.store.keys import decisive

#: Search for common subexpressions: ``fast`` tries one decomposition of every kernel, ``full`` tries many.
Effort = Literal["fast", "full"]


class AdderGraphSettings(Settings):
    """Settings of the adder graph into which a network is unrolled, and of its pipeline stages.

    Attributes:
        effort: ``fast`` or ``full`` search for common subexpressions.
        latency_cutoff: Adder levels between two registers, at most.
    """

    effort: Effort = "fast"
    latency_cutoff: PositiveInt = 5

    @property
    def identity(self) -> dict[str, Any]:
        """Fields that decide the costs of a graph, for :func:`kerasnac.core.store.keys.content_key`."""
        return decisive(self, ("effort", "latency_cutoff"))


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
