"""``kerasnac export`` and ``kerasnac init``: models as files, and run files for data."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from kerasnac import datasets
from kerasnac.core.network.architecture import Architecture
from kerasnac.core.network.weights import quantized_weights
from kerasnac.core.settings.yaml_files import load_run
from kerasnac.stages.results.saved import SavedRun, open_run
from kerasnac.stages.search.global_search import check_search
from tests.commands import kerasnac


@pytest.fixture
def run(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> SavedRun:
    """A finished run, with its folder in the working one."""
    monkeypatch.chdir(tmp_path)
    return open_run(folder)


class TestExport:
    def test_layers(self, run: SavedRun) -> None:
        model = run.tuned[0]
        assert kerasnac("export", run.folder, model.name, "--to", "json", "--out", "net.json").exit_code == 0
        assert Architecture.from_dict(json.loads(Path("net.json").read_text())) == model.architecture

    def test_weights(self, run: SavedRun) -> None:
        assert run.compressed is not None
        model = run.compressed.models[0]
        result = kerasnac("export", run.folder, model.name, "--to", "csv")
        assert result.output == f"written to {model.name}-weights\n"
        values = quantized_weights(model.architecture, model.weights)
        read = np.loadtxt(f"{model.name}-weights/dense_0-kernel.csv", delimiter=",")
        assert np.array_equal(read, values["dense_0/kernel"])
        index = Path(f"{model.name}-weights/weights.csv").read_text()
        assert f'dense_0-kernel.csv,dense_0,kernel,4x{read.shape[1]},"ap_fixed<' in index
        assert kerasnac("export", run.folder, model.name, "--to", "csv").exit_code == 0, "its own folder is replaced"

    def test_keras(self, run: SavedRun, keras: Any) -> None:
        from kerasnac.adapters.keras.build import load_keras

        assert run.compressed is not None
        model = run.compressed.models[0]
        assert kerasnac("export", run.folder, model.name, "--to", "qkeras", "--out", "sub/q.keras").exit_code == 0
        assert [layer.name for layer in load_keras("sub/q.keras").layers][1:] == list(model.architecture.names)
        assert kerasnac("export", run.folder, run.tuned[0].name, "--to", "keras").exit_code == 0
        assert keras.models.load_model(f"{run.tuned[0].name}.keras").count_params() > 0

    def test_bad_input(self, run: SavedRun) -> None:
        assert run.compressed is not None
        assert run.search is not None
        quantized, floating = run.compressed.models[0].name, run.tuned[0].name
        tuned = {model.origin.candidate for model in run.tuned}  # type: ignore[union-attr]
        candidate = next(e.key for e in run.search.evaluations if e.key not in tuned)
        for arguments, message in (
            ((quantized, "--to", "keras"), "is quantized: export it --to qkeras"),
            ((floating, "--to", "qkeras"), "is float: export it --to keras"),
            ((candidate, "--to", "csv"), "the search keeps no weights, only --to json"),
            ((floating, "--to", "keras", "--out", "x.h5"), "must end in .keras"),
            ((floating, "--to", "csv", "--out", "run"), "holds something else"),
            ((floating, "--to", "onnx"), "there is no export to ONNX"),
        ):
            result = kerasnac("export", run.folder, *arguments)
            assert result.exit_code == 2
            assert message in result.stderr


def made(file: Path) -> tuple[Any, Any]:
    """The settings of a run file, and its dataset, between which all fits."""
    settings = load_run(file, profile="quick")
    data = datasets.load(settings.dataset.source, **settings.dataset.options)
    check_search(settings.space, data.development, settings.search)
    return settings, data


@pytest.fixture
def rng(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> np.random.Generator:
    monkeypatch.chdir(tmp_path)
    return np.random.default_rng(0)


class TestInit:
    @pytest.mark.parametrize(
        ("shape", "block"), [((8,), "mlp"), ((8, 3), "deep_sets"), ((200, 2), "window"), ((9, 9, 1), "conv")], ids=str
    )
    def test_shapes(self, shape: tuple[int, ...], block: str, rng: np.random.Generator) -> None:
        np.savez("d.npz", images=rng.normal(size=(300, *shape)), label=rng.integers(0, 3, 300))
        result = kerasnac("init", "d.npz")
        assert result.exit_code == 0, result.output
        assert "d.npz was taken for the dataset npz" in result.stdout
        assert "the whole numbers 0 to 2: classes" in result.stdout
        settings, data = made(Path("d.yaml"))
        assert (settings.space.input, settings.space.outputs, data.task.kind) == (shape, 3, "classification")
        assert settings.space.blocks[0].block == block

    def test_values(self, rng: np.random.Generator) -> None:
        np.savez("d.npz", x=rng.normal(size=(300, 5)), y=rng.normal(size=(300, 2)))
        assert "values to regress" in kerasnac("init", "d.npz", "--out", "mine.yaml").stdout
        settings, data = made(Path("mine.yaml"))
        assert (settings.name, data.task.kind, data.task.outputs) == ("mine", "regression", 2)

    def test_a_table(self, rng: np.random.Generator) -> None:
        rows = [f"{a:.3f},{1000 * a:.1f},{'signal' if a > 0 else 'noise'}" for a in rng.normal(size=300)]
        Path("d.csv").write_text("\n".join(["a,b,truth", *rows]))
        assert "labels are the column 'truth'" in kerasnac("init", "d.csv").stdout
        _, data = made(Path("d.yaml"))
        assert data.task.names == ("noise", "signal")

    def test_an_anomaly_detection(self, rng: np.random.Generator) -> None:
        np.savez("d.npz", x=rng.normal(size=(300, 8)), y=rng.integers(0, 2, 300))
        assert kerasnac("init", "d.npz", "--task", "anomaly").exit_code == 0
        settings, data = made(Path("d.yaml"))
        assert (data.task.kind, settings.space.outputs) == ("anomaly", 8)

    def test_bad_input(self, rng: np.random.Generator) -> None:
        np.savez("d.npz", a=np.zeros((3, 2)), b=np.zeros(3))
        assert "which array holds the samples? There are a, b: name it with --x" in kerasnac("init", "d.npz").stderr
        assert "which array holds the labels?" in kerasnac("init", "d.npz", "--x", "a").stderr
        assert "there is no such file" in kerasnac("init", "nothing").stderr
        Path("d.yaml").write_text("x: 1")
        assert "d.yaml is there already: give --out another name" in kerasnac("init", "d.npz").stderr
