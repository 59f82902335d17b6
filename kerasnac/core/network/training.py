"""How a network is trained."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields, replace
from typing import Any, Literal, Self, get_args

from kerasnac.core.store.keys import decisive
from kerasnac.errors import ConfigError

Optimizer = Literal["adam", "sgd", "rmsprop", "nadam"]
Schedule = Literal["constant", "cosine"]
OPTIMIZERS, SCHEDULES = get_args(Optimizer), get_args(Schedule)

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
    """

    epochs: int = 5
    learning_rate: float = 1e-3
    batch_size: int = 256
    optimizer: Optimizer = "adam"
    schedule: Schedule = "constant"
    weight_decay: float = 0.0
    l1: float = 0.0
    dropout: float = 0.0
    label_smoothing: float = 0.0
    patience: int | None = None
    data_fraction: float = 1.0

    def __post_init__(self) -> None:
        checks = {
            "epochs": self.epochs >= 1,
            "learning_rate": self.learning_rate > 0,
            "batch_size": self.batch_size >= 1,
            "optimizer": self.optimizer in OPTIMIZERS,
            "schedule": self.schedule in SCHEDULES,
            "weight_decay": self.weight_decay >= 0,
            "l1": self.l1 >= 0,
            "dropout": 0 <= self.dropout < 1,
            "label_smoothing": 0 <= self.label_smoothing < 1,
            "patience": self.patience is None or self.patience >= 1,
            "data_fraction": 0 < self.data_fraction <= 1,
        }
        for name, valid in checks.items():
            if not valid:
                raise ConfigError(f"training: {name} = {getattr(self, name)!r} is out of range")

    def with_(self, **changes: Any) -> Self:
        """A copy with some hyperparameters changed.

        Raises:
            ConfigError: If a name is not a hyperparameter.
        """
        unknown = set(changes) - {f.name for f in fields(self)}
        if unknown:
            raise ConfigError(f"training: unknown {sorted(unknown)[0]!r}; one of {', '.join(f.name for f in fields(self))}")
        return replace(self, **changes)

    def to_dict(self) -> dict[str, Any]:
        """A JSON-ready dictionary."""
        return asdict(self)

    @property
    def identity(self) -> dict[str, Any]:
        """What decides the training, for :func:`kerasnac.core.store.keys.content_key`."""
        return decisive(self, KEY_FIELDS)
