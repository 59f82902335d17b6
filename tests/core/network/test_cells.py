"""Cells are made of the layers of a network, and of no others than a mold computes exactly."""

from __future__ import annotations

import pytest

from kerasnac.core.network.architecture import Architecture
from kerasnac.core.network.cells import PARTS, NoMold, cells_of, table_bits
from kerasnac.core.network.kinds import KINDS
from kerasnac.core.network.layers import LayerSpec
from kerasnac.core.network.precision import Precision
from kerasnac.core.space.blocks import Attention, Transformer
from tests.networks import activation, dense, layer, mlp, only

BATCH, FLATTEN, LAST = LayerSpec.of("batch_norm"), LayerSpec.of("flatten"), LayerSpec.of("layer_norm", axes="last")


def test_every_kind_of_layer_has_its_part() -> None:
    assert set(PARTS) == set(KINDS)


@pytest.mark.parametrize(
    ("layers", "message"),
    [
        ((activation("relu"), dense(2)), "activation_0: it is the first layer"),
        ((dense(3), activation("relu"), activation("gelu"), dense(2)), "activation_1: it follows activation_0"),
        ((dense(3), activation("none"), activation("relu"), dense(2)), "activation_1: it follows activation_0"),
        ((dense(3), dense(3), LayerSpec.of("activation", fn="relu", inputs=(-2,))), "activation_0: it does not read the layer"),
        (
            (dense(3), activation("relu"), LayerSpec.of("dense", units=2, inputs=(-2,))),
            "dense_1: it reads dense_0, and a layer",
        ),
    ],
)
def test_layers_that_make_no_cells(layers: tuple[LayerSpec, ...], message: str) -> None:
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


CONV = {"filters": 2, "kernel": 3, "stride": 1, "padding": "same"}


@pytest.mark.parametrize(
    ("layers", "message"),
    [
        ([LayerSpec.of("concatenate", inputs=(-1, -1))], "concatenate_0: a mold pads channels"),
        ([layer("lookup", bits=4)], "lookup_0: a mold has no tables"),
        ([layer("flatten"), layer("tables", units=2, grid="ap_fixed<4,2>")], "tables_0: a mold has no tables"),
        ([dense(3), activation("elu")], "activation_0: a mold does not compute elu"),
        ([dense(3), activation("leaky_relu(0.3)")], "activation_0: a mold does not compute leaky_relu"),
        ([LayerSpec.of("conv2d", **{**CONV, "kernel": (1, 3)})], "conv2d_0: the kernels of a mold"),
        ([LayerSpec.of("conv2d", **{**CONV, "stride": (1, 2)})], "conv2d_0: the kernels of a mold"),
        ([layer("pool", op="max", size=2, stride=1)], "pool_0: the windows of a mold do not overlap"),
    ],
)
def test_what_a_mold_does_not_compute_is_refused(layers: list[LayerSpec], message: str) -> None:
    shape = (4,) if layers[0].kind == "dense" else (4, 4, 2)
    with pytest.raises(NoMold, match=message):
        cells_of(Architecture(shape, tuple(layers)))


def test_pools_that_name_their_stride_are_those_that_do_not() -> None:
    assert len(cells_of(Architecture((4, 4, 2), (layer("pool", op="max", size=2, stride=2),)))) == 1


SCORES = LayerSpec.of("matmul", transpose=True, inputs=(-1, -1))
SOFTMAX = LayerSpec.of("softmax")


@pytest.mark.parametrize(
    ("layers", "message"),
    [
        ([layer("reshape", shape=(2, 6))], "reshape_0: it moves channels"),
        ([FLATTEN, layer("reshape", shape=(12,))], "reshape_0: it moves channels"),
        ([SOFTMAX], "softmax_0: it is the first layer"),
        ([layer("window", start=0, length=4), SOFTMAX], "softmax_0: it normalises over channels"),
        ([SCORES, activation("relu"), SOFTMAX], "softmax_0: it follows activation_0"),
        ([LayerSpec.of("matmul", transpose=False, inputs=(-1, -1))], "matmul_0: it multiplies channels by positions"),
        ([FLATTEN, dense(12), LayerSpec.of("add", inputs=(-1, -2))], "add_0: it adds a flattened map"),
        (
            [SCORES, activation("relu"), LayerSpec.of("matmul", transpose=False, inputs=(-2, -3))],
            "matmul_1: it reads matmul_0, and a layer that follows",
        ),
    ],
)
def test_what_padded_channels_would_disturb_is_refused(layers: list[LayerSpec], message: str) -> None:
    shape = (4, 4) if any(spec.kind == "matmul" and not spec["transpose"] for spec in layers) else (4, 3)
    with pytest.raises(NoMold, match=message):
        cells_of(Architecture(shape, tuple(layers)))


