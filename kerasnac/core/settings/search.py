"""Settings of the global search."""

from __future__ import annotations

from functools import cached_property
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    Field,
    PositiveFloat,
    PositiveInt,
    ValidationInfo,
    model_validator,
)

from kerasnac.core.hardware.boards import DEFAULT_BOARD, board
from kerasnac.core.hardware.estimators import NamedEstimator, foreign_estimators
from kerasnac.core.hardware.hls_options import Period
from kerasnac.core.hardware.timing import DEFAULT_PERIOD, Clock
from kerasnac.core.network.training import Schedule, Training
from kerasnac.core.network.widths import ActivationBits, FloatActivationBits, FloatWeightBits, WeightBits
from kerasnac.core.plugins import part_name
from kerasnac.core.search.objectives import sources
from kerasnac.core.settings.base import BoardName, Settings
from kerasnac.core.settings.compress import LearnedSettings
from kerasnac.core.settings.costs import AdderGraphSettings, Clocked, Rule4mlSettings
from kerasnac.core.space.references import Reference
from kerasnac.core.store.keys import decisive


def _estimator(name: str, info: ValidationInfo) -> str:
    name = part_name(name, info)
    for estimator in foreign_estimators([name]):
        _ = estimator.metrics
    return name


#: Name of a source of costs; one of others is loaded to see that it is one.
EstimatorName = Annotated[str, AfterValidator(_estimator)]


class CandidateGraphSettings(AdderGraphSettings):
    """Settings of the adder graphs of candidates, and of the weights that they are made of.

    Attributes:
        weights: ``drawn`` before any training, with the bit widths and the sparsity of the settings: candidates over a
            budget are not trained. ``trained`` where bit widths or sparsities are genes, or widths are learned: the weights
            after the training.
        weight_bits: Bit width of the weights; a layer's own one wins.
        activation_bits: Bit width of the activations; a layer's own one wins.
        sparsity: Fraction of the weights that are pruned; a layer's own one wins.
    """

    weights: Literal["drawn", "trained"] = "drawn"
    weight_bits: WeightBits = 6
    activation_bits: ActivationBits = 6
    sparsity: float = Field(0.5, ge=0, lt=1)

    @property
    def identity(self) -> dict[str, Any]:
        return decisive(
            self, ("effort", "latency_cutoff", "max_depth", "weights", "weight_bits", "activation_bits", "sparsity")
        )


class HalvingSettings(Settings):
    """Successive halving inside a generation: all candidates are trained briefly, the promising ones in full.

    Attributes:
        epochs: Epochs of the brief training.
        keep: Fraction of a generation that is trained in full.
    """

    epochs: PositiveInt
    keep: float = Field(0.5, gt=0, lt=1)


