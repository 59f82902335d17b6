"""What a run is told: one model per stage, validated together with the space."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    model_validator,
)

from kerasnac.core.blocks.base import Values
from kerasnac.core.boards import board
from kerasnac.core.estimators import SOURCES
from kerasnac.core.hls_options import HlsOptions, SoftmaxMode
from kerasnac.core.references import Reference
from kerasnac.core.selection import Selection
from kerasnac.core.space import SearchSpace
from kerasnac.core.training import Optimizer, Schedule, Training

#: To which weights a pruning iteration sets back what it keeps.
Rewind = Literal["start", "early", "keep"]

#: Among which weights the smallest are pruned.
Ranking = Literal["layer", "global"]

#: Width of weights or activations in bits.
Bits = Annotated[int, Field(ge=2, le=16)]


def _board_name(text: str) -> str:
    return board(text).name


def _selection_text(text: str) -> str:
    Selection.parse(text)
    return text


def _picks_one(text: str) -> str:
    if Selection.parse(text).rule == "front":
        raise ValueError("front picks more than one point")
    return text


#: Text of a selection rule, checked when it is read.
Rule = Annotated[str, AfterValidator(_selection_text)]

#: The same for a rule that picks one point.
SingleRule = Annotated[Rule, AfterValidator(_picks_one)]


class Settings(BaseModel):
    """Frozen, and strict about names."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Rule4mlSettings(Settings):
    """What the resource surrogate rule4ml is asked.

    Attributes:
        strategy: ``latency`` or ``resource``.
        reuse_factor: Multiplications per multiplier.
        precision: The one number format of the whole network.
        hls4ml: Version of hls4ml that the estimate is for.
        vivado: Version of the vendor's tools that the estimate is for.
        samples: Monte-Carlo dropout samples, whose spread is recorded; 0 for one deterministic prediction.
    """

    strategy: Literal["latency", "resource"] = "latency"
    reuse_factor: PositiveInt = 1
    precision: str = "ap_fixed<8,3>"
    hls4ml: str = "1.1.0"
    vivado: str = "2023.2"
    samples: NonNegativeInt = 0


class AdderGraphSettings(Settings):
    """Of which weights a candidate's adder graph is made, and how.

    Attributes:
        weights: ``drawn`` before any training, with the widths and the sparsity that the candidate is to end with: what
            is over a budget is not trained. ``trained`` where widths or sparsities are genes: those that it ends with.
        weight_bits: Width of the weights; a layer's own width wins.
        activation_bits: Width of the activations; a layer's own width wins.
        sparsity: Fraction of the weights that are pruned; a layer's own one wins.
        stage_levels: Adder levels between two registers.
        effort: ``fast`` or ``full`` search for common subexpressions.
    """

    weights: Literal["drawn", "trained"] = "drawn"
    weight_bits: Bits = 6
    activation_bits: Bits = 6
    sparsity: float = Field(0.5, ge=0, lt=1)
    stage_levels: PositiveInt = 5
    effort: Literal["fast", "full"] = "fast"


class HalvingSettings(Settings):
    """Successive halving inside a generation: all candidates are trained briefly, the promising ones in full.

    Attributes:
        epochs: Epochs of the brief training.
        keep: Fraction of a generation that is trained in full.
    """

    epochs: PositiveInt
    keep: float = Field(0.5, gt=0, lt=1)