def test_the_cells_of_an_attention_are_its_layers_with_their_activations() -> None:
    net = only((3, 4, 2), Attention(width=2, activation="relu"))
    cells = cells_of(net)
    assert [node for cell in cells for node in cell.nodes] == list(net.nodes)
    assert [(cell.head.name, cell.fn, cell.reads) for cell in cells] == [
        *(
            (f"{kind}_{i}", "none", (-1 if kind == "reshape" else -1 - 2 * i,))
            for i in range(3)
            for kind in ("conv2d", "reshape")
        ),
        ("matmul_0", "softmax", (-5, -3)),
        ("matmul_1", "none", (-1, -2)),
        ("reshape_3", "none", (-1,)),
        ("conv2d_3", "none", (-1,)),
        ("add_0", "relu", (-1, -11)),
        ("flatten_0", "none", (-1,)),
        ("dense_0", "none", (-1,)),
    ]


NORM = LayerSpec.of("layer_norm", axes="last")


@pytest.mark.parametrize(
    ("layers", "heads"),
    [
        ((BATCH, dense(2)), ["batch_norm_0", "dense_0"]),
        ((dense(3), BATCH, dense(2)), ["dense_0", "dense_1"]),
        ((dense(3), activation("relu"), BATCH, dense(2)), ["dense_0", "batch_norm_0", "dense_1"]),
        ((dense(3), BATCH, NORM, dense(2)), ["dense_0", "layer_norm_0", "dense_1"]),
        ((dense(3), NORM, LayerSpec.of("add", inputs=(-1, -2)), dense(2)), ["dense_0", "layer_norm_0", "add_0", "dense_1"]),
    ],
)
def test_norms_that_follow_no_head_alone_are_heads(layers: tuple[LayerSpec, ...], heads: list[str]) -> None:
    assert [cell.head.name for cell in cells_of(Architecture((3,), layers))] == heads


def test_the_branches_of_a_transformer_begin_with_cells_of_their_own() -> None:
    net = only((4, 3), Transformer(width=2, heads=2, head_width=2, hidden=3, norm="layer"))
    assert [(cell.head.name, cell.reads) for cell in cells_of(net)] == [
        ("conv1d_0", (-1,)),
        ("layer_norm_0", (-1,)),
        *((f"conv1d_{1 + i}", (-1 - i,)) for i in range(3)),
        ("matmul_0", (-3, -2)),
        ("matmul_1", (-1, -2)),
        ("conv1d_4", (-1,)),
        ("add_0", (-1, -8)),
        ("layer_norm_1", (-1,)),
        ("conv1d_5", (-1,)),
        ("conv1d_6", (-1,)),
        ("add_1", (-1, -4)),
        ("pool_0", (-1,)),
        ("dense_0", (-1,)),
    ]


HEADS = LayerSpec.of("matmul", transpose=True, heads=2, inputs=(-1, -1))


@pytest.mark.parametrize(
    ("layers", "message"),
    [
        ([HEADS, FLATTEN], "matmul_0: no attention reads its heads"),
        ([HEADS], "matmul_0: no attention reads its heads"),
        ([SCORES, NORM, LayerSpec.of("matmul", transpose=False, inputs=(-1, -3))], "layer_norm_0: it normalises scores"),
        ([FLATTEN, activation("relu"), NORM], "layer_norm_0: it normalises a flattened map"),
    ],
)
def test_what_padded_heads_would_disturb_is_refused(layers: list[LayerSpec], message: str) -> None:
    conv = layer("conv1d", filters=4, kernel=1, stride=1, padding="valid")
    with pytest.raises(NoMold, match=message):
        cells_of(Architecture((4, 3), (conv, *layers)))


def test_the_widest_table_decides() -> None:
    grids = [activation("none", f"fixed<{bits},3>") for bits in (5, 9, 7)]
    layers = [spec for grid in grids for spec in (dense(3), grid, activation("tanh", "fixed<6,1>"))]
    net = Architecture((3,), (*layers, dense(2)), Precision(8, 3))
    assert table_bits(cells_of(net)) == 9
    assert table_bits(cells_of(mlp(3, 4, 2, fn="tanh"))) == 0
