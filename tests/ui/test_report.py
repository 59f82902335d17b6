"""``kerasnac report``: one HTML file that shows a run."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from kerasnac.core.data.curves import QUANTILES, Distances
from kerasnac.stages.results.saved import open_run
from kerasnac.ui import charts
from kerasnac.ui.report import genes, page
from kerasnac.ui.report.importance import importance
from kerasnac.ui.report.sections import sections
from tests.commands import kerasnac
from tests.damage import FOLDER, Whole, damage, fence

#: Texts that must not become a part of the page.
EVIL = "<img src=x onerror=alert(1)> & </script><script>alert(2)</script> <!--"

BROWSERS = ("chromium", "chromium-browser", "google-chrome")


def data_of(html: str) -> dict[str, Any]:
    found = re.search(r'<script type="application/json" id="data">(.*?)</script>', html, re.DOTALL)
    assert found is not None
    return json.loads(found[1])  # type: ignore[no-any-return]


def titles(html: str) -> list[str]:
    return re.findall(r"<h2>(.*?)</h2>", html)


def test_a_finished_run_has_a_report(whole: Whole, folder: Path) -> None:
    assert "report.html" in whole.files
    result = kerasnac("report", folder)
    assert result.exit_code == 0, result.output
    content = (folder / "report.html").read_bytes()
    assert 4e6 < len(content) < 10e6
    html = content.decode()
    assert titles(html) == [
        *("Question and data", "Fronts", "Global search", "What choices do", "Tuning", "Compression", "Networks"),
        *("Costs side by side", "Firmware", "Test split", "Failures, refusals, and what is missing"),
        "Environment, and how to repeat it",
    ]
    own = html.replace(page.plotly_script(), "")
    assert not re.search(r"""(src|href)=["']?(https?:|//)""", own)  # nothing from the network
    assert f"kerasnac run {folder}/run.yaml --out NEW_FOLDER --seed 0" in own
    assert open_run(folder).fingerprint in own


def test_the_page_has_all_points(folder: Path) -> None:
    run = open_run(folder)
    assert run.search is not None
    assert run.compressed is not None
    data = data_of(page.page(run))
    points = data["explorers"]["fronts"]["points"]
    names = [e.key for e in run.search.trained] + [m.name for m in (*run.tuned, *run.compressed.models)]
    assert [point["name"] for point in points] == names
    values = {(p["stage"], p["name"]): p["values"] for p in points}
    for model in run.compressed.models:
        found = values["compress", model.name]
        assert found["accuracy"] == pytest.approx(model.metrics["accuracy"])
        assert found["bops"] == model.bops
    chosen = [point for point in points if "chosen" in point["marks"]]
    assert {point["stage"] for point in chosen} == {"search", "tune", "compress"}
    for point in chosen:  # a chain from the search on
        assert {one["stage"] for one in chosen if one["family"] == point["family"]} >= {"search", "tune"}
    drawn = [len(trace["x"]) for trace in data["charts"]["tuning"]["data"] if trace["mode"] == "markers"]
    assert sum(drawn) == sum(r["kind"] == "trial" for records in run.trials.values() for r in records)
    assert page.page(open_run(folder)) == page.page(run)  # the same folder gives the same file


def test_genes_have_names_and_values(folder: Path) -> None:
    run = open_run(folder)
    found = genes.choices_of(run)
    assert found is not None
    assert found.of_space
    depth = next(choice for choice in found.choices if choice.name == "0.mlp.depth")
    for evaluation, value in zip(found.candidates, depth.values, strict=True):
        hidden = sum(layer.kind == "dense" for layer in evaluation.built.architecture.layers) - 1
        assert value == str(hidden)
    text = (folder / "run.yaml").read_text()
    (folder / "run.yaml").write_text(text.replace("block: mlp", "block: ./foreign.py:Block"))
    found = genes.choices_of(open_run(folder))  # nothing of others is imported to look at a run
    assert found is not None
    assert not found.of_space
    assert any(choice.name == "dense_0.units" for choice in found.choices)


def test_the_effect_of_a_choice() -> None:
    rng = np.random.default_rng(0)
    values = [str(i % 4) for i in range(400)]
    strong = np.array([int(value) for value in values]) + 0.01 * rng.normal(size=400)
    assert genes.effect(values, strong) > 0.9
    assert genes.effect(values, rng.normal(size=400)) < 0.03
    assert genes.effect(["a", "b"], np.array([1.0, 2.0])) == 0
    assert genes.effect(["a", "b", "a"], np.ones(3)) == 0


