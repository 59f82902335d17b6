"""Disks that are full or broken, and kills between any two system calls: one line, and nothing is lost.

A whole run goes through the command line. Trainings are formulas; all that is written is real.
"""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result

from kerasnac.adapters.keras import train
from kerasnac.core.network.trained import Trained
from kerasnac.core.network.training import Training
from kerasnac.errors import ConfigError
from kerasnac.stages.run.folder import FILES, FOLDERS
from kerasnac.ui.cli import main
from kerasnac.ui.exits import Exit
from tests.faults import FAULTS, Fault, Faults, Killed
from tests.networks import mlp, normal_weights
from tests.stand_ins import Formula, without_trainings

pytestmark = pytest.mark.usefixtures("da4ml")

RUN = """
name: faults
space:
  input: 4
  outputs: 2
  firmware: exact
  blocks:
    - {block: mlp, widths: [[3, 4, 5]], activation: [relu, tanh]}
dataset: {source: npz, path: data.npz}
search: {population: 2, evaluations: 4, training: {epochs: 1}, objectives: [metric, adder_luts]}
tune: {select: [best], trials: 2, epochs: 1, repeats: 2}
compress:
  bits: [6]
  iterations: 1
  epochs: 2
  rewind: early
  rewind_epochs: 1
  cost: adder_luts
  mixed: {evaluations: 2, population: 2, epochs: 1, weight_bits: [4, 5], activation_bits: [5], max_drop: 1.0}
firmware: {select: [best], samples: 20}
"""

#: Candidates that are trained quantized and pruned, and saved.
CODESIGN = (
    RUN.replace(
        "activation: [relu, tanh]}",
        "activation: [relu, tanh], weight_bits: [4, 6], activation_bits: [5, 6], sparsity: [0.25, 0.5]}",
    )
    .replace("  iterations: 1", "  schedule: searched")
    .replace("  rewind: early\n  rewind_epochs: 1\n", "")
)


@pytest.fixture
def formula(monkeypatch: pytest.MonkeyPatch) -> Formula:
    return without_trainings(monkeypatch)


@pytest.fixture
def kerasnac(formula: Formula, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., Result]:
    """The command line, with stand-ins for workers, trainings, drawings and conversions."""
    write_inputs(tmp_path)
    return invoked


def write_inputs(place: Path) -> None:
    """Write the data and the file of a run."""
    x = np.random.default_rng(0).normal(size=(100, 4))
    np.savez(place / "data.npz", x=x, y=(x[:, 0] > 0).astype(int))
    (place / "faults.yaml").write_text(RUN)


def invoked(*arguments: object) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments], catch_exceptions=False)


