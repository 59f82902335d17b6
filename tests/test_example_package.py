"""A package of others: installed, found by its entry points, checked by our contracts, used in a search that is killed."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

from kerasnac import Architecture, LayerSpec, Training, datasets
from kerasnac.core.plugins import Kind
from kerasnac.core.settings.yaml_files import dump, load_run, load_space
from kerasnac.core.space.blocks import BLOCK
from kerasnac.core.space.search_space import SearchSpace
from kerasnac.errors import DataError
from kerasnac.stages.run import parts, search_only, session
from kerasnac.testing import BlockContract, CostModelContract, DatasetContract, MetricContract
from kerasnac.ui.cli import main
from tests.example_run import Instant
from tests.test_floors import loaded_after

ROOT = Path(__file__).parents[1]

RUN = """
space:
  input: 6
  outputs: 3
  blocks:
    - {block: twins, widths: [2, 3, 4, 6, 8], layers_each: [1, 2]}
    - block: choose
      options:
        - {block: none}
        - {block: residual, body: {block: twins, widths: [6]}}
        - {block: "example_parts.blocks:Twins", widths: [4, 5]}
dataset: {source: blobs, n: 150, metrics: [gap], loss: {name: steep, power: 3}}
search: {objectives: [metric, gap, wires], budgets: {wires: 60}, estimators: [wires], population: 4, evaluations: 16}
"""


@pytest.fixture(scope="module")
def target(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the package, as pip installs it without network."""
    source = shutil.copytree(ROOT / "tests/example_package", tmp_path_factory.mktemp("source") / "package")
    place = tmp_path_factory.mktemp("installed")
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-build-isolation", "--no-index", "--no-compile"]
    subprocess.run([*pip, "--target", str(place), str(source)], check=True)
    return place


@pytest.fixture
def installed(target: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.syspath_prepend(target)
    return target


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "run.yaml"
    path.write_text(RUN)
    return path


@pytest.mark.usefixtures("installed")
class TestTwins(BlockContract):
    @pytest.fixture(autouse=True)
    def _example(self, installed: Path, keras: Any) -> None:
        from example_parts.blocks import Twins

        self.block, self.shape = Twins(widths=(2, 3), layers_each=(1, 2)), (2, 3)


@pytest.mark.usefixtures("installed")
class TestBlobs(DatasetContract):
    source = "blobs"


@pytest.mark.usefixtures("installed")
class TestGap(MetricContract):
    metric = "gap"


class TestWires(CostModelContract):
    @pytest.fixture(autouse=True)
    def _example(self, installed: Path) -> None:
        from example_parts.costs import Wires

        self.model = Wires


def test_parts_are_found_by_their_names(installed: Path, file: Path, tmp_path: Path) -> None:
    settings = load_run(file)
    again = tmp_path / "again.yaml"
    again.write_text(dump(settings))
    assert load_run(again) == settings
    assert str(settings.space.decode((2, 1, 0, 0)).architecture) == "dense-4 relu dense-4 relu dense-3"
    assert settings.space.genes["1.block"] == ("none", "residual", "Twins")
    assert "twins" in BLOCK.names()
    assert datasets.load("blobs", n=60).name == "blobs"


def test_nothing_of_it_is_imported_before_it_is_asked_for(installed: Path, file: Path) -> None:
    before = f"import sys; sys.path.insert(0, {str(installed)!r}); from kerasnac.core.space.blocks import BLOCK; BLOCK.names()"
    assert "example_parts" not in loaded_after(before)
    used = f"{before}\nfrom kerasnac.core.settings.yaml_files import load_run; load_run({str(file)!r})"
    assert loaded_after(used) >= {"example_parts", "pydantic"}


def records(folder: Path) -> list[dict[str, Any]]:
    lines = (json.loads(line) for line in (folder / "search.jsonl").read_text().splitlines())
    return sorted(({k: v for k, v in line.items() if k != "seconds"} for line in lines), key=lambda line: line["index"])


def start(file: Path, folder: Path, installed: Path) -> subprocess.Popen[bytes]:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join((str(ROOT), str(installed)))}
    return subprocess.Popen([sys.executable, "-m", "tests.example_run", str(file), str(folder)], cwd=ROOT, env=environment)


