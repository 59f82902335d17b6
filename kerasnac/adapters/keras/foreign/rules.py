"""Layers of Keras and QKeras, one rule per class."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kerasnac.adapters.keras.foreign.quantizers import exact_format, is_quantizer, power_of_two
from kerasnac.adapters.keras.foreign.reader import Reader, Tensor, Values, pointwise
from kerasnac.adapters.keras.runtime import tensorflow
from kerasnac.core.network.exactness import averaged
from kerasnac.core.network.kinds import zeros_around
from kerasnac.core.network.layers import LayerSpec, Unsupported
from kerasnac.core.network.means import needs_reciprocal, reciprocal, reciprocal_format
from kerasnac.core.network.weights import LAYER_NORM_EPSILON
from kerasnac.errors import ConversionError

# Functions of one signature: they append what a Keras ``layer`` that reads ``inputs`` computes.


def _dense(reader: Reader, layer: Any, inputs: Sequence[Tensor]) -> Tensor:
    (x,) = inputs
    spec, _ = pointwise(x.shape, np.zeros((x.shape[-1], layer.units)))
    rank = len(x.shape) - 1
    kernel, grid = _weights(reader, layer, "kernel")
    out = reader.kernel(layer.name, spec, x, (kernel.reshape(*[1] * rank, *kernel.shape), grid), _bias(reader, layer))
    return reader.activated(layer.name, out, layer.activation)


def _conv(reader: Reader, layer: Any, inputs: Sequence[Tensor]) -> Tensor:
    kernel, grid = _weights(reader, layer, "kernel")
    out = _convolved(reader, layer, inputs[0], (_block_diagonal(kernel, layer.groups), grid), _bias(reader, layer))
    return reader.activated(layer.name, out, layer.activation)


def _depthwise(reader: Reader, layer: Any, inputs: Sequence[Tensor]) -> Tensor:
    kernel, grid = _weights(reader, layer, "depthwise_kernel")
    out = _convolved(reader, layer, inputs[0], (_by_channel(kernel), grid), _bias(reader, layer))
    return reader.activated(layer.name, out, layer.activation)


def _separable(reader: Reader, layer: Any, inputs: Sequence[Tensor]) -> Tensor:
    kernel, grid = _weights(reader, layer, "depthwise_kernel")
    between = _convolved(reader, layer, inputs[0], (_by_channel(kernel), grid), None)
    points, grid = _weights(reader, layer, "pointwise_kernel")
    spec, points = pointwise(between.shape, points.reshape(points.shape[-2:]))
    out = reader.kernel(layer.name, spec, between, (points, grid), _bias(reader, layer))
    return reader.activated(layer.name, out, layer.activation)


def _folded(reader: Reader, layer: Any, inputs: Sequence[Tensor]) -> Tensor:
    name = "depthwise_kernel" if hasattr(layer, "depthwise_kernel") else "kernel"
    folded, bias = layer.get_folded_weights()
    kernel, grid = _weights(reader, layer, name, folded)
    kernel = _by_channel(kernel) if name == "depthwise_kernel" else kernel
    out = _convolved(reader, layer, inputs[0], (kernel, grid), _weights(reader, layer, "bias", bias))
    return reader.activated(layer.name, out, layer.activation)


def _batch_norm(reader: Reader, layer: Any, inputs: Sequence[Tensor]) -> Tensor:
    (x,) = inputs
    axis = layer.axis[0] if isinstance(layer.axis, Sequence) or hasattr(layer.axis, "__getitem__") else layer.axis
    if axis not in (-1, len(x.shape)):
        raise ConversionError(f"{layer.name}: it normalises axis {axis}; only the last axis, of the channels, is known")
    if type(layer).__name__ == "QBatchNormalization":
        scale, offset = _probed(layer, x)
    else:
        mean, variance = (np.asarray(part, np.float64) for part in (layer.moving_mean, layer.moving_variance))
        gamma, beta = (None if part is None else np.asarray(part, np.float64) for part in (layer.gamma, layer.beta))
        scale = (1.0 if gamma is None else gamma) / np.sqrt(variance + layer.epsilon)
        offset = (0.0 if beta is None else beta) - mean * scale
    if reader.quantized and reader.float_bits is None and not _on_a_grid(scale, offset):
        raise ConversionError(
            f"{layer.name}: a batch norm that is not folded multiplies by floating-point numbers, on no grid; use "
            "QConv2DBatchnorm, let kerasnac compress the float model, which rounds them, or set float_bits=16 to do so here"
        )
    return reader.normalised(layer.name, x, scale, offset)


def _layer_norm(reader: Reader, layer: Any, inputs: Sequence[Tensor]) -> Tensor:
    (x,) = inputs
    rank = len(x.shape)
    axes = sorted(axis % (rank + 1) for axis in np.atleast_1d(layer.axis).tolist())
    if axes not in ([*range(1, rank + 1)], [rank]):
        raise ConversionError(f"{layer.name}: it normalises axes {axes} together; only the last one, or all, are known")
    if layer.epsilon != LAYER_NORM_EPSILON:
        raise ConversionError(f"{layer.name}: its epsilon is {layer.epsilon:g}; only {LAYER_NORM_EPSILON:g} is known")
    if reader.quantized:
        raise ConversionError(
            f"{layer.name}: a layer norm of Keras divides floating-point numbers, on no grid; let kerasnac compress the float "
            "model, which makes it exact"
        )
    shape = x.shape if len(axes) == rank else x.shape[-1:]
    arrays = {"gamma": (layer.gamma, np.ones), "beta": (layer.beta, np.zeros)}
    weights = {name: neutral(shape, "f") if part is None else np.asarray(part) for name, (part, neutral) in arrays.items()}
    return reader.add(layer.name, LayerSpec.of("layer_norm", axes="all" if len(axes) == rank else "last"), x, weights=weights)


def _activation(reader: Reader, layer: Any, inputs: Sequence[Tensor]) -> Tensor:
    return reader.activated(layer.name, inputs[0], layer.activation)


def _quantized_activation(reader: Reader, layer: Any, inputs: Sequence[Tensor]) -> Tensor:
    return reader.activated(layer.name, inputs[0], layer.quantizer)


def _relu(reader: Reader, layer: Any, inputs: Sequence[Tensor]) -> Tensor:
    limit, slope, threshold = layer.max_value, float(layer.negative_slope or 0), float(layer.threshold or 0)
    if limit is None and not slope and not threshold:
        return reader.activated(layer.name, inputs[0], tensorflow().keras.activations.relu)
    if not reader.quantized and (limit is not None or threshold):
        raise ConversionError(f"{layer.name}: a ReLU with a limit or a threshold has no float form here; use a plain ReLU")
    return reader.activated(layer.name, inputs[0], _Named(layer, slope if limit is None and not threshold else None))


def _leaky_relu(reader: Reader, layer: Any, inputs: Sequence[Tensor]) -> Tensor:
    return reader.activated(layer.name, inputs[0], _Named(layer, float(layer.alpha)))


def _softmax(reader: Reader, layer: Any, inputs: Sequence[Tensor]) -> Tensor:
    if layer.axis not in (-1, len(inputs[0].shape)):
        raise ConversionError(f"{layer.name}: a softmax over axis {layer.axis}; only the last axis is known")
    return reader.activated(layer.name, inputs[0], tensorflow().keras.activations.softmax)


class _Named:
    """A layer as a function with the slope of a leaky ReLU."""

    def __init__(self, layer: Any, slope: float | None) -> None:
        self._layer, self.slope, self.__name__ = layer, slope, type(layer).__name__

    def __call__(self, x: Any) -> Any:
        return self._layer(x)


def _pool(reader: Reader, layer: Any, inputs: Sequence[Tensor]) -> Tensor:
    (x,) = inputs
    sizes, strides = (tuple(np.atleast_1d(value).tolist()) for value in (layer.pool_size, layer.strides))
    positions = x.shape[:-1]
    if sizes == strides == (1,) * len(sizes):
        return x
    if len(set(sizes)) > 1 or len(set(strides)) > 1:
        if sizes != positions:
            raise ConversionError(f"{layer.name}: windows of {_by(sizes)} every {_by(strides)}; only square ones are known")
        sizes = (0,)
    if layer.padding == "same" and any(max(zeros) for zeros in zeros_around(positions, sizes, strides)):
        raise ConversionError(f"{layer.name}: windows of {_by(sizes)} do not fill a map of {_by(positions)}; use padding valid")
    op = "max" if "Max" in type(layer).__name__ else "mean"
    apart = {} if sizes == strides or sizes in (positions, (0,)) else {"stride": strides[0]}
    spec = LayerSpec.of("pool", op=op, size=sizes[0], **apart)
    out = reader.add(layer.name, _with_reciprocal(reader, layer, spec, x), x)
    if len(out.shape) == 1:
        out = reader.add(layer.name, LayerSpec.of("reshape", shape=(*[1] * len(positions), *out.shape)), out)
    return reader.activated(layer.name, out, getattr(layer, "activation", None))


def _global_pool(reader: Reader, layer: Any, inputs: Sequence[Tensor]) -> Tensor:
    (x,) = inputs
    op = "max" if "Max" in type(layer).__name__ else "mean"
    out = reader.add(layer.name, _with_reciprocal(reader, layer, LayerSpec.of("pool", op=op, size=0), x), x)
    if layer.keepdims:
        out = reader.add(layer.name, LayerSpec.of("reshape", shape=(*[1] * (len(x.shape) - 1), *out.shape)), out)
    return reader.activated(layer.name, out, getattr(layer, "activation", None))


def _with_reciprocal(reader: Reader, layer: Any, spec: LayerSpec, x: Tensor) -> LayerSpec:
    """Return a pool with the format of the reciprocal that its mean is made with, where that is no power of two.

    Raises:
        ConversionError: If it is on no grid.
    """
    count, quantizer = averaged(spec, x.shape), getattr(layer, "average_quantizer_internal", None)
    if spec["op"] == "max" or not reader.quantized or (quantizer is None and not needs_reciprocal(count)):
        return spec
    if quantizer is None and reader.float_bits is not None:
        reader.rounded.append(f"{layer.name} reciprocal")
        return replace(spec, weight=reciprocal_format([count], reader.float_bits))
    if quantizer is None:
        raise ConversionError(
            f"{layer.name}: the mean of {count} values is on no grid; use QKeras' pools with an average_quantizer, a power of "
            "two of values, or max; or set float_bits=16 to round its reciprocal"
        )
    factor = np.asarray(quantizer(tensorflow().constant([1.0 / count])), np.float64)
    grid = exact_format(factor)
    if grid is None or reciprocal(count, grid) != factor.item():
        raise ConversionError(f"{layer.name}: average_quantizer makes {factor.item():g} of 1/{count}; give it more bits")
    return spec if factor.item() * count == 1 else replace(spec, weight=grid)


def _flatten(reader: Reader, layer: Any, inputs: Sequence[Tensor]) -> Tensor:
    (x,) = inputs
    return x if len(x.shape) == 1 else reader.add(layer.name, LayerSpec.of("flatten"), x)


def _reshape(reader: Reader, layer: Any, inputs: Sequence[Tensor]) -> Tensor:
    (x,) = inputs
    target = tuple(int(axis) for axis in layer.output_shape[1:])
    if target == x.shape:
        return x
    return reader.add(layer.name, LayerSpec.of("reshape", shape=target), x)


def _add(reader: Reader, layer: Any, inputs: Sequence[Tensor]) -> Tensor:
    total, *others = inputs
    for other in others:
        if other.shape != total.shape:
            raise ConversionError(f"{layer.name}: it adds shapes {total.shape} and {other.shape}; they must be equal")
        total = reader.add(layer.name, LayerSpec.of("add", inputs=(-1, -1)), total, other)
    return total


def _concatenate(reader: Reader, layer: Any, inputs: Sequence[Tensor]) -> Tensor:
    joined, *others = inputs
    if layer.axis not in (-1, len(joined.shape)):
        raise ConversionError(f"{layer.name}: it concatenates axis {layer.axis}; only the last axis, of the channels, is known")
    for other in others:
        joined = reader.add(layer.name, LayerSpec.of("concatenate", inputs=(-1, -1)), joined, other)
    return joined


def _padding(reader: Reader, layer: Any, inputs: Sequence[Tensor]) -> Tensor:
    (x,) = inputs
    around = np.asarray(layer.padding).reshape(-1, 2).tolist()
    shape = (*(n + sum(pair) for n, pair in zip(x.shape, around, strict=False)), x.shape[-1])
    return Tensor(x.index, shape, x.functions, tuple((a, b) for a, b in around), layer.name)


def _identity(reader: Reader, layer: Any, inputs: Sequence[Tensor]) -> Tensor:
    return inputs[0]


def _pruned(reader: Reader, layer: Any, inputs: Sequence[Tensor]) -> Tensor:
    return rule_of(layer.layer)(reader, layer.layer, inputs)


Rule = Callable[[Reader, Any, Sequence[Tensor]], Tensor]

_LAMBDA = Unsupported("code of its own cannot be read; use layers of Keras and QKeras")
_RECURRENT = Unsupported("recurrent layers have no exact form; use convolutions over the steps")
_ADAPTIVE = Unsupported("its format moves with the data; use QActivation with a fixed format")
_UPSAMPLING = Unsupported("maps cannot be enlarged")
_ELEMENTWISE = Unsupported("of the layers with several inputs only Add and Concatenate are known")

#: Name of a class of Keras or QKeras -> its rule, or the reason why there is none.
RULES: Mapping[str, Rule | Unsupported] = {
    **dict.fromkeys(("Dense", "QDense"), _dense),
    **dict.fromkeys(("Conv1D", "Conv2D", "QConv1D", "QConv2D"), _conv),
    **dict.fromkeys(("DepthwiseConv1D", "DepthwiseConv2D", "QDepthwiseConv2D"), _depthwise),
    **dict.fromkeys(("SeparableConv1D", "SeparableConv2D", "QSeparableConv1D", "QSeparableConv2D"), _separable),
    **dict.fromkeys(("QConv2DBatchnorm", "QDepthwiseConv2DBatchnorm"), _folded),
    **dict.fromkeys(("BatchNormalization", "SyncBatchNormalization", "QBatchNormalization"), _batch_norm),
    "Activation": _activation,
    "QActivation": _quantized_activation,
    "ReLU": _relu,
    "LeakyReLU": _leaky_relu,
    "Softmax": _softmax,
    **dict.fromkeys(("MaxPooling1D", "MaxPooling2D", "AveragePooling1D", "AveragePooling2D", "QAveragePooling2D"), _pool),
    **dict.fromkeys(("GlobalMaxPooling1D", "GlobalMaxPooling2D", "GlobalAveragePooling1D"), _global_pool),
    **dict.fromkeys(("GlobalAveragePooling2D", "QGlobalAveragePooling2D"), _global_pool),
    "Flatten": _flatten,
    "Reshape": _reshape,
    "Add": _add,
    "Concatenate": _concatenate,
    **dict.fromkeys(("ZeroPadding1D", "ZeroPadding2D"), _padding),
    **dict.fromkeys(("InputLayer", "Dropout", "SpatialDropout1D", "SpatialDropout2D", "GaussianDropout"), _identity),
    **dict.fromkeys(("GaussianNoise", "AlphaDropout", "ActivityRegularization"), _identity),
    "PruneLowMagnitude": _pruned,
    **dict.fromkeys(("Lambda", "TFOpLambda", "SlicingOpLambda"), _LAMBDA),
    **dict.fromkeys(("LSTM", "GRU", "SimpleRNN", "RNN", "Bidirectional", "QLSTM", "QGRU", "QSimpleRNN"), _RECURRENT),
    **dict.fromkeys(("UpSampling1D", "UpSampling2D", "Conv1DTranspose", "Conv2DTranspose", "QConv2DTranspose"), _UPSAMPLING),
    **dict.fromkeys(("Subtract", "Multiply", "Average", "Maximum", "Minimum", "Dot"), _ELEMENTWISE),
    "QAdaptiveActivation": _ADAPTIVE,
    "PReLU": Unsupported("its slopes differ between elements; use LeakyReLU"),
    "LayerNormalization": _layer_norm,
    "MultiHeadAttention": Unsupported("it is not read; build the attention of kerasnac.blocks instead"),
    "Permute": Unsupported("axes cannot be exchanged; feed samples with channels last"),
    "Embedding": Unsupported("it looks up vectors by number; feed the vectors"),
}


def rule_of(layer: Any) -> Rule:
    """Return the rule for a layer.

    Raises:
        ConversionError: If there is none; names the layer and the reason.
    """
    kind, package = type(layer).__name__, type(layer).__module__.split(".")[0]
    rule = RULES.get(kind) if package in ("tf_keras", "keras", "qkeras", "tensorflow_model_optimization") else None
    if rule is None:
        raise ConversionError(
            f"{layer.name}: {kind} of {package} is not known, nor what it computes; use layers of Keras and QKeras"
        )
    if isinstance(rule, Unsupported):
        raise ConversionError(f"{layer.name}: {kind}: {rule.reason}")
    if getattr(layer, "data_format", "channels_last") != "channels_last":
        raise ConversionError(f"{layer.name}: its data format is {layer.data_format}; use channels_last")
    return rule


def quantizes(layer: Any) -> bool:
    """Return True if a layer rounds its weights or outputs."""
    inner = getattr(layer, "layer", layer) if type(layer).__name__ == "PruneLowMagnitude" else layer
    things = [getattr(inner, name, None) for name in ("quantizer", "activation", "average_quantizer_internal")]
    return any(is_quantizer(thing) for thing in [*things, *(getattr(inner, "quantizers", None) or ())])


def _convolved(reader: Reader, layer: Any, x: Tensor, kernel: Values, bias: Values | None) -> Tensor:
    """Append a convolution with a kernel of shape (*sizes, channels, filters)."""
    values, grid = kernel
    rank, causal = values.ndim - 2, layer.padding == "causal"
    for axis, rate in enumerate(np.atleast_1d(layer.dilation_rate).tolist()):
        values = _dilated(values, axis, rate)
    if causal:  # As many zeros after the kernel as it has values before the present one: it then looks both ways.
        values = np.concatenate([values, np.zeros((len(values) - 1, *values.shape[1:]), values.dtype)])
    sizes, strides = values.shape[:rank], tuple(np.broadcast_to(layer.strides, rank).tolist())
    padding = "same" if causal else layer.padding
    if causal and strides != (1,):
        raise ConversionError(f"{layer.name}: a causal convolution with strides of {_by(strides)}; only 1 is known")
    if x.padding:
        padding, x = _as_same(layer, x, sizes, strides)
    kernel_size, stride = _one_or_all(sizes), _one_or_all(strides)
    spec = LayerSpec.of(f"conv{rank}d", filters=values.shape[-1], kernel=kernel_size, stride=stride, padding=padding)
    return reader.kernel(layer.name, spec, x, (values, grid), bias)


def _one_or_all(sizes: Sequence[int]) -> int | tuple[int, ...]:
    return sizes[0] if len(set(sizes)) == 1 else tuple(sizes)


def _dilated(kernel: NDArray[Any], axis: int, rate: int) -> NDArray[Any]:
    """Return a kernel with zeros between its values along an axis: a convolution that computes what a dilated one does."""
    if rate == 1:
        return kernel
    shape = list(kernel.shape)
    shape[axis] = (shape[axis] - 1) * rate + 1
    full = np.zeros(shape, kernel.dtype)
    full[(slice(None),) * axis + (slice(None, None, rate),)] = kernel
    return full


def _as_same(layer: Any, x: Tensor, kernel: Sequence[int], stride: Sequence[int]) -> tuple[str, Tensor]:
    """Return the padding ``same`` and the tensor before zeros were put around it, if both are the same."""
    before = tuple(n - sum(pair) for n, pair in zip(x.shape, x.padding, strict=False))
    same = zeros_around(before, kernel, stride)
    if layer.padding != "valid" or same != x.padding:
        raise ConversionError(
            f"{x.owner}: zeros {x.padding} around a map before {layer.name}, which padding='same' would put as {same}; use that"
        )
    return "same", Tensor(x.index, (*before, x.shape[-1]), x.functions, (), x.owner)


def _by_channel(kernel: NDArray[Any]) -> NDArray[Any]:
    """Return the kernel of a convolution that computes what a depthwise one does: zero between different channels.

    Args:
        kernel: Shape (*sizes, channels, multiplier).

    Returns:
        Shape (*sizes, channels, channels * multiplier).
    """
    *sizes, channels, multiplier = kernel.shape
    full = np.zeros((*sizes, channels, channels, multiplier), kernel.dtype)
    each = np.arange(channels)
    full[..., each, each, :] = kernel
    return full.reshape(*sizes, channels, channels * multiplier)


def _block_diagonal(kernel: NDArray[Any], groups: int) -> NDArray[Any]:
    """Return the kernel of a convolution that computes what one in groups does.

    Args:
        kernel: Shape (*sizes, channels / groups, filters).
        groups: Number of groups.

    Returns:
        Shape (*sizes, channels, filters).
    """
    *sizes, inputs, filters = kernel.shape
    full = np.zeros((*sizes, inputs * groups, filters), kernel.dtype)
    for group in range(groups):
        outputs = slice(group * filters // groups, (group + 1) * filters // groups)
        full[..., group * inputs : (group + 1) * inputs, outputs] = kernel[..., outputs]
    return full


def _weights(reader: Reader, layer: Any, part: str, array: Any = None) -> Values:
    """Return weights of a layer as it computes with them: an array of its own, or one that it has computed."""
    quantizer = getattr(layer, f"{part.removesuffix('_kernel')}_quantizer_internal", None)
    return reader.fixed(layer.name, part.replace("_", " "), getattr(layer, part) if array is None else array, quantizer)


def _bias(reader: Reader, layer: Any) -> Values | None:
    return _weights(reader, layer, "bias") if layer.use_bias else None


def _probed(layer: Any, x: Tensor) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return scale and offset of a layer that is linear in every channel, from its outputs for zeros and ones."""
    shape = (1, *x.shape)
    zero, one = (np.asarray(layer(value, training=False), np.float64) for value in (np.zeros(shape, "f"), np.ones(shape, "f")))
    offset = zero.reshape(-1, x.shape[-1])[0]
    return one.reshape(-1, x.shape[-1])[0] - offset, offset


def _on_a_grid(*arrays: NDArray[Any]) -> bool:
    """Return True if all numbers have few enough bits to have been rounded."""
    return all(power_of_two(abs(v)) or v == 0 or float(v * 2**16).is_integer() for array in arrays for v in array.ravel())


def _by(sizes: Sequence[int]) -> str:
    return "x".join(map(str, sizes))