def content(folder: Path) -> dict[str, str]:
    """All files, without recorded times, and without the calls of stages that were interrupted; of the report its end."""
    files = {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    found = {name: re.sub(r'("seconds":)[^,}]*', r"\1", text.decode("latin-1")) for name, text in sorted(files.items())}
    if "stages.jsonl" in found:
        plain = re.sub(r'"(time|digest)":"[^"]*",?', "", found["stages.jsonl"])
        found["stages.jsonl"] = "\n".join(dict.fromkeys(plain.splitlines()))
    if "report.html" in found:  # It shows when stages began, and how long they took.
        found["report.html"] = found["report.html"][-len("</html>") :]
    if "complete.json" in found:  # Hashes of files with times.
        found["complete.json"] = re.sub(r"[0-9a-f]{64}", "", found["complete.json"])
    return found


def checked(kerasnac: Callable[..., Result], folder: Path, whole: dict[str, str], fault: Fault, number: int) -> None:
    """Let one call of a run fail; the run says so in one line, and resumes to what the undisturbed one gives."""
    faults = Faults(folder, fault, number)
    with pytest.MonkeyPatch.context() as patch:
        faults.install(patch)
        if fault in ("killed", "torn"):
            with pytest.raises(Killed):
                kerasnac("run", folder.parent / "faults.yaml", "--out", folder)
        else:
            result = kerasnac("run", folder.parent / "faults.yaml", "--out", folder)
            where = f"{fault} at {number}, {faults.calls[number]}"
            if result.exit_code == Exit.NO_FIRMWARE:  # What has failed was of no importance: a file that is deleted.
                assert faults.calls[number][0] in ("unlink", "rmdir"), where
            else:
                assert result.exit_code == 2, f"{where}: {result.output}"
                lines = [line for line in result.stderr.splitlines() if line.startswith("error: ")]
                assert len(lines) == 1, f"{where}: {result.stderr}"
                assert str(folder) in lines[0], where
    before = {path: path.read_bytes() for path in folder.rglob("*.jsonl")}
    assert kerasnac("run", folder.parent / "faults.yaml", "--out", folder).exit_code == Exit.NO_FIRMWARE
    assert content(folder) == whole, f"{fault} at {number}, {faults.calls[number]}"
    for path, records in before.items():
        kept = records[: records.rfind(b"\n") + 1]
        assert path.read_bytes().startswith(kept), f"{path.name} keeps what it had: {fault} at {number}"


@pytest.fixture(params=["float", "codesign"])
def undisturbed(request: pytest.FixtureRequest, kerasnac: Callable[..., Result], tmp_path: Path) -> tuple[Any, Any]:
    """Calls and files of a run of one kind of space to which nothing happens."""
    if request.param == "codesign":
        (tmp_path / "faults.yaml").write_text(CODESIGN)
    layer = Faults(tmp_path / "whole")
    with pytest.MonkeyPatch.context() as patch:
        layer.install(patch)
        assert kerasnac("run", tmp_path / "faults.yaml", "--out", tmp_path / "whole").exit_code == Exit.NO_FIRMWARE
    return layer.calls, content(tmp_path / "whole")


def test_nothing_is_lost_by_a_call_that_fails(
    undisturbed: tuple[Any, Any], kerasnac: Callable[..., Result], tmp_path: Path
) -> None:
    calls, whole = undisturbed
    step = len(calls) // 2
    for first, fault in enumerate(FAULTS):
        for number in range(first * step // len(FAULTS), len(calls), step):
            checked(kerasnac, tmp_path / f"{fault}{number}", whole, fault, number)


@pytest.mark.slow
@pytest.mark.parametrize("fault", FAULTS)
def test_nothing_is_lost_by_any_call_that_fails(
    fault: Fault, undisturbed: tuple[Any, Any], kerasnac: Callable[..., Result], tmp_path: Path
) -> None:
    calls, whole = undisturbed
    for number in range(len(calls)):
        checked(kerasnac, tmp_path / f"{fault}{number}", whole, fault, number)


def test_a_run_writes_where_it_looks_whether_anything_is_in_the_way(undisturbed: tuple[Any, Any]) -> None:
    _, whole = undisturbed
    assert {name.split("/")[0] for name in whole} <= {*FILES, *FOLDERS, ".lock"}


def changed(path: Path, **changes: Any) -> None:
    """Change keys of the JSON object in the first line, or in all, of a file."""
    first, *rest = path.read_text().splitlines() if path.suffix == ".jsonl" else [path.read_text()]
    path.write_text("\n".join([json.dumps(json.loads(first) | changes), *rest, ""]))


def replaced_by_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


#: What happens to a file, by its pattern in the run folder, and the error; an empty one stands for success.
DAMAGE: dict[str, tuple[str, Callable[[Path], Any], str]] = {
    "a name that escapes": ("tuned/*/model.json", lambda p: changed(p, name="../../../evil"), ""),
    "a source that escapes": ("compressed/*i00/model.json", lambda p: changed(p, origin={"parent": "../../evil"}), ""),
    "a record that escapes": ("compress.jsonl", lambda p: changed(p, model="../../../evil"), ""),
    "no weights": ("compressed/*i01/weights.npz", Path.unlink, ""),
    "empty weights": ("compressed/*i01/weights.npz", lambda p: p.write_bytes(b""), ""),
    "empty early weights": (
        "compressed/*rewind/weights.npz",
        lambda p: (p.write_bytes(b""), [shutil.rmtree(point) for point in p.parents[1].glob("*i01")]),
        "",
    ),
    "cut weights of widths": ("compressed/*mixed*/weights.npz", lambda p: p.write_bytes(p.read_bytes()[:99]), ""),
    "cut weights": ("tuned/*/weights.npz", lambda p: p.write_bytes(p.read_bytes()[:99]), ""),
    "a deep model": ("tuned/*/model.json", lambda p: p.write_text("[" * 100_000), ""),
    "an empty description": ("run.json", lambda p: p.write_text(""), r"run.json is damaged.*delete it"),
    "a cut description": ("run.json", lambda p: p.write_text('{"seed"'), r"run.json is damaged.*delete it"),
    "a list": ("run.json", lambda p: p.write_text("[1]"), r"run.json is damaged: it is no JSON object"),
    "no UTF-8": ("run.json", lambda p: p.write_bytes(b'{"a": "\xff"}'), r"run.json is damaged"),
    "a deep description": ("run.json", lambda p: p.write_text("[" * 100_000), r"run.json is damaged.*nested"),
    "text for a seed": ("run.json", lambda p: changed(p, seed="x"), r"run.json is damaged: seed"),
    "null": ("search.jsonl", lambda p: p.write_text("null\n"), r"search.jsonl:1: damaged"),
    "a number": ("tune.jsonl", lambda p: p.write_text("17\n"), r"tune.jsonl:1: damaged"),
    "nothing": ("generations.jsonl", lambda p: p.write_text("{}\n"), r"generations.jsonl:1.*'search' is missing"),
    "deep nesting": ("costs.jsonl", lambda p: p.write_text("[" * 100_000 + "\n"), r"costs.jsonl:1: damaged"),
    "a metric of text": ("search.jsonl", lambda p: changed(p, **{"metrics.loss": "low"}), r"search.jsonl:1.*'low'"),
    "a trial of text": ("tune.jsonl", lambda p: changed(p, loss="low"), r"tune.jsonl:1.*'low'"),
    "sensitivities of text": (
        "mixed.jsonl",  # It is read while the search for widths has not ended.
        lambda p: (changed(p, kept=["x"]), (p.parent / "stages.jsonl").unlink()),
        r"mixed.jsonl:1.*kept",
    ),
    "a network that is none": (
        "search.jsonl",
        lambda p: changed(p, architecture={"input_shape": "x"}),
        r"search.jsonl.*damaged",
    ),
    **{
        f"a folder {name}": (name, replaced_by_folder, rf"{name} is a folder")
        for name in ("run.json", "search.jsonl", "summary.txt", "search.csv", "search.png")
    },
}


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("finished")
    write_inputs(place)
    with pytest.MonkeyPatch.context() as patch:
        without_trainings(patch)
        assert invoked("run", place / "faults.yaml", "--out", place / "run").exit_code == Exit.NO_FIRMWARE
    return place / "run"


@pytest.fixture
def whole_run(finished: Path, kerasnac: Callable[..., Result], tmp_path: Path) -> Path:
    """A copy of a finished run."""
    return Path(shutil.copytree(finished, tmp_path / "a/b/c/run"))


@pytest.mark.parametrize("name", DAMAGE)
def test_a_damaged_folder_is_mended_or_told_in_one_line(
    name: str, kerasnac: Callable[..., Result], whole_run: Path, tmp_path: Path
) -> None:
    pattern, damage, message = DAMAGE[name]
    before = content(whole_run)
    outside = {path for path in tmp_path.rglob("*") if not path.is_relative_to(whole_run)}
    damage(next(iter(sorted(whole_run.glob(pattern)))))
    result = kerasnac("resume", whole_run)
    assert {path for path in tmp_path.rglob("*") if not path.is_relative_to(whole_run)} == outside
    if message:
        assert result.exit_code == 2
        (line,) = result.stderr.splitlines()[-1:]
        assert re.search(f"^error: .*{message}", line), line
        assert "Traceback" not in result.output
    else:
        assert result.exit_code == Exit.NO_FIRMWARE, result.output
        now = content(whole_run)
        unlike = {key for key in before if now.get(key) != before[key]}
        assert unlike <= ({"compress.jsonl"} if pattern == "compress.jsonl" else set())


def test_a_run_whose_folder_is_deleted_says_so(
    formula: Formula, kerasnac: Callable[..., Result], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def deleting(*arguments: Any, **options: Any) -> train.Fit:
        if len(formula.calls) == 3:
            shutil.rmtree(tmp_path / "run")
        return formula(*arguments, **options)

    monkeypatch.setattr(train, "fit", deleting)
    result = kerasnac("run", tmp_path / "faults.yaml", "--out", tmp_path / "run")
    assert result.exit_code == 2
    assert "deleted" in result.stderr.splitlines()[-1]


@pytest.mark.parametrize("name", ["../../escape", "", ".", "..", "a/b", "a b", "x" * 300, 5])
def test_a_network_has_a_name_that_may_be_that_of_a_folder(name: Any) -> None:
    network = mlp(3, 2)
    with pytest.raises(ConfigError, match="name"):
        Trained(name, network, normal_weights(network), Training(), {}, 0)
