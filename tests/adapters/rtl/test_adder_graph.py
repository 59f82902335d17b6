from __future__ import annotations

import math
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st
from numpy.typing import NDArray

from kerasnac.adapters.keras.predict import predict
from kerasnac.adapters.rtl import library
from kerasnac.adapters.rtl.adder_graph import AdderGraph, adder_graph_costs, check_unrollable, expected_luts, unroll
from kerasnac.core.hardware.boards import board
from kerasnac.core.hardware.estimators import SOURCES
from kerasnac.core.hardware.timing import TIMED, Clock
from kerasnac.core.network.architecture import Architecture
from kerasnac.core.network.exactness import output_formats
from kerasnac.core.network.layers import LayerSpec
from kerasnac.core.network.precision import Precision
from kerasnac.core.network.weights import quantized_weights
from kerasnac.core.settings import AdderGraphSettings
from kerasnac.errors import ConversionError, EnvironmentProblem
from tests.networks import activation as act
from tests.networks import layer, loud_weights

pytestmark = pytest.mark.usefixtures("da4ml")

Arrays = dict[str, NDArray[np.float32]]


def dense(units: int, weight: str = "fixed<5,1>", bias: str = "fixed<8,3>") -> LayerSpec:
    return layer("dense", weight, bias, units=units)


def conv(filters: int, rank: int = 2, kernel: int = 3, stride: int = 1, padding: str = "valid", **inputs: Any) -> LayerSpec:
    options: dict[str, Any] = {"filters": filters, "kernel": kernel, "stride": stride, "padding": padding, **inputs}
    return layer(f"conv{rank}d", "fixed<4,1>", "fixed<7,2>", **options)


def samples(architecture: Architecture, count: int = 200) -> NDArray[np.float32]:
    """Samples all over the grid, and at its ends."""
    grid = architecture.input
    assert grid is not None
    rng = np.random.default_rng(1)
    values = rng.normal(0, 0.7, (count, *architecture.input_shape)) * grid.maximum
    ends = rng.choice([grid.minimum, grid.maximum], (count, *architecture.input_shape))
    corners = [np.full((1, *architecture.input_shape), end) for end in (grid.minimum, 0.0, grid.maximum)]
    return grid.quantize(np.concatenate([values, ends, *corners])).astype(np.float32)


def assert_equals_keras(architecture: Architecture, weights: Arrays) -> AdderGraph:
    graph, x = unroll(architecture, weights), samples(architecture)
    outputs = graph.predict(x[:, architecture.window])
    expected = predict(architecture, weights, x)
    np.testing.assert_array_equal(outputs, expected.reshape(len(x), -1))
    return graph


INPUT = Precision(6, 3)

ATTENTION = (
    *(conv(3, kernel=1, inputs=(-1,)), act("none", "fixed<5,2>"), layer("reshape", shape=(4, 3))),
    *(conv(3, kernel=1, inputs=(-4,)), act("none", "fixed<5,3>"), layer("reshape", shape=(4, 3))),
    *(conv(3, kernel=1, inputs=(-7,)), act("none", "fixed<5,2>"), layer("reshape", shape=(4, 3))),
    layer("matmul", transpose=True, inputs=(-7, -4)),
    *(act("none", "fixed<6,4>"), layer("softmax", out="ufixed<7,0>")),
    layer("matmul", transpose=False, inputs=(-1, -4)),
    *(act("none", "fixed<6,3>"), layer("reshape", shape=(2, 2, 3)), conv(2, kernel=1), act("none", "fixed<6,3>")),
    layer("add", inputs=(-1, -18)),
    *(act("relu", "ufixed<6,3>"), layer("flatten"), dense(2)),
)


def heads(count: int) -> tuple[LayerSpec, ...]:
    """An attention of a set with itself, as queries, keys and values."""
    return (
        *(layer("matmul", transpose=True, heads=count, inputs=(-1, -1)), act("none", "fixed<6,4>")),
        *(layer("softmax", out="ufixed<7,0>"), layer("matmul", transpose=False, heads=count, inputs=(-1, -4))),
        act("none", "fixed<6,3>"),
    )


