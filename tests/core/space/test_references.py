"""Named architectures: where they are read from, and how they are written."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from kerasnac.core.network.architecture import Architecture
from kerasnac.core.network.layers import LayerSpec
from kerasnac.core.network.trained import Trained
from kerasnac.core.network.training import Training
from kerasnac.core.space.baselines import BASELINES, get
from kerasnac.core.space.references import Reference
from kerasnac.errors import ConfigError

NETWORK = Architecture((4,), (LayerSpec.of("dense", units=3), LayerSpec.of("dense", units=2)))


def read(value: Any, folder: Path | None = None) -> Reference:
    return Reference.model_validate(value, context={"folder": folder} if folder else None)


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    """Folder of a saved model."""
    return Trained("favourite", NETWORK, {}, Training(), {"accuracy": 0.5}, 0).save(tmp_path / "saved")


@pytest.mark.parametrize("name", BASELINES)
def test_a_baseline_is_read_by_its_name_and_written_as_it(name: str) -> None:
    reference = read(name)
    assert (reference.name, reference.architecture) == (name, get(name))
    assert reference.model_dump() == reference.model_dump(mode="json") == name
    assert read(reference.model_dump()) == reference


def test_an_architecture_is_named_after_its_id() -> None:
    assert read(NETWORK) == Reference(name=NETWORK.id, architecture=NETWORK)


@pytest.mark.parametrize("as_path", [str, Path])
def test_a_json_file_is_named_after_the_file(as_path: type, tmp_path: Path) -> None:
    (tmp_path / "my network.json").write_text(json.dumps(NETWORK.to_dict()))
    assert read(as_path(tmp_path / "my network.json")) == Reference(name="my network", architecture=NETWORK)


def test_a_name_in_the_file_wins(tmp_path: Path) -> None:
    (tmp_path / "file.json").write_text(json.dumps({"name": "mine", "architecture": NETWORK.to_dict()}))
    assert read(tmp_path / "file.json").name == "mine"


def test_a_saved_model_is_read_by_its_folder_or_its_file(saved: Path) -> None:
    assert read(saved) == read(str(saved)) == read(saved / "model.json") == Reference(name="favourite", architecture=NETWORK)


def test_paths_are_relative_to_the_folder_of_the_context(saved: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert read("saved", tmp_path).name == "favourite"
    assert read(str(saved), tmp_path / "elsewhere").name == "favourite"
    monkeypatch.chdir(tmp_path)
    assert read("saved").name == "favourite"


def test_a_baseline_wins_over_a_file_of_its_name(tmp_path: Path) -> None:
    (tmp_path / "hls4ml_jets").write_text(json.dumps(NETWORK.to_dict()))
    assert read("hls4ml_jets", tmp_path).architecture == get("hls4ml_jets")


@pytest.mark.parametrize("name", ["mine", "braggnn"])
def test_another_architecture_is_written_out_and_read_again(name: str) -> None:
    """Also one that is called as a baseline."""
    reference = Reference(name=name, architecture=NETWORK)
    written = reference.model_dump(mode="json")
    assert written == {"name": name, "architecture": NETWORK.to_dict()}
    assert read(json.loads(json.dumps(written))) == reference


def test_a_reference_is_frozen_and_strict() -> None:
    with pytest.raises(ValidationError, match="Extra inputs"):
        read({"name": "mine", "architecture": NETWORK, "weights": 1})
    with pytest.raises(ValidationError, match="frozen"):
        read(NETWORK).name = "other"


def test_a_path_that_is_nowhere_lists_the_baselines(tmp_path: Path) -> None:
    with pytest.raises((ConfigError, ValidationError), match=r"nowhere .*braggnn, nac_bragg"):
        read("nowhere", tmp_path)
    (tmp_path / "empty").mkdir()
    with pytest.raises((ConfigError, ValidationError), match=r"empty .*braggnn"):
        read("empty", tmp_path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", r"file\.json cannot be read as JSON"),
        ("\udcff", r"file\.json cannot be read as JSON"),
        ("[1, 2]", r"file\.json holds no architecture"),
        ("3", r"file\.json holds no architecture"),
        ("{}", r"file\.json holds no architecture"),
        ('{"name": "x", "architecture": {"layers": []}}', r"file\.json holds no architecture"),
        ('{"name": "x", "architecture": 3}', r"file\.json holds no architecture"),
    ],
)
def test_files_that_hold_no_architecture_are_named(content: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "file.json").write_text(content, errors="surrogateescape")
    with pytest.raises((ConfigError, ValidationError), match=message):
        read("file.json", tmp_path)


DENSE = {"kind": "dense", "units": 3}

#: Files that hold no network to train, and what is said of them.
BAD: dict[str, tuple[str, str]] = {
    "no layers": (json.dumps({"input_shape": [4], "layers": []}), "layers: .*at least 1"),
    "nested brackets": ("[" * 100_000, "cannot be read as JSON"),
    "a list": ("[1]", "not keys and values"),
    "negative units": (json.dumps({"input_shape": [4], "layers": [DENSE | {"units": -4}]}), r"layers.0: dense: units: .*-4"),
    "too many units": (json.dumps({"input_shape": [4], "layers": [DENSE | {"units": 10**9}]}), "layers.0: dense: units: "),
    "code": (json.dumps({"input_shape": [4], "layers": [DENSE | {"units": "8; import os"}]}), "layers.0: dense: units: "),
    "dunder": (
        json.dumps({"input_shape": [4], "layers": [DENSE, {"kind": "activation", "fn": "__class__"}]}),
        "layers.1: activation: fn: unknown activation '__class__'",
    ),
    "parameters": (json.dumps({"input_shape": [4], "layers": [DENSE | {"units": 10**6}] * 2}), r"1e\+12 parameters"),
    "a misfit": (json.dumps({"input_shape": [4, 4], "layers": [DENSE]}), "do not fit each other: dense needs a vector"),
    "a typing error": (json.dumps({"input_shape": [4], "layers": [DENSE], "input_precison": "x"}), "input_precison: unknown"),
}


@pytest.mark.parametrize(("text", "message"), BAD.values(), ids=BAD)
def test_what_is_no_network_is_refused_with_file_and_layer(tmp_path: Path, text: str, message: str) -> None:
    file = tmp_path / "bad.json"
    file.write_text(text)
    with pytest.raises(ConfigError, match=rf"^{file} .*({message})") as error:
        Reference.read(str(file))
    assert "\n" not in str(error.value)
