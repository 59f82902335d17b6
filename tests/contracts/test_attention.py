"""Attentions of any heads, on maps and sets, alone and in transformers: one network in four evaluations."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from kerasnac.adapters.keras.predict import activation_ranges, predict
from kerasnac.core.data.dataset import Split, Task
from kerasnac.core.network.architecture import Architecture
from kerasnac.core.network.bops import costs
from kerasnac.core.network.precision import Precision
from kerasnac.core.network.quantization import quantize
from kerasnac.core.network.trained import Trained
from kerasnac.core.network.training import Training
from kerasnac.core.network.weights import fold
from kerasnac.core.space.blocks import Attention, Transformer
from kerasnac.errors import Infeasible
from kerasnac.stages.firmware.delivery import make_firmware
from kerasnac.testing import BlockContract
from tests.integers import predict_in_integers
from tests.networks import grid_samples, normal_weights, only

GRID = Precision(7, 2)

sizes = st.integers(1, 3)
heads = {"heads": st.integers(1, 4), "scaled": st.booleans()}
attentions = st.fixed_dictionaries(
    {"block": st.just("attention"), "width": sizes, "scores": st.sampled_from(["softmax", "relu"]), **heads}
)
transformers = st.fixed_dictionaries(
    {
        "block": st.just("transformer"),
        "width": st.integers(2, 4),
        "depth": st.integers(1, 2),
        "head_width": sizes,
        "hidden": sizes,
        "norm": st.sampled_from(["none", "batch", "layer"]),
        "activation": st.sampled_from(["relu", "gelu"]),
        "aggregate": st.sampled_from(["mean", "max"]),
        **heads,
    }
)
maps, sets = st.tuples(st.integers(1, 3), st.integers(2, 3), sizes), st.tuples(st.sampled_from([2, 4]), sizes)


@st.composite
def networks(draw: st.DrawFn) -> Architecture:
    """A network of one such block, with or without a mask where it can have one."""
    block = draw(st.one_of(attentions, transformers))
    shape = draw(sets if block["block"] == "transformer" else st.one_of(maps, sets))
    maskable = len(shape) == 2 and block.get("aggregate") != "max" and block.get("scores") != "relu"
    return only(shape, {**block, "mask": maskable and draw(st.booleans())})


def padded(x: NDArray[np.float32]) -> NDArray[np.float32]:
    """The samples, of which many lack some of their last particles."""
    there = 1 + np.arange(len(x)) % (x.shape[1] + 1)
    return x * (np.arange(x.shape[1]) < there[:, None])[(..., *[None] * (x.ndim - 2))]


def weights_of(network: Architecture, seed: int) -> dict[str, NDArray[np.float32]]:
    """Normally distributed weights with positive variances."""
    weights = normal_weights(network, seed, scale=0.7)
    return {key: abs(array) if key.endswith("variance") else array for key, array in weights.items()}


def quantized(
    network: Architecture, bits: tuple[int, int], seed: int = 0
) -> tuple[Architecture, dict[str, Any], NDArray[np.float32]]:
    """The network with formats, its weights, and samples."""
    x = padded(grid_samples(GRID, network.input_shape, 60, scale=0.4, seed=seed))
    folded, weights = fold(network, weights_of(network, seed))
    observed = activation_ranges(folded, weights, x, clip_quantile=1e-2)
    return quantize(folded, weights, observed, input_grid=GRID, weight_bits=bits[0], activation_bits=bits[1]), weights, x


@given(networks())
def test_networks_survive_json(network: Architecture) -> None:
    assert Architecture.from_json(network.to_json()) == network


@given(networks(), st.integers(2, 8))
def test_products_are_counted_head_by_head(network: Architecture, bits: int) -> None:
    """Scores: rows times columns times the width of a head, for every head; as many products of weights and values."""
    rows = {row.layer: row for row in costs(network, weight_bits=bits, activation_bits=bits)}
    for node in (node for node in network.nodes if node.layer.kind == "matmul"):
        count = dict(node.layer.params).get("heads", 1)
        channels = node.shapes[1][-1]
        positions = node.shapes[1][0]
        assert channels % count == 0
        assert rows[node.name].macs == positions * positions * channels
        assert rows[node.name].memory == 0


@pytest.mark.usefixtures("keras")
@settings(max_examples=4, deadline=None)
@given(networks(), st.tuples(st.integers(3, 8), st.integers(3, 8)), st.integers(0, 99))
def test_keras_computes_the_numbers_of_integers_and_of_the_adder_graph(
    network: Architecture, bits: tuple[int, int], seed: int
) -> None:
    pytest.importorskip("da4ml")
    from kerasnac.adapters.keras.runtime import tensorflow
    from kerasnac.adapters.rtl.adder_graph import unroll

    tensorflow().keras.backend.clear_session()
    made, weights, x = quantized(network, bits, seed)
    outputs = predict(made, weights, x)
    np.testing.assert_array_equal(outputs, predict_in_integers(made, weights, x))
    np.testing.assert_array_equal(outputs, unroll(made, weights).predict(x))


@pytest.mark.usefixtures("keras")
@pytest.mark.parametrize("shape", [(3, 2, 2), (6, 2)])
def test_the_factor_of_scores_is_no_number_of_the_firmware(shape: tuple[int, ...]) -> None:
    """The float network is the same before and after folding, and its quantized form has the layers of an unscaled one."""
    scaled, plain = (only(shape, {"block": "attention", "width": 3, "heads": 2, "scaled": s}) for s in (True, False))
    weights = weights_of(scaled, 0)
    x = grid_samples(GRID, shape, 40)
    folded, moved = fold(scaled, weights)
    np.testing.assert_allclose(predict(folded, moved, x), predict(scaled, weights, x), rtol=1e-4, atol=1e-5)
    assert [layer.kind for layer in quantized(scaled, (6, 6))[0].layers] == [layer.kind for layer in folded.layers]
    assert folded == plain
    assert np.abs(predict(plain, weights, x) - predict(scaled, weights, x)).max() > 1e-3


@pytest.mark.usefixtures("keras")
@pytest.mark.parametrize("heads", [1, 2])
def test_a_transformer_with_a_mask_sees_no_padding(heads: int) -> None:
    block = {"block": "transformer", "width": 4, "heads": heads, "head_width": 3, "hidden": 5, "depth": 2, "norm": "layer"}
    short, long = (only((count, 2), {**block, "mask": True}) for count in (3, 5))
    weights = weights_of(short, 0)
    x = grid_samples(GRID, (3, 2), 40)
    more = np.pad(x, [(0, 0), (0, 2), (0, 0)])
    np.testing.assert_allclose(predict(long, weights, more), predict(short, weights, x), rtol=1e-4, atol=1e-5)
    assert np.abs(predict(only((5, 2), block), weights, more) - predict(short, weights, x)).max() > 1e-2


@pytest.mark.parametrize(
    ("block", "message"),
    [
        ({"block": "attention", "width": 2, "scores": ["softmax", "relu"]}, "mask: true is for scores: softmax"),
        ({"block": "transformer", "width": 2, "head_width": 2, "hidden": 2, "aggregate": "max"}, "mask: true is for aggregate"),
    ],
)
def test_what_has_no_mask_is_refused(block: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        only((4, 2), {**block, "mask": True})
    with pytest.raises(Infeasible, match="attention with mask: true needs a set"):
        only((2, 2, 2), {"block": "attention", "width": 2, "mask": True})


#: A network with heads on a map, and one with heads and norms on a set.
COMPILED = {
    "attention": only((2, 2, 2), {"block": "attention", "width": 2, "heads": 2, "scaled": True}),
    "transformer": only(
        (4, 2), {"block": "transformer", "width": 3, "heads": 2, "head_width": 2, "hidden": 4, "norm": "layer", "mask": True}
    ),
}


@pytest.mark.slow  # A whole run of tests/stages/test_run.py ends with the firmware of such an attention.
@pytest.mark.usefixtures("keras")
@pytest.mark.parametrize("name", COMPILED)
def test_firmware_is_exact(name: str, tmp_path: Path) -> None:
    made, weights, x = quantized(COMPILED[name], (5, 6))
    model, labels = Trained(name, made, weights, Training(), {}, 0), np.zeros(len(x), np.int64)
    firmware = make_firmware(
        model, Split(x, labels), Task("classification", 2), folder=tmp_path / "firmware", part="xcvu13p-flga2577-2-e"
    )
    assert firmware.bit_exact, firmware.report()
    assert len(np.unique(predict(made, weights, x), axis=0)) > len(x) / 4


@pytest.mark.usefixtures("keras")
class TestMaskedAttention(BlockContract):
    """Attention of particles keeps the contract of blocks, too."""

    block = Attention(width=(1, 2), heads=(1, 2), scaled=(False, True), activation=("none", "relu"), mask=True)
    shape = (4, 3)


@pytest.mark.usefixtures("keras")
class TestMaskedTransformer(BlockContract):
    """So does a transformer with a mask."""

    block = Transformer(
        width=(2, 3), heads=(1, 2), head_width=(1, 2), hidden=(2, 3), depth=(1, 2), norm=("none", "batch"), mask=True
    )
    shape = (4, 3)
