"""Networks whose channels have formats of their own: the same numbers in Keras, integers, adder graph and C++."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kerasnac.core.network.architecture import Architecture
from kerasnac.core.network.channel_formats import RoundingMode, quantizer
from kerasnac.core.network.exactness import output_formats
from kerasnac.core.network.kinds import Shape
from kerasnac.core.network.precision import Precision
from kerasnac.core.network.trained import Trained
from kerasnac.core.network.training import Training
from kerasnac.core.network.weights import quantized_weights
from kerasnac.errors import ConversionError, Infeasible
from tests.networks import assert_emulated, assert_exact, assert_read_again, grid_samples, layer, loud_weights

pytestmark = pytest.mark.usefixtures("keras")

GRID = Precision(9, 3)


def formats(rng: np.random.Generator, channels: int, *, signed: bool) -> list[Precision | None]:
    """Formats from none to 6 bits, some of them narrower than the values, some finer than those are rounded."""
    bits, integer = rng.integers(signed, 7, channels), rng.integers(-1, 4, channels)
    return [Precision(int(b), int(i), signed) if b > signed else None for b, i in zip(bits, integer, strict=True)]


def network(shape: Shape, seed: int, rounding: RoundingMode) -> Architecture:
    """A quantizer before, between and after layers with kernels."""
    rng = np.random.default_rng(seed)
    first = quantizer(formats(rng, shape[-1], signed=True), "down", signed=True)
    arithmetic = {"weight": "fixed<5,1>", "bias": "fixed<12,2>"}
    if len(shape) > 1:
        head = layer("conv1d", **arithmetic, filters=4, kernel=2, stride=1, padding="valid")
    else:
        head = layer("dense", **arithmetic, units=4)
    hidden = (head, quantizer(formats(rng, 4, signed=False), rounding, signed=False))
    flat = (layer("flatten"),) if len(shape) > 1 else ()
    last = quantizer(formats(rng, 6, signed=True), rounding, signed=True)
    return Architecture(shape, (first, *hidden, *flat, layer("dense", **arithmetic, units=6), last), GRID)


@given(seed=st.integers(0, 10**6), shape=st.sampled_from([(5,), (4, 2)]), rounding=st.sampled_from(["half_up", "down"]))
@settings(max_examples=15, deadline=None)
def test_keras_integers_and_adder_graph_agree(seed: int, shape: Shape, rounding: RoundingMode) -> None:
    made = network(shape, seed, rounding)
    assert_exact(made, loud_weights(made, seed), grid_samples(GRID, shape, 200, seed=seed))


@pytest.mark.parametrize(("shape", "io_type"), [((5,), "io_parallel"), ((6, 2), "io_stream")])
def test_firmware_is_exact(shape: Shape, io_type: str, tmp_path: Path) -> None:
    made = network(shape, 13, "half_up")
    assert_emulated(made, loud_weights(made, 3), grid_samples(GRID, shape, 1000), tmp_path, io_type=io_type)


def test_a_saved_model_is_read_again(tmp_path: Path) -> None:
    made = network((5,), 1, "half_up")
    assert_read_again(made, loud_weights(made), grid_samples(GRID, (5,), 100), tmp_path)


def test_without_formats_unsigned_ones_are_relus() -> None:
    kinds = [layer.kind for layer in network((5,), 1, "down").unquantized.layers]
    assert kinds == ["dense", "activation", "dense"]


def test_formats_fit_their_channels() -> None:
    made = Architecture((3,), (quantizer([Precision(4, 2)] * 2, "down", signed=True),), GRID)
    with pytest.raises(Infeasible, match="quantizer: channel_bits has 2 numbers, for 3 channels"):
        _ = made.nodes


def test_the_common_format_holds_those_of_all_channels() -> None:
    good = quantizer([Precision(4, 2), Precision(6, 1)], "down", signed=True)
    assert good.activation == Precision(7, 2)
    narrow = Architecture((2,), (good.__class__("quantizer", good.params, activation=Precision(6, 2)),), GRID)
    with pytest.raises(ConversionError, match=r"quantizer_0: channel 1 is ap_fixed<6,1>, whose numbers ap_fixed<6,2> does not"):
        output_formats(narrow, {})


@pytest.mark.parametrize("shape", [(5,), (6, 2)])
def test_bit_operations_count_the_bits_of_every_weight_and_channel(shape: Shape) -> None:
    made = network(shape, 3, "half_up")
    trained = Trained("network", made, loud_weights(made, 3, sparsity=0.4), Training(), {}, 0)
    values = quantized_weights(made, trained.weights)
    first, second = trained.layer_costs
    for cost, source in ((first, 0), (second, 2)):
        rows = values[f"{cost.layer}/kernel"].reshape(-1, cost.output_shape[-1])
        channels = np.array(made.layers[source]["channel_bits"])
        bits = np.tile(channels, len(rows) // len(channels))
        own = np.array([[len(f"{step:b}".strip("0")) for step in row] for row in np.abs(rows * 2**4).astype(int)])
        assert (cost.weight_bits, cost.activation_bits) == pytest.approx((own.mean(), bits.mean()))
        each = (own * bits[:, None]).mean() + own.mean() + bits.mean() + np.log2(len(rows))
        assert cost.bops == pytest.approx(cost.macs * each)
    assert trained.bops == sum(cost.bops for cost in trained.layer_costs)
