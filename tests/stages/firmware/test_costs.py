"""Costs of a trained network by all sources, side by side."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from kerasnac.core.hardware.estimators import SOURCES
from kerasnac.core.network.bops import bops
from kerasnac.core.network.precision import Precision
from kerasnac.core.network.trained import Trained
from kerasnac.core.network.training import Training
from kerasnac.core.settings import AdderGraphSettings, Rule4mlSettings
from kerasnac.errors import ConfigError
from kerasnac.stages.firmware.costs import HardwareCosts, hardware_costs
from tests.networks import mlp, normal_weights

WEIGHT, BIAS, GRID = Precision(4, 1), Precision(8, 2), Precision(6, 2)


@pytest.fixture(scope="module")
def model() -> Trained:
    """4 -> 8 -> 2 with a ReLU, 4-bit weights of which about half are zero."""
    architecture = mlp(4, 8, 2)
    formats = {"dense": {"weight": WEIGHT, "bias": BIAS}, "activation": {"activation": Precision(6, 2, signed=False)}}
    quantized = architecture.rewritten(lambda node: (replace(node.layer, **formats[node.layer.kind]),), input=GRID)
    return Trained("tiny", quantized, normal_weights(quantized, scale=0.5, zeros=0.5), Training(), {}, 0)


@pytest.fixture(scope="module")
def costs(model: Trained) -> HardwareCosts:
    return hardware_costs(model, board="pynq-z2", adder_graph=AdderGraphSettings(latency_cutoff=2))


def test_layers_have_the_zeros_of_the_quantized_weights(costs: HardwareCosts, model: Trained) -> None:
    first, second = costs.layers
    assert (first.macs, first.weight_bits, first.activation_bits) == (32, 4, 6)
    assert second.output_shape == (2,)
    assert {layer.layer: layer.sparsity for layer in costs.layers} == model.layer_sparsity
    assert 0.3 < first.sparsity < 0.9
    assert costs.bops == model.bops == bops(model.architecture, sparsity=model.layer_sparsity)


def test_memory_counts_weights_and_biases_at_their_widths(costs: HardwareCosts) -> None:
    assert costs.memory == (4 * 8 + 8 * 2) * 4 + (8 + 2) * 8


def test_the_adder_graph_is_that_of_the_weights(costs: HardwareCosts, model: Trained) -> None:
    pytest.importorskip("da4ml")
    found = costs.estimates["adder_graph"]
    assert isinstance(found, dict)
    assert set(found) == set(SOURCES["adder_graph"])
    assert found["adder_percent"] == pytest.approx(100 * found["adder_luts"] / 53_200)
    pruned = replace(model, weights={name: value * (np.abs(value) > 0.5) for name, value in model.weights.items()})
    fewer = hardware_costs(pruned).estimates["adder_graph"]
    assert isinstance(fewer, dict)
    assert fewer["adder_luts"] < found["adder_luts"]


def test_a_board_that_rule4ml_does_not_know_is_a_reason(model: Trained) -> None:
    pytest.importorskip("rule4ml")
    assert "does not know the board zcu104" in str(hardware_costs(model, board="zcu104").estimates["rule4ml"])
    with pytest.raises(ConfigError, match="zcu104"):
        hardware_costs(model, board="zcu104", rule4ml=Rule4mlSettings())


def test_rule4ml_is_asked_with_the_width_of_the_weights(costs: HardwareCosts, model: Trained) -> None:
    pytest.importorskip("rule4ml")
    found = costs.estimates["rule4ml"]
    assert isinstance(found, dict)
    assert set(found) == set(SOURCES["rule4ml"])
    same = hardware_costs(model, board="pynq-z2", rule4ml=Rule4mlSettings(precision="ap_fixed<4,1>"))
    wider = hardware_costs(model, board="pynq-z2", rule4ml=Rule4mlSettings(precision="ap_fixed<12,1>"))
    assert same.estimates["rule4ml"] == found != wider.estimates["rule4ml"]


def test_a_source_that_cannot_say_anything_says_why(model: Trained) -> None:
    layers = (replace(model.architecture.layers[0], weight=Precision(5, 1)), *model.architecture.layers[1:])
    mixed = hardware_costs(replace(model, architecture=replace(model.architecture, layers=layers)))
    assert "[4, 5] bits" in str(mixed.estimates["rule4ml"])
    plain = replace(model, architecture=model.architecture.rewritten(lambda node: (node.layer,)))
    layers = tuple(replace(layer, weight=None, bias=None, activation=None) for layer in plain.architecture.layers)
    floating = hardware_costs(replace(plain, architecture=replace(plain.architecture, layers=layers, input=None)))
    assert "not quantized" in str(floating.estimates["adder_graph"])
    assert floating.layers[0].weight_bits == 32


def test_an_unknown_board_is_refused(model: Trained) -> None:
    with pytest.raises(ConfigError, match="zcu9"):
        hardware_costs(model, board="zcu9")


def test_the_luts_have_causes(costs: HardwareCosts, model: Trained) -> None:
    pytest.importorskip("da4ml")
    from kerasnac.ui.costs import luts
    from kerasnac.ui.tables import as_text

    found = costs.estimates["adder_graph"]
    assert isinstance(found, dict)
    assert sum(sum(causes.values()) for causes in costs.luts.values()) == pytest.approx(found["adder_luts"])
    text = as_text(luts(costs))
    assert f"{costs.luts['activation_0']['ties']:,.0f}" in text
    assert f"{found['adder_luts']:,.0f}" in text
