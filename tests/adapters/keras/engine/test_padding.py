"""Arrays of a network lie in those of its mold, and nothing else does."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kerasnac.adapters.keras.engine.padding import Fitted
from kerasnac.adapters.keras.table import table
from kerasnac.core.network.architecture import Architecture
from kerasnac.core.network.cells import cells_of
from kerasnac.core.network.layers import LayerSpec
from kerasnac.core.network.mold import molds, places
from kerasnac.core.network.precision import Precision
from tests.core.network.test_mold import perceptrons, pictures
from tests.networks import activation, dense, layer, mlp, normal_weights

FLATTEN = LayerSpec.of("flatten")


def conv(filters: int) -> LayerSpec:
    return layer("conv2d", filters=filters, kernel=3, stride=1, padding="same")


@given(st.lists(st.one_of(perceptrons(), pictures()), min_size=1, max_size=4))
def test_what_is_padded_comes_back_and_all_around_is_left(nets: list[Architecture]) -> None:
    for mold in molds(nets):
        shapes = {f"{i}/{part}": w.shape for i, place in enumerate(places(mold)) for part, w in place.weights.items()}
        for net in (net for net in nets if mold.place(net) is not None):
            fitted, weights = Fitted(mold, net), normal_weights(net)
            padded, marked = fitted.pad(weights), fitted.pad(weights, around=np.nan)
            assert {key: array.shape for key, array in padded.items()} == shapes
            assert all(array.dtype == np.float32 for array in padded.values())
            for back in (fitted.unpad(padded), fitted.unpad(marked)):
                assert back.keys() == weights.keys()
                for key, value in weights.items():
                    np.testing.assert_array_equal(back[key], value)
            own = sum(value.size for value in weights.values())
            assert sum(np.isfinite(array).sum() for array in marked.values()) == own
            for key, array in padded.items():
                np.testing.assert_array_equal(array, np.nan_to_num(marked[key]))
            ones = fitted.pad(fitted.ones())
            assert sum(array.sum() for array in ones.values()) == own


def test_arrays_may_be_missing_on_either_side() -> None:
    fitted = Fitted(molds([mlp(4, 3, 2)])[0], mlp(4, 3, 2))
    padded = fitted.pad({"dense_0/bias": np.arange(3)})
    assert padded["0/bias"].tolist() == [0, 1, 2]
    assert all((array == 0).all() for key, array in padded.items() if key != "0/bias")
    assert list(fitted.unpad({"1/bias": np.array([5.0, 6.0])})) == ["dense_1/bias"]


def test_a_network_that_does_not_fit_is_refused() -> None:
    with pytest.raises(AssertionError, match="does not fit its mold"):
        Fitted(molds([mlp(4, 3, 2)])[0], mlp(4, 5, 2))


@pytest.mark.parametrize("hidden", [(), (6,)], ids=["at once", "with a layer between"])
def test_the_kernel_after_a_flatten_reads_the_true_channels_of_every_position(hidden: tuple[int, ...]) -> None:
    def network(filters: int, *units: int) -> Architecture:
        return Architecture((2, 3, 1), (conv(filters), FLATTEN, *(dense(n) for n in units), dense(4)))

    net = network(2, *hidden)
    (mold,) = molds([network(5, 30), network(5), net])
    fitted = Fitted(mold, net)
    weights = normal_weights(net)
    i = 2 if hidden else 3
    kernel = fitted.pad(weights)[f"{i}/kernel"]
    assert kernel.shape == (30, 30) if hidden else (30, 4)
    rows = [position * 5 + channel for position in range(6) for channel in range(2)]
    units = 6 if hidden else 4
    np.testing.assert_array_equal(kernel[rows][:, :units], weights["dense_0/kernel"])
    assert (np.delete(kernel, rows, axis=0) == 0).all()
    assert (kernel[:, units:] == 0).all()
    mask = fitted.choices(0)[1]["mask"]
    assert np.flatnonzero(mask).tolist() == rows


def test_choices_say_what_the_network_is() -> None:
    norms = LayerSpec.of("batch_norm"), layer("layer_norm", axes="last")
    plain, normed = mlp(5, 7, 6, 4, 2), Architecture((5,), (dense(3), norms[1], activation("tanh"), dense(2)))
    other = Architecture((5,), (dense(3), norms[0], dense(2)))
    (mold,) = molds([plain, normed, other])
    assert mold.cells[0].norms == norms
    choices = Fitted(mold, normed).choices(0)
    assert [bool(own["present"]) for own in choices] == [True, False, False, True]
    assert [int(own["norm"]) for own in choices] == [2, 0, 0, 0]
    assert mold.cells[0].functions[choices[0]["function"]] == "tanh"
    assert mold.cells[3].functions[choices[3]["function"]] == "none"
    assert [bool(own["drops"]) for own in choices] == [True, False, False, False]
    assert choices[0]["mask"].tolist() == [1, 1, 1, 0, 0, 0, 0]
    assert (choices[0]["values"], choices[0]["units"]) == (3, 3)
    assert not any(own[name].any() for own in choices for name in own if name.endswith("_format"))
    assert [int(own["norm"]) for own in Fitted(mold, other).choices(0)] == [1, 0, 0, 0]


def quantized() -> Architecture:
    cells = (
        dense(3, "fixed<6,1>", "fixed<9,4>"),
        activation("none", "fixed<5,3>"),
        activation("sigmoid", "ufixed<6,0>"),
        dense(4, "fixed<4,3>", "fixed<8,-2>"),
        activation("relu", "ufixed<7,2>"),
        dense(2, "fixed<6,1>", "fixed<8,2>"),
    )
    return Architecture((5,), cells, Precision(8, 3))


def test_formats_and_tables_are_choices() -> None:
    net = quantized()
    (mold,) = molds([net])
    choices = Fitted(mold, net).choices(8)
    assert choices[0]["kernel_format"].tolist() == [2**-5, -32, 31, 0]
    assert choices[0]["bias_format"].tolist() == [2**-5, -256, 255, 0]
    assert choices[0]["grid_format"].tolist() == [0.25, -16, 15, 0]
    assert choices[1]["activation_format"].tolist() == [2**-5, 0, 127, 0]
    assert choices[1]["grid_format"].tolist() == choices[2]["activation_format"].tolist() == [0, 0, 0, 0]
    assert [int(own["table_size"]) for own in choices] == [32, 1, 1]
    expected = table("sigmoid", Precision(5, 3), Precision(6, 0, signed=False))
    np.testing.assert_array_equal(choices[0]["table"], [*expected, *np.zeros(256 - 32)])
    assert cells_of(net)[0].fn == "sigmoid"


def test_formats_of_few_values_are_choices() -> None:
    net = Architecture((3,), (dense(2, "binary<0>", "fixed<8,2>"), activation("tanh", "binary<2>")), Precision(4, 2))
    (mold,) = molds([net])
    (choices,) = Fitted(mold, net).choices(0)
    assert choices["kernel_format"].tolist() == [0.5, -1, 1, 1]
    assert choices["activation_format"].tolist() == [2, -1, 1, 1]
    ternary = replace(net, layers=(dense(2, "ternary<0>", "fixed<8,2>"),))
    (choices,) = Fitted(*molds([ternary]), ternary).choices(0)
    assert choices["kernel_format"].tolist() == [0.25, -1, 1, 0]


def test_limits_are_those_of_qkeras(keras: Any) -> None:
    from kerasnac.adapters.keras.build import build

    net = quantized()
    limits = Fitted(molds([net])[0], net).limits()
    model = build(net)
    for i, name in enumerate(("dense_0", "dense_1", "dense_2")):
        for part in ("kernel", "bias"):
            constraint = getattr(model.get_layer(name), f"{part}_constraint")
            clipped = np.asarray(constraint(np.full(1, 1e9, np.float32)))
            assert (limits[f"{i}/{part}"] == clipped).all()
    float_net = mlp(5, 3, 2)
    assert all(np.isinf(array).all() for array in Fitted(molds([float_net])[0], float_net).limits().values())
