from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kerasnac.core.network.precision import Precision
from kerasnac.errors import ConversionError, DataError
from kerasnac.stages.firmware.comparison import InputCheck, Mismatch, compare, on_grid

GRID = Precision(6, 3)  # steps of 1/8, from -4 to 3.875


def test_differences_are_counted_in_units_of_the_last_bit() -> None:
    keras = np.array([[1.0, 2.0, 0.5], [0.0, -1.0, 0.25]], np.float32)
    firmware = keras.copy()
    firmware[1] = [0.0, -1.0, -0.125]
    found = compare(firmware, keras, GRID, classes=True)
    assert (found.samples, found.outputs, found.mismatches, found.max_abs_error, found.max_ulp) == (2, 6, 1, 0.375, 3)
    assert found.first_mismatch == Mismatch(1, 2, 0.25, -0.125)
    assert found.same_decision == 1
    assert not found.equal
    assert compare(firmware, keras, GRID).same_decision is None


def test_equal_outputs_are_bit_exact() -> None:
    keras = np.zeros((2, 3), np.float32)
    found = compare(keras, keras, GRID, classes=True)
    assert found.equal
    assert found.lines()[0] == "bit-exact: 6 of 6 outputs equal"
    assert found.lines()[-1] == "same decision: 2 of 2 samples"


def test_samples_off_the_grid_and_beyond_its_range_are_counted_apart() -> None:
    x = np.array([[0.125, 3.875], [0.126, 0.0], [4.0, 0.0], [-4.125, 0.01], [-4.0, 3.9]])
    values, found = on_grid(x, GRID)
    assert found == InputCheck(samples=5, off_grid=3, out_of_range=2)
    assert values.tolist() == [[0.125, 3.875], [0.125, 0.0], [3.875, 0.0], [-4.0, 0.0], [-4.0, 3.875]]
    assert values.dtype == np.float32


@given(st.lists(st.integers(-(2**5), 2**5 - 1), min_size=1, max_size=20))
def test_what_is_on_the_grid_stays_as_it_is(raw: list[int]) -> None:
    x = np.array(raw)[:, None] * GRID.step
    values, found = on_grid(x, GRID)
    np.testing.assert_array_equal(values, x)
    assert str(found) == "inputs: all samples are on the grid"


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_what_is_no_number_is_named(bad: float) -> None:
    with pytest.raises(DataError, match="sample 1 "):
        on_grid(np.array([[0.0], [bad]]), GRID)


def test_outputs_of_another_shape_are_no_comparison() -> None:
    with pytest.raises(ConversionError, match=r"\(2, 3\).*\(2, 2\)"):
        compare(np.zeros((2, 3), np.float32), np.zeros((2, 2), np.float32), GRID)
