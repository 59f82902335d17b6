"""Random networks through the whole conversion: every output of the C++ emulation equals Keras, or it is refused."""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from kerasnac.adapters.hls4ml.csim import emulate
from kerasnac.adapters.keras.train import observe, predict
from kerasnac.adapters.rtl.adder_graph import AdderGraph
from kerasnac.core.data.dataset import Split, Task
from kerasnac.core.network.architecture import Architecture
from kerasnac.core.network.precision import Precision
from kerasnac.core.network.quantization import quantize
from kerasnac.core.network.trained import Trained
from kerasnac.core.network.training import Training
from kerasnac.core.network.weights import fold_batch_norm
from kerasnac.core.settings import FirmwareSettings
from kerasnac.core.space.search_space import SearchSpace
from kerasnac.errors import ConfigError, ConversionError, DataError, RunError
from kerasnac.stages import run
from kerasnac.stages.firmware import delivery as stage
from kerasnac.stages.firmware.delivery import make_firmware
from kerasnac.stages.firmware.result import Firmware
from kerasnac.stages.firmware.validation import validate
from kerasnac.stages.run.jobs import ConvertJob, convert_one

PART = "xcvu13p-flga2577-2-e"
SAMPLES = 1500
FAST_SEEDS = (2, 14, 17)  # Together: convolutions of all shapes, tables, streams, reuse, both signs of the input.
ACTIVATIONS = ["none", "relu", "leaky_relu", "gelu", "tanh", "sigmoid"]


@dataclass(frozen=True)
class Case:
    """A random network, samples for it and options of the conversion."""

    trained: Trained
    split: Split
    task: Task
    options: dict[str, Any]
    bits: tuple[int, int]


def random_space(rng: np.random.Generator, outputs: int) -> SearchSpace:
    """Convolutions and dense layers, or dense layers alone."""
    common = {"norm": ["none", "batch"], "activation": ACTIVATIONS}
    mlp = {"block": "mlp", "widths": [[4, 8, 16], [3, 8, 12]], "depth": [1, 2], **common}
    if rng.random() < 0.5:
        return SearchSpace.model_validate({"input": [int(rng.integers(3, 20))], "outputs": outputs, "blocks": [mlp]})
    kernels = {"channels": [2, 3, 5], "kernel": [1, 3], "padding": ["valid", "same"]}
    conv = {"block": "conv", "convolutions": int(rng.integers(1, 3)), **kernels, **common}
    return SearchSpace.model_validate({"input": [6, 5, int(rng.integers(1, 3))], "outputs": outputs, "blocks": [conv, mlp]})


def random_weights(rng: np.random.Generator, architecture: Architecture) -> dict[str, NDArray[np.float32]]:
    """Weights as after a training: kernels of unit gain up to thrice that, some pruned, any batch norm statistics."""
    sparsity = rng.choice([0.0, 0.5, 0.95])
    weights = {}
    for node in architecture.nodes:
        name = node.name
        for part, weight in node.weights.items():
            if part == "kernel":
                scale = rng.uniform(0.5, 3) / np.sqrt(np.prod(weight.shape[:-1]))
                value = rng.normal(0, scale, weight.shape) * (rng.random(weight.shape) >= sparsity)
            elif part in ("gamma", "moving_variance"):
                value = rng.uniform(0.1, 2, weight.shape)
            else:
                value = rng.normal(0, 0.4, weight.shape)
            weights[f"{name}/{part}"] = value.astype(np.float32)
    return weights


