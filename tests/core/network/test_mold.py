"""Molds hold the networks that they are made of, and no others."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kerasnac.core.network.architecture import Architecture, Node
from kerasnac.core.network.cells import PARTS, NoMold, cells_of, table_bits
from kerasnac.core.network.layers import KINDS, LayerSpec
from kerasnac.core.network.mold import Mold, fitting, macs, molds, places
from kerasnac.core.network.precision import Precision
from tests.networks import activation, dense, layer, mlp

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
    assert macs(mold) == macs(mold, net) == sum(node.products.macs for node in net.nodes if node.products)


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


@pytest.mark.parametrize("kind", [kind for kind, part in PARTS.items() if not isinstance(part, str)])
def test_kinds_without_a_mold_say_so(kind: str) -> None:
    params: dict[str, Any] = {"reshape": {"shape": (2, 2)}, "matmul": {"transpose": False}, "lookup": {"bits": 4}}.get(kind, {})
    inputs = (-1, -1) if kind in ("matmul", "add", "concatenate") else (-1,)
    shape = (4, 4) if kind == "matmul" else (4,)
    net = Architecture(shape, (LayerSpec.of(kind, inputs=inputs, **params),))
    with pytest.raises(NoMold, match=f"{kind}_0: a mold"):
        cells_of(net)
    assert molds([net]) == ()


def test_every_kind_of_layer_has_its_part_or_a_reason() -> None:
    assert set(PARTS) == set(KINDS)


@pytest.mark.parametrize(
    ("layers", "message"),
    [
        ((BATCH, dense(2)), "batch_norm_0: it is the first layer"),
        ((activation("relu"), dense(2)), "activation_0: it is the first layer"),
        ((dense(3), activation("relu"), BATCH, dense(2)), "batch_norm_0: it follows activation_0"),
        ((dense(3), BATCH, BATCH, dense(2)), "batch_norm_1: it follows batch_norm_0"),
        ((dense(3), activation("relu"), activation("gelu"), dense(2)), "activation_1: it follows activation_0"),
        ((dense(3), activation("none"), activation("relu"), dense(2)), "activation_1: it follows activation_0"),
        ((dense(3), LayerSpec.of("dense", units=2, inputs=(-2,))), "dense_1: it does not read the layer before it"),
    ],
)
def test_chains_that_are_no_chains_of_cells(layers: tuple[LayerSpec, ...], message: str) -> None:
    with pytest.raises(NoMold, match=message):
        cells_of(Architecture((3,), layers))


@pytest.mark.parametrize(
    ("layers", "message"),
    [
        ([activation("relu")], "activation_0: its format is None"),
        ([activation("relu", "fixed<6,2>")], "activation_0: its format is ap_fixed"),
        ([activation("none", "ufixed<6,2>")], "activation_0: its format is ap_ufixed"),
        ([activation("tanh", "fixed<6,2>")], "activation_0: a table needs a format, and a linear layer"),
        ([activation("none"), activation("tanh", "fixed<6,2>")], "activation_1: a table needs a format, and a linear layer"),
        ([activation("none", "fixed<6,2>"), activation("tanh")], "activation_1: a table needs a format, and a linear layer"),
    ],
)
def test_formats_that_quantization_never_gives_have_no_mold(layers: list[LayerSpec], message: str) -> None:
    net = Architecture((3,), (dense(3), *layers, dense(2)), Precision(8, 3))
    with pytest.raises(NoMold, match=message):
        cells_of(net)


def test_a_network_without_formats_has_no_layer_with_one() -> None:
    with pytest.raises(NoMold, match="dense_1: it has a number format"):
        cells_of(Architecture((3,), (dense(3), activation("relu"), dense(2, "fixed<6,1>"))))


def test_attention_and_residuals_have_no_mold() -> None:
    from kerasnac.core.space.blocks import Attention, Conv, Residual
    from tests.networks import only

    for net in (
        only((3, 4, 2), Attention(width=2)),
        only((4, 4, 2), Residual(body=Conv(channels=2, padding="same"))),
    ):
        assert molds([net]) == ()
        assert fitting(molds([mlp(5, 8, 2)]), net) is None


def test_the_widest_table_decides() -> None:
    grids = [activation("none", f"fixed<{bits},3>") for bits in (5, 9, 7)]
    layers = [spec for grid in grids for spec in (dense(3), grid, activation("tanh", "fixed<6,1>"))]
    net = Architecture((3,), (*layers, dense(2)), Precision(8, 3))
    assert table_bits(cells_of(net)) == 9
    assert table_bits(cells_of(mlp(3, 4, 2, fn="tanh"))) == 0


def test_widths_and_sparsities_are_no_part_of_a_mold() -> None:
    searched = Architecture((5,), (layer("dense", units=4, weight_bits=4, sparsity=0.5), activation("relu"), dense(2)))
    assert molds([searched]) == molds([mlp(5, 4, 2)])


def test_molds_are_hashable_and_equal_by_value() -> None:
    one, two = (molds([mlp(5, 8, 2), mlp(5, 4, 4, 2)]) for _ in range(2))
    assert one == two
    assert len({*one, *two}) == 1
    assert isinstance(one[0], Mold)
