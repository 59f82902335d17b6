"""Losses that trainings minimise, by name; the Keras adapter computes them."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from kerasnac.core.plugins import Kind, Portable, function_name
from kerasnac.errors import ConfigError


@dataclass(frozen=True)
class Loss:
    """A loss of single samples.

    Attributes:
        name: Name of a function of ``tf.keras.losses``, or of a module or file of one's own: ``module:function``.
        labels: ``classes``: one-hot labels, which may be smoothed; ``values``: regressed values; ``any``.
        logits: True for a function of probabilities, which is told that it gets logits.
        options: Further arguments of the function, as sorted (name, value) pairs.
        function: A function of one's own, of labels and outputs, that returns one value per sample; labels are indices of
            classes, int32 of shape (samples,), or values, float32 of shape (samples, values). None for one of Keras.

    Raises:
        ConfigError: If the function has no name by which worker processes find it.
    """

    name: str
    labels: Literal["classes", "values", "any"] = "any"
    logits: bool = False
    options: tuple[tuple[str, float], ...] = ()
    function: Callable[[Any, Any], Any] | None = None

    def __post_init__(self) -> None:
        if self.function is not None:
            object.__setattr__(self, "name", function_name(self.function, "loss"))

    def __reduce__(self) -> tuple[Any, ...]:
        return Loss, (self.name, self.labels, self.logits, self.options, Portable(self.function))

    @property
    def identity(self) -> dict[str, Any]:
        """Name and options, for :func:`kerasnac.core.store.keys.content_key`."""
        return {"name": self.name, **dict(self.options)}


_CROSSENTROPY = Loss("categorical_crossentropy", "classes", logits=True)

#: Losses by name.
LOSSES: Mapping[str, Loss] = {
    "categorical_crossentropy": _CROSSENTROPY,
    "sparse_categorical_crossentropy": _CROSSENTROPY,  # Labels are indices anyway.
    **{
        name: Loss(name, labels, logits=True)  # type: ignore[arg-type]
        for name, labels in {
            "categorical_focal_crossentropy": "classes",
            "binary_crossentropy": "any",
            "binary_focal_crossentropy": "any",
        }.items()
    },
    "categorical_hinge": Loss("categorical_hinge", "classes"),
    **{
        name: Loss(name, "values")
        for name in (
            "mean_squared_error",
            "mean_absolute_error",
            "mean_absolute_percentage_error",
            "mean_squared_logarithmic_error",
            "huber",
            "log_cosh",
        )
    },
}

#: Losses of all origins.
LOSS: Kind[Callable[..., Any]] = Kind(
    "loss",
    "kerasnac.losses",
    LOSSES,
    "a function of labels and outputs",
    lambda part: callable(part) and not inspect.isclass(part),
)


def loss(given: object) -> Loss:
    """Return a loss.

    Args:
        given: A key of :data:`LOSSES`; or a name of one's own, as :mod:`kerasnac.core.plugins` says; or such a ``name`` with
            arguments of the function, as in ``{name: huber, delta: 0.5}``; or a function, or the loss itself.

    Raises:
        ConfigError: If there is none, saying which there are.
        PluginError: The same, or if one of others cannot be imported.
    """
    if isinstance(given, Loss):
        return given
    if callable(given):
        return Loss("", function=given)
    options: dict[str, float] = {}
    name = given
    if isinstance(given, Mapping):
        options = {key: value for key, value in given.items() if key != "name"}
        name = given.get("name")
        for key, value in options.items():
            if isinstance(value, bool) or not isinstance(value, int | float) or key == "from_logits":
                raise ConfigError(f"loss {name}: {key} must be a number, and no from_logits")
    if not isinstance(name, str):
        raise ConfigError(f"there is no loss {name!r}: one of {', '.join(LOSSES)}, or package.module:function of your own")
    function = LOSS.foreign(name)
    found = LOSSES[name] if function is None else Loss(name, function=function)
    arguments = tuple(sorted(options.items()))
    return Loss(found.name, found.labels, found.logits, arguments, found.function) if arguments else found
