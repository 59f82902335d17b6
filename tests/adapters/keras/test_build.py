"""Models in Keras and QKeras against the architectures they are built from, and against integer arithmetic."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from kerasnac.adapters.keras.build import build, get_weights, set_weights
from kerasnac.adapters.keras.predict import predict
from kerasnac.core.network.architecture import Architecture
from kerasnac.core.network.layers import LayerSpec
from kerasnac.core.network.precision import Precision
from kerasnac.core.network.quantization import ActivationRange, quantize
from kerasnac.core.network.weights import fold_batch_norm
from kerasnac.core.space.blocks import Choose, Conv, Mlp, Nothing
from kerasnac.core.space.search_space import SearchSpace
from kerasnac.errors import ConversionError, Infeasible

pytestmark = pytest.mark.usefixtures("keras")

ALL = ("none", "relu", "leaky_relu", "gelu", "tanh", "sigmoid")
VECTORS = SearchSpace(
    input=6, outputs=3, blocks=(Mlp(widths=((4, 7), (5, 8), 3), depth=(1, 2, 3), norm=("none", "batch"), activation=ALL),)
)
MAPS = SearchSpace(
    input=(6, 5, 2),
    outputs=2,
    blocks=(
        Choose(
            options=(
                Conv(
                    convolutions=2,
                    channels=(2, 3),
                    kernel=(1, 2, 3),
                    padding=("valid", "same"),
                    norm=("none", "batch"),
                    activation=ALL,
                ),
                Nothing(),
            )
        ),
        Mlp(widths=((4, 6),)),
    ),
)
INPUT = Precision(10, 3)


def random_architecture(space: SearchSpace, seed: int) -> Architecture:
    return space.decode(space.sample_feasible(np.random.default_rng(seed))).architecture


def random_weights(architecture: Architecture, seed: int = 0) -> dict[str, np.ndarray]:
    """Weights of a new model, with biases and batch norms that do something."""
    rng = np.random.default_rng(seed)
    weights = get_weights(build(architecture), architecture)
    for key, value in weights.items():
        if key.endswith("kernel"):
            weights[key] = rng.normal(scale=0.4, size=value.shape).astype(np.float32)
        else:
            weights[key] = rng.uniform(0.2, 1, size=value.shape).astype(np.float32)
    return weights


def quantized(architecture: Architecture, weights: Any, *, weight_bits: int = 6, activation_bits: int = 8) -> Architecture:
    """Formats for activations between -4 and 4."""
    observed = {
        node.name: ActivationRange((-4, 4), (-4 if node.layer["fn"] != "relu" else 0, 4))
        for node in architecture.nodes
        if node.layer.kind == "activation"
    }
    return quantize(architecture, weights, observed, input_grid=INPUT, weight_bits=weight_bits, activation_bits=activation_bits)


def inputs(shape: tuple[int, ...], samples: int = 200) -> np.ndarray:
    return INPUT.quantize(np.random.default_rng(9).normal(size=(samples, *shape))).astype(np.float32)


def check_model_equals(architecture: Architecture, model: Any) -> None:
    layers = model.layers[1:]
    assert [layer.name for layer in layers] == list(architecture.names)
    assert model.input_shape == (None, *architecture.input_shape)
    assert model.output_shape == (None, *architecture.output_shape)
    assert [tuple(layer.input_shape[1:]) for layer in layers] == [node.shapes[0] for node in architecture.nodes]
    assert sum(int(np.prod(w.shape)) for w in model.trainable_weights) == architecture.parameters


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("space", [VECTORS, MAPS], ids=["vectors", "maps"])
def test_models_have_the_layers_shapes_and_parameters_of_their_architecture(space: SearchSpace, seed: int) -> None:
    architecture = random_architecture(space, seed)
    model = build(architecture)
    check_model_equals(architecture, model)
    folded, weights = fold_batch_norm(architecture, get_weights(model, architecture))
    small = quantized(folded, weights)
    quantized_model = build(small)
    check_model_equals(small, quantized_model)
    assert folded.parameters == small.parameters
    kinds = {layer.name: type(layer).__name__ for layer in quantized_model.layers}
    assert all(
        kinds[node.name] == {"dense": "QDense", "conv2d": "QConv2D"}[node.layer.kind]
        for node in small.nodes
        if node.layer.weight
    )


@pytest.mark.parametrize("space", [VECTORS, MAPS], ids=["vectors", "maps"])
def test_weights_survive_a_round_trip_and_the_way_into_the_quantized_model(space: SearchSpace) -> None:
    architecture = random_architecture(space, 3)
    weights = random_weights(architecture)
    model = build(architecture)
    set_weights(model, architecture, weights)
    check_equal(get_weights(model, architecture), weights)
    folded, moved = fold_batch_norm(architecture, weights)
    small = quantized(folded, moved)
    quantized_model = build(small)
    set_weights(quantized_model, small, moved)
    check_equal(get_weights(quantized_model, small), moved)


def check_equal(left: Any, right: Any) -> None:
    assert left.keys() == right.keys()
    for key, value in left.items():
        np.testing.assert_array_equal(value, np.asarray(right[key], np.float32), err_msg=key)


def test_weights_that_were_read_are_copies() -> None:
    architecture = random_architecture(VECTORS, 0)
    model = build(architecture)
    before = get_weights(model, architecture)
    for layer in model.layers:
        layer.set_weights([np.zeros_like(w) for w in layer.get_weights()])
    assert before["dense_0/kernel"].any()


NORMED = {
    "vectors": SearchSpace(input=6, outputs=3, blocks=(Mlp(widths=((4, 7), (5, 8)), norm="batch", activation=ALL),)),
    "maps": SearchSpace(
        input=(6, 5, 2),
        outputs=2,
        blocks=(Conv(convolutions=2, channels=(2, 3), norm="batch", padding=("valid", "same"), activation=ALL),),
    ),
}


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("name", NORMED)
def test_folding_batch_norms_keeps_the_outputs(name: str, seed: int) -> None:
    architecture = random_architecture(NORMED[name], seed)
    weights = random_weights(architecture)
    folded, moved = fold_batch_norm(architecture, weights)
    assert (len(architecture.layers), len(folded.layers)) == (len(folded.layers) + 2, len(architecture.layers) - 2)
    x = inputs(architecture.input_shape)
    np.testing.assert_allclose(predict(folded, moved, x), predict(architecture, weights, x), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("fn", ["relu", "gelu", "tanh", "sigmoid", "leaky_relu"])
def test_at_16_bits_outputs_hardly_change(fn: str) -> None:
    """Steps are 2**-12 or finer; 12 products of weights below 2 add up to less than 0.01."""
    activation = LayerSpec.of("activation", fn=fn)
    architecture = Architecture((6,), (LayerSpec.of("dense", units=6), activation, LayerSpec.of("dense", units=3)))
    weights = random_weights(architecture)
    x = inputs((6,))
    low, high = -8.0, 7.9
    observed = {"activation_0": ActivationRange((low, high), (0, high) if fn in ("relu", "sigmoid") else (low, high))}
    small = quantize(architecture, weights, observed, input_grid=INPUT, weight_bits=16, activation_bits=16)
    difference = np.abs(predict(small, weights, x) - predict(architecture, weights, x))
    assert 0 < difference.max() < 0.01


def test_fewer_bits_change_outputs_more() -> None:
    architecture = random_architecture(VECTORS, 2)
    folded, weights = fold_batch_norm(architecture, random_weights(architecture))
    x = inputs((6,))
    exact = predict(folded, weights, x)
    errors = [
        np.abs(predict(quantized(folded, weights, weight_bits=b, activation_bits=b), weights, x) - exact).mean()
        for b in (3, 5, 8)
    ]
    assert errors[0] > errors[1] > errors[2] > 0


def rounded(raw: np.ndarray, shift: int) -> np.ndarray:
    """Integers divided by 2**shift, half to even."""
    if shift <= 0:
        return raw << -shift
    quotient, rest = raw >> shift, raw & ((1 << shift) - 1)
    half = 1 << (shift - 1)
    return quotient + ((rest > half) | ((rest == half) & (quotient & 1 == 1)))


def to_integers(values: np.ndarray, grid: Precision) -> np.ndarray:
    """The raw integers of values in a signed format, rounded and saturated."""
    raw = np.rint(np.asarray(values, np.float64) * 2.0 ** (grid.bits - grid.integer)).astype(np.int64)
    return np.clip(raw, -(2 ** (grid.bits - 1)), 2 ** (grid.bits - 1) - 1)


def saturated(raw: np.ndarray, grid: Precision) -> np.ndarray:
    low, high = (-(2 ** (grid.bits - 1)), 2 ** (grid.bits - 1) - 1) if grid.signed else (0, 2**grid.bits - 1)
    return np.clip(raw, low, high)


def integer_network(architecture: Architecture, weights: Any, x: np.ndarray) -> np.ndarray:
    """A quantized MLP of ReLU and linear activations in 64-bit integers."""
    assert architecture.input
    raw, fraction = to_integers(x, architecture.input), architecture.input.bits - architecture.input.integer
    for name, layer in zip(architecture.names, architecture.layers, strict=True):
        if layer.weight and layer.bias:
            fractions = (layer.weight.bits - layer.weight.integer + fraction, layer.bias.bits - layer.bias.integer)
            product = raw @ to_integers(weights[f"{name}/kernel"], layer.weight) << max(fractions) - fractions[0]
            raw = product + (to_integers(weights[f"{name}/bias"], layer.bias) << max(fractions) - fractions[1])
            fraction = max(fractions)
        elif layer.activation:
            out = layer.activation.bits - layer.activation.integer
            raw, fraction = saturated(rounded(raw, fraction - out), layer.activation), out
    return raw / 2.0**fraction


def mlp(*formats: tuple[Precision, Precision, Precision | None]) -> Architecture:
    """Layers of 5 units with formats of weight, bias and activation; ReLU where the activation is unsigned."""
    layers: list[LayerSpec] = []
    for weight, bias, out in formats:
        layers.append(replace(LayerSpec.of("dense", units=5), weight=weight, bias=bias))
        if out:
            layers.append(replace(LayerSpec.of("activation", fn="none" if out.signed else "relu"), activation=out))
    return Architecture((6,), tuple(layers), INPUT)


def unsigned(bits: int, integer: int) -> Precision:
    return Precision(bits, integer, signed=False)


MLPS = {
    "usual": mlp(
        (Precision(6, 1), Precision(12, 3), unsigned(8, 2)),
        (Precision(4, 1), Precision(10, 3), unsigned(5, 3)),
        (Precision(6, 0), Precision(12, 3), None),
    ),
    "linear": mlp((Precision(6, 1), Precision(12, 3), Precision(8, 3)), (Precision(6, 1), Precision(12, 3), None)),
    "two bits": mlp((Precision(2, 1), Precision(8, 2), unsigned(2, 1)), (Precision(2, 0), Precision(8, 2), None)),
    "negative integer bits": mlp(
        (Precision(5, -2), Precision(12, 0), unsigned(6, -2)), (Precision(4, -4), Precision(12, -1), Precision(6, -3))
    ),
    "coarse": mlp((Precision(6, 3), Precision(8, 4), unsigned(6, 5)), (Precision(6, 4), Precision(8, 5), None)),
}


@pytest.mark.parametrize("name", MLPS)
def test_qkeras_computes_what_integers_compute(name: str) -> None:
    architecture = MLPS[name]
    weights = {key: value - 0.5 * key.endswith("bias") for key, value in random_weights(architecture).items()}
    x = inputs((6,), samples=500)
    outputs = predict(architecture, weights, x)
    np.testing.assert_array_equal(outputs, integer_network(architecture, weights, x))
    assert len(np.unique(outputs)) > 3


def test_convolutions_in_qkeras_compute_what_dense_layers_compute() -> None:
    """A kernel as large as its map is a dense layer on the flattened map."""
    formats = {"weight": Precision(5, 1), "bias": Precision(12, 3)}
    conv = replace(LayerSpec.of("conv2d", stride=1, filters=4, kernel=3, padding="valid"), **formats)
    dense = replace(LayerSpec.of("dense", units=4), **formats)
    rng = np.random.default_rng(0)
    kernel, bias = rng.normal(size=(3, 3, 2, 4)), rng.normal(size=4)
    x = inputs((3, 3, 2))
    left = predict(
        Architecture((3, 3, 2), (conv, LayerSpec.of("flatten")), INPUT), {"conv2d_0/kernel": kernel, "conv2d_0/bias": bias}, x
    )
    right = predict(
        Architecture((18,), (dense,), INPUT), {"dense_0/kernel": kernel.reshape(18, 4), "dense_0/bias": bias}, x.reshape(-1, 18)
    )
    np.testing.assert_array_equal(left, right)


def test_dropout_follows_every_activation_and_leaves_predictions_alone() -> None:
    architecture = Architecture(
        (6,), (LayerSpec.of("dense", units=4), LayerSpec.of("activation", fn="relu"), LayerSpec.of("dense", units=3))
    )
    model = build(architecture, dropout=0.3)
    assert [layer.name for layer in model.layers][1:] == ["dense_0", "activation_0", "dropout_after_activation_0", "dense_1"]
    x = inputs((6,))
    np.testing.assert_array_equal(model.predict(x, verbose=0), predict(architecture, get_weights(model, architecture), x))


@pytest.mark.parametrize("form", ["float", "quantized"])
def test_l1_penalises_the_kernels_alone(form: str) -> None:
    architecture = random_architecture(MAPS, 5)
    folded, weights = fold_batch_norm(architecture, random_weights(architecture))
    model = build(folded if form == "float" else quantized(folded, weights), l1=0.5)
    set_weights(model, folded, weights)
    expected = 0.5 * sum(np.abs(value).sum() for key, value in weights.items() if key.endswith("kernel"))
    assert float(sum(model.losses)) == pytest.approx(expected, rel=0.02)


def test_a_batch_norm_in_a_quantized_network_is_refused() -> None:
    architecture = Architecture((4,), (LayerSpec.of("dense", units=2), LayerSpec.of("batch_norm")), INPUT)
    with pytest.raises(ConversionError, match=r"batch_norm_0.*\(fold\)"):
        build(architecture)


def test_layers_that_do_not_fit_are_refused() -> None:
    with pytest.raises(Infeasible, match="dense"):
        build(Architecture((4, 4, 1), (LayerSpec.of("dense", units=2),)))


def test_weights_of_another_network_are_refused() -> None:
    architecture = Architecture((4,), (LayerSpec.of("dense", units=2),))
    with pytest.raises(KeyError, match="dense_0/bias"):
        set_weights(build(architecture), architecture, {"dense_0/kernel": np.zeros((4, 2))})
    with pytest.raises(ValueError, match="shape"):
        set_weights(build(architecture), architecture, {"dense_0/kernel": np.zeros((4, 3)), "dense_0/bias": np.zeros(2)})
