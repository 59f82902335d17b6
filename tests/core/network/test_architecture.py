"""The intermediate representation: JSON, ids, names, shapes and parameter counts."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kerasnac.core.network.activations import ACTIVATIONS
from kerasnac.core.network.architecture import Architecture
from kerasnac.core.network.layers import LayerSpec
from kerasnac.core.network.precision import Precision
from kerasnac.errors import ConfigError, Infeasible

RELU = LayerSpec.of("activation", fn="relu")
MLP = Architecture(
    (16,),
    (
        *(layer for units in (64, 32, 32) for layer in (LayerSpec.of("dense", units=units), RELU)),
        LayerSpec.of("dense", units=5),
    ),
)
CNN = Architecture(
    (8, 8, 2),
    (
        LayerSpec.of("conv2d", stride=1, filters=4, kernel=3, padding="valid"),
        LayerSpec.of("batch_norm"),
        LayerSpec.of("activation", fn="gelu"),
        LayerSpec.of("conv2d", stride=1, filters=3, kernel=5, padding="same"),
        LayerSpec.of("activation", fn="relu"),
        LayerSpec.of("flatten"),
        LayerSpec.of("dense", units=2),
    ),
)

precisions = st.none() | st.builds(Precision, st.integers(2, 16), st.integers(-6, 12), st.booleans())
layers = st.builds(
    lambda spec, weight, bias, activation: replace(spec, weight=weight, bias=bias, activation=activation),
    st.one_of(
        st.builds(lambda units: LayerSpec.of("dense", units=units), st.integers(1, 99)),
        st.builds(
            lambda filters, kernel, padding: LayerSpec.of("conv2d", stride=1, filters=filters, kernel=kernel, padding=padding),
            st.integers(1, 9),
            st.integers(1, 5),
            st.sampled_from(("valid", "same")),
        ),
        st.builds(lambda fn: LayerSpec.of("activation", fn=fn), st.sampled_from(list(ACTIVATIONS))),
        st.sampled_from((LayerSpec.of("flatten"), LayerSpec.of("batch_norm"))),
    ),
    precisions,
    precisions,
    precisions,
)
architectures = st.builds(
    lambda shape, stack, grid: Architecture(tuple(shape), tuple(stack), grid),
    st.lists(st.integers(1, 16), min_size=1, max_size=3),
    st.lists(layers, min_size=1, max_size=6),
    precisions,
)


@given(architectures)
def test_json_round_trip(architecture: Architecture) -> None:
    again = Architecture.from_json(architecture.to_json())
    assert again == architecture
    assert again.id == architecture.id


@given(architectures, architectures)
def test_ids_are_equal_only_for_equal_networks(left: Architecture, right: Architecture) -> None:
    assert (left == right) == (left.id == right.id)


def test_ids_never_change() -> None:
    """Journals of earlier versions are keyed by them."""
    assert MLP.id == "9b0e5b5a8f0f"
    quantized = replace(MLP.layers[0], weight=Precision(6, 1), bias=Precision(12, 2))
    assert replace(MLP, layers=(quantized, *MLP.layers[1:]), input=Precision(12, 4)).id == "a3a9bc9dcee9"


def test_json_is_flat_and_sorted() -> None:
    layer = replace(LayerSpec.of("dense", units=3), weight=Precision(6, 1), activation=Precision(8, 0, signed=False))
    assert json.loads(Architecture((4,), (layer,), Precision(12, 4)).to_json()) == {
        "input_precision": "ap_fixed<12,4>",
        "input_shape": [4],
        "layers": [
            {"activation_precision": "ap_ufixed<8,0>", "kind": "dense", "units": 3, "weight_precision": "ap_fixed<6,1>"}
        ],
    }


def test_the_order_of_keys_in_json_does_not_matter() -> None:
    shuffled = (
        '{"layers": [{"padding": "same", "kernel": 3, "stride": 1, "kind": "conv2d", "filters": 4}], "input_shape": [8, 8, 1]}'
    )
    plain = Architecture((8, 8, 1), (LayerSpec.of("conv2d", stride=1, filters=4, kernel=3, padding="same"),))
    assert Architecture.from_json(shuffled) == plain
    assert Architecture.from_json(shuffled).id == plain.id


@pytest.mark.parametrize(
    "data", [{}, {"input_shape": [3]}, {"input_shape": 3, "layers": []}, {"input_shape": [3], "layers": [{"units": 3}]}]
)
def test_other_json_is_refused(data: dict[str, object]) -> None:
    with pytest.raises(ConfigError, match="not an architecture"):
        Architecture.from_dict(data)


def test_a_damaged_format_is_named() -> None:
    with pytest.raises(ConfigError, match="'float8' is not a number format"):
        Architecture.from_dict({"input_shape": [3], "layers": [{"kind": "flatten"}], "input_precision": "float8"})


def test_the_jet_tagger_has_4389_parameters() -> None:
    assert MLP.parameters == 4389
    assert MLP.output_shape == (5,)


def test_parameters_of_a_cnn_by_hand() -> None:
    first, norm, second, dense = 3 * 3 * 2 * 4 + 4, 2 * 4, 5 * 5 * 4 * 3 + 3, 6 * 6 * 3 * 2 + 2
    assert CNN.parameters == first + norm + second + dense


def test_shapes_along_a_cnn() -> None:
    inputs = {node.name: node.shapes[0] for node in CNN.nodes}
    assert inputs == {
        "conv2d_0": (8, 8, 2),
        "batch_norm_0": (6, 6, 4),
        "activation_0": (6, 6, 4),
        "conv2d_1": (6, 6, 4),
        "activation_1": (6, 6, 3),
        "flatten_0": (6, 6, 3),
        "dense_0": (108,),
    }


def test_rows_and_columns_of_a_map_are_kept_apart() -> None:
    conv = LayerSpec.of("conv2d", stride=1, filters=3, kernel=2, padding="valid")
    assert Architecture((7, 4, 1), (conv, conv)).output_shape == (5, 2, 3)


def test_names_of_one_kind_do_not_depend_on_other_kinds() -> None:
    without_norm = replace(CNN, layers=tuple(layer for layer in CNN.layers if layer.kind != "batch_norm"))
    assert [n for n in CNN.names if not n.startswith("batch_norm")] == list(without_norm.names)


@given(architectures)
def test_names_are_unique(architecture: Architecture) -> None:
    assert len(set(architecture.names)) == len(architecture.layers)


@pytest.mark.parametrize(
    ("shape", "layer", "message"),
    [
        ((8, 8, 1), LayerSpec.of("dense", units=3), r"dense needs a vector, got a map of shape \(8, 8, 1\): flatten it first"),
        (
            (8,),
            LayerSpec.of("conv2d", stride=1, filters=1, kernel=3, padding="same"),
            r"conv2d needs a map \(rows, columns, channels\), got shape \(8,\)",
        ),
        (
            (8, 4, 1),
            LayerSpec.of("conv2d", stride=1, filters=1, kernel=5, padding="valid"),
            "5x5 kernel is larger than its 8x4 map",
        ),
    ],
)
def test_layers_that_do_not_fit_say_why(shape: tuple[int, ...], layer: LayerSpec, message: str) -> None:
    with pytest.raises(Infeasible, match=message):
        Architecture(shape, (layer,)).output_shape  # noqa: B018 - computed on access


def test_same_padding_fits_a_kernel_larger_than_the_map() -> None:
    assert Architecture((2, 3, 1), (LayerSpec.of("conv2d", stride=1, filters=4, kernel=5, padding="same"),)).output_shape == (
        2,
        3,
        4,
    )


def test_unknown_kinds_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"'lstm'.* dense, conv1d"):
        Architecture((4,), (LayerSpec.of("lstm", units=3),)).output_shape  # noqa: B018 - computed on access


def test_a_layer_names_the_parameter_it_lacks() -> None:
    with pytest.raises(KeyError, match="dense has no parameter 'filters'"):
        LayerSpec.of("dense", units=3)["filters"]


def test_text_reads_like_a_network() -> None:
    assert str(CNN) == "conv2d-4-3 batch_norm gelu conv2d-3-5-same relu flatten dense-2"


def test_only_a_network_with_an_input_format_is_quantized() -> None:
    assert not MLP.quantized
    assert replace(MLP, input=Precision(8, 3)).quantized
