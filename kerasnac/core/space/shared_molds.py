"""Forms that the networks of a search space share."""

from __future__ import annotations

import numpy as np

from kerasnac.core.network.mold import Mold, macs, molds
from kerasnac.core.space.search_space import SearchSpace
from kerasnac.errors import SpaceError

#: Random candidates whose forms are looked at.
SAMPLES = 300

#: Fraction of them that has to share a form: to compile a training takes as long as several trainings.
SHARED = 0.05

#: Units to which the layers of a form are capped for a smaller one, which has to save this factor in arithmetic.
CAPS, SAVING = (8, 16, 32, 64), 4


def shared_molds(space: SearchSpace) -> tuple[Mold, ...]:
    """Return the forms that many networks of a space share; they depend on the space alone.

    The networks of a form have at least a fourth of its arithmetic, about: a form of many wide layers has smaller ones beside
    it, for those of its networks that are narrow.

    Args:
        space: Search space.

    Returns:
        The smallest first.
    """
    rng = np.random.default_rng(0)
    try:
        networks = [space.decode(space.sample_feasible(rng)).architecture for _ in range(SAMPLES)]
    except SpaceError:
        return ()  # The search finds that it has no candidates, and says so.

    def is_shared(form: Mold) -> bool:
        return sum(form.place(network) is not None for network in networks) >= SHARED * SAMPLES

    kept: list[Mold] = []
    for mold in filter(is_shared, molds(networks)):
        smallest = mold
        kept.append(mold)
        for form in (mold.capped(units) for units in sorted(CAPS, reverse=True)):
            if SAVING * macs(form) <= macs(smallest) and is_shared(form):
                smallest = form
                kept.append(form)
    return tuple(sorted(kept, key=macs))