NETWORKS = {
    "rounding": Architecture((4,), (dense(6), act("none", "fixed<4,2>"), dense(3)), INPUT),
    "coarse": Architecture((4,), (dense(6), act("none", "fixed<4,6>"), dense(4), act("relu", "ufixed<3,5>"), dense(3)), INPUT),
    "fine": Architecture((4,), (dense(6), act("none", "fixed<9,-1>"), dense(4), act("relu", "ufixed<8,0>"), dense(3)), INPUT),
    "one bit": Architecture((4,), (dense(6), act("relu", "ufixed<1,1>"), dense(3, "fixed<2,2>")), INPUT),
    "unsigned input": Architecture((4,), (dense(6), act("relu", "ufixed<5,2>"), dense(3)), Precision(5, 0, signed=False)),
    "wide": Architecture((3,), (dense(4, "fixed<16,1>", "fixed<16,2>"), act("relu", "ufixed<16,4>")), Precision(4, 2)),
    "negative formats": Architecture(
        (4,), (dense(6, "fixed<4,-2>", "fixed<6,-3>"), act("relu", "ufixed<5,-4>"), dense(3, "fixed<3,-1>")), Precision(5, -3)
    ),
    "huge formats": Architecture(
        (4,), (dense(6, "fixed<4,9>", "fixed<6,9>"), act("relu", "ufixed<5,14>"), dense(3, bias="fixed<6,9>")), Precision(5, 12)
    ),
    "tables": Architecture(
        (4,),
        tuple(
            spec
            for fn, out in (
                ("tanh", "fixed<6,1>"),
                ("gelu", "fixed<6,3>"),
                ("leaky_relu", "fixed<8,3>"),
                ("sigmoid", "ufixed<5,0>"),
            )
            for spec in (dense(5), act("none", "fixed<6,3>"), act(fn, out))
        ),
        INPUT,
    ),
    "table of a table": Architecture((4,), (act("relu", "ufixed<4,2>"), act("tanh", "fixed<6,1>"), dense(3)), INPUT),
    "constant table": Architecture((4,), (act("none", "fixed<4,2>"), act("sigmoid", "ufixed<1,3>"), dense(3)), INPUT),
    "conv2d": Architecture(
        (5, 6, 2), (conv(3), act("relu", "ufixed<5,3>"), conv(2, stride=2), layer("flatten"), dense(2)), INPUT
    ),
    "conv2d same": Architecture(
        (5, 6, 2),
        (conv(3, padding="same", stride=2), act("relu", "ufixed<5,3>"), conv(2, kernel=2, padding="same"), layer("flatten")),
        INPUT,
    ),
    "conv1d": Architecture(
        (9, 2),
        (
            *(conv(3, rank=1, kernel=3, stride=2, padding="same"), act("relu", "ufixed<5,3>"), layer("pool", op="max", size=2)),
            *(layer("flatten"), dense(2)),
        ),
        INPUT,
    ),
    "pools": Architecture(
        (5, 4, 2),
        (
            layer("pool", op="mean", size=2),
            conv(3, kernel=2),
            act("none", "fixed<5,3>"),
            layer("pool", op="max", size=0),
            dense(2),
        ),
        INPUT,
    ),
    "mean of all": Architecture((4, 2), (conv(3, rank=1, kernel=1), layer("pool", op="mean", size=0), dense(2)), INPUT),
    "window": Architecture((12, 2), (layer("window", start=3, length=4), conv(3, rank=1), layer("flatten")), INPUT),
    "residual": Architecture(
        (4,),
        (
            *(dense(4), act("relu", "ufixed<5,2>"), dense(4), act("none", "fixed<5,4>"), layer("add", inputs=(-1, -3))),
            *(act("relu", "ufixed<5,3>"), dense(2)),
        ),
        INPUT,
    ),
    "attention": Architecture((2, 2, 2), (conv(2, kernel=1), act("none", "fixed<5,3>"), *ATTENTION), INPUT),
    "softmax": Architecture((5,), (layer("softmax", out="ufixed<16,0>"),), INPUT),
    "heads": Architecture(
        (4, 2), (conv(4, rank=1, kernel=1), act("none", "fixed<5,3>"), *heads(2), layer("flatten"), dense(2)), INPUT
    ),
    "square": Architecture((3, 3), (layer("matmul", transpose=True, inputs=(-1, -1)), layer("flatten")), INPUT),
}


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("sparsity", [0.0, 0.8])
def test_the_graph_equals_keras(keras: Any, name: str, sparsity: float) -> None:
    architecture = NETWORKS[name]
    graph = assert_equals_keras(architecture, loud_weights(architecture, sparsity=sparsity))
    varied = np.ptp(graph.predict(samples(architecture)[:, architecture.window]), axis=0)
    assert sparsity or varied.any() or name == "constant table"


