"""Spaces whose networks can learn their widths."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain

from kerasnac.core.network.architecture import Architecture
from kerasnac.core.network.learned import check_learnable
from kerasnac.core.space.search_space import SearchSpace
from kerasnac.errors import ConfigError, ConversionError

#: Random candidates among which one must be able to.
TRIES = 1000


def check_learnable_space(space: SearchSpace, asked_by: str, others: Sequence[Architecture] = ()) -> None:
    """Check that there is a network that can learn its widths, before any is trained.

    Args:
        space: The candidates.
        asked_by: Settings that ask for it, for the message.
        others: Networks besides.

    Raises:
        ConfigError: If there is none.
    """
    problem = None
    for network in chain(others, space.random_networks(TRIES)):
        try:
            check_learnable(network)
        except ConversionError as error:
            problem = error
        else:
            return
    if problem is not None:
        raise ConfigError(
            f"{asked_by}: none of {TRIES} random networks of the space can learn its widths, the last one: {problem}"
        )
