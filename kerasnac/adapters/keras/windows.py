"""Windows of maps."""

from __future__ import annotations

from itertools import product
from typing import Any


def window_parts(x: Any, size: int, stride: int) -> list[Any]:
    """Return, for every place in a window, the values of a map that are at this place of all windows.

    Args:
        x: Tensor of shape (samples, *positions, channels).
        size: Positions of a window along every axis.
        stride: Distance of two windows.

    Returns:
        Tensors of shape (samples, *windows, channels).
    """
    sides = x.shape[1:-1]
    return [
        x[(slice(None), *(slice(at, at + side - size + 1, stride) for at, side in zip(offset, sides, strict=True)))]
        for offset in product(range(size), repeat=len(sides))
    ]
