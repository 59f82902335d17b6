"""Datasets: splits, input grids, the metric, and what is refused."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kerasnac.core.data.dataset import Array, Dataset, Split, Task, make_dataset
from kerasnac.core.network.precision import Precision
from kerasnac.errors import DataError

TWO_CLASSES = Task("classification", 2)
POSITION = Task("regression", 2, scale=11.0, unit="px")


def samples(n: int = 200, features: int = 3) -> tuple[Array, Array]:
    """Normal features, labels 0 and 1 in turn."""
    return np.random.default_rng(1).normal(size=(n, features)), np.arange(n) % 2


def build(x: Array, y: Array, task: Task = TWO_CLASSES, **options: Any) -> Dataset:
    return make_dataset(x, y, name="toy", task=task, **{"seed": 0, **options})


def parts(dataset: Dataset) -> list[Split]:
    return [dataset.development.train, dataset.development.validation, dataset.open_test()]


def test_every_sample_is_in_exactly_one_split() -> None:
    x = np.arange(200.0)[:, np.newaxis]
    dataset = build(x, np.arange(200) % 2, input_grid=Precision(8, 8, signed=False))
    assert [len(part) for part in parts(dataset)] == [140, 30, 30]
    together = np.concatenate([part.x for part in parts(dataset)])
    np.testing.assert_array_equal(np.sort(together, axis=0), x)
    for part in parts(dataset):
        np.testing.assert_array_equal(part.x[:, 0] % 2, part.y)


def test_the_seed_fixes_the_split() -> None:
    x, y = samples()
    first, again, other = (build(x, y, seed=seed).development.fingerprint for seed in (0, 0, 1))
    assert first == again
    assert first != other


def test_the_caller_can_split() -> None:
    x, y = samples(12)
    dataset = build(x, y, split=lambda n: (np.arange(6), np.arange(6, 9), np.arange(9, n)))
    np.testing.assert_array_equal(np.concatenate([part.y for part in parts(dataset)]), y)


def test_dtypes_and_shapes() -> None:
    x, y = samples()
    dataset = build(x, y)
    for part in parts(dataset):
        assert part.x.dtype == np.float32
        assert part.y.dtype == np.int64
    assert dataset.input_shape == dataset.development.input_shape == (3,)
    assert "toy: 140 train" in dataset.describe()
    positions = build(x, x[:, :2], POSITION)
    assert positions.development.train.y.dtype == np.float32


@settings(max_examples=50)
@given(st.integers(4, 14), st.floats(1e-3, 1e3), st.booleans(), st.sampled_from([0.0, 1e-3, 0.05]))
def test_all_samples_are_on_the_grid(bits: int, scale: float, standardize: bool, max_saturation: float) -> None:
    x, y = samples(60)
    dataset = build(x * scale, y, input_bits=bits, standardize=standardize, max_saturation=max_saturation)
    assert dataset.input_grid.bits == bits
    assert dataset.development.saturated <= max_saturation
    for part in parts(dataset):
        np.testing.assert_array_equal(dataset.input_grid.quantize(part.x), part.x)


@pytest.mark.parametrize("seed", range(5))
def test_one_outlier_among_few_samples_does_not_saturate(seed: int) -> None:
    x = np.append(np.linspace(0, 1, 14), -128.4)[:, np.newaxis]
    assert build(x, np.zeros(15), Task("regression", 1), seed=seed).development.saturated <= 1e-3


def test_standardisation_uses_the_training_split_alone() -> None:
    x, y = samples(400)
    dataset = build(5 + 3 * x, y, standardize=True, input_bits=16)
    train, _, test = parts(dataset)
    np.testing.assert_allclose(train.x.mean(0), 0, atol=1e-3)
    np.testing.assert_allclose(train.x.std(0), 1, atol=1e-3)
    assert np.abs(test.x.mean(0)).max() > 1e-3


def test_one_hot_labels_become_indices() -> None:
    x, y = samples()
    np.testing.assert_array_equal(build(x, np.eye(2)[y]).open_test().y, build(x, y).open_test().y)


def test_accuracy() -> None:
    logits = np.array([[1.0, 2.0], [3.0, 0.0], [0.0, 1.0], [5.0, 4.0]])
    assert TWO_CLASSES.score(logits, np.array([1, 0, 0, 0])) == 0.75
    assert (TWO_CLASSES.metric, TWO_CLASSES.sense) == ("accuracy", "max")
    assert TWO_CLASSES.better(0.8, 0.7)


def test_distance_is_in_the_unit_of_the_task() -> None:
    assert POSITION.score(np.array([[3.0, 4.0], [0.0, 0.0]]), np.zeros((2, 2))) == pytest.approx(11 * 2.5)
    assert (POSITION.metric, POSITION.sense) == ("distance", "min")
    assert POSITION.better(0.7, 0.8)


def broken(index: tuple[int, ...], value: float) -> Array:
    x, _ = samples()
    x[index] = value
    return x


X, Y = samples()


@pytest.mark.parametrize(
    ("x", "y", "message"),
    [
        (X[:, 0], Y, r"shape \(200,\)"),
        (X[:0], Y[:0], "at least one sample"),
        (X[:, :0], Y, "at least one sample and feature"),
        (X, Y[:-1], "200 samples but labels of shape"),
        (X, np.array(1), "200 samples but labels of shape"),
        (X.astype(str), Y, "samples have dtype"),
        (broken((7, 1), np.nan), Y, "sample 7 is NaN"),
        (broken((7, 1), 1e300), Y, "sample 7 is NaN or infinite"),
        (X, Y + 0.5, "whole numbers"),
        (X, Y + 1, "label 2 of sample 1 is outside 0..1"),
        (X, np.zeros((200, 3)), "labels have shape"),
        (X, np.where(np.arange(200) < 199, 0, 1), "has no sample of class 1"),
        (X[:3], Y[:3], "empty split"),
    ],
)
def test_refused_arrays(x: Array, y: Array, message: str) -> None:
    with pytest.raises(DataError, match=f"toy.*{message}"):
        build(x, y)


def test_refused_regression_targets() -> None:
    with pytest.raises(DataError, match="3 regression targets"):
        build(X, X, POSITION)


def test_refused_constant_feature() -> None:
    x = X.copy()
    x[:, 2] = 0.1
    with pytest.raises(DataError, match="feature 2 is constant"):
        build(x, Y, standardize=True)


def test_refused_grid_that_is_too_small() -> None:
    with pytest.raises(DataError, match=r"ap_fixed<8,1>"):
        build(X, Y, input_grid=Precision(8, 1))
    assert build(X, Y, input_grid=Precision(8, 1), max_saturation=0.5).development.saturated > 0.2


@pytest.mark.parametrize("fractions", [(0.5, 0.5), (0.7, 0.3, 0.0), (0.7, 0.2, 0.2)])
def test_refused_fractions(fractions: Any) -> None:
    with pytest.raises(DataError, match="fractions"):
        build(X, Y, fractions=fractions)


def rows(split: Split) -> list[list[float]]:
    return sorted(np.concatenate([split.x.reshape(len(split), -1), split.y.reshape(len(split), -1)], axis=1).tolist())


@settings(max_examples=20)
@given(st.integers(2, 9), st.integers(60, 90), st.booleans())
def test_folds_are_a_partition_of_the_training_and_validation_samples(count: int, size: int, regression: bool) -> None:
    x, y = samples(size)
    data = (build(x, x[:, :2], POSITION) if regression else build(x, y)).development
    folds = list(data.folds(count))
    assert len(folds) == count
    everything = sorted(rows(data.train) + rows(data.validation))
    assert sorted(row for fold in folds for row in rows(fold.validation)) == everything
    for fold in folds:
        assert sorted(rows(fold.train) + rows(fold.validation)) == everything
        assert (fold.name, fold.task, fold.input_grid) == (data.name, data.task, data.input_grid)
        assert fold.train.x.dtype == np.float32
        assert fold.train.y.dtype == data.train.y.dtype
    sizes = [len(fold.validation) for fold in folds]
    assert max(sizes) - min(sizes) <= 1 + (not regression)


def test_folds_are_stratified_by_class() -> None:
    x, _ = samples(300)
    y = (np.arange(300) % 10 == 0).astype(int)
    data = build(x, y).development
    shares = [float(np.mean(fold.validation.y)) for fold in data.folds(5)]
    everywhere = np.concatenate([data.train.y, data.validation.y])
    for share in shares:
        assert abs(share - everywhere.mean()) < 1 / len(everywhere) * 5


def test_folds_are_the_same_for_every_caller_and_all_different() -> None:
    data = build(*samples()).development
    prints = [[fold.fingerprint for fold in data.folds(4)] for _ in range(2)]
    assert prints[0] == prints[1]
    assert len({*prints[0], data.fingerprint}) == 5


def test_too_many_folds_are_refused() -> None:
    x, y = samples(60)
    y[y == 1] = (np.arange(30) % 6 == 0).astype(int)  # five samples of class 1
    data = build(x, y, fractions=(0.4, 0.3, 0.3), seed=1).development
    fewest = int(min(np.bincount(np.concatenate([data.train.y, data.validation.y]))))
    with pytest.raises(
        DataError,
        match=rf"toy: {fewest + 1} folds .*\b{fewest}\b",
    ):
        list(data.folds(fewest + 1))
    assert len(list(data.folds(fewest))) == fewest
    with pytest.raises(DataError, match=r"toy: 52 folds .*\b51\b"):
        list(build(x, x, Task("regression", 3)).development.folds(52))


def test_folds_hold_no_test_sample() -> None:
    dataset = build(*samples())
    test = {sample.tobytes() for sample in dataset.open_test().x}
    for fold in dataset.development.folds(3):
        assert test.isdisjoint(sample.tobytes() for split in (fold.train, fold.validation) for sample in split.x)
