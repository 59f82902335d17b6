"""Callbacks of Keras in tunings: TensorBoard, and a user's own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from kerasnac.adapters.keras.callbacks import check_callbacks, make_callbacks
from kerasnac.adapters.keras.train import fit
from kerasnac.core.data.dataset import Dataset
from kerasnac.core.network.training import Training
from kerasnac.errors import EnvironmentProblem, PluginError
from tests.networks import mlp

OWN = """
import tensorflow as tf

class Noted(tf.keras.callbacks.Callback):
    def __init__(self, folder):
        super().__init__()
        self.folder = folder

    def on_epoch_end(self, epoch, logs):
        self.folder.mkdir(parents=True, exist_ok=True)
        with open(self.folder / "epochs.txt", "a") as file:
            print(epoch, sorted(logs), file=file)

def nothing(folder):
    return 3

def broken(folder):
    raise ValueError("no disk")
"""


@pytest.fixture
def own(tmp_path: Path) -> str:
    file = tmp_path / "own.py"
    file.write_text(OWN, encoding="utf-8")
    return str(file)


def trained(names: list[str], folder: Path, data: Dataset) -> int:
    network = mlp(*data.input_shape, 4, data.task.outputs)
    return fit(network, data.development, Training(epochs=2), seed=0, callbacks=make_callbacks(names, folder)).epochs


def test_every_epoch_is_seen(own: str, tmp_path: Path, vector_classes: Dataset) -> None:
    assert trained([f"{own}:Noted"], tmp_path / "logs", vector_classes) == 2
    assert (tmp_path / "logs" / "epochs.txt").read_text() == "0 ['loss', 'val_loss']\n1 ['loss', 'val_loss']\n"


def test_tensorboard_has_a_log(tmp_path: Path, vector_classes: Dataset) -> None:
    pytest.importorskip("tensorboard")
    trained(["tensorboard"], tmp_path, vector_classes)
    assert list(tmp_path.rglob("events.out.tfevents.*"))


def test_without_tensorboard_there_is_a_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kerasnac.adapters.keras.callbacks.find_spec", lambda name: None)
    with pytest.raises(EnvironmentProblem, match=r"pip install 'kerasnac\[tensorboard\]'"):
        check_callbacks(["tensorboard"])


def test_what_is_no_callback_is_refused_in_a_line(own: str, tmp_path: Path) -> None:
    with pytest.raises(PluginError, match=r"^unknown callback 'tensorbord': one of tensorboard"):
        check_callbacks(["tensorbord"])
    with pytest.raises(PluginError, match=r"it returned int; return a tf\.keras\.callbacks\.Callback"):
        make_callbacks([f"{own}:nothing"], tmp_path)
    with pytest.raises(PluginError, match=r"own\.py:broken fails: ValueError: no disk \(own\.py:18\)"):
        make_callbacks([f"{own}:broken"], tmp_path)


def test_modules_of_others_may_import_tensorflow_first(own: str) -> None:
    script = f"""
import kerasnac as kn
from kerasnac.adapters.keras.callbacks import check_callbacks
check_callbacks(["{own}:Noted"])
kn.setup()
"""
    environment = {name: value for name, value in os.environ.items() if name != "TF_USE_LEGACY_KERAS"}
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 0, done.stderr