def random_case(seed: int, most_bits: int = 16) -> Case:
    """A network whose formats were fitted on quiet samples, and loud ones that saturate every activation."""
    rng = np.random.default_rng(seed)
    outputs = int(rng.integers(1, 5))
    task = Task("classification", outputs) if rng.random() < 0.5 and outputs > 1 else Task("regression", outputs)
    space = random_space(rng, outputs)
    architecture = space.decode(space.sample_feasible(rng)).architecture
    signed = bool(rng.random() < 0.6)
    grid = Precision(int(rng.integers(2 + signed, 11)), int(rng.integers(-1, 5)), signed)
    values = np.abs if not signed else np.asarray
    x = values(rng.normal(0, 1, (SAMPLES, *architecture.input_shape)) * grid.maximum)
    folded, weights = fold_batch_norm(architecture, random_weights(rng, architecture))
    quiet = grid.quantize(x[:200] * rng.choice([0.1, 0.5, 1.0])).astype(np.float32)
    observed = observe(folded, weights, quiet, clip_quantile=1e-2)
    bits = (int(rng.integers(2, most_bits + 1)), int(rng.integers(2, most_bits + 1)))
    quantized = quantize(folded, weights, observed, input_grid=grid, weight_bits=bits[0], activation_bits=bits[1])
    labels = rng.integers(0, outputs, SAMPLES) if task.kind == "classification" else rng.normal(size=(SAMPLES, outputs))
    options = [
        {},
        {"reuse_factor": 2},
        {"strategy": "resource", "reuse_factor": int(rng.integers(1, 20))},
        {"strategy": "distributed_arithmetic"},
        {"io_type": "io_stream"},
        {"io_type": "io_stream", "strategy": "resource", "reuse_factor": int(rng.integers(1, 20))},
        {"backend": "Vivado"},
    ]
    return Case(
        Trained(f"random_{seed}", quantized, weights, Training(), {}, seed),
        Split(x.astype(np.float32), labels),
        task,
        options[int(rng.integers(len(options)))],
        bits,
    )


def convert_case(case: Case, folder: Path) -> Firmware:
    return make_firmware(case.trained, case.split, case.task, folder=folder, part=PART, exact=False, **case.options)


@pytest.mark.parametrize("seed", FAST_SEEDS)
def test_small_networks_are_exact(seed: int, tmp_path: Path) -> None:
    firmware = convert_case(random_case(seed, most_bits=8), tmp_path / "firmware")
    assert firmware.bit_exact, firmware.report()
    assert f"bit-exact: {firmware.outputs} of {firmware.outputs} outputs equal" in firmware.report()
    assert firmware.metric == firmware.keras_metric
    assert Firmware.load(tmp_path / "firmware") == firmware


@pytest.fixture(scope="module")
def case() -> Case:
    """A small classification with two blocks of dense layers."""
    rng = np.random.default_rng(5)
    space = SearchSpace.model_validate({"input": [6], "outputs": 3, "blocks": [{"block": "mlp", "widths": [8]}]})
    architecture = space.decode(space.sample_feasible(rng)).architecture
    weights = random_weights(rng, architecture)
    grid = Precision(8, 3)
    x = grid.quantize(rng.normal(size=(SAMPLES, 6))).astype(np.float32)
    observed = observe(architecture, weights, x, clip_quantile=1e-3)
    quantized = quantize(architecture, weights, observed, input_grid=grid, weight_bits=6, activation_bits=6)
    labels = rng.integers(0, 3, SAMPLES)
    return Case(
        Trained("small", quantized, weights, Training(), {}, 5), Split(x, labels), Task("classification", 3), {}, (6, 6)
    )


@pytest.fixture(scope="module")
def firmware(case: Case, tmp_path_factory: pytest.TempPathFactory) -> Firmware:
    folder = tmp_path_factory.mktemp("firmware") / "small"
    return make_firmware(case.trained, case.split, case.task, folder=folder, part=PART, softmax="chip")


def test_the_folder_holds_all_evidence(firmware: Firmware, case: Case) -> None:
    assert (firmware.folder / "report.txt").read_text() == firmware.report()
    saved = Trained.load(firmware.folder / "kerasnac" / "model")
    assert saved == case.trained
    inputs, outputs = (
        np.loadtxt(firmware.folder / "tb_data" / f"tb_{name}.dat") for name in ("input_features", "output_predictions")
    )
    np.testing.assert_array_equal(inputs, case.split.x[:1000])
    np.testing.assert_array_equal(outputs, predict(saved.architecture, saved.weights, case.split.x)[:1000])


def test_the_folder_can_be_moved(firmware: Firmware, case: Case, tmp_path: Path) -> None:
    moved = Path(shutil.copytree(firmware.folder, tmp_path / "elsewhere"))
    np.testing.assert_array_equal(emulate(moved, case.split.x), emulate(firmware.folder, case.split.x))
    assert Firmware.load(moved) == replace(firmware, folder=moved)


def test_a_folder_without_firmware_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"report\.json is missing"):
        Firmware.load(tmp_path)


def test_softmax_on_the_chip_agrees_with_keras(firmware: Firmware) -> None:
    assert firmware.bit_exact  # The promise is about the linear outputs.
    assert firmware.softmax is not None
    assert firmware.softmax.max_difference < 1e-3
    assert firmware.softmax.argmax > 0.99
    assert "softmax on chip" in firmware.report()


