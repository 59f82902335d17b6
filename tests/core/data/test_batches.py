"""Every epoch shows every sample once."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from kerasnac.core.data.batches import batches

COUNTS, SIZES, SEEDS, EPOCHS = st.integers(1, 200), st.integers(1, 70), st.integers(0, 2**40), st.integers(0, 50)


@given(COUNTS, SIZES, SEEDS, EPOCHS)
def test_every_sample_comes_once_per_epoch(count: int, size: int, seed: int, epoch: int) -> None:
    order = batches(count, size, seed=seed, epoch=epoch)
    assert order.dtype == np.int32
    assert order.shape == (-(-count // size), size)
    flat = order.ravel()
    assert sorted(flat[:count]) == list(range(count))
    assert (flat[count:] == -1).all()


@given(SEEDS, EPOCHS)
def test_the_order_depends_on_seed_and_epoch_alone(seed: int, epoch: int) -> None:
    order = batches(64, 16, seed=seed, epoch=epoch)
    np.testing.assert_array_equal(order, batches(64, 16, seed=seed, epoch=epoch))
    assert (order != batches(64, 16, seed=seed, epoch=epoch + 1)).any()
    assert (order != batches(64, 16, seed=seed + 1, epoch=epoch)).any()


@given(COUNTS, SIZES, SIZES, SEEDS)
def test_the_size_of_the_batches_does_not_change_the_order(count: int, size: int, other: int, seed: int) -> None:
    orders = [batches(count, s, seed=seed, epoch=3).ravel()[:count] for s in (size, other)]
    np.testing.assert_array_equal(*orders)
