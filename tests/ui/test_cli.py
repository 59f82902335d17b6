"""The command line: what it loads, what it says, how it ends."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result

from kerasnac import __version__
from kerasnac.core.network.architecture import Architecture
from kerasnac.core.network.layers import LayerSpec
from kerasnac.core.network.precision import Precision
from kerasnac.core.network.trained import Trained
from kerasnac.core.network.training import Training
from kerasnac.core.settings.yaml_files import load_run, names
from kerasnac.datasets.toy_jets import draw, features
from kerasnac.stages import run
from kerasnac.stages.results.saved import open_run
from kerasnac.ui.cli import main

RUN = """
name: tiny
space:
  input: 4
  outputs: 2
  blocks:
    - {block: mlp, widths: [[3, 4]], activation: [relu, tanh]}
dataset: {source: npz, path: data.npz}
search: {population: 2, evaluations: 2, training: {epochs: 1}}
tune: {select: [best], trials: 1, epochs: 1}
compress: {bits: [6], iterations: 1, epochs: 1}
firmware: {select: [best], samples: 20}
profiles:
  other: {search: {evaluations: 3}}
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A tiny run file and its data."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(200, 4))
    np.savez(tmp_path / "data.npz", x=x, y=(x[:, 0] > 0).astype(int))
    path = tmp_path / "tiny.yaml"
    path.write_text(RUN)
    return path


def kerasnac(*arguments: str | Path) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


def complaint(*arguments: str | Path) -> str:
    """The one line that a command ends with when the user can do something about it."""
    result = kerasnac(*arguments)
    assert result.exit_code == 2, result.output
    assert not result.stdout
    (line,) = result.stderr.splitlines()
    assert line.startswith("error: ")
    return line


class TestHelp:
    def test_it_loads_nothing_heavy(self) -> None:
        code = (
            "import sys\n"
            "from kerasnac.ui.cli import main\n"
            "main(['run', '--help'], standalone_mode=False)\n"
            "print(*sorted({name.split('.')[0] for name in sys.modules}), file=sys.stderr)"
        )
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        assert "--profile" in done.stdout
        assert "click" in done.stderr.split()
        assert {"tensorflow", "numpy", "keras", "pandas", "matplotlib", "rich", "pydantic"}.isdisjoint(done.stderr.split())

    def test_commands(self) -> None:
        result = kerasnac("--help")
        assert result.exit_code == 0
        for command in ("run", "resume", "show", "references", "spaces", "rtl", "firmware", "doctor"):
            assert f"\n  {command} " in result.stdout

    def test_version(self) -> None:
        assert __version__ in kerasnac("--version").stdout

    def test_as_a_module(self) -> None:
        done = subprocess.run([sys.executable, "-m", "kerasnac", "--version"], capture_output=True, text=True, check=True)
        assert __version__ in done.stdout


class TestSpaces:
    def test_list(self) -> None:
        result = kerasnac("spaces")
        assert result.exit_code == 0
        assert "bragg_exact" in names()
        for name in names():
            assert name in result.stdout

    @pytest.mark.parametrize("name", names())
    def test_one_by_name(self, name: str) -> None:
        result = kerasnac("spaces", name)
        assert result.exit_code == 0
        assert "genomes" in result.stdout
        assert next(iter(load_run(name).space.genes)) in result.stdout

    def test_one_by_file(self, file: Path) -> None:
        result = kerasnac("spaces", file)
        assert result.exit_code == 0
        assert "relu, tanh" in result.stdout

    def test_unknown_name(self) -> None:
        assert "bragg_exact" in complaint("spaces", "brag_exact")

    def test_without_choices(self, tmp_path: Path) -> None:
        path = tmp_path / "one.yaml"
        path.write_text("input: 16\noutputs: 5\nblocks: [{block: mlp, widths: 8}]\n")
        assert "no choices, one network" in kerasnac("spaces", path).stdout