@pytest.mark.slow
def test_a_search_that_is_killed_ends_the_same(
    whole: Path, installed: Path, file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "killed"
    process = start(file, folder, installed)
    journal = folder / "search.jsonl"
    while not (journal.exists() and journal.stat().st_size) and process.poll() is None:
        time.sleep(0.001)
    process.kill()
    assert process.wait() != 0, "it ended before it was killed"
    assert 0 < len(records(folder)) < 16
    monkeypatch.setattr(session, "LocalWorkers", Instant)
    search_only(load_run(file), folder)
    assert records(folder) == records(whole)
    assert sum(record["status"] == "ok" for record in records(folder)) == 16
    noted = json.loads((folder / "run.json").read_text())["plugins"]
    assert [(part["kind"], part["name"], part["module"]) for part in noted] == [
        ("dataset", "blobs", "example_parts.data"),
        ("metric", "example_parts.metrics:gap", "example_parts.metrics"),
        ("loss", "example_parts.losses:steep", "example_parts.losses"),
        ("block", "twins", "example_parts.blocks"),
        ("block", "example_parts.blocks:Twins", "example_parts.blocks"),
        ("estimator", "wires", "example_parts.costs"),
    ]
    assert {(part["distribution"], part["version"]) for part in noted} == {("kerasnac-example-parts", "1.2.0")}


@pytest.fixture(scope="module")
def whole(target: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a search that is done, in which no training took any time."""
    folder = tmp_path_factory.mktemp("whole")
    (folder / "run.yaml").write_text(RUN)
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(target)
        patch.setattr(session, "LocalWorkers", Instant)
        search_only(load_run(folder / "run.yaml"), folder / "run")
    return folder / "run"


@pytest.fixture
def run(whole: Path, installed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of that folder."""
    monkeypatch.setattr(session, "LocalWorkers", Instant)
    return shutil.copytree(whole, tmp_path / "run")


def test_a_run_without_the_package_says_what_is_missing(
    run: Path, installed: Path, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "path", [place for place in sys.path if place != str(installed)])
    for name in [name for name in sys.modules if name.startswith("example_parts")]:
        monkeypatch.delitem(sys.modules, name)
    result = CliRunner().invoke(main, ["resume", str(run)])
    assert result.exit_code == 2
    assert result.output.count("\n") == 1
    assert (
        f"{run} cannot be resumed: dataset blobs, metric gap, loss steep, block twins, block Twins, estimator wires of"
        in result.output
    )
    assert "kerasnac-example-parts (1.2.0) missing: unknown dataset 'blobs'" in result.output
    result = CliRunner().invoke(main, ["search", str(file), "--out", str(run)])
    assert result.exit_code == 2
    assert f"{file}:6: space.blocks.0: unknown block 'twins': one of mlp, " in result.output


def test_another_version_is_a_warning(run: Path, installed: Path, file: Path, caplog: pytest.LogCaptureFixture) -> None:
    before = (run / "run.json").read_text()
    (run / "run.json").write_text(before.replace("1.2.0", "1.1.0"))
    search_only(load_run(file), run)
    (message,) = [record.getMessage() for record in caplog.records]
    assert message == (
        f"{run} was begun with kerasnac-example-parts (1.1.0) and goes on with kerasnac-example-parts (1.2.0): "
        "dataset blobs, metric gap, loss steep, block twins, block Twins, estimator wires may give other results"
    )
    assert sorted({part["version"] for part in json.loads((run / "run.json").read_text())["plugins"]}) == ["1.1.0", "1.2.0"]
    search_only(load_run(file), run)
    assert len(caplog.records) == 1


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"kind": "gadget"}, "plugins.kind is 'gadget'"),
        ({"name": 3}, "plugins.0.name is 3"),
        ({"version": None}, "plugins.0.version is None"),
    ],
)
def test_a_damaged_note_is_one_line(run: Path, changes: dict[str, Any], message: str) -> None:
    path = run / "run.json"
    data = json.loads(path.read_text())
    data["plugins"][0] |= changes
    path.write_text(json.dumps(data))
    result = CliRunner().invoke(main, ["resume", str(run)])
    assert result.exit_code == 2
    assert f"{path} is damaged: {message}" in result.output


def test_every_kind_can_be_resumed() -> None:
    assert all(kind.word == word and isinstance(kind, Kind) for word, kind in parts.KINDS.items())
    assert {*parts.KINDS} == {"block", "dataset", "estimator", "metric", "loss", "task"}


def test_a_loss_and_a_task_of_the_package_are_trained(installed: Path, keras: Any) -> None:
    from kerasnac.adapters.keras.train import fit

    training = Training(epochs=4, learning_rate=0.03)
    data = datasets.load("blobs").with_(loss="steep", metric="gap").development
    assert data.task.loss.identity == {"name": "example_parts.losses:steep"}
    fitted = fit(Architecture((6,), (LayerSpec.of("dense", units=3),)), data, training, seed=0)
    assert fitted.metric > 0
    x = np.random.default_rng(0).normal(size=(400, 2))
    y = np.random.default_rng(1).poisson(np.exp(1 + x[:, :1]))
    counts = datasets.from_arrays(x, y, name="counts", task="counts").development
    assert (counts.task.metric, counts.task.loss.name) == ("mae", "log_cosh")
    line = fit(Architecture((2,), (LayerSpec.of("dense", units=1),)), counts, replace(training, epochs=12), seed=0)
    labels = np.log1p(counts.validation.y)
    assert line.metric < np.abs(labels - labels.mean()).mean()
    with pytest.raises(DataError, match="counts: labels must be 1 counts per sample"):
        datasets.from_arrays(x, y + 0.5, name="counts", task="counts")


def test_a_space_alone_can_be_read(installed: Path, file: Path) -> None:
    assert isinstance(load_space(file), SearchSpace)


@pytest.fixture(autouse=True)
def _forget() -> Iterator[None]:
    """Other tests do not see what these have imported."""
    yield
    for name in [name for name in sys.modules if name.startswith("example_parts")]:
        del sys.modules[name]
