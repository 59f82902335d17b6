"""Formats of numbers, and tables of functions on them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kerasnac.adapters.keras.foreign.quantizers import composed, declared_format, exact_format, quantized_values, tabulated
from kerasnac.adapters.keras.runtime import qkeras, tensorflow
from kerasnac.core.network.precision import Precision
from kerasnac.errors import ConversionError


@given(st.integers(2, 20), st.integers(-12, 12), st.booleans(), st.integers(0, 2**32 - 1))
def test_the_format_of_numbers_holds_them_and_is_no_wider_than_theirs(bits: int, integer: int, signed: bool, seed: int) -> None:
    own = Precision(bits, integer, signed)
    numbers = own.quantize(np.random.default_rng(seed).uniform(own.minimum, own.maximum, 20))
    found = exact_format(numbers, signed=signed)
    assert found is not None
    assert np.array_equal(found.quantize(numbers), numbers)
    assert found.bits <= own.bits


def test_all_numbers_of_a_format_need_it() -> None:
    for own in (Precision(6, 2), Precision(5, -3), Precision(4, 7), Precision(5, 2, signed=False)):
        assert exact_format(own.grid()) == own


def test_numbers_without_end_have_no_format() -> None:
    assert exact_format(np.array([0.1, 1000.3], np.float32)) is None
    assert exact_format(np.zeros(3)) == Precision(1, 1, signed=False)


def test_quantizers_that_are_a_format() -> None:
    q = qkeras()
    assert declared_format(q.quantized_bits(6, 2, alpha=1)) == ("none", Precision(6, 3))
    assert declared_format(q.quantized_bits(6, 2)) == ("none", Precision(6, 3))
    assert declared_format(q.quantized_bits(6, 2, keep_negative=False, alpha=1)) == ("relu", Precision(6, 2, signed=False))
    assert declared_format(q.quantized_relu(6, 2)) == ("relu", Precision(6, 2, signed=False))
    for other in (
        "quantized_bits(6,2,1)",
        "quantized_bits(6,2,alpha='auto')",
        "quantized_relu(6,2,negative_slope=0.5)",
        "binary",
    ):
        assert declared_format(q.get_quantizer(other)) is None


WEIGHTS = np.random.default_rng(0).normal(0, 0.4, (16, 8)).astype(np.float32)


@pytest.mark.parametrize(
    "text",
    [
        "quantized_bits(6,0,alpha=1)",
        "quantized_bits(6,0,1,alpha=1)",
        "quantized_bits(4,1,alpha='auto_po2')",
        "ternary(alpha=1)",
        "ternary(alpha='auto_po2')",
        "binary(alpha=1)",
        "quantized_po2(4)",
        "quantized_bits(1,0,alpha=1)",
    ],
)
def test_weights_are_those_that_the_layer_computes_with(text: str) -> None:
    quantizer = qkeras().get_quantizer(text)
    values, grid = quantized_values(WEIGHTS, quantizer, "fc: its kernel")
    assert grid is not None
    assert np.array_equal(values, np.asarray(quantizer(tensorflow().constant(WEIGHTS))))
    assert np.array_equal(grid.quantize(values), values)


def test_weights_without_a_grid_are_refused_with_the_remedy() -> None:
    with pytest.raises(ConversionError, match=r"^fc: its kernel lies on no fixed-point grid, with .*alpha='auto'.*auto_po2"):
        quantized_values(WEIGHTS, qkeras().quantized_bits(6, 0, alpha="auto"), "fc: its kernel")
    with pytest.raises(ConversionError, match="no quantizer: give it one"):
        quantized_values(WEIGHTS, None, "fc: its bias")
    assert quantized_values(WEIGHTS, None, "fc: its bias", refuse=False)[1] is None


@pytest.mark.parametrize(
    "text",
    [
        "quantized_tanh(6)",
        "quantized_tanh(6,use_real_tanh=True)",
        "quantized_sigmoid(6)",
        "quantized_relu(6,2,negative_slope=0.25)",
        "quantized_relu_po2(4)",
        "quantized_bits(6,2,1,alpha=1)",
        "binary(alpha=1)",
        "ternary(alpha=1)",
    ],
)
def test_a_table_is_the_function_on_all_inputs(text: str) -> None:
    grid, function = Precision(13, 4), composed((qkeras().get_quantizer(text),))
    index, values, outputs = tabulated(function, grid, "act")
    x = grid.grid()
    raw = np.round(index.quantize(x) / index.step).astype(int) % 2**index.bits
    assert np.array_equal(values[raw], function(x.astype(np.float32)))
    assert np.array_equal(outputs.quantize(values), values)


def test_what_rounds_first_needs_a_small_table_whatever_its_inputs() -> None:
    symmetric = composed((qkeras().quantized_bits(6, 2, 1, alpha=1),))
    assert tabulated(symmetric, Precision(24, 6), "act")[0] == Precision(6, 3)


def test_functions_without_a_table_are_refused_with_the_remedy() -> None:
    q, keras = qkeras(), tensorflow().keras
    smooth: Any = (keras.activations.tanh, q.quantized_bits(6, 0, alpha=1))
    with pytest.raises(ConversionError, match=r"^act: it reads ap_fixed<24,6>, and a table for \d+ bits would be too large"):
        tabulated(composed(smooth), Precision(24, 6), "act")
    with pytest.raises(ConversionError, match=r"^act: its outputs lie on no fixed-point grid"):
        tabulated(composed((keras.activations.tanh,)), Precision(8, 4), "act")
    with pytest.raises(ConversionError, match=r"^act draws at random"):
        tabulated(lambda x: x + np.random.default_rng().normal(size=x.shape).astype(np.float32), Precision(8, 4), "act")