class TestComplaints:
    def test_missing_file(self, tmp_path: Path) -> None:
        assert "no.yaml: No such file or directory" in complaint("run", tmp_path / "no.yaml", "--out", tmp_path / "out")

    def test_unknown_profile(self, file: Path, tmp_path: Path) -> None:
        line = complaint("run", file, "--profile", "quick", "--out", tmp_path / "out")
        assert "no profile 'quick'; it has other" in line

    def test_not_yaml(self, file: Path, tmp_path: Path) -> None:
        file.write_text(RUN.replace("[best]", "[best"))
        line = complaint("run", file, "--out", tmp_path / "out")
        assert f"{file}:10: not valid YAML" in line

    def test_unknown_key(self, file: Path, tmp_path: Path) -> None:
        file.write_text(RUN.replace("evaluations: 2", "evaluation: 2"))
        assert f"{file}:9: search.evaluation: unknown key; did you mean evaluations?" in complaint(
            "run", file, "--out", tmp_path / "out"
        )

    def test_missing_data(self, file: Path, tmp_path: Path) -> None:
        (tmp_path / "data.npz").unlink()
        assert "data.npz: there is no such file" in complaint("run", file, "--out", tmp_path / "out")

    def test_space_that_does_not_fit_the_data(self, file: Path, tmp_path: Path) -> None:
        file.write_text(RUN.replace("input: 4", "input: 5"))
        assert "(5,)" in complaint("run", file, "--out", tmp_path / "out")

    def test_folder_that_cannot_be_made(self, file: Path, tmp_path: Path) -> None:
        line = complaint("run", file, "--out", tmp_path / "data.npz" / "out")  # Below a file: not even root may write there.
        assert "cannot write to" in line
        assert "--out" in line

    def test_folder_of_a_run_with_another_space(self, file: Path, tmp_path: Path) -> None:
        out = tmp_path / "out"
        out.mkdir()
        (out / "run.yaml").write_text(RUN.replace("data.npz", f"{tmp_path}/data.npz").replace("[[3, 4]]", "[[3, 5]]"))
        assert "another space" in complaint("run", file, "--out", out)

    @pytest.mark.parametrize(
        ("given", "message"),
        [
            ("search.evaluation=3", "--set: search.evaluation: unknown key; did you mean evaluations?"),
            ("firmware.part", "--set firmware.part: give KEY=VALUE"),
            ("compress.bits=[8", "--set compress.bits=[8: the value is no YAML"),
            ("tune.trials=many", "--set: tune.trials: Input should be a valid integer"),
        ],
    )
    def test_settings_on_the_command_line(self, given: str, message: str, file: Path, tmp_path: Path) -> None:
        assert message in complaint("run", file, "--set", given, "--out", tmp_path / "out")
        (tmp_path / "run.yaml").write_text(RUN)
        for command in ("resume", "tune", "compress", "convert"):
            assert message in complaint(command, tmp_path, "--set", given)

    def test_unknown_baseline(self, file: Path, tmp_path: Path) -> None:
        line = complaint("run", file, "--baseline", "alexnet", "--out", tmp_path / "out")
        assert "alexnet is neither a JSON file nor a baseline: braggnn" in line

    def test_baseline_that_does_not_fit_the_data(self, file: Path, tmp_path: Path) -> None:
        line = complaint("run", file, "--baseline", "braggnn", "--baseline", "hls4ml_jets", "--out", tmp_path / "out")
        assert "tune.baselines: braggnn: it takes inputs of shape (11, 11, 1)" in line

    @pytest.mark.parametrize("compiler", ["no-such-compiler", "/bin/false", "g++ -nostdinc"])
    def test_no_compiler(self, compiler: str, file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("CXX", compiler)
        assert compiler in complaint("run", file, "--out", tmp_path / "out")
        assert not [*tmp_path.glob("out/*.jsonl")], "something was trained first"

    def test_resume_of_a_folder_without_a_run(self, tmp_path: Path) -> None:
        assert "run.yaml is missing" in complaint("resume", tmp_path)

    def test_resume_of_nothing(self, tmp_path: Path) -> None:
        result = kerasnac("resume", tmp_path / "nothing")
        assert result.exit_code == 2
        assert "does not exist" in result.stderr

    def test_run_without_a_folder(self, file: Path) -> None:
        result = kerasnac("run", file)
        assert result.exit_code == 2
        assert "--out" in result.stderr


JETS = (
    RUN.replace("input: 4", "input: 16")
    .replace("outputs: 2", "outputs: 5")
    .replace("source: npz, path: data.npz", "source: jets")
)


@pytest.mark.usefixtures("in_process", "formula")
class TestData:
    def test_toy_in_place_of_files(self, file: Path, tmp_path: Path) -> None:
        file.write_text(JETS)
        line = complaint("search", file, "--out", tmp_path / "out")
        assert "dataset jets needs the option 'path'; --data gives a run its files, or toy ones: --data toy" in line
        done = kerasnac("search", file, "--data", "toy", "--out", tmp_path / "out", "--workers", "1")
        assert done.exit_code == 0, done.output
        assert load_run(tmp_path / "out" / "run.yaml").dataset.source == "toy_jets"
        assert kerasnac("search", file, "--data", "toy", "--out", tmp_path / "out", "--workers", "1").exit_code == 0

    def test_files_are_recognised_and_named(self, file: Path, tmp_path: Path) -> None:
        file.write_text(JETS)
        particles, labels = draw(400, 0)
        np.savez(tmp_path / "toy", x=features(particles), y=labels)
        (tmp_path / "toy.npz").rename(tmp_path / "mine")
        done = kerasnac("search", file, "--data", tmp_path / "mine", "--out", tmp_path / "out", "--workers", "1")
        assert done.exit_code == 0, done.output
        said = "mine was taken for particle lists"
        assert said in done.stderr
        assert said in json.loads((tmp_path / "out" / "run.json").read_text())["dataset"]

    def test_two_files(self, file: Path, tmp_path: Path) -> None:
        file.write_text(
            RUN.replace("source: npz, path: data.npz", "source: qubit_readout").replace("input: 4", "input: [4, 2]")
        )
        states = np.arange(200) % 2
        np.save(tmp_path / "iq.npy", np.random.default_rng(0).normal(size=(200, 8)) + states[:, np.newaxis])
        np.save(tmp_path / "states.npy", states)
        files = ("--data", tmp_path / "iq.npy", "--data", tmp_path / "states.npy")
        done = kerasnac("search", file, *files, "--out", tmp_path / "out", "--workers", "1")
        assert done.exit_code == 0, done.output
        assert "I/Q traces of 4 samples, with labels in states.npy" in done.stderr
        kept = load_run(tmp_path / "out" / "run.yaml")
        assert kept.dataset.options["path"] == [str(tmp_path / "iq.npy"), str(tmp_path / "states.npy")]

    def test_refused(self, file: Path, tmp_path: Path) -> None:
        assert "--data toy: there are no toy data for the dataset npz" in complaint(
            "run", file, "--data", "toy", "--out", tmp_path
        )
        line = complaint("run", file, "--data", tmp_path / "no", "--out", tmp_path / "out")
        assert f"--data {tmp_path / 'no'}: there is no such file or folder" in line


def test_run_and_resume(file: Path, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    out = tmp_path / "out"
    first = kerasnac("run", file, "--out", out, "--workers", "1", "--seed", "3")
    assert first.exit_code == 0, first.output + str(first.exception)
    assert "bit-exact: 40 of 40 outputs equal" in first.stdout
    for name in (
        "run.yaml",
        "run.json",
        "search.jsonl",
        "search.csv",
        "search.png",
        "tune.png",
        "compress.png",
        "summary.txt",
        "report.html",
    ):
        assert (out / name).stat().st_size > 0
    journals = {path: path.read_bytes() for path in out.glob("*.jsonl")}
    assert len(journals) == 6
    files = {path: path.stat().st_mtime_ns for path in out.rglob("*")}
    read = kerasnac("resume", out)
    assert (read.exit_code, read.stdout, read.stderr) == (0, first.stdout, "")
    assert {path: path.stat().st_mtime_ns for path in out.rglob("*")} == files

    (out / "complete.json").unlink()
    request.getfixturevalue("in_process")  # Two processes give what one gives.
    again = kerasnac("resume", out)
    assert again.exit_code == 0, again.output
    assert again.stdout == first.stdout
    assert {path: path.read_bytes() for path in out.glob("*.jsonl")} == journals  # Nothing was computed again.

    (project,) = (out / "firmware").iterdir()
    made = {path: path.read_bytes() for path in project.rglob("*") if path.is_file()}
    other = kerasnac("convert", out, "--set", "firmware.part=zcu102")
    assert other.exit_code == 0, other.output
    assert "firmware.part: xcvu13p-flga2577-2-e -> xczu9eg-ffvb1156-2-e; search, tune, compress: as before" in other.stderr
    assert {path: path.read_bytes() for path in project.rglob("*") if path.is_file()} == made
    beside = next(path for path in (out / "firmware").iterdir() if path != project)
    assert beside.name.startswith(f"{project.name}-")
    assert "xczu9eg" in (beside / "project.tcl").read_text()
    assert (out / "tune.jsonl").read_bytes() == journals[out / "tune.jsonl"]
    found = [call.found["made"] for call in open_run(out).history if call.stage == "firmware" and call.found]
    assert found == [[project.name], [beside.name]]
    assert "part: default -> xczu9eg" in kerasnac("show", out).stdout


@pytest.mark.usefixtures("in_process", "formula")
def test_a_run_without_any_firmware_has_an_exit_code_of_its_own(file: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    file.write_text(RUN.replace("firmware: {select: [best]", 'firmware: {select: ["bops <= 1"]'))
    for command in (("run", file, "--out", out), ("resume", out)):
        done = kerasnac(*command, "--workers", "1")
        assert done.exit_code == 3, done.output + str(done.exception)
        assert "no model keeps bops <= 1" in done.stdout
        assert "no model keeps bops <= 1" in (out / "summary.txt").read_text()
        assert done.stderr.splitlines()[-1] == f"error: no model has firmware; the last lines of {out}/summary.txt say why"


@pytest.mark.usefixtures("in_process", "formula")
def test_stages_alone(file: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    found = kerasnac("search", file, "--out", out, "--workers", "1", "--set", "search.evaluations=3")
    assert found.exit_code == 0, found.output
    assert f"`kerasnac resume {out}` goes on with the rest, `kerasnac tune {out}` with the tuning alone" in found.stdout
    assert (out / "report.html").stat().st_size > 0
    assert load_run(out / "run.yaml").search.evaluations == 3
    for stage, title in (("tune", "Tuned models"), ("compress", "Compressed models")):
        done = kerasnac(stage, out, "--workers", "1")
        assert done.exit_code == 0, done.output
        assert title in done.stdout
        assert f"kerasnac resume {out}" in done.stdout
        assert (out / f"{stage}.jsonl").exists()
    assert not (out / "summary.txt").exists()


@pytest.mark.slow
@pytest.mark.usefixtures("in_process")
def test_a_search_alone_and_the_rest(file: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    found = kerasnac("search", file, "--out", out, "--workers", "1", "--seed", "3")  # The run above has compiled it.
    assert found.exit_code == 0, found.output + str(found.exception)
    assert "Pareto front of the global search" in found.stdout
    assert f"kerasnac resume {out}" in found.stdout
    for name in ("search.csv", "search.png", "convergence.png", "generations.jsonl"):
        assert (out / name).stat().st_size > 0
    assert not (out / "tune.jsonl").exists()
    searched = (out / "search.jsonl").read_bytes()
    assert kerasnac("resume", out, "--workers", "1").exit_code == 0
    assert (out / "tune.jsonl").exists()
    assert (out / "search.jsonl").read_bytes() == searched


@pytest.mark.usefixtures("in_process")
def test_references_alone(file: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    file.write_text(
        RUN + "references: {boosted_trees: {luts: estimate, rounds: 2, depths: [2], thresholds: [8], learning_rates: 0.6}}\n"
    )
    done = kerasnac("references", file, "--out", out, "--workers", "1")
    assert done.exit_code == 0, done.output + str(done.exception)
    assert "trees-d2-b2-t8-l0.6-r001" in done.stdout
    assert "no Yosys, no Verilog: the estimate is no count" in (out / "trees.txt").read_text()
    for name in ("run.yaml", "trees.jsonl", "trees.csv", "trees.png"):
        assert (out / name).stat().st_size > 0
    assert not (out / "search.jsonl").exists()
    assert load_run(out / "run.yaml").references == load_run(file).references
    again = kerasnac("references", file, "--out", out, "--workers", "1")
    assert again.stdout == done.stdout


@pytest.mark.parametrize(
    ("references", "message"),
    [
        ("[boosted_tree]", "references.boosted_tree: unknown key"),
        ("7", "references: Input should be keys and values"),
        ("{boosted_trees: {depths: [12]}}", "references.boosted_trees.depths.0: Input should be less than or equal to 10"),
        ("{boosted_trees: {leaf_bits: []}}", "references.boosted_trees.leaf_bits: "),
    ],
)
def test_references_that_there_are_not(references: str, message: str, file: Path, tmp_path: Path) -> None:
    file.write_text(RUN + f"references: {references}\n")
    assert message in complaint("references", file, "--out", tmp_path / "out")


def test_a_scheduler_that_is_not_there(file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cluster = pytest.importorskip("kerasnac.adapters.workers.cluster")
    monkeypatch.setattr(cluster, "PATIENCE", 0.2)
    address = "tcp://127.0.0.1:9"
    assert f"no Dask scheduler answers at {address}" in complaint(
        "search", file, "--out", tmp_path / "out", "--scheduler", address
    )


def test_an_interrupted_run_says_how_to_go_on(file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = tmp_path / "out"

    def run_all(*arguments: object, **options: object) -> None:
        if out.exists():
            (out / "run.yaml").touch()
        raise KeyboardInterrupt

    monkeypatch.setattr(run, "run_all", run_all)
    assert "stopped before anything was computed" in kerasnac("run", file, "--out", out).stderr
    out.mkdir()
    result = kerasnac("run", file, "--out", out)
    assert result.exit_code == 130
    assert f"kerasnac resume {out}" in result.stderr


@pytest.fixture
def quantized() -> Trained:
    """3 inputs, one output."""
    weight, grid = Precision(3, 1), Precision(4, 2)
    dense = replace(LayerSpec.of("dense", units=1), weight=weight, bias=weight)
    architecture = Architecture((3,), (dense,), input=grid)
    weights = {
        f"{architecture.nodes[0].name}/kernel": np.array([[0.5], [-0.25], [0.75]], np.float32),
        f"{architecture.nodes[0].name}/bias": np.array([0.25], np.float32),
    }
    return Trained("tiny", architecture, weights, Training(), {}, 0)


def test_costs(quantized: Trained, tmp_path: Path) -> None:
    result = kerasnac("costs", quantized.save(tmp_path / "model"), "--board", "pynq-z2")
    assert result.exit_code == 0, result.output + str(result.exception)
    assert "tiny, layer by layer" in result.stdout
    assert "adder_graph" in result.stdout
    assert "rule4ml" in result.stdout
    assert "unknown board" in complaint("costs", tmp_path / "model", "--board", "nothing")


class TestRtl:
    @pytest.mark.skipif(shutil.which("verilator") is None, reason="verilator is not installed")
    def test_verilog(self, quantized: Trained, tmp_path: Path) -> None:
        pytest.importorskip("da4ml")
        model, out = quantized.save(tmp_path / "model"), tmp_path / "verilog"
        result = kerasnac("rtl", model, "--out", out, "--samples", "30", "--latency-cutoff", "2", "--no-synthesis")
        assert result.exit_code == 0, result.output + str(result.exception)
        assert "adder graph (estimate)" in result.stdout
        assert "2 adder levels between registers" in " ".join(result.stdout.split())
        assert "tiny: bit-exact: 30 of 30 samples equal" in result.stdout
        assert "Yosys" not in result.stdout
        np.save(tmp_path / "x.npy", np.ones((5, 4)))
        assert "do not fit tiny" in complaint("rtl", model, "--out", out, "--data", tmp_path / "x.npy")

    def test_no_model(self, tmp_path: Path) -> None:
        assert "holds no saved model" in complaint("rtl", tmp_path, "--out", tmp_path / "verilog")

    def test_a_float_model(self, quantized: Trained, tmp_path: Path) -> None:
        plain = replace(quantized, architecture=replace(quantized.architecture, input=None))
        model = plain.save(tmp_path / "model")
        assert "not quantized" in complaint("rtl", model, "--out", tmp_path / "verilog")

    def test_the_folder_holds_something_else(self, quantized: Trained, tmp_path: Path) -> None:
        model = quantized.save(tmp_path / "model")
        assert "something else" in complaint("rtl", model, "--out", model)


class TestVendor:
    def test_without_the_tools_it_says_what_to_run(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        (tmp_path / "project.tcl").write_text('set backend "vitis"\n')
        monkeypatch.setenv("PATH", str(tmp_path))
        result = kerasnac("firmware", "synth", tmp_path)
        assert result.exit_code == 2
        assert f"cd {tmp_path} && vitis-run --mode hls --tcl build_prj.tcl\n" in result.stdout
        assert f"kerasnac firmware import-report {tmp_path}\n" in result.stdout
        assert "vitis-run is not on the path" in result.stderr

    def test_import(self, tmp_path: Path) -> None:
        table = ["| Site Type | Used | Fixed | Available | Util% |", "| CLB LUTs* | 1234 | 0 | 10000 | 12.34 |"]
        (tmp_path / "vivado_synth.rpt").write_text("\n".join([*table, "| CLB Registers | 6 | 0 | 200 | 3.0 |"]))
        result = kerasnac("firmware", "import-report", tmp_path)
        assert result.exit_code == 0, result.output
        assert "1,234 (12.3%)" in result.stdout
        assert not (tmp_path / "vendor_report.json").exists()  # It is no firmware folder.
        for name in ("project.tcl", "report.json"):
            (tmp_path / name).touch()
        result = kerasnac("firmware", "import-report", tmp_path / "vivado_synth.rpt")
        assert f"kept in {tmp_path / 'vendor_report.json'}" in result.stdout
        assert json.loads((tmp_path / "vendor_report.json").read_text())["vivado"]["used"] == {"LUT": 1234, "FF": 6}

    def test_nothing_to_import(self, tmp_path: Path) -> None:
        assert str(tmp_path) in complaint("firmware", "import-report", tmp_path)
