from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kerasnac.core.network.architecture import Architecture
from kerasnac.core.network.arithmetic import Arithmetic, exact_arithmetic, keras_dtype
from kerasnac.core.network.exactness import FLOAT32_BITS, output_formats
from kerasnac.core.network.layers import LayerSpec
from kerasnac.core.network.precision import Precision
from kerasnac.core.network.weights import quantized_weights
from kerasnac.errors import ConversionError
from tests.networks import activation, dense, normal_weights


def network(*layers: LayerSpec, grid: str = "fixed<8,3>", size: int = 6) -> Architecture:
    return Architecture((size,), layers, Precision.parse(grid))


WIDE = network(dense(4, "fixed<4,1>", "fixed<8,2>"), activation("relu", "ufixed<16,3>"), dense(2, "fixed<16,1>", "fixed<16,3>"))


def test_the_first_layer_that_needs_more_is_named() -> None:
    needed = exact_arithmetic(WIDE, normal_weights(WIDE))
    assert (needed.dtype, needed.layer) == ("float64", "dense_1")
    assert needed.bits == output_formats(WIDE, normal_weights(WIDE))["dense_1"].bits - 1
    assert str(needed) == f"float64: dense_1 needs {needed.bits:g} bits, more than the 24 of float32"


def test_small_networks_need_float32_alone() -> None:
    small = replace(WIDE, layers=WIDE.layers[:2])
    assert exact_arithmetic(small, normal_weights(small)) == Arithmetic()
    assert str(Arithmetic()) == "float32: no sum of the network needs more than 24 bits"


def test_a_network_without_exact_firmware_has_no_arithmetic_but_a_dtype() -> None:
    plain = Architecture((4,), (dense(2),))
    with pytest.raises(ConversionError, match="not quantized"):
        exact_arithmetic(plain, normal_weights(plain))
    assert keras_dtype(plain, normal_weights(plain)) == "float32"
    refused = network(dense(2, "fixed<8,1>", "fixed<8,2>"), activation("tanh", "fixed<4,1>"))
    assert keras_dtype(refused, normal_weights(refused)) == "float32"
    assert keras_dtype(WIDE, normal_weights(WIDE)) == "float64"


@given(st.integers(2, 16), st.integers(2, 16), st.integers(1, 200), st.integers(0, 99))
def test_float32_suffices_exactly_where_sums_fit(weight_bits: int, input_bits: int, size: int, seed: int) -> None:
    one = network(dense(2, f"fixed<{weight_bits},1>", "fixed<2,1>"), grid=f"fixed<{input_bits},1>", size=size)
    weights = normal_weights(one, seed)
    assert one.input is not None
    kernel = quantized_weights(one, weights)["dense_0/kernel"].astype(np.float64)
    step = 2.0 ** (weight_bits + input_bits - 2)
    largest = step * (np.abs(kernel).sum(axis=0).max() + 1)
    if exact_arithmetic(one, weights).dtype == "float64":
        assert largest > 2.0**FLOAT32_BITS
    else:
        positive, negative = np.maximum(kernel, 0).sum(axis=0), np.minimum(kernel, 0).sum(axis=0)
        high = positive * one.input.maximum + negative * one.input.minimum
        assert step * high.max() <= 2.0**FLOAT32_BITS


def test_weights_that_float32_does_not_hold_are_float64() -> None:
    one = network(dense(1, "fixed<4,1>", "fixed<30,1>"))
    kernel = np.full((6, 1), 0.5, np.float32)
    values = quantized_weights(one, {"dense_0/kernel": kernel, "dense_0/bias": np.array([3.0], np.float32)})
    assert values["dense_0/bias"].dtype == np.float64
    assert values["dense_0/bias"][0] == 1 - 2.0**-29
    assert values["dense_0/kernel"].dtype == np.float32
