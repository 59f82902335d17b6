"""``kerasnac table`` and ``kerasnac compare``: models and fronts of several runs."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from io import StringIO
from pathlib import Path

import pandas as pd
import pytest

from kerasnac.errors import ConfigError
from kerasnac.stages.results.compare import boxes
from kerasnac.stages.results.saved import SavedRun, open_run
from kerasnac.stages.results.side_by_side import entries
from kerasnac.ui import side_by_side
from tests.commands import kerasnac


class TestTable:
    def test_text(self, folder: Path) -> None:
        run = open_run(folder)
        result = kerasnac("table", folder)
        assert result.exit_code == 0, result.output
        for model in run.tuned:
            assert model.name in result.output
        assert "Metrics and sizes" in result.output
        assert "32-bit float" in " ".join(result.output.split())

    def test_csv(self, folder: Path, tmp_path: Path) -> None:
        run = open_run(folder)
        assert run.compressed is not None
        name = run.compressed.front[0].name
        result = kerasnac("table", f"{folder}:{name}", f"{folder}:{run.tuned[0].name}", "--format", "csv")
        read = pd.read_csv(StringIO(result.stdout))
        assert list(read["model"]) == [name, run.tuned[0].name]
        assert read["bops"][0] == pytest.approx(run.compressed.front[0].bops)
        score = run.test[run.tuned[0].name]
        assert (read["test_accuracy"][1], read["test_accuracy_low"][1]) == pytest.approx((score.value, score.low))
        assert kerasnac("table", folder, "--format", "csv", "--out", tmp_path / "t.csv").exit_code == 0
        assert len(pd.read_csv(tmp_path / "t.csv")) >= 2

    def test_latex(self, folder: Path) -> None:
        text = kerasnac("table", folder, "--format", "latex").stdout
        assert text.startswith(r"\begin{tabular}")
        for rule in (r"\toprule", r"\midrule", r"\bottomrule"):
            assert rule in text
        assert "_" not in text.replace(r"\_", "")
        widths = {line.count(" & ") for line in text.splitlines() if " & " in line}
        assert len(widths) == 1

    def test_estimates_and_synthesis_have_columns_of_their_own(self, folder: Path) -> None:
        run = open_run(folder)
        assert run.compressed is not None
        (entry,) = entries([(run, [run.compressed.models[0].name])])
        entry = replace(
            entry, groups={"adder_graph": {"adder_luts": 100.0}, "yosys": {"yosys_luts": 90.0}, "vivado": {"LUT": 80.0}}
        )
        text = side_by_side.latex([entry])
        for group in ("adder graph (estimate)", "Yosys (synthesis)", "Vivado (synthesis)"):
            assert group in text
        assert text.count("cmidrule") == 3
        assert {"adder_graph:adder_luts", "yosys:yosys_luts", "vivado:LUT"} <= set(
            side_by_side.csv([entry]).splitlines()[0].split(",")
        )

    def test_yosys_of_the_run(self, folder: Path) -> None:
        run = open_run(folder)
        assert run.compressed is not None
        name = run.compressed.models[0].name
        with (folder / "network_luts.jsonl").open("a") as file:
            file.write(json.dumps({"key": "0", "model": name, "yosys_luts": 321.0, "seconds": 1.0}) + "\n")
        assert "321" in kerasnac("table", f"{folder}:{name}").output

    def test_bad_input(self, folder: Path) -> None:
        assert "has no model 'x'" in kerasnac("table", f"{folder}:x").stderr
        assert "is no folder" in kerasnac("table", folder / "no").stderr


class TestCompare:
    @pytest.fixture
    def runs(self, folder: Path, tmp_path: Path) -> list[SavedRun]:
        other = tmp_path / "other"
        shutil.copytree(folder, other)
        lines = [json.loads(line) for line in (other / "search.jsonl").read_text().splitlines()]
        worse = [
            {**line, **({"metrics.accuracy": line["metrics.accuracy"] - 0.1} if line["status"] == "ok" else {})}
            for line in lines
        ]
        (other / "search.jsonl").write_text("".join(json.dumps(line) + "\n" for line in worse))
        return [open_run(other), open_run(folder)]

    def test_hypervolumes(self, runs: list[SavedRun]) -> None:
        search, compressed = boxes(runs)
        assert (search.stage, compressed.stage) == ("search", "compressed")
        assert search.volumes["run"] > search.volumes["other"] > 0
        assert {point.run for point in search.joint} == {"run"}
        assert search.volumes["run"] <= 1
        assert compressed.volumes["run"] == compressed.volumes["other"]
        (given, _) = boxes(runs, reference={"metric": 0.0, "bops": 1e9})
        assert given.reference == (0.0, 1e9)
        assert given.volumes["other"] > search.volumes["other"]

    def test_the_command(self, runs: list[SavedRun], tmp_path: Path) -> None:
        result = kerasnac("compare", *(run.folder for run in runs), "--plot", tmp_path / "c.png", "--reference", "metric=0.1")
        assert result.exit_code == 0, result.output
        assert "Joint front, global search" in result.output
        assert "accuracy 0.1000" in result.output
        assert (tmp_path / "c.png").read_bytes().startswith(b"\x89PNG")

    def test_bad_input(self, runs: list[SavedRun]) -> None:
        with pytest.raises(ConfigError, match="stands twice"):
            boxes([runs[0], runs[0]])
        with pytest.raises(ConfigError, match="'luts'; there are"):
            boxes(runs, cost="luts")
        with pytest.raises(ConfigError, match="has 'x': it is of metric and bops"):
            boxes(runs, reference={"x": 1.0})
        assert "no name with a number" in kerasnac("compare", runs[0].folder, "--reference", "x").output
