"""Models as people post them: jet taggers, convolutional nets, folded batch norms, residual nets; and what nobody can convert.

Weights are random, as after some training: it is about numbers, not accuracy.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import numpy as np

import kerasnac as kn
from kerasnac.adapters.keras.runtime import qkeras

tf = kn.setup()
q = qkeras()
keras = tf.keras
L = keras.layers

Model = Any
Builder = Callable[[], Any]

MODELS: dict[str, tuple[tuple[int, ...], Builder]] = {}


def model(name: str, *shape: int) -> Callable[[Builder], Builder]:
    """Add a function that builds a model, or its layers on samples of a shape, to the list."""

    def add(builder: Builder) -> Builder:
        MODELS[name] = shape, builder
        return builder

    return add


def bits(width: int, integer: int = 0, **options: Any) -> Any:
    return q.quantized_bits(width, integer, **{"alpha": 1, **options})


def dense(units: int, width: int = 6, **options: Any) -> Any:
    return q.QDense(units, **{"kernel_quantizer": bits(width), "bias_quantizer": bits(width), **options})


def conv(filters: int, size: Any = 3, width: int = 6, **options: Any) -> Any:
    quantizers = {"kernel_quantizer": bits(width), "bias_quantizer": bits(width)}
    return q.QConv2D(filters, size, **{**quantizers, **options})


def act(text: str) -> Any:
    return q.QActivation(text)


def tagger(**options: Any) -> list[Any]:
    """The jet tagger 16-64-32-32-5 of the tutorials."""
    layers: list[Any] = []
    for units in (64, 32, 32):
        layers += [dense(units, **options), act("quantized_relu(6)")]
    return [*layers, dense(5, **options), L.Activation("softmax")]


model("jet tagger, 6 bits", 16)(tagger)
model("jet tagger, alpha='auto_po2'", 16)(lambda: tagger(kernel_quantizer=bits(6, alpha="auto_po2")))
model("jet tagger, alpha='auto'", 16)(lambda: tagger(kernel_quantizer=bits(6, alpha="auto")))
model("jet tagger, alpha of a list", 16)(
    lambda: [dense(8, kernel_quantizer=bits(4, alpha=[0.5] * 8)), act("quantized_relu(6)")]
)
model("jet tagger, no bias quantizer", 16)(lambda: tagger(bias_quantizer=None))
model("jet tagger, no bias", 16)(lambda: tagger(use_bias=False))
model("jet tagger, ternary", 16)(lambda: tagger(kernel_quantizer=q.ternary(alpha=1)))
model("jet tagger, ternary, scaled by powers of two", 16)(lambda: tagger(kernel_quantizer=q.ternary(alpha="auto_po2")))
model("jet tagger, binary", 16)(lambda: tagger(kernel_quantizer=q.binary(alpha=1)))
model("jet tagger, weights of powers of two", 16)(lambda: tagger(kernel_quantizer=q.quantized_po2(4)))
model("jet tagger, stochastic ternary", 16)(lambda: tagger(kernel_quantizer=q.stochastic_ternary(alpha=1)))
model("layer norms, float", 8, 3)(
    lambda: [
        L.Conv1D(6, 1),
        L.LayerNormalization(),
        L.ReLU(),
        L.Flatten(),
        L.Dense(8),
        L.LayerNormalization(axis=-1, center=False),
        L.Activation("gelu"),
        L.Dense(5),
    ]
)
model("quantized, with a layer norm of Keras", 16)(
    lambda: [dense(8), L.LayerNormalization(), act("quantized_relu(6)"), dense(5)]
)
model("jet tagger, float", 16)(
    lambda: [L.Dense(64, activation="relu"), L.BatchNormalization(), L.Dense(32, activation="tanh"), L.Dense(5, "softmax")]
)


@model("batch norm after QDense", 16)
def _() -> list[Any]:
    return [dense(32), L.BatchNormalization(), act("quantized_relu(6)"), dense(5)]


@model("QBatchNormalization after QDense", 16)
def _() -> list[Any]:
    return [dense(32), q.QBatchNormalization(), act("quantized_relu(6)"), dense(5)]


@model("hls4ml 463: symmetric quantizers", 16, 16, 3)
def _() -> list[Any]:
    def b() -> Any:
        return q.quantized_bits(8, 0, 1, alpha=1)

    return [
        q.QActivation(b()),
        q.QConv2D(12, (3, 3), kernel_quantizer=b(), bias_quantizer=b()),
        q.QActivation(q.quantized_relu(8, 0, 1)),
        L.MaxPool2D(),
        L.Flatten(),
        q.QDense(10, kernel_quantizer=b(), bias_quantizer=b()),
        q.QActivation(b()),
    ]


@model("hls4ml 640: 12 bits", 14, 14, 1)
def _() -> list[Any]:
    layers: list[Any] = []
    for filters in (8, 8):
        layers += [conv(filters, 3, 12), act("quantized_relu(12,6)"), L.MaxPooling2D(2)]
    return [*layers, L.Flatten(), dense(10, 12), L.Activation("softmax")]


@model("hls4ml 326: one dimension, an electrocardiogram", 187, 1)
def _() -> list[Any]:
    def conv1d(filters: int, size: int) -> Any:
        return q.QConv1D(filters, size, padding="same", kernel_quantizer=bits(6), bias_quantizer=bits(6))

    first = [conv1d(28, 7), act("quantized_relu(6,2)"), L.MaxPooling1D(2)]
    second = [conv1d(8, 3), act("quantized_relu(6,2)"), L.MaxPooling1D(4)]
    return [*first, *second, L.Flatten(), dense(16), act("quantized_relu(6,2)"), dense(5), L.Softmax()]


model("hls4ml 874: quantized_bits(8, 0)", 16)(lambda: [dense(16, 8), act("quantized_relu(10,2)")])


@model("hls4ml 978: QConv2DBatchnorm, 16 bits", 3, 3, 1)
def _() -> list[Any]:
    wide = {"kernel_quantizer": "quantized_bits(16,6)", "bias_quantizer": "quantized_bits(16,6)"}
    return [q.QConv2DBatchnorm(1, (3, 3), use_bias=True, momentum=0.9, epsilon=1e-5, **wide)]


@model("hls4ml 512: strides", 14, 14, 1)
def _() -> list[Any]:
    layers: list[Any] = []
    for filters, stride in ((8, 2), (8, 1), (16, 1)):
        layers += [conv(filters, 3, 8, strides=stride), act("quantized_relu(8,4)")]
    return [*layers, L.Flatten(), dense(10, 8), L.Activation("softmax")]


@model("MNIST, dense", 784)
def _() -> list[Any]:
    return [dense(32), act("quantized_relu(6,2)"), dense(10), L.Activation("softmax")]


@model("SVHN, folded batch norms", 16, 16, 3)
def _() -> list[Any]:
    layers: list[Any] = []
    for filters in (8, 8, 12):
        quantizers = {"kernel_quantizer": bits(6), "bias_quantizer": bits(6)}
        layers += [q.QConv2DBatchnorm(filters, 3, padding="same", **quantizers), act("quantized_relu(6)"), L.MaxPooling2D(2)]
    return [*layers, L.Flatten(), dense(16), act("quantized_relu(6)"), dense(10), L.Softmax()]


@model("depthwise and pointwise (MobileNet)", 12, 12, 3)
def _() -> list[Any]:
    layers: list[Any] = [conv(8, 3, strides=2, padding="same"), act("quantized_relu(6,2)")]
    for filters in (8, 12):
        depthwise = {"depthwise_quantizer": bits(6), "bias_quantizer": bits(6)}
        layers += [q.QDepthwiseConv2D(3, padding="same", **depthwise), act("quantized_relu(6,2)")]
        layers += [conv(filters, 1), act("quantized_relu(6,2)")]
    return [*layers, L.AveragePooling2D(2), L.Flatten(), dense(4)]


@model("QDepthwiseConv2DBatchnorm", 8, 8, 4)
def _() -> list[Any]:
    quantizers = {"depthwise_quantizer": bits(6), "bias_quantizer": bits(6)}
    return [q.QDepthwiseConv2DBatchnorm(3, **quantizers), act("quantized_relu(6,2)"), L.Flatten(), dense(3)]


@model("separable", 12, 12, 3)
def _() -> list[Any]:
    quantizers = {"depthwise_quantizer": bits(6), "pointwise_quantizer": bits(6), "bias_quantizer": bits(6)}
    return [q.QSeparableConv2D(8, 3, **quantizers), act("quantized_relu(6,2)"), L.MaxPooling2D(2), L.Flatten(), dense(4)]


@model("residual net", 8, 8, 4)
def _() -> Model:
    x = inputs = L.Input((8, 8, 4))
    for _ in range(2):
        y = act("quantized_relu(6,2)")(conv(4, 3, padding="same")(x))
        y = conv(4, 3, padding="same")(y)
        x = act("quantized_bits(8,3)")(L.Add()([x, y]))
    return keras.Model(inputs, dense(5)(L.GlobalAveragePooling2D()(x)))


@model("dense net with concatenations", 16)
def _() -> Model:
    x = inputs = L.Input((16,))
    for _ in range(3):
        x = L.Concatenate()([x, act("quantized_relu(6,1)")(dense(8)(x))])
    return keras.Model(inputs, dense(5)(x))


@model("AutoQKeras: a quantizer for every layer", 16)
def _() -> list[Any]:
    return [
        dense(32, kernel_quantizer=bits(4, alpha="auto_po2"), bias_quantizer=bits(4)),
        act("quantized_relu(4,2)"),
        dense(32, kernel_quantizer=q.ternary(alpha="auto_po2"), bias_quantizer=q.quantized_po2(4)),
        act("quantized_relu_po2(4)"),
        dense(5, 8),
        L.Activation("softmax"),
    ]


@model("autoencoder", 32)
def _() -> list[Any]:
    layers: list[Any] = []
    for units in (16, 4, 16):
        layers += [dense(units, 8), act("quantized_relu(8,3)")]
    return [*layers, dense(32, 8)]


model("quantized_tanh", 16)(lambda: [dense(16), act("quantized_tanh(6)"), dense(4)])
model("quantized_tanh, real tanh", 16)(lambda: [dense(16), act("quantized_tanh(6,use_real_tanh=True)"), dense(4)])
model("quantized_sigmoid", 16)(lambda: [dense(16), act("quantized_sigmoid(6)"), dense(4), act("quantized_sigmoid(8)")])
model("tanh, then a quantizer", 16)(lambda: [dense(16), L.Activation("tanh"), act("quantized_bits(6,0)"), dense(4)])
model("tanh without a quantizer", 16)(lambda: [dense(16), L.Activation("tanh"), dense(4)])
model("LeakyReLU, then a quantizer", 16)(lambda: [dense(16), L.LeakyReLU(0.1), act("quantized_bits(6,2)"), dense(4)])
model("quantized_relu with a slope", 16)(lambda: [dense(16), act("quantized_relu(6,2,negative_slope=0.25)"), dense(4)])
model("swish, then a quantizer", 16)(lambda: [dense(16), L.Activation("swish"), act("quantized_bits(6,2)"), dense(4)])
model("ReLU6, then a quantizer", 16)(lambda: [dense(16), L.ReLU(6.0), act("quantized_bits(6,2)"), dense(4)])
model("ReLU without a quantizer", 16)(lambda: [dense(16), L.ReLU(), dense(4)])
model("binary activations", 16)(lambda: [dense(16), act("binary(alpha=1)"), dense(4, kernel_quantizer=q.binary(alpha=1))])
model("quantized_ulaw", 16)(lambda: [dense(16), act("quantized_ulaw(6,1)"), dense(4)])
model("activations with alpha='auto'", 16)(lambda: [dense(16), act("quantized_bits(6,1,alpha='auto')"), dense(4)])
model("QAdaptiveActivation", 16)(lambda: [dense(16), q.QAdaptiveActivation("quantized_relu", 6), dense(4)])
model("QAveragePooling2D over 4", 8, 8, 2)(lambda: [q.QAveragePooling2D(2, average_quantizer=bits(8)), L.Flatten(), dense(4)])
model("QAveragePooling2D over 9", 9, 9, 2)(
    lambda: [q.QAveragePooling2D(3, average_quantizer=bits(8)), act("quantized_bits(8,2,alpha=1)"), L.Flatten(), dense(4)]
)
model("mean of 49", 7, 7, 2)(lambda: [conv(4, 1), act("quantized_relu(6,2)"), L.GlobalAveragePooling2D(), dense(4)])
model("zero padding before a convolution", 8, 8, 2)(
    lambda: [L.ZeroPadding2D(1), conv(4), act("quantized_relu(6,2)"), L.Flatten()]
)
model("zero padding of another kind", 8, 8, 2)(lambda: [L.ZeroPadding2D(2), conv(4), act("quantized_relu(6,2)"), L.Flatten()])
model("kernel 1x3", 8, 8, 2)(lambda: [conv(4, (1, 3)), act("quantized_relu(6,2)"), L.Flatten(), dense(3)])
model("dilation", 8, 8, 2)(lambda: [conv(4, 3, dilation_rate=2), L.Flatten(), dense(3)])
model("causal convolution", 16, 2)(
    lambda: [
        q.QConv1D(4, 3, padding="causal", kernel_quantizer=bits(6), bias_quantizer=bits(6)),
        act("quantized_relu(6,2)"),
        L.Flatten(),
        dense(3),
    ]
)
model("overlapping pools", 8, 8, 2)(lambda: [L.MaxPooling2D(3, 2), L.Flatten(), dense(3)])
model("time distributed dense", 8, 3)(lambda: [dense(6), act("quantized_relu(6,2)"), L.GlobalAveragePooling1D(), dense(3)])
model("Lambda", 16)(lambda: [dense(8), L.Lambda(lambda x: x * 2), dense(3)])
model("LSTM", 8, 3)(lambda: [L.LSTM(4), dense(3)])
model("upsampling (U-net)", 8, 8, 2)(lambda: [conv(4), L.UpSampling2D(2), L.Flatten(), dense(3)])


@model("nested models", 16)
def _() -> list[Any]:
    inner = keras.Sequential([L.Input((16,)), dense(8), act("quantized_relu(6,2)")], name="inner")
    return [inner, dense(4)]


@model("pruned with TFMOT, not stripped", 16)
def _() -> list[Any]:
    from tensorflow_model_optimization.sparsity import keras as sparsity

    schedule = sparsity.ConstantSparsity(0.5, 0)
    return [sparsity.prune_low_magnitude(dense(16), schedule), act("quantized_relu(6,2)"), dense(4)]


@model("two inputs", 16)
def _() -> Model:
    inputs = [L.Input((16,)), L.Input((16,))]
    return keras.Model(inputs, dense(4)(L.Add()(inputs)))


@model("dynamic shape", 16)
def _() -> Model:
    inputs = L.Input((None, 3))
    return keras.Model(inputs, dense(4)(L.GlobalMaxPooling1D()(inputs)))


@model("subclassed", 16)
def _() -> Model:
    class Subclassed(keras.Model):  # type: ignore[misc, name-defined]
        def __init__(self) -> None:
            super().__init__()
            self.head = dense(4)

        def call(self, x: Any) -> Any:
            return self.head(x)

    made = Subclassed()
    made(np.zeros((1, 16), np.float32))
    return made


@model("custom layer", 16)
def _() -> list[Any]:
    class Squared(L.Layer):  # type: ignore[misc, name-defined]
        def call(self, x: Any) -> Any:
            return x * x

    return [dense(4), Squared(), dense(4)]


@model("NaN weights", 16)
def _() -> Model:
    made = keras.Sequential([L.Input((16,)), dense(4)])
    made.layers[0].set_weights([np.full((16, 4), np.nan), np.zeros(4)])
    return made


@model("a model of Keras 3", 16)
def _() -> Model:
    for name in [name for name in sys.modules if name == "keras" or name.startswith("keras.")]:
        del sys.modules[name]
    import keras as keras3

    return keras3.Sequential([keras3.layers.Input((16,)), keras3.layers.Dense(4)])


def built(name: str) -> tuple[Model, np.ndarray]:
    """Return a model with weights as after some training, and samples for it."""
    shape, builder = MODELS[name]
    keras.utils.set_random_seed(0)
    rng = np.random.default_rng(0)
    found = builder()
    if isinstance(found, list):
        found = keras.Sequential([L.Input(shape), *found])
    if name != "NaN weights" and type(found).__module__.startswith("tf_keras"):
        for weight in found.weights:
            if not weight.dtype.is_floating:
                continue
            part = weight.name.split("/")[-1]
            if "variance" in part:
                weight.assign(rng.uniform(0.5, 2, weight.shape))
            elif any(word in part for word in ("bias", "beta", "mean")):
                weight.assign(rng.normal(0, 0.1, weight.shape))
            elif "kernel" in part:
                weight.assign(weight * 1.5)
    return found, rng.random((1000, *shape)).astype(np.float32) * 2 - 1
