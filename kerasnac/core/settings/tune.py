"""Settings of the tuning."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    NonNegativeInt,
    PositiveInt,
)

from kerasnac.core.network.training import Optimizer, Schedule
from kerasnac.core.settings.base import PartName, Rule, Settings
from kerasnac.core.space.blocks.base import Values
from kerasnac.core.space.references import Reference


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
        callbacks: Callbacks of Keras for every training: ``tensorboard``, or functions of your own, that get the folder
            ``logs/<model>/<training>`` of the run. Trainings with callbacks are those of ``fit``.
    """

    select: tuple[Rule, ...] = Field(("knee", "best"), min_length=1)
    baselines: tuple[Reference, ...] = ()
    trials: PositiveInt = 12
    epochs: PositiveInt = 20
    patience: PositiveInt | None = 5
    folds: Annotated[int, Field(gt=0, le=1000)] = 1
    repeats: Annotated[NonNegativeInt, AfterValidator(_enough_repeats)] = 0
    learning_rate: Annotated[LogRange, AfterValidator(_rates)] | None = (3e-4, 1e-2)
    batch_size: Values[PositiveInt] | None = (64, 128, 256, 512)
    schedule: Values[Schedule] | None = ("constant", "cosine")
    weight_decay: LogRange | None = (1e-6, 1e-2)
    dropout: Annotated[Range, AfterValidator(_fractions)] | None = (0.0, 0.2)
    optimizer: Values[Optimizer] | None = None
    l1: LogRange | None = None
    label_smoothing: Annotated[Range, AfterValidator(_fractions)] | None = None
    callbacks: tuple[PartName, ...] = ()

    @property
    def fixed(self) -> dict[str, Any]:
        """Hyperparameters with a single value."""
        return {name: values[0] for name in TUNED if (values := getattr(self, name)) and len(set(values)) == 1}

    @property
    def searched(self) -> dict[str, tuple[Any, ...]]:
        """Hyperparameters that are tuned: the ends of a range, or the values to choose from."""
        return {name: values for name in TUNED if (values := getattr(self, name)) and len(set(values)) > 1}
