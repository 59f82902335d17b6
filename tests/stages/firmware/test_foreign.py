"""Firmware of models of others: equal to the model itself in every output."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

import kerasnac as kn
from kerasnac.core.space.references import Reference
from kerasnac.errors import ConfigError, ConversionError, DataError
from kerasnac.stages.firmware.result import Firmware
from kerasnac.stages.firmware.validation import validate
from kerasnac.ui.cli import main
from tests.foreign_models import L, act, bits, conv, dense, keras, q
from tests.networks import toy_data

pytestmark = pytest.mark.filterwarnings("ignore")

PART = "zcu102"


def weighted(model: Any) -> Any:
    """The model with biases and moving averages that are not zero."""
    rng = np.random.default_rng(0)
    for weight in model.weights:
        if any(word in weight.name for word in ("bias", "beta", "mean")):
            weight.assign(rng.normal(0, 0.1, weight.shape))
    return model


def every_kind() -> Any:
    """A small network with most of what others have and our own networks have not."""
    keras.utils.set_random_seed(0)
    x = inputs = L.Input((6, 6, 2))
    x = act("quantized_relu(5,1)")(conv(3, (1, 3), 4, padding="same", name="wide")(x))
    depthwise = {"depthwise_quantizer": q.ternary(alpha=1), "bias_quantizer": bits(4)}
    y = act("quantized_bits(5,1,1,alpha=1)")(q.QDepthwiseConv2D(2, padding="same", **depthwise)(x))
    x = L.Concatenate(name="joined")([L.Add()([x, y]), y])
    folded = {"kernel_quantizer": bits(4, alpha="auto_po2"), "bias_quantizer": bits(5)}
    x = act("quantized_tanh(4)")(q.QConv2DBatchnorm(2, 2, strides=2, name="folded", **folded)(x))
    x = L.MaxPooling2D(2, 1)(x)
    x = dense(3, 4, kernel_quantizer=q.binary(alpha=1), activation="softmax", name="head")(L.Flatten()(x))
    return weighted(keras.Model(inputs, x, name="zoo"))


@pytest.fixture(scope="module")
def samples() -> np.ndarray:
    return np.random.default_rng(1).normal(size=(200, 6, 6, 2)).astype(np.float32)


@pytest.fixture(scope="module")
def made(samples: np.ndarray, tmp_path_factory: pytest.TempPathFactory) -> Firmware:
    folder = tmp_path_factory.mktemp("foreign") / "fw"
    return kn.make_firmware(every_kind(), samples, folder=folder, input_grid="ap_fixed<6,3>", part=PART)


def test_every_output_is_that_of_the_model(made: Firmware) -> None:
    assert made.bit_exact
    assert made.original is not None
    assert made.original.comparison.equal
    assert made.original.comparison.outputs == 600


@pytest.mark.usefixtures("da4ml")
def test_its_adder_graph_has_the_same_outputs(made: Firmware) -> None:
    assert made.adder_graph.agrees
    assert not made.adder_graph.reason


def test_the_report_names_the_layers_of_the_model(made: Firmware) -> None:
    report = made.report()
    assert (
        "the Keras model zoo itself, before the softmax at its end, which is left to the host: bit-exact: 600 of 600" in report
    )
    assert "folded = conv2d_2" in report
    assert "joined = concatenate_0" in report
    assert Firmware.load(made.folder) == made


def test_the_folder_is_validated_like_any_other(made: Firmware) -> None:
    assert validate(made.folder).ok


@pytest.mark.slow
def test_streams_are_equal_too(samples: np.ndarray, tmp_path: Path) -> None:
    inputs = L.Input((6, 6, 2))
    x = act("quantized_relu(5,1)")(conv(3, 3, 4, padding="same")(inputs))
    x = L.Concatenate()([x, act("quantized_tanh(4)")(conv(2, 1, 4)(x))])
    model = weighted(keras.Model(inputs, dense(2, 4)(L.Flatten()(x))))
    found = kn.make_firmware(model, samples, folder=tmp_path / "fw", input_grid="ap_fixed<6,3>", part=PART, io_type="io_stream")
    assert found.bit_exact


@pytest.mark.slow
def test_weights_in_floating_point_are_named_in_the_report(tmp_path: Path) -> None:
    model = weighted(keras.Sequential([L.Input((4,)), dense(3, 4, bias_quantizer=None, name="fc")]))
    x = np.random.default_rng(0).normal(size=(100, 4)).astype(np.float32)
    with pytest.raises(ConversionError, match="fc: its bias lies on no fixed-point grid"):
        kn.make_firmware(model, x, folder=tmp_path / "fw", input_grid="ap_fixed<6,3>", part=PART)
    assert not (tmp_path / "fw").exists()
    found = kn.make_firmware(model, x, folder=tmp_path / "fw", input_grid="ap_fixed<6,3>", part=PART, float_bits=8)
    assert found.bit_exact
    assert found.original is not None
    assert not found.original.comparison.equal
    assert "rounded, which it has in floating point: fc bias" in found.report()


def test_labels_need_a_task_and_a_task_labels(samples: np.ndarray, tmp_path: Path) -> None:
    task = kn.Task("classification", 3)
    with pytest.raises(DataError, match="the samples have none"):
        kn.make_firmware(every_kind(), samples, task, folder=tmp_path / "fw", input_grid="ap_fixed<6,3>", part=PART)


def test_the_command_line_makes_firmware_of_a_file(tmp_path: Path) -> None:
    model = weighted(
        keras.Sequential([L.Input((4,)), dense(6, 4), q.QActivation(q.quantized_relu(4, 1)), dense(3, 4)], name="net")
    )
    model.save(tmp_path / "net.keras")
    np.save(tmp_path / "x.npy", np.random.default_rng(0).normal(size=(100, 4)).astype(np.float32))
    arguments = [
        "firmware",
        "make",
        str(tmp_path / "net.keras"),
        "--data",
        str(tmp_path / "x.npy"),
        "--out",
        str(tmp_path / "fw"),
    ]
    done = CliRunner().invoke(main, arguments)
    assert done.exit_code == 0, done.output
    assert "the Keras model net itself: bit-exact: 300 of 300 outputs equal" in done.output
    assert json.loads((tmp_path / "fw" / "report.json").read_text())["bit_exact"]
    costs = CliRunner().invoke(main, ["costs", str(tmp_path / "net.keras"), "--input-grid", "ap_fixed<6,3>"])
    assert costs.exit_code == 0
    assert "dense_1" in costs.output
    nothing = CliRunner().invoke(main, ["costs", str(tmp_path / "net.keras")])
    assert nothing.exit_code == 2
    assert "its input has no format" in nothing.output


def test_a_file_is_a_baseline_without_its_formats(tmp_path: Path) -> None:
    layers = [L.Input((4,)), dense(6, 4), act("quantized_relu(4,1)"), dense(3, 4), act("quantized_bits(8,3,alpha=1)")]
    keras.Sequential(layers).save(tmp_path / "mine.h5")
    found = Reference.read(str(tmp_path / "mine.h5"))
    assert found.name == "mine"
    assert [str(layer.kind) for layer in found.architecture.layers] == ["dense", "activation", "dense"]
    assert not found.architecture.quantized
    keras.Sequential([L.Input((8, 2)), L.UpSampling1D()]).save(tmp_path / "other.h5")
    with pytest.raises(ConfigError, match=r"other\.h5: .*UpSampling1D: maps cannot be enlarged"):
        Reference.read(str(tmp_path / "other.h5"))


def test_a_keras_model_is_compressed_like_a_tuned_one(tmp_path: Path) -> None:
    data = toy_data()
    float_model = keras.Sequential([L.Input((3,)), L.Dense(6, "relu"), L.BatchNormalization(), L.Dense(3)], name="theirs")
    quantized = weighted(keras.Sequential([L.Input((3,)), dense(6, 4), act("quantized_relu(4,1)"), dense(3, 4)], name="other"))
    with kn.Run(tmp_path / "run", data, workers=1) as run:
        points = run.compress([float_model, quantized], bits=[6], iterations=0, epochs=1)
        with pytest.raises(ConfigError, match=r"^wrong maps samples of shape \(4,\) to \(3,\); toy has \(3,\)"):
            run.compress([keras.Sequential([L.Input((4,)), L.Dense(3)], name="wrong")])
    assert [point.name for point in points.models] == ["theirs-w6a6-i00", "other-w6a6-i00"]


@pytest.mark.usefixtures("da4ml")
def test_a_keras_model_has_hardware_costs() -> None:
    model = keras.Sequential([L.Input((3,)), act("quantized_bits(6,2)"), dense(6, 4), act("quantized_relu(4,1)"), dense(3, 4)])
    found = kn.hardware_costs(weighted(model))
    assert [row.layer for row in found.layers] == ["dense_0", "dense_1"]
    assert not isinstance(found.estimates["adder_graph"], str)


def test_outputs_may_be_maps(tmp_path: Path) -> None:
    model = weighted(keras.Sequential([L.Input((4, 4, 1)), conv(2, 3, 4)]))
    x = np.random.default_rng(0).normal(size=(50, 4, 4, 1)).astype(np.float32)
    made = kn.make_firmware(model, x, folder=tmp_path / "fw", input_grid="ap_fixed<6,3>", part=PART)
    assert (made.bit_exact, made.outputs) == (True, 400)
    assert validate(made.folder).ok
