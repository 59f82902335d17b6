"""Keras models of the user's own as starting points of a compression."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from kerasnac.adapters.keras.foreign.model import opened, read_model
from kerasnac.adapters.keras.predict import Scores, predict
from kerasnac.core.data.dataset import Development
from kerasnac.core.network.trained import Trained
from kerasnac.errors import ConfigError

#: Validation samples on which the network that was read is compared with the model.
COMPARED = 1000


def float_model(model: Trained | Any, data: Development) -> Trained:
    """Return a trained network as it is, and a Keras model as a float network with its metrics on validation.

    Of a quantized model the weights are those that its layers compute with; its formats are left out, and the compression
    chooses new ones.

    Args:
        model: A trained network, a Keras model, or the path of its file.
        data: The development splits.

    Raises:
        ConfigError: If it is no Keras model, or does not fit the data.
        ConversionError: If a layer cannot be read; names the layer and the remedy.
    """
    if isinstance(model, Trained):
        return model
    given = read_model(opened(model), input_grid=data.input_grid)
    found = given.trained()
    architecture = found.architecture.unquantized if found.architecture.quantized else found.architecture
    expected = (data.input_shape, (data.task.outputs,))
    if (architecture.input_shape, architecture.output_shape) != expected:
        raise ConfigError(
            f"{found.name} maps samples of shape {architecture.input_shape} to {architecture.output_shape}; {data.name} has "
            f"{expected[0]} and needs {expected[1]}"
        )
    given.check(data.validation.x[:COMPARED])
    scores = Scores.of(predict(architecture, found.weights, data.validation.x), data.task, data.validation)
    return replace(found, architecture=architecture, metrics=scores.recorded(data.task))
