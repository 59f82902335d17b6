"""Bit widths of single layers as a space."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from kerasnac.core.network.architecture import Architecture
from kerasnac.core.network.layers import LayerSpec
from kerasnac.core.space.layer_bits import LayerBitsSpace, layer_bits, with_layer_bits

SPACE = LayerBitsSpace((("a", (2, 4, 6)), ("b", (6,)), ("c", (3, 6, 8))))


def test_the_way_down_narrows_the_least_sensitive_layer_first() -> None:
    drop = {("a", 4): 0.1, ("a", 2): 0.3, ("c", 6): 0.0, ("c", 3): 0.2}
    way = [dict(SPACE.decode(genome).by_layer) for genome in SPACE.descent({"a": 6, "b": 6, "c": 6}, drop)]
    assert way == [{"a": 4, "b": 6, "c": 6}, {"a": 4, "b": 6, "c": 3}, {"a": 2, "b": 6, "c": 3}]


def test_a_ternary_kernel_is_narrower_than_two_bits_and_a_binary_one_narrower_still() -> None:
    space = LayerBitsSpace((("a", ("binary", "ternary", 2)),))
    drop = {("a", "ternary"): 0.1, ("a", "binary"): 0.2}
    way = [dict(space.decode(genome).by_layer) for genome in space.descent({"a": 2}, drop)]  # type: ignore[arg-type]
    assert way == [{"a": "ternary"}, {"a": "binary"}]


def test_a_layer_that_becomes_binary_has_no_sparsity() -> None:
    network = Architecture((2,), (LayerSpec.of("dense", units=2, weight_bits=4, sparsity=0.5),))
    made = {width: with_layer_bits(network, {"dense_0": width}) for width in ("ternary", "binary")}  # type: ignore[dict-item]
    assert {width: one.sparsities for width, one in made.items()} == {"ternary": {"dense_0": 0.5}, "binary": {}}


def test_what_tables_alone_read_has_their_grid_and_no_width() -> None:
    tables = LayerSpec.of("tables", units=2, grid="ap_fixed<4,2>", weight_bits=3)
    none = LayerSpec.of("activation", fn="none")
    network = Architecture((2,), (tables, none, tables, none, LayerSpec.of("dense", units=2)))
    found = layer_bits(network, weight_bits="ternary", activation_bits=5)
    assert found == {"tables_0": 3, "tables_1": 3, "activation_1": 5, "dense_0": "ternary"}


def test_there_is_no_way_down_from_the_narrowest() -> None:
    assert SPACE.descent({"a": 2, "b": 6, "c": 3}, {}) == []


@given(st.sampled_from((2, 4, 6)), st.sampled_from((3, 6, 8)), st.lists(st.floats(-1, 1), min_size=6, max_size=6))
def test_every_step_narrows_one_layer_until_all_are_narrow(a: int, c: int, drops: list[float]) -> None:
    keys = [(name, bits) for name, values in SPACE.genes.items() for bits in values]
    begin = {"a": a, "b": 6, "c": c}
    way = [dict(SPACE.decode(g).by_layer) for g in SPACE.descent(begin, dict(zip(keys, drops, strict=True)))]
    for before, after in zip([begin, *way], way, strict=False):
        assert sum(before[name] != after[name] for name in before) == 1
        assert all(after[name] <= before[name] for name in before)
    assert ([begin, *way])[-1] == {"a": 2, "b": 6, "c": 3}
