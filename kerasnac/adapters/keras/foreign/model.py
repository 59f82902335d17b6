"""Models of others, read into networks of ours and compared with them."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kerasnac.adapters.keras.foreign.files import load_model_file
from kerasnac.adapters.keras.foreign.quantizers import declared_format
from kerasnac.adapters.keras.foreign.reader import Reader, Tensor, fitted_grid, renamed
from kerasnac.adapters.keras.foreign.rules import quantizes, rule_of
from kerasnac.adapters.keras.predict import model_outputs, predict
from kerasnac.adapters.keras.runtime import qkeras, qkeras_objects, quiet_serialization, tensorflow, undisturbed
from kerasnac.core.network.architecture import Architecture
from kerasnac.core.network.arithmetic import keras_dtype
from kerasnac.core.network.exactness import output_formats
from kerasnac.core.network.kinds import Shape
from kerasnac.core.network.precision import Precision
from kerasnac.core.network.trained import Trained
from kerasnac.core.network.training import Training
from kerasnac.core.network.weights import Weights
from kerasnac.errors import ConfigError, ConversionError, DataError, Infeasible

#: Width of an input format that is fitted to samples.
INPUT_BITS = 12

#: Activations that are left to the host where they are the last.
HOST = ("softmax", "sigmoid")

#: Largest difference of a float network from its Keras model, relative to the largest output.
FLOAT_TOLERANCE = 1e-4


@dataclass(frozen=True)
class ForeignModel:
    """A model of somebody else, as a network of ours.

    Attributes:
        model: The Keras model, without an activation at the end that is left to the host.
        architecture: Float or quantized.
        weights: Its weights as the model computes with them, keyed ``layer/part``.
        layers: Name of the Keras layer for each of ours.
        host: The activation that is left to the host: softmax, sigmoid, or nothing.
        rounded: Weights that the model has in floating point and the network does not, ``<layer> <part>``.
    """

    model: Any
    architecture: Architecture
    weights: Weights
    layers: Mapping[str, str]
    host: str
    rounded: tuple[str, ...] = ()

    def trained(self, name: str | None = None) -> Trained:
        """Return it as a trained network.

        Args:
            name: Its name; by default that of the model.
        """
        own = re.sub(r"[^A-Za-z0-9._-]", "_", self.model.name).lstrip("._-")
        return Trained(name or own or "model", self.architecture, self.weights, Training(), {}, 0)

    @cached_property
    def exact(self) -> Any:
        """The Keras model in the arithmetic in which it equals its firmware: itself, or a copy of it in float64."""
        if keras_dtype(self.architecture, self.weights) == "float32":
            return self.model
        return _in_float64(self.model)

    def outputs(self, x: NDArray[Any]) -> NDArray[Any]:
        """Compute the outputs of the Keras model itself, in the arithmetic in which it equals its firmware.

        Args:
            x: Samples on the input grid, shape (samples, *input_shape).

        Returns:
            Shape (samples, *output_shape), float32 or float64.
        """
        return model_outputs(self.exact, x)[0]

    def on_grid(self, samples: NDArray[Any]) -> NDArray[np.float32]:
        """Return samples in the shape of the input, rounded to its format if it has one."""
        x, shape, grid = np.asarray(samples), self.architecture.input_shape, self.architecture.input
        if x.ndim < 1 or not len(x) or x.dtype.kind not in "biuf" or x[0].size != math.prod(shape):
            raise DataError(f"samples of shape {x.shape} of {x.dtype} do not fit {self.model.name}, whose input is {shape}")
        x = x.reshape(len(x), *shape)
        return (x if grid is None else grid.quantize(x)).astype(np.float32)

    def check(self, x: NDArray[Any]) -> None:
        """Compare the network with its model on some samples.

        Args:
            x: Samples on the input grid, shape (samples, *input_shape).

        Raises:
            ConversionError: If they differ: in any output of a quantized network, or by more than rounding in a float one.
                Where weights were rounded, they may differ.
        """
        if not self.rounded:
            self.compare(x, self.outputs(x), predict(self.architecture, self.weights, x))

    def compare(self, x: NDArray[Any], expected: NDArray[Any], found: NDArray[Any]) -> None:
        """Compare outputs of the network with those of its model, as :meth:`check` does where no weights were rounded.

        Args:
            x: The samples.
            expected: Outputs of the model.
            found: Outputs of the network, of the same shape.

        Raises:
            ConversionError: As for :meth:`check`.
        """
        difference = np.abs(expected - found)
        tolerance = 0.0 if self.architecture.quantized else FLOAT_TOLERANCE * float(np.abs(expected).max())
        if not difference.size or (difference <= tolerance).all():
            return
        raise ConversionError(
            f"{self.model.name}: the network that was read differs from the model in {int((difference > tolerance).sum())} of "
            f"{difference.size} outputs, by up to {np.nanmax(difference):g}; the first layer is {self._first_difference(x)}"
        )

    def _first_difference(self, x: NDArray[Any]) -> str:
        """Return the name of the first Keras layer whose outputs are not those of the network."""
        known = {layer.name: layer.output for layer in self.exact.layers if layer.name in set(self.layers.values())}
        theirs = model_outputs(tensorflow().keras.Model(self.exact.inputs, list(known.values())), x[:100])
        for owner, array in zip(known, theirs, strict=True):
            last = max(i for i, name in enumerate(self.layers.values()) if name == owner)
            part = Architecture(self.architecture.input_shape, self.architecture.layers[: last + 1], self.architecture.input)
            ours = predict(part, self.weights, x[:100], dtype=keras_dtype(self.architecture, self.weights))
            if not np.allclose(array.ravel(), ours.ravel(), rtol=0, atol=FLOAT_TOLERANCE):
                return str(owner)
        return "not to be told from its outputs"


def _in_float64(model: Any) -> Any:
    """Return a copy of a model whose layers compute in float64.

    Raises:
        ConversionError: If a layer cannot.
    """

    def wider(layer: Any) -> Any:
        copy = layer.__class__.from_config(layer.get_config() | {"dtype": "float64"})
        if hasattr(layer, "batchnorm"):  # a folded layer makes it in Keras' floatx
            copy.batchnorm = wider(layer.batchnorm)
        return copy

    try:
        with tensorflow().keras.utils.custom_object_scope(qkeras_objects()):
            copy = tensorflow().keras.models.clone_model(model, clone_function=wider)
    except (TypeError, ValueError) as error:
        raise ConversionError(
            f"{model.name}: its sums need float64, in which Keras cannot build it: {str(error).splitlines()[0]}"
        ) from error
    copy.set_weights(model.get_weights())
    return copy


@undisturbed()
def from_keras(
    model: Any,
    samples: NDArray[Any] | None = None,
    *,
    input_grid: Precision | str | None = None,
    float_bits: int | None = None,
    name: str | None = None,
) -> Trained:
    """Read a Keras or QKeras model, for everything that takes a trained network.

    A float model can be compressed, stand as a baseline, or seed a search; a quantized one can become firmware, too.

    Args:
        model: A legacy ``tf.keras.Model``, sequential or functional, with one input and one output; or its file:
            ``.keras``, ``.h5``, the folder of a SavedModel, or ``.json`` beside weights in ``.h5``.
        samples: Inputs, shape (samples, ...). The format of a quantized model's input is fitted to them where nothing else
            gives it, and the network is compared with the model on them.
        input_grid: Format of the input of a quantized model; see :func:`read_model`.
        float_bits: Width to round weights to that a quantized model has in floating point; see :func:`read_model`.
        name: Name of the network; by default that of the model.

    Raises:
        ConfigError: If it is no such model, or the format of the input is neither given nor known.
        ConversionError: If a layer cannot be read, or its numbers are on no grid; names the layer and the remedy.
        RunError: If a file cannot be read.
    """
    found = read_model(opened(model), samples=samples, input_grid=input_grid, float_bits=float_bits)
    if samples is not None:
        found.check(found.on_grid(samples))
    return found.trained(name)


def as_trained(model: Trained | Any, samples: NDArray[Any] | None = None) -> Trained:
    """Return a trained network as it is, and a Keras model, or its file, as :func:`from_keras` reads it."""
    return model if isinstance(model, Trained) else from_keras(model, samples)


def opened(model: Any) -> Any:
    """Return a model, read from its file if it is the path of one."""
    return load_model_file(model) if isinstance(model, str | Path) else model


def read_model(
    model: Any,
    *,
    samples: NDArray[Any] | None = None,
    input_grid: Precision | str | None = None,
    float_bits: int | None = None,
) -> ForeignModel:
    """Read a legacy Keras or QKeras model, sequential or functional.

    A model with a quantizer is read as a quantized network: its weights are those that its layers compute with, its
    activations keep their formats, and every other element-wise function before a quantizer becomes a table.

    Args:
        model: A ``tf.keras.Model`` with one input and one output.
        samples: Inputs, shape (samples, ...): the format of the input is fitted to them where nothing else gives it.
        input_grid: Format of the input of a quantized model. By default that of the quantizer that the input goes into, or
            one for the samples: the narrowest that holds them as they are, or :data:`INPUT_BITS` bits.
        float_bits: Width to round weights of a quantized model to that it has in floating point, as biases without a
            quantizer and the scales of batch norms; the network then differs from the model a little. By default they are
            refused.

    Raises:
        ConfigError: If it is no such model, or the format of the input is neither given nor known.
        ConversionError: If a layer cannot be read, or its numbers are on no grid; names the layer and the remedy.
    """
    _check_model(model)
    plain, host = _without_host(model)
    shape = _input_shape(plain)
    quantized = any(quantizes(call.layer) for call in _calls(plain, nested=True))
    grid = _input_grid(plain, samples, input_grid) if quantized else None
    reader = Reader(shape, grid, float_bits)
    try:
        (last,) = _read(reader, plain, [Tensor(-1, shape, owner="the input")])
        if last.functions:
            raise ConversionError(f"{last.owner}: its outputs are floating-point numbers, on no grid; quantize them")
        architecture = reader.architecture
        if not reader.layers or last.index != len(reader.layers) - 1:
            raise ConversionError(f"{plain.name}: its last layer is not its output, or it has none that computes")
        _check_finite(reader)
        if quantized:
            renamed(lambda: output_formats(architecture, reader.weights), reader.names)
    except Infeasible as reason:
        raise ConversionError(f"{plain.name}: its layers do not fit: {reason}") from None
    return ForeignModel(plain, architecture, dict(reader.weights), reader.names, host, tuple(reader.rounded))


def _read(reader: Reader, model: Any, inputs: list[Tensor]) -> list[Tensor]:
    """Append the layers of a model, and of the models in it; return the tensors of its outputs."""
    tensors = {str(id(tensor)): given for tensor, given in zip(model.inputs, inputs, strict=True)}
    for call in _calls(model):
        if call.is_input:
            continue
        sources = [tensors[name] for name in call.flat_input_ids]
        if _is_model(call.layer):
            found = _read(reader, call.layer, sources)
        else:
            found = [rule_of(call.layer)(reader, call.layer, sources)]
        tensors |= dict(zip(call.flat_output_ids, found, strict=True))
    return [tensors[str(id(tensor))] for tensor in model.outputs]


def _calls(model: Any, *, nested: bool = False) -> Iterator[Any]:
    """Yield Keras' nodes, the calls of layers, in an order in which each reads only earlier ones."""
    for depth in sorted(model._nodes_by_depth, reverse=True):
        for call in model._nodes_by_depth[depth]:
            if nested and _is_model(call.layer):
                yield from _calls(call.layer, nested=True)
            else:
                yield call


