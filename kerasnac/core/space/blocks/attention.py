"""Self-attention: as a block of its own, and as part of a transformer."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal, Self

from pydantic import PositiveInt, model_validator

from kerasnac.core.network.kinds import Shape, described
from kerasnac.core.network.layers import LayerSpec
from kerasnac.core.space.blocks.base import ActivationValues, Choice, Picks, Quantizable, Values
from kerasnac.errors import Infeasible


@dataclass(frozen=True)
class Heads:
    """Shape of a self-attention.

    Attributes:
        count: Number of heads.
        width: Channels of queries, keys and values of one head.
        scaled: True if scores are divided by the square root of the width.
        scores: ``softmax``, or ``relu`` for scores that are not normalised.
    """

    count: int
    width: int
    scaled: bool = False
    scores: Literal["softmax", "relu"] = "softmax"

    def layers(
        self,
        shape: Shape,
        kernel: Mapping[str, Any],
        output: Mapping[str, Any],
        *,
        source: int = -1,
        mask: int | None = None,
    ) -> Iterator[LayerSpec]:
        """Yield the layers from one of some shape, which is read, up to the projection back to this shape.

        Args:
            shape: Of a map (rows, columns, channels) or a set (particles, features).
            kernel: Parameters that are picked for all kernels.
            output: Parameters that are picked for all activations.
            source: Which layer is read, as an offset from the first one here.
            mask: Which layer is a mask of the positions that scores are for, likewise; None for all of them.
        """
        tokens, channels, is_map = math.prod(shape[:-1]), self.count * self.width, len(shape) == 3
        conv = {"kind": f"conv{len(shape) - 1}d", "kernel": 1, "stride": 1, "padding": "valid", **kernel}
        linear = LayerSpec.of("activation", fn="none", **output)
        score = [linear, LayerSpec.of("softmax", **output)]
        if self.scores == "relu":
            score = [LayerSpec.of("activation", fn="relu", **output)]
        each = 2 + is_map  # Layers of queries, of keys and of values; all read the same input.
        if mask is not None:  # Behind them, their product and the first of the layers of scores.
            score = [linear, LayerSpec.of("masked_softmax", **output, inputs=(-1, mask - 3 * each - 2))]
        for i in range(3):
            yield LayerSpec.of(**conv, filters=channels, inputs=(source - each * i,))
            yield linear
            if is_map:
                yield LayerSpec.of("reshape", shape=(tokens, channels))
        heads = {"heads": self.count} if self.count > 1 else {}
        scaled = {"scaled": True} if self.scaled else {}
        yield LayerSpec.of("matmul", transpose=True, **heads, **scaled, inputs=(-1 - 2 * each, -1 - each))
        yield from score
        yield LayerSpec.of("matmul", transpose=False, **heads, inputs=(-1, -2 - len(score)))
        yield linear
        if is_map:
            yield LayerSpec.of("reshape", shape=(*shape[:-1], channels))
        yield LayerSpec.of(**conv, filters=shape[-1])
        yield linear


def added(body: Iterator[LayerSpec]) -> Iterator[LayerSpec]:
    """Yield some layers, and the sum of what they give and what they read."""
    count = 0
    for layer in body:
        yield layer
        count += 1
    yield LayerSpec.of("add", inputs=(-1, -1 - count))


class Attention(Quantizable):
    """Self-attention between all positions of a map, or all particles of a set; the result is added to its input.

    Queries, keys and values of every head are linear functions of one position; softmax(Q K^T) V of all heads goes through a
    projection back to the channels of the input and is added to it. With one head that is not scaled this is the non-local
    block of BraggNN (arXiv:2008.08198), with several scaled ones the attention of Vaswani et al. (arXiv:1706.03762).

    Attributes:
        width: Choices of the number of channels of queries, keys and values, of each head.
        scores: ``softmax``, or ``relu`` for scores that are not normalised.
        activation: Choices of activation after the sum.
        heads: Choices of the number of heads.
        scaled: Choices of whether scores are divided by the square root of the width.
        mask: True to attend to no padded particles, those whose features are all zero in the input of the block.

    All its layers share one bit width and sparsity of kernels and one bit width of activations.
    """

    block: Literal["attention"] = "attention"
    width: Values[PositiveInt]
    scores: Values[Literal["softmax", "relu"]] = ("softmax",)
    activation: ActivationValues = ("none",)
    heads: Values[PositiveInt] = (1,)
    scaled: Values[bool] = (False,)
    mask: bool = False

    @model_validator(mode="after")
    def _masked_softmax_only(self) -> Self:
        if self.mask and "relu" in self.scores:
            raise ValueError("mask: true is for scores: softmax; scores that are not normalised have no mask")
        return self

    def choices(self) -> tuple[Choice, ...]:
        own = (Choice(name, getattr(self, name)) for name in ("width", "scores", "activation", "heads", "scaled"))
        return (*own, *self.compression_choices())

    def most_kernels(self, axes: int) -> Mapping[str, float]:
        return {f"conv{axes - 1}d": 4}

    def layers(self, picks: Picks, shape: Shape) -> Iterator[LayerSpec]:
        if len(shape) not in (2, 3):
            raise Infeasible(
                f"attention needs a map (rows, columns, channels) or a set (particles, features), but gets {described(shape)}"
            )
        if self.mask and len(shape) == 3:
            raise Infeasible(f"attention with mask: true needs a set (particles, features), but gets {described(shape)}")
        yield from added(self._branch(picks, shape))
        yield LayerSpec.of("activation", fn=picks["activation"], **self.picked_output(picks))

    def _branch(self, picks: Picks, shape: Shape) -> Iterator[LayerSpec]:
        heads = Heads(picks["heads"], picks["width"], picks["scaled"], picks["scores"])
        kernel, output = self.picked_kernel(picks), self.picked_output(picks)
        if self.mask:
            yield LayerSpec.of("mask")
            yield from heads.layers(shape, kernel, output, source=-2, mask=-1)
        else:
            yield from heads.layers(shape, kernel, output)