def test_the_importance_of_hyperparameters() -> None:
    rng = np.random.default_rng(0)
    rates = 10 ** rng.uniform(-4, -1, size=60)
    records = [
        {
            "kind": "trial",
            "accuracy": -(np.log10(rate) ** 2) + number % 2,
            "learning_rate": rate,
            "batch_size": int(rng.choice([64, 256])),
            "optimizer": "adam",
        }
        for number, rate in enumerate(rates)
    ]
    found = importance({"a": records[::2], "b": records[1::2]}, "accuracy")
    assert found is not None
    assert list(found.values) == ["learning_rate", "batch_size"]  # nothing is said of what never changes
    assert found.values["learning_rate"] > 10 * abs(found.values["batch_size"])
    assert found.explained > 0.6
    assert importance({"a": records[:10]}, "accuracy") is None


def test_texts_of_users_are_escaped(folder: Path) -> None:
    path = folder / "run.yaml"
    lines = [line for line in path.read_text().splitlines() if not line.startswith(("name:", "description:"))]
    path.write_text("\n".join([f"name: {json.dumps(EVIL)}", f"description: {json.dumps(EVIL)}", *lines]))
    record = json.loads((folder / "run.json").read_text())
    record["dataset"] = EVIL + "\ud800"
    (folder / "run.json").write_text(json.dumps(record))
    out = folder / "made.html"
    assert kerasnac("report", folder, "--out", out).exit_code == 0
    own = out.read_text().replace(page.plotly_script(), "")
    assert EVIL[:20] not in own
    assert own.count("<script") == 3
    assert "&lt;img src=x" in own


def test_json_in_the_page_cannot_end_its_element() -> None:
    from kerasnac.ui.report.files import for_script

    made = for_script({"name": EVIL})
    assert not set("<>&") & set(made)
    assert json.loads(made) == {"name": EVIL}


def test_a_run_that_was_interrupted(folder: Path) -> None:
    for name in ("compressed", "firmware", "tuned"):
        shutil.rmtree(folder / name, ignore_errors=True)
    for name in ("compress.jsonl", "mixed.jsonl", "scores.jsonl", "tune.jsonl"):
        (folder / name).unlink()
    path = folder / "stages.jsonl"
    lines = path.read_text().splitlines(keepends=True)
    path.write_text("".join(lines[: next(i for i, line in enumerate(lines) if '"tune"' in line) + 1]))
    html = page.page(open_run(folder))
    assert "No trial has ended yet." in html
    assert "There is no compressed model yet." in html
    assert f"kerasnac resume {folder}" in html
    assert "What choices do" in titles(html)
    (folder / "search.jsonl").unlink()
    html = page.page(open_run(folder))
    assert "No candidate has been evaluated yet." in html
    assert "What choices do" not in titles(html)


def test_what_is_damaged_is_named(folder: Path) -> None:
    model = open_run(folder).tuned[0].name
    (folder / "tuned" / model / "weights.npz").write_bytes(b"nothing")
    (folder / "generations.jsonl").write_bytes(b"{}\nnull\n[]\n")
    html = page.page(open_run(folder))
    assert "generations.jsonl: 3 of 3 records are damaged" in html
    assert f"{model}/weights.npz is damaged" in html


@pytest.mark.parametrize("number", range(12))
def test_any_damage(number: int, whole: Whole, tmp_path: Path) -> None:
    inner, outside = tmp_path / "a" / "b", tmp_path / "outside"
    shutil.copytree(whole.place, inner)
    fence(outside)
    done = damage(np.random.default_rng([17, number]), inner, outside)
    result = kerasnac("report", inner / FOLDER, "--out", tmp_path / "report.html")
    assert result.exit_code in (0, 2), done.text
    assert (result.exit_code == 0) == (tmp_path / "report.html").is_file()


def test_a_folder_that_holds_no_run(tmp_path: Path) -> None:
    result = kerasnac("report", tmp_path)
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr.startswith(f"error: {tmp_path} holds no run")
    assert not list(tmp_path.iterdir())