def test_an_exact_softmax_is_part_of_the_network(case: Case, tmp_path: Path) -> None:
    made = make_firmware(case.trained, case.split, case.task, folder=tmp_path / "fw", part=PART, softmax="exact")
    assert made.bit_exact
    assert made.softmax is not None
    assert made.softmax.max_difference < 0.02
    assert made.softmax.argmax > 0.99
    assert made.adder_graph.equal == made.adder_graph.outputs == made.outputs
    assert "softmax on chip (ap_ufixed<16,1>, tables that Keras shares)" in made.report()
    assert Firmware.load(tmp_path / "fw") == made
    assert made.trained == case.trained
    again = validate(tmp_path / "fw")
    assert again.ok
    assert again.comparison == made.comparison


def test_what_nothing_has_computed_with_is_never_called_exact(case: Case, tmp_path: Path) -> None:
    options = {"backend": "oneAPI", "part": "Agilex7", "strategy": "resource"}
    made = make_firmware(case.trained, case.split, case.task, folder=tmp_path / "fw", **options)
    assert not made.bit_exact
    assert (made.comparison, made.metric, made.outputs) == (None, None, 0)
    assert made.verdict.startswith("not emulated: oneAPI's C++ is SYCL")
    assert "bit-exact" not in made.report()
    assert "bit-exact" not in (tmp_path / "fw" / "summary.md").read_text()
    assert Firmware.load(tmp_path / "fw") == made
    found = validate(tmp_path / "fw")
    assert found.ok
    assert "not emulated" in found.report()


def test_inputs_are_put_on_the_grid(case: Case, tmp_path: Path) -> None:
    off_grid = Split(case.split.x + np.float32(0.003), case.split.y)
    assert make_firmware(case.trained, off_grid, case.task, folder=tmp_path / "fw", part=PART).bit_exact


def tampered(project: Path, x: NDArray[np.float32], **options: Any) -> NDArray[np.float32]:
    outputs = emulate(project, x, **options)
    outputs[7, 1] += 0.5
    return outputs


def test_one_different_output_is_an_error(case: Case, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stage, "emulate", tampered)
    with pytest.raises(
        ConversionError, match=r"NOT bit-exact: 1 of 4500 outputs differ \(first: sample 7, output 1: Keras .*, firmware "
    ):
        make_firmware(case.trained, case.split, case.task, folder=tmp_path / "fw", part=PART)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["fw.failed"]
    assert (tmp_path / "fw.failed" / "compile.log").is_file()


def test_different_outputs_can_be_reported_instead(case: Case, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stage, "emulate", tampered)
    firmware = make_firmware(case.trained, case.split, case.task, folder=tmp_path / "fw", part=PART, exact=False)
    assert not firmware.bit_exact
    assert (firmware.mismatches, firmware.max_abs_error) == (1, 0.5)
    assert "NOT bit-exact: 1 of 4500 outputs differ" in firmware.report()
    assert Firmware.load(tmp_path / "fw") == firmware


def wrong_graph(graph: Any, x: NDArray[np.float32]) -> NDArray[np.float32]:
    outputs = np.array(RIGHT_GRAPH(graph, x))
    outputs[7, 1] += 0.5
    return outputs


RIGHT_GRAPH = AdderGraph.predict


