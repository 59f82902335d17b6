"""Sources of hardware costs that a network has before it is trained."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

from kerasnac.core.data.dataset import Development
from kerasnac.core.network.architecture import Architecture
from kerasnac.core.space.search_space import SearchSpace

#: Source -> the metrics that it records, all to be minimised. ``architecture`` is computed in no time.
SOURCES: Mapping[str, tuple[str, ...]] = {
    "architecture": ("bops", "parameters"),
    "rule4ml": (
        "lut",
        "ff",
        "dsp",
        "bram",
        "lut_percent",
        "ff_percent",
        "dsp_percent",
        "bram_percent",
        "average_percent",
        "cycles",
        "interval",
    ),
    "adder_graph": ("adder_luts", "adder_percent", "adder_levels", "adder_stages", "adder_registers"),
}


class Estimator(Protocol):
    """Source of the costs of a whole generation at once; made from its settings, and picklable."""

    #: Key of :data:`SOURCES`.
    source: str

    @property
    def key(self) -> str:
        """Hash of all settings that decide the estimates."""

    def check(self, space: SearchSpace) -> None:
        """Refuse a space with choices that the source knows nothing of, before anything is estimated.

        Raises:
            SpaceError: Naming the choice and the reason.
        """

    def estimate(self, data: Development, architectures: Sequence[Architecture]) -> list[dict[str, float] | str]:
        """Estimate the costs of float architectures; runs in a worker.

        The costs of an architecture do not depend on the others in the batch.

        Returns:
            For each one its metrics, or the reason why it has none: it is then infeasible.
        """
