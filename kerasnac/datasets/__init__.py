"""Datasets by name: simulations, public file layouts, and loaders for arrays and files of your own."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any

from kerasnac.core.checks import check_arguments
from kerasnac.core.data.dataset import Dataset
from kerasnac.datasets.bragg import bragg_peaks, braggnn
from kerasnac.datasets.digits import digits
from kerasnac.datasets.jets import hls4ml_jets, jets, particle_jets
from kerasnac.datasets.loaders import from_arrays, from_csv, from_hdf5, from_npz
from kerasnac.datasets.options import Options
from kerasnac.datasets.qubit import iq_readout, qubit_readout
from kerasnac.errors import ConfigError

__all__ = [
    "bragg_peaks",
    "braggnn",
    "digits",
    "from_arrays",
    "from_csv",
    "from_hdf5",
    "from_npz",
    "hls4ml_jets",
    "iq_readout",
    "jets",
    "load",
    "particle_jets",
    "qubit_readout",
]

DATASETS: Mapping[str, Callable[..., Dataset]] = {
    "bragg_peaks": bragg_peaks,
    "qubit_readout": qubit_readout,
    "digits": digits,
    "jets": jets,
    "hls4ml_jets": hls4ml_jets,
    "particle_jets": particle_jets,
    "braggnn": braggnn,
    "iq_readout": iq_readout,
    "npz": from_npz,
    "hdf5": from_hdf5,
    "csv": from_csv,
}


def load(name: str, /, **options: Any) -> Dataset:
    """Load a dataset by its name in :data:`DATASETS`, as a configuration file gives it.

    Args:
        name: ``bragg_peaks``, ``npz`` or another key of that table.
        **options: Arguments of the function that the name stands for.

    Returns:
        The dataset.

    Raises:
        ConfigError: If the name is unknown, or an option is unknown, missing or wrong.
        DataError: If the data cannot be used.
    """
    if name not in DATASETS:
        raise ConfigError(f"there is no dataset {name!r}: choose one of {', '.join(DATASETS)}")
    allowed, required = _options(DATASETS[name])
    unknown = [option for option in options if option not in allowed]
    if unknown:
        raise ConfigError(f"dataset {name} has no option {unknown[0]!r}: it takes {', '.join(allowed)}")
    missing = [option for option in required if option not in options]
    if missing:
        raise ConfigError(f"dataset {name} needs the option {missing[0]!r}")
    check_arguments(DATASETS[name], options, f"dataset {name}")
    return DATASETS[name](**options)


def _options(function: Callable[..., Dataset]) -> tuple[list[str], list[str]]:
    """Return the names of all options of a dataset function, and of those without a default."""
    parameters = inspect.signature(function).parameters.values()
    named = [p for p in parameters if p.kind is not p.VAR_KEYWORD]
    shared = list(Options.__annotations__) if len(named) < len(parameters) else []
    return [p.name for p in named] + shared, [p.name for p in named if p.default is p.empty]
