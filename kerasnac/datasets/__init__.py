"""Datasets by name: simulations, public file layouts, and loaders for arrays and files of your own."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any

from kerasnac.core.checks import check_arguments, shown
from kerasnac.core.data.dataset import Dataset
from kerasnac.core.plugins import Kind, guarded
from kerasnac.datasets.bragg import bragg_peaks, braggnn
from kerasnac.datasets.digits import digits
from kerasnac.datasets.jets import hls4ml_jets, jets, particle_jets
from kerasnac.datasets.loaders import from_arrays, from_csv, from_hdf5, from_npz, from_splits
from kerasnac.datasets.options import Options
from kerasnac.datasets.qubit import iq_readout, qubit_readout
from kerasnac.datasets.toy_jets import toy_jets
from kerasnac.errors import ConfigError, PluginError

__all__ = [
    "bragg_peaks",
    "braggnn",
    "digits",
    "from_arrays",
    "from_csv",
    "from_hdf5",
    "from_npz",
    "from_splits",
    "hls4ml_jets",
    "iq_readout",
    "jets",
    "load",
    "particle_jets",
    "qubit_readout",
    "toy_jets",
]

DATASETS: Mapping[str, Callable[..., Dataset]] = {
    "bragg_peaks": bragg_peaks,
    "qubit_readout": qubit_readout,
    "digits": digits,
    "jets": jets,
    "toy_jets": toy_jets,
    "hls4ml_jets": hls4ml_jets,
    "particle_jets": particle_jets,
    "braggnn": braggnn,
    "iq_readout": iq_readout,
    "npz": from_npz,
    "hdf5": from_hdf5,
    "csv": from_csv,
}

#: Word in place of files, and the dataset that stands in for one that needs files, with the same columns and options.
TOY, TOYS = "toy", {"jets": "toy_jets"}

#: Options of all datasets, see :meth:`kerasnac.core.data.dataset.Dataset.with_`.
COMMON = ("metric", "metrics", "loss", "class_weights")


#: Datasets of all origins.
DATASET: Kind[Callable[..., Dataset]] = Kind(
    "dataset", "kerasnac.datasets", DATASETS, "a function that returns a kerasnac.Dataset", inspect.isfunction
)


def load(name: str, /, **options: Any) -> Dataset:
    """Load a dataset by its name, as a configuration file gives it.

    Args:
        name: ``bragg_peaks``, ``npz`` or another key of :data:`DATASETS`; an entry point; or ``module:function``, see
            :mod:`kerasnac.core.plugins`.
        **options: Arguments of the function that the name stands for; and those of :data:`COMMON`, for any of them.

    Returns:
        The dataset.

    Raises:
        ConfigError: If the name is unknown, or an option is unknown, missing or wrong.
        PluginError: If it is a function of others that cannot be imported, fails, or returns something else.
        DataError: If the data cannot be used.
    """
    foreign = DATASET.foreign(name)
    function = DATASETS[name] if foreign is None else foreign
    allowed, required = _options(function)
    common = {option: options.pop(option) for option in COMMON if option in options and option not in allowed}
    unknown = [option for option in options if option not in allowed]
    if unknown and not _takes_any(function):
        raise ConfigError(f"dataset {name} has no option {unknown[0]!r}: it takes {', '.join([*allowed, *COMMON])}")
    missing = [option for option in required if option not in options]
    if missing:
        hint = "; --data gives a run its files" if missing[0] == "path" else ""
        hint += f", or toy ones: --data {TOY}" if hint and name in TOYS else ""
        raise ConfigError(f"dataset {name} needs the option {missing[0]!r}{hint}")
    if foreign is None:
        check_arguments(function, options, f"dataset {name}")
        made = function(**options)
    else:
        made = _load_foreign(name, function, options)
    try:
        return made.with_(**common) if common else made
    except ConfigError as error:
        raise ConfigError(f"dataset {name}: {error}") from error


def _load_foreign(name: str, function: Callable[..., Dataset], options: Mapping[str, Any]) -> Dataset:
    """Call a dataset function of others.

    Raises:
        PluginError: If it raises anything but an error of kerasnac, which it passes on, or returns something else.
    """
    with guarded(f"dataset {name}", function):
        made = function(**options)
    if not isinstance(made, Dataset):
        raise PluginError(
            f"dataset {name} returns {shown(made)}: return a kerasnac.Dataset, as kerasnac.datasets.from_arrays makes it"
        )
    return made


def _options(function: Callable[..., Dataset]) -> tuple[list[str], list[str]]:
    """Return the names of all options of a dataset function, and of those without a default."""
    parameters = inspect.signature(function).parameters.values()
    named = [p for p in parameters if p.kind not in (p.VAR_KEYWORD, p.VAR_POSITIONAL)]
    shared = list(Options.__annotations__) if len(named) < len(parameters) else []
    return [p.name for p in named] + shared, [p.name for p in named if p.default is p.empty]


def _takes_any(function: Callable[..., Dataset]) -> bool:
    """Return true for a function of others that takes keywords of any name."""
    parameters = inspect.signature(function).parameters.values()
    return function not in DATASETS.values() and any(p.kind is p.VAR_KEYWORD for p in parameters)
