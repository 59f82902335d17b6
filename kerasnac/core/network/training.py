"""Hyperparameters of trainings."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields, replace
from typing import Annotated, Any, Literal, Self, get_args

from pydantic import Field, PositiveInt

from kerasnac.core.checks import valid_fields
from kerasnac.core.store.keys import decisive
from kerasnac.errors import ConfigError

Optimizer = Literal["adam", "sgd", "rmsprop", "nadam"]
Schedule = Literal["constant", "cosine"]
OPTIMIZERS, SCHEDULES = get_args(Optimizer), get_args(Schedule)

#: A number that is not negative, and one that is below 1 besides.
Weight = Annotated[float, Field(ge=0)]
Rate = Annotated[float, Field(ge=0, lt=1)]

#: Hyperparameters that decide a training: all.
KEY_FIELDS = (
    "epochs",
    "learning_rate",
    "batch_size",
    "optimizer",
    "schedule",
    "weight_decay",
    "l1",
    "dropout",
    "label_smoothing",
    "patience",
    "data_fraction",
)


@dataclass(frozen=True)
class Training:
    """Hyperparameters of one training.

    Attributes:
        epochs: Passes over the training data.
        learning_rate: Initial learning rate.
        batch_size: Samples per step.
        optimizer: One of ``adam``, ``sgd`` (momentum 0.9), ``rmsprop``, ``nadam``.
        schedule: ``constant``, or ``cosine`` decay to zero over all epochs.
        weight_decay: Decoupled weight decay, relative to the learning rate.
        l1: L1 penalty on the kernels.
        dropout: Dropout rate after every hidden activation.
        label_smoothing: Classification: fraction of every label that is spread over all classes while training
            (Szegedy et al., arXiv:1512.00567). Losses on validation are those of the plain labels.
        patience: Stop when validation has not improved for this many epochs, and keep the best epoch's
            weights; None trains all epochs and keeps the last weights.
        data_fraction: Fraction of the training samples to use.

    Raises:
        ConfigError: If a value is of another type or out of range.
    """

    epochs: PositiveInt = 5
    learning_rate: Annotated[float, Field(gt=0, le=1e3)] = 1e-3
    batch_size: PositiveInt = 256
    optimizer: Optimizer = "adam"
    schedule: Schedule = "constant"
    weight_decay: Weight = 0.0
    l1: Weight = 0.0
    dropout: Rate = 0.0
    label_smoothing: Rate = 0.0
    patience: PositiveInt | None = None
    data_fraction: Annotated[float, Field(gt=0, le=1)] = 1.0

    def __post_init__(self) -> None:
        for name, value in valid_fields(self).items():
            object.__setattr__(self, name, value)

    def with_(self, **changes: Any) -> Self:
        """Return a copy with some hyperparameters changed.

        Raises:
            ConfigError: If a name is not a hyperparameter, or a value is wrong.
        """
        unknown = set(changes) - {f.name for f in fields(self)}
        if unknown:
            raise ConfigError(f"Training: unknown {sorted(unknown)[0]!r}; one of {', '.join(f.name for f in fields(self))}")
        return replace(self, **changes)

    def samples(self, available: int) -> int:
        """Return the number of training samples that are used."""
        return max(1, round(self.data_fraction * available))

    def steps(self, available: int) -> int:
        """Return the number of batches of an epoch; the last one may have fewer samples."""
        return -(-self.samples(available) // self.batch_size)

    def to_dict(self) -> dict[str, Any]:
        """Return the hyperparameters by name, JSON-ready."""
        return asdict(self)

    @property
    def identity(self) -> dict[str, Any]:
        """The hyperparameters that differ from their defaults, for :func:`kerasnac.core.store.keys.content_key`."""
        return decisive(self, KEY_FIELDS)