def _is_model(layer: Any) -> bool:
    return hasattr(layer, "_nodes_by_depth")


def _check_model(model: Any) -> None:
    keras = tensorflow().keras
    qkeras()  # its patches
    if not isinstance(model, keras.Model):
        package = type(model).__module__.split(".")[0]
        if package in ("keras", "keras_core"):
            raise ConfigError(
                "the model is one of Keras 3, which QKeras and hls4ml do not read: set TF_USE_LEGACY_KERAS=1 before TensorFlow "
                "is imported, build it again with tf.keras, and load its weights from an .h5 file"
            )
        raise ConfigError(f"a {type(model).__name__} of {package} is no Keras model; give a tf.keras.Model, or its file")
    if not getattr(model, "_nodes_by_depth", None):
        unbuilt = isinstance(model, keras.Sequential)
        raise ConfigError(
            f"{model.name}: it has no input shape yet; call model.build(input_shape)"
            if unbuilt
            else f"{model.name}: the layers of a subclassed model are known to its code alone; build it with the functional API"
        )
    for what, tensors in (("inputs", model.inputs), ("outputs", model.outputs)):
        if len(tensors) != 1:
            raise ConfigError(
                f"{model.name}: it has {len(tensors)} {what}, and only one can be read; give tf.keras.Model(input, output) of "
                "a part of it"
            )


