"""Quantizers of weights, in QKeras' terms: its own by format, and one that it lacks."""

from __future__ import annotations

import math
from functools import cache
from typing import Any

from kerasnac.adapters.keras.runtime import qkeras, tensorflow
from kerasnac.core.network.precision import Binary, Odd, Precision, Ternary


def latent_limit(grid: Precision) -> float:
    """Return the largest magnitude that training leaves a latent weight.

    QKeras limits latent weights, not to their format but to its power of two, or to 1 if that is more.
    """
    return max(1.0, math.ldexp(1.0, grid.integer - 1))


def quantizer(grid: Precision | None) -> Any:
    """Return the quantizer for a signed format, and None for a float tensor."""
    if grid is None:
        return None
    if isinstance(grid, Odd):
        return odd_bits()(grid.bits, grid.integer)
    if isinstance(grid, Binary):
        return qkeras().binary(alpha=grid.step)
    if isinstance(grid, Ternary):
        return qkeras().quantized_bits(grid.bits, grid.integer - 1, symmetric=1, alpha=1)
    return qkeras().quantized_bits(grid.bits, grid.integer - 1, alpha=1)


@cache
def odd_bits() -> Any:
    """Return the class of quantizers to :class:`kerasnac.core.network.precision.Odd`.

    It is defined on first use, since its base class needs QKeras.

    Raises:
        EnvironmentProblem: If TensorFlow is missing, or was imported under Keras 3.
    """
    tf = tensorflow()

    @tf.keras.utils.register_keras_serializable("kerasnac")
    class OddBits(qkeras().BaseQuantizer):  # type: ignore[misc]
        """Odd multiples of half a step, with the gradient of the identity.

        Args:
            bits: Of the whole number k in ``(k + 1/2) * step``.
            integer: The step is ``2**(integer - bits)``.
        """

        def __init__(self, bits: int, integer: int) -> None:
            super().__init__()
            self.bits, self.integer = bits, integer
            self.grid = Odd(bits, integer)

        def __call__(self, x: Any) -> Any:
            """Round tensors of any shape; they keep their dtype."""
            grid = self.grid
            nearest = (tf.floor(x / grid.step) + 0.5) * grid.step
            # x - x is exactly zero.
            return tf.stop_gradient(tf.clip_by_value(nearest, grid.minimum, grid.maximum)) + (x - tf.stop_gradient(x))

        def __str__(self) -> str:
            return f"OddBits({self.bits},{self.integer})"

        def max(self) -> float:
            """Return the largest magnitude of latent weights, which QKeras asks for."""
            return latent_limit(self.grid)

        def min(self) -> float:
            """Return its negative."""
            return -self.max()

        @classmethod
        def from_config(cls, config: dict[str, Any]) -> Any:
            return cls(**config)

        def get_config(self) -> dict[str, Any]:
            return {"bits": self.bits, "integer": self.integer}

    return OddBits
