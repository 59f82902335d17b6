"""The digits of scikit-learn, exactly on their grid."""

from __future__ import annotations

import sys

import numpy as np
import pytest

from kerasnac.core.network.precision import Precision
from kerasnac.datasets import digits
from kerasnac.errors import EnvironmentProblem


def test_brightness_is_exact() -> None:
    pytest.importorskip("sklearn")
    dataset = digits()
    train = dataset.development.train
    assert len(train) + len(dataset.development.validation) + len(dataset.open_test()) == 1797
    assert dataset.input_shape == (8, 8, 1)
    assert dataset.input_grid == Precision(5, 1, signed=False)
    assert dataset.development.saturated == 0
    np.testing.assert_array_equal(np.unique(train.x * 16), np.arange(17))
    assert dataset.task.names == tuple("0123456789")


def test_rows_and_columns_are_not_swapped() -> None:
    """A one is upright: its brightness is spread over the rows, not over the columns."""
    pytest.importorskip("sklearn")
    train = digits().development.train
    image = train.x[train.y == 1].mean(axis=(0, 3))
    assert image.sum(axis=0).std() > 2 * image.sum(axis=1).std()


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sklearn.datasets", None)
    with pytest.raises(EnvironmentProblem, match="pip install scikit-learn"):
        digits()
