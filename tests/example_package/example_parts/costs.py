"""A source of costs."""

from __future__ import annotations

import math
from collections.abc import Mapping

import kerasnac as kn


class Wires(kn.CostModel):
    """Values that are passed from layer to layer."""

    metrics = ("wires",)

    def costs(self, architecture: kn.Architecture, data: object) -> Mapping[str, float]:
        return {"wires": sum(math.prod(node.output) for node in architecture.nodes)}
