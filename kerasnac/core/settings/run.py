"""Settings of the firmware, of the dataset and of a whole run."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import ConfigDict, Field, ValidationInfo, model_validator

from kerasnac.core.checks import Checked, Count, Seed
from kerasnac.core.hardware.estimators import SOURCES
from kerasnac.core.hardware.hls_options import HlsOptions, SoftmaxMode
from kerasnac.core.plugins import part_name
from kerasnac.core.search.selection import Selection
from kerasnac.core.settings.base import PartName, Rule, Settings
from kerasnac.core.settings.compress import CompressSettings
from kerasnac.core.settings.costs import AdderGraphSettings, Clocked
from kerasnac.core.settings.references import ReferenceSettings
from kerasnac.core.settings.search import SearchSettings
from kerasnac.core.settings.tune import TuneSettings
from kerasnac.core.space.search_space import SearchSpace


class FirmwareSettings(HlsOptions):
    """Conversion with hls4ml and emulation; the options of the project are those of the base class.

    Attributes:
        select: Rules that pick compressed models: of each tuned one, or of all with ``compress.schedule: searched``.
        samples: Test samples to compare, at most.
        softmax: ``host`` leaves softmax off the chip; ``chip`` writes a second project with hls4ml's approximation and
            reports its agreement; ``exact`` makes one of tables, which Keras shares, part of the network.
        adder_graph: How the adder graph is made that is compared as well, and whose costs are in the summary.
        timeout: Seconds that compiling, and emulating, may take.
        memory: GiB that each of their processes may take.
    """

    select: tuple[Rule, ...] = Field(("knee",), min_length=1)
    samples: Count = 2000
    softmax: SoftmaxMode = "host"
    adder_graph: Clocked[AdderGraphSettings] = AdderGraphSettings()
    timeout: Annotated[float, Field(gt=0, le=1e7)] = 3600.0
    memory: Annotated[float, Field(gt=0, le=1e6)] = 16.0

    @property
    def options(self) -> HlsOptions:
        """Options of the projects."""
        return HlsOptions.of(self)


#: Options of datasets that may name parts of others.
_NAMING = ("metric", "metrics", "loss", "task")


def _absolute(value: Any, info: ValidationInfo) -> Any:
    """Return the name of a part, a list of names, or a mapping with one, with absolute paths of Python files."""
    if isinstance(value, str):
        return part_name(value, info)
    if isinstance(value, list | tuple):
        return [_absolute(one, info) for one in value]
    if isinstance(value, Mapping):
        return {key: _absolute(one, info) if key in ("function", "name") else one for key, one in value.items()}
    return value


class DatasetSettings(Checked):
    """Dataset to load.

    Attributes:
        source: A key of :data:`kerasnac.datasets.DATASETS`, or a function of others, see :mod:`kerasnac.core.plugins`; all
            other keys are arguments of that function, or those of :data:`kerasnac.datasets.COMMON`: metrics, loss, weights.
    """

    model_config = ConfigDict(extra="allow")

    source: PartName

    @model_validator(mode="before")
    @classmethod
    def _beside_the_run_file(cls, values: Any, info: ValidationInfo) -> Any:
        if not isinstance(values, Mapping):
            return values
        return {**values, **{key: _absolute(values[key], info) for key in _NAMING if key in values}}

    @property
    def options(self) -> dict[str, Any]:
        """Arguments of the dataset function."""
        return dict(self.model_extra or {})


class RunSettings(Settings):
    """Settings of a whole run, which a YAML file holds.

    Attributes:
        name: Name of the run; by default that of its file.
        description: Purpose of the run, with sources.
        space: The search space.
        dataset: Where the samples come from.
        search: The global search.
        tune: The tuning of the training.
        compress: The compression.
        firmware: The conversion.
        references: What else is trained on the data, for comparison.
        seed: The one seed.
    """

    name: str = "run"
    description: str = ""
    space: SearchSpace
    dataset: DatasetSettings
    search: SearchSettings = SearchSettings()
    tune: TuneSettings = TuneSettings()
    compress: CompressSettings = CompressSettings()
    firmware: FirmwareSettings = FirmwareSettings()
    references: ReferenceSettings = ReferenceSettings()
    seed: Seed = 0

    @model_validator(mode="before")
    @classmethod
    def _one_clock(cls, values: Any) -> Any:
        """Give the clock period of the firmware to the search and the compression, where these state none."""
        firmware = values.get("firmware") if isinstance(values, Mapping) else None
        given = firmware.get("clock_period") if isinstance(firmware, Mapping) else None
        if not isinstance(given, int | float) or not given > 0:
            return values  # Nothing is stated, or the firmware's own check says what is wrong with it.
        period = {"clock_period": given}
        stages = {stage: values.get(stage, {}) for stage in ("search", "compress")}
        return {**values, **{stage: {**period, **own} for stage, own in stages.items() if isinstance(own, Mapping)}}

    @model_validator(mode="after")
    def _stages_fit(self) -> RunSettings:
        for rule in self.firmware.select:
            if Selection.parse(rule).cost in SOURCES["adder_graph"] and not self.compress.adder_graphs:
                raise ValueError(f"firmware.select: {rule!r} needs compress.estimators: [adder_graph]")
        if self.compress.schedule == "searched" and not self.space.has_compression_genes:
            raise ValueError(
                "compress.schedule: searched keeps the bit widths and sparsities that the search has chosen, and the space has "
                "no such genes: give its blocks weight_bits, activation_bits or sparsity, or use iterative"
            )
        return self
