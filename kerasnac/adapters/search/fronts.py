"""Pareto fronts; apart from the algorithms, which take long to import, for those who only look at results."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from pymoo.util.nds.non_dominated_sorting import NonDominatedSorting


def nondominated(losses: NDArray[np.float64]) -> list[int]:
    """Return the indices of the Pareto front.

    Args:
        losses: Values to minimise, shape (points, objectives).

    Returns:
        Ascending in the first objective, then in the next ones.
    """
    if not len(losses):
        return []
    front = NonDominatedSorting().do(losses, only_non_dominated_front=True)
    return sorted((int(i) for i in front), key=lambda i: tuple(losses[i]))
