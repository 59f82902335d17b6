"""Arrays in one vector come back as they were."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kerasnac.adapters.keras.engine.layout import Layout

SHAPES = st.dictionaries(st.text("abc/", min_size=1), st.lists(st.integers(1, 4), max_size=4).map(tuple), max_size=6)


def arrays(shapes: dict[str, tuple[int, ...]]) -> dict[str, Any]:
    rng = np.random.default_rng(0)
    return {key: rng.normal(size=shape).astype(np.float32) for key, shape in shapes.items()}


@given(SHAPES)
def test_what_is_joined_is_split_again(shapes: dict[str, tuple[int, ...]]) -> None:
    layout, given_ = Layout(shapes), arrays(shapes)
    vector = layout.join({**given_, "more": np.ones(3)})
    assert vector.dtype == np.float32
    assert vector.shape == (layout.size,)
    back = layout.split(vector)
    assert list(back) == list(shapes)
    for key, value in given_.items():
        np.testing.assert_array_equal(back[key], value)


@pytest.mark.usefixtures("keras")
@pytest.mark.parametrize("shapes", [{}, {"a": (2, 3)}, {"a": (), "b/c": (4, 1, 2), "a/a": (3,)}])
def test_tensors_lie_where_arrays_lie(shapes: dict[str, tuple[int, ...]]) -> None:
    layout, given_ = Layout(shapes), arrays(shapes)
    vector = layout.join_tensors(given_)
    np.testing.assert_array_equal(vector, layout.join(given_))
    back = layout.split_tensor(vector)
    assert list(back) == list(shapes)
    for key, value in given_.items():
        np.testing.assert_array_equal(back[key], value)


def test_the_first_array_lies_first() -> None:
    assert Layout({"b": (2,), "a": (1,)}).join({"a": [3], "b": [1, 2]}).tolist() == [1, 2, 3]
