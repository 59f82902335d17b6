"""Objects show themselves in a line, and in notebooks as tables."""

from __future__ import annotations

from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from kerasnac.core.data.dataset import Dataset
from kerasnac.core.display import html_table, listed, number, span
from kerasnac.core.network.trained import Trained
from kerasnac.core.network.training import Training
from kerasnac.core.store.progress import Step
from kerasnac.stages.results.saved import open_run
from kerasnac.stages.run import Run
from tests.damage import FOLDER, Whole
from tests.networks import mlp, normal_weights


def test_numbers() -> None:
    assert [number(one) for one in (0.123456, 7.0, 1234567.0, 1234.5, float("nan"), 1e300)] == [
        "0.1235",
        "7",
        "1,234,567",
        "1,234",
        "nan",
        f"{1e300:,.0f}",
    ]
    assert span("bops", [3.0, float("nan"), 1.0]) == "bops 1 to 3"
    assert (span("bops", []), span("bops", [2.0])) == ("", "bops 2")
    assert listed("a", "", "b") == "a, b"


class _Cells(HTMLParser):
    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.cells: list[str] = []
        self.feed(text)
        self.close()
        assert not self.open

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] == "td":
            self.cells.append(data)


def test_tables_escape_what_they_show() -> None:
    text = html_table("<script>", ("a",), [["<b>", 3.5], ["ok", float("nan")]])
    assert "<script>" not in text
    assert _Cells(text).cells == ["<b>", "3.5", "ok", "nan"]
    assert "and 30 more" in html_table("many", ("a",), [[1]] * 80)


def test_results(whole: Whole) -> None:
    run = open_run(whole.place / FOLDER)
    outcome = run.outcome
    assert outcome is not None
    shown = (run, outcome, outcome.search, outcome.compressed, outcome.tuned[0], outcome.tuned[0].architecture)
    for one in shown:
        assert len(repr(one)) < 200
        assert _Cells(one._repr_html_()).cells
    assert outcome.search.front[0].key in outcome.search._repr_html_()
    assert repr(outcome.search).startswith("SearchResult(8 candidates trained, front of ")
    assert outcome.search.evaluations[0].key in repr(outcome.search.evaluations[0])


def test_data_and_runs(vector_classes: Dataset, tmp_path: Path) -> None:
    assert repr(vector_classes) == f"Dataset({vector_classes.describe()})"
    assert "(6,)" in _Cells(vector_classes._repr_html_()).cells
    assert len(repr(vector_classes.development)) < 300
    with Run(tmp_path, vector_classes) as run:
        assert repr(run) == f"Run('{tmp_path}': vectors, seed 0)"


def test_a_quantized_network_shows_its_formats(vector_classes: Dataset) -> None:
    network = mlp(6, 3)
    model = Trained("toy", network, normal_weights(network), Training(), {"accuracy": 0.5}, 0)
    assert repr(model) == f"Trained(toy: {network}, accuracy=0.5)"
    assert "dense_0" in _Cells(model._repr_html_()).cells


@pytest.mark.parametrize("given", ["shown", None, "function"])
def test_a_run_shows_its_progress_unless_told_otherwise(
    given: Any, vector_classes: Dataset, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def search(space: Any, settings: Any, context: Any) -> Any:
        context.progress(Step("search", 1, 1, "one step"))
        raise KeyboardInterrupt

    monkeypatch.setattr("kerasnac.stages.run.session.global_search", search)
    steps: list[Step] = []
    with (
        Run(tmp_path, vector_classes, progress=steps.append if given == "function" else given) as run,
        pytest.raises(KeyboardInterrupt),
    ):
        run.search("jets_mlp")
    assert ("one step" in capsys.readouterr().err) == (given == "shown")
    assert bool(steps) == (given == "function")
