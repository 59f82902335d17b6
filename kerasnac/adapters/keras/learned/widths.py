"""Rounding to learned numbers of bits, as TensorFlow operations with gradients for these numbers."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from kerasnac.adapters.keras.runtime import tensorflow

Tensor = Any  # TensorFlow has no type stubs

LN2 = math.log(2.0)


def rounded(x: Tensor, fractional: Tensor, half: float = 0.5) -> Tensor:
    """Round to fractional bits, with the gradients of :mod:`kerasnac.adapters.keras.learned`.

    Args:
        x: float32 of any shape.
        fractional: Learned fractional bits, of the shape of the last axes of ``x``; they are rounded themselves.
        half: 0 to round down.
    """
    tf = tensorflow()

    @tf.custom_gradient  # type: ignore[untyped-decorator]
    def function(x: Tensor, fractional: Tensor) -> tuple[Tensor, Callable[[Tensor], tuple[Tensor, Tensor]]]:
        scale = tf.pow(2.0, tf.round(fractional))
        found = tf.floor(x * scale + half) / scale

        def backward(upstream: Tensor) -> tuple[Tensor, Tensor]:
            return upstream, bits_gradient(upstream, x - found, len(fractional.shape))

        return found, backward

    found: Tensor = function(x, fractional)
    return found


def bits_gradient(upstream: Tensor, error: Tensor, axes: int) -> Tensor:
    """Return the gradient for fractional bits: the error of rounding halves with every one.

    Args:
        upstream: Gradient for what was rounded.
        error: What rounding took away, of the same shape.
        axes: Number of axes of the fractional bits; they are the last ones.
    """
    tf = tensorflow()
    slope = upstream * LN2 * error
    return tf.reduce_sum(slope, list(range(len(error.shape) - axes)))


def saturated(x: Tensor, integer: Tensor, fractional: Tensor, *, signed: bool) -> Tensor:
    """Saturate rounded numbers at learned limits.

    Numbers beyond a limit have no gradient, but the limit 2**i has: that of its exponent.

    Args:
        x: float32, shape (..., channels), rounded to ``fractional`` bits.
        integer: Learned integer bits without the sign, shape (channels,); they are rounded themselves.
        fractional: Learned fractional bits, shape (channels,).
        signed: False behind a ReLU.
    """
    tf = tensorflow()
    limit, step = tf.pow(2.0, whole(integer)), tf.pow(2.0, -whole(fractional))
    high, low = limit - step, -limit
    # A channel without bits besides the sign is zero, but keeps its gradients: it may have bits again.
    high += tf.stop_gradient(tf.nn.relu(high) - high)
    low += tf.stop_gradient(tf.where(limit <= step, 0.0, low) - low)
    return tf.minimum(tf.maximum(x, low if signed else 0.0), high)


def whole(x: Tensor) -> Tensor:
    """Round to whole numbers, with the gradient of the identity."""
    tf = tensorflow()
    return x + tf.stop_gradient(tf.round(x) - x)


def integer_bits(magnitude: Tensor) -> Tensor:
    """Return the bits left of the binary point that magnitudes need; far below zero for zero, which needs none at all."""
    tf = tensorflow()
    exponent = tf.floor(tf.math.log(tf.maximum(magnitude, 1e-30)) / LN2 + 1e-6) + 1
    return tf.stop_gradient(tf.where(magnitude > 0, exponent, -1e3))
