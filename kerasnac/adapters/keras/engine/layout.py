"""Arrays laid one after the other in a vector."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kerasnac.adapters.keras.runtime import tensorflow
from kerasnac.core.network.kinds import Shape

Tensor = Any  # TensorFlow has no type stubs


class Layout:
    """Places of arrays in one vector.

    An optimiser updates one long vector several times faster than a hundred short ones, and its compilation takes a tenth
    of the time.

    Args:
        shapes: Shape of every array by key.
    """

    def __init__(self, shapes: Mapping[str, Shape]) -> None:
        self.shapes = dict(shapes)
        self._sizes = [math.prod(shape) for shape in shapes.values()]

    @property
    def size(self) -> int:
        """Length of the vector."""
        return sum(self._sizes)

    def join(self, arrays: Mapping[str, Any]) -> NDArray[np.float32]:
        """Return the vector of some arrays; keys that have no place are ignored."""
        parts = [np.ravel(arrays[key]) for key in self.shapes]
        return np.concatenate(parts).astype(np.float32) if parts else np.zeros(0, np.float32)

    def split(self, vector: NDArray[Any]) -> dict[str, NDArray[Any]]:
        """Return the arrays of a vector."""
        parts = np.split(vector, np.cumsum(self._sizes)[:-1]) if self.shapes else []
        return {key: part.reshape(shape) for (key, shape), part in zip(self.shapes.items(), parts, strict=True)}

    def join_tensors(self, tensors: Mapping[str, Tensor]) -> Tensor:
        """Do what :meth:`join` does, with tensors."""
        tf = tensorflow()
        parts = [tf.reshape(tensors[key], [-1]) for key in self.shapes]
        return tf.concat(parts, 0) if parts else tf.zeros(0)

    def split_tensor(self, vector: Tensor) -> dict[str, Tensor]:
        """Do what :meth:`split` does, with tensors."""
        tf = tensorflow()
        parts = tf.split(vector, self._sizes) if self.shapes else []
        return {key: tf.reshape(part, shape) for (key, shape), part in zip(self.shapes.items(), parts, strict=True)}
