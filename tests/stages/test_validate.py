"""A firmware folder is checked again: untouched, with a changed type, weight or file, on other samples, damaged."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from kerasnac.adapters.keras.build import load_keras
from kerasnac.adapters.keras.train import predict
from kerasnac.core.architecture import Architecture
from kerasnac.core.data import Split, Task
from kerasnac.core.layers import LayerSpec
from kerasnac.core.precision import Precision
from kerasnac.core.trained import Trained
from kerasnac.core.training import Training
from kerasnac.errors import DataError, KerasnacError, RunError
from kerasnac.faces.cli import main
from kerasnac.stages.evidence import MANIFEST
from kerasnac.stages.firmware import Firmware, make_firmware
from kerasnac.stages.validate import validate


def layer(kind: str, weight: str = "", bias: str = "", out: str = "", **params: object) -> LayerSpec:
    formats = {"weight": weight, "bias": bias, "activation": out}
    return replace(LayerSpec.of(kind, **params), **{k: Precision.parse(v) for k, v in formats.items() if v})


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
    weights = {
        f"{node.name}/{part}": rng.normal(0, 0.5, weight.shape).astype(np.float32)
        for node in NETWORK.nodes
        for part, weight in node.weights.items()
    }
    trained = Trained("small", NETWORK, weights, Training(), {}, 3)
    x = rng.normal(0, 1, (300, 4)).astype(np.float32)
    x[0, 0] = 100
    folder = tmp_path_factory.mktemp("firmware") / "small"
    return make_firmware(trained, Split(x, rng.integers(0, 3, 300)), Task("classification", 3), folder=folder)


@pytest.fixture
def copy(firmware: Firmware, tmp_path: Path) -> Path:
    return Path(shutil.copytree(firmware.folder, tmp_path / "copy"))


def edit(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


def test_a_report_has_all_that_was_compared(firmware: Firmware) -> None:
    assert firmware.bit_exact
    assert (firmware.inputs.off_grid, firmware.inputs.out_of_range) == (300, 1)
    text = firmware.report()
    assert "largest difference: 0 (0 in units of the last bit of the output)" in text
    assert "same decision: 300 of 300 samples" in text
    assert "adder graph, da4ml's integer interpreter against QKeras: 900 of 900 outputs equal" in text
    assert "300 of 300 samples were off the grid and have been rounded to it, 1 beyond its range" in text
    assert Firmware.load(firmware.folder) == firmware


def test_an_untouched_folder_is_valid_wherever_it_is(copy: Path) -> None:
    for path in copy.rglob("*"):
        path.chmod(0o555 if path.is_dir() else 0o444)
    copy.chmod(0o555)
    try:
        found = validate(copy)
    finally:
        for path in (copy, *copy.rglob("*")):
            path.chmod(0o755)
    assert found.ok
    assert found.comparison is not None
    assert (found.comparison.outputs, found.comparison.same_decision, found.changed) == (900, 300, ())


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


def test_what_only_synthesis_reads_is_compared_by_its_hash(copy: Path) -> None:
    header = copy / "firmware" / "weights" / "w2.h"
    header.write_text(header.read_text().replace("0.", "1.", 1))
    found = validate(copy)
    assert found.comparison is not None
    assert found.comparison.equal
    assert not found.ok
    assert found.changed == ("firmware/weights/w2.h has changed",)


def test_a_missing_source_is_named_and_the_compiler_quoted(copy: Path) -> None:
    (copy / "firmware" / "kerasnac.cpp").unlink()
    found = validate(copy)
    assert not found.ok
    assert found.changed == ("firmware/kerasnac.cpp is missing",)
    assert "does not compile" in found.problem


@pytest.mark.parametrize("name", [MANIFEST, "report.json", "kerasnac/model/weights.npz", "kerasnac/vectors.npz"])
@pytest.mark.parametrize("damage", [Path.unlink, lambda path: path.write_bytes(b"{")], ids=["gone", "damaged"])
def test_a_broken_folder_is_one_clear_error(name: str, damage: Callable[[Path], object], copy: Path) -> None:
    damage(copy / name)
    with pytest.raises(KerasnacError, match=str(copy)):
        validate(copy)


def test_a_folder_of_something_else_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="no complete firmware folder"):
        validate(tmp_path)


def test_samples_of_another_kind_are_refused(firmware: Firmware) -> None:
    for samples in (np.zeros((3, 5)), np.zeros((0, 4)), np.array([["a"] * 4]), np.full((2, 4), np.nan)):
        with pytest.raises(DataError):
            validate(firmware.folder, samples)


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


def test_the_script_repeats_the_comparison_without_kerasnac(copy: Path) -> None:
    script = [sys.executable, "-I", str(copy / "validate.py")]
    done = subprocess.run(script, capture_output=True, text=True, cwd="/", check=False)
    assert (done.returncode, done.stdout.splitlines()[-2:]) == (
        0,
        ["900 of 900 outputs of 300 samples equal Keras", "bit-exact"],
    )
    edit(copy / "firmware" / "defines.h", "ap_ufixed<6,2,", "ap_ufixed<5,2,")
    done = subprocess.run(script, capture_output=True, text=True, cwd="/", check=False)
    assert done.returncode == 1
    assert "firmware/defines.h has changed" in done.stdout
    assert "NOT validated" in done.stdout
    (copy / MANIFEST).unlink()
    done = subprocess.run(script, capture_output=True, text=True, cwd="/", check=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("error: manifest.json cannot be read")


def test_the_model_of_the_folder_is_the_network(firmware: Firmware) -> None:
    x = NETWORK.input.quantize(np.random.default_rng(5).normal(size=(100, 4)))  # type: ignore[union-attr]
    outputs = load_keras(firmware.folder / "model.keras").predict(x, verbose=0)
    np.testing.assert_array_equal(outputs, predict(NETWORK, firmware.trained.weights, x))
    (firmware.folder.parent / "broken.keras").write_bytes(b"nothing")
    with pytest.raises(RunError, match="broken"):
        load_keras(firmware.folder.parent / "broken.keras")


def test_the_page_says_what_the_engineer_needs(firmware: Firmware) -> None:
    page = (firmware.folder / "summary.md").read_text()
    for text in ("| dense_1 | 3 | ap_fixed<5,1> | ap_fixed<8,2> | ", "adder levels", "Seed 3", "hls4ml 1.3", firmware.verdict):
        assert text in page
    assert "rule4ml (a neural surrogate of HLS reports): " in page
