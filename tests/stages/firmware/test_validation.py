"""A firmware folder is checked again: untouched, with a changed type, weight or file, on other samples, damaged."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import uuid
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from kerasnac.adapters.keras.build import load_keras
from kerasnac.adapters.keras.predict import predict
from kerasnac.adapters.programs import Limits
from kerasnac.core.data.dataset import Split, Task
from kerasnac.core.network.architecture import Architecture
from kerasnac.core.network.precision import Precision
from kerasnac.core.network.trained import Trained
from kerasnac.core.network.training import Training
from kerasnac.core.store.progress import Step
from kerasnac.errors import ConversionError, DataError, EnvironmentProblem, KerasnacError, RunError
from kerasnac.stages.firmware.delivery import make_firmware
from kerasnac.stages.firmware.manifest import MANIFEST, write_manifest
from kerasnac.stages.firmware.result import Firmware
from kerasnac.stages.firmware.validation import validate
from kerasnac.ui.cli import main
from tests.networks import layer, normal_weights
from tests.processes import VARIABLE, marked, wait_for_none, wait_until

NETWORK = Architecture(
    (4,),
    (
        layer("dense", "fixed<5,1>", "fixed<8,2>", units=5),
        layer("activation", fn="relu", out="ufixed<6,2>"),
        layer("dense", "fixed<5,1>", "fixed<8,2>", units=3),
        layer("activation", fn="none", out="fixed<6,3>"),
        layer("activation", fn="tanh", out="fixed<6,1>"),
        layer("dense", "fixed<5,1>", "fixed<8,2>", units=3),
    ),
    Precision(8, 3),
)


@pytest.fixture(scope="module")
def firmware(tmp_path_factory: pytest.TempPathFactory) -> Firmware:
    rng = np.random.default_rng(3)
    trained = Trained("small", NETWORK, normal_weights(NETWORK, seed=3, scale=0.5), Training(), {}, 3)
    x = rng.normal(0, 1, (300, 4)).astype(np.float32)
    x[0, 0] = 100
    folder = tmp_path_factory.mktemp("firmware") / "small"
    return make_firmware(trained, Split(x, rng.integers(0, 3, 300)), Task("classification", 3), folder=folder)


#: A read-only folder is none for the superuser.
AS_A_USER = (
    ["setpriv", "--bounding-set=-dac_override,-dac_read_search", "--inh-caps=-dac_override,-dac_read_search"]
    if os.geteuid() == 0 and shutil.which("setpriv")
    else []
)


@pytest.fixture
def copy(firmware: Firmware, tmp_path: Path) -> Path:
    return Path(shutil.copytree(firmware.folder, tmp_path / "copy"))


def edit(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


@pytest.mark.usefixtures("da4ml")
def test_a_report_has_all_that_was_compared(firmware: Firmware) -> None:
    assert firmware.bit_exact
    assert (firmware.inputs.off_grid, firmware.inputs.out_of_range) == (300, 1)
    text = firmware.report()
    assert "largest difference: 0 (0 in units of the last bit of the output)" in text
    assert "same decision: 300 of 300 samples" in text
    assert "adder graph, da4ml's integer interpreter against QKeras: 900 of 900 outputs equal" in text
    assert "300 of 300 samples were off the grid and have been rounded to it, 1 beyond its range" in text
    assert Firmware.load(firmware.folder) == firmware


def script(folder: Path, *before: str) -> subprocess.CompletedProcess[str]:
    """Runs ``validate.py`` of a folder, which compiles without a cache, without kerasnac on its path."""
    command = [*before, sys.executable, "-I", str(folder / "validate.py")]
    return subprocess.run(command, capture_output=True, text=True, cwd="/", check=False)


def test_an_untouched_folder_is_valid_wherever_it_is(copy: Path) -> None:
    for path in copy.rglob("*"):
        path.chmod(0o555 if path.is_dir() else 0o444)
    copy.chmod(0o555)
    try:
        found, alone = validate(copy), script(copy, *AS_A_USER)
    finally:
        for path in (copy, *copy.rglob("*")):
            path.chmod(0o755)
    assert found.ok
    assert found.comparison is not None
    assert (found.comparison.outputs, found.comparison.same_decision, found.changed) == (900, 300, ())
    assert alone.returncode == 0, alone.stderr
    assert alone.stdout.splitlines()[-2:] == ["900 of 900 outputs of 300 samples equal Keras", "bit-exact"]


def test_a_changed_type_names_its_layer(copy: Path) -> None:
    edit(copy / "firmware" / "defines.h", "ap_ufixed<6,2,", "ap_ufixed<5,2,")
    found = validate(copy)
    assert not found.ok
    assert found.changed == ("firmware/defines.h has changed",)
    assert found.comparison is not None
    assert found.comparison.max_ulp >= 1
    first = found.first_layer
    assert first is not None
    assert (first.layer, first.declared, first.proven) == (
        "activation_0",
        "ap_ufixed<5,2,AP_RND_CONV,AP_SAT,0>",
        "ap_ufixed<6,2,AP_RND_CONV,AP_SAT,0>",
    )
    assert first.keras != first.firmware
    assert Precision.parse("ufixed<6,2>").quantize(first.keras) == first.keras
    assert list(first.changed.values()) == [(first.proven, first.declared)]


def test_a_changed_weight_names_its_layer(copy: Path) -> None:
    weights = copy / "firmware" / "weights" / "w5.txt"
    assert weights.is_file(), sorted(path.name for path in weights.parent.iterdir())
    first, rest = weights.read_text().split(",", 1)
    weights.write_text(f"{-0.75 if float(first) > 0 else 0.75},{rest}")
    found = validate(copy)
    assert found.changed == ("firmware/weights/w5.txt has changed",)
    assert found.first_layer is not None
    assert found.first_layer.layer == "dense_1"
    assert "as proven" in str(found.first_layer)


#: Files that a compiler, a shell or Python could read in place of another.
ADDED = ("ap_fixed.h", "firmware/dangling", "firmware/more.h", "kerasnac/numpy.py", "numpy.py", "softmax/firmware/weights/w2.h")


@pytest.mark.slow
def test_what_only_synthesis_reads_and_what_was_added_is_named(copy: Path) -> None:
    header = copy / "firmware" / "weights" / "w2.h"
    header.write_text(header.read_text().replace("0.", "1.", 1))
    for name in ADDED:
        path = copy / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.symlink_to(copy / "nothing") if path.name == "dangling" else path.write_text("")
    found = validate(copy)
    assert found.comparison is not None
    assert found.comparison.equal
    assert not found.ok
    assert found.changed == ("firmware/weights/w2.h has changed", *(f"{name} was added" for name in ADDED))


def test_a_missing_source_is_named_and_the_compiler_quoted(copy: Path) -> None:
    (copy / "firmware" / "kerasnac.cpp").unlink()
    found = validate(copy)
    assert not found.ok
    assert found.changed == ("firmware/kerasnac.cpp is missing",)
    assert "does not compile" in found.problem


DAMAGE: dict[str, Callable[[Path], object]] = {
    "gone": Path.unlink,
    "empty": lambda path: path.write_bytes(b""),
    "half": lambda path: path.write_bytes(path.read_bytes()[: path.stat().st_size // 2]),
    "list": lambda path: path.write_bytes(b"[]"),
}


@pytest.mark.parametrize("name", [MANIFEST, "report.json", "kerasnac/model/weights.npz", "kerasnac/vectors.npz"])
@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE)
def test_a_broken_folder_is_one_clear_error(name: str, damage: Callable[[Path], object], copy: Path) -> None:
    damage(copy / name)
    with pytest.raises(KerasnacError, match=str(copy)):
        validate(copy)


@pytest.mark.parametrize("key", ["outputs", "inputs", "function", "library", "types", "layers"])
def test_a_damaged_interface_is_never_valid_and_never_a_bug(key: str, copy: Path) -> None:
    path = copy / "emulation.json"
    data = json.loads(path.read_text())
    wrong = {"outputs": 2, "inputs": 9, "function": "none", "library": "../../outside.so", "types": {}, "layers": []}
    path.write_text(json.dumps(data | {key: wrong[key]}))
    found = validate(copy)
    assert (found.ok, found.changed) == (False, ("emulation.json has changed",))
    if key not in ("types", "layers"):
        assert found.comparison is None
        assert "Traceback" not in found.report()
    assert str(copy) in found.report()
    assert "/project" not in found.report()


def test_what_tools_and_people_leave_changes_nothing(copy: Path) -> None:
    for name in ("vivado.log", "notes.txt", "kerasnac_prj/solution1/syn/kerasnac.h", "firmware/kerasnac.o", "vitis.jou"):
        (copy / name).parent.mkdir(parents=True, exist_ok=True)
        (copy / name).write_text("")
    assert validate(copy).ok


def test_a_file_that_is_struck_off_the_manifest_is_named(copy: Path) -> None:
    manifest = json.loads((copy / MANIFEST).read_text())
    for name in ("kerasnac/model/weights.npz", "emulation.json"):
        del manifest["sha256"][name]
    (copy / MANIFEST).write_text(json.dumps(manifest))
    assert validate(copy).changed == ("emulation.json was added", "kerasnac/model/weights.npz was added")


@pytest.mark.slow
def test_a_type_that_no_sample_shows_is_named(copy: Path) -> None:
    edit(copy / "firmware" / "defines.h", "ap_ufixed<6,2,", "ap_ufixed<7,3,")  # one more bit on top
    found = validate(copy, np.zeros((2, 4)))
    assert found.comparison is not None
    assert found.comparison.equal
    assert not found.ok
    assert "type layer4_t is ap_ufixed<7,3,AP_RND_CONV,AP_SAT,0>, proven ap_ufixed<6,2," in found.report()


def test_what_the_compiler_said_is_kept(firmware: Firmware, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CXX", "true")
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    with pytest.raises(ConversionError, match=r"build_lib\.sh") as error:
        validate(firmware.folder)
    (log,) = tmp_path.iterdir()
    assert str(log) in str(error.value)
    assert str(firmware.folder) not in str(log)


def test_a_folder_of_something_else_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(RunError, match=MANIFEST):
        validate(tmp_path)


def test_samples_of_another_kind_are_refused_before_a_compiler_is_asked_for(
    firmware: Firmware, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CXX", "no-such-compiler")
    for samples in (np.zeros((3, 5)), np.zeros((0, 4)), np.array([["a"] * 4]), np.full((2, 4), np.nan), np.float32(1)):
        with pytest.raises(DataError, match=r"^mine\.npy: "):
            validate(firmware.folder, np.asarray(samples), source="mine.npy")
    with pytest.raises(EnvironmentProblem, match="no-such-compiler"):
        validate(firmware.folder)


def test_a_folder_of_another_version_is_refused_in_one_line_that_names_it(copy: Path) -> None:
    path = copy / "report.json"
    report = json.loads(path.read_text())
    path.write_text(json.dumps(report | {"schema": 3, "kerasnac": "9.8.7"}))
    with pytest.raises(RunError, match=r"report\.json.* 9\.8\.7") as refusal:
        validate(copy)
    assert "\n" not in str(refusal.value)
    path.write_text(json.dumps({key: value for key, value in report.items() if key not in ("schema", "kerasnac")}))
    with pytest.raises(RunError, match=r"report\.json.* earlier version"):
        validate(copy)


def test_the_command_takes_samples_from_files_and_tells_by_exit_codes(firmware: Firmware, copy: Path, tmp_path: Path) -> None:
    x = np.random.default_rng(4).normal(size=(50, 4))
    np.savetxt(tmp_path / "x.csv", x, delimiter=",", header="a,b,c,d", comments="")
    np.savez(tmp_path / "x.npz", x=x)
    for name in ("x.csv", "x.npz"):
        done = CliRunner().invoke(main, ["firmware", "validate", str(firmware.folder), "--data", str(tmp_path / name)])
        assert done.exit_code == 0, done.output
        assert "bit-exact: 150 of 150 outputs equal" in done.output
        assert "50 of 50 samples were off the grid" in done.output
    edit(copy / "firmware" / "defines.h", "ap_ufixed<6,2,", "ap_ufixed<5,2,")
    done = CliRunner().invoke(main, ["firmware", "validate", str(copy)])
    assert done.exit_code == 1
    assert "the first layer that differs is activation_0" in done.output
    assert CliRunner().invoke(main, ["firmware", "validate", str(tmp_path)]).exit_code == 2


def test_the_script_names_what_has_changed_and_what_was_added(copy: Path) -> None:
    edit(copy / "firmware" / "defines.h", "ap_ufixed<6,2,", "ap_ufixed<5,2,")
    (copy / "firmware" / "more.h").write_text("")
    (copy / "notes.txt").write_text("")
    done = script(copy)
    assert done.returncode == 1
    assert done.stdout.splitlines()[:2] == ["firmware/defines.h has changed", "firmware/more.h was added"]
    assert re.search(r"^first: sample \d+, output \d: Keras \S+, firmware \S+$", done.stdout, re.MULTILINE)
    assert "NOT validated" in done.stdout


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("manifest.json", None, "manifest.json cannot be read"),
        ("manifest.json", "{}", "manifest.json has no hashes"),
        ("manifest.json", "[]", "manifest.json is damaged"),
        ("build_lib.sh", "exit 0", "the C++ emulation failed: OSError"),
        ("kerasnac/vectors.npz", "", "kerasnac/vectors.npz cannot be read"),
    ],
)
def test_the_script_has_one_message_for_a_damaged_folder(name: str, content: str | None, message: str, copy: Path) -> None:
    (copy / name).unlink() if content is None else (copy / name).write_text(content)
    done = script(copy)
    assert done.returncode == 2
    assert done.stderr.startswith(f"error: {message}")
    assert len(done.stderr.splitlines()) == 1


def test_the_model_of_the_folder_is_the_network(firmware: Firmware) -> None:
    x = NETWORK.input.quantize(np.random.default_rng(5).normal(size=(100, 4)))  # type: ignore[union-attr]
    outputs = load_keras(firmware.folder / "model.keras").predict(x, verbose=0)
    np.testing.assert_array_equal(outputs, predict(NETWORK, firmware.trained.weights, x))
    (firmware.folder.parent / "broken.keras").write_bytes(b"nothing")
    with pytest.raises(RunError, match="broken"):
        load_keras(firmware.folder.parent / "broken.keras")


@pytest.mark.usefixtures("da4ml")
def test_the_page_says_what_the_engineer_needs(firmware: Firmware) -> None:
    page = (firmware.folder / "summary.md").read_text()
    for text in ("| dense_1 | 3 | ap_fixed<5,1> | ap_fixed<8,2> | ", "adder levels", "Seed 3", "hls4ml 1.3", firmware.verdict):
        assert text in page
    assert "rule4ml (a neural surrogate of HLS reports): " in page


def loop_forever(folder: Path) -> None:
    """Deliver firmware that never ends, hashes and all, and that compiles at once."""
    library = json.loads((folder / "emulation.json").read_text())["library"]
    source = 'extern "C" void kerasnac_float(float*, float*) { for (volatile int i = 0;; i = i + 1) {} }'
    (folder / "build_lib.sh").write_text(f"echo '{source}' > loop.cpp\ng++ -shared -fPIC loop.cpp -o {library}\n")
    write_manifest(folder)


@pytest.mark.slow
def test_firmware_that_never_ends_is_not_valid(copy: Path) -> None:
    loop_forever(copy)
    steps = list[Step]()
    found = validate(copy, limits=Limits(5.0), progress=steps.append)
    assert (found.ok, found.changed) == (False, ())
    assert found.problem == "the C++ emulation did not finish within 5 s: it said nothing"
    assert [step.done for step in steps] == sorted(step.done for step in steps)
    assert {"computing 300 samples with QKeras", "compiling the C++ emulation", "emulating 300 samples"} <= {
        step.text for step in steps
    }
    done = CliRunner().invoke(main, ["firmware", "validate", str(copy), "--timeout", "5"])
    assert done.exit_code == 1
    assert done.stdout.splitlines()[-1] == "NOT valid"


@pytest.mark.parametrize("value", ["0", "-1", "nan", "soon"])
def test_a_time_limit_is_a_positive_number(copy: Path, value: str) -> None:
    done = CliRunner().invoke(main, ["firmware", "validate", str(copy), "--timeout", value])
    assert done.exit_code == 2
    assert "timeout" in done.stderr


#: Other ways in which a validation ends in the middle of a step.
OTHER_SIGNALS = [(signal.SIGTERM, "sleep 99"), (signal.SIGINT, "csim.py")]


@pytest.mark.parametrize(
    ("number", "step"),
    [(signal.SIGKILL, "csim.py"), *(pytest.param(*given, marks=pytest.mark.slow) for given in OTHER_SIGNALS)],
)
def test_nothing_survives_a_validation(number: signal.Signals, step: str, copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, mark := uuid.uuid4().hex)
    loop_forever(copy)
    if step != "csim.py":
        edit(copy / "build_lib.sh", "g++", "sleep 99; g++")
    command = [sys.executable, "-m", "kerasnac", "firmware", "validate", str(copy)]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        wait_until(lambda: marked(mark, step), 60)
        process.send_signal(number)
        process.wait(10)
    wait_for_none(mark)