def _input_shape(model: Any) -> Shape:
    shape = tuple(model.inputs[0].shape[1:])
    if not shape or None in shape:
        raise ConfigError(f"{model.name}: its input has the shape {shape}; firmware needs fixed sizes: rebuild it with them")
    return tuple(int(axis) for axis in shape)


def _without_host(model: Any) -> tuple[Any, str]:
    """Return a model without the softmax or sigmoid in floating point that it ends with, and the name of that."""
    keras = tensorflow().keras
    *_, last = _calls(model)
    layer = last.layer
    function = getattr(layer, "quantizer", getattr(layer, "activation", None))
    name = "softmax" if isinstance(layer, keras.layers.Softmax) else str(getattr(function, "__name__", ""))
    if name not in HOST or len(last.flat_input_ids) != 1:
        return model, ""
    (before,) = last.keras_inputs
    if not layer.weights:
        return keras.Model(model.inputs, before, name=model.name), name
    with quiet_serialization():
        linear = type(layer).from_config({**layer.get_config(), "activation": "linear"})
    plain = keras.Model(model.inputs, linear(before), name=model.name)
    linear.set_weights(layer.get_weights())
    return plain, name


def _input_grid(model: Any, samples: NDArray[Any] | None, given: Precision | str | None) -> Precision:
    """Return the format of the input of a quantized model."""
    if given is not None:
        return given if isinstance(given, Precision) else Precision.parse(given)
    name = str(id(model.inputs[0]))
    first = [call.layer for call in _calls(model) if not call.is_input and name in call.flat_input_ids]
    formats = {declared_format(getattr(layer, "quantizer", None)) for layer in first}
    if len(formats) == 1 and (found := formats.pop()) is not None:
        return found[1]
    if samples is None:
        raise ConfigError(
            f"{model.name}: its input has no format; give input_grid (--input-grid), as 'ap_fixed<12,4>', or samples"
        )
    values = np.asarray(samples)
    if values.dtype.kind not in "biuf" or not values.size or not np.isfinite(values.astype(np.float32)).all():
        raise ConfigError(f"{model.name}: the samples that its input's format is fitted to must be finite numbers")
    return fitted_grid(values.astype(np.float32), INPUT_BITS)


def _check_finite(reader: Reader) -> None:
    for key, array in reader.weights.items():
        if not np.isfinite(array).all():
            owner = reader.names[key.split("/")[0]]
            raise ConversionError(
                f"{owner}: its {key.split('/')[1]} holds NaN or infinity; train again, with a smaller learning rate"
            )
