"""Costs of networks that are not trained yet, from adder graphs of drawn weights."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from kerasnac.adapters.keras.predict import activation_ranges
from kerasnac.adapters.keras.runtime import tensorflow
from kerasnac.adapters.rtl.adder_graph import adder_graph_costs
from kerasnac.core.data.dataset import Development
from kerasnac.core.hardware.boards import Board
from kerasnac.core.network.architecture import Architecture, Node
from kerasnac.core.network.kinds import TABLES
from kerasnac.core.network.learned_tables import rising
from kerasnac.core.network.quantization import CLIP_QUANTILE, quantize
from kerasnac.core.network.weights import fold
from kerasnac.core.network.widths import Widths
from kerasnac.core.settings import CandidateGraphSettings
from kerasnac.core.space.search_space import SearchSpace
from kerasnac.core.store.keys import content_key
from kerasnac.core.store.seeding import generator
from kerasnac.errors import ConversionError, Infeasible

#: Training samples on which the ranges of activations are observed.
SAMPLES = 512


class AdderGraphEstimator:
    """Unrolls every candidate with weights that are drawn, for want of trained ones.

    The estimate is a property of the architecture and of the draw: kernels from a normal distribution with the
    variance of a Keras initialisation, pruned by magnitude and quantized as in compression. Trained weights have
    another distribution and other dead neurons, so that a trained network's own graph is larger or smaller.

    Attributes:
        source: Key of :data:`kerasnac.core.hardware.estimators.SOURCES`.
        settings: Widths and sparsity of the draw, effort and stages of the graph.
        board: What ``adder_percent`` is of.
        seed: The run's seed, of the draw.
    """

    source = "adder_graph"

    def __init__(self, settings: CandidateGraphSettings, board: Board, seed: int) -> None:
        self.settings, self.board, self.seed = settings, board, seed

    @property
    def key(self) -> str:
        """Hash of all settings that decide the estimates."""
        return content_key(self.source, settings=self.settings.identity, board_luts=self.board.lut, seed=self.seed)

    def check(self, space: SearchSpace) -> None:
        """Accept every space: all choices of its blocks have exact adder graphs."""

    def estimate(self, data: Development, architectures: Sequence[Architecture]) -> list[dict[str, float] | str]:
        """Return the costs of float architectures, or the reasons why they have none."""
        return [self._estimate(data, architecture) for architecture in architectures]

    def _estimate(self, data: Development, architecture: Architecture) -> dict[str, float] | str:
        try:
            return adder_graph_costs(*self._drawn(data, architecture), self.settings, self.board)
        except (ConversionError, Infeasible) as reason:
            return str(reason)

    def _drawn(self, data: Development, architecture: Architecture) -> tuple[Architecture, dict[str, NDArray[np.float32]]]:
        """Draw weights, which depend on nothing but the seed and the architecture, and quantize them."""
        rng = generator(self.seed, "adder graph", architecture.id)
        weights = {
            f"{node.name}/{part}": _draw(rng, node, part, self._sparsity(node))
            for node in architecture.nodes
            for part in node.weights
        }
        folded, weights = fold(architecture, weights)
        tensorflow().keras.backend.clear_session()
        ranges = activation_ranges(folded, weights, data.train.x[:SAMPLES], clip_quantile=CLIP_QUANTILE)
        widths = Widths(weight_bits=self.settings.weight_bits, activation_bits=self.settings.activation_bits)
        return quantize(folded, weights, ranges, input_grid=data.input_grid, **widths), weights

    def _sparsity(self, node: Node) -> float:
        """Return the fraction of a kernel that is drawn as zero; a binary one has no zeros."""
        if node.layer.binary(self.settings.weight_bits):
            return 0.0
        return float(dict(node.layer.params).get("sparsity", self.settings.sparsity))  # type: ignore[arg-type]


def _draw(rng: np.random.Generator, node: Node, part: str, sparsity: float) -> NDArray[np.float32]:
    """Draw a weight as a trained network may have it: a pruned kernel, a small bias, a batch norm that does nothing.

    Learned tables are those of the products of a pruned dense layer.

    Args:
        rng: Of this network.
        node: Layer that has the weight.
        part: Name of the array: ``kernel``, ``bias``, ``gamma``...
        sparsity: Fraction of a kernel that is zero, or of tables.

    Returns:
        Of the shape that it has, float32.
    """
    weight = node.weights[part]
    if part in ("gamma", "moving_variance") or (part == "kernel" and not weight.prunable):
        return np.ones(weight.shape, np.float32)
    if not weight.prunable:
        return rng.normal(0, 0.1, weight.shape).astype(np.float32)
    shape = weight.shape[1:] if node.layer.kind == "tables" else weight.shape
    fan_in, fan_out = np.prod(shape[:-1]), np.prod(shape[:-2]) * shape[-1]
    kernel = rng.normal(0, np.sqrt(2 / (fan_in + fan_out)), shape)  # Glorot's variance
    pruned = np.argsort(np.abs(kernel), axis=None)[: round(sparsity * kernel.size)]
    kernel.flat[pruned] = 0
    if node.layer.kind == "tables":
        kernel = rising(TABLES.grid(node.layer))[:, None, None] * kernel
    return kernel.astype(np.float32)