class QuantizedSettings(Settings):
    """How candidates are trained on after the float training, where widths or sparsities are genes.

    The weights are pruned in the first half of this training.

    Attributes:
        epochs: Half of those of the float training by default.
        learning_rate: A third of that of the float training by default.
        schedule: That of the float training by default.
    """

    epochs: PositiveInt | None = None
    learning_rate: PositiveFloat | None = None
    schedule: Schedule | None = None

    def of(self, training: Training, *, full: int) -> Training:
        """The training that follows a float one.

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


class SearchSettings(Settings):
    """The global search.

    Attributes:
        objectives: Metrics to optimise; ``metric`` is the task metric.
        budgets: Bounds that every answer keeps: metric -> maximum (minimum for accuracy).
        seeds: Architectures of the first generation, which stand in every table and plot: names of baselines, JSON
            files, folders of saved models, or architectures.
        algorithm: ``nsga2``, or ``random`` for a search to compare with.
        population: Size of a generation.
        evaluations: Candidates to train, at most.
        max_hours: Wall time after which no generation is begun, counted over all sessions of a resumed search.
        stagnation: Generations without a gain of hypervolume after which the search ends.
        reference_point: Hypervolume counts what is better than this point: metric -> value; by default one
            somewhat beyond the front of the first generation.
        training: How every candidate is trained.
        quantized: How it is trained on, where widths or sparsities are genes.
        folds: Folds of a cross-validation over the training and validation samples; 1 for none.
        halving: Successive halving; off by default.
        weight_bits: Width of weights at which BOPs are counted and candidates trained quantized; a layer's own one wins.
        activation_bits: The same of activations.
        estimators: Sources of costs to record besides those that objectives and budgets need.
        board: FPGA board or part for which resources are estimated.
        rule4ml: Settings of the resource surrogate.
        adder_graph: Settings of the adder graphs.
    """

    objectives: tuple[str, ...] = Field(("metric", "bops"), min_length=1)
    budgets: dict[str, float] = Field(default_factory=dict)
    seeds: tuple[Reference, ...] = ()
    algorithm: Literal["nsga2", "random"] = "nsga2"
    population: int = Field(20, ge=2)
    evaluations: PositiveInt = 100
    max_hours: PositiveFloat | None = None
    stagnation: PositiveInt | None = None
    reference_point: dict[str, float] = Field(default_factory=dict)
    training: Training = Training(epochs=5)
    quantized: QuantizedSettings = QuantizedSettings()
    folds: PositiveInt = 1
    halving: HalvingSettings | None = None
    weight_bits: Annotated[int, Field(ge=2)] = 8
    activation_bits: Annotated[int, Field(ge=2)] = 8
    estimators: tuple[Literal["rule4ml", "adder_graph"], ...] = ()
    board: Annotated[str, AfterValidator(_board_name)] = "vu13p"
    rule4ml: Rule4mlSettings = Rule4mlSettings()
    adder_graph: AdderGraphSettings = AdderGraphSettings()

    @model_validator(mode="after")
    def _halving_is_briefer(self) -> SearchSettings:
        if self.halving and self.halving.epochs >= self.training.epochs:
            raise ValueError(
                f"halving: {self.halving.epochs} epochs are not fewer than the {self.training.epochs} of the training"
            )
        return self


def _pair(value: Any) -> Any:
    if isinstance(value, list | tuple) and len(value) == 1:
        (value,) = value
    return (value, value) if isinstance(value, int | float) else value


def _ascending(pair: tuple[float, float]) -> tuple[float, float]:
    if pair[0] > pair[1]:
        raise ValueError(f"the range [{pair[0]:g}, {pair[1]:g}] must ascend")
    return pair


def _logarithmic(pair: tuple[float, float]) -> tuple[float, float]:
    if pair[0] == 0 < pair[1]:
        raise ValueError(f"the range [0, {pair[1]:g}] is logarithmic and must begin above 0")
    return pair


#: Ends of a range; a single number is a range of one value.
Range = Annotated[
    tuple[Annotated[float, Field(ge=0, allow_inf_nan=False)], Annotated[float, Field(ge=0, allow_inf_nan=False)]],
    BeforeValidator(_pair),
    AfterValidator(_ascending),
]

#: A range that is searched on a logarithmic scale.
LogRange = Annotated[Range, AfterValidator(_logarithmic)]


def _rates(pair: tuple[float, float]) -> tuple[float, float]:
    if pair[0] <= 0:
        raise ValueError("a learning rate is above 0")
    return pair


def _fractions(pair: tuple[float, float]) -> tuple[float, float]:
    if pair[1] >= 1:
        raise ValueError(f"the range [{pair[0]:g}, {pair[1]:g}] must end below 1")
    return pair


def _enough_repeats(repeats: int) -> int:
    if repeats == 1:
        raise ValueError("a standard deviation takes 2 repeats or more; 0 for none")
    return repeats


#: Hyperparameters of the training that a tuning may search.
TUNED = ("learning_rate", "batch_size", "schedule", "weight_decay", "dropout", "optimizer", "l1", "label_smoothing")


class TuneSettings(Settings):
    """Bayesian optimisation of the training of chosen models.

    A hyperparameter with a range, or with several values, is searched. One with a single value has it in all trials
    but the first. None leaves it as it was in the search.

    Attributes:
        select: Rules that pick models from the front.
        baselines: Networks to tune beside them, with the same number of trials and from the same start: names of
            baselines, JSON files, folders of saved models, or architectures.
        trials: Trials per model, the search's own settings included.
        epochs: Epochs of a trial, at most.
        patience: Early stopping, in epochs.
        folds: Folds of a cross-validation that scores the trials; 1 for none.
        repeats: Further trainings of the best trial's settings with other seeds, at least 2; 0 for none.
        learning_rate: Range searched, logarithmic.
        batch_size: Values searched.
        schedule: Values searched.
        weight_decay: Range searched, logarithmic.
        dropout: Range searched.
        optimizer: Values searched.
        l1: Range searched, logarithmic.
        label_smoothing: Range searched; classification only.
    """

    select: tuple[Rule, ...] = Field(("knee", "best"), min_length=1)
    baselines: tuple[Reference, ...] = ()
    trials: PositiveInt = 12
    epochs: PositiveInt = 20
    patience: PositiveInt | None = 5
    folds: PositiveInt = 1
    repeats: Annotated[NonNegativeInt, AfterValidator(_enough_repeats)] = 0
    learning_rate: Annotated[LogRange, AfterValidator(_rates)] | None = (3e-4, 1e-2)
    batch_size: Values[PositiveInt] | None = (64, 128, 256, 512)
    schedule: Values[Schedule] | None = ("constant", "cosine")
    weight_decay: LogRange | None = (1e-6, 1e-2)
    dropout: Annotated[Range, AfterValidator(_fractions)] | None = (0.0, 0.2)
    optimizer: Values[Optimizer] | None = None
    l1: LogRange | None = None
    label_smoothing: Annotated[Range, AfterValidator(_fractions)] | None = None

    @property
    def fixed(self) -> dict[str, Any]:
        """Hyperparameters with a single value."""
        return {name: values[0] for name in TUNED if (values := getattr(self, name)) and len(set(values)) == 1}

    @property
    def searched(self) -> dict[str, tuple[Any, ...]]:
        """Ends of the ranges, and values to choose from, of all others that do not stay as they were."""
        return {name: values for name in TUNED if (values := getattr(self, name)) and len(set(values)) > 1}


def _width_pair(value: Any) -> Any:
    return (value, value) if isinstance(value, int) else value


#: Weight and activation width; a single number means both.
Widths = Annotated[tuple[Bits, Bits], BeforeValidator(_width_pair)]


class MixedSettings(Settings):
    """Search for a width of each layer's own, from a point with the same widths everywhere.

    Attributes:
        evaluations: Points to train for every model, at most; the starting point, trained as long, is one of them.
        population: Size of a generation.
        epochs: Epochs of every point.
        weight_bits: Widths that a kernel may have, besides that of the starting point.
        activation_bits: Widths that an activation may have, besides that of the starting point.
        start: Rule that picks the starting point among those with the same widths everywhere.
        max_drop: A width is left out for a layer if it alone, without any training, makes the metric of the starting
            point worse by more than this, relatively; smaller widths are left out with it.
    """

    evaluations: PositiveInt = 40
    population: int = Field(10, ge=2)
    epochs: PositiveInt = 3
    weight_bits: Values[Bits] = (2, 3, 4, 5, 6, 8)
    activation_bits: Values[Bits] = (2, 3, 4, 5, 6, 8)
    start: SingleRule = "within 2%"
    max_drop: float = Field(0.25, ge=0)


class CompressSettings(Settings):
    """Quantization-aware training with magnitude pruning, for every precision.

    Attributes:
        bits: Widths to train at: a number, or a pair of weight and activation width.
        schedule: ``iterative``: each iteration prunes the weights of the one before, and trains again. ``one_shot``: one
            training for each of ``sparsities``, which prunes gradually. ``searched``: one such training, to the sparsities
            that the search chose for the layers.
        iterations: Pruning iterations after the unpruned one, if iterative.
        fraction: Fraction of the remaining weights that each iteration prunes.
        sparsities: Sparsities of the pruned kernels after the unpruned training, ascending, if one-shot.
        rewind: Weights from which an iteration trains what it keeps: those at the ``start`` of the quantization-aware
            training, those ``early`` in the unpruned one (Frankle et al., arXiv:1912.05671), or ``keep``: those of the
            iteration before, which is fine-tuning. The learning rate begins anew in every iteration.
        rewind_epochs: Epochs of the unpruned training after which its weights are ``early``.
        ranking: ``layer``: every kernel is pruned alike. ``global``: one threshold for the magnitudes of the latent weights
            of all pruned kernels, without any scale by layer.
        prune_output: Whether the output layer is pruned too.
        tolerance: A precision ends when the metric has been worse than the tuned float model's by more than this,
            relatively, for ``patience`` points in a row; such points are recorded, but not on a front. None: none ends.
        patience: See ``tolerance``.
        epochs: Epochs of every iteration.
        learning_rate: Initial learning rate, with cosine decay; half of the tuned one by default, since training
            starts from tuned weights.
        saturation: Fraction of an activation's values that may exceed its format, at each end.
        cost: What the front is of, besides the metric, and what rules without a cost of their own mean by cheap.
        estimators: Sources of costs to record for every point, from its weights, besides what ``cost`` needs.
        board: FPGA board or part, for ``adder_percent``.
        stage_levels: Adder levels between two registers of the adder graph.
        effort: ``fast`` or ``full`` search of the adder graph for common subexpressions.
        mixed: Search for a width of each layer's own, after all that; off by default.
    """

    bits: tuple[Widths, ...] = Field(((8, 8), (6, 6)), min_length=1)
    schedule: Literal["iterative", "one_shot", "searched"] = "iterative"
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
    saturation: float = Field(1e-3, ge=0, lt=0.5)
    cost: Literal["bops", "adder_luts"] = "bops"
    estimators: tuple[Literal["adder_graph"], ...] = ()
    board: Annotated[str, AfterValidator(_board_name)] = "vu13p"
    stage_levels: PositiveInt = 5
    effort: Literal["fast", "full"] = "fast"
    mixed: MixedSettings | None = None

    @property
    def steps(self) -> int:
        """Points of a precision after the unpruned one."""
        return {"iterative": self.iterations, "one_shot": len(self.sparsities), "searched": 0}[self.schedule]

    @property
    def adder_graphs(self) -> bool:
        """Whether every point gets its adder graph."""
        return bool(self.estimators) or self.cost == "adder_luts"

    def sparsity(self, iteration: int) -> float:
        """Fraction of the pruned kernels that is pruned in an iteration; 0 is the unpruned one."""
        if self.schedule == "iterative":
            return 1 - float((1 - self.fraction) ** iteration)
        return (0.0, *self.sparsities)[iteration]

    @model_validator(mode="after")
    def _schedule_fits(self) -> CompressSettings:
        if list(self.sparsities) != sorted(set(self.sparsities)):
            raise ValueError(f"sparsities: {list(self.sparsities)} must ascend")
        if self.schedule != "iterative" and self.rewind != "start":
            raise ValueError(f"rewind: {self.rewind} is for iterations; a {self.schedule} training begins at the start")
        if self.rewind == "early" and self.rewind_epochs >= self.epochs:
            raise ValueError(f"rewind_epochs: {self.rewind_epochs} are not fewer than the {self.epochs} epochs")
        return self

    @model_validator(mode="after")
    def _start_is_recorded(self) -> CompressSettings:
        if self.mixed and Selection.parse(self.mixed.start).cost in SOURCES["adder_graph"] and not self.adder_graphs:
            raise ValueError(f"mixed.start: {self.mixed.start!r} needs estimators: [adder_graph]")
        return self


class FirmwareSettings(HlsOptions):
    """Conversion with hls4ml and emulation; the options of the project are those of the base class.

    Attributes:
        select: Rules that pick compressed models, of each tuned one.
        samples: Test samples to compare, at most.
        softmax: ``host`` leaves softmax off the chip; ``chip`` writes a second project with hls4ml's approximation and
            reports its agreement; ``exact`` makes one of tables, which Keras shares, part of the network.
        timeout: Seconds that compiling, and emulating, may take.
        memory: GiB that each of their processes may take.
    """

    select: tuple[Rule, ...] = Field(("knee",), min_length=1)
    samples: PositiveInt = 2000
    softmax: SoftmaxMode = "host"
    timeout: PositiveFloat = 3600.0
    memory: PositiveFloat = 16.0

    @property
    def options(self) -> HlsOptions:
        """What the projects are made for."""
        return HlsOptions.of(self)


class DatasetSettings(BaseModel):
    """Which dataset to load.

    Attributes:
        source: A key of :data:`kerasnac.datasets.DATASETS`; all other keys are arguments of that function.
    """

    model_config = ConfigDict(frozen=True, extra="allow")

    source: str

    @property
    def options(self) -> dict[str, Any]:
        """Arguments of the dataset function."""
        return dict(self.model_extra or {})


class RunSettings(Settings):
    """A whole run: what a YAML file holds.

    Attributes:
        name: Name of the run.
        description: What it is about, with sources.
        space: The search space.
        dataset: Where the samples come from.
        search: The global search.
        tune: The tuning of the training.
        compress: The compression.
        firmware: The conversion.
        seed: The one seed.
    """

    name: str
    description: str = ""
    space: SearchSpace
    dataset: DatasetSettings
    search: SearchSettings = SearchSettings()
    tune: TuneSettings = TuneSettings()
    compress: CompressSettings = CompressSettings()
    firmware: FirmwareSettings = FirmwareSettings()
    seed: int = 0

    @model_validator(mode="after")
    def _costs_are_recorded(self) -> RunSettings:
        for rule in self.firmware.select:
            if Selection.parse(rule).cost in SOURCES["adder_graph"] and not self.compress.adder_graphs:
                raise ValueError(f"firmware.select: {rule!r} needs compress.estimators: [adder_graph]")
        return self
