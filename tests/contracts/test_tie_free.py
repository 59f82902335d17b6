"""Networks whose biases keep all sums off the ties of rounding: the same numbers in Keras, integers, adder graph and C++."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kerasnac.adapters.keras.predict import activation_ranges
from kerasnac.adapters.rtl.adder_graph import unroll
from kerasnac.core.network.architecture import Architecture
from kerasnac.core.network.layers import LayerSpec
from kerasnac.core.network.precision import Odd, Precision
from kerasnac.core.network.quantization import quantize
from kerasnac.core.network.weights import fold
from kerasnac.core.network.widths import Width
from kerasnac.errors import ConfigError
from tests.integers import predict_in_integers
from tests.networks import (
    Arrays,
    activation,
    assert_emulated,
    assert_exact,
    assert_read_again,
    dense,
    grid_samples,
    layer,
    normal_weights,
)

pytestmark = pytest.mark.usefixtures("keras")

GRID = Precision(6, 2)


def conv(rank: int, filters: int) -> LayerSpec:
    return layer(f"conv{rank}d", filters=filters, kernel=2, stride=1, padding="same")


FLATTEN = LayerSpec.of("flatten")

#: Networks, and the layers with odd biases: those whose sums activations round, and nothing else reads.
NETWORKS: Mapping[str, tuple[Architecture, tuple[str, ...]]] = {
    "vectors": (
        Architecture(
            (5,),
            (dense(6), activation("relu"), dense(5), activation("tanh"), dense(4), activation("leaky_relu"), dense(3)),
        ),
        ("dense_0", "dense_1", "dense_2"),
    ),
    "maps": (
        Architecture(
            (4, 3, 1),
            (
                conv(2, 3),
                activation("relu"),
                conv(2, 2),
                layer("pool", op="max", size=2),
                activation("relu"),
                FLATTEN,
                dense(3),
            ),
        ),
        ("conv2d_0",),
    ),
    "sums that are flattened": (
        Architecture((4, 2), (conv(1, 2), FLATTEN, activation("none"), dense(3), activation("relu"))),
        ("conv1d_0", "dense_0"),
    ),
    "residuals": (
        Architecture(
            (4,), (dense(4), activation("relu"), dense(4), LayerSpec.of("add", inputs=(-1, -2)), activation("relu"), dense(3))
        ),
        ("dense_0",),
    ),
    "norms": (
        Architecture((4,), (dense(4), layer("layer_norm", axes="all"), activation("relu"), dense(3), activation("relu"))),
        ("dense_1",),
    ),
}

every_network = pytest.mark.parametrize("name", NETWORKS)


def tie_free(
    architecture: Architecture, seed: int = 0, weight_bits: Width = 4, activation_bits: int = 4, **options: Any
) -> tuple[Architecture, Arrays]:
    """The network with formats and random weights."""
    folded, weights = fold(architecture, normal_weights(architecture, seed, zeros=0.4))
    observed = activation_ranges(folded, weights, samples(architecture, seed), clip_quantile=1e-2)
    widths = {"weight_bits": weight_bits, "activation_bits": activation_bits}
    return quantize(folded, weights, observed, input_grid=GRID, **widths, **{"tie_free": True, **options}), weights


def samples(architecture: Architecture, seed: int = 0) -> Any:
    return grid_samples(GRID, architecture.input_shape, 300, seed=seed)


def odd_biases(architecture: Architecture) -> tuple[str, ...]:
    return tuple(node.name for node in architecture.nodes if isinstance(node.layer.bias, Odd))


@every_network
def test_biases_of_sums_that_activations_round_are_odd(name: str) -> None:
    plain, expected = NETWORKS[name]
    made, _ = tie_free(plain, weight_bits=6)
    assert odd_biases(made) == expected
    assert odd_biases(tie_free(plain, tie_free=False)[0]) == ()


@every_network
@pytest.mark.parametrize(("weight_bits", "activation_bits"), [(4, 4), (3, 6), ("ternary", 3), ("binary", 1), (2, 1)], ids=str)
def test_keras_integers_and_adder_graph_agree(name: str, weight_bits: Width, activation_bits: int) -> None:
    made, weights = tie_free(NETWORKS[name][0], 1, weight_bits, activation_bits)
    assert_exact(made, weights, samples(made, 1))


def ties(made: Architecture, weights: Arrays, x: Any) -> int:
    """Number of sums of the first layer that lie between two numbers of the activation after it, at the same distance."""
    sums = predict_in_integers(Architecture(made.input_shape, made.layers[:1], made.input), weights, x)
    out = made.layers[1].activation
    assert out is not None
    return int(np.sum(sums / out.step % 1 == 0.5))


@given(st.integers(0, 10**6), st.sampled_from([2, 3, 5, "ternary", "binary"]), st.integers(1, 5))
@settings(max_examples=10, deadline=None)
def test_no_sum_is_on_a_tie(seed: int, weight_bits: Width, activation_bits: int) -> None:
    plain = Architecture((4,), (dense(8), activation("relu"), dense(2)))
    made, weights = tie_free(plain, seed, weight_bits, activation_bits)
    x = samples(made, seed)
    assert_exact(made, weights, x)
    if odd_biases(made):
        assert ties(made, weights, x) == 0


def test_rounding_costs_less_and_ties_do_occur_otherwise(da4ml: Any) -> None:
    plain = Architecture((6,), (dense(12), activation("relu"), dense(8), activation("relu"), dense(3)))
    (one, weights), (two, _) = (tie_free(plain, 3, tie_free=choice) for choice in (True, False))
    x = samples(plain, 3)
    assert ties(one, weights, x) == 0
    assert ties(two, weights, x) > 0
    assert unroll(one, weights).luts < 0.95 * unroll(two, weights).luts


def test_a_step_that_is_not_coarser_than_that_of_the_sum_needs_no_odd_biases() -> None:
    """Every sum would be on a tie."""
    plain = Architecture((2,), (dense(2), activation("relu"), dense(2)))
    made, weights = tie_free(plain, 0, "binary", 16)
    assert odd_biases(made) == ()
    assert_exact(made, weights, samples(made))


@pytest.mark.parametrize(
    ("name", "io_type"),
    [("vectors", "io_parallel"), *(pytest.param(n, "io_stream", marks=pytest.mark.slow) for n in ("maps", "residuals"))],
)
def test_the_emulation_agrees(name: str, io_type: str, own_compiler: None, tmp_path: Path) -> None:
    made, weights = tie_free(NETWORKS[name][0], 2, 5, 6)
    assert_emulated(made, weights, samples(made, 2), tmp_path, part="xcvu13p-flga2577-2-e", io_type=io_type)


def test_files_keep_it(tmp_path: Path) -> None:
    made, weights = tie_free(NETWORKS["vectors"][0], 1)
    assert "odd<" in made.to_json()
    assert_read_again(made, weights, samples(made, 1), tmp_path)


@pytest.mark.parametrize(
    ("spec", "part"), [(layer("dense", units=2), "weight"), (activation("relu"), "activation"), (layer("scale"), "bias")]
)
def test_biases_of_kernels_alone_are_odd(spec: LayerSpec, part: str) -> None:
    with pytest.raises(ConfigError, match=rf"its {part} cannot be odd<4,1>, as the bias beside a kernel: give ap_fixed<5,1>"):
        replace(spec, **{part: Odd(4, 1)})
