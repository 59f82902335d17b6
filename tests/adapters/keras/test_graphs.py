"""Attention, sets, residuals, pools, strides and layer norms in Keras and QKeras."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from kerasnac.adapters.keras.build import build, get_weights, set_weights
from kerasnac.adapters.keras.custom import custom
from kerasnac.adapters.keras.predict import activation_ranges, predict
from kerasnac.adapters.keras.runtime import qkeras
from kerasnac.core.network.architecture import Architecture
from kerasnac.core.network.precision import Precision
from kerasnac.core.network.quantization import quantize
from kerasnac.core.network.weights import BATCH_NORM_EPSILON, LAYER_NORM_EPSILON, Weights, fold
from kerasnac.core.space.blocks import Attention, Conv, DeepSets, Mlp, Pool, Residual, Transformer, Window
from tests.networks import grid_samples, only, trained_weights

pytestmark = pytest.mark.usefixtures("keras")

INPUT = Precision(10, 3)


def phi(norm: str, aggregate: str) -> DeepSets:
    return DeepSets(widths=(6,), bottleneck=(4,), norm=norm, aggregate=aggregate, activation="gelu")


#: Network -> its parameters by hand.
NETWORKS: dict[str, tuple[Architecture, int]] = {
    "attention": (only((3, 4, 2), Attention(width=5)), 3 * (2 * 5 + 5) + 5 * 2 + 2 + 24 * 2 + 2),
    "relu attention": (only((3, 4, 2), Attention(width=1, scores="relu")), 3 * (2 + 1) + 2 + 2 + 24 * 2 + 2),
    "heads": (
        only((3, 4, 2), Attention(width=3, heads=2, scaled=True)),
        3 * (2 * 6 + 6) + 6 * 2 + 2 + 24 * 2 + 2,
    ),
    "heads of a set": (only((6, 3), Attention(width=2, heads=3)), 3 * (3 * 6 + 6) + 6 * 3 + 3 + 18 * 2 + 2),
    "transformer": (
        only((4, 3), Transformer(width=5, heads=2, head_width=3, hidden=7, depth=2)),
        3 * 5 + 5 + 2 * (3 * (5 * 6 + 6) + 6 * 5 + 5 + 5 * 7 + 7 + 7 * 5 + 5) + 5 * 2 + 2,
    ),
    "transformer, layer norms": (
        only((8, 3), Transformer(width=4, head_width=3, hidden=5, norm="layer", aggregate="max")),
        3 * 4 + 4 + 3 * (4 * 3 + 3) + 3 * 4 + 4 + 4 * 5 + 5 + 5 * 4 + 4 + 2 * 2 * 4 + 4 * 2 + 2,
    ),
    "deep sets, mean": (only((8, 3), phi("batch", "mean")), 3 * 6 + 6 + 2 * 6 + 6 * 4 + 4 + 2 * 4 + 4 * 2 + 2),
    "deep sets, max": (only((8, 3), phi("none", "max")), 3 * 6 + 6 + 6 * 4 + 4 + 4 * 2 + 2),
    "deep sets, layer norm": (only((8, 3), phi("layer", "max")), 3 * 6 + 6 + 2 * 6 + 6 * 4 + 4 + 2 * 4 + 4 * 2 + 2),
    "residual": (
        only((4, 5, 3), Residual(body=Conv(channels=3, padding="same", norm="batch"))),
        3 * 3 * 3 * 3 + 3 + 2 * 3 + 60 * 2 + 2,
    ),
    "pools": (only((7, 9, 2), Pool(op="max", size=2), Pool(op="mean", size=2)), 1 * 2 * 2 * 2 + 2),
    "global pool": (only((4, 4, 3), Pool(op="mean", size=0)), 3 * 2 + 2),
    "stride": (only((17, 2), Conv(channels=3, kernel=5, stride=4, norm="batch")), 5 * 2 * 3 + 3 + 2 * 3 + 4 * 3 * 2 + 2),
    "stride, same": (only((17, 2), Conv(channels=3, kernel=5, stride=4, padding="same")), 5 * 2 * 3 + 3 + 5 * 3 * 2 + 2),
    "stride in 2D": (only((7, 6, 1), Conv(channels=2, kernel=3, stride=2)), 9 * 2 + 2 + 3 * 2 * 2 * 2 + 2),
    "layer norm of a map": (only((4, 5, 1), Conv(channels=2, norm="layer")), 9 * 2 + 2 + 2 * 2 * 3 * 2 + 12 * 2 + 2),
    "layer norm of a vector": (only((6,), Mlp(widths=(5,), norm="layer")), 6 * 5 + 5 + 2 * 5 + 5 * 2 + 2),
    "window": (only((20, 2), Window(start=3, length=9), Pool(op="mean", size=4)), 2 * 2 * 2 + 2),
}
every_network = pytest.mark.parametrize("name", NETWORKS)
EXACT = [name for name in NETWORKS if "layer norm" not in name]


def weights_of(architecture: Architecture) -> Weights:
    return trained_weights(architecture, np.random.default_rng(0))


def samples(architecture: Architecture) -> NDArray[np.float32]:
    return grid_samples(INPUT, architecture.input_shape, 60, scale=0.25)


def quantized(name: str, bits: int) -> tuple[Architecture, Weights, Architecture, Weights]:
    """A network and its quantized form, each with weights."""
    architecture = NETWORKS[name][0]
    weights = weights_of(architecture)
    folded, moved = fold(architecture, weights)
    observed = activation_ranges(folded, moved, samples(architecture), clip_quantile=0)
    small = quantize(folded, moved, observed, input_grid=INPUT, weight_bits=bits, activation_bits=bits)
    return architecture, weights, small, moved


@every_network
def test_models_have_the_shapes_and_parameters_of_their_architecture(name: str) -> None:
    architecture, parameters = NETWORKS[name]
    model = build(architecture)
    assert architecture.parameters == parameters
    assert sum(int(np.prod(w.shape)) for w in model.trainable_weights) == parameters
    for node in architecture.nodes:
        assert model.get_layer(node.name).output_shape == (None, *node.output)


@pytest.mark.parametrize("name", EXACT)
def test_quantized_models_have_the_shapes_of_their_architecture(name: str) -> None:
    _, _, small, _ = quantized(name, 6)
    model = build(small)
    for node in small.nodes:
        assert model.get_layer(node.name).output_shape == (None, *node.output)
        assert type(model.get_layer(node.name)).__name__.startswith("Q") == (
            node.layer.kind in ("dense", "conv1d", "conv2d") or (node.layer.kind == "activation" and node.layer["fn"] != "gelu")
        )


def has_softmax(architecture: Architecture) -> bool:
    return any(layer.kind == "softmax" for layer in architecture.layers)


@pytest.mark.parametrize("name", EXACT)
def test_at_16_bits_outputs_hardly_change(name: str) -> None:
    """Errors of 2**-12 per value, a few dozen of them; the tables of a softmax are off by a percent."""
    architecture, weights, small, moved = quantized(name, 16)
    x = samples(architecture)
    real = predict(architecture, weights, x)
    difference = np.abs(predict(small, moved, x) - real).max()
    assert difference < (0.1 if has_softmax(architecture) else 0.02)
    assert difference < 0.05 * np.abs(real).max()


def numpy_network(architecture: Architecture, weights: Weights, x: np.ndarray) -> np.ndarray:
    """Float networks of the layers that this file is about, in float64 and without any framework."""
    outputs = {-1: x.astype(np.float64)}
    for i, node in enumerate(architecture.nodes):
        own = {part: weights[f"{node.name}/{part}"].astype(np.float64) for part in node.weights}
        outputs[i] = _LAYERS[node.layer.kind](node.layer, own, *(outputs[source] for source in node.inputs))
    return outputs[len(architecture.layers) - 1]


def convolution(layer: Any, own: Weights, x: np.ndarray) -> np.ndarray:
    kernel, stride, rank = own["kernel"], layer["stride"], x.ndim - 2
    sizes = x.shape[1:-1]
    if layer["padding"] == "same":
        needed = [max((-(-size // stride) - 1) * stride + layer["kernel"] - size, 0) for size in sizes]
        x = np.pad(x, [(0, 0), *((more // 2, more - more // 2) for more in needed), (0, 0)])
    windows = np.lib.stride_tricks.sliding_window_view(x, kernel.shape[:rank], axis=tuple(range(1, rank + 1)))
    windows = windows[(slice(None), *[slice(None, None, stride)] * rank)]  # (batch, positions, channels, kernel)
    axes = list(range(windows.ndim - rank - 1, windows.ndim))
    return np.tensordot(windows, np.moveaxis(kernel, rank, 0), (axes, list(range(rank + 1)))) + own["bias"]


def pooled(layer: Any, own: Weights, x: np.ndarray) -> np.ndarray:
    reduce, size, rank = (np.max if layer["op"] == "max" else np.mean), layer["size"], x.ndim - 2
    if size == 0:
        return reduce(x, axis=tuple(range(1, rank + 1)))
    counts = [axis // size for axis in x.shape[1:-1]]
    x = x[(slice(None), *(slice(count * size) for count in counts))]
    cut = x.reshape(len(x), *(n for count in counts for n in (count, size)), x.shape[-1])
    return reduce(cut, axis=tuple(range(2, 2 * rank + 1, 2)))


def layer_norm(layer: Any, own: Weights, x: np.ndarray) -> np.ndarray:
    axes = tuple(range(1, x.ndim)) if layer["axes"] == "all" else (-1,)
    centred = x - x.mean(axis=axes, keepdims=True)
    return own["gamma"] * centred / np.sqrt((centred**2).mean(axis=axes, keepdims=True) + LAYER_NORM_EPSILON) + own["beta"]


def activated(layer: Any, own: Weights, x: np.ndarray) -> np.ndarray:
    from scipy.special import erf

    return {"none": x, "relu": np.maximum(x, 0), "gelu": x * (1 + erf(x / np.sqrt(2))) / 2}[layer["fn"]]


def softmax(layer: Any, own: Weights, x: np.ndarray) -> np.ndarray:
    exponentials = np.exp(x)
    return exponentials / exponentials.sum(axis=-1, keepdims=True)


def product(layer: Any, own: Any, a: np.ndarray, b: np.ndarray) -> np.ndarray:
    params = dict(layer.params)
    heads = int(params.get("heads", 1))
    apart = np.split(b, heads, axis=-1)  # each of its own channels
    if layer["transpose"]:
        scores = [x @ y.swapaxes(1, 2) for x, y in zip(np.split(a, heads, axis=-1), apart, strict=True)]
        scores = [x / np.sqrt(a.shape[-1] // heads) for x in scores] if "scaled" in params else scores
        return scores[0] if heads == 1 else np.stack(scores, axis=1)
    return np.concatenate([a[:, i] @ y for i, y in enumerate(apart)], axis=-1) if heads > 1 else a @ b


_LAYERS: dict[str, Any] = {
    "dense": lambda layer, own, x: x @ own["kernel"] + own["bias"],
    "conv1d": convolution,
    "conv2d": convolution,
    "matmul": product,
    "add": lambda layer, own, a, b: a + b,
    "batch_norm": lambda layer, own, x: (
        own["gamma"] * (x - own["moving_mean"]) / np.sqrt(own["moving_variance"] + BATCH_NORM_EPSILON) + own["beta"]
    ),
    "layer_norm": layer_norm,
    "activation": activated,
    "softmax": softmax,
    "flatten": lambda layer, own, x: x.reshape(len(x), -1),
    "reshape": lambda layer, own, x: x.reshape(len(x), *layer["shape"]),
    "pool": pooled,
    "window": lambda layer, own, x: x[:, layer["start"] : layer["start"] + layer["length"]],
}


@every_network
def test_models_compute_what_numpy_computes(name: str) -> None:
    architecture = NETWORKS[name][0]
    weights = weights_of(architecture)
    x = samples(architecture)
    np.testing.assert_allclose(predict(architecture, weights, x), numpy_network(architecture, weights, x), rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("aggregate", ["mean", "max"])
@pytest.mark.parametrize("block", ["deep_sets", "transformer"])
def test_a_set_has_no_order(block: str, aggregate: str) -> None:
    attending = Transformer(width=5, heads=2, head_width=2, hidden=4, norm="layer", aggregate=aggregate)
    architecture = only((8, 3), attending if block == "transformer" else phi("batch", aggregate))
    weights, x = weights_of(architecture), samples(architecture)
    shuffled = x[:, [3, 0, 7, 5, 1, 6, 2, 4]]
    np.testing.assert_allclose(predict(architecture, weights, shuffled), predict(architecture, weights, x), atol=1e-5)


@pytest.mark.filterwarnings("ignore:You are saving your model as an HDF5 file")
@pytest.mark.parametrize("name", ["attention", "transformer", "deep sets, mean"])
@pytest.mark.parametrize(("form", "suffix"), [("float", "keras"), ("quantized", "h5")])
def test_saved_models_compute_the_same_when_loaded(name: str, form: str, suffix: str, tmp_path: Path, keras: Any) -> None:
    """QKeras itself reads no more than h5."""
    architecture, weights, small, moved = quantized(name, 6)
    if form == "quantized":
        architecture, weights = small, moved
    model = build(architecture)
    set_weights(model, architecture, weights)
    path = tmp_path / f"model.{suffix}"
    model.save(path)
    objects: dict[str, Any] = {}
    qkeras().utils._add_supported_quantized_objects(objects)
    again = keras.models.load_model(path, custom_objects=objects)
    x = samples(architecture)
    np.testing.assert_array_equal(again.predict(x, verbose=0), model.predict(x, verbose=0))
    loaded = get_weights(again, architecture)
    assert all((loaded[key] == value).all() for key, value in get_weights(model, architecture).items())
    if name == "attention":
        assert isinstance(again.get_layer("matmul_0"), custom().MatMul)


def test_products_of_older_files_have_one_head() -> None:
    product = custom().MatMul.from_config({"name": "matmul_0", "transpose": True})
    assert (product.transpose, product.heads, product.scaled) == (True, 1, False)
