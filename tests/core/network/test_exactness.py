from __future__ import annotations

from contextlib import suppress
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kerasnac.core.network.architecture import Architecture
from kerasnac.core.network.arithmetic import Arithmetic, exact_arithmetic
from kerasnac.core.network.exactness import check_exact, firmware_meaning, output_formats, unsupported_reasons
from kerasnac.core.network.layers import LayerSpec
from kerasnac.core.network.means import reciprocal, reciprocal_format
from kerasnac.core.network.precision import Precision
from kerasnac.core.network.weights import Weights
from kerasnac.core.space.search_space import SearchSpace
from kerasnac.errors import ConversionError, Infeasible
from tests.networks import activation, normal_weights
from tests.networks import dense as any_dense


def dense(units: int, weight: str = "fixed<6,1>", bias: str = "fixed<10,3>") -> LayerSpec:
    return any_dense(units, weight, bias)


def network(*layers: LayerSpec, grid: str = "fixed<8,3>", size: int = 4) -> Architecture:
    return Architecture((size,), layers, Precision.parse(grid))


def refusal(architecture: Architecture) -> str:
    with pytest.raises(ConversionError) as caught:
        check_exact(architecture, normal_weights(architecture))
    return str(caught.value)


def test_a_usual_network_is_accepted() -> None:
    usual = network(dense(8), activation("none", "fixed<6,3>"), activation("gelu", "fixed<6,3>"), dense(3))
    formats = output_formats(usual, normal_weights(usual))
    assert list(formats) == list(usual.names)
    assert formats["activation_1"] == Precision(6, 3)
    assert formats["dense_0"].fractional == 5 + 5


def test_layers_without_activation_pass_their_accumulator_on() -> None:
    linear = network(dense(3, "fixed<3,1>"), dense(2, "fixed<3,1>"))
    formats = output_formats(linear, normal_weights(linear))
    assert formats["dense_1"].fractional == 2 + formats["dense_0"].fractional


@given(st.integers(0, 10_000), st.booleans(), st.integers(2, 8), st.integers(2, 8), st.integers(-2, 3), st.integers(1, 5))
def test_accumulators_hold_the_worst_case_and_not_a_bit_more(
    seed: int, signed: bool, weight_bits: int, input_bits: int, integer: int, size: int
) -> None:
    layer = dense(2, f"fixed<{weight_bits},{integer}>", "fixed<8,2>")
    one = network(layer, grid=f"{'' if signed else 'u'}fixed<{input_bits},{integer}>", size=size)
    weights = normal_weights(one, seed)
    accumulator = output_formats(one, weights)["dense_0"]
    assert one.input is not None
    assert layer.weight is not None
    assert layer.bias is not None
    kernel, bias = layer.weight.quantize(weights["dense_0/kernel"]), layer.bias.quantize(weights["dense_0/bias"])
    extremes = np.stack([kernel * one.input.minimum, kernel * one.input.maximum])
    high = (extremes.max(axis=0).sum(axis=0) + np.maximum(bias, 0)).max()
    low = (extremes.min(axis=0).sum(axis=0) + np.minimum(bias, 0)).min()
    assert accumulator.quantize([low, high]).tolist() == [low, high]
    if accumulator.bits > 2:
        smaller = replace(accumulator, bits=accumulator.bits - 1, integer=accumulator.integer - 1)
        assert smaller.minimum > low or smaller.maximum < high


@given(st.integers(0, 10_000), st.integers(2, 12), st.integers(2, 12), st.integers(1, 300))
def test_float32_sums_of_layers_that_need_no_more_are_exact(seed: int, weight_bits: int, input_bits: int, size: int) -> None:
    layer = dense(1, f"fixed<{weight_bits},1>", "fixed<8,3>")
    one = network(layer, grid=f"fixed<{input_bits},3>", size=size)
    weights = normal_weights(one, seed)
    if exact_arithmetic(one, weights).dtype == "float32":
        assert_exact_in_float32(one, layer, weights)


