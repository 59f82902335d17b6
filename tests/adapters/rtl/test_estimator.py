"""Costs of candidates before they are trained: of drawn weights."""

from __future__ import annotations

import pickle
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from kerasnac.adapters.rtl.estimator import AdderGraphEstimator
from kerasnac.core.data.dataset import Dataset, Task, make_dataset
from kerasnac.core.hardware.boards import Board, board
from kerasnac.core.hardware.estimators import SOURCES, Estimator
from kerasnac.core.hardware.timing import TIMED
from kerasnac.core.network.architecture import Architecture
from kerasnac.core.network.layers import LayerSpec
from kerasnac.core.settings import CandidateGraphSettings
from kerasnac.core.space.blocks import Attention, Conv, Mlp
from kerasnac.core.space.search_space import SearchSpace

pytest.importorskip("da4ml")

SETTINGS = CandidateGraphSettings(weight_bits=5, activation_bits=5, sparsity=0.5)


BOARD = replace(board("pynq-z2"), lut=1000)


def estimator(settings: CandidateGraphSettings = SETTINGS, entry: Board = BOARD, seed: int = 0) -> Estimator:
    return AdderGraphEstimator(settings, entry, seed)


def candidates(space: SearchSpace, count: int = 3) -> list[Architecture]:
    rng = np.random.default_rng(0)
    return [space.decode(space.sample_feasible(rng)).architecture for _ in range(count)]


def cost(data: Dataset, architecture: Architecture, metric: str = "adder_luts", **options: Any) -> float:
    (costs,) = estimator(CandidateGraphSettings(**{**SETTINGS.model_dump(), **options})).estimate(
        data.development, [architecture]
    )
    assert not isinstance(costs, str)
    return costs[metric]


def test_estimates_depend_on_the_candidate_alone(keras: Any, mlp_space: SearchSpace, vector_classes: Dataset) -> None:
    data, networks = vector_classes.development, candidates(mlp_space)
    together = estimator().estimate(data, networks)
    again = pickle.loads(pickle.dumps(estimator()))
    assert [again.estimate(data, [network])[0] for network in reversed(networks)] == together[::-1]
    assert len({str(costs) for costs in together}) == len(networks)
    assert estimator(seed=1).estimate(data, networks) != together


def test_estimates_have_all_metrics(keras: Any, mlp_space: SearchSpace, vector_classes: Dataset) -> None:
    (network,) = candidates(mlp_space, 1)
    (costs,) = estimator().estimate(vector_classes.development, [network])
    assert isinstance(costs, dict)
    assert set(costs) == set(SOURCES[estimator().source]) - {*TIMED}
    assert costs["adder_percent"] == pytest.approx(costs["adder_luts"] / 10)


def test_settings_move_the_estimate(keras: Any, mlp_space: SearchSpace, vector_classes: Dataset) -> None:
    (network,) = candidates(mlp_space, 1)
    usual = cost(vector_classes, network)
    assert cost(vector_classes, network, sparsity=0.8) < usual < cost(vector_classes, network, sparsity=0.0)
    assert cost(vector_classes, network, weight_bits=2) < usual < cost(vector_classes, network, weight_bits=8)
    assert cost(vector_classes, network, activation_bits=3) < usual < cost(vector_classes, network, activation_bits=8)
    stages = [cost(vector_classes, network, "adder_stages", latency_cutoff=levels) for levels in (1, 4)]
    assert stages[0] > stages[1]


def test_a_layers_own_width_wins(keras: Any, vector_classes: Dataset) -> None:
    def network(**widths: int) -> Architecture:
        own = {name: {name: bits} for name, bits in widths.items()}
        layers = (
            LayerSpec.of("dense", units=8, **own.get("weight_bits", {})),
            LayerSpec.of("activation", fn="relu", **own.get("activation_bits", {})),
            LayerSpec.of("dense", units=3),
        )
        return Architecture((6,), layers)

    for name in ("weight_bits", "activation_bits"):
        narrow, wide = (cost(vector_classes, network(**{name: bits})) for bits in (2, 9))
        assert narrow < cost(vector_classes, network()) < wide
        assert cost(vector_classes, network(**{name: 9}), **{name: 2}) > narrow


def test_norms_are_folded_and_maps_unrolled(keras: Any, conv_space: SearchSpace, map_positions: Dataset) -> None:
    normed = next(a for a in candidates(conv_space, 20) if any(spec.kind == "batch_norm" for spec in a.layers))
    assert cost(map_positions, normed) > 0


def test_keys_tell_estimates_apart() -> None:
    others = [estimator(CandidateGraphSettings()), estimator(entry=board("zcu102")), estimator(seed=1)]
    assert estimator().key == estimator().key
    assert len({e.key for e in (estimator(), *others)}) == 4


def test_a_large_candidate_is_infeasible_and_harms_no_other(keras: Any) -> None:
    rng = np.random.default_rng(0)
    data = make_dataset(
        rng.normal(size=(60, 24, 24, 2)), np.arange(60) % 4, name="maps", task=Task("classification", 4), seed=0
    )
    wide: Any = {"kernel": 3, "stride": 1, "padding": "valid"}
    large = (
        LayerSpec.of("conv2d", filters=16, **wide),
        LayerSpec.of("activation", fn="relu"),
        LayerSpec.of("conv2d", filters=16, **wide),
    )
    small = (LayerSpec.of("pool", op="max", size=0), LayerSpec.of("dense", units=4))
    networks = [Architecture((24, 24, 2), layers) for layers in ((*large, *small), small)]
    reason, costs = estimator().estimate(data.development, networks)
    assert "too large to unroll" in str(reason)
    assert isinstance(costs, dict)


def test_spaces_of_all_blocks_are_estimated(mlp_space: SearchSpace, conv_space: SearchSpace) -> None:
    norms = SearchSpace(input=6, outputs=3, blocks=(Mlp(widths=((4,),)), Mlp(widths=((4,),), norm=("none", "layer"))))
    attention = SearchSpace(input=(4, 4, 1), outputs=3, blocks=(Conv(channels=(2,)), Attention(width=(2,))))
    for space in (mlp_space, conv_space, attention, norms):
        estimator().check(space)
