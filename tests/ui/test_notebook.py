"""Objects in notebooks; and the notebook, from the first cell to the last, on tiny settings."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from html import unescape
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import kerasnac
from kerasnac.stages.results.saved import open_run

nbformat = pytest.importorskip("nbformat")
nbclient = pytest.importorskip("nbclient")

NOTEBOOK = Path(__file__).parents[2] / "notebooks" / "bragg.ipynb"

TINY = """
FOLDER = "run"
PATCHES = 300
SEARCH = {"population": 2, "evaluations": 2, "training": {"epochs": 1}}
CHOOSE = ["within 1000%"]
TUNE = {"trials": 1, "epochs": 1}
COMPRESS = {"bits": [6], "iterations": 0, "epochs": 1}
SAMPLES = 30
"""


@pytest.fixture
def shown(monkeypatch: pytest.MonkeyPatch) -> Callable[[Any], list[dict[str, Any]]]:
    """Shows an object as a notebook does, and returns what the front end gets."""
    formatters = pytest.importorskip("IPython.core.formatters")
    found: list[dict[str, Any]] = []
    monkeypatch.setattr("IPython.display.display", lambda data, raw: found.append(data))
    shell = SimpleNamespace(display_formatter=formatters.DisplayFormatter())
    kerasnac.load_ipython_extension(shell)

    def show(thing: Any) -> list[dict[str, Any]]:
        found.clear()
        assert shell.display_formatter.format(thing) == ({}, {}), "all of it is shown by the functions"
        return [*found]

    return show


def kinds(parts: list[dict[str, Any]]) -> list[str]:
    return [next(iter(part)).partition("/")[2] for part in parts]


def test_objects_show_themselves(folder: Path, shown: Callable[[Any], list[dict[str, Any]]]) -> None:
    run = open_run(folder)
    assert run.outcome is not None
    assert run.compressed is not None
    figure = "vnd.plotly.v1+json"
    assert kinds(shown(run)) == [figure, figure, "html"]
    assert kinds(shown(run.search)) == [figure, "html"]
    assert kinds(shown(run.outcome)) == [figure, figure, "html"]
    front = shown(run.compressed)[0]
    assert front.keys() == {"application/vnd.plotly.v1+json", "image/png", "text/plain"}
    json.dumps(front["application/vnd.plotly.v1+json"], allow_nan=False)
    assert base64.b64decode(front["image/png"])[:4] == b"\x89PNG"
    model = run.compressed.models[-1]
    drawn, facts = (part["text/html"] for part in shown(model))
    assert "<svg" in drawn
    assert "ap_fixed<" in unescape(drawn)
    assert "accuracy" in facts
    (network,) = shown(model.architecture.unquantized)
    assert "BOPs at 32 bits" in network["text/html"]


@pytest.mark.parametrize("shape", [(7,), (5, 5, 1), (5, 5, 3), (8, 3), (60, 2)])
def test_samples_of_a_dataset(shape: tuple[int, ...], shown: Callable[[Any], list[dict[str, Any]]]) -> None:
    rng = np.random.default_rng(0)
    for y, task in ((np.arange(90) % 3, "classification"), (rng.normal(size=(90, 2)), "regression")):
        data = kerasnac.datasets.from_arrays(rng.normal(size=(90, *shape)), y, name="made", task=task)
        assert kinds(shown(data)) == ["png", "html"]


def test_a_prompt_stays_text() -> None:
    formatters = pytest.importorskip("IPython.core.formatters")
    shell = SimpleNamespace(display_formatter=formatters.DisplayFormatter())
    shell.display_formatter.active_types = ["text/plain"]
    kerasnac.load_ipython_extension(shell)
    assert not shell.display_formatter.ipython_display_formatter.deferred_printers


def parameters(notebook: Any) -> Any:
    (cell,) = (cell for cell in notebook.cells if "parameters" in cell.metadata.get("tags", ()))
    return cell


def assigned(source: str) -> list[str]:
    return [line.split(" = ")[0] for line in source.splitlines() if " = " in line]


@pytest.mark.slow
def test_it_runs(tmp_path: Path) -> None:
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    cell = parameters(notebook)
    assert assigned(cell.source) == assigned(TINY)
    cell.source = TINY
    notebook.cells.insert(0, nbformat.v4.new_code_cell("import os\n\nos.cpu_count = lambda: 1"))  # one worker is enough
    nbclient.NotebookClient(notebook, timeout=300, resources={"metadata": {"path": str(tmp_path)}}).execute()

    outputs = [output for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs]
    assert sum("image/png" in output.get("data", {}) for output in outputs) == 5
    assert sum("application/vnd.plotly.v1+json" in output.get("data", {}) for output in outputs) == 4
    text = "".join(output.get("text", "") or str(output.get("data")) for output in outputs)
    assert "bit-exact: 60 of 60 outputs equal" in text
    assert "Warning" not in text


def test_it_is_as_a_clean_run_leaves_it() -> None:
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    nbformat.validate(notebook)
    executed = [cell.execution_count for cell in notebook.cells if cell.cell_type == "code"]
    assert executed in ([None] * len(executed), [*range(1, len(executed) + 1)])
    assert not [output for cell in notebook.cells for output in cell.get("outputs", ()) if output.output_type == "error"]