def assert_exact_in_float32(one: Architecture, layer: LayerSpec, weights: Weights) -> None:
    """Adds the largest possible products up in float32 and in float64."""
    assert one.input is not None
    assert layer.weight is not None
    kernel = layer.weight.quantize(weights["dense_0/kernel"])[:, 0]
    worst = np.where(kernel > 0, one.input.maximum, one.input.minimum)
    single, total = np.float32(0), 0.0
    for weight, value in zip(kernel, worst, strict=True):
        single, total = np.float32(single + np.float32(weight) * np.float32(value)), total + weight * value
        assert single == total


def test_float_networks_are_refused() -> None:
    assert "not quantized" in refusal(Architecture((4,), (LayerSpec.of("dense", units=2),)))


def test_float_layers_in_a_quantized_network_are_refused() -> None:
    assert "dense_0: the layer is float" in refusal(network(LayerSpec.of("dense", units=2)))
    assert "activation_0: the activation is float" in refusal(network(dense(2), LayerSpec.of("activation", fn="relu")))


def test_batch_norm_is_refused() -> None:
    assert refusal(network(dense(2), LayerSpec.of("batch_norm"))).startswith("batch_norm_0: ")


def test_sums_beyond_float64_are_refused() -> None:
    message = refusal(network(dense(4, "fixed<24,1>", "fixed<56,3>"), grid="fixed<24,3>"))
    assert message.startswith("dense_0: sums of ap_fixed<24,1> weights with ap_fixed<24,3> inputs need up to")
    assert "more than the 53 that float64 adds exactly" in message
    wide = network(dense(4, "fixed<4,1>"), activation("relu", "ufixed<24,3>"), dense(2, "fixed<24,1>", "fixed<60,3>"))
    assert refusal(wide).startswith("dense_1: ")


def test_zeros_can_bring_a_layer_back_into_float32() -> None:
    wide = network(dense(2, "fixed<14,1>", "fixed<14,1>"), grid="fixed<10,3>", size=64)
    weights = normal_weights(wide, scale=0.3)
    assert exact_arithmetic(wide, weights).dtype == "float64"
    kernel = weights["dense_0/kernel"].copy()
    kernel[2:] = 0
    assert exact_arithmetic(wide, {**weights, "dense_0/kernel": kernel}) == Arithmetic()


def test_clipping_beyond_float32_needs_float64() -> None:
    """QKeras leaves the grid here: 0.3 of such outputs are wrong by a rounding of x + (clipped - x)."""
    loud = network(dense(6, "fixed<8,4>"), activation("none", "fixed<18,2>"), grid="fixed<8,8>")
    needed = exact_arithmetic(loud, normal_weights(loud))
    assert (needed.dtype, needed.layer) == ("float64", "activation_0")
    for other in (activation("none", "fixed<12,2>"), activation("relu", "ufixed<18,2>")):
        assert exact_arithmetic(replace(loud, layers=(loud.layers[0], other)), normal_weights(loud)) == Arithmetic()


def test_clipping_beyond_float64_is_refused() -> None:
    far = network(dense(6, "fixed<8,36>", "fixed<8,36>"), activation("none", "fixed<24,2>"), grid="fixed<8,8>")
    with pytest.raises(ConversionError, match=r"activation_0: clipping .* more than the 53 that float64 holds"):
        check_exact(far, normal_weights(far, scale=2.0**34))


def test_formats_wider_than_float32_are_refused() -> None:
    assert refusal(network(dense(2), grid="fixed<25,3>")).startswith("input: ap_fixed<25,3> has more than the 24 bits")
    assert refusal(network(dense(2), activation("relu", "ufixed<25,3>"))).startswith("activation_0: ap_ufixed<25,3>")


def test_tables_need_a_grid_to_look_up() -> None:
    assert "put an activation 'none'" in refusal(network(dense(2), activation("tanh", "fixed<4,1>")))
    check_exact(network(activation("tanh", "fixed<4,1>")), {})
    message = refusal(network(activation("none", "fixed<17,3>"), activation("tanh", "fixed<4,1>")))
    assert "a table over ap_fixed<17,3> is too large" in message


@pytest.mark.parametrize(("fn", "grid"), [("none", "ufixed<4,2>"), ("relu", "fixed<4,2>")])
def test_signs_that_qkeras_cannot_give_are_refused(fn: str, grid: str) -> None:
    assert refusal(network(dense(2), activation(fn, grid))).startswith(f"activation_0: {fn} needs a")


