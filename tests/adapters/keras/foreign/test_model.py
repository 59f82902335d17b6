"""Models of others, read: equal to the model, or refused with the name of the layer and the remedy."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import kerasnac as kn
from kerasnac.adapters.keras.foreign.model import read_model
from kerasnac.adapters.keras.predict import predict
from kerasnac.core.network.architecture import Architecture
from kerasnac.core.network.arithmetic import keras_dtype
from kerasnac.core.network.precision import Precision
from kerasnac.errors import ConfigError, ConversionError, DataError, KerasnacError, RunError
from tests.foreign_models import MODELS, L, act, bits, built, dense, keras, q

#: Beginning of the message, or a part of it, for the models that cannot be read exactly.
REFUSED = {
    "jet tagger, alpha='auto'": "its kernel lies on no fixed-point grid, with quantized_bits(6,0,1,alpha='auto')",
    "jet tagger, no bias quantizer": "its bias lies on no fixed-point grid, with no quantizer",
    "batch norm after QDense": "a batch norm that is not folded multiplies by floating-point numbers",
    "QBatchNormalization after QDense": "a batch norm that is not folded",
    "quantized_tanh, real tanh": "a table for 18 bits would be too large",
    "tanh, then a quantizer": "a table for 18 bits would be too large",
    "tanh without a quantizer": "its outputs are floating-point numbers, on no grid",
    "LeakyReLU, then a quantizer": "would be too large",
    "quantized_relu with a slope": "would be too large",
    "swish, then a quantizer": "would be too large",
    "quantized_ulaw": "its outputs lie on no fixed-point grid",
    "activations with alpha='auto'": "scales by the largest value of a batch",
    "QAdaptiveActivation": "its format moves with the data",
    "mean of 49": "the mean of 49 values is on no grid",
    "zero padding of another kind": "zeros ((2, 2), (2, 2)) around a map",
    "Lambda": "lambda: Lambda: code of its own cannot be read",
    "LSTM": "lstm: LSTM: recurrent layers",
    "upsampling (U-net)": "maps cannot be enlarged",
    "two inputs": "it has 2 inputs",
    "dynamic shape": "firmware needs fixed sizes",
    "subclassed": "the layers of a subclassed model are known to its code alone",
    "custom layer": "squared: Squared of tests is not known",
    "NaN weights": "its kernel holds NaN or infinity",
    "a model of Keras 3": "the model is one of Keras 3",
    "quantized, with a layer norm of Keras": "divides floating-point numbers, on no grid; let kerasnac compress",
}

#: Models with all kinds of layers between them, besides those that are refused.
QUICK = (
    "jet tagger, 6 bits",
    "jet tagger, float",
    "layer norms, float",
    "AutoQKeras",
    "dense net with concatenations",
    "QDepthwiseConv2DBatchnorm",
    "QAveragePooling2D over",
    "zero padding before a convolution",
    "kernel 1x3",
    "causal convolution",
    "time distributed dense",
    "nested models",
    "pruned with TFMOT",
)


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=() if name in REFUSED or name.startswith(QUICK) else pytest.mark.slow) for name in MODELS]
)
def test_a_model_is_read_exactly_or_refused(name: str) -> None:
    model, x = built(name)
    if name in REFUSED:
        with pytest.raises(KerasnacError) as caught:
            read_model(model, samples=x)
        assert REFUSED[name] in str(caught.value)
        return
    found = read_model(model, samples=x)
    x = found.on_grid(x)
    found.check(x)
    if found.architecture.quantized:
        ours = kn.build(found.architecture, dtype=keras_dtype(found.architecture, found.weights))
        from kerasnac.adapters.keras.build import set_weights

        set_weights(ours, found.architecture, found.weights)
        np.testing.assert_array_equal(np.asarray(ours(x)).reshape(len(x), -1), found.outputs(x).reshape(len(x), -1))


def small(*layers: Any, shape: tuple[int, ...] = (4,)) -> Any:
    keras.utils.set_random_seed(1)
    return keras.Sequential([L.Input(shape), *layers])


X = np.random.default_rng(0).normal(size=(50, 4)).astype(np.float32)


def test_the_layers_keep_their_names_and_formats() -> None:
    found = read_model(small(dense(3, name="fc"), act("quantized_relu(5,1)")), input_grid="ap_fixed<8,3>")
    first, second = found.architecture.layers
    assert (first.weight, first.bias, second.activation) == (Precision(6, 1), Precision(6, 1), Precision(5, 1, signed=False))
    assert found.layers["dense_0"] == "fc"
    assert found.architecture.input == Precision(8, 3)


def test_the_input_has_the_format_of_its_quantizer() -> None:
    assert read_model(small(act("quantized_bits(7,2,alpha=1)"), dense(3))).architecture.input == Precision(7, 3)


def test_the_format_of_the_input_is_fitted_to_samples() -> None:
    pixels = np.arange(200, dtype=np.uint8).reshape(50, 4)
    assert read_model(small(dense(3)), samples=pixels).architecture.input == Precision(8, 8, signed=False)
    grid = read_model(small(dense(3)), samples=X).architecture.input
    assert grid is not None
    assert (grid.bits, grid.signed) == (12, True)
    with pytest.raises(ConfigError, match="its input has no format; give input_grid"):
        read_model(small(dense(3)))


def test_a_last_softmax_is_left_to_the_host() -> None:
    for last in ([dense(3), L.Activation("softmax")], [dense(3), L.Softmax()], [dense(3, activation="softmax")]):
        found = read_model(small(*last), samples=X)
        assert found.host == "softmax"
        assert found.architecture.names == ("dense_0",)
        found.check(found.on_grid(X))


def test_a_float_model_can_be_compressed_like_a_tuned_one() -> None:
    model = small(
        L.Dense(6),
        L.BatchNormalization(epsilon=1e-5),
        L.LeakyReLU(0.2),
        L.BatchNormalization(scale=False),
        L.Dense(3, "softmax"),
    )
    for layer in model.layers:
        if isinstance(layer, L.BatchNormalization):
            layer.moving_mean.assign([0.1] * 6)
            layer.moving_variance.assign([0.5] * 6)
    trained = kn.from_keras(model, X)
    assert not trained.architecture.quantized
    assert [layer.kind for layer in trained.architecture.layers] == ["dense", "batch_norm", "activation", "batch_norm", "dense"]
    assert Architecture.from_keras(model) == trained.architecture
    assert Architecture.from_json(trained.architecture.to_json()) == trained.architecture


def test_weights_in_floating_point_are_rounded_if_asked_for() -> None:
    model = small(dense(3, bias_quantizer=None, name="fc"))
    model.layers[0].set_weights([np.full((4, 3), 0.5), np.full(3, 0.1)])
    found = read_model(model, samples=X, float_bits=10)
    assert found.rounded == ("fc bias",)
    assert found.weights["dense_0/bias"] == pytest.approx(0.1, abs=2e-4)


def test_the_reciprocal_of_a_mean_is_rounded_if_asked_for() -> None:
    model, x = built("mean of 49")
    found = read_model(model, samples=x, float_bits=12)
    assert found.rounded == (f"{found.layers['pool_0']} reciprocal",)
    expected, ours = found.outputs(x), predict(found.architecture, found.weights, x)
    assert 0 < np.abs(ours - expected).max() < 1e-3 * np.abs(expected).max()


@pytest.mark.parametrize("bad", ["a string", 3, keras.layers.Dense(3), keras.Sequential([L.Dense(3)])])
def test_what_is_no_model_is_refused(bad: Any) -> None:
    with pytest.raises((ConfigError, RunError)):
        kn.from_keras(bad, X)


def test_samples_that_do_not_fit_are_refused() -> None:
    with pytest.raises(DataError, match=r"do not fit .*, whose input is \(4,\)"):
        kn.from_keras(small(dense(3)), X[:, :3])


def test_a_network_that_was_misread_is_refused_with_the_layer(monkeypatch: pytest.MonkeyPatch) -> None:
    model = small(dense(3, name="one"), act("quantized_relu(6,1)"), dense(2, name="two"))
    found = read_model(model, samples=X)
    found.weights["dense_1/bias"][:] += 0.5  # type: ignore[index]
    with pytest.raises(ConversionError, match=r"differs from the model in 100 of 100 outputs.* the first layer is two"):
        found.check(found.on_grid(X))


def saved(model: Any, folder: Path, form: str) -> Path:
    path = folder / f"net{form}"
    if form == ".json":
        path.write_text(model.to_json(), encoding="utf-8")
        model.save_weights(folder / "net.weights.h5")
    else:
        model.save(path)
    return path


@pytest.mark.parametrize("form", [".keras", ".h5", "", ".json"])
@pytest.mark.filterwarnings("ignore")
def test_files_are_read(tmp_path: Path, form: str) -> None:
    model = small(dense(3, name="fc"), q.QActivation(q.quantized_relu(5, 1)), q.QActivation("quantized_tanh(5)"))
    path = saved(model, tmp_path, form)
    found = kn.from_keras(path, X)
    direct = kn.from_keras(model, X)
    assert found.architecture == direct.architecture
    np.testing.assert_array_equal(found.weights["dense_0/kernel"], direct.weights["dense_0/kernel"])


def test_files_that_are_none_are_refused_in_a_line(tmp_path: Path) -> None:
    damaged = tmp_path / "net.keras"
    damaged.write_bytes(b"nothing")
    with pytest.raises(RunError, match=r"net.keras cannot be read as a Keras model"):
        kn.from_keras(damaged)
    with pytest.raises(RunError, match="does not exist"):
        kn.from_keras(tmp_path / "other.h5")
    alone = tmp_path / "alone.json"
    alone.write_text("{}")
    with pytest.raises(RunError, match="has no weights beside it"):
        kn.from_keras(alone)
    newer = tmp_path / "newer.json"
    newer.write_text('{"keras_version": "3.4.1"}')
    with pytest.raises(RunError, match=r"is a model of Keras 3\.4\.1"):
        kn.from_keras(newer)


def test_quantizers_keep_what_the_model_says(tmp_path: Path) -> None:
    trained = kn.from_keras(small(dense(3, kernel_quantizer=bits(4, alpha="auto_po2"))), X, name="mine")
    assert trained.name == "mine"
    assert kn.Trained.load(trained.save(tmp_path / "mine")).architecture == trained.architecture


@pytest.mark.parametrize("form", [".keras", ".h5", ".json"])
@pytest.mark.filterwarnings("ignore")
def test_code_in_a_file_is_not_run(tmp_path: Path, form: str) -> None:
    model = small(dense(3), L.Lambda(lambda x: x * 2, name="twice"))
    with pytest.raises(RunError, match=r"twice: Lambda: code in a file is not run"):
        kn.from_keras(saved(model, tmp_path, form), X)


def test_the_random_numbers_of_the_user_stay_as_they_are() -> None:
    model = small(dense(3))

    def drawn(between: Callable[[], object]) -> list[float]:
        keras.utils.set_random_seed(5)
        between()
        return [float(np.asarray(keras.Sequential([L.Input((4,)), L.Dense(3)]).weights[0])[0, 0]), float(np.random.rand())]

    assert drawn(lambda: kn.from_keras(model, X)) == drawn(lambda: None)
