"""Formats of reciprocals: fine enough for the results, and no finer."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kerasnac.core.network.means import needs_reciprocal, reciprocal, reciprocal_format
from kerasnac.core.network.precision import Precision


@given(st.integers(1, 5000), st.integers(2, 16))
def test_the_error_stays_below_half_a_step_of_the_result(count: int, bits: int) -> None:
    grid = reciprocal_format([count], bits)
    assert not grid.signed
    assert abs(reciprocal(count, grid) * count - 1) < 2.0 ** -(bits + 1)
    assert grid.bits <= bits + 2
    if grid.bits > 1:
        coarser = Precision(grid.bits - 1, grid.integer, signed=False)
        assert abs(reciprocal(count, coarser) * count - 1) >= 2.0 ** -(bits + 1)


def test_one_format_for_several_numbers_of_values() -> None:
    grid = reciprocal_format(range(1, 9), 8)
    assert reciprocal(1, grid) == 1
    assert all(abs(reciprocal(count, grid) * count - 1) < 2**-9 for count in range(1, 9))


@pytest.mark.parametrize(("count", "needed"), [(1, False), (2, False), (3, True), (8, False), (12, True), (4096, False)])
def test_powers_of_two_need_no_reciprocal(count: int, needed: bool) -> None:
    assert needs_reciprocal(count) is needed
