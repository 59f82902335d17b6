"""Pages under ``docs`` whose numbers are made by code are what the code makes."""

from __future__ import annotations

import importlib.util
import sys
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import pytest

from kerasnac import baselines
from kerasnac.core.network.bops import costs
from kerasnac.core.search.objectives import Objective
from kerasnac.stages.results.saved import open_run
from kerasnac.stages.results.side_by_side import entries
from kerasnac.ui import plots, side_by_side

DOCS = Path(__file__).parents[1] / "docs"


pytestmark = pytest.mark.skipif(not DOCS.is_dir(), reason="the pages are not installed")


def script(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"{name}_page", DOCS / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    made = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = made
    spec.loader.exec_module(made)
    return made


def test_the_tables_of_bops_are_fresh() -> None:
    made = script("bops")
    page = made.PAGE.read_text(encoding="utf-8")
    assert made.written(page) == page, "run python docs/bops.py"
    # Numbers that stand in the text.
    braggnn, base = ({row.layer: row.bops / 1e6 for row in costs(baselines.get(name))} for name in made.PUBLISHED)
    total, small = sum(braggnn.values()), sum(base.values())
    without_norms = sum(value for layer, value in base.items() if not layer.startswith("layer_norm"))
    outside = braggnn["conv2d_0"] + braggnn["conv2d_5"] + braggnn["conv2d_6"]
    assert (f"{total:,.0f}", f"{without_norms:.0f}", f"{outside:,.0f}") == ("2,307", "235", "1,105")
    assert (f"{total / small:.1f}", f"{1106 / 85:.1f}") == ("9.6", "13.0")


def test_a_page_of_results(folder: Path, tmp_path: Path) -> None:
    made, pages = script("results"), tmp_path / "results"
    settings = folder / "run.yaml"
    settings.write_text(settings.read_text().replace("name: damage", "name: jets_mlp_snac"))
    (pages).mkdir()
    (pages / "jets_mlp.notes.md").write_text("Ours is smaller.\n")
    path = made.write("jets_mlp", [folder], pages, cores=2)
    page = path.read_text()
    run = open_run(folder)
    found = entries([(run, [])], published=True)
    for sheet in (*side_by_side.sheets(found), *side_by_side.curves([run], found)):
        assert side_by_side.markdown_table(sheet.columns, sheet.rows) in page
    assert "Ours is smaller." in page
    assert f"--seed {run.seed}" in page
    assert "on 2 cores" in page
    for converted in run.firmware:
        assert f"{converted.trained.name}: {converted.verdict}" in page
    figures = [line.rpartition("(")[2].rstrip(")") for line in page.splitlines() if line.startswith("![")]
    assert len(figures) >= 3
    for figure in figures:
        assert 1000 < (pages / figure).stat().st_size < made.MOST_BYTES
    assert (pages / "jets_mlp" / "run.yaml").read_text() == settings.read_text()
    assert "[Jets, MLP with hardware objectives](jets_mlp.md)" in (pages / "README.md").read_text()
    made.write("jets_mlp", [folder], pages, cores=2)
    assert path.read_text() == page


def test_the_index_of_results_is_fresh() -> None:
    made = script("results")
    assert (made.FOLDER / "README.md").read_text() == made.index_text(), "run python docs/results.py"


def test_fronts_of_three_objectives(folder: Path) -> None:
    run = open_run(folder)
    assert run.search is not None
    three = replace(run.search, objectives=(*run.search.objectives, Objective("parameters", "min")))
    figure = plots.objectives(three)
    assert len(figure.axes) == 4
    assert figure.axes[0].get_xlabel() == "bit operations (BOPs)"
    assert figure.axes[0].get_ylabel() == "validation accuracy"
    assert figure.axes[3].get_zlabel() == "validation accuracy"  # type: ignore[attr-defined]
    assert plots.png(figure).startswith(b"\x89PNG")