@pytest.mark.parametrize(("out", "seed"), [("fixed<3,1>", 8), ("fixed<3,2>", 16), ("fixed<3,3>", 1)])
def test_signed_activations_of_very_sparse_layers_are_exact(keras: Any, out: str, seed: int) -> None:
    """Where few weights are left, all sums are smaller than a step: those below minus a half round to minus one step."""
    layers = [spec for units in (64, 32, 32) for spec in (dense(units, "fixed<3,1>", "fixed<3,1>"), act("none", out))]
    architecture = Architecture((16,), (*layers, dense(5, "fixed<3,1>")), Precision(5, 3))
    assert_equals_keras(architecture, loud_weights(architecture, seed, sparsity=0.95))


@pytest.mark.parametrize(
    ("depth", "weight", "fn", "out", "seed"),
    [
        (9, "fixed<9,1>", "relu", "ufixed<4,1>", 3),
        (9, "fixed<4,8>", "relu", "ufixed<6,1>", 6),
        (20, "fixed<11,0>", "none", "fixed<5,1>", 1),
    ],
)
def test_deep_networks_are_exact(keras: Any, depth: int, weight: str, fn: str, out: str, seed: int) -> None:
    """The steps of the weights multiply up to 2**-72, 2**36 and 2**-220: da4ml alone gets constants wrong."""
    layers = [spec for _ in range(depth) for spec in (dense(8, weight, weight), act(fn, out))]
    architecture = Architecture((4,), tuple(layers), Precision(4, 2))
    graph = assert_equals_keras(architecture, loud_weights(architecture, seed))
    assert np.ptp(graph.predict(samples(architecture)), axis=0).any()


@pytest.mark.parametrize("sparse", ["kernels", "all"])
def test_networks_without_weights_are_constant(keras: Any, sparse: str) -> None:
    architecture = NETWORKS["conv2d same"]
    weights = loud_weights(architecture)
    kept = {name: array * (sparse == "kernels" and name.endswith("bias")) for name, array in weights.items()}
    graph = assert_equals_keras(architecture, kept)
    assert graph.luts == graph.levels == 0
    assert np.any(graph.predict(samples(architecture))) == (sparse == "kernels")


grids = st.builds(
    lambda bits, fractional, signed: Precision(bits + signed, bits + signed - fractional, signed=signed),
    st.integers(1, 9),
    st.integers(-6, 12),
    st.booleans(),
)


