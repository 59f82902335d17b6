"""What has no firmware is refused for its own reason, before a tool is asked for."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from kerasnac.adapters.hls4ml import backends
from kerasnac.core.data.dataset import Split, Task
from kerasnac.errors import KerasnacError
from kerasnac.stages.firmware import delivery as stage
from kerasnac.stages.firmware.delivery import make_firmware
from tests.stages.firmware.cases import Case


@pytest.fixture
def without_tools(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither a compiler nor da4ml is there, and nothing may be converted."""
    (tmp_path / "bin").mkdir()
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    monkeypatch.delenv("CXX", raising=False)
    monkeypatch.setattr(backends, "find_spec", lambda name: None)
    monkeypatch.setattr(stage, "convert", lambda *arguments, **options: pytest.fail("it began without its tools"))


def refusal(case: Case, folder: Path, **options: Any) -> str:
    """Why there is no firmware of a changed case."""
    given = {"trained": case.trained, "split": case.split, "task": case.task} | options
    model, samples = given.pop("trained"), given.pop("split")
    with pytest.raises(KerasnacError) as error:
        make_firmware(model, samples, folder=folder, **given)
    return f"{type(error.value).__name__}: {error.value}"


@pytest.mark.usefixtures("without_tools")
class TestRefusals:
    """What a user has given is refused before a tool is asked for."""

    def test_a_folder_with_other_things(self, case: Case, tmp_path: Path) -> None:
        (tmp_path / "thesis.tex").write_text("mine")
        for folder in (tmp_path, tmp_path / "thesis.tex"):
            assert refusal(case, folder).startswith(f"RunError: {folder} ")
        assert (tmp_path / "thesis.tex").read_text() == "mine"

    def test_a_float_network(self, case: Case, tmp_path: Path) -> None:
        plain = replace(case.trained, architecture=replace(case.trained.architecture, input=None))
        for softmax in ("host", "exact"):
            assert "not quantized" in refusal(case, tmp_path / "fw", trained=plain, softmax=softmax)

    def test_a_network_that_cannot_be_exact(self, case: Case, tmp_path: Path) -> None:
        wide = [
            replace(spec, weight=replace(spec.weight, bits=60)) if spec.weight else spec
            for spec in case.trained.architecture.layers
        ]
        trained = replace(case.trained, architecture=replace(case.trained.architecture, layers=tuple(wide)))
        assert refusal(case, tmp_path / "fw", trained=trained).startswith("ConversionError: dense_0: ")

    def test_a_layer_that_the_backend_has_not(self, case: Case, tmp_path: Path) -> None:
        options = {"backend": "Quartus", "part": "Arria10", "strategy": "resource", "softmax": "exact"}
        assert refusal(case, tmp_path / "fw", **options).startswith("ConversionError: softmax_0: ")

    @pytest.mark.parametrize(
        ("options", "name"),
        [
            ({"part": "zcu999"}, "zcu999"),
            ({"io_type": "io_serial"}, "io_type"),
            ({"layers": {"dense_9": {"reuse_factor": 2}}}, "dense_9"),
            ({"softmax": "on_chip"}, "on_chip"),
            ({"softmax": "exact", "task": Task("regression", 3)}, "softmax"),
        ],
    )
    def test_an_option(self, case: Case, tmp_path: Path, options: dict[str, Any], name: str) -> None:
        found = refusal(case, tmp_path / "fw", **options)
        assert found.startswith("ConfigError: ")
        assert name in found

    @pytest.mark.parametrize(
        "x",
        [
            np.zeros((5, 7), np.float32),
            np.zeros((0, 6), np.float32),
            np.full((5, 6), "a"),
            np.full((5, 6), None),
            np.full((5, 6), np.nan),
        ],
        ids=str,
    )
    def test_samples(self, case: Case, tmp_path: Path, x: NDArray[Any]) -> None:
        assert refusal(case, tmp_path / "fw", split=Split(x, case.split.y[: len(x)])).startswith("DataError: ")

    def test_samples_without_labels(self, case: Case, tmp_path: Path) -> None:
        found = refusal(case, tmp_path / "fw", split=Split(case.split.x, case.split.y[:3]))
        assert found.startswith("DataError: 1500 samples have 3 labels")

    def test_missing_tools(self, case: Case, tmp_path: Path) -> None:
        assert refusal(case, tmp_path / "fw").startswith("EnvironmentProblem: the C++ compiler 'g++'")
        found = refusal(case, tmp_path / "fw", strategy="distributed_arithmetic")
        assert found.startswith("EnvironmentProblem: strategy distributed_arithmetic needs the package da4ml")
        assert [path.name for path in tmp_path.iterdir()] == ["bin"]
