"""Settings of what else is trained on the data of a run, for comparison with its networks."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import Field, NonNegativeInt, PositiveInt, model_validator

from kerasnac.core.checks import Count
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


class CentreOfMassSettings(Settings):
    """Centres of mass of the intensity above the median, for patches with one peak: nothing to set."""


class PseudoVoigtSettings(Settings):
    """Least-squares fits of a pseudo-Voigt profile, for patches with one peak.

    Attributes:
        samples: Validation samples to fit, and as many of the test split, at most: a fit takes some milliseconds.
    """

    samples: Count = 2000


class FilterSettings(Settings):
    """A filter for traces of I and Q, with every combination of a first sample and a length that fits into the trace.

    Attributes:
        starts: First samples of the windows.
        lengths: Lengths of the windows, in samples; by default an eighth, a quarter, a half and all of the trace.
    """

    starts: Annotated[Values[NonNegativeInt], Field(min_length=1)] = (0,)
    lengths: Annotated[Values[PositiveInt], Field(min_length=1)] | None = None


class ReferenceSettings(Settings):
    """Yardsticks: what is trained or fitted on the same data, for comparison. Also given as a list of names.

    Attributes:
        boosted_trees: Decision trees; for flat samples.
        centre_of_mass: For patches with one peak, whose centre is regressed.
        pseudo_voigt: Likewise.
        matched_filter: The best filter against white noise; for traces of I and Q of two states.
        boxcar: Means over a window, and a line between the states; likewise.
    """

    boosted_trees: BoostedTreesSettings | None = None
    centre_of_mass: CentreOfMassSettings | None = None
    pseudo_voigt: PseudoVoigtSettings | None = None
    matched_filter: FilterSettings | None = None
    boxcar: FilterSettings | None = None

    @property
    def classical(self) -> dict[str, ClassicalSettings]:
        """The classical methods that are asked for, by name."""
        asked = {name: getattr(self, name) for name in CLASSICAL}
        return {name: settings for name, settings in asked.items() if settings is not None}

    @classmethod
    def for_shape(cls, shape: tuple[int, ...]) -> ReferenceSettings:
        """Return all that there is for samples of some shape, with its defaults."""
        if len(shape) == 1:
            return cls(boosted_trees=BoostedTreesSettings())
        names = CLASSICAL[:2] if len(shape) == 3 else CLASSICAL[2:]
        return cls.model_validate(list(names))

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


#: Settings of a classical method.
ClassicalSettings = CentreOfMassSettings | PseudoVoigtSettings | FilterSettings

#: Names of the classical methods.
CLASSICAL = ("centre_of_mass", "pseudo_voigt", "matched_filter", "boxcar")
