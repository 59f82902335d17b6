"""Confidence intervals of metrics."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kerasnac.core.data import bootstrap as module
from kerasnac.core.data.bootstrap import Score, bootstrap

NUMBERS = st.lists(st.floats(0, 1e3, width=32), min_size=2, max_size=50)


@given(scores=NUMBERS, seed=st.integers(0, 2**31 - 1))
def test_the_interval_holds_the_value(scores: list[float], seed: int) -> None:
    score = bootstrap(np.array(scores), seed=seed)
    assert score.value == np.mean(scores)
    assert score.low <= score.value + 1e-9
    assert score.high >= score.value - 1e-9


@given(scores=NUMBERS, times=st.integers(4, 20))
def test_the_interval_shrinks_with_more_samples_of_the_same_kind(scores: list[float], times: int) -> None:
    few, many = bootstrap(np.array(scores), seed=0), bootstrap(np.tile(scores, times), seed=0)
    assert many.value == pytest.approx(few.value)
    assert many.high - many.low <= 0.75 * (few.high - few.low) + 1e-9


@given(value=st.floats(0, 1e3), count=st.integers(1, 100))
def test_equal_scores_leave_no_doubt(value: float, count: int) -> None:
    score = bootstrap(np.full(count, value), seed=0)
    assert score.low == pytest.approx(value, rel=1e-12)
    assert score.high == pytest.approx(value, rel=1e-12)


@given(seed=st.integers(0, 2**31 - 1))
@settings(max_examples=5)
def test_it_is_that_of_a_binomial(seed: int) -> None:
    right = np.arange(2000) % 4 > 0
    score = bootstrap(right.astype(float), seed=seed)
    deviation = np.sqrt(0.75 * 0.25 / 2000)
    assert score.value == 0.75
    assert (score.high - score.low) / 2 == pytest.approx(1.96 * deviation, rel=0.1)


def test_about_95_of_100_intervals_hold_the_truth() -> None:
    rng = np.random.default_rng(0)
    intervals = [bootstrap(rng.exponential(size=300), seed=i, resamples=1000) for i in range(200)]
    assert 0.9 <= np.mean([score.low <= 1 <= score.high for score in intervals]) <= 0.99


def test_it_depends_on_the_seed_alone_and_not_on_the_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    scores = np.random.default_rng(0).uniform(size=100)
    first = bootstrap(scores, seed=1)
    assert first == bootstrap(scores, seed=1) != bootstrap(scores, seed=2)
    monkeypatch.setattr(module, "_BATCH", 700)
    parts = bootstrap(scores, seed=1)
    assert (parts.low, parts.high) == pytest.approx((first.low, first.high), abs=0.01)


def test_no_interval_where_a_score_is_missing() -> None:
    score = bootstrap(np.array([1.0, np.nan]), seed=0)
    assert np.isnan([score.value, score.low, score.high]).all()


def test_two_models_are_scored_on_the_same_resampled_sets() -> None:
    scores = np.random.default_rng(0).uniform(size=50)
    first, second = bootstrap(scores, seed=3), bootstrap(scores + 1, seed=3)
    assert (second.low, second.high) == pytest.approx((first.low + 1, first.high + 1))


def test_many_samples_take_little_memory() -> None:
    scores = np.random.default_rng(0).uniform(size=200_000)
    tracemalloc.start()
    bootstrap(scores, seed=0, resamples=60)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 200e6


def test_it_reads_as_a_physicist_writes_it() -> None:
    assert str(Score(0.65512, 0.65118, 0.65904)) == "0.6551 [0.6512, 0.6590]"
