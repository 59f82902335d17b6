"""Published networks by name, to seed searches and to stand in every comparison."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Literal

from kerasnac.core.network.architecture import Architecture
from kerasnac.core.space.blocks import Attention, Block, Conv, DeepSets, Mlp
from kerasnac.core.space.search_space import SearchSpace
from kerasnac.errors import ConfigError

_Norm = Literal["none", "batch"]


def _network(input: tuple[int, ...], outputs: int, *blocks: Block) -> Architecture:
    """Return the one architecture of blocks without choices."""
    return SearchSpace(input=input, outputs=outputs, blocks=blocks).decode(()).architecture


def _deep_sets(phi: list[int], phi_norm: _Norm, rho: list[int], rho_norm: _Norm) -> Architecture:
    """Return Deep Sets on 8 particles of 3 features for 5 jet classes: phi, averaged over the particles, then rho; ReLU."""
    *hidden, bottleneck = phi
    widths = hidden or [1]
    particles = DeepSets(widths=widths, depth=len(hidden), bottleneck=bottleneck, norm=phi_norm, shared=True)
    return _network((8, 3), 5, particles, Mlp(widths=rho, norm=rho_norm, shared=True))


def braggnn() -> Architecture:
    """Return BraggNN (Liu et al., arXiv:2008.08198): 45,394 parameters as printed; the paper reports 45,274."""
    return _network(
        (11, 11, 1),
        2,
        Conv(channels=64, activation="none"),
        Attention(width=32),
        Conv(channels=32, activation="leaky_relu"),
        Conv(channels=8, activation="leaky_relu"),
        Mlp(widths=[64, 32, 16, 8], activation="leaky_relu", shared=True),
    )


def nac_bragg() -> Architecture:
    """Return the base network that NAC finds for Bragg peaks (Weitz et al., arXiv:2501.05515): 17,226 parameters."""
    return _network(
        (11, 11, 1),
        2,
        Conv(channels=32, activation="none"),
        Conv(channels=4, kernel=1, activation="relu"),
        Conv(channels=32, kernel=1, norm="batch", activation="leaky_relu"),
        Conv(channels=4, kernel=1, norm="batch", activation="gelu"),
        Conv(channels=32, norm="layer", activation="gelu"),
        Conv(channels=8, norm="layer", activation="gelu"),
        Conv(channels=64, activation="none"),
        Mlp(widths=[8], norm="layer", activation="relu"),
        Mlp(widths=[4], activation="gelu"),
        Mlp(widths=[4], norm="layer", activation="gelu"),
    )


def hls4ml_jets() -> Architecture:
    """Return the hls4ml jet tagger 16-64-32-32-5 (Duarte et al., arXiv:1804.06913): 4,389 parameters."""
    return _network((16,), 5, Mlp(widths=[64, 32, 32], shared=True))


def snac_baseline() -> Architecture:
    """Return the MLP on 8 particles that SNAC-Pack begins from (Weitz et al., arXiv:2605.16138): 26,401 parameters.

    Its widths are not printed: of all networks of the paper's space it is the only one with the printed 25,916 weights.
    """
    return _network((8, 3), 5, Mlp(widths=[120, 60, 32, 64, 64, 64, 32, 44], shared=True))


#: Name -> the space that holds the network, and how to make it.
BASELINES: Mapping[str, tuple[str, Callable[[], Architecture]]] = {
    "braggnn": ("bragg", braggnn),
    "nac_bragg": ("bragg", nac_bragg),
    "hls4ml_jets": ("jets_mlp", hls4ml_jets),
    "snac_baseline": ("jets_mlp_snac", snac_baseline),
    "deep_sets_base": ("jets_deepsets", lambda: _deep_sets([64, 64, 32], "none", [32], "none")),
    "deep_sets_medium": ("jets_deepsets", lambda: _deep_sets([64, 16], "batch", [128, 16, 64], "batch")),
    "deep_sets_small": ("jets_deepsets", lambda: _deep_sets([16, 8], "none", [32, 32], "batch")),
    "deep_sets_tiny": ("jets_deepsets", lambda: _deep_sets([16], "batch", [16, 16, 8], "none")),
}


def get(name: str) -> Architecture:
    """Return a baseline by name.

    Raises:
        ConfigError: If there is no such baseline.
    """
    if name not in BASELINES:
        raise ConfigError(f"unknown baseline {name!r}: one of {', '.join(BASELINES)}")
    return BASELINES[name][1]()