def test_unsigned_weights_are_refused() -> None:
    assert "dense_0: QKeras has no unsigned weights" in refusal(network(dense(2, "ufixed<4,1>")))


def test_weights_that_are_no_numbers_are_refused() -> None:
    plain = network(dense(2))
    weights = normal_weights(plain) | {"dense_0/bias": np.array([0.0, np.nan], np.float32)}  # type: ignore[operator]
    with pytest.raises(ConversionError, match=r"dense_0/bias .*NaN"):
        check_exact(plain, weights)


def on_maps(*layers: LayerSpec, grid: str = "fixed<8,3>", shape: tuple[int, ...] = (4, 4)) -> Architecture:
    return Architecture(shape, layers, Precision.parse(grid))


def formats_of(architecture: Architecture) -> dict[str, Precision]:
    return output_formats(architecture, normal_weights(architecture))


ADD = LayerSpec.of("add", inputs=(-1, -2))
SCORES = LayerSpec.of("matmul", transpose=True, inputs=(-1, -2))
SOFTMAX = replace(LayerSpec.of("softmax"), activation=Precision(6, 0, signed=False))


def pool(op: str, size: int) -> LayerSpec:
    return LayerSpec.of("pool", op=op, size=size)


def test_a_sum_is_as_fine_as_the_finer_and_as_wide_as_both() -> None:
    """-8 - 4 to 7.5 + 3.96875."""
    formats = formats_of(on_maps(activation("none", "fixed<5,4>"), ADD))
    assert formats["add_0"] == Precision(10, 5)


def test_a_product_has_the_fractional_bits_of_both_factors() -> None:
    """4 products of -4 * -8 to 4 * 32: 128 = 2**7, at steps of 2**-6, with sign."""
    formats = formats_of(on_maps(activation("none", "fixed<5,4>"), SCORES))
    assert formats["matmul_0"] == Precision(15, 9)


def test_sums_of_a_head_are_as_long_as_its_own_channels() -> None:
    """2 products of each of 2 heads, so one bit less than 4 products need."""
    heads = replace(SCORES, params=(("heads", 2), ("transpose", True)))
    assert formats_of(on_maps(activation("none", "fixed<5,4>"), heads))["matmul_0"] == Precision(14, 8)


def test_scaled_scores_are_folded_first() -> None:
    scaled = replace(SCORES, params=(("scaled", True), ("transpose", True)))
    with pytest.raises(ConversionError, match=r"matmul_0: its scores are scaled; fold the factor .* \(fold\)"):
        formats_of(on_maps(activation("none", "fixed<5,4>"), scaled))


def test_a_maximum_keeps_the_format_and_a_mean_gains_bits() -> None:
    assert formats_of(on_maps(pool("max", 3)))["pool_0"] == Precision(8, 3)
    assert formats_of(on_maps(pool("mean", 0)))["pool_0"] == Precision(10, 3)
    assert formats_of(on_maps(pool("mean", 2), shape=(5, 7, 2)))["pool_0"] == Precision(10, 3)
    assert formats_of(on_maps(pool("mean", 0), shape=(4, 8, 2)))["pool_0"] == Precision(13, 3)


def test_reshaping_passes_formats_on() -> None:
    passed = formats_of(on_maps(LayerSpec.of("reshape", shape=(2, 8)), LayerSpec.of("flatten")))
    assert set(passed.values()) == {Precision(8, 3)}


#: A product of a product, of 20 bits each.
WIDE_PRODUCT = on_maps(
    activation("none", "fixed<20,3>"), SCORES, replace(SCORES, params=(("transpose", False),)), grid="fixed<16,3>"
)