def test_curves_of_the_test_split(folder: Path) -> None:
    run = open_run(folder)
    assert run.curves
    data = data_of(page.page(run))
    first = data["charts"]["roc-1"]["data"][0]
    model, roc = next((model, found[0]) for model, found in run.curves.items() if isinstance(found, tuple))
    assert first["name"] == f"{model}, area {roc.auc:.4f}"
    assert min(first["y"]) > 0  # the axis is logarithmic
    (counts,) = [found for name, found in run.confusion.items() if name == next(iter(run.confusion))]
    cells = data["charts"]["confusion-1"]["data"][0]
    assert cells["z"][0] == counts[0, 0] / counts[0].sum()
    assert f"{counts[0, 1]:,} of {counts[0].sum():,} samples" in cells["hovertext"][1]
    ours = Distances(1.5, dict.fromkeys(QUANTILES, 1.0), np.array([0.0, 1.0, 3.0]), np.array([6, 2]), "mm")
    chart = charts.distances({"a": ours})
    assert chart is not None
    assert (chart.series[0].x, chart.series[0].y) == ([0.0, 1.0, 3.0], [0.75, 0.125, 0.0])
    assert "[mm]" in chart.x


def test_classical_methods_are_lines(folder: Path) -> None:
    record = {"key": "k", "model": "boxcar[1:2]", "method": "boxcar", "metrics": {"accuracy": 0.6, "loss": 1.0}}
    record |= {"microseconds": 2.5, "samples": 10, "note": ""}
    (folder / "classical.jsonl").write_text(json.dumps(record) + "\n")
    run = open_run(folder)
    assert len(run.classical) == 1, run.problems
    html = page.page(run)
    data = data_of(html)
    assert data["explorers"]["fronts"]["levels"] == {"boxcar[1:2]": {"accuracy": 0.6, "loss": 1.0}}
    assert {0.6} <= {shape["y0"] for shape in data["charts"]["compression-bops"]["layout"]["shapes"]}
    assert "Classical methods" in html


def test_figures_and_tables_as_files(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kept = ("fronts", "networks", "compression", "test")
    some = lambda material: tuple(one for one in sections(material) if one.key in kept)  # noqa: E731
    monkeypatch.setattr(page, "sections", some)
    figures, tables = tmp_path / "figures", tmp_path / "new" / "tables"
    result = kerasnac("report", folder, "--out", tmp_path / "r.html", "--figures", figures, "--tables", tables)
    assert result.exit_code == 0, result.output
    made = {path.name for path in figures.iterdir()}
    assert {"front-bops.png", "front-bops.pdf", "compression-bops.pdf"} <= made
    drawings = [path for path in figures.iterdir() if path.suffix == ".svg"]
    assert drawings
    assert drawings[0].read_text().lstrip().startswith("<svg xmlns=")
    csv = {path.name for path in tables.iterdir() if path.suffix == ".csv"}
    assert csv == {"compress.csv", "test.csv", "curves.csv", "confusion.csv"} | {
        "all-candidates.csv",
        "all-compressed.csv",
        "all-trials.csv",
    }
    run = open_run(folder)
    assert run.search is not None
    assert len((tables / "all-candidates.csv").read_text().splitlines()) == 1 + len(run.search.evaluations)


@pytest.mark.skipif(not (os.environ.get("KERASNAC_BROWSER") or any(map(shutil.which, BROWSERS))), reason="no Chromium")
def test_a_browser_draws_it(folder: Path, tmp_path: Path) -> None:
    program = os.environ.get("KERASNAC_BROWSER") or next(found for name in BROWSERS if (found := shutil.which(name)))
    run = open_run(folder)
    made = page.write(run, tmp_path / "report.html")
    options = [
        "--headless=new",
        "--no-sandbox",
        "--enable-unsafe-swiftshader",
        "--disable-dev-shm-usage",
        "--enable-logging=stderr",
    ]
    command = [
        program,
        *options,
        f"--user-data-dir={tmp_path / 'profile'}",
        "--virtual-time-budget=20000",
        "--dump-dom",
        made.as_uri(),
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    console = [line for line in done.stderr.splitlines() if ":CONSOLE:" in line and "GL Driver Message" not in line]
    assert not console
    dom = done.stdout
    data = data_of(dom)
    figures = sum(len(data[kind]) for kind in ("charts", "explorers", "parallels"))
    assert f'data-drawn="{figures}"' in dom
    explorer = dom[dom.index('data-explorer="fronts"') : dom.index('class="detail"')]
    points = [p for p in data["explorers"]["fronts"]["points"] if {"bops", "accuracy"} <= p["values"].keys()]
    assert f'data-points="{len(points)}"' in explorer
    assert explorer.count('class="point ') >= len(points)
    assert explorer.count("<select") == 4
