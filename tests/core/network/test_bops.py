"""Bit operations against counts by hand."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kerasnac.core.network.architecture import Architecture
from kerasnac.core.network.bops import bops, costs
from kerasnac.core.network.layers import LayerSpec
from kerasnac.core.network.precision import Precision
from kerasnac.core.space.blocks import Attention, Block, Conv, Pool, Window
from kerasnac.core.space.search_space import SearchSpace
from tests.networks import mlp

RELU = LayerSpec.of("activation", fn="relu")


JETS = mlp(16, 64, 32, 32, 5)
CNN = Architecture(
    (8, 8, 1),
    (
        LayerSpec.of("conv2d", stride=1, filters=4, kernel=3, padding="valid"),
        LayerSpec.of("batch_norm"),
        RELU,
        LayerSpec.of("flatten"),
        LayerSpec.of("dense", units=2),
    ),
)
widths = st.integers(1, 32)
fractions = st.floats(0, 1)


def test_jet_tagger_at_32_bits() -> None:
    """16-64-32-32-5: 1024 and 32 bit per product, accumulators 4, 6, 5 and 5 bits wider than a product."""
    by_hand = 16 * 64 * (1024 + 64 + 4) + 64 * 32 * (1024 + 64 + 6) + 32 * 32 * (1024 + 64 + 5) + 32 * 5 * (1024 + 64 + 5)
    assert by_hand == 4_652_832
    assert bops(JETS) == by_hand


def test_dense_layer_by_hand() -> None:
    (row,) = costs(mlp(8, 3), weight_bits=4, activation_bits=6, sparsity=0.25)
    assert row.macs == 24
    assert row.bops == 24 * (0.75 * 4 * 6 + 4 + 6 + 3)
    assert (row.layer, row.output_shape, row.weight_bits, row.activation_bits, row.sparsity) == ("dense_0", (3,), 4, 6, 0.25)


def test_convolution_by_hand() -> None:
    conv, dense = costs(CNN, weight_bits=4, activation_bits=6)
    assert conv.macs == 6 * 6 * 4 * 9
    assert conv.bops == pytest.approx(6 * 6 * 4 * 9 * (4 * 6 + 4 + 6 + math.log2(9)))
    assert dense.macs == 6 * 6 * 4 * 2
    assert bops(CNN, weight_bits=4, activation_bits=6) == conv.bops + dense.bops


def test_batch_norms_cost_nothing() -> None:
    folded = replace(CNN, layers=tuple(layer for layer in CNN.layers if layer.kind != "batch_norm"))
    assert bops(folded) == bops(CNN)


def test_quantized_networks_use_their_own_widths() -> None:
    first, activation, second = JETS.layers[0], JETS.layers[1], JETS.layers[2]
    network = Architecture(
        (16,),
        (
            replace(first, weight=Precision(3, 1), bias=Precision(16, 4)),
            replace(activation, activation=Precision(5, 2, signed=False)),
            replace(second, weight=Precision(7, 1), bias=Precision(16, 4)),
        ),
        Precision(12, 4),
    )
    assert [(row.weight_bits, row.activation_bits) for row in costs(network, weight_bits=32, activation_bits=32)] == [
        (3, 12),
        (7, 5),
    ]
    assert bops(network) == 1024 * (3 * 12 + 3 + 12 + 4) + 2048 * (7 * 5 + 7 + 5 + 6)


def test_an_accumulator_that_is_passed_on_counts_at_the_default_width() -> None:
    linear = Architecture((16,), (JETS.layers[0], JETS.layers[2]), Precision(12, 4))
    assert [row.activation_bits for row in costs(linear, activation_bits=20)] == [12, 20]


def test_sparsity_by_layer() -> None:
    pruned = {"dense_0": 0.5, "dense_3": 1.0}
    rows = costs(JETS, weight_bits=8, activation_bits=8, sparsity=pruned)
    assert [row.sparsity for row in rows] == [0.5, 0.0, 0.0, 1.0]
    assert rows[3].bops == 160 * (8 + 8 + 5)


@given(widths, widths, fractions, st.sampled_from((JETS, CNN)))
def test_more_bits_cost_more(weight: int, activation: int, sparsity: float, network: Architecture) -> None:
    here = bops(network, weight_bits=weight, activation_bits=activation, sparsity=sparsity)
    assert here < bops(network, weight_bits=weight + 1, activation_bits=activation, sparsity=sparsity)
    assert here < bops(network, weight_bits=weight, activation_bits=activation + 1, sparsity=sparsity)


@given(widths, widths, fractions, fractions, st.sampled_from((JETS, CNN)))
def test_more_zeros_cost_less(weight: int, activation: int, one: float, other: float, network: Architecture) -> None:
    low, high = sorted((one, other))
    dense, sparse = (bops(network, weight_bits=weight, activation_bits=activation, sparsity=s) for s in (low, high))
    assert sparse <= dense
    assert sparse > 0


def test_a_product_of_activations_has_two_activation_widths() -> None:
    scores = Architecture((6, 5), (LayerSpec.of("matmul", transpose=True, inputs=(-1, -1)),))
    (row,) = costs(scores, weight_bits=3, activation_bits=7, sparsity=0.5)
    assert row.macs == 6 * 6 * 5
    assert (row.weight_bits, row.activation_bits, row.sparsity) == (7, 7, 0.0)
    assert row.bops == pytest.approx(180 * (7 * 7 + 7 + 7 + math.log2(5)))


def test_the_factors_of_a_product_have_their_own_widths() -> None:
    narrow = replace(RELU, activation=Precision(4, 2, signed=False))
    product = Architecture((6, 5), (narrow, LayerSpec.of("matmul", transpose=True, inputs=(-2, -1))), Precision(9, 3))
    (row,) = costs(product)
    assert (row.activation_bits, row.weight_bits) == (9, 4)


def one(shape: tuple[int, ...], *blocks: Block) -> Architecture:
    """The one network of a space without choices."""
    return SearchSpace(input=shape, outputs=2, firmware="exact", blocks=blocks).decode(()).architecture


def test_attention_by_hand() -> None:
    """12 positions of 2 channels, width 5: 3 convolutions, scores, weighted values, projection."""
    *rows, _ = costs(one((3, 4, 2), Attention(width=5)), weight_bits=4, activation_bits=6)
    inwards, outwards = 12 * 2 * 5 * (24 + 10 + 1), 12 * 5 * 2 * (24 + 10 + math.log2(5))
    scores, values = 12 * 12 * 5 * (36 + 12 + math.log2(5)), 12 * 5 * 12 * (36 + 12 + math.log2(12))
    assert [row.layer for row in rows] == [f"conv2d_{i}" for i in range(3)] + ["matmul_0", "matmul_1", "conv2d_3"]
    assert [row.bops for row in rows] == pytest.approx([inwards] * 3 + [scores, values, outwards])


def test_attention_of_several_heads_by_hand() -> None:
    """6 particles of 3 features, 2 heads of width 5: as many products as one head of width 10, in shorter sums."""
    network = one((6, 3), Attention(width=5, heads=2, scaled=True))
    *rows, _ = costs(network, weight_bits=4, activation_bits=6)
    inwards, outwards = 6 * 3 * 10 * (24 + 10 + math.log2(3)), 6 * 10 * 3 * (24 + 10 + math.log2(10))
    scores, values = 2 * 6 * 6 * 5 * (36 + 12 + math.log2(5)), 6 * 10 * 6 * (36 + 12 + math.log2(6))
    assert [row.layer for row in rows] == [f"conv1d_{i}" for i in range(3)] + ["matmul_0", "matmul_1", "conv1d_3"]
    assert [row.bops for row in rows] == pytest.approx([inwards] * 3 + [scores, values, outwards])


def test_own_widths_win() -> None:
    """The block's widths, not the defaults; the input and the output layer have none of their own."""
    rows = costs(one((3, 4, 2), Attention(width=5, weight_bits=3, activation_bits=2)), weight_bits=9, activation_bits=7)
    widths = {row.layer: (row.weight_bits, row.activation_bits) for row in rows}
    assert widths == {
        **{f"conv2d_{i}": (3, 7) for i in range(3)},
        "matmul_0": (2, 2),
        "matmul_1": (2, 2),
        "conv2d_3": (3, 2),
        "dense_0": (9, 2),
    }


