"""Optimisers and learning rates of trainings."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kerasnac.adapters.keras.runtime import tensorflow
from kerasnac.core.network.training import Training


def learning_rate(training: Training, steps: int) -> Any:
    """Return the learning rate of a training for a Keras optimiser: a number, or a schedule of so many steps."""
    if training.schedule == "constant":
        return training.learning_rate
    return tensorflow().keras.optimizers.schedules.CosineDecay(training.learning_rate, steps)


def learning_rates(training: Training, steps: int) -> NDArray[np.float32]:
    """Return the learning rate of every step of a training.

    Args:
        training: Hyperparameters.
        steps: Length of the training, in batches.

    Returns:
        float32, shape (steps,).
    """
    rate = learning_rate(training, steps)
    return np.broadcast_to(np.float32(rate(tensorflow().range(steps)) if callable(rate) else rate), (steps,))


def make_optimizer(name: str, rate: Any, weight_decay: Any) -> Any:
    """Return a Keras optimiser.

    Args:
        name: One of :data:`kerasnac.core.network.training.OPTIMIZERS`.
        rate: Learning rate, a number, variable or schedule.
        weight_decay: Decoupled weight decay, a number or variable; None for none.
    """
    optimizers = tensorflow().keras.optimizers
    makers = {
        "adam": optimizers.Adam,
        "nadam": _nadam(),
        "rmsprop": optimizers.RMSprop,
        "sgd": lambda *args, **options: optimizers.SGD(*args, momentum=0.9, **options),
    }
    return makers[name](rate, weight_decay=weight_decay)


@cache
def _nadam() -> Any:
    """Return Nadam with the momentum that Dozat (2016) gives it.

    Keras multiplies the product of its schedule once for every variable, where it should once for every step; and it leaves
    a step out by a count of its traces.
    """
    tf = tensorflow()

    class Nadam(tf.keras.optimizers.Nadam):  # type: ignore[misc, name-defined]
        def update_step(self, gradient: Any, variable: Any) -> None:
            if self._index_dict[self._var_key(variable)] == 0:
                self._product_before = tf.identity(self._u_product)
            else:
                self._u_product.assign(self._product_before)
            self._u_product_counter = 0
            super().update_step(gradient, variable)

    return Nadam
