"""Firmware of an autoencoder: its one output is the reconstruction error, equal to that of QKeras."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from kerasnac.adapters.keras.predict import predict
from kerasnac.adapters.keras.train import fit, quantized_start
from kerasnac.core.network.architecture import Architecture
from kerasnac.core.network.trained import Trained
from kerasnac.core.network.training import Training
from kerasnac.datasets import from_arrays
from kerasnac.stages.firmware.delivery import make_firmware
from kerasnac.stages.firmware.validation import validate
from tests.networks import activation, dense

pytestmark = pytest.mark.usefixtures("keras")


def test_the_error_on_the_chip_is_exact(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    hidden = rng.normal(size=(3000, 2)) @ rng.normal(size=(2, 6))
    signal = np.arange(3000) % 4 == 3
    x = np.where(signal[:, np.newaxis], rng.normal(size=(3000, 6)) * 1.5, hidden) + 0.05 * rng.normal(size=(3000, 6))
    data = from_arrays(x, signal.astype(int), task="anomaly", input_bits=10)
    network = Architecture(
        (6,), (dense(12), activation("relu"), dense(3), activation("relu"), dense(12), activation("relu"), dense(6))
    )
    training = Training(epochs=40, learning_rate=0.005)
    trained = fit(network, data.development, training, seed=0)
    assert trained.metric > 0.75
    widths = {"weight_bits": 6, "activation_bits": 7}
    quantized, start = quantized_start(network, trained.weights, data.development, **widths, clip_quantile=1e-3)
    compressed = fit(quantized, data.development, replace(training, epochs=4), seed=0, start=start)
    model = Trained("auto", quantized, compressed.weights, training, {}, 0)
    test = data.open_test()
    firmware = make_firmware(model, test, data.task, folder=tmp_path / "fw")
    assert firmware.bit_exact
    assert firmware.outputs == len(test)
    expected = data.task.score(predict(quantized, compressed.weights, test.x), test.y)
    assert firmware.metric.keras == firmware.metric.firmware == pytest.approx(expected, abs=1e-9)
    assert validate(tmp_path / "fw").ok
