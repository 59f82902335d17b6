"""Molds hold the networks that they are made of, and no others."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kerasnac.core.network.architecture import Architecture, Node
from kerasnac.core.network.cells import cells_of
from kerasnac.core.network.layers import LayerSpec
from kerasnac.core.network.mold import Mold, fitting, macs, molds, places
from kerasnac.core.network.precision import Precision
from tests.networks import activation, dense, layer, mlp, only

BATCH, LAST, ALL = LayerSpec.of("batch_norm"), layer("layer_norm", axes="last"), layer("layer_norm", axes="all")
FLATTEN = LayerSpec.of("flatten")


def conv(filters: int, **params: Any) -> LayerSpec:
    return LayerSpec.of("conv2d", filters=filters, **{"kernel": 3, "stride": 1, "padding": "same", **params})


@st.composite
def hidden(draw: st.DrawFn, head: Any) -> list[LayerSpec]:
    """A layer with some of what may follow it."""
    norm, fn = draw(st.sampled_from([None, BATCH, LAST, ALL])), draw(st.sampled_from([None, "none", "relu", "gelu"]))
    return [head(draw(st.integers(1, 9))), *([norm] if norm else []), *([activation(fn)] if fn else [])]


@st.composite
def perceptrons(draw: st.DrawFn) -> Architecture:
    """Up to three hidden layers."""
    cells = draw(st.lists(hidden(dense), max_size=3))
    return Architecture((5,), (*(spec for cell in cells for spec in cell), dense(2)))


@st.composite
def pictures(draw: st.DrawFn) -> Architecture:
    """Some convolutions that keep the map, perhaps one that does not, perhaps a pool, and up to two hidden layers."""
    early = draw(st.lists(hidden(conv), max_size=2))
    shrinking = draw(st.lists(hidden(lambda n: conv(n, padding="valid")), max_size=2))
    pool = draw(st.sampled_from([[], [layer("pool", op="max", size=2)]]))
    late = draw(st.lists(hidden(dense), max_size=2))
    cells = (spec for group in (early, shrinking) for cell in group for spec in cell)
    return Architecture((8, 8, 1), (*cells, *pool, FLATTEN, *(spec for cell in late for spec in cell), dense(2)))


networks = st.lists(st.one_of(perceptrons(), pictures()), min_size=1, max_size=8)


@given(networks)
def test_molds_hold_all_networks_that_they_are_made_of(nets: list[Architecture]) -> None:
    made = molds(nets)
    for net in nets:
        (mold,) = [mold for mold in made if mold.place(net) is not None]
        assert fitting(made, net) == mold
        placed = mold.place(net)
        assert placed is not None
        assert [cell for _, cell in sorted(placed.items())] == cells_of(net)
        for i, cell in placed.items():
            assert mold.cells[i].holds(cell)
        assert max(placed) == len(mold.cells) - 1
        assert macs(molds([net])[0]) <= macs(mold, net) <= macs(mold)


@given(networks)
def test_the_order_of_the_networks_does_not_matter_for_who_fits(nets: list[Architecture]) -> None:
    backwards = molds(reversed(nets))
    assert all(fitting(backwards, net) is not None for net in nets)
    assert {len(mold.cells) for mold in backwards} == {len(mold.cells) for mold in molds(nets)}
    assert {macs(mold) for mold in backwards} == {macs(mold) for mold in molds(nets)}


@given(st.one_of(perceptrons(), pictures()))
def test_a_network_alone_has_a_mold_of_its_own_size(net: Architecture) -> None:
    (mold,) = molds([net])
    assert not any(cell.optional for cell in mold.cells)
    cells = cells_of(net)
    for place, cell in zip(places(mold), cells, strict=True):
        assert (place.shape, place.output) == (cell.head.shapes[0], cell.head.output)
    assert macs(mold) == macs(mold, net) == sum(cell.head.products.macs for cell in cells if cell.head.products)


@given(networks)
def test_places_follow_each_other_and_hold_what_they_read(nets: list[Architecture]) -> None:
    for mold in molds(nets):
        shape = mold.input_shape
        for place in places(mold):
            assert place.shape == shape
            if place.cell.optional:
                assert place.output[-1] >= shape[-1]
                assert place.output[:-1] == shape[:-1]
            shape = place.output


@given(perceptrons(), st.integers(1, 9))
def test_a_capped_mold_holds_what_has_no_layer_with_more_units(net: Architecture, units: int) -> None:
    (mold,) = molds([net, mlp(5, 9, 9, 2)])
    capped = mold.capped(units)
    widths = [node.layer["units"] for node in net.nodes if node.layer.kind == "dense"]
    assert (capped.place(net) is not None) == (max(widths) <= units)
    assert macs(capped) <= macs(mold)
    assert capped.capped(units) == capped
    assert mold.capped(9) == mold


def with_formats(node: Node) -> tuple[LayerSpec, ...]:
    """The layers in the place of one after quantization: no norm, and before a table a linear layer with a grid."""
    if node.layer.kind != "activation":
        return () if node.layer.kind in ("batch_norm", "layer_norm") else (node.layer,)
    formatted = replace(node.layer, activation=Precision(6, 2, signed=node.layer["fn"] != "relu"))
    return (activation("none", "fixed<6,2>"), formatted) if node.layer["fn"] == "gelu" else (formatted,)


@given(perceptrons())
def test_the_quantized_form_holds_the_folded_network_with_formats(net: Architecture) -> None:
    (mold,) = molds([net])
    quantized = net.rewritten(with_formats, input=Precision(8, 3))
    form = mold.quantized_form
    assert form.quantized
    assert form.quantized_form == form
    assert (form.place(net), mold.place(quantized)) == (None, None)
    assert fitting([mold], quantized) == form
    assert fitting([mold], net) == mold


def test_a_missing_cell_is_passed_by_and_the_last_stays_the_last() -> None:
    deep, shallow, flat = mlp(5, 4, 6, 8, 2), mlp(5, 7, 2), mlp(5, 2)
    (mold,) = molds([shallow, deep, flat])
    assert [cell.units for cell in mold.cells] == [7, 6, 8, 2]
    assert [cell.optional for cell in mold.cells] == [True, True, True, False]
    placed = [mold.place(net) for net in (deep, shallow, flat)]
    assert [sorted(at or {}) for at in placed] == [[0, 1, 2, 3], [0, 3], [3]]
    assert [place.output for place in places(mold)] == [(7,), (7,), (8,), (2,)]


@pytest.mark.parametrize(
    "net",
    [mlp(4, 5, 2), mlp(5, 5, 2, fn="tanh"), mlp(5, 9, 2), mlp(5, 5, 3), mlp(5, 5, 5, 5, 2), mlp(5, 5, 2, norm=True)],
    ids=["input", "function", "width", "outputs", "depth", "norm"],
)
def test_a_network_that_differs_does_not_fit(net: Architecture) -> None:
    (mold,) = molds([mlp(5, 8, 2), mlp(5, 4, 4, 2)])
    assert mold.place(mlp(5, 3, 2)) is not None
    assert mold.place(net) is None
    assert fitting([mold], net) is None


@pytest.mark.parametrize(
    ("one", "two"),
    [
        ([conv(2, padding="valid")], [conv(2, padding="valid")] * 2),
        ([conv(2, stride=2)], [conv(2, stride=2)] * 2),
        ([conv(2, kernel=1)], [conv(2, kernel=3)]),
        ([conv(2, kernel=1, padding="valid")], [conv(2, kernel=1)]),
        ([layer("pool", op="max", size=2)], [layer("pool", op="mean", size=2)]),
        ([layer("pool", op="max", size=2)], [layer("pool", op="max", size=2)] * 2),
        ([conv(2)], []),
    ],
)
def test_what_changes_maps_is_not_passed_by(one: list[LayerSpec], two: list[LayerSpec]) -> None:
    nets = [Architecture((8, 8, 1), (*specs, FLATTEN, dense(2))) for specs in (one, two)]
    assert len(molds(nets)) == 2


def test_convolutions_that_keep_the_map_are_passed_by() -> None:
    nets = [Architecture((8, 8, 1), (*[conv(n)] * n, FLATTEN, dense(2))) for n in (1, 3)]
    (mold,) = molds(nets)
    assert [(cell.units, cell.optional) for cell in mold.cells[:3]] == [(3, True), (3, True), (3, False)]


def attend(width: int, scores: str = "softmax", fn: str = "none") -> tuple[LayerSpec, ...]:
    from kerasnac.core.space.blocks import Attention

    return only((8, 8, 3), Attention(width=width, scores=scores, activation=fn)).layers[:-2]


def residual(filters: int, *body: LayerSpec) -> tuple[LayerSpec, ...]:
    """Convolutions with a sum around the last of them."""
    add = LayerSpec.of("add", inputs=(-1, -1 - len(body)))
    return (conv(filters), *body, add, activation("relu"))


def picture(*specs: LayerSpec) -> Architecture:
    return Architecture((8, 8, 3), (*specs, FLATTEN, dense(2)))


def test_attentions_of_all_widths_share_a_mold() -> None:
    nets = [picture(*attend(2)), picture(*attend(5, "relu", "gelu"))]
    (mold,) = molds(nets)
    scores, product, narrow, projection, add = mold.cells[6:11]
    assert (scores.reads, product.reads, add.reads) == ((-5, -3), (-1, -2), (-1, -11))
    assert (scores.functions, add.functions) == (("relu", "softmax"), ("gelu", "none"))
    assert [place.output for place in places(mold)][:3] == [(8, 8, 5), (64, 5), (8, 8, 5)]
    assert [place.output for place in places(mold)][6:11] == [(64, 64), (64, 5), (8, 8, 5), (8, 8, 3), (8, 8, 3)]
    assert (product.head.kind, narrow.head.kind, projection.head.kind) == ("matmul", "reshape", "conv2d")
    assert not any(cell.optional for cell in mold.cells)
    assert len(molds([*nets, picture(*attend(2), *attend(2))])) == 2


def test_attentions_of_any_heads_share_a_mold() -> None:
    """Scaled or not; channels are padded to as many for every head."""
    from kerasnac.core.space.blocks import Attention

    nets = [
        only((6, 3), Attention(width=width, heads=heads, scaled=scaled))
        for width, heads, scaled in ((5, 1, True), (2, 2, False), (1, 3, True))
    ]
    (mold,) = molds(nets)
    at = places(mold)
    scores, product = at[3], at[4]
    assert mold.cells[3].units == mold.cells[4].units == 3
    assert scores.shapes == ((6, 6), (6, 6))
    assert (scores.output, product.output) == ((3, 6, 6), (6, 6))
    assert all(mold.place(net) is not None for net in nets)
    assert mold.place(only((6, 3), Attention(width=1, heads=4))) is None
    assert all(place.output for place in places(mold.capped(5)))


def test_the_channels_of_a_sum_are_those_of_the_wider_branch() -> None:
    one, two = (picture(*residual(n, conv(n))) for n in (3, 5))
    (mold,) = molds([one, two])
    assert [place.output[-1] for place in places(mold)[:3]] == [5, 5, 5]
    body = mold.cells[1]
    narrow = replace(mold, cells=(mold.cells[0], replace(body, head=conv(4)), *mold.cells[2:]))
    assert places(narrow)[2].shapes == ((8, 8, 5), (8, 8, 5))
    assert mold.place(one) is not None
    assert narrow.place(two) is None


def test_layers_beside_a_residual_are_passed_by_and_those_within_are_not() -> None:
    nets = [picture(*[conv(2)] * n, *residual(2, conv(2, padding="same"))) for n in (0, 2)]
    (mold,) = molds(nets)
    assert [cell.optional for cell in mold.cells[:5]] == [True, True, False, False, False]
    assert len(molds([picture(*residual(2, *[conv(2)] * n)) for n in (1, 2)])) == 2


def test_widths_and_sparsities_are_no_part_of_a_mold() -> None:
    searched = Architecture((5,), (layer("dense", units=4, weight_bits=4, sparsity=0.5), activation("relu"), dense(2)))
    assert molds([searched]) == molds([mlp(5, 4, 2)])


def test_molds_are_hashable_and_equal_by_value() -> None:
    one, two = (molds([mlp(5, 8, 2), mlp(5, 4, 4, 2)]) for _ in range(2))
    assert one == two
    assert len({*one, *two}) == 1
    assert isinstance(one[0], Mold)
