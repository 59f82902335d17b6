"""Filters of readout traces."""

from __future__ import annotations

import numpy as np
import pytest

from kerasnac.core.classical.readout import _threshold, boxcar, matched_filter

rng = np.random.default_rng(0)
Y = np.arange(4000) % 2
SHAPE = np.sin(np.linspace(0, np.pi, 40))[:, np.newaxis] * np.array([1.0, -0.5])
X = (rng.normal(size=(4000, 40, 2)) + 0.25 * SHAPE * (2 * Y - 1)[:, np.newaxis, np.newaxis] + 3.0).astype(np.float32)


def accuracy(found: object, x: np.ndarray, y: np.ndarray) -> float:
    return float(np.mean(found(x).argmax(axis=1) == y))  # type: ignore[operator]


def test_a_matched_filter_is_that_of_the_signal() -> None:
    found = matched_filter(X[:3000], Y[:3000], 0, 40)
    cosine = np.sum(found.weights * SHAPE) / np.linalg.norm(found.weights) / np.linalg.norm(SHAPE)
    assert cosine > 0.95
    from scipy.stats import norm

    best = norm.cdf(0.25 * np.linalg.norm(SHAPE))
    assert accuracy(found, X[3000:], Y[3000:]) == pytest.approx(best, abs=0.03)


def test_a_boxcar_weighs_all_samples_alike_and_finds_the_best_direction() -> None:
    found = boxcar(X[:3000], Y[:3000], 5, 30)
    assert found.start == 5
    np.testing.assert_array_equal(found.weights, np.tile(found.weights[0], (30, 1)))
    assert found.weights[0, 1] / found.weights[0, 0] == pytest.approx(-0.5, abs=0.15)
    assert 0.8 < accuracy(found, X[3000:], Y[3000:]) < 0.97


def test_a_filter_reads_its_window_alone() -> None:
    found = matched_filter(X, Y, 10, 20)
    other = X.copy()
    other[:, :10] = 0
    other[:, 30:] = 0
    np.testing.assert_array_equal(found(X), found(other))


@pytest.mark.parametrize(
    ("sums", "states", "right"),
    [
        ([0.0, 1.0, 2.0, 3.0], [0, 0, 1, 1], 4),
        ([0.0, 1.0, 2.0, 3.0], [1, 1, 1, 1], 4),
        ([0.0, 1.0], [1, 0], 1),
        ([1.0, 2.0], [0, 0], 2),
    ],
)
def test_the_threshold_has_the_most_right_calls(sums: list[float], states: list[int], right: int) -> None:
    threshold = _threshold(np.array(sums), np.array(states))
    assert np.sum((np.array(sums) > threshold) == np.array(states)) == right
