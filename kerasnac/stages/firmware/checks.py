"""Checks of all that firmware needs, before anything is trained for it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import chain

from kerasnac.adapters.hls4ml.backends import BACKENDS, check_layers, check_options, require_packages
from kerasnac.adapters.hls4ml.compiler import check_compiler
from kerasnac.adapters.programs import Limits
from kerasnac.core.data.dataset import Development, Task
from kerasnac.core.hardware.hls_options import HlsOptions, SoftmaxMode
from kerasnac.core.network.architecture import Architecture
from kerasnac.core.network.exactness import FLOAT32_BITS, KERNEL_KINDS, REMOVED_KINDS
from kerasnac.core.network.layers import LayerSpec
from kerasnac.core.settings import FirmwareSettings
from kerasnac.core.space.search_space import SearchSpace
from kerasnac.errors import ConfigError, ConversionError

#: Random candidates among which one must suit the backend.
TRIES = 1000


def check_firmware(
    settings: FirmwareSettings, space: SearchSpace, baselines: Sequence[Architecture], data: Development
) -> None:
    """Check whether any network of a run can become firmware on this machine.

    What the trained weights decide is not known yet: sums beyond the exact range of float64, for one, and whether the chosen
    networks are among those that suit the options.

    Args:
        settings: Settings of the conversion.
        space: The candidates.
        baselines: Networks that are converted besides.
        data: Gives the format of the input.

    Raises:
        ConfigError: If an option cannot be right, or excludes all networks.
        EnvironmentProblem: If the compiler or a package is missing, or does not work.
    """
    options = settings.options
    check_options(options)
    check_softmax(settings.softmax, data.task)
    if data.input_grid.bits > FLOAT32_BITS:
        raise ConfigError(
            f"dataset: the inputs are {data.input_grid}, and no firmware of more than the {FLOAT32_BITS} bits that float32 "
            f"holds can equal Keras; set input_bits, or the bits of input_grid, to {FLOAT32_BITS} at most"
        )
    _check_names(options, space, baselines)
    if space.firmware == "exact":
        _check_backend(settings, space, baselines)
    require_packages(options)
    require_compiling(options, Limits(settings.timeout, settings.memory))


def check_softmax(softmax: SoftmaxMode, task: Task) -> None:
    """Check that a task has a softmax, if one is to be on the chip.

    Raises:
        ConfigError: If it has none.
    """
    if softmax != "host" and not task.classes:
        raise ConfigError(f"softmax on the chip needs a classification, not a {task.kind}: leave softmax on the host")


def require_compiling(options: HlsOptions, limits: Limits) -> None:
    """Check that the compiler works, if projects of these options are emulated.

    Raises:
        EnvironmentProblem: If it does not.
    """
    if not BACKENDS[options.backend].emulated:
        check_compiler(limits)


def _check_names(options: HlsOptions, space: SearchSpace, baselines: Sequence[Architecture]) -> None:
    """Refuse options of layers that no network can have: ``dense_9`` if all have at most nine dense layers."""
    most = space.most_kernels()
    for name in options.layers:
        kind, _, number = name.rpartition("_")
        if int(number) >= most[kind] and not any(name in network.names for network in baselines):
            ranges = (_names(kind, most[kind]) for kind in KERNEL_KINDS if most[kind])
            raise ConfigError(
                f"firmware.layers.{name}: no network of the space has such a layer, and no baseline; there are at most "
                f"{', '.join(ranges)}"
            )


def _names(kind: str, count: float) -> str:
    return f"{kind}_0" if count == 1 else f"{kind}_0 to {kind}_{count - 1:.0f}"


def _check_backend(settings: FirmwareSettings, space: SearchSpace, baselines: Sequence[Architecture]) -> None:
    """Refuse a backend that lacks a layer of every network: of the baselines, and of many random candidates."""
    problem = None
    for network in chain(baselines, space.random_networks(TRIES)):
        try:
            check_layers(_without_norms(network, settings.softmax), settings.options)
        except ConversionError as error:
            problem = error
        else:
            return
    if problem is not None:
        raise ConfigError(f"firmware: none of {TRIES} random networks of the space can be converted, the last one: {problem}")


def _without_norms(network: Architecture, softmax: SoftmaxMode) -> Architecture:
    """Return the layers that the firmware of a float network has."""
    layers = network.rewritten(lambda node: () if node.layer.kind in REMOVED_KINDS else (node.layer,)).layers
    return replace(network.without_window(), layers=(*layers, *([LayerSpec.of("softmax")] if softmax == "exact" else [])))
