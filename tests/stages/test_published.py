"""Published numbers beside those of a run."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from kerasnac.core.hardware.boards import BOARDS
from kerasnac.core.network.published_bops import RULES
from kerasnac.core.settings.yaml_files import load_run
from kerasnac.errors import RunError
from kerasnac.stages.results.published import UNKNOWN, studies, study_of
from kerasnac.stages.results.saved import open_run
from kerasnac.stages.results.side_by_side import GROUPS, entries
from tests.commands import kerasnac


def of_study(folder: Path, name: str) -> Path:
    """Make a run one of another run file."""
    path = folder / "run.yaml"
    text = path.read_text()
    path.write_text(text.replace("name: damage", f"name: {name}"))
    assert open_run(folder).name == name
    return folder


@pytest.mark.parametrize("name", list(studies()))
def test_the_studies_are_of_run_files_and_their_numbers_have_places(name: str) -> None:
    study = studies()[name]
    assert study.rows
    assert study.bops_rule in ("", *RULES)
    for run in study.runs:
        assert load_run(run).name == run
    for row in study.rows:
        assert study.metric in row.metrics
        assert set(row.groups) <= set(GROUPS)
        assert not row.board or row.board in BOARDS
        assert row.source


def test_counts_here_of_published_networks() -> None:
    bragg = {row.name: row for row in studies()["bragg"].rows}
    assert bragg["BraggNN"].our_bops == pytest.approx(2307e6, rel=1e-3)
    assert bragg["NAC, compressed"].our_bops is None
    (smallest,) = (row for row in studies()["jets_mlp_snac"].rows if row.bops == 4768)
    assert smallest.architecture is not None
    assert smallest.architecture.parameters == 4768 + 64 + 32 + 16 + 32 + 5


def test_a_table_with_published_rows(folder: Path) -> None:
    of_study(folder, "jets_mlp_snac")
    found = entries([(open_run(folder), [])], published=True)
    theirs = [one for one in found if one.kind == "published"]
    assert len(theirs) == len(studies()["jets_mlp_snac"].rows)
    model = next(one for one in found if one.kind == "tuned")
    assert model.their_bops == sum(
        n.weights["kernel"].shape[0] * n.weights["kernel"].shape[1] for n in _dense(folder, model.model)
    )
    result = kerasnac("table", folder, "--published", "--curves", "--format", "markdown")
    assert result.exit_code == 0, result.output
    assert "57,728 (3.34 %)" in result.stdout
    assert "here / published" in result.stdout
    assert "main_updated.tex" in result.stdout
    assert "AUC 0" in result.stdout
    rows = [line for line in result.stdout.splitlines() if line.startswith("| ")]
    assert {line.count(" | ") for line in rows if "NAC (BOPs search)" in line}
    assert "NAC (BOPs search)" in kerasnac("table", folder, "--published", "--format", "latex").stdout
    assert "NAC (BOPs search)" in kerasnac("table", folder, "--published").stdout
    csv = kerasnac("table", folder, "--published", "--format", "csv").stdout
    assert {"their_bops", "source", "board", "vivado:latency_ns"} <= set(csv.splitlines()[0].split(","))


def _dense(folder: Path, name: str) -> list:  # type: ignore[type-arg]
    model = next(one for one in open_run(folder).tuned if one.name == name)
    return [node for node in model.architecture.nodes if node.layer.kind == "dense"]


def test_what_is_not_available_is_said(folder: Path) -> None:
    of_study(folder, "bragg")
    found = entries([(open_run(folder), [])], published=True)
    (compressed,) = (one for one in found if one.model == "NAC, compressed")
    assert math.isnan(compressed.metrics["distance"])
    (braggnn,) = (one for one in found if one.model == "BraggNN")
    assert braggnn.metrics["distance"] == 0.1991
    assert braggnn.bops is not None
    assert braggnn.their_bops is not None
    assert UNKNOWN in kerasnac("table", folder, "--published", "--format", "markdown").stdout


def test_runs_without_a_study_are_named(folder: Path) -> None:
    with pytest.raises(RunError, match="no published numbers are known for 'damage'; there are some for bragg"):
        study_of(open_run(folder))
    result = kerasnac("table", folder, "--published")
    assert result.exit_code == 2
    assert "no published numbers are known for 'damage'" in result.stderr