#: Network -> the layer that is named, and the remedy.
REFUSED = {
    "wide sum": (on_maps(activation("none", "fixed<8,42>"), ADD, grid="fixed<20,3>"), "add_0", "use fewer activation bits"),
    "wide product": (WIDE_PRODUCT, "matmul_1", "use fewer activation bits"),
    "mean of three": (on_maps(pool("mean", 3)), "pool_0", "1 / 3, by which its sums are multiplied, has no format"),
    "mean of a map": (on_maps(pool("mean", 0), shape=(3, 4, 2)), "pool_0", "1 / 12, by which"),
    "mean of 3x3": (on_maps(pool("mean", 3), shape=(4, 4, 2)), "pool_0", "1 / 9, by which"),
    "wide mean": (on_maps(pool("mean", 0), grid="fixed<24,3>", shape=(2048, 1024, 1)), "pool_0", "more than 64 bits"),
    "float softmax": (on_maps(LayerSpec.of("softmax")), "softmax_0", "needs an unsigned output format"),
    "signed softmax": (on_maps(replace(SOFTMAX, activation=Precision(6, 1))), "softmax_0", "needs an unsigned output format"),
    "wide softmax": (on_maps(replace(SOFTMAX, activation=Precision(25, 0, signed=False))), "softmax_0", "use fewer"),
    "wide scores": (on_maps(SOFTMAX, grid="fixed<17,3>"), "softmax_0", "use at most 16 bits"),
    "softmax of sums": (
        on_maps(activation("none", "fixed<4,2>"), SCORES, SOFTMAX),
        "softmax_0",
        "put an activation 'none' with a format before it",
    ),
    "softmax of a mean": (on_maps(pool("mean", 2), SOFTMAX), "softmax_0", "put an activation 'none' with a format before it"),
    "softmax of reshaped sums": (
        network(dense(4), LayerSpec.of("reshape", shape=(2, 2)), SOFTMAX),
        "softmax_0",
        "put an activation 'none' with a format before it",
    ),
    "table of a sum": (
        on_maps(activation("none", "fixed<4,2>"), ADD, activation("gelu", "fixed<6,2>")),
        "activation_1",
        "put an activation 'none' with a format before it",
    ),
    "layer norm without formats": (on_maps(LayerSpec.of("layer_norm", axes="all")), "layer_norm_0", "by quantizing"),
    "window": (on_maps(LayerSpec.of("window", start=0, length=2)), "window_0", "without_window"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refusals_name_the_layer_and_the_remedy(name: str) -> None:
    architecture, layer, remedy = REFUSED[name]
    message = refusal(architecture)
    assert message.startswith(f"{layer}: ")
    assert remedy in message


def test_softmax_reads_quantized_scores_through_any_reshaping() -> None:
    scores = activation("none", "fixed<6,3>")
    network_ = on_maps(scores, SCORES, scores, LayerSpec.of("reshape", shape=(2, 8)), LayerSpec.of("flatten"), SOFTMAX)
    assert formats_of(network_)["softmax_0"] == SOFTMAX.activation
    assert formats_of(on_maps(SOFTMAX))["softmax_0"] == SOFTMAX.activation


grids = st.builds(
    lambda bits, integer, signed: Precision(bits, integer, signed), st.integers(2, 12), st.integers(-2, 5), st.booleans()
)


def extremes(rng: np.random.Generator, grid: Precision, shape: tuple[int, ...]) -> np.ndarray:
    """Half of the samples at both ends of a format, alike or mixed; the others anywhere on its grid."""
    ends = rng.choice([grid.minimum, grid.maximum], (10, *shape))
    same = np.stack([np.full(shape, end) for end in (grid.minimum, grid.maximum)])
    return np.concatenate([same, ends, rng.choice(grid.grid(), (12, *shape))])


def sums_in_any_order(rng: np.random.Generator, terms: np.ndarray, dtype: str = "float32") -> np.ndarray:
    """All partial sums over the last axis in a random order, in the arithmetic of Keras."""
    return np.cumsum(rng.permuted(terms, axis=-1).astype(dtype), axis=-1, dtype=dtype)


def assert_holds(grid: Precision, values: np.ndarray) -> None:
    np.testing.assert_array_equal(grid.quantize(values), values)


@given(grids, grids, st.integers(0, 99))
def test_sums_stay_inside_their_proven_format(left: Precision, right: Precision, seed: int) -> None:
    rng = np.random.default_rng(seed)
    first = replace(LayerSpec.of("activation", fn="none" if right.signed else "relu"), activation=right)
    with suppress(ConversionError):
        proven = formats_of(Architecture((4,), (first, ADD), left))["add_0"]
        a, b = extremes(rng, left, (4,)), extremes(rng, right, (4,))
        assert_holds(proven, a.astype(np.float32) + b.astype(np.float32))
        assert_holds(proven, np.array([left.minimum + right.minimum, left.maximum + right.maximum]))


@given(grids, grids, st.integers(1, 40), st.booleans(), st.integers(0, 99))
def test_products_stay_inside_their_proven_format(left: Precision, right: Precision, inner: int, flip: bool, seed: int) -> None:
    rng = np.random.default_rng(seed)
    second = replace(LayerSpec.of("activation", fn="none" if right.signed else "relu"), activation=right)
    product = LayerSpec.of("matmul", transpose=True, inputs=(-1, -2) if flip else (-2, -1))
    with suppress(ConversionError):
        squared = Architecture((1, inner), (second, product), left)
        proven = formats_of(squared)["matmul_0"]
        terms = extremes(rng, left, (inner,))[:, None] * extremes(rng, right, (inner,))[None]
        partial = sums_in_any_order(rng, terms, exact_arithmetic(squared, {}).dtype)
        assert_holds(proven, partial)
        np.testing.assert_array_equal(partial[..., -1], terms.sum(axis=-1))


@given(grids, st.sampled_from(("max", "mean")), st.integers(0, 5), st.integers(0, 99))
def test_pools_stay_inside_their_proven_format(grid: Precision, op: str, power: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    size = 2**power
    proven = formats_of(Architecture((size, 1), (pool(op, size),), grid))["pool_0"]
    values = extremes(rng, grid, (size,))
    if op == "max":
        assert_holds(proven, values.max(axis=-1))
    else:
        partial = sums_in_any_order(rng, values)
        np.testing.assert_array_equal(partial[:, -1], values.sum(axis=-1))
        assert_holds(proven, partial[:, -1] / np.float32(size))


@given(grids, st.integers(3, 40), st.integers(2, 12), st.integers(0, 99))
def test_means_with_a_reciprocal_stay_inside_their_proven_format(grid: Precision, size: int, bits: int, seed: int) -> None:
    weight = reciprocal_format([size], bits)
    proven = formats_of(Architecture((size, 1), (replace(pool("mean", 0), weight=weight),), grid))["pool_0"]
    sums = extremes(np.random.default_rng(seed), grid, (size,)).astype(np.float64).sum(axis=-1)
    assert_holds(proven, sums * reciprocal(size, weight))


@pytest.mark.parametrize(
    ("gene", "value", "text"),
    [
        ("0.norm", "layer", "exact"),
        ("0.norm", "batch", "exact"),
        ("1.conv.0.weight_bits", 16, "exact; where sums need more than 24 bits it equals QKeras in float64"),
        ("1.conv.0.weight_bits", 8, "exact"),
        ("2.op", "mean", "exact"),
        ("0.aggregate", "max", "exact"),
    ],
)
def test_what_a_choice_means_for_firmware(gene: str, value: object, text: str) -> None:
    assert firmware_meaning(gene, value).startswith(text)
    assert text != "exact" or firmware_meaning(gene, value) == "exact"


def test_obstacles_are_listed_by_layer() -> None:
    window = LayerSpec.of("window", start=0, length=4)
    (second,) = unsupported_reasons(Architecture((6, 3), (pool("max", 1), window, pool("mean", 3))))
    assert second.startswith("window_0: a window is cut from the samples")
    assert unsupported_reasons(Architecture((6, 3), (LayerSpec.of("batch_norm"), pool("mean", 2)))) == []


def test_a_window_can_only_be_cut_from_the_samples() -> None:
    window = LayerSpec.of("window", start=1, length=4)
    assert unsupported_reasons(Architecture((6, 3), (window, pool("max", 2)))) == []
    (reason,) = unsupported_reasons(
        Architecture((6, 3), (window, pool("max", 2), replace(window, params=(("length", 1), ("start", 0)))))
    )
    assert reason.startswith("window_1: a window is cut from the samples")
    late = {"block": "window", "start": [0, 1], "length": 2}
    pooled = {"block": "pool", "op": "max", "size": 2}
    late_space = SearchSpace.model_validate({"input": [8, 2], "outputs": 2, "firmware": "exact", "blocks": [pooled, late]})
    with pytest.raises(Infeasible, match=r"block 1 \(window\): .*first block"):
        late_space.decode((0,))
