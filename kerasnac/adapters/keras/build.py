"""Keras and QKeras models of architectures: building, saving, loading, and their weights as arrays."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kerasnac.adapters.keras.custom import custom
from kerasnac.adapters.keras.runtime import qkeras, quiet_serialization, tensorflow
from kerasnac.adapters.keras.weight_quantizers import quantizer
from kerasnac.core.network.activations import ACTIVATIONS
from kerasnac.core.network.architecture import Architecture, Node
from kerasnac.core.network.arithmetic import Dtype, keras_dtype
from kerasnac.core.network.exactness import NOT_IN_FIRMWARE, QUANTIZED_ONLY, check_unscaled
from kerasnac.core.network.kinds import MATMUL, POOL, TABLES
from kerasnac.core.network.layers import LayerSpec, Unsupported
from kerasnac.core.network.precision import Precision
from kerasnac.core.network.weights import BATCH_NORM_EPSILON, BATCH_NORM_MOMENTUM, LAYER_NORM_EPSILON, Weights
from kerasnac.errors import ConversionError, RunError

Model = Any  # tf_keras has no type stubs

#: Name of the input layer; hls4ml reserves "input".
INPUT = "inputs"


def build(architecture: Architecture, *, dropout: float = 0.0, l1: float = 0.0, dtype: Dtype = "float32") -> Model:
    """Build a functional model, of Keras layers where an architecture is float and QKeras layers where it is quantized.

    Args:
        architecture: The network. Its layer names become the model's layer names.
        dropout: Rate of a dropout after every activation that is not linear; 0 adds no layers.
        l1: L1 penalty on the kernels.
        dtype: Of all tensors and weights. Training is in float32; see :func:`kerasnac.core.network.arithmetic.exact_arithmetic`
            for float64.

    Returns:
        A ``tf.keras.Model`` with new random weights, from (samples, *input_shape) to (samples, *output_shape).

    Raises:
        Infeasible: If the layers do not fit together.
        ConversionError: If a quantized architecture still has a norm or scaled scores; names the layer and the remedy.
    """
    keras = tensorflow().keras
    inputs = keras.Input(architecture.input_shape, name=INPUT, dtype=dtype)
    tensors = {-1: inputs}
    grids = {-1: architecture.input}  # ap_fixed that holds the output of every node, None for float
    for i, node in enumerate(architecture.nodes):
        layer, name = node.layer, node.name
        maker = (QUANTIZED if architecture.quantized else FLOAT)[layer.kind]
        if isinstance(maker, Unsupported):
            raise ConversionError(f"{name}: {maker.reason}")
        penalised = l1 and any(weight.prunable for weight in node.weights.values())
        options = {"kernel_regularizer": keras.regularizers.L1(l1)} if penalised else {}
        options["dtype"] = dtype
        sources = [tensors[source] for source in node.inputs]
        grid = grids[node.inputs[0]]
        with warnings.catch_warnings():
            # QKeras draws twice where the format of a kernel reaches beyond one.
            warnings.filterwarnings("ignore", message="The initializer .* is unseeded")
            x = maker(node, grid, name=name, **options)(sources if len(sources) > 1 else sources[0])
        grids[i] = layer.activation.fixed if layer.activation else grid
        if dropout and layer.kind == "activation" and layer["fn"] != "none":
            x = keras.layers.Dropout(dropout, name=f"dropout_after_{name}", dtype=dtype)(x)
        tensors[i] = x
    return keras.Model(inputs, x, name="kerasnac")


def save_keras(architecture: Architecture, weights: Weights, path: Path) -> None:
    """Write a network as one ``.keras`` file, for :func:`load_keras`; in float64 where its firmware equals that.

    Args:
        architecture: Float or quantized.
        weights: Arrays keyed ``layer/part``, in the shapes of the architecture.
        path: File to write, ending in ``.keras``.

    Raises:
        KeyError: If an array is missing.
    """
    model = build(architecture, dtype=keras_dtype(architecture, weights))
    set_weights(model, architecture, weights)
    for layer in model.layers:
        if isinstance(layer, qkeras().QActivation):
            layer.activation = str(layer.quantizer)  # QKeras reads an activation back from text alone
    with quiet_serialization():
        model.save(path)


def load_keras(path: Path | str) -> Model:
    """Read a ``.keras`` file with layers of QKeras and of kerasnac.

    Args:
        path: File of :func:`save_keras`.

    Returns:
        The ``tf.keras.Model``.

    Raises:
        RunError: If it cannot be read.
    """
    objects = vars(custom())
    try:
        return qkeras().utils.load_qmodel(str(path), custom_objects=dict(objects))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise RunError(f"{path} is no model that kerasnac saved: {error}") from error


def get_weights(model: Model, architecture: Architecture) -> dict[str, NDArray[np.float32]]:
    """Copy the weights of a model into arrays.

    Args:
        model: A model of :func:`build`.
        architecture: The architecture that it was built from, for the names.

    Returns:
        float32 arrays keyed ``layer/part`` (``dense_0/kernel``), in the shapes of
        :meth:`kerasnac.core.network.kinds.Kind.weights`.
    """
    weights = {}
    for node in architecture.nodes:
        if node.weights:
            for part, value in zip(node.weights, model.get_layer(node.name).get_weights(), strict=True):
                weights[f"{node.name}/{part}"] = value
    return weights


def set_weights(model: Model, architecture: Architecture, weights: Weights) -> None:
    """Load arrays into a model.

    Args:
        model: A model of :func:`build`.
        architecture: The architecture that it was built from, for the names.
        weights: Arrays keyed ``layer/part``, as from :func:`get_weights` of the float or quantized form of the network;
            others are ignored.

    Raises:
        KeyError: If an array is missing.
        ValueError: If an array has another shape.
    """
    for node in architecture.nodes:
        if node.weights:
            model.get_layer(node.name).set_weights([weights[f"{node.name}/{part}"] for part in node.weights])


def _quantizers(layer: LayerSpec) -> dict[str, Any]:
    """Return the arguments of a QKeras layer that quantize its kernel and bias."""
    return {"kernel_quantizer": quantizer(layer.weight), "bias_quantizer": quantizer(layer.bias)}


# Functions of one signature: they make the Keras layer for ``node``, whose first input has the format ``grid`` (None in a
# float network), with further ``options`` of the Keras constructor. The layer maps tensors (samples,
# *node.shapes[i]) to (samples, *node.output).


def _dense(node: Node, grid: Precision | None, **options: Any) -> Any:
    layer, units = node.layer, node.output[-1]
    if layer.weight is None:
        return tensorflow().keras.layers.Dense(units, **options)
    return qkeras().QDense(units, **_quantizers(layer), **options)


def _conv(node: Node, grid: Precision | None, **options: Any) -> Any:
    layer, rank = node.layer, len(node.output) - 1
    keras = {"kernel_size": layer["kernel"], "strides": layer["stride"], "padding": layer["padding"], **options}
    if layer.weight is None:
        layers = tensorflow().keras.layers
        return (layers.Conv1D if rank == 1 else layers.Conv2D)(node.output[-1], **keras)
    return (qkeras().QConv1D if rank == 1 else qkeras().QConv2D)(node.output[-1], **_quantizers(layer), **keras)


def _scale(node: Node, grid: Precision | None, **options: Any) -> Any:
    weight, bias = (None if part is None else str(part) for part in (node.layer.weight, node.layer.bias))
    return custom().Scale(weight, bias, **options)


def _tables(node: Node, grid: Precision | None, **options: Any) -> Any:
    weight = None if node.layer.weight is None else str(node.layer.weight)
    return custom().Tables(node.output[-1], str(TABLES.grid(node.layer)), weight, between=grid is None, **options)


def _activation(node: Node, grid: Precision | None, **options: Any) -> Any:
    layer = node.layer
    fn, out = ACTIVATIONS[layer["fn"]], layer.activation
    layers = tensorflow().keras.layers
    if out is None:
        return layers.LeakyReLU(fn.slope, **options) if fn.slope else layers.Activation(fn.keras, **options)
    if layer.signs:
        return custom().Sign(layer["fn"], str(out), **options)
    if fn.table:
        assert grid is not None
        return custom().TableActivation(layer["fn"], str(grid), str(out), **options)
    rounding = quantizer(out) if fn.signed else qkeras().quantized_relu(out.bits, out.integer)
    return qkeras().QActivation(rounding, **options)


def _lookup(node: Node, grid: Precision | None, **options: Any) -> Any:
    assert grid is not None
    return custom().Lookup(str(grid), str(node.layer.activation), **options)


def _quantizer_layer(node: Node, grid: Precision | None, **options: Any) -> Any:
    layer = node.layer
    return custom().Quantizer(
        layer["channel_bits"], layer["channel_integer"], str(layer.activation), layer["rounding"], **options
    )


def _softmax(node: Node, grid: Precision | None, **options: Any) -> Any:
    out = node.layer.activation
    if out is None:
        return tensorflow().keras.layers.Softmax(**options)
    assert grid is not None
    return custom().TableSoftmax(str(grid), str(out), **options)


def _mask(node: Node, grid: Precision | None, **options: Any) -> Any:
    return custom().Mask(**options)


def _masked_mean(node: Node, grid: Precision | None, **options: Any) -> Any:
    return custom().MaskedMean(None if node.layer.weight is None else str(node.layer.weight), **options)


def _masked_softmax(node: Node, grid: Precision | None, **options: Any) -> Any:
    out = node.layer.activation
    inputs, outputs = (None, None) if out is None else (str(grid), str(out))
    return custom().MaskedSoftmax(inputs, outputs, **options)


def _pool(node: Node, grid: Precision | None, **options: Any) -> Any:
    rank, size = len(node.shapes[0]) - 1, node.layer["size"]
    if node.layer.weight is not None:
        return custom().ExactMean(size, POOL.stride(node.layer), str(node.layer.weight), **options)
    kind = "Max" if node.layer["op"] == "max" else "Average"
    layers = tensorflow().keras.layers
    if size == 0:
        return getattr(layers, f"Global{kind}Pooling{rank}D")(**options)
    return getattr(layers, f"{kind}Pooling{rank}D")(size, POOL.stride(node.layer), **options)


def _window(node: Node, grid: Precision | None, **options: Any) -> Any:
    start = node.layer["start"]
    return tensorflow().keras.layers.Cropping1D((start, node.shapes[0][0] - start - node.output[0]), **options)


def _batch_norm(node: Node, grid: Precision | None, **options: Any) -> Any:
    constants = {"momentum": BATCH_NORM_MOMENTUM, "epsilon": BATCH_NORM_EPSILON}
    return tensorflow().keras.layers.BatchNormalization(**constants, **options)


def _layer_norm(node: Node, grid: Precision | None, **options: Any) -> Any:
    axes = range(1, len(node.output) + 1) if node.layer["axes"] == "all" else (-1,)
    return tensorflow().keras.layers.LayerNormalization(axis=list(axes), epsilon=LAYER_NORM_EPSILON, **options)


def _exact_layer_norm(node: Node, grid: Precision | None, **options: Any) -> Any:
    assert grid is not None
    layer = node.layer
    formats = {"inputs": grid, "gain": layer.weight, "offset": layer.bias, "outputs": layer.activation}
    texts = {name: None if value is None else str(value) for name, value in formats.items()}
    return custom().ExactLayerNorm(layer["axes"], spread=layer["spread"], root=layer["root"], **texts, **options)


def _flatten(node: Node, grid: Precision | None, **options: Any) -> Any:
    return tensorflow().keras.layers.Flatten(**options)


def _reshape(node: Node, grid: Precision | None, **options: Any) -> Any:
    return tensorflow().keras.layers.Reshape(node.output, **options)


def _matmul(node: Node, grid: Precision | None, **options: Any) -> Any:
    if grid is not None:
        check_unscaled(node)
    layer = node.layer
    return custom().MatMul(bool(layer["transpose"]), MATMUL.heads(layer), MATMUL.scaled(layer), **options)


def _concatenate(node: Node, grid: Precision | None, **options: Any) -> Any:
    return tensorflow().keras.layers.Concatenate(**options)


def _add(node: Node, grid: Precision | None, **options: Any) -> Any:
    return tensorflow().keras.layers.Add(**options)


#: Layers that look at their formats: QKeras where they have some.
_FORMATTED = {
    "dense": _dense,
    "conv1d": _conv,
    "conv2d": _conv,
    "scale": _scale,
    "tables": _tables,
    "activation": _activation,
    "softmax": _softmax,
    "masked_mean": _masked_mean,
    "masked_softmax": _masked_softmax,
}

#: Layers that pass on numbers on a grid as they are, or compute with them exactly.
_PLAIN = {
    "matmul": _matmul,
    "mask": _mask,
    "add": _add,
    "concatenate": _concatenate,
    "flatten": _flatten,
    "reshape": _reshape,
    "pool": _pool,
    "window": _window,
}

#: For every kind in a float network: the function that makes the Keras layer.
FLOAT: Mapping[str, Callable[..., Any] | Unsupported] = {
    **_FORMATTED,
    **_PLAIN,
    "batch_norm": _batch_norm,
    "layer_norm": _layer_norm,
    **QUANTIZED_ONLY,
}

#: The same in a quantized network.
QUANTIZED: Mapping[str, Callable[..., Any] | Unsupported] = {
    **_FORMATTED,
    **_PLAIN,
    "batch_norm": NOT_IN_FIRMWARE["batch_norm"],
    "layer_norm": _exact_layer_norm,
    "lookup": _lookup,
    "quantizer": _quantizer_layer,
}
