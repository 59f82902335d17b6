"""Layer norms in whole numbers: spreads, roots, formats, and the numbers that Keras computes with them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kerasnac.core.network.architecture import Architecture
from kerasnac.core.network.exactness import output_formats
from kerasnac.core.network.layer_norms import LayerNormTables, reciprocal_root, spreads, table_formats
from kerasnac.core.network.layers import LayerSpec
from kerasnac.core.network.precision import Precision
from kerasnac.core.network.quantization import quantize
from kerasnac.core.network.weights import LAYER_NORM_EPSILON
from kerasnac.errors import ConfigError, ConversionError
from tests.integers import predict_in_integers
from tests.networks import trained_weights


def norm(axes: str = "all", **params: Any) -> LayerSpec:
    return LayerSpec.of("layer_norm", axes=axes, **params)


@pytest.mark.parametrize("axes", ["all", "last"])
def test_the_spread_is_the_variance_times_the_square_of_the_size(axes: str) -> None:
    x = np.random.default_rng(0).normal(2, 3, (5, 4, 3))
    node = Architecture((4, 3), (norm(axes),)).nodes[0]
    size = 12 if axes == "all" else 3
    over = (1, 2) if axes == "all" else (-1,)
    np.testing.assert_allclose(spreads(x, node), size**2 * x.var(axis=over))
    normalised = (x - x.mean(axis=over, keepdims=True)) / np.sqrt(x.var(axis=over, keepdims=True) + LAYER_NORM_EPSILON)
    deviations = size * x - x.sum(axis=over, keepdims=True)
    roots = reciprocal_root(spreads(x, node), size)
    np.testing.assert_allclose(deviations * roots.reshape(*roots.shape, *[1] * len(over)), normalised)


grids = st.builds(
    lambda bits, integer, signed: Precision(bits, integer, signed), st.integers(2, 10), st.integers(-3, 6), st.booleans()
)


@given(grids, st.integers(1, 500), st.integers(4, 12), st.floats(1e-3, 1), st.floats(0, 1))
def test_tables_fall_and_hold_the_roots(grid: Precision, size: int, bits: int, high: float, low: float) -> None:
    largest = high * (size * (grid.maximum - grid.minimum)) ** 2 / 4
    index, root = table_formats(grid.fractional, size, (low * largest, largest), bits)
    tables = LayerNormTables(grid, size, index, root)
    assert max(index.bits, root.bits) <= bits
    assert tables.shift >= 0
    assert index.maximum + index.step >= largest
    assert (np.diff(tables.roots) <= 0).all()
    # Between the spreads that an index stands for the root is not further off than at their ends.
    starts = np.arange(2**index.bits) * index.step
    reached = tables.roots < root.maximum
    assert (tables.roots <= reciprocal_root(starts, size) + root.step / 2)[reached].all()
    assert (tables.roots >= reciprocal_root(starts + index.step, size) - root.step / 2)[reached].all()


def quantized(shape: tuple[int, ...], axes: str, bits: int, table_bits: int, seed: int) -> tuple[Architecture, Any, Any]:
    from kerasnac.adapters.keras.predict import activation_ranges

    rng, grid = np.random.default_rng(seed), Precision(8, 4)
    layers = (norm(axes, table_bits=table_bits), LayerSpec.of("activation", fn="relu"))
    network = Architecture(shape, layers)
    x = grid.quantize(rng.normal(rng.normal(), 2, (200, *shape))).astype(np.float32)
    weights = trained_weights(network, rng)
    ranges = activation_ranges(network, weights, x, clip_quantile=0.01)
    return quantize(network, weights, ranges, input_grid=grid, weight_bits=bits, activation_bits=bits), weights, x


@pytest.mark.usefixtures("keras")
@pytest.mark.parametrize(
    ("shape", "axes", "bits", "table_bits"),
    [((1,), "all", 6, 8), ((2,), "last", 4, 4), ((7,), "all", 8, 14), ((3, 5), "last", 8, 10), ((5, 3, 2), "all", 16, 12)],
)
def test_keras_computes_whole_numbers(shape: tuple[int, ...], axes: str, bits: int, table_bits: int) -> None:
    from kerasnac.adapters.keras.predict import layer_outputs, predict

    network, weights, x = quantized(shape, axes, bits, table_bits, seed=len(shape))
    np.testing.assert_array_equal(predict(network, weights, x), predict_in_integers(network, weights, x))
    before = network.unquantized
    exact = layer_outputs(before, weights, x)["layer_norm_0"]
    ours = layer_outputs(network, weights, x)["layer_norm_0"]
    if bits == 16:
        assert np.median(np.abs(exact - ours)) < 0.01 * exact.std()


def test_a_network_without_formats_has_none_for_the_norm() -> None:
    network, _, _ = quantized((4,), "all", 6, 8, 0)
    plain = network.unquantized
    assert dict(plain.layers[0].params) == {"axes": "all", "table_bits": 8}
    assert plain.layers[0].activation is None


@pytest.mark.usefixtures("keras")
def test_what_does_not_fit_float64_is_refused_by_name() -> None:
    network, weights, _ = quantized((7,), "all", 6, 8, 0)
    wide = replace(network, input_shape=(2**15,), input=Precision(16, 4))
    many = {name: np.resize(array, (2**15,)) for name, array in weights.items()}
    with pytest.raises(ConversionError, match=r"layer_norm_0: its squares, over 32768 values of ap_fixed<16,4>, need 61 bits"):
        output_formats(replace(wide, layers=(replace(wide.layers[0], activation=Precision(6, 3)),)), many)


def test_formats_of_the_table_are_unsigned() -> None:
    with pytest.raises(ConfigError, match=r"layer_norm: root: .*ap_fixed<8,2> is signed"):
        norm(spread="ap_ufixed<8,2>", root="ap_fixed<8,2>")