def test_windows_pools_and_softmax_cost_nothing() -> None:
    network = one((40, 2), Window(start=4, length=16), Pool(op="mean", size=4))
    (row,) = costs(network, weight_bits=4, activation_bits=6)
    assert (row.layer, row.macs) == ("dense_0", 4 * 2 * 2)
    assert costs(Architecture((3, 4), (LayerSpec.of("softmax"), LayerSpec.of("add", inputs=(-1, -2))))) == ()


def test_pools_and_reshapes_pass_the_width_on() -> None:
    network = one((8, 2), Conv(channels=3, weight_bits=4, activation_bits=5), Pool(op="max", size=2))
    assert [row.activation_bits for row in costs(network, activation_bits=12)] == [12, 5]


class TestFewValues:
    """Ternary weights have two bits, binary ones one."""

    @pytest.mark.parametrize(("width", "bits"), [("ternary", 2), ("binary", 1)])
    def test_as_a_default_width_of_a_layers_own_and_as_a_format(self, width: Any, bits: int) -> None:
        by_default = costs(Architecture((4,), (LayerSpec.of("dense", units=2),)), weight_bits=width, activation_bits=8)
        own = costs(Architecture((4,), (LayerSpec.of("dense", units=2, weight_bits=width),)), weight_bits=6, activation_bits=8)
        (row,) = by_default
        assert by_default == own
        assert (row.weight_bits, row.bops) == (bits, 8 * (bits * 8 + bits + 8 + 2))
        formats = {"weight": Precision.parse(f"{width}<0>"), "bias": Precision(8, 2)}
        quantized = Architecture((4,), (replace(LayerSpec.of("dense", units=2), **formats),), Precision(8, 2))  # type: ignore[arg-type]
        assert costs(quantized)[0].bops == row.bops
        assert costs(quantized)[0].memory == 8 * bits + 2 * 8

    def test_a_binary_kernel_has_no_zeros(self) -> None:
        network = Architecture((4,), (LayerSpec.of("dense", units=2), LayerSpec.of("dense", units=2, weight_bits=4)))
        assert [row.sparsity for row in costs(network, weight_bits="binary", sparsity=0.5)] == [0, 0.5]

    def test_an_activation_of_one_bit(self) -> None:
        layers = (LayerSpec.of("activation", fn="relu", activation_bits=1), LayerSpec.of("dense", units=2))
        assert costs(Architecture((4,), layers), weight_bits=4)[0].activation_bits == 1
