"""Forms that the networks of a search space share."""

from __future__ import annotations

from collections import Counter

import numpy as np

from kerasnac.core.network.mold import Mold, fitting, molds
from kerasnac.core.space.search_space import SearchSpace
from kerasnac.errors import SpaceError

#: Random candidates whose forms are looked at.
SAMPLES = 300

#: Fraction of them that has to share a form: to compile a training takes as long as several trainings.
SHARED = 0.05


def shared_molds(space: SearchSpace) -> tuple[Mold, ...]:
    """Return the forms that many networks of a space share, the most frequent first; they depend on the space alone.

    Args:
        space: Search space.
    """
    rng = np.random.default_rng(0)
    try:
        networks = [space.decode(space.sample_feasible(rng)).architecture for _ in range(SAMPLES)]
    except SpaceError:
        return ()  # The search finds that it has no candidates, and says so.
    found = molds(networks)
    counts = Counter(fitting(found, network) for network in networks)
    return tuple(mold for mold, count in counts.most_common() if mold is not None and count >= SHARED * SAMPLES)