@given(inputs=grids, out=grids, weight=st.sampled_from([1.0, -1.0, 0.75, -2.0, 0.0]), bias=st.integers(-9, 9))
@example(inputs=Precision(3, 3), out=Precision(5, 9), weight=1.0, bias=-20)
@example(inputs=Precision(2, 0, signed=False), out=Precision(4, 3), weight=-1.0, bias=-1)
def test_every_value_is_rounded_half_to_even_and_saturates(inputs: Precision, out: Precision, weight: float, bias: int) -> None:
    layers = (
        dense(1, "fixed<6,3>", str(Precision(6, 6 - inputs.fractional - 2))),
        act("none" if out.signed else "relu", str(out)),
    )
    architecture = Architecture((1,), layers, inputs)
    offset = math.ldexp(bias, -inputs.fractional - 2)
    weights = {"dense_0/kernel": np.array([[weight]], np.float32), "dense_0/bias": np.array([offset], np.float32)}
    with refused() as reasons:
        output_formats(architecture, weights)
    assume(not reasons)
    x = inputs.grid()
    expected = out.quantize(x * weight + offset)
    np.testing.assert_array_equal(unroll(architecture, weights).predict(x[:, None])[:, 0], expected)


@contextmanager
def refused() -> Iterator[list[str]]:
    reasons: list[str] = []
    try:
        yield reasons
    except ConversionError as error:
        reasons.append(str(error))


@given(inputs=grids, size=st.integers(1, 9), out=st.integers(1, 16), seed=st.integers(0, 99))
def test_softmax_never_exceeds_its_grid_and_follows_the_scores(inputs: Precision, size: int, out: int, seed: int) -> None:
    grid = Precision(out, 0, signed=False)
    architecture = Architecture((size,), (layer("softmax", out=str(grid)),), inputs)
    x = inputs.grid()[np.random.default_rng(seed).integers(2**inputs.bits, size=(20, size))]
    probabilities = unroll(architecture, {}).predict(x)
    np.testing.assert_array_equal(grid.quantize(probabilities), probabilities)
    assert (np.take_along_axis(probabilities, np.argmax(x, axis=1)[:, None], axis=1)[:, 0] == probabilities.max(axis=1)).all()


def mlp(*, bits: int = 6) -> Architecture:
    weight = str(Precision(bits, 1))
    return Architecture(
        (8,), (dense(16, weight), act("relu", "ufixed<6,3>"), dense(8, weight), act("relu", "ufixed<6,3>"), dense(3)), INPUT
    )


def test_pruned_and_narrow_networks_cost_less() -> None:
    architecture = mlp()
    costs = [unroll(architecture, loud_weights(architecture, sparsity=sparsity)).luts for sparsity in (0.0, 0.4, 0.7)]
    assert costs[0] > costs[1] > costs[2] > 0
    assert unroll(mlp(bits=3), loud_weights(mlp(bits=3))).luts < costs[0]


def test_more_effort_saves_luts() -> None:
    architecture = mlp()
    fast, full = (
        unroll(architecture, loud_weights(architecture), AdderGraphSettings(effort=effort)) for effort in ("fast", "full")
    )
    assert full.luts < fast.luts


def test_the_same_network_gives_the_same_graph() -> None:
    architecture = mlp()
    first, second = (unroll(architecture, loud_weights(architecture)) for _ in range(2))
    assert first.logic == second.logic


@pytest.mark.parametrize("name", ["attention", "tables", "conv2d same", "residual"])
@pytest.mark.parametrize("levels", [1, 4, 1000])
def test_the_pipeline_computes_what_the_graph_computes(name: str, levels: int) -> None:
    architecture = NETWORKS[name]
    settings = AdderGraphSettings(latency_cutoff=levels)
    graph, x = unroll(architecture, loud_weights(architecture), settings), samples(architecture)
    values = x.reshape(len(x), -1).astype(np.float64)
    for stage in graph.pipeline.solutions:
        values = stage.predict(values, n_threads=1)
    np.testing.assert_array_equal(values, graph.predict(x))


def test_stages_are_cut_at_levels() -> None:
    architecture = mlp()
    graph = unroll(architecture, loud_weights(architecture))

    def cut(levels: int) -> AdderGraph:
        return replace(graph, settings=AdderGraphSettings(latency_cutoff=levels))

    assert cut(graph.levels).stages == 1
    assert cut(1).stages == graph.levels
    assert graph.stages == math.ceil(graph.levels / graph.settings.latency_cutoff)
    outputs = sum(sum(format) for format in zip(*graph.logic.out_kifs, strict=True))
    assert cut(graph.levels).register_bits == 8 * 6 + outputs
    assert cut(1).register_bits > graph.register_bits > cut(graph.levels).register_bits


