"""Bit operations by the rules of published studies give the published totals."""

from __future__ import annotations

import pytest

from kerasnac import baselines
from kerasnac.core.network.architecture import Architecture
from kerasnac.core.network.bops import costs
from kerasnac.core.network.published_bops import published_bops, published_by_layer
from kerasnac.core.space.blocks import Mlp
from kerasnac.core.space.search_space import SearchSpace


def perceptron(inputs: int, outputs: int, *widths: int) -> Architecture:
    return SearchSpace(input=(inputs,), outputs=outputs, blocks=(Mlp(widths=list(widths)),)).decode(()).architecture


@pytest.mark.parametrize(
    ("rule", "network", "published"),
    [
        ("nac", baselines.get("braggnn"), 1106e6),
        ("nac", baselines.get("nac_bragg"), 85e6),
        ("nac_dense", perceptron(800, 1, 4), 3_487_250),
        ("weights", perceptron(24, 5, 64, 32, 16, 32), 4_768),
    ],
)
def test_totals(rule: str, network: Architecture, published: float) -> None:
    assert published_bops(rule, network, costs(network)) == pytest.approx(published, rel=0.003 if rule == "nac" else 1e-6)


def test_zeros_and_widths_count() -> None:
    network = perceptron(24, 5, 16)
    full = published_bops("nac", network, costs(network, weight_bits=8, activation_bits=8))
    half = published_bops("nac", network, costs(network, weight_bits=8, activation_bits=8, sparsity=0.5))
    assert full is not None
    assert half is not None
    assert full - half == pytest.approx(0.5 * 64 * (24 * 16 + 16 * 5))
    assert published_bops("weights", network, costs(network, sparsity=0.5)) == (24 * 16 + 16 * 5) / 2


def test_layers_that_a_rule_does_not_know_have_no_count() -> None:
    network = baselines.get("deep_sets_tiny")
    assert published_bops("nac", network, costs(network)) is None
    assert published_by_layer("weights", baselines.get("braggnn"), costs(baselines.get("braggnn"))) is None
