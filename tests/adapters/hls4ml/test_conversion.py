from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from kerasnac.adapters.hls4ml import csim
from kerasnac.adapters.hls4ml.backends import check_layers
from kerasnac.adapters.hls4ml.conversion import convert
from kerasnac.adapters.hls4ml.csim import compile_project, emulate
from kerasnac.adapters.hls4ml.project_files import check_headers
from kerasnac.adapters.keras.predict import layer_outputs, predict
from kerasnac.adapters.programs import Limits
from kerasnac.core.hardware.hls_options import HlsOptions
from kerasnac.core.network.architecture import Architecture
from kerasnac.core.network.precision import Precision
from kerasnac.core.network.trained import Trained
from kerasnac.core.network.training import Training
from kerasnac.core.space.search_space import SearchSpace
from kerasnac.errors import ConfigError, ConversionError, EnvironmentProblem
from tests.networks import grid_samples, layer, loud_weights

PART = "xcvu13p-flga2577-2-e"
OPTIONS = HlsOptions(part=PART)


def trained(architecture: Architecture) -> Trained:
    return Trained("random", architecture, loud_weights(architecture), Training(), {}, 0)


def samples(architecture: Architecture, count: int = 1000) -> NDArray[np.float32]:
    assert architecture.input is not None
    return grid_samples(architecture.input, architecture.input_shape, count)


