"""All results of a run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from kerasnac.core.data.bootstrap import Score
from kerasnac.core.data.curves import Curves
from kerasnac.core.display import counted, html_facts, html_table, listed
from kerasnac.core.network.trained import Trained
from kerasnac.stages.compress.result import CompressResult
from kerasnac.stages.references.classical import ClassicalPoint
from kerasnac.stages.references.result import TreesResult
from kerasnac.stages.search.result import SearchResult

if TYPE_CHECKING:
    from kerasnac.stages.firmware.result import Firmware


@dataclass(frozen=True)
class Outcome:
    """All results of a run.

    Attributes:
        search: The global search.
        tuned: The tuned float models, baselines last.
        compressed: The quantized, pruned models.
        firmware: The converted ones.
        test: Task metric on the whole test split with its 95 % confidence interval, by name: of models, and of the boosted
            trees on their front.
        refused: Models that have no firmware, with the reason. Tuned ones: it would not be exact, or no compressed model
            of theirs is within the tolerance, or is selected. Compressed ones: their conversion was refused, or failed.
        trees: Boosted trees, if they were asked for.
        data: Description of the dataset, with what its files were taken for.
        classical: Classical methods, if any were asked for.
        curves: ROC curves or distances on the test split of tuned, converted and classical models, by name.
    """

    search: SearchResult
    tuned: tuple[Trained, ...]
    compressed: CompressResult
    firmware: tuple[Firmware, ...]
    test: dict[str, Score]
    refused: dict[str, str]
    trees: TreesResult | None = None
    data: str = ""
    classical: tuple[ClassicalPoint, ...] = ()
    curves: Mapping[str, Curves] = field(default_factory=dict)

    def __repr__(self) -> str:
        exact = sum(made.bit_exact for made in self.firmware)
        counts = (
            f"{counted(len(self.search.trained), 'candidate')} trained",
            f"{len(self.tuned)} tuned",
            f"{len(self.compressed.models)} compressed",
            f"{len(self.firmware)} with firmware, {exact} bit-exact",
            f"{len(self.refused)} refused" if self.refused else "",
            f"{len(self.trees.points)} boosted trees" if self.trees else "",
        )
        return f"Outcome({listed(*counts)})"

    def _repr_html_(self) -> str:
        tuned = [[m.name, m.metrics[self.search.task.metric], self.test.get(m.name, ""), m.architecture] for m in self.tuned]
        made = [[one.trained.name, self.test.get(one.trained.name, ""), one.verdict] for one in self.firmware]
        parts = [
            self.search._repr_html_(),
            html_table("Tuned models", ("model", self.search.task.metric, "test [95 % interval]", "architecture"), tuned),
            self.compressed._repr_html_(),
            html_table("Firmware", ("model", "test [95 % interval]", "verdict"), made),
            *([self.trees._repr_html_()] if self.trees else []),
            *([html_facts("Without firmware", self.refused)] if self.refused else []),
        ]
        return "\n".join(parts)
