"""Convolutional self-attention."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Literal

from pydantic import PositiveInt

from kerasnac.core.network.layers import LayerSpec, Shape, described
from kerasnac.core.space.blocks.base import ActivationValues, Choice, Picks, Quantizable, Values
from kerasnac.errors import Infeasible


class Attention(Quantizable):
    """Self-attention between all positions of a map; the result is added to the map.

    1x1 convolutions make queries, keys and values of a given width; softmax(Q K^T) V, not divided by the root of the
    width, goes through a 1x1 projection back to the map's channels and is added to the map (the non-local block of
    BraggNN, arXiv:2008.08198).

    Attributes:
        width: Choices of the number of channels of queries, keys and values.
        scores: ``softmax``, or ``relu`` for scores that are not normalised.
        activation: Choices of activation after the sum.

    All its layers share one bit width and sparsity of kernels and one bit width of activations.
    """

    block: Literal["attention"] = "attention"
    width: Values[PositiveInt]
    scores: Values[Literal["softmax", "relu"]] = ("softmax",)
    activation: ActivationValues = ("none",)

    def choices(self) -> tuple[Choice, ...]:
        own = (Choice(name, getattr(self, name)) for name in ("width", "scores", "activation"))
        return (*own, *self.compression_choices())

    def most_kernels(self, axes: int) -> Mapping[str, float]:
        return {"conv2d": 4}

    def layers(self, picks: Picks, shape: Shape) -> Iterator[LayerSpec]:
        if len(shape) != 3:
            raise Infeasible(f"attention needs a map (rows, columns, channels), but gets {described(shape)}")
        weights, bits = self.picked_kernel(picks), self.picked_output(picks)
        tokens, width = math.prod(shape[:2]), picks["width"]
        linear, relu = (LayerSpec.of("activation", fn=fn, **bits) for fn in ("none", "relu"))
        score = (linear, LayerSpec.of("softmax", **bits)) if picks["scores"] == "softmax" else (relu,)
        for i in range(3):
            # Queries, keys and values all read the block's input; each makes three layers.
            yield LayerSpec.of("conv2d", filters=width, kernel=1, stride=1, padding="valid", inputs=(-1 - 3 * i,), **weights)
            yield linear
            yield LayerSpec.of("reshape", shape=(tokens, width))
        yield LayerSpec.of("matmul", transpose=True, inputs=(-7, -4))
        yield from score
        yield LayerSpec.of("matmul", transpose=False, inputs=(-1, -2 - len(score)))
        yield linear
        yield LayerSpec.of("reshape", shape=(*shape[:2], width))
        yield LayerSpec.of("conv2d", filters=shape[2], kernel=1, stride=1, padding="valid", **weights)
        yield linear
        yield LayerSpec.of("add", inputs=(-1, -16 - len(score)))
        yield LayerSpec.of("activation", fn=picks["activation"], **bits)
