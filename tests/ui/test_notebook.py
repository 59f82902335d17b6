"""The notebook, from the first cell to the last, on tiny settings."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

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
    assert sum("image/png" in output.get("data", {}) for output in outputs) == 3
    text = "".join(output.text for output in outputs if output.output_type == "stream")
    assert "bit-exact: 60 of 60 outputs equal" in text
    assert "Warning" not in text


def test_it_is_as_a_clean_run_leaves_it() -> None:
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    nbformat.validate(notebook)
    executed = [cell.execution_count for cell in notebook.cells if cell.cell_type == "code"]
    assert executed in ([None] * len(executed), [*range(1, len(executed) + 1)])
    assert not [output for cell in notebook.cells for output in cell.get("outputs", ()) if output.output_type == "error"]
