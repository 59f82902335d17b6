"""Settings of the compression."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import (
    BeforeValidator,
    Field,
    PositiveFloat,
    PositiveInt,
    model_validator,
)

from kerasnac.core.hardware.boards import DEFAULT_BOARD, board
from kerasnac.core.hardware.estimators import SOURCES
from kerasnac.core.hardware.hls_options import Period
from kerasnac.core.hardware.timing import DEFAULT_PERIOD, Clock
from kerasnac.core.network.precision import FEW_VALUES
from kerasnac.core.network.quantization import CLIP_QUANTILE
from kerasnac.core.network.widths import ActivationBits, WeightBits
from kerasnac.core.search.selection import Selection
from kerasnac.core.settings.base import BoardName, Settings, SingleRule
from kerasnac.core.settings.costs import AdderGraphSettings, Clocked
from kerasnac.core.space.blocks.base import Values

#: Weights to which a pruning iteration sets back those that it keeps.
Rewind = Literal["start", "early", "keep"]

#: Among which weights the smallest are pruned.
Ranking = Literal["layer", "global"]


def _bit_pair(value: Any) -> Any:
    if isinstance(value, str) and value in FEW_VALUES:
        raise ValueError(f"{value} is a width of weights alone: give that of activations too, as [{value}, 6]")
    return (value, value) if isinstance(value, int) else value


#: Widths of weights and activations; a single number means both.
BitPair = Annotated[tuple[WeightBits, ActivationBits], BeforeValidator(_bit_pair)]


class MixedSettings(Settings):
    """Search for a bit width of each layer's own, from a point with the same bit widths everywhere.

    Attributes:
        evaluations: Points to train for every model, at most; the starting point, trained as long, is one of them.
        population: Size of a generation.
        epochs: Epochs of every point.
        weight_bits: Widths that a kernel may have, besides that of the starting point: bits, ``ternary``, ``binary``.
        activation_bits: Bit widths that an activation may have, besides that of the starting point.
        start: Rule that picks the starting point among those with the same bit widths everywhere.
        max_drop: A bit width is left out for a layer if it alone, without any training, makes the metric of the starting
            point worse by more than this, relatively; smaller widths are left out with it.
    """

    evaluations: PositiveInt = 40
    population: int = Field(10, ge=2, le=10_000)
    epochs: PositiveInt = 3
    weight_bits: Values[WeightBits] = (2, 3, 4, 5, 6, 8)
    activation_bits: Values[ActivationBits] = (2, 3, 4, 5, 6, 8)
    start: SingleRule = "within 2%"
    max_drop: float = Field(0.25, ge=0)


#: Part of the epochs of a training with learned widths after which it cools, and its learning rate at the end relative to the
#: one before: where few bits are left, large steps take away some that the network cannot do without.
COOLING, COOLED = 0.4, 0.15


class LearnedSettings(Settings):
    """Training in which every weight and every channel learns its own bit width, see :mod:`kerasnac.core.network.learned`.

    Attributes:
        epochs: Epochs in all, of which whole cycles are trained: more of them find better networks, above all in the middle
            of the front.
        cycle: Epochs after which the learning rate, which falls to a fiftieth, begins anew. A network is kept at the end of
            every cycle, if none before it is better and needs fewer bit operations.
        hold: Part of the epochs, at the start, with the lowest pressure.
        batch_size: Samples of a step.
        learning_rate: At the start of every cycle; of later ones it is less, see :meth:`rates_at`.
        pressure: Factor of the effective bit operations in the loss, at the start and at the end; it rises by the same ratio
            in every epoch. 1 makes those of the widths at the start count as much as the loss of the task does there.
        weight_bits: Width of the largest weight of a kernel at the start.
        activation_bits: Width of the channels at the start; those that learned tables read have the whole grid of these.
        smoothness: Factor, in the loss, of the squared slope of learned tables, integrated over their grid and summed. Without
            it tables follow single samples.
    """

    epochs: PositiveInt = 1000
    cycle: PositiveInt = 20
    hold: float = Field(0.05, ge=0, lt=1)
    batch_size: PositiveInt = 2048
    learning_rate: PositiveFloat = 0.005
    pressure: tuple[PositiveFloat, PositiveFloat] = (0.04, 8.0)
    weight_bits: int = Field(6, ge=2, le=12)
    activation_bits: int = Field(8, ge=2, le=12)
    smoothness: float = Field(3e-5, ge=0)

    @property
    def cycles(self) -> int:
        """Number of cycles."""
        return self.epochs // self.cycle

    def pressure_at(self, epochs: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the pressure after so many epochs each."""
        first, last = self.pressure
        whole = self.cycles * self.cycle
        held = self.hold * whole
        return np.asarray(first * (last / first) ** np.clip((epochs - held) / (whole - held), 0, 1))

    def rates_at(self, epochs: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the learning rate after so many epochs each.

        Within a cycle it falls like a cosine to a fiftieth. From :data:`COOLING` of the epochs on it falls by the same ratio in
        every epoch, to :data:`COOLED` at the end.
        """
        cycles = 0.02 + 0.98 * 0.5 * (1 + np.cos(np.pi * (epochs % self.cycle) / self.cycle))
        late = np.clip((epochs / (self.cycles * self.cycle) - COOLING) / (1 - COOLING), 0, 1)
        return np.asarray(self.learning_rate * cycles * COOLED**late)

    @model_validator(mode="after")
    def _rises(self) -> LearnedSettings:
        if self.epochs < self.cycle:
            raise ValueError(f"epochs: {self.epochs} are fewer than the {self.cycle} of a cycle")
        if self.pressure[0] > self.pressure[1]:
            raise ValueError(f"pressure: {list(self.pressure)} must not fall")
        return self


class CompressSettings(Settings):
    """Quantization-aware training with magnitude pruning, for every precision.

    Attributes:
        bits: Widths to train at: a number of bits, or a pair for weights, which may be ``ternary`` or ``binary``, and
            activations. Binary kernels are never pruned.
        schedule: ``iterative``: each iteration prunes the weights of the one before, and trains again. ``one_shot``: one
            training for each of ``sparsities``, which prunes gradually. ``searched``: the network as the search left it, and
            one such training, to the sparsities that the search chose for the layers. ``learned``: one long training, in
            which every weight and every channel learns its own bit width, see ``learned``; ``bits`` are not read.
        iterations: Pruning iterations after the unpruned one, if iterative.
        fraction: Fraction of the remaining weights that each iteration prunes.
        sparsities: Sparsities of the pruned kernels after the unpruned training, ascending, if one-shot.
        rewind: Weights from which an iteration trains those that it keeps: the ones at the ``start`` of the quantization-aware
            training, those ``early`` in the unpruned one (Frankle et al., arXiv:1912.05671), or ``keep``: those of the
            iteration before, which is fine-tuning. The learning rate begins anew in every iteration.
        rewind_epochs: Epochs of the unpruned training after which its weights are ``early``.
        ranking: ``layer``: every kernel is pruned alike. ``global``: one threshold for the magnitudes of the latent weights
            of all pruned kernels, without any scale by layer.
        prune_output: True if the output layer is pruned too.
        tolerance: A precision ends when the metric has been worse than the tuned float model's by more than this,
            relatively, for ``patience`` points in a row; such points are recorded, but not on a front. None: none ends.
        patience: See ``tolerance``.
        epochs: Epochs of every iteration.
        learning_rate: Initial learning rate, with cosine decay; half of the tuned one by default, since training
            starts from tuned weights; a tenth for networks with layer norms.
        clip_quantile: Fraction of an activation's values that may exceed its format, at each end.
        tie_free: True for biases that are odd multiples of half the last bit of their sum, where an activation rounds the
            sum: no sum is ever halfway between two numbers of the activation, and adder graphs need nothing to round to the
            even one. Not for points that the search has trained, which are as they are.
        cost: Cost on the other axis of the front, and in rules without a cost of their own.
        estimators: Sources of costs to record for every point, from its weights, besides what ``cost`` needs.
        board: FPGA board or part, for ``adder_percent``.
        clock_period: In nanoseconds, by which latencies of adder graphs are counted; by default that of the run's firmware.
        adder_graph: How adder graphs are made.
        learned: How widths are learned.
        mixed: Search for a bit width of each layer's own, after all that; off by default.
    """

    bits: tuple[BitPair, ...] = Field(((8, 8), (6, 6)), min_length=1)
    schedule: Literal["iterative", "one_shot", "searched", "learned"] = "iterative"
    iterations: int = Field(5, ge=0, le=40)
    fraction: float = Field(0.2, gt=0, lt=1)
    sparsities: tuple[Annotated[float, Field(gt=0, lt=1)], ...] = Field((0.5, 0.8), min_length=1)
    rewind: Rewind = "start"
    rewind_epochs: PositiveInt = 1
    ranking: Ranking = "layer"
    prune_output: bool = False
    tolerance: float | None = Field(None, ge=0)
    patience: PositiveInt = 2
    epochs: PositiveInt = 5
    learning_rate: PositiveFloat | None = None
    clip_quantile: float = Field(CLIP_QUANTILE, ge=0, lt=0.5)
    tie_free: bool = False
    cost: Literal["bops", "adder_luts", "adder_latency_ns"] = "bops"
    estimators: tuple[Literal["adder_graph"], ...] = ()
    board: BoardName = DEFAULT_BOARD
    clock_period: Period = DEFAULT_PERIOD
    adder_graph: Clocked[AdderGraphSettings] = AdderGraphSettings()
    learned: LearnedSettings = LearnedSettings()
    mixed: MixedSettings | None = None

    @property
    def clock(self) -> Clock | None:
        """Clock by which latencies are counted."""
        return Clock.of(self.clock_period, board(self.board).part)

    @property
    def steps(self) -> int:
        """Points of a precision after the unpruned one."""
        return {"iterative": self.iterations, "one_shot": len(self.sparsities), "searched": 0, "learned": 0}[self.schedule]

    @property
    def adder_graphs(self) -> bool:
        """True if every point gets its adder graph."""
        return bool(self.estimators) or self.cost != "bops"

    def sparsity(self, iteration: int) -> float:
        """Return the fraction of the pruned kernels that is pruned in an iteration; 0 is the unpruned one."""
        if self.schedule == "iterative":
            return 1 - float((1 - self.fraction) ** iteration)
        return (0.0, *self.sparsities)[iteration]

    @model_validator(mode="after")
    def _schedule_fits(self) -> CompressSettings:
        if list(self.sparsities) != sorted(set(self.sparsities)):
            raise ValueError(f"sparsities: {list(self.sparsities)} must ascend")
        if self.schedule != "iterative" and self.rewind != "start":
            raise ValueError(f"rewind: {self.rewind} is for iterations; a {self.schedule} training begins at the start")
        if self.schedule == "learned" and self.mixed:
            raise ValueError("mixed: learned widths are those of every weight and channel already; leave mixed out")
        if self.schedule == "learned" and self.tie_free:
            raise ValueError("tie_free: with learned widths ties are rounded up, which costs nothing; leave tie_free out")
        if self.rewind == "early" and self.rewind_epochs >= self.epochs:
            raise ValueError(f"rewind_epochs: {self.rewind_epochs} are not fewer than the {self.epochs} epochs")
        return self

    @model_validator(mode="after")
    def _start_is_recorded(self) -> CompressSettings:
        if self.mixed and Selection.parse(self.mixed.start).cost in SOURCES["adder_graph"] and not self.adder_graphs:
            raise ValueError(f"mixed.start: {self.mixed.start!r} needs estimators: [adder_graph]")
        return self
