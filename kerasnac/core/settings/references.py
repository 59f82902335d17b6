"""Settings of what else is trained on the data of a run, for comparison with its networks."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import Field, NonNegativeInt, PositiveInt, model_validator

from kerasnac.core.settings.base import Settings
from kerasnac.core.space.blocks.base import Values
from kerasnac.core.trees.ensemble import DEEPEST


class BoostedTreesSettings(Settings):
    """Gradient-boosted decision trees whose thresholds and leaves are quantized while they are boosted.

    One boosting for each combination of ``depths``, ``leaf_bits``, ``thresholds`` and ``learning_rates``; every round of it
    is a point.

    Attributes:
        rounds: Rounds of each boosting; a round grows one tree for every output.
        depths: Depths that trees may have.
        leaf_bits: Widths that leaves may have.
        thresholds: Numbers of constants that a feature may be compared with, at most.
        learning_rates: Fractions of the best step that a round takes: smaller ones are better from some thousand LUTs on.
        subsample: Training samples, drawn anew for every round, on which trees choose their comparisons; the leaves are
            those of all samples.
        luts: ``yosys`` counts them, as for networks, in Verilog that Verilator compares; ``estimate`` needs neither program.
        points: Points of the estimated front that get Verilog, at most.
        samples: Validation samples that Verilator simulates of each of them.
    """

    rounds: Annotated[int, Field(ge=1, le=1000)] = 48
    depths: Annotated[Values[Annotated[int, Field(ge=1, le=DEEPEST)]], Field(min_length=1)] = (3, 4, 5)
    leaf_bits: Annotated[Values[Annotated[int, Field(ge=1, le=8)]], Field(min_length=1)] = (2,)
    thresholds: Annotated[Values[Annotated[int, Field(ge=1, le=1024)]], Field(min_length=1)] = (16, 48)
    learning_rates: Annotated[Values[Annotated[float, Field(gt=0, le=1)]], Field(min_length=1)] = (0.6, 0.3)
    subsample: Annotated[int, Field(ge=100)] = 40_000
    luts: Literal["yosys", "estimate"] = "yosys"
    points: PositiveInt = 12
    samples: NonNegativeInt = 1000


class ReferenceSettings(Settings):
    """Yardsticks: what is trained on the same data, for comparison. Also given as a list of names.

    Attributes:
        boosted_trees: Decision trees; for flat samples.
    """

    boosted_trees: BoostedTreesSettings | None = None

    @model_validator(mode="before")
    @classmethod
    def _named(cls, value: Any) -> Any:
        if isinstance(value, str):
            value = [value]
        if isinstance(value, list | tuple):
            return {name if isinstance(name, str) else repr(name): {} for name in value}
        if isinstance(value, Mapping):  # An empty key stands for the defaults.
            return {name: {} if settings is None else settings for name, settings in value.items()}
        return value
