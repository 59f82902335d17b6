"""Means over any number of values: in Keras, in integers, as adder graphs, as C++ and in the engine."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kerasnac.adapters.keras.predict import layer_outputs, predict
from kerasnac.core.network.architecture import Architecture
from kerasnac.core.network.layers import LayerSpec
from kerasnac.core.network.mold import fitting, molds
from kerasnac.core.space.blocks import Conv, DeepSets, Mlp, Pool
from kerasnac.errors import ConversionError
from tests.gradients import assert_alike, formatted
from tests.networks import (
    activation,
    assert_emulated,
    assert_exact,
    assert_read_again,
    dense,
    layer,
    only,
    quantized_randomly,
    trained_weights,
)

pytestmark = pytest.mark.usefixtures("keras")

FLATTEN = LayerSpec.of("flatten")


def mean(size: int, **more: int) -> LayerSpec:
    return LayerSpec.of("pool", op="mean", size=size, **more)


NETWORKS = {
    "set": only((5, 3), DeepSets(widths=(4,), activation="relu"), Mlp(widths=(4,))),
    "map": only((3, 4, 2), Conv(channels=2, padding="same"), Pool(op="mean", size=0)),
    "windows": only((6, 7, 2), Pool(op="mean", size=3)),
    "windows of a series": only((9, 2), Pool(op="mean", size=3), Conv(channels=2, kernel=2)),
    "overlapping windows": Architecture((7, 8, 2), (mean(3, stride=2), activation("none"), FLATTEN, dense(2))),
    "windows apart": Architecture((11, 2), (mean(3, stride=4), activation("none"), FLATTEN, dense(2))),
    "not rounded after": Architecture((3, 2), (mean(0), dense(2))),
    "the output": Architecture((6, 2), (mean(0),)),
}


def means_of(architecture: Architecture) -> list[LayerSpec]:
    return [spec for spec in architecture.layers if spec.kind == "pool" and spec.weight is not None]


@settings(max_examples=10, deadline=None)
@given(name=st.sampled_from(sorted(NETWORKS)), seed=st.integers(0, 1000), widths=st.tuples(*[st.integers(2, 12)] * 2))
def test_keras_integers_and_the_adder_graph_agree(name: str, seed: int, widths: tuple[int, int]) -> None:
    quantized, weights, x = quantized_randomly(NETWORKS[name], seed, *widths)
    assert means_of(quantized)
    assert_exact(quantized, weights, x)


@pytest.mark.parametrize("name", NETWORKS)
def test_a_rounded_mean_is_within_a_step_of_the_real_one(name: str) -> None:
    quantized, weights, x = quantized_randomly(NETWORKS[name], 0, 8, 6)
    outputs = layer_outputs(quantized, weights, x)
    for i, node in enumerate(quantized.nodes):
        if node.layer in means_of(quantized) and i + 1 < len(quantized.layers):
            grid = quantized.layers[i + 1].activation
            assert grid is not None
            source = node.inputs[0]
            incoming = x if source < 0 else outputs[quantized.names[source]].reshape(len(x), *node.shapes[0])
            plain = Architecture(node.shapes[0], (replace(node.layer, weight=None, inputs=(-1,)),))
            real = predict(plain, {}, incoming.astype(np.float32)).reshape(len(x), -1)
            inside = (real > grid.minimum) & (real < grid.maximum)
            assert inside.any()
            assert np.abs(outputs[quantized.names[i + 1]] - real)[inside].max() < grid.step


def test_a_mean_that_nothing_rounds_gains_a_layer_that_does() -> None:
    quantized, _, _ = quantized_randomly(NETWORKS["not rounded after"], 0)
    assert [spec.kind for spec in quantized.layers] == ["pool", "activation", "dense"]


def test_a_mean_without_a_format_is_refused() -> None:
    quantized, weights, x = quantized_randomly(NETWORKS["set"], 0)
    plain = replace(quantized, layers=tuple(replace(s, weight=None) if s.kind == "pool" else s for s in quantized.layers))
    with pytest.raises(ConversionError, match="pool_0: 1 / 5, by which its sums are multiplied, has no format"):
        assert_exact(plain, weights, x)


def test_a_saved_model_is_read_again(tmp_path: Path) -> None:
    quantized, weights, x = quantized_randomly(NETWORKS["overlapping windows"], 0)
    assert_read_again(quantized, weights, x, tmp_path)


@pytest.mark.parametrize(
    ("rank", "io_type"),
    [
        (1, "io_parallel"),
        (2, "io_stream"),
        *(pytest.param(*pair, marks=pytest.mark.slow) for pair in ((1, "io_stream"), (2, "io_parallel"))),
    ],
)
def test_the_emulation_equals_keras(rank: int, io_type: str, tmp_path: Path) -> None:
    shape = (17, 2) if rank == 1 else (9, 11, 2)
    conv = layer(f"conv{rank}d", filters=3, kernel=1, stride=1, padding="valid")
    tail = (conv, activation("relu"), mean(0), activation("none"), dense(2))
    network = Architecture(shape, (mean(3, stride=2), activation("none"), mean(3, stride=1), activation("none"), *tail))
    network = replace(network, layers=(*network.layers[:4], *([] if rank == 2 else [mean(3), activation("none")]), *tail))
    quantized, weights, x = quantized_randomly(network, 1)
    assert_emulated(quantized, weights, x, tmp_path, io_type=io_type)


@pytest.mark.parametrize("name", ["set", "map", "windows", "windows of a series"])
def test_the_engine_trains_means_as_keras_does(name: str) -> None:
    network = NETWORKS[name]
    weights = trained_weights(network, np.random.default_rng(0))
    (mold,) = molds([network])
    quantized, start = formatted(network, weights)
    form = fitting([mold], quantized)
    assert form is not None
    assert_alike(quantized, form, start)