class QuantizedSettings(Settings):
    """Training that follows the float one, where bit widths or sparsities are genes.

    The weights are pruned in the first half of this training.

    Attributes:
        epochs: Half of those of the float training by default.
        learning_rate: A third of that of the float training by default.
        schedule: That of the float training by default.
        tie_free: As for a compression: biases for which adder graphs need nothing to round to the even number.
    """

    epochs: PositiveInt | None = None
    learning_rate: PositiveFloat | None = None
    schedule: Schedule | None = None
    tie_free: bool = False

    def of(self, training: Training, *, full: int) -> Training:
        """Return the training that follows a float one.

        Args:
            training: The float training, which may be brief.
            full: Epochs of a float training that is not; a brief one is followed by as much less.
        """
        epochs = -(-training.epochs // 2) if self.epochs is None else -(-self.epochs * training.epochs // full)
        own = {
            "learning_rate": self.learning_rate or training.learning_rate / 3,
            "schedule": self.schedule or training.schedule,
        }
        return training.with_(epochs=epochs, **own)


class RampSettings(LearnedSettings):
    """Short training with learned widths that follows the float one, and makes of every candidate a front of networks.

    The other settings are those of the compression.

    Attributes:
        epochs: Epochs in all, of which whole cycles are trained.
        cycle: Epochs after which the learning rate begins anew, and a network is kept that is on the candidate's front.
        points: Networks of this front that are points of the search, at most: its ends, and others that are evenly spread in
            the logarithm of the effective bit operations.
    """

    epochs: PositiveInt = 120
    cycle: PositiveInt = 10
    points: PositiveInt = 8


class SearchSettings(Settings):
    """The global search.

    Attributes:
        objectives: Metrics to optimise; ``metric`` is the task metric.
        budgets: Bounds that every answer keeps: metric -> maximum (minimum for accuracy).
        seeds: Architectures of the first generation, which stand in every table and plot: names of baselines, JSON
            files, folders of saved models, or architectures.
        algorithm: ``nsga2``, or ``random`` for a search to compare with.
        mode: ``generational``: a generation is bred when the one before it is complete. ``steady``: a candidate is bred
            whenever a worker is free, so that none waits for the slowest of a generation.
        lag: Candidates of steady mode that may be trained, or wait for the results of earlier ones, at the same time; no more
            workers are busy. It decides the candidates, the number of workers does not. As large as the population by default.
        population: Size of a generation; in steady mode, of the population that candidates are bred from.
        evaluations: Candidates to train, at most.
        max_hours: Wall time after which no generation is begun, counted over all sessions of a resumed search.
        stagnation: Generations without a gain of hypervolume after which the search ends.
        reference_point: Point, metric -> value, up to which the hypervolume reaches; by default one
            somewhat beyond the front of the first generation.
        training: How every candidate is trained.
        quantized: How it is trained on, where bit widths or sparsities are genes.
        learned: How its widths are learned after the float training, so that a candidate is not one point of the search but
            several, exact quantized networks; off by default.
        folds: Folds of a cross-validation over the training and validation samples; 1 for none.
        halving: Successive halving; off by default.
        weight_bits: Width of weights at which BOPs are counted and candidates trained quantized; a layer's own one wins.
        activation_bits: The same of activations.
        estimators: Sources of costs to record besides those that objectives and budgets need: built-in ones, and those of
            others, see :mod:`kerasnac.core.plugins`.
        board: FPGA board or part for which resources are estimated.
        clock_period: In nanoseconds, by which latencies of adder graphs are counted; by default that of the run's firmware.
        rule4ml: Settings of the resource surrogate.
        adder_graph: Settings of the adder graphs.
    """

    objectives: tuple[str, ...] = Field(("metric", "bops"), min_length=1)
    budgets: dict[str, float] = Field(default_factory=dict)
    seeds: tuple[Reference, ...] = ()
    algorithm: Literal["nsga2", "random"] = "nsga2"
    mode: Literal["generational", "steady"] = "generational"
    lag: Annotated[int, Field(gt=0, le=10_000)] | None = None
    population: int = Field(20, ge=2, le=10_000)
    evaluations: PositiveInt = 100
    max_hours: Annotated[float, Field(gt=0, le=1e6)] | None = None
    stagnation: PositiveInt | None = None
    reference_point: dict[str, float] = Field(default_factory=dict)
    training: Training = Training(epochs=5)
    quantized: QuantizedSettings = QuantizedSettings()
    learned: RampSettings | None = None
    folds: Annotated[int, Field(gt=0, le=1000)] = 1
    halving: HalvingSettings | None = None
    weight_bits: FloatWeightBits = 8
    activation_bits: FloatActivationBits = 8
    estimators: tuple[EstimatorName, ...] = ()
    board: BoardName = DEFAULT_BOARD
    clock_period: Period = DEFAULT_PERIOD
    rule4ml: Rule4mlSettings = Rule4mlSettings()
    adder_graph: Clocked[CandidateGraphSettings] = CandidateGraphSettings()

    @property
    def clock(self) -> Clock | None:
        """Clock by which latencies are counted."""
        return Clock.of(self.clock_period, board(self.board).part)

    @model_validator(mode="after")
    def _halving_is_briefer(self) -> SearchSettings:
        if self.halving and self.halving.epochs >= self.training.epochs:
            raise ValueError(
                f"halving: {self.halving.epochs} epochs are not fewer than the {self.training.epochs} of the training"
            )
        return self

    @model_validator(mode="after")
    def _costs_have_names_of_their_own(self) -> SearchSettings:
        names = self.foreign_costs
        if twice := [name for name in names if names.count(name) > 1]:
            raise ValueError(f"estimators: two of them record {twice[0]!r}: name one of them, or rename the cost")
        return self

    @model_validator(mode="after")
    def _learned_stands_alone(self) -> SearchSettings:
        if self.learned is None:
            return self
        if self.halving:
            raise ValueError("halving: a brief training has no learned widths to be compared by; leave it or learned out")
        if self.folds > 1:
            raise ValueError(
                "folds: the networks of one training are a front, those of several are not; leave folds or learned out"
            )
        graphs = "adder_graph" in (*sources((*self.objectives, *self.budgets)), *self.estimators)
        if graphs and self.adder_graph.weights == "drawn":
            raise ValueError(
                "adder_graph.weights: with learned widths adder graphs are those of trained weights; add weights: trained"
            )
        return self

    @model_validator(mode="after")
    def _mode_has_its_settings(self) -> SearchSettings:
        if self.halving and self.mode == "steady":
            raise ValueError("halving: it compares the candidates of a generation; leave it out, or use mode: generational")
        if self.lag and self.mode == "generational":
            raise ValueError("lag: it is for mode: steady; leave it out, or use that mode")
        return self

    @cached_property
    def foreign_estimators(self) -> tuple[NamedEstimator, ...]:
        """The sources of costs that do not come with kerasnac."""
        return foreign_estimators(self.estimators)

    @property
    def foreign_costs(self) -> tuple[str, ...]:
        """Names of the costs that these record."""
        return tuple(metric for estimator in self.foreign_estimators for metric in estimator.metrics)

    @property
    def steady_lag(self) -> int:
        """The lag of steady mode."""
        return self.lag or self.population
