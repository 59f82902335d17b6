"""Settings of a run: one model per stage, validated together with the space."""

from kerasnac.core.settings.base import Settings
from kerasnac.core.settings.compress import CompressSettings, LearnedSettings, MixedSettings, Ranking
from kerasnac.core.settings.costs import AdderGraphSettings, Rule4mlSettings
from kerasnac.core.settings.references import (
    BoostedTreesSettings,
    ClassicalSettings,
    FilterSettings,
    PseudoVoigtSettings,
    ReferenceSettings,
)
from kerasnac.core.settings.run import DatasetSettings, FirmwareSettings, RunSettings
from kerasnac.core.settings.search import (
    CandidateGraphSettings,
    HalvingSettings,
    QuantizedSettings,
    RampSettings,
    SearchSettings,
)
from kerasnac.core.settings.tune import TUNED, TuneSettings

__all__ = [
    "TUNED",
    "AdderGraphSettings",
    "BoostedTreesSettings",
    "CandidateGraphSettings",
    "ClassicalSettings",
    "CompressSettings",
    "DatasetSettings",
    "FilterSettings",
    "FirmwareSettings",
    "HalvingSettings",
    "LearnedSettings",
    "MixedSettings",
    "PseudoVoigtSettings",
    "QuantizedSettings",
    "RampSettings",
    "Ranking",
    "ReferenceSettings",
    "Rule4mlSettings",
    "RunSettings",
    "SearchSettings",
    "Settings",
    "TuneSettings",
]
