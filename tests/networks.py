"""Small networks, weights, samples, models and data, which many tests build."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kerasnac.core.data.dataset import Dataset, Task, make_dataset
from kerasnac.core.hardware.hls_options import HlsOptions
from kerasnac.core.network.architecture import Architecture
from kerasnac.core.network.kinds import Shape
from kerasnac.core.network.layers import LayerSpec
from kerasnac.core.network.precision import Precision
from kerasnac.core.network.quantization import quantize
from kerasnac.core.network.trained import Trained
from kerasnac.core.network.training import Training
from kerasnac.core.network.weights import fold
from kerasnac.core.network.widths import Width
from kerasnac.core.space.blocks import Block
from kerasnac.core.space.search_space import SearchSpace
from kerasnac.testing import random_weights

Arrays = dict[str, NDArray[np.float32]]

# Networks.


def layer(kind: str, weight: str = "", bias: str = "", out: str = "", **params: Any) -> LayerSpec:
    """A layer with formats as text: ``layer("dense", "fixed<6,1>", "fixed<8,2>", units=3)``."""
    formats = {"weight": weight, "bias": bias, "activation": out}
    return replace(LayerSpec.of(kind, **params), **{name: Precision.parse(text) for name, text in formats.items() if text})


def dense(units: int, weight: str = "", bias: str = "") -> LayerSpec:
    """A dense layer, float by default."""
    return layer("dense", weight, bias, units=units)


def activation(fn: str, out: str = "") -> LayerSpec:
    """An activation, float by default."""
    return layer("activation", fn=fn, out=out)


def mlp(inputs: int, *units: int, fn: str = "relu", norm: bool = False) -> Architecture:
    """Dense layers of so many units, the last ones the outputs, with an activation between two of them."""
    norms = (LayerSpec.of("batch_norm"),) if norm else ()
    hidden = (spec for count in units[:-1] for spec in (dense(count), *norms, activation(fn)))
    return Architecture((inputs,), (*hidden, dense(units[-1])))


def only(shape: Shape, *blocks: Block | Mapping[str, Any], outputs: int = 2, **space: Any) -> Architecture:
    """The one architecture of a space without choices."""
    made = SearchSpace.model_validate({"input": shape, "outputs": outputs, "blocks": blocks, **space})
    return made.decode(()).architecture


# Weights and samples.

#: Weights as after a training, of a network and a generator.
trained_weights = random_weights


def normal_weights(architecture: Architecture, seed: int = 0, scale: float = 1.0, zeros: float = 0.0) -> Arrays:
    """Normally distributed weights, a fraction of them zero."""
    rng = np.random.default_rng(seed)
    weights = {}
    for node in architecture.nodes:
        for part, weight in node.weights.items():
            values = rng.normal(0, scale, weight.shape)
            if zeros:
                values *= rng.random(weight.shape) < 1 - zeros
            weights[f"{node.name}/{part}"] = values.astype(np.float32)
    return weights


def loud_weights(architecture: Architecture, seed: int = 0, sparsity: float = 0.0) -> Arrays:
    """Weights that use, and overflow, the range of their formats; with a sparsity some outputs of a layer lose all theirs."""
    rng = np.random.default_rng(seed)
    weights = {}
    for node in architecture.nodes:
        for part, weight in node.weights.items():
            grid = node.layer.weight if part == "kernel" else node.layer.bias
            values = rng.normal(0, 0.6, weight.shape) * (grid.maximum if grid else 1.0)
            if part == "kernel" and sparsity:
                values *= (rng.random(weight.shape) >= sparsity) & (rng.random(weight.shape[-1]) < 0.8)
            weights[f"{node.name}/{part}"] = values.astype(np.float32)
    return weights


def grid_samples(grid: Precision, shape: Shape, count: int, *, scale: float = 0.7, seed: int = 1) -> NDArray[np.float32]:
    """Normally distributed samples on a grid; its range is ``1 / scale`` standard deviations to each side."""
    values = np.random.default_rng(seed).normal(0, scale, (count, *shape)) * grid.maximum
    return grid.quantize(values).astype(np.float32)


def quantized_randomly(
    architecture: Architecture, seed: int, weight_bits: Width = 6, activation_bits: int = 7, count: int = 200
) -> tuple[Architecture, Arrays, NDArray[np.float32]]:
    """A float network with random weights, quantized for part of its samples: others saturate it; its weights, and samples.

    Weights are drawn again, three times at most, where the outputs hardly depend on the inputs: constants prove nothing.
    """
    from kerasnac.adapters.keras.predict import activation_ranges
    from tests.integers import predict_in_integers

    rng = np.random.default_rng(seed)
    grid = Precision(int(rng.integers(5, 10)), int(rng.integers(1, 4)))
    x = grid.quantize(rng.normal(0, grid.maximum / 3, (count, *architecture.input_shape))).astype(np.float32)
    widths = {"weight_bits": weight_bits, "activation_bits": activation_bits}
    for _ in range(3):
        folded, weights = fold(architecture, random_weights(architecture, rng))
        observed = activation_ranges(folded, weights, x[: count // 4], clip_quantile=1e-2)
        quantized = quantize(folded, weights, observed, input_grid=grid, **widths)
        if len(np.unique(predict_in_integers(quantized, weights, x), axis=0)) > count // 4:
            break
    return quantized, weights, x


def assert_exact(architecture: Architecture, weights: Arrays, x: NDArray[Any]) -> NDArray[Any]:
    """Check that Keras, integers and, if da4ml is there, the adder graph give the same numbers; return them as vectors."""
    from kerasnac.adapters.keras.predict import vectors
    from kerasnac.adapters.rtl.adder_graph import unroll
    from tests.integers import predict_in_integers

    expected = predict_in_integers(architecture, weights, x).reshape(len(x), -1)
    np.testing.assert_array_equal(vectors(architecture, weights, x), expected)
    if find_spec("da4ml") is not None:
        np.testing.assert_array_equal(unroll(architecture, weights).predict(x), expected)
    return expected


def assert_emulated(architecture: Architecture, weights: Arrays, x: NDArray[Any], folder: Path, **options: Any) -> None:
    """Check :func:`assert_exact`, and that the emulation of the firmware gives these numbers too.

    Args:
        architecture: Quantized; its outputs must depend on the inputs: constants prove nothing.
        weights: Its weights.
        x: Samples.
        folder: For the hls4ml project.
        options: Of the conversion.
    """
    from kerasnac.adapters.hls4ml.conversion import convert
    from kerasnac.adapters.hls4ml.csim import compile_project, emulate

    expected = assert_exact(architecture, weights, x)
    assert len(np.unique(expected, axis=0)) > 20
    convert(Trained("model", architecture, weights, Training(), {}, 0), HlsOptions.of(**options), folder=folder / "hls")
    compile_project(folder / "hls")
    np.testing.assert_array_equal(emulate(folder / "hls", x), expected)


def assert_read_again(architecture: Architecture, weights: Arrays, x: NDArray[Any], folder: Path) -> None:
    """Check that the network is the same when it is read from JSON, and its Keras model from a file."""
    from kerasnac.adapters.keras.build import load_keras, save_keras
    from kerasnac.adapters.keras.predict import model_outputs, predict

    save_keras(architecture, weights, folder / "model.keras")
    (found,) = model_outputs(load_keras(folder / "model.keras"), x)
    np.testing.assert_array_equal(found, predict(architecture, weights, x))
    assert Architecture.from_json(architecture.to_json()) == architecture


# Data.


def toy_data(seed: int = 0) -> Dataset:
    """Three classes of three features, 120 samples; another seed gives other samples."""
    y = np.arange(120) % 3
    x = np.eye(3)[y] + 0.3 * np.random.default_rng(seed).normal(size=(120, 3))
    return make_dataset(x, y, name="toy", task=Task("classification", 3), seed=0)
