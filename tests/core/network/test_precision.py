"""Number formats: grids, rounding, text and fitting to a range."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from kerasnac.core.network.precision import Binary, Odd, Precision, Ternary
from kerasnac.errors import ConfigError

formats = st.builds(Precision, st.integers(2, 16), st.integers(-6, 12), st.booleans())
few = st.one_of(st.builds(Ternary, st.integers(-6, 12)), st.builds(Binary, st.integers(-6, 12)))
values = st.floats(-1e4, 1e4)


@given(formats)
def test_text_round_trip(grid: Precision) -> None:
    assert Precision.parse(str(grid)) == grid


@pytest.mark.parametrize(
    ("text", "grid"),
    [
        ("ap_fixed<8,3>", Precision(8, 3)),
        ("ap_ufixed<8,0>", Precision(8, 0, signed=False)),
        (" fixed< 6 , -1 > ", Precision(6, -1)),
        ("ufixed<1,1>", Precision(1, 1, signed=False)),
    ],
)
def test_parse(text: str, grid: Precision) -> None:
    assert Precision.parse(text) == grid


@pytest.mark.parametrize(
    "text",
    [
        "ternary",
        "binary<2,1>",
        "ap_binary<1>",
        "",
        "float",
        "ap_fixed<8>",
        "ap_fixed<8,3,AP_RND>",
        "ap_fixed<1,1>",
        "ap_ufixed<0,0>",
    ],
)
def test_parse_rejects(text: str) -> None:
    with pytest.raises(ConfigError):
        Precision.parse(text)


@given(formats, values)
def test_quantize_is_idempotent_and_in_range(grid: Precision, value: float) -> None:
    once = grid.quantize(value)
    assert grid.quantize(once) == once
    assert grid.minimum <= once <= grid.maximum


@given(formats, values)
def test_quantize_errs_by_half_a_step_within_the_range(grid: Precision, value: float) -> None:
    error = abs(grid.quantize(value) - value)
    assert (error <= grid.step / 2) == grid.contains(value)


@given(formats, st.lists(values, min_size=2, max_size=2))
def test_quantize_keeps_the_order(grid: Precision, pair: list[float]) -> None:
    low, high = grid.quantize(sorted(pair))
    assert low <= high


def test_quantize_rounds_half_to_even_and_saturates() -> None:
    grid = Precision(4, 2)  # steps of 1/4 from -2 to 1.75
    np.testing.assert_array_equal(grid.quantize([0.125, 0.375, -0.125, -0.375, 9, -9]), [0, 0.5, 0, -0.5, 1.75, -2])
    np.testing.assert_array_equal(grid.quantize([np.inf, -np.inf]), [1.75, -2])


@given(formats)
def test_grid_has_every_value_once(grid: Precision) -> None:
    points = grid.grid()
    np.testing.assert_array_equal(np.sort(points), np.arange(2**grid.bits) * grid.step + grid.minimum)
    np.testing.assert_array_equal(grid.quantize(points), points)
    assert points.max() == grid.maximum


def test_grid_is_in_the_order_of_bit_patterns() -> None:
    np.testing.assert_array_equal(Precision(3, 3).grid(), [0, 1, 2, 3, -4, -3, -2, -1])
    np.testing.assert_array_equal(Precision(2, 0, signed=False).grid(), [0, 0.25, 0.5, 0.75])


@given(st.lists(values, min_size=2, max_size=2), st.integers(2, 16))
def test_covering_is_the_finest_format_that_holds_the_range(limits: list[float], bits: int) -> None:
    low, high = sorted(limits)
    assume(max(abs(low), abs(high)) > 1e-6)
    grid = Precision.covering(low, high, bits)
    assert grid.bits == bits
    assert grid.signed == (low < 0)
    assert grid.contains([low, high]).all()
    assert not Precision(bits, grid.integer - 1, grid.signed).contains([low, high]).all()


@pytest.mark.parametrize(
    ("low", "high", "grid"),
    [
        (0.0, 0.9, Precision(8, 0, signed=False)),
        (0.0, 1.0, Precision(8, 1, signed=False)),
        (-1.0, 0.9, Precision(8, 1)),
        (-1.0, 1.0, Precision(8, 2)),
        (-1.0, 0.995, Precision(8, 1)),  # rounds to the largest value, 1 - 1/128
    ],
)
def test_covering_at_powers_of_two(low: float, high: float, grid: Precision) -> None:
    assert Precision.covering(low, high, 8) == grid


def test_covering_of_nothing_but_zero() -> None:
    assert Precision.covering(0.0, 0.0, 8).contains(0.0)


def test_covering_with_a_given_sign() -> None:
    assert Precision.covering(0.0, 0.9, 8, signed=True) == Precision(8, 1)


class TestFewValues:
    """Formats of two and of three values."""

    @given(few)
    def test_text_round_trip(self, grid: Precision) -> None:
        back = Precision.parse(str(grid))
        assert back == grid
        assert type(back) is type(grid)

    @given(few)
    def test_the_values_are_few_and_the_firmware_holds_them(self, grid: Precision) -> None:
        points = grid.grid()
        assert len(points) == len(set(points.tolist())) == (3 if isinstance(grid, Ternary) else 2)
        assert (points.min(), points.max()) == (grid.minimum, grid.maximum) == (-grid.step, grid.step)
        np.testing.assert_array_equal(grid.quantize(points), points)
        np.testing.assert_array_equal(grid.fixed.quantize(points), points)
        assert (grid.fixed.step, grid.fixed.bits) == (grid.step, 2)
        assert grid != grid.fixed

    @given(few, st.lists(values, min_size=1, max_size=9))
    def test_quantize_takes_the_nearest(self, grid: Precision, numbers: list[float]) -> None:
        points = grid.grid()
        errors = np.abs(grid.quantize(numbers) - numbers)
        np.testing.assert_array_equal(errors, np.abs(np.subtract.outer(numbers, points)).min(axis=1))

    def test_ties(self) -> None:
        np.testing.assert_array_equal(Ternary(2).quantize([0.5, -0.5, 0.51, -7, 0]), [0, 0, 1, -1, 0])
        np.testing.assert_array_equal(Binary(0).quantize([0.0, -0.0, -1e-30, 1e-30, -9]), [0.5, 0.5, -0.5, 0.5, -0.5])
        assert np.isnan(Binary(0).quantize(np.nan))

    def test_bits_are_those_of_the_information(self) -> None:
        assert [(grid.bits, grid.fractional, grid.step) for grid in (Ternary(1), Binary(1))] == [(2, 1, 0.5), (1, 0, 1.0)]


class TestOddMultiplesOfHalfAStep:
    odd = st.builds(Odd, st.integers(1, 12), st.integers(-6, 12))

    @given(odd)
    def test_values_and_text(self, grid: Odd) -> None:
        points = grid.grid()
        assert len(set(points.tolist())) == 2**grid.bits
        assert (points.min(), points.max()) == (grid.minimum, grid.maximum) == (-grid.maximum, grid.maximum)
        assert (points / grid.step % 1 == 0.5).all()
        np.testing.assert_array_equal(grid.quantize(points), points)
        np.testing.assert_array_equal(grid.fixed.quantize(points), points)
        assert grid.contains(points).all()
        assert Precision.parse(str(grid)) == grid != grid.fixed

    @given(odd, st.lists(values, min_size=1, max_size=9))
    def test_quantize_takes_the_nearest(self, grid: Odd, numbers: list[float]) -> None:
        errors = np.abs(grid.quantize(numbers) - numbers)
        np.testing.assert_array_equal(errors, np.abs(np.subtract.outer(numbers, grid.grid())).min(axis=1))

    def test_the_middle_of_a_step_is_the_value(self) -> None:
        found = Odd(3, 3).quantize([0.0, -0.0, -1e-30, 0.999, 1, 99, -99, np.nan])
        np.testing.assert_array_equal(found, [0.5, 0.5, -0.5, 0.5, 1.5, 3.5, -3.5, np.nan])
        assert (str(Odd(3, 2)), Odd(3, 2).fixed) == ("odd<3,2>", Precision(4, 2))