SMALL = Architecture(
    (3,),
    (
        layer("dense", "fixed<4,-1>", "fixed<8,2>", units=4),
        layer("activation", fn="none", out="fixed<5,2>"),
        layer("activation", fn="gelu", out="fixed<6,2>"),
        layer("dense", "fixed<4,1>", "fixed<8,2>", units=2),
    ),
    Precision.parse("ufixed<6,-1>"),
)


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A converted, compiled and then moved project."""
    folder = tmp_path_factory.mktemp("hls") / "before"
    convert(trained(SMALL), OPTIONS, folder=folder)
    compile_project(folder)
    return folder.rename(folder.with_name("after it moved"))


def test_every_type_is_the_one_that_was_asked_for(project: Path) -> None:
    types = (project / "firmware" / "defines.h").read_text()
    for expected in (
        "ap_ufixed<6,-1> input_t",
        "ap_fixed<4,-1> dense_0_weight_t",
        "ap_fixed<5,2,AP_RND_CONV,AP_SAT,0> layer4_t",
    ):
        assert f"typedef {expected};" in types
    assert "model_default_t" not in types
    assert f"Part: {PART}" in (project / "hls4ml_config.yml").read_text()


def test_the_format_that_hls4ml_misreads_is_kept(tmp_path: Path) -> None:
    """Left to hls4ml, these would be ap_int<4> and ap_int<8>."""
    convert(
        trained(Architecture((2,), (layer("dense", "fixed<4,5>", "fixed<8,9>", units=2),), Precision(6, 3))),
        OPTIONS,
        folder=tmp_path,
    )
    types = (tmp_path / "firmware" / "defines.h").read_text()
    assert "typedef ap_fixed<4,5> " in types
    assert "typedef ap_fixed<8,9> " in types


def test_no_path_of_the_conversion_is_left(project: Path) -> None:
    texts = [path for path in project.rglob("*") if path.suffix in (".yml", ".sh", ".tcl", ".cpp", ".h", ".json")]
    assert not [path for path in texts if "/before" in path.read_text(errors="replace")]


def test_a_moved_project_still_equals_keras(project: Path) -> None:
    model, x = trained(SMALL), samples(SMALL)
    np.testing.assert_array_equal(emulate(project, x), predict(SMALL, model.weights, x))


def test_hls4ml_is_silent(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    convert(trained(SMALL), OPTIONS, folder=tmp_path)
    assert capfd.readouterr() == ("", "")
    assert (tmp_path / "convert.log").is_file()


@pytest.mark.parametrize("part", ["xc7z020clg400-1", "xczu7ev-ffvc1156-2-e", "xcu250-figd2104-2L-e", "xck26-sfvc784-2LV-c"])
def test_parts_are_passed_on(part: str, tmp_path: Path) -> None:
    convert(trained(SMALL), HlsOptions(part=part), folder=tmp_path)
    assert part in (tmp_path / "project.tcl").read_text()


@pytest.mark.parametrize(
    "options",
    [
        {"part": "zcu999"},
        {"part": ""},
        {"part": "xcvu99p-flga2577-2-e"},
        {"part": "xc7z020clg400"},
        {"part": "Arria10"},
        {"part": PART, "backend": "Quartus", "strategy": "resource"},
        {"part": "Arria10", "backend": "Quartus"},
        {"part": PART, "backend": "Catapult", "strategy": "distributed_arithmetic"},
        {"part": PART, "layers": {"dense_2": {"reuse_factor": 2}}},
        {"part": PART, "layers": {"activation_0": {"reuse_factor": 2}}},
        {"part": PART, "layers": {"dense_0": {"strategy": "distributed_arithmetic", "reuse_factor": 2}}},
        {"part": PART, "reuse_factor": 0},
        {"part": PART, "strategy": "distributed_arithmetic", "reuse_factor": 2},
    ],
)
def test_impossible_options_are_refused(options: Any, tmp_path: Path) -> None:
    with pytest.raises(ConfigError):
        convert(trained(SMALL), HlsOptions.of(**options), folder=tmp_path)


#: All that every backend has.
COMMON = Architecture(
    (6, 6, 1),
    (
        layer("conv2d", "fixed<4,1>", "fixed<8,2>", filters=2, kernel=3, stride=1, padding="same"),
        layer("activation", fn="relu", out="ufixed<5,2>"),
        layer("pool", op="max", size=2),
        layer("flatten"),
        layer("dense", "fixed<4,1>", "fixed<8,2>", units=4),
        layer("activation", fn="none", out="fixed<5,2>"),
        layer("dense", "fixed<4,1>", "fixed<8,2>", units=2),
    ),
    Precision(6, 2),
)


@pytest.mark.slow
@pytest.mark.parametrize(
    "options",
    [
        {"backend": "Quartus", "part": "Arria10", "strategy": "resource", "reuse_factor": 3},
        {"backend": "Catapult", "part": PART, "io_type": "io_stream"},
    ],
)
def test_other_vendors_compute_the_same(options: Any, tmp_path: Path) -> None:
    model, x = trained(COMMON), samples(COMMON, 300)
    convert(model, HlsOptions.of(**options), folder=tmp_path / "before")
    project = (tmp_path / "before").rename(tmp_path / "after it moved")
    compile_project(project)
    np.testing.assert_array_equal(emulate(project, x), predict(COMMON, model.weights, x))
    layers = csim.emulate_layers(project, x[:20])
    for name, values in layer_outputs(COMMON, model.weights, x[:20]).items():
        if name in layers:
            np.testing.assert_array_equal(layers[name], values)
    assert {"conv2d_0", "activation_0", "pool_0", "dense_0", "activation_1", "dense_1"} <= layers.keys()


def test_what_cannot_be_compiled_here_says_so_and_has_the_proven_types(tmp_path: Path) -> None:
    convert(trained(COMMON), HlsOptions.of(backend="oneAPI", part="Agilex7", strategy="resource"), folder=tmp_path)
    assert "icpx" in csim.interface(tmp_path)["not_emulated"]
    types = (tmp_path / "src" / "firmware" / "defines.h").read_text()
    assert "nnet::array<ac_fixed<5,2,false,AC_RND_CONV,AC_SAT>, 72*1> layer4_t" in types


@pytest.mark.parametrize("backend", ["Quartus", "Catapult", "oneAPI"])
def test_a_layer_that_a_backend_has_not_is_named(backend: str, tmp_path: Path) -> None:
    part = PART if backend == "Catapult" else "Arria10"
    with pytest.raises(ConversionError, match=f"activation_1: .*gelu.* {backend}"):
        convert(trained(SMALL), HlsOptions.of(backend=backend, part=part, strategy="resource"), folder=tmp_path)


def test_attention_in_a_stream_is_refused_by_the_name_of_its_layer() -> None:
    attention = {"block": "attention", "width": 3}
    space = SearchSpace.model_validate({"input": [2, 2, 3], "outputs": 3, "blocks": [attention]})
    network = space.decode(space.sample_feasible(np.random.default_rng(0))).architecture
    with pytest.raises(ConversionError, match=r"matmul_0: .*io_parallel"):
        check_layers(network, HlsOptions.of(io_type="io_stream"))


POOLS = [
    ("Quartus", "io_parallel", "mean", 0, "mean in io_parallel"),
    ("Quartus", "io_stream", "mean", 2, "mean over a part of the map"),
    ("Quartus", "io_stream", "max", 0, "maximum of a whole map"),
    ("Catapult", "io_parallel", "mean", 2, "mean in io_parallel"),
    ("oneAPI", "io_stream", "mean", 0, "mean of a whole map"),
    ("Catapult", "io_stream", "mean", 0, ""),
    ("Quartus", "io_stream", "mean", 0, ""),
    ("Quartus", "io_parallel", "max", 0, ""),
    ("Vitis", "io_parallel", "mean", 0, ""),
]


@pytest.mark.parametrize(("backend", "io_type", "op", "size", "message"), POOLS)
def test_pools_that_a_backend_computes_wrong_are_refused(backend: str, io_type: str, op: str, size: int, message: str) -> None:
    """Where the message is empty every output was equal; elsewhere most were not, or nothing could be tried."""
    network = Architecture((4, 4, 2), (layer("pool", op=op, size=size),), Precision(6, 2))
    options = HlsOptions.of(backend=backend, io_type=io_type)
    if not message:
        check_layers(network, options)
        return
    with pytest.raises(ConversionError, match=f"pool_0: .*{message}.* {backend}"):
        check_layers(network, options)


@pytest.mark.slow
def test_layers_can_have_strategies_of_their_own(tmp_path: Path) -> None:
    options = HlsOptions.of(layers={"dense_1": {"strategy": "resource", "reuse_factor": 4}})
    model, x = trained(SMALL), samples(SMALL, 200)
    convert(model, options, folder=tmp_path)
    parameters = (tmp_path / "firmware" / "parameters.h").read_text()
    assert re.findall(r"strategy = nnet::(\w+);", parameters) == ["latency", "resource"]
    assert re.findall(r"reuse_factor = (\d+);", parameters)[-1] == "4"
    compile_project(tmp_path)
    np.testing.assert_array_equal(emulate(tmp_path, x), predict(SMALL, model.weights, x))


def test_two_conversions_are_the_same_files(project: Path, tmp_path: Path) -> None:
    convert(trained(SMALL), OPTIONS, folder=tmp_path / "again")
    for path in sorted((tmp_path / "again").rglob("*")):
        if path.is_file() and path.suffix not in (".keras", ".log"):
            assert path.read_bytes() == (project / path.relative_to(tmp_path / "again")).read_bytes(), path


@pytest.mark.parametrize(("kernel", "wanted", "expected"), [(1, 2, 1), (1, 3, 1), (3, 20, 9), (3, 4, 3)])
def test_convolutions_get_reuse_factors_that_hls4ml_computes_right(
    kernel: int, wanted: int, expected: int, tmp_path: Path
) -> None:
    convolution = layer("conv2d", "fixed<4,1>", "fixed<8,2>", filters=3, kernel=kernel, stride=1, padding="same")
    network = Architecture((3, 3, 1), (convolution,), Precision(6, 2))
    convert(trained(network), HlsOptions(strategy="resource", reuse_factor=wanted), folder=tmp_path)
    factors = re.findall(r"reuse_factor = (\d+);", (tmp_path / "firmware" / "parameters.h").read_text())
    assert factors
    assert set(factors) == {str(expected)}


def test_a_header_that_synthesis_reads_holds_the_weights_of_the_emulation(tmp_path: Path) -> None:
    convert(trained(SMALL), OPTIONS, folder=tmp_path)
    headers = sorted((tmp_path / "firmware" / "weights").glob("*.h"))
    assert headers
    check_headers(tmp_path)
    for header in headers:
        text = header.read_text()
        header.write_text(re.sub(r"(= \{\s*)(-?[0-9.]+)", r"\g<1>7.5", text, count=1))
        with pytest.raises(ConversionError, match=f"weights/{header.name} "):
            check_headers(tmp_path)
        header.write_text(text)


def test_a_missing_compiler_is_named(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CXX", "no-such-compiler")
    with pytest.raises(EnvironmentProblem, match="no-such-compiler"):
        compile_project(project)


def test_a_compile_error_is_quoted(tmp_path: Path) -> None:
    convert(trained(SMALL), OPTIONS, folder=tmp_path)
    source = tmp_path / "firmware" / "kerasnac.cpp"
    source.write_text(source.read_text() + "\nnot C++;\n")
    with pytest.raises(ConversionError, match=r"firmware/kerasnac\.cpp:\d+:\d+: error: .*compile\.log"):
        compile_project(tmp_path)


def hand_made(folder: Path, body: str) -> Path:
    """A project whose firmware is some lines of C++."""
    (folder / "firmware").mkdir()
    (folder / "source.cpp").write_text(
        f'#include <cstdlib>\n#include <cstdio>\nextern "C" void f(float *x, float *y) {{ {body} }}\n'
    )
    subprocess.run(["g++", "-shared", "-fPIC", "source.cpp", "-o", "firmware/f.so"], cwd=folder, check=True)
    (folder / csim.INTERFACE).write_text(json.dumps({"inputs": 2, "outputs": 1, "function": "f", "library": "firmware/f.so"}))
    return folder


def test_the_script_needs_neither_the_package_nor_its_environment(tmp_path: Path) -> None:
    project = hand_made(tmp_path, "y[0] = x[0] - x[1];")
    script = shutil.copy(csim.__file__, tmp_path / "script.py")
    np.save(tmp_path / "in.npy", np.array([[3, 1], [1, 3]], np.float32))
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    command = [sys.executable, script, str(project), str(tmp_path / "in.npy"), str(tmp_path / "out.npy")]
    subprocess.run(command, check=True, env=environment, cwd="/")
    assert np.load(tmp_path / "out.npy").tolist() == [[2], [-2]]


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ('fprintf(stderr, "bad reuse factor\\n"); abort();', "SIGABRT.*bad reuse factor"),
        ("*(volatile int *)0 = 1;", "SIGSEGV"),
        ('fprintf(stderr, "no weights\\n"); exit(1);', "exit code 1: no weights"),
        ("for (volatile int i = 0;; i++) {}", "did not finish within 2 s"),
    ],
)
def test_a_crash_of_the_firmware_is_an_error_message(body: str, message: str, tmp_path: Path) -> None:
    project = hand_made(tmp_path, body)
    seconds = 2 if "within 2 s" in message else 120  # starting Python alone takes some on a busy machine
    with pytest.raises(ConversionError, match=message):
        emulate(project, np.zeros((3, 2), np.float32), limits=Limits(seconds=seconds))


def test_samples_of_the_wrong_size_never_reach_the_firmware(tmp_path: Path) -> None:
    project = hand_made(tmp_path, "y[0] = 0;")
    with pytest.raises(ConversionError, match=r"3 input values .* 2\b"):
        emulate(project, np.zeros((3, 3), np.float32))


#: Input, kernel, bias and activations between two dense layers: the corners of what formats can be.
CORNERS = [
    ("fixed<6,3>", "fixed<4,1>", "fixed<8,3>", [("none", "fixed<4,4>")]),
    ("fixed<6,3>", "fixed<4,1>", "fixed<8,3>", [("none", "fixed<4,7>")]),
    ("fixed<6,3>", "fixed<4,1>", "fixed<8,3>", [("none", "fixed<4,-2>")]),
    ("fixed<6,3>", "fixed<4,1>", "fixed<8,3>", [("none", "fixed<2,2>")]),
    ("fixed<6,3>", "fixed<4,1>", "fixed<8,3>", [("relu", "ufixed<4,4>")]),
    ("fixed<6,3>", "fixed<4,1>", "fixed<8,3>", [("relu", "ufixed<4,6>")]),
    ("fixed<6,3>", "fixed<4,1>", "fixed<8,3>", [("relu", "ufixed<4,-2>")]),
    ("fixed<6,3>", "fixed<4,1>", "fixed<8,3>", [("relu", "ufixed<1,1>")]),
    ("fixed<6,3>", "fixed<4,1>", "fixed<8,3>", [("none", "fixed<4,6>"), ("leaky_relu", "ufixed<4,6>")]),
    ("fixed<6,3>", "fixed<4,1>", "fixed<8,3>", [("relu", "ufixed<4,2>"), ("tanh", "fixed<6,1>")]),
    ("fixed<6,3>", "fixed<4,1>", "fixed<8,3>", [("relu", "ufixed<4,2>"), ("none", "fixed<3,1>"), ("relu", "ufixed<3,0>")]),
    ("fixed<6,3>", "fixed<4,1>", "fixed<8,3>", []),
    ("fixed<6,3>", "fixed<4,6>", "fixed<8,10>", [("none", "fixed<6,4>")]),
    ("fixed<6,3>", "fixed<4,5>", "fixed<8,9>", [("none", "fixed<6,4>")]),
    ("fixed<6,3>", "fixed<2,2>", "fixed<2,2>", [("none", "fixed<6,4>")]),
    ("fixed<6,3>", "fixed<2,-3>", "fixed<2,-4>", [("none", "fixed<6,-1>")]),
    ("fixed<2,2>", "fixed<4,1>", "fixed<8,3>", [("none", "fixed<6,4>")]),
    ("ufixed<1,1>", "fixed<4,1>", "fixed<8,3>", [("none", "fixed<6,4>")]),
    ("ufixed<8,8>", "fixed<4,1>", "fixed<8,3>", [("none", "fixed<6,4>")]),
]


@pytest.mark.slow
@pytest.mark.parametrize(("grid", "weight", "bias", "activations"), CORNERS)
def test_corner_formats_equal_keras(
    grid: str, weight: str, bias: str, activations: list[tuple[str, str]], own_compiler: None, tmp_path: Path
) -> None:
    hidden = [layer("activation", fn=fn, out=out) for fn, out in activations]
    last = layer("dense", "fixed<6,1>", "fixed<8,3>", units=3)
    network = Architecture((5,), (layer("dense", weight, bias, units=6), *hidden, last), Precision.parse(grid))
    model, x = trained(network), samples(network)
    convert(model, OPTIONS, folder=tmp_path)
    compile_project(tmp_path)
    np.testing.assert_array_equal(emulate(tmp_path, x), predict(network, model.weights, x))
