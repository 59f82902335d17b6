"""Transformer on a set of particles."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Annotated, Literal

from pydantic import Field, PositiveInt

from kerasnac.core.network.kinds import Shape
from kerasnac.core.network.layers import LayerSpec
from kerasnac.core.space.blocks.attention import Heads, added
from kerasnac.core.space.blocks.base import MOST_BLOCKS, ActivationValues, Choice, Picks, Values
from kerasnac.core.space.blocks.sets import Aggregating

#: Choices that every candidate makes.
_PLAIN = ("width", "depth", "heads", "head_width", "scaled", "hidden", "activation", "aggregate")


class Transformer(Aggregating):
    """Particle transformer, whose norms stand before what they normalise for (Xiong et al., arXiv:2002.04745).

    Every particle is embedded; then come ``depth`` times a self-attention between all particles and two dense layers on every
    particle, each with a norm before it and the sum with its input after it; then the mean or maximum over the particles.
    The order of the particles does not matter. An ``mlp`` block follows, as after ``deep_sets``.

    Attributes:
        width: Choices of the channels of a particle.
        depth: Choices of how often attention and dense layers follow each other.
        heads: Choices of the number of heads.
        head_width: Choices of the channels of queries, keys and values of each head.
        scaled: Choices of whether scores are divided by the square root of ``head_width``.
        hidden: Choices of the units of the first of the two dense layers.
        activation: Choices of activation of the first of the two dense layers.

    A mask leaves padded particles out of all attentions too. A layer norm normalises over the channels of one particle. All
    layers share one norm, one bit width and sparsity of kernels and one bit width of activations.
    """

    block: Literal["transformer"] = "transformer"
    width: Values[PositiveInt]
    depth: Values[Annotated[int, Field(ge=1, le=MOST_BLOCKS)]] = (1,)
    heads: Values[PositiveInt] = (1,)
    head_width: Values[PositiveInt]
    scaled: Values[bool] = (True,)
    hidden: Values[PositiveInt]
    activation: ActivationValues = ("relu",)

    def choices(self) -> tuple[Choice, ...]:
        own = (Choice(name, getattr(self, name)) for name in (*_PLAIN, "norm"))
        return (*own, *self.compression_choices())

    def combinations(self) -> int:
        plain = math.prod(len(getattr(self, name)) for name in _PLAIN)
        return plain * self.widths_and_sparsities * sum(map(self.tables, self.norm))

    def most_kernels(self, axes: int) -> Mapping[str, float]:
        return {"conv1d": 1 + 6 * max(self.depth)}

    def layers(self, picks: Picks, shape: Shape) -> Iterator[LayerSpec]:
        self.check_set(shape)
        count = 0
        if self.mask:  # The first layer of the block, which all the rest is behind.
            yield LayerSpec.of("mask")
            count = 1
        for layer in self._particles(picks, shape):
            yield layer
            count += 1
        yield from self.aggregated(picks, self.picked_output(picks), inputs=(-1, -count))

    def _particles(self, picks: Picks, shape: Shape) -> Iterator[LayerSpec]:
        """Yield the layers up to the aggregation; a mask is the layer before them, and reads what they read."""
        linear = LayerSpec.of("activation", fn="none", **self.picked_output(picks))
        yield replace(self._dense(picks["width"], picks), inputs=(-1 - self.mask,))
        yield linear
        count = 2
        for _ in range(picks["depth"]):
            for branch in (self._attention(picks, shape, count), self._mlp(picks)):
                for layer in (*added(branch), linear):
                    yield layer
                    count += 1

    def _dense(self, units: int, picks: Picks) -> LayerSpec:
        """Return a dense layer on every particle."""
        return LayerSpec.of("conv1d", filters=units, kernel=1, stride=1, padding="valid", **self.picked_kernel(picks))

    def _norm(self, picks: Picks) -> Iterator[LayerSpec]:
        norm = picks["norm"]
        if norm != "none":
            layer, linear = self.followers(Picks(lambda name: "none" if name == "activation" else picks[name]), axes="last")
            yield layer
            if norm == "batch":  # A layer norm rounds what it gives.
                yield linear

    def _attention(self, picks: Picks, shape: Shape, before: int) -> Iterator[LayerSpec]:
        """Yield a branch with so many layers between itself and the mask."""
        for layer in self._norm(picks):
            yield layer
            before += 1
        heads, mask = Heads(picks["heads"], picks["head_width"], picks["scaled"]), -1 - before if self.mask else None
        particles = (shape[0], picks["width"])
        yield from heads.layers(particles, self.picked_kernel(picks), self.picked_output(picks), mask=mask)

    def _mlp(self, picks: Picks) -> Iterator[LayerSpec]:
        yield from self._norm(picks)
        yield self._dense(picks["hidden"], picks)
        yield LayerSpec.of("activation", fn=picks["activation"], **self.picked_output(picks))
        yield self._dense(picks["width"], picks)
        yield LayerSpec.of("activation", fn="none", **self.picked_output(picks))