def test_costs_have_the_names_of_the_source() -> None:
    architecture, settings = mlp(), AdderGraphSettings(latency_cutoff=3)
    graph, entry = unroll(architecture, loud_weights(architecture), settings), board("pynq-z2")
    costs = graph.costs(entry)
    clock = Clock.of(5.0, entry.part)
    assert tuple(graph.costs(entry, clock)) == SOURCES["adder_graph"] == (*costs, *TIMED)
    assert costs == adder_graph_costs(architecture, loud_weights(architecture), settings, entry)
    assert costs["adder_percent"] == pytest.approx(100 * graph.luts / 53_200)
    assert (costs["adder_stages"], costs["adder_registers"]) == (graph.stages, graph.register_bits)
    assert graph.costs() == {name: value for name, value in costs.items() if name != "adder_percent"}


def test_inputs_that_nothing_reads_keep_their_place() -> None:
    architecture = mlp()
    weights = loud_weights(architecture)
    weights["dense_0/kernel"][3] = 0
    graph = unroll(architecture, weights)
    assert len(graph.logic.inp_qint) == 8
    assert len(set(graph.logic.inp_qint)) == 1


def test_nothing_is_printed(capfd: pytest.CaptureFixture[str]) -> None:
    unroll(mlp(), loud_weights(mlp())).costs()
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("architecture", "message"),
    [
        (Architecture((4,), (LayerSpec.of("dense", units=2),)), "not quantized"),
        (Architecture((4,), (dense(2), layer("layer_norm", axes="all")), INPUT), "layer_norm_0: the layer norm is float"),
        (Architecture((3, 2), (layer("pool", op="mean", size=0), dense(2)), INPUT), "pool_0: 1 / 3, by which"),
        (Architecture((4,), (act("none", "fixed<4,-27>"),), Precision(4, -25)), "activation_0: .*31 fractional bits"),
        (Architecture((4,), (dense(2, "fixed<4,-26>", "fixed<4,-26>"),), INPUT), "dense_0: .*33 fractional bits"),
        (Architecture((4,), (dense(2), act("tanh", "fixed<4,1>")), INPUT), "activation_0: .*unrounded accumulator"),
    ],
)
def test_what_cannot_be_unrolled_is_refused_by_name(architecture: Architecture, message: str) -> None:
    with pytest.raises(ConversionError, match=message):
        unroll(architecture, loud_weights(architecture))


LARGE = Architecture((24, 24, 2), (conv(8), act("relu", "ufixed<6,3>"), conv(16)), INPUT)


def test_large_networks_are_refused_before_they_are_unrolled(monkeypatch: pytest.MonkeyPatch) -> None:
    library.da4ml.cache_clear()
    monkeypatch.setitem(sys.modules, "da4ml.trace", None)
    for refuse in (check_unrollable, unroll):
        with pytest.raises(ConversionError, match=r"[\d,]+ LUTs, .* 400,000 "):
            refuse(LARGE, loud_weights(LARGE))


@pytest.mark.parametrize("name", ["conv2d", "attention", "tables", "rounding"])
def test_the_expected_size_is_of_the_right_order(name: str) -> None:
    architecture = NETWORKS[name]
    weights = loud_weights(architecture)
    expected = expected_luts(architecture, quantized_weights(architecture, weights))
    assert 1 / 3 < expected / unroll(architecture, weights).luts < 3


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    library.da4ml.cache_clear()
    monkeypatch.setitem(sys.modules, "da4ml.trace", None)
    with pytest.raises(EnvironmentProblem, match="da4ml"):
        unroll(mlp(), loud_weights(mlp()))
