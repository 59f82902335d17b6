"""Molds that a whole search shares."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest

from kerasnac.core.network.mold import fitting, macs
from kerasnac.core.space.blocks import Attention, Mlp
from kerasnac.core.space.search_space import SearchSpace
from kerasnac.core.space.shared_molds import CAPS, SAVING, SHARED, shared_molds
from kerasnac.errors import SpaceError

WIDE = SearchSpace(input=16, outputs=5, blocks=(Mlp(widths=((8, 16, 32, 64, 128),) * 4, depth=(1, 2, 3, 4), shared=True),))


def test_one_mold_holds_all_networks_of_an_mlp_space(mlp_space: SearchSpace) -> None:
    (mold,) = shared_molds(mlp_space)
    rng = np.random.default_rng(5)
    for _ in range(50):
        network = mlp_space.decode(mlp_space.sample(rng)).architecture
        assert fitting([mold], network) == mold


def test_they_depend_on_the_space_alone(conv_space: SearchSpace) -> None:
    np.random.seed(3)
    first = shared_molds(conv_space)
    np.random.seed(4)
    assert shared_molds(conv_space.model_copy()) == first


def test_there_are_smaller_ones_for_narrow_networks_and_the_smallest_come_first() -> None:
    found = shared_molds(WIDE)
    assert len(found) > 1
    costs = [macs(mold) for mold in found]
    assert all(SAVING * small <= large for small, large in pairwise(costs))
    rng = np.random.default_rng(6)
    networks = [WIDE.decode(WIDE.sample(rng)).architecture for _ in range(100)]
    for network in networks:
        assert found[-1].place(network) is not None
    for mold in found:
        shared = [network for network in networks if fitting(found, network) == mold]
        assert shared
        units = [cell.units for cell in mold.cells]
        assert max(units) in (*CAPS, 128)
        for network in shared:
            assert mold.place(network) is not None


def test_what_few_networks_share_is_left_out(conv_space: SearchSpace) -> None:
    found = shared_molds(conv_space)
    rng = np.random.default_rng(7)
    networks = [conv_space.decode(conv_space.sample_feasible(rng)).architecture for _ in range(300)]
    for mold in found:
        assert np.mean([mold.place(network) is not None for network in networks]) > SHARED / 2


def test_a_space_of_attention_on_vectors_has_none() -> None:
    assert shared_molds(SearchSpace(input=(3,), outputs=2, blocks=(Attention(width=(1, 2)),))) == ()


def test_a_space_without_candidates_has_none(mlp_space: SearchSpace, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(self: SearchSpace, rng: np.random.Generator) -> None:
        raise SpaceError("no candidate")

    monkeypatch.setattr(SearchSpace, "sample_feasible", refuse)
    assert shared_molds(mlp_space) == ()