def test_an_adder_graph_that_differs_is_an_error(case: Case, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(AdderGraph, "predict", wrong_graph)
    message = (
        r"small: the adder graph is NOT bit-exact: 1 of 4500 outputs differ \(first: sample 7, output 1: Keras .*, adder graph "
    )
    with pytest.raises(ConversionError, match=message):
        make_firmware(case.trained, case.split, case.task, folder=tmp_path / "fw", part=PART)
    assert [path.name for path in tmp_path.iterdir()] == ["fw.failed"]
    found = validate(tmp_path / "fw.failed")
    assert not found.ok
    assert "when the folder was made: the adder graph is NOT bit-exact" in found.report()


def test_an_adder_graph_that_differs_is_in_every_verdict(case: Case, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(AdderGraph, "predict", wrong_graph)
    made = make_firmware(case.trained, case.split, case.task, folder=tmp_path / "fw", part=PART, exact=False)
    assert made.comparison is not None
    assert made.comparison.equal
    assert not made.bit_exact
    assert made.verdict.startswith("bit-exact: 4500 of 4500 outputs equal; the adder graph is NOT bit-exact: 1 of 4500")
    assert made.adder_graph.disagreement in made.report()
    assert made.adder_graph.disagreement in (tmp_path / "fw" / "summary.md").read_text()
    assert Firmware.load(tmp_path / "fw") == made


def test_a_folder_with_other_things_is_not_replaced(case: Case, tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("mine")
    for folder in (tmp_path, tmp_path / "thesis.tex"):
        with pytest.raises(RunError, match="holds something else than firmware"):
            make_firmware(case.trained, case.split, case.task, folder=folder, part=PART)
    assert (tmp_path / "thesis.tex").read_text() == "mine"


def test_a_network_that_cannot_be_exact_leaves_nothing_behind(case: Case, tmp_path: Path) -> None:
    wide = [
        replace(spec, weight=replace(spec.weight, bits=20)) if spec.weight else spec
        for spec in case.trained.architecture.layers
    ]
    trained = replace(case.trained, architecture=replace(case.trained.architecture, layers=tuple(wide)))
    with pytest.raises(ConversionError, match="dense_0: sums of"):
        make_firmware(trained, case.split, case.task, folder=tmp_path / "fw", part=PART)
    assert list(tmp_path.iterdir()) == []


def test_samples_of_another_shape_are_refused(case: Case, tmp_path: Path) -> None:
    for x in (np.zeros((5, 7), np.float32), np.zeros((0, 6), np.float32), np.full((5, 6), "a"), np.full((5, 6), None)):
        with pytest.raises(DataError, match="do not fit small"):
            make_firmware(case.trained, Split(x, case.split.y), case.task, folder=tmp_path / "fw", part=PART)


def test_samples_without_labels_are_refused(case: Case, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="1500 samples have 3 labels"):
        make_firmware(case.trained, Split(case.split.x, case.split.y[:3]), case.task, folder=tmp_path / "fw")


def test_a_run_takes_up_only_what_is_whole_and_unchanged(case: Case, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []

    def counted(*arguments: Any, **options: Any) -> Firmware:
        calls.append(options["folder"])
        return make_firmware(*arguments, **options)

    monkeypatch.setattr(stage, "make_firmware", counted)
    job = ConvertJob(case.trained, case.split, case.task, FirmwareSettings(), tmp_path / "fw")
    data: Any = None  # it converts without

    def made() -> int:
        calls.clear()
        assert convert_one(data, job) == Firmware.load(tmp_path / "fw")
        return len(calls)

    assert (made(), made()) == (1, 0)
    for damage in ("firmware/defines.h", "report.json", "kerasnac/model/weights.npz"):
        (tmp_path / "fw" / damage).write_text("")
        assert (damage, made(), made()) == (damage, 1, 0)
    other = {key: value + 1 for key, value in case.trained.weights.items()}
    job = replace(job, model=replace(case.trained, weights=other))
    assert job.model == case.trained  # weights do not count for this
    assert run._converted(job) is None


def test_an_unknown_softmax_is_refused(case: Case, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="softmax is 'on_chip'; there are host, chip, exact"):
        make_firmware(case.trained, case.split, case.task, folder=tmp_path / "fw", softmax="on_chip")  # type: ignore[arg-type]


def test_softmax_needs_classes(case: Case, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="softmax"):
        make_firmware(case.trained, case.split, Task("regression", 3), folder=tmp_path / "fw", part=PART, softmax="exact")


@pytest.mark.slow
def test_random_networks_are_exact_or_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """``KERASNAC_FUZZ=100 KERASNAC_FUZZ_SEED=7 pytest -m slow`` sets how many networks, and the first seed."""
    count, first = int(os.environ.get("KERASNAC_FUZZ", "40")), int(os.environ.get("KERASNAC_FUZZ_SEED", "0"))
    wrong = []
    for seed in range(first, first + count):
        case = random_case(seed)
        network = case.trained.architecture
        head = f"seed {seed}: w{case.bits[0]} a{case.bits[1]} in {network.input} {case.options} {network}"
        try:
            firmware = convert_case(case, tmp_path / f"{seed}")
        except ConversionError as error:
            line = f"{head}\n    REFUSED {error}"
            if "float32" not in str(error):
                wrong.append(line)
        else:
            line = f"{head}\n    {firmware.samples} samples, {firmware.verdict}, {firmware.seconds}"
            if not firmware.bit_exact:
                wrong.append(line)
        with capsys.disabled():
            print(line, flush=True)
    assert not wrong, "\n".join(wrong)
