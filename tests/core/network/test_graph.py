"""Networks that are graphs: which layer reads which, and what stays of it when layers come and go."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kerasnac.core.network.architecture import Architecture, Node
from kerasnac.core.network.kinds import Shape
from kerasnac.core.network.layers import LayerSpec
from kerasnac.core.network.precision import Precision
from kerasnac.core.space.blocks import Attention, Conv, Mlp, Residual, Transformer, Window
from kerasnac.errors import ConfigError, Infeasible
from tests.networks import only

NOTHING = LayerSpec.of("activation", fn="none")
RELU = LayerSpec.of("activation", fn="relu")


def edges(architecture: Architecture) -> dict[str, tuple[str, ...]]:
    """The names of what every layer reads."""
    names = ("input", *architecture.names)
    return {node.name: tuple(names[source + 1] for source in node.inputs) for node in architecture.nodes}


def test_a_residual_reads_its_input_again() -> None:
    residual = only((5, 5, 3), Residual(body=Conv(channels=3, padding="same", norm="batch"), activation="tanh"))
    assert edges(residual) == {
        "conv2d_0": ("input",),
        "batch_norm_0": ("conv2d_0",),
        "activation_0": ("batch_norm_0",),
        "add_0": ("activation_0", "input"),
        "activation_1": ("add_0",),
        "flatten_0": ("activation_1",),
        "dense_0": ("flatten_0",),
    }
    assert {node.output for node in residual.nodes[:5]} == {(5, 5, 3)}


def test_residuals_in_a_row_read_each_other() -> None:
    block = Residual(body=Conv(channels=2, padding="same"), repeat=2)
    assert edges(only((5, 5, 2), block))["add_1"] == ("activation_2", "activation_1")


def test_a_residual_that_changes_the_shape_is_infeasible() -> None:
    with pytest.raises(Infeasible, match=r"cannot add a branch of shape \(5, 5, 4\) to shape|must keep its input's shape"):
        only((5, 5, 3), Residual(body=Conv(channels=4, padding="same")))


def test_attention_reads_and_makes_what_it_should() -> None:
    attention = only((3, 4, 2), Attention(width=5, activation="relu"))
    assert edges(attention) == {
        **{f"conv2d_{i}": ("input",) for i in range(3)},
        **{f"activation_{i}": (f"conv2d_{i}",) for i in range(3)},
        **{f"reshape_{i}": (f"activation_{i}",) for i in range(3)},
        "matmul_0": ("reshape_0", "reshape_1"),
        "activation_3": ("matmul_0",),
        "softmax_0": ("activation_3",),
        "matmul_1": ("softmax_0", "reshape_2"),
        "activation_4": ("matmul_1",),
        "reshape_3": ("activation_4",),
        "conv2d_3": ("reshape_3",),
        "activation_5": ("conv2d_3",),
        "add_0": ("activation_5", "input"),
        "activation_6": ("add_0",),
        "flatten_0": ("activation_6",),
        "dense_0": ("flatten_0",),
    }
    outputs = {node.name: node.output for node in attention.nodes}
    assert outputs["reshape_1"] == (12, 5)
    assert outputs["matmul_0"] == outputs["softmax_0"] == (12, 12)
    assert outputs["matmul_1"] == (12, 5)
    assert outputs["reshape_3"] == (3, 4, 5)
    assert outputs["add_0"] == (3, 4, 2)


def test_attention_of_particles_needs_no_reshapes() -> None:
    attention = only((6, 3), Attention(width=5, heads=2))
    assert edges(attention) == {
        **{f"conv1d_{i}": ("input",) for i in range(3)},
        **{f"activation_{i}": (f"conv1d_{i}",) for i in range(3)},
        "matmul_0": ("activation_0", "activation_1"),
        "activation_3": ("matmul_0",),
        "softmax_0": ("activation_3",),
        "matmul_1": ("softmax_0", "activation_2"),
        "activation_4": ("matmul_1",),
        "conv1d_3": ("activation_4",),
        "activation_5": ("conv1d_3",),
        "add_0": ("activation_5", "input"),
        "activation_6": ("add_0",),
        "flatten_0": ("activation_6",),
        "dense_0": ("flatten_0",),
    }
    outputs = {node.name: node.output for node in attention.nodes}
    assert outputs["activation_0"] == outputs["matmul_1"] == (6, 10)
    assert outputs["matmul_0"] == outputs["softmax_0"] == (2, 6, 6)


def test_one_head_that_is_not_scaled_is_written_as_ever() -> None:
    plain = only((3, 4, 2), Attention(width=5))
    assert only((3, 4, 2), Attention(width=5, heads=1, scaled=False)) == plain
    assert "heads" not in plain.to_json()
    assert "scaled" not in plain.to_json()


def test_the_branches_of_a_transformer_begin_with_its_norms() -> None:
    network = only((6, 3), Transformer(width=4, heads=2, head_width=3, hidden=5, norm="batch", depth=2))
    read = edges(network)
    stream = [f"activation_{i}" for i in (0, 8, 12, 20)]
    assert [read[f"batch_norm_{i}"] for i in range(4)] == [(name,) for name in stream]
    assert [read[f"conv1d_{i}"] for i in (1, 2, 3)] == [("activation_1",)] * 3
    assert [read[f"add_{i}"][1] for i in range(4)] == stream
    assert read["pool_0"] == ("activation_24",)
    assert [node.output for node in network.nodes if node.layer.kind == "add"] == [(6, 4)] * 4


@pytest.mark.parametrize("block", [Attention(width=2), Transformer(width=2, head_width=2, hidden=2)])
def test_vectors_attend_to_nothing(block: Attention | Transformer) -> None:
    with pytest.raises(Infeasible, match=rf"{block.block} needs a .* but gets a vector"):
        only((6,), block)


@pytest.mark.parametrize(
    ("params", "inputs", "message"),
    [
        ({"transpose": True, "heads": 3}, (-1, -1), r"cannot multiply matrices of shapes \(6, 4\) and \(6, 4\) with 3 heads"),
        ({"transpose": False, "heads": 2}, (-1, -1), r"shapes \(6, 4\) and \(6, 4\) with 2 heads"),
        ({"transpose": False, "scaled": True}, (-1, -1), "scaled is for scores"),
    ],
)
def test_heads_that_do_not_fit_are_refused(params: dict[str, Any], inputs: tuple[int, ...], message: str) -> None:
    with pytest.raises(Infeasible, match=message):
        _ = Architecture((6, 4), (LayerSpec.of("matmul", **params, inputs=inputs),)).nodes


@pytest.mark.parametrize("params", [{"heads": 1}, {"heads": 2.5}, {"scaled": False}])
def test_there_is_one_way_to_write_a_product(params: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=f"matmul: {next(iter(params))}"):
        LayerSpec.of("matmul", transpose=True, inputs=(-1, -1), **params)


def test_scores_without_softmax_shift_nothing() -> None:
    attention = edges(only((3, 4, 2), Attention(width=5, scores="relu")))
    assert attention["matmul_1"] == ("activation_3", "reshape_2")
    assert attention["add_0"] == ("activation_5", "input")


def test_attention_inside_a_network_reads_the_layer_before_it() -> None:
    later = edges(only((5, 6, 1), Conv(channels=2), Attention(width=3)))
    assert [later[f"conv2d_{i}"] for i in (1, 2, 3)] == [("activation_0",)] * 3
    assert later["add_0"][1] == "activation_0"


@pytest.mark.parametrize("offset", [-3, -4])
def test_offsets_that_lead_nowhere_are_refused(offset: int) -> None:
    broken = Architecture((4,), (RELU, replace(RELU, inputs=(offset,))))
    with pytest.raises(ConfigError, match="activation_1 reads layers"):
        broken.nodes  # noqa: B018 - computed on access


@pytest.mark.parametrize("inputs", [(0,), (1,), (-1, -1), (), (True,), ("-1",), None])
def test_a_layer_reads_earlier_ones_as_many_as_its_kind_does(inputs: Any) -> None:
    with pytest.raises(ConfigError, match=r"^activation: .*inputs"):
        replace(RELU, inputs=inputs)


@st.composite
def graphs(draw: st.DrawFn) -> Architecture:
    """Layers that keep a vector of four, each reading any one or two before it."""
    layers: list[LayerSpec] = []
    for i in range(draw(st.integers(1, 9))):
        offset = st.integers(-1 - i, -1)
        kind = draw(st.sampled_from(("dense", "activation", "add")))
        if kind == "add":
            layers.append(LayerSpec.of("add", inputs=(draw(offset), draw(offset))))
        else:
            params = {"units": 4} if kind == "dense" else {"fn": "relu"}
            layers.append(LayerSpec.of(kind, inputs=(draw(offset),), **params))
    return Architecture((4,), tuple(layers), draw(st.none() | st.just(Precision(8, 3))))


def reads(architecture: Architecture, ignored: Callable[[Node], bool]) -> list[tuple[str, tuple[int, ...]]]:
    """Kind and sources of every layer that is not ignored, counting and looking past those that are."""
    nodes = architecture.nodes
    number = {-1: -1}
    result = []
    for i, node in enumerate(nodes):
        if ignored(node):
            number[i] = number[node.inputs[0]]
        else:
            number[i] = len(result)
            result.append((node.layer.kind, tuple(number[source] for source in node.inputs)))
    return result


def is_nothing(node: Node) -> bool:
    return node.layer.kind == "activation" and node.layer["fn"] == "none"


def is_activation(node: Node) -> bool:
    return node.layer.kind == "activation"


@given(graphs())
def test_replacing_every_layer_by_itself_changes_nothing(graph: Architecture) -> None:
    assert graph.rewritten(lambda node: (node.layer,)) == graph


@given(graphs(), st.integers(0, 2), st.integers(0, 2))
def test_chains_that_grow_keep_who_reads_whom(graph: Architecture, before: int, after: int) -> None:
    grown = graph.rewritten(
        lambda node: (*[NOTHING] * before, node.layer, *[NOTHING] * after) if is_activation(node) else (node.layer,)
    )
    activations = sum(is_activation(node) for node in graph.nodes)
    assert len(grown.layers) == len(graph.layers) + (before + after) * activations
    assert reads(grown, is_nothing) == reads(graph, is_nothing)
    assert grown.output_shape == graph.output_shape
    assert grown.rewritten(lambda node: () if is_nothing(node) else (node.layer,)) == graph


@given(graphs())
def test_what_read_a_layer_that_is_gone_reads_what_that_one_read(graph: Architecture) -> None:
    shrunk = graph.rewritten(lambda node: () if is_activation(node) else (node.layer,))
    assert not any(map(is_activation, shrunk.nodes))
    assert reads(shrunk, is_activation) == reads(graph, is_activation)


def test_a_new_input_format_replaces_the_old_one() -> None:
    plain = Architecture((4,), (RELU,), Precision(8, 3))
    assert plain.rewritten(lambda node: (node.layer,), input=Precision(6, 2)).input == Precision(6, 2)


@given(graphs())
def test_graphs_survive_json(graph: Architecture) -> None:
    assert Architecture.from_json(graph.to_json()) == graph


def test_tuples_survive_json() -> None:
    attention = only((3, 4, 2), Attention(width=5))
    again = Architecture.from_json(attention.to_json())
    assert again == attention
    assert hash(again) == hash(attention)
    assert again.layers[2]["shape"] == (12, 5)
    assert again.nodes == attention.nodes


def test_a_window_is_cut_off_with_the_samples() -> None:
    residual = Residual(body=Conv(channels=2, kernel=3, padding="same"))
    whole = only((20, 2), Window(start=5, length=8), residual, Mlp(widths=(4,)))
    assert whole.window == slice(5, 13)
    assert edges(whole)["add_0"] == ("activation_0", "window_0")
    cut = whole.without_window()
    assert cut.input_shape == (8, 2)
    assert edges(cut)["add_0"] == ("activation_0", "input")
    assert cut.window == slice(None)
    assert cut.output_shape == whole.output_shape
    assert cut.parameters == whole.parameters


def test_a_network_without_window_is_used_as_it_is() -> None:
    plain = only((4,), Mlp(widths=(3,)))
    assert plain.without_window() is plain
    assert plain.window == slice(None)


@pytest.mark.parametrize("shape", [(8,), (8, 8, 1)])
def test_a_window_needs_a_readout(shape: Shape) -> None:
    with pytest.raises(Infeasible, match=r"window .*\(8,"):
        only(shape, Window(start=0, length=4))


def test_a_window_keeps_the_input_format() -> None:
    whole = replace(only((20, 2), Window(start=0, length=8)), input=Precision(8, 3))
    assert whole.without_window().input == Precision(8, 3)


def test_widths_of_its_own_make_a_network_one_that_is_trained_quantized() -> None:
    plain = Architecture((4,), (LayerSpec.of("dense", units=2), RELU))
    assert not plain.has_compression_params
    assert Architecture((4,), (LayerSpec.of("dense", units=2, weight_bits=4), RELU)).has_compression_params
    assert Architecture(
        (4,), (plain.layers[0], LayerSpec.of("activation", fn="relu", activation_bits=4))
    ).has_compression_params


def test_sparsities_count_as_well_and_a_plain_network_has_neither() -> None:
    dense = LayerSpec.of("dense", units=2, weight_bits=4, sparsity=0.25)
    relu = LayerSpec.of("activation", fn="relu", activation_bits=6)
    chosen = Architecture((4,), (dense, relu, LayerSpec.of("dense", units=1)))
    assert Architecture((4,), (LayerSpec.of("dense", units=2, sparsity=0),)).has_compression_params
    assert chosen.sparsities == {"dense_0": 0.25}
    assert str(chosen) == "dense-2-w4-s0.25 relu-a6 dense-1"
    assert str(chosen.plain) == "dense-2 relu dense-1"
    assert not chosen.plain.has_compression_params
    assert Architecture.from_dict(chosen.to_dict()) == chosen
