"""The claims of SECURITY.md: nothing of a folder from anybody is unpickled, evaluated or made into Python objects."""

from __future__ import annotations

import ast
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import kerasnac
from kerasnac.core.network.architecture import Architecture
from kerasnac.core.network.layers import LayerSpec
from kerasnac.core.network.trained import Trained
from kerasnac.core.network.training import Training
from kerasnac.core.settings.yaml_files import load_run
from kerasnac.core.space.references import Reference
from kerasnac.datasets.files import read_npy, read_npz
from kerasnac.errors import KerasnacError

ROOT = Path(kerasnac.__path__[0])
SOURCES = sorted(ROOT.rglob("*.py"))


class Trap:
    """An object that leaves a file behind when it is unpickled."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def __reduce__(self) -> Any:
        return Path.touch, (self.file,)


@pytest.fixture
def sprung(tmp_path: Path) -> Path:
    """A file that exists as soon as the trap is sprung."""
    return tmp_path / "sprung"


def in_npz(path: Path, trap: Trap) -> Callable[[], Any]:
    np.savez(path, x=np.array([trap], dtype=object))
    return lambda: read_npz(path, ["x"])


def in_npy(path: Path, trap: Trap) -> Callable[[], Any]:
    with path.open("wb") as file:
        np.save(file, np.array([trap], dtype=object))
    return lambda: read_npy(path)


def in_a_model(path: Path, trap: Trap) -> Callable[[], Any]:
    network = Architecture((2,), (LayerSpec.of("dense", units=1),))
    weights = {"dense_0/kernel": np.zeros((2, 1)), "dense_0/bias": np.zeros(1)}
    folder = Trained("model", network, weights, Training(), {"accuracy": 1.0}, 0).save(path.with_name("model"))
    np.savez(folder / "weights.npz", **weights | {"dense_0/kernel": np.array([trap], dtype=object)})  # type: ignore[arg-type]
    return lambda: Trained.load(folder)


@pytest.mark.parametrize("made", [in_npz, in_npy, in_a_model])
def test_nothing_is_unpickled(tmp_path: Path, sprung: Path, made: Callable[[Path, Trap], Callable[[], Any]]) -> None:
    read = made(tmp_path / "a.npz", Trap(sprung))
    with pytest.raises(KerasnacError):
        read()
    assert not sprung.exists()


def test_a_run_file_makes_no_objects(tmp_path: Path, sprung: Path) -> None:
    file = tmp_path / "evil.yaml"
    file.write_text(f"name: !!python/object/apply:pathlib.Path.touch [{sprung}]\n")
    with pytest.raises(KerasnacError, match="not valid YAML"):
        load_run(file)
    assert not sprung.exists()


def test_a_network_evaluates_nothing(tmp_path: Path, sprung: Path) -> None:
    code = f"__import__('pathlib').Path({str(sprung)!r}).touch()"
    for layer in ({"kind": code}, {"kind": "dense", "units": code}, {"kind": "activation", "fn": code}):
        file = tmp_path / "evil.json"
        file.write_text(json.dumps({"input_shape": [2], "layers": [layer]}))
        with pytest.raises(KerasnacError):
            Reference.read(str(file))
    assert not sprung.exists()


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_no_source_has_the_means(path: Path) -> None:
    """No call of eval, exec or a pickle of its own, and none that lets NumPy or YAML make objects."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Call):
            called = ast.unparse(node.func)
            assert called not in ("eval", "exec", "yaml.load", "yaml.unsafe_load", "marshal.loads")
            # The contracts see whether parts of others can be pickled; they read nothing but what they have written.
            assert path.name == "testing.py" or not called.startswith(("pickle.", "cloudpickle.", "joblib."))
            assert all(keyword.arg != "allow_pickle" or ast.unparse(keyword.value) == "False" for keyword in node.keywords)


def test_the_package_itself_never_reads_keras_files() -> None:
    callers = [path.name for path in SOURCES if "load_keras(" in path.read_text(encoding="utf-8")]
    assert callers == ["build.py"]  # where it is defined
