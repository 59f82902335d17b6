"""Parts of others: how they are named, found and refused."""

from __future__ import annotations

import pickle
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from kerasnac import Architecture, LayerSpec, blocks
from kerasnac.core.data.dataset import Dataset
from kerasnac.core.data.losses import LOSS, loss
from kerasnac.core.data.metrics import METRIC, metric
from kerasnac.core.data.task import TASK, task_kind
from kerasnac.core.hardware.estimators import ESTIMATOR, CostModel, NamedEstimator
from kerasnac.core.network.training import Training
from kerasnac.core.plugins import Kind, Origin, name_of
from kerasnac.core.settings import SearchSettings
from kerasnac.core.settings.yaml_files import dump, load_run, load_space, to_yaml
from kerasnac.core.space.blocks import BLOCK, foreign_blocks
from kerasnac.core.space.search_space import SearchSpace
from kerasnac.datasets import DATASET, from_arrays, load
from kerasnac.errors import ConfigError, DataError, PluginError
from kerasnac.stages.run.parts import parts_of, parts_of_search
from kerasnac.stages.search.costs import EstimateJob, estimate
from kerasnac.stages.search.global_search import check_search

PARTS = """
import kerasnac as kn
from kerasnac import blocks, LayerSpec

class Wide(blocks.Block):
    widths: blocks.Values[int]
    def choices(self):
        return (blocks.Choice("units", self.widths),)
    def layers(self, picks, shape):
        yield LayerSpec.of("dense", units=picks["units"])

class Nested:
    class Wider(Wide):
        pass

class Sub(blocks.Mlp):
    pass

class Renamed(blocks.Mlp):
    block: str = ""

def numbers(n=90):
    import numpy as np
    return kn.datasets.from_arrays(np.arange(n * 2.0).reshape(n, 2) / n / 2, np.arange(n) % 2, name="numbers")

def anything(**options):
    return numbers(**options)

def wrong():
    return 1, 2

def broken(n: int = 0):
    return 1 / n

def picky():
    return kn.datasets.from_npz("nowhere.npz")
"""


@pytest.fixture
def parts(tmp_path: Path) -> Path:
    path = tmp_path / "parts.py"
    path.write_text(PARTS)
    return path


@pytest.fixture
def module(parts: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The same as a module, of which no other test has one."""
    name = f"parts_of_{parts.parent.name}"
    parts.with_stem(name).write_text(PARTS)
    monkeypatch.syspath_prepend(parts.parent)
    return name


def add_package(folder: Path, name: str, group: str, *points: str, version: str = "1.0") -> None:
    """Write what an installed package has besides its modules."""
    info = folder / f"{name}-{version}.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
    (info / "entry_points.txt").write_text("\n".join((f"[{group}]", *points)) + "\n")


def space(**block: Any) -> SearchSpace:
    return SearchSpace(input=2, outputs=2, blocks=({"widths": [2, 4], **block},))


@pytest.mark.parametrize("name", ["Wide", "Nested.Wider"])
def test_a_block_of_a_module_or_a_file(module: str, parts: Path, name: str, tmp_path: Path) -> None:
    for place in (module, str(parts)):
        made = space(block=f"{place}:{name}")
        assert [str(made.decode((i,)).architecture) for i in range(2)] == ["dense-2 dense-2", "dense-4 dense-2"]
        (tmp_path / "space.yaml").write_text(dump(made))
        assert load_space(tmp_path / "space.yaml") == made


OTHER_SESSION = "import sys, kerasnac as kn; print(kn.load_space(sys.argv[1]).decode((0,)).architecture)"

SCRIPT = """
import sys
import kerasnac as kn
from kerasnac import blocks, LayerSpec
class Mine(blocks.Block):
    def choices(self):
        return (blocks.Choice("units", (2, 4)),)
    def layers(self, picks, shape):
        yield LayerSpec.of("dense", units=picks["units"])
text = kn.to_yaml(kn.SearchSpace(input=2, outputs=2, blocks=({"block": "none"}, Mine())))
if __name__ == "__main__":
    print(text)
    open("again.yaml", "w").write(text)
    assert type(kn.load_space("again.yaml").blocks[1]) is Mine
"""


@pytest.mark.parametrize("kind", ["module", "file", "script"])
def test_a_space_is_read_in_other_sessions(kind: str, module: str, parts: Path, tmp_path: Path) -> None:
    if kind == "script":
        parts.write_text(SCRIPT)
        done = subprocess.run([sys.executable, parts], capture_output=True, text=True, cwd=tmp_path)
        assert not done.stderr
        text = done.stdout
    else:
        place = module if kind == "module" else str(parts)
        inner = {"block": f"{place}:Wide", "widths": [2, 4]}
        text = to_yaml(SearchSpace(input=2, outputs=2, blocks=({"block": "residual", "body": inner, "activation": "none"},)))
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "space.yaml").write_text(text)
    command = [sys.executable, "-c", OTHER_SESSION, "space.yaml"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path / "elsewhere")
    assert done.stdout.strip() == ("dense-2 dense-2" if kind == "script" else "dense-2 add dense-2"), done.stderr


def test_a_block_of_a_prompt_is_in_no_file() -> None:
    code = f"{SCRIPT.partition('text =')[0]}\nkn.to_yaml(kn.SearchSpace(input=2, outputs=2, blocks=(Mine(),)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert "PluginError: __main__:Mine was defined in this notebook or at a prompt" in done.stderr


def test_a_file_is_looked_for_beside_the_run_file(parts: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = parts.parent / "sub" / "space.yaml"
    path.parent.mkdir()
    path.write_text("input: 2\noutputs: 2\nblocks: [{block: ../parts.py:Wide, widths: [2, 4]}]\n")
    assert load_space(path).blocks[0].block == f"{parts}:Wide"
    monkeypatch.chdir(parts.parent)
    assert space(block="parts.py:Wide").blocks[0].block == f"{parts}:Wide"


def test_a_changed_file_is_read_again(parts: Path) -> None:
    name = f"{parts}:Wide"
    first = BLOCK.foreign(name)
    assert BLOCK.foreign(name) is first
    parts.write_text(PARTS + "\n# changed\n")
    second = BLOCK.foreign(name)
    assert second is not first
    assert second is not None
    assert name_of(second) == name


def test_a_block_made_in_python_has_the_name_of_its_class(module: str) -> None:
    kind = BLOCK.foreign(f"{module}:Wide")
    assert kind is not None
    assert kind(widths=(2, 4)).block == f"{module}:Wide"  # type: ignore[call-arg]
    assert [block.block for block in foreign_blocks(space(block=f"{module}:Wide").blocks)] == [f"{module}:Wide"]


def test_a_class_that_inherits_from_a_built_in_block_needs_a_name_of_its_own(module: str) -> None:
    with pytest.raises(ConfigError, match=r"""the tag 'mlp': write `block: str = ""` in the class"""):
        space(block=f"{module}:Sub")
    assert str(space(block=f"{module}:Renamed", widths=[[2, 4]]).decode((0,)).architecture) == "dense-2 relu dense-2"


#: How a part is asked for, by its kind.
ASK: dict[str, Callable[[str], Any]] = {
    "block": BLOCK.foreign,
    "dataset": DATASET.foreign,
    "estimator": ESTIMATOR.foreign,
    "metric": METRIC.foreign,
    "loss": LOSS.foreign,
    "task": TASK.foreign,
}


@pytest.mark.parametrize("kind", ASK)
@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("unheard_of", r"unknown {kind} 'unheard_of': one of .*package.module:name or ./file.py:name"),
        ("", r"unknown {kind} ''"),
        ("no_such_package.parts:X", r"{kind} no_such_package.parts:X: there is no module no_such_package: install the package"),
        ("{module}.parts:X", r"there is no module {module}.parts"),
        ("{module}:X", r"{module} has no X; it has |{module} has no X, nor any {kind}"),
        ("{module}:", r"{module} has no name after the colon"),
        (":X", r"'' is no module"),
        ("a b:X", r"'a b' is no module"),
        ("..parts:X", r"'..parts' is no module"),
        ("{folder}/nowhere.py:X", r"there is no file .*nowhere.py"),
        ("{folder}/syntax.py:X", r"syntax.py cannot be imported: SyntaxError"),
        ("{folder}/raises.py:X", r"raises.py cannot be imported: ZeroDivisionError: division by zero \(raises.py:2\)"),
        ("{folder}/exits.py:X", r"exits.py cannot be imported: SystemExit: 3 \(exits.py:1\)"),
        ("{folder}/needs.py:X", r"needs.py needs the module no_such_package, which is not installed"),
        ("os:sep", r"of type str, and not a"),
        ("pathlib:Path", r"it is a class, and not a"),
        ("kerasnac.core.space.blocks:BLOCKS", r"of type dict, and not a"),
        ("kerasnac.core.space.blocks:Block", r"it is a class, and not a"),
        ("kerasnac.core.hardware.estimators:CostModel", r"it is a class, and not a"),
    ],
)
def test_what_is_no_part_is_one_line(kind: str, name: str, message: str, module: str, tmp_path: Path) -> None:
    (tmp_path / "syntax.py").write_text("def (\n")
    (tmp_path / "raises.py").write_text("\n1 / 0\n")
    (tmp_path / "exits.py").write_text("raise SystemExit(3)\n")
    (tmp_path / "needs.py").write_text("import no_such_package\n")
    filled = {"module": module, "folder": tmp_path, "kind": kind}
    with pytest.raises(PluginError, match=message.format(**filled)) as caught:
        ASK[kind](name.format(**filled))
    assert "\n" not in str(caught.value)
    assert not any(loaded.startswith("_kerasnac_file_raises") for loaded in sys.modules)


def test_entry_points(module: str, tmp_path: Path) -> None:
    add_package(tmp_path, "others", "kerasnac.blocks", f"wide = {module}:Wide", f"gone = {module}:Gone", "bad = nothing")
    assert BLOCK.names()[-3:] == ["bad", "gone", "wide"]
    made = space(block="wide")
    assert made.blocks[0].block == "wide"
    assert BLOCK.origin("wide", type(made.blocks[0])) == Origin("block", "wide", module, "others", "1.0")
    with pytest.raises(PluginError, match=f"block gone of others: {module} has no Gone; it has Wide"):
        BLOCK.foreign("gone")
    with pytest.raises(PluginError, match="block bad of others: '' is no module"):
        BLOCK.foreign("bad")


def test_a_name_of_ours_is_not_another_ones(module: str, tmp_path: Path) -> None:
    assert BLOCK.foreign("mlp") is None
    add_package(tmp_path / "a", "others", "kerasnac.blocks", f"mlp = {module}:Wide")
    sys.path.insert(0, str(tmp_path / "a"))
    with pytest.raises(PluginError, match=f"block mlp: kerasnac and others have one of this name.* {module}:Wide is a name"):
        BLOCK.foreign("mlp")


def test_two_packages_with_one_name(module: str, tmp_path: Path) -> None:
    for name in ("left", "right"):
        add_package(tmp_path / "b", name, "kerasnac.datasets", f"numbers = {module}:numbers")
    sys.path.insert(0, str(tmp_path / "b"))
    with pytest.raises(PluginError, match="dataset numbers: left and right have one of this name"):
        load("numbers")


def test_a_package_that_is_installed_meanwhile_is_found(module: str, tmp_path: Path) -> None:
    with pytest.raises(PluginError):
        load("late")
    add_package(tmp_path, "late", "kerasnac.datasets", f"late = {module}:numbers")
    assert load("late", n=60).name == "numbers"


def test_origins_without_a_package(parts: Path, module: str) -> None:
    for name, place in ((f"{parts}:Wide", str(parts)), (f"{module}:Wide", module)):
        part = BLOCK.foreign(name)
        origin = BLOCK.origin(name, part)
        assert (origin.module, origin.distribution) == (place, "")
        assert origin.version.startswith("sha256 ")
    assert BLOCK.origin("numpy:array", sys.modules["numpy"].ndarray).distribution == "numpy"


def test_blocks_of_a_function_have_an_origin_too() -> None:
    class Local(blocks.Block):
        def choices(self) -> Any:
            return (blocks.Choice("units", (2, 3)),)

        def layers(self, picks: Any, shape: Any) -> Any:
            yield LayerSpec.of("dense", units=picks["units"])

    (origin,) = parts_of_search(SearchSpace(input=2, outputs=2, blocks=(Local(),)), SearchSettings())
    assert origin.name.endswith("<locals>.Local")


@pytest.mark.parametrize(
    ("name", "options", "error", "message"),
    [
        ("wrong", {}, PluginError, r"dataset .*:wrong returns \(1, 2\): return a kerasnac.Dataset"),
        ("broken", {}, PluginError, r"dataset .*:broken fails: ZeroDivisionError: division by zero \(parts.py:\d+\)"),
        ("broken", {"m": 1}, ConfigError, "has no option 'm': it takes n"),
        ("wrong", {"m": 1}, ConfigError, "has no option 'm': it takes metric, metrics, "),
        ("anything", {"m": 1}, PluginError, "TypeError: numbers.* got an unexpected keyword argument 'm'"),
        ("picky", {}, DataError, "^nowhere.npz"),
    ],
)
def test_datasets_that_do_not_work(parts: Path, name: str, options: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        load(f"{parts}:{name}", **options)


def test_a_dataset_of_a_file(parts: Path) -> None:
    assert load(f"{parts}:numbers", n=40).input_shape == load(f"{parts}:anything", n=40).input_shape == (2,)


BLOCK_HEAD = """
from kerasnac import blocks, LayerSpec
from kerasnac.core.network.precision import Precision
class Bad(blocks.Block):
    widths: tuple[int, ...]
    def choices(self):
        return (blocks.Choice("units", self.widths),)
"""


def _checked_space(block: Any, data: Any) -> None:
    made = SearchSpace(input=6, outputs=3, blocks=({"block": "mlp", "widths": [[2, 3]]}, block))
    check_search(made, data.development, SearchSettings())


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (
            "def layers(self, p, s):\n  yield LayerSpec.of('dense', units=p['unit'])",
            r"reads the pick 'unit', which choices\(\)",
        ),
        ("def layers(self, p, s):\n  yield LayerSpec.of('dens', units=1)", "ConfigError: unknown layer kind 'dens'.*bad.py:9"),
        ("def layers(self, p, s):\n  yield LayerSpec.of('dense', units=-p['units'])", "dense: units: .*greater than or equal"),
        ("def layers(self, p, s):\n  yield 'dense'", r"layers\(\) yields 'dense': make layers by LayerSpec.of"),
        ("def layers(self, p, s):\n  return None", "TypeError: 'NoneType' object is not iterable"),
        ("def layers(self, p, s):\n  return 1 / 0", r"ZeroDivisionError: division by zero \(bad.py:9\)"),
        ("def layers(self, p):\n  return ()", r"TypeError: .*takes 2 positional arguments"),
        ("def layers(self, p, s):\n  yield LayerSpec.of('add', inputs=(-1, -2))", r"layer 0 \(add\) reads more than"),
        ("def layers(self, p, s):\n  yield LayerSpec('dense', (('units', 2),), weight=Precision(8, 2))", "number formats"),
        ("def layers(self, p, s): ...\n def choices(self): return 1 / 0", r"choices\(\) fails: ZeroDivisionError"),
        ("def layers(self, p, s): ...\n def choices(self): return [1]", r"choices\(\) gives \[1\], and not a tuple"),
        ("def layers(self, p, s): ...\n def choices(self): return (blocks.Choice('a', ()),)", r"'a' has the values \(\)"),
        ("def layers(self, p, s): ...\n def choices(self): return (blocks.Choice('a', (1, 1)),)", r"values \(1, 1\)"),
        ("def layers(self, p, s): ...\n def choices(self): return (blocks.Choice('a', (1,)),) * 2", "two choices .* 'a'"),
    ],
)
def test_blocks_that_build_something_wrong_are_one_line_before_any_training(
    body: str, message: str, tmp_path: Path, vector_classes: Any
) -> None:
    path = tmp_path / "bad.py"
    path.write_text(BLOCK_HEAD + "".join(f"{'    ' * (2 - ('def' in line))}{line.strip()}\n" for line in body.splitlines()))
    bad = {"block": f"{path}:Bad", "widths": [2, 4]}
    for block in (bad, {"block": "residual", "body": bad}):
        with pytest.raises(ConfigError, match=message) as caught:
            _checked_space(block, vector_classes)
        assert f"block {path}:Bad: " in str(caught.value)
        assert "\n" not in str(caught.value)


def test_the_exceptions_of_a_space_go_through_a_block_of_others(parts: Path) -> None:
    made = SearchSpace(input=2, outputs=2, blocks=[{"block": f"{parts}:Wide", "widths": [2, 4, 8], "repeat": 3}])
    candidate = made.decode((1, 2, 0))
    assert made.encode(candidate) == (1, 2, 0)


OUTPUT_ALONE = Architecture((6,), (LayerSpec.of("dense", units=2),))

COSTS = """
import kerasnac as kn
from kerasnac.errors import Infeasible
class Costs(kn.CostModel):
    metrics = ("energy", "area")
    {0}
    def costs(self, architecture, data):
        {1}
"""


@pytest.mark.parametrize(
    ("body", "result", "message"),
    [
        ("metrics = ()", "return {}", r"give its class the names of its costs, metrics = "),
        ("metrics = 'energy'", "return {}", r"give its class the names of its costs"),
        ("metrics = ('bops',)", "return {}", r"'bops' cannot be the name of a cost, or is that of another one"),
        ("metrics = ('status',)", "return {}", r"'status' cannot be the name of a cost"),
        ("metrics = ('a b',)", "return {}", r"'a b' cannot be the name of a cost"),
        ("metrics = ('a', 'a')", "return {}", r"'a' cannot be the name of a cost, or is that of another one"),
        ("def __init__(self, a): pass", "return {}", r"Costs fails: TypeError"),
        ("settings = {'a': set()}", "return {}", r"the JSON of its settings fails: TypeError"),
        ("", "return 1 / 0", r"costs\(\) of \[dense-2\] fails: ZeroDivisionError: division by zero \(costs.py:8\)"),
        ("", "return 1.0", r"gives 1.0: give a mapping of energy, area to numbers"),
        ("", "return {'energy': 1.0}", r"gives \{'energy': 1.0\}: give a mapping of energy, area"),
        ("", "return {'energy': 1.0, 'area': float('nan')}", r"gives area = nan: costs are finite numbers from 0"),
        ("", "return {'energy': -1, 'area': 1}", r"gives energy = -1: costs"),
        ("", "return {'energy': [1, 2], 'area': 1}", r"gives energy = \[1, 2\]: costs"),
        ("", "return {'energy': True, 'area': 1}", r"gives energy = True: costs"),
    ],
)
def test_sources_of_costs_that_do_not_work(body: str, result: str, message: str, tmp_path: Path, vector_classes: Any) -> None:
    path = tmp_path / "costs.py"
    path.write_text(COSTS.replace("{0}", body).replace("{1}", result))
    with pytest.raises(ConfigError, match=message) as caught:
        _estimates(path, vector_classes)
    assert "\n" not in str(caught.value)
    assert f"estimator {path}:Costs" in str(caught.value)


def _estimates(path: Path, data: Any) -> list[dict[str, float] | str]:
    (source,) = SearchSettings(estimators=(f"{path}:Costs",)).foreign_estimators
    assert len(source.key) == 12
    return source.estimate(data.development, [OUTPUT_ALONE])


def test_a_network_without_costs_has_a_reason(tmp_path: Path, vector_classes: Any) -> None:
    path = tmp_path / "costs.py"
    path.write_text(COSTS.replace("{0}", "").replace("{1}", "raise Infeasible('too deep')"))
    assert _estimates(path, vector_classes) == ["too deep"]
    assert SearchSettings(estimators=(f"{path}:Costs", "rule4ml")).foreign_costs == ("energy", "area")


def test_a_cost_has_one_source_and_is_no_task_metric(tmp_path: Path, mlp_space: SearchSpace, vector_classes: Any) -> None:
    paths = [tmp_path / "costs.py", tmp_path / "others.py"]
    for path in paths:
        path.write_text(COSTS.replace("{0}", "metrics = ('accuracy',)").replace("{1}", "return {'accuracy': 1}"))
    with pytest.raises(ConfigError, match="two of them record 'accuracy'"):
        SearchSettings(estimators=tuple(f"{path}:Costs" for path in paths))
    with pytest.raises(ConfigError, match="'accuracy' is the metric of the task: give the cost another name"):
        check_search(mlp_space, vector_classes.development, SearchSettings(estimators=(f"{paths[0]}:Costs",)))


def estimated_elsewhere(job: Any, data: Any, folder: Path) -> str:
    """What a new process prints that gets a job as workers do."""
    (folder / "job").write_bytes(pickle.dumps((job, data)))
    code = f"import pickle; job, data = pickle.load(open({str(folder / 'job')!r}, 'rb')); print(estimate(data, job))"
    code = f"from kerasnac.stages.search.costs import estimate; {code}"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    return done.stdout + done.stderr


def test_workers_import_a_source_of_costs_by_its_name(tmp_path: Path, vector_classes: Any) -> None:
    path = tmp_path / "costs.py"
    path.write_text(COSTS.replace("{0}", "").replace("{1}", "return {'energy': 1, 'area': len(architecture.layers)}"))
    (source,) = SearchSettings(estimators=(f"{path}:Costs",)).foreign_estimators
    assert isinstance(source.model, CostModel)
    job = EstimateJob(source, (OUTPUT_ALONE,))
    assert estimated_elsewhere(job, vector_classes.development, tmp_path) == "[{'energy': 1.0, 'area': 1.0}]\n"
    path.unlink()
    assert f"PluginError: estimator {path}:Costs: there is no file" in estimated_elsewhere(job, None, tmp_path)


@pytest.mark.slow
def test_real_workers_do_so_too(tmp_path: Path, workers: Any) -> None:
    path = tmp_path / "costs.py"
    path.write_text(COSTS.replace("{0}", "").replace("{1}", "return {'energy': 1, 'area': len(architecture.layers)}"))
    job = EstimateJob(*SearchSettings(estimators=(f"{path}:Costs",)).foreign_estimators, (OUTPUT_ALONE,))
    assert list(workers.map(estimate, [job])) == [(0, [{"energy": 1.0, "area": 1.0}])]
    path.unlink()
    with pytest.raises(PluginError, match="there is no file"):
        list(workers.map(estimate, [replace(job, estimator=NamedEstimator(f"{path}:Costs"))] * 3))


def test_kinds_have_entry_points_of_their_own() -> None:
    kinds: list[Kind[Any]] = [BLOCK, DATASET, ESTIMATOR, METRIC, LOSS, TASK]
    words = ("blocks", "datasets", "estimators", "metrics", "losses", "tasks")
    assert [kind.group for kind in kinds] == [f"kerasnac.{word}" for word in words]


MEASURES = """
import numpy as np
import kerasnac as kn

def mean(outputs, labels):
    return np.mean(outputs)

def absolute(labels, outputs):
    return abs(labels - outputs)

def columns(x, y, outputs, name):
    return np.asarray(y, np.float32).reshape(len(x), outputs)

def fails(x, y, outputs, name):
    return 1 / 0

def short(x, y, outputs, name):
    return y[1:]

MEAN = kn.Metric(mean, "mean", "max")
COLUMNS = kn.TaskKind(MEAN, "mean_absolute_error", columns)
FAILS = kn.TaskKind("mae", "huber", fails)
SHORT = kn.TaskKind("mae", "huber", short)
CROOKED = kn.TaskKind("mae", "huber", columns, measured=lambda outputs, y: outputs)
"""


@pytest.fixture
def measures(tmp_path: Path) -> Path:
    path = tmp_path / "measures.py"
    path.write_text(MEASURES)
    return path


def made(kind: str, **options: Any) -> Dataset:
    x = np.random.default_rng(0).normal(size=(60, 2))
    return from_arrays(x, x[:, :1], name="made", task=kind).with_(**options)


def test_a_metric_a_loss_and_a_task_of_a_file(measures: Path, tmp_path: Path) -> None:
    (tmp_path / "run.yaml").write_text(
        "space: {input: 2, outputs: 1, blocks: [{block: mlp, widths: [2, 4]}]}\n"
        "dataset:\n  source: npz\n  path: x.npz\n  task: ./measures.py:COLUMNS\n  metric: measures.py:MEAN\n"
        "  metrics: [mae, {function: ./measures.py:mean, name: lowest, sense: min}]\n"
        "  loss: {name: ./measures.py:absolute}\n"
    )
    settings = load_run(tmp_path / "run.yaml")
    x = np.random.default_rng(0).normal(size=(60, 2))
    np.savez(tmp_path / "x.npz", x=x, y=x[:, :1])
    data = load(settings.dataset.source, **settings.dataset.options)
    assert data.task.kind == f"{measures}:COLUMNS"
    assert data.task.senses == {"mean": "max", "mae": "min", "lowest": "min"}
    assert data.task.loss.name == f"{measures}:absolute"
    origins = parts_of(settings, data.task)
    assert [(origin.kind, origin.name, origin.module) for origin in origins] == [
        ("metric", f"{measures}:mean", str(measures)),
        ("loss", f"{measures}:absolute", str(measures)),
        ("task", f"{measures}:COLUMNS", str(measures)),
    ]
    assert {origin.version[:7] for origin in origins} == {"sha256 "}
    (tmp_path / "again.yaml").write_text(dump(settings))
    assert load_run(tmp_path / "again.yaml") == settings


def test_workers_import_metrics_losses_and_tasks_by_their_names(measures: Path, tmp_path: Path) -> None:
    place = str(measures)
    data = made(f"{place}:COLUMNS", metric=f"{place}:MEAN", loss=f"{place}:absolute").development
    outputs = np.full((len(data.validation), 1), 0.25, np.float32)
    assert data.task.score(outputs, data.validation.y) == 0.25
    (tmp_path / "data").write_bytes(pickle.dumps((data, outputs)))
    code = (
        f"import pickle; data, outputs = pickle.load(open({str(tmp_path / 'data')!r}, 'rb')); task = data.task; "
        "print(task.score(outputs, data.validation.y), task.loss.name, task.loss.function(3, 5), data.fingerprint)"
    )

    def elsewhere() -> str:
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
        return done.stdout + done.stderr

    assert elsewhere() == f"0.25 {place}:absolute 2 {data.fingerprint}\n"
    assert pickle.loads(pickle.dumps(data)).task == data.task
    measures.write_text(MEASURES.replace("def mean(", "def average(").replace("Metric(mean", "Metric(average"))
    assert f"PluginError: function {place}:mean: the file has no mean" in elsewhere()
    measures.unlink()
    assert f"there is no file {place}" in elsewhere()


def test_a_loss_of_a_task_of_others_is_never_taken_for_the_usual_one(measures: Path) -> None:
    task = made(f"{measures}:COLUMNS").task
    assert (task.metric, task.loss.name, task.has_usual_loss) == ("mean", "mean_absolute_error", False)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("FAILS", r"task .*:FAILS: labels\(\) fails: ZeroDivisionError: division by zero \(measures.py:\d+\)"),
        ("SHORT", r"task .*:SHORT: labels\(\) gives an array of shape \(59,\): give an array with 60 labels"),
        ("CROOKED", r"task .*:CROOKED: measured\(\) gives an array of shape \(9, 1\): give outputs and labels, two arrays"),
        ("MEAN", r"task .*:MEAN: it is of type Metric, and not a kerasnac.TaskKind"),
        ("columns", r"task .*:columns: it is of type function, and not a kerasnac.TaskKind"),
    ],
)
def test_tasks_that_do_not_work(measures: Path, name: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        made(f"{measures}:{name}").development.check(Training())


def test_metrics_losses_and_tasks_of_ours_keep_their_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for group, name in (("metrics", "auc"), ("losses", "huber"), ("tasks", "anomaly")):
        add_package(tmp_path / group, f"others_{group}", f"kerasnac.{group}", f"{name} = measures:MEAN")
        monkeypatch.syspath_prepend(tmp_path / group)
    for find, name in ((metric, "auc:0"), (loss, {"name": "huber", "delta": 2}), (task_kind, "anomaly")):
        with pytest.raises(PluginError, match=r"kerasnac and others.* have one of this name"):
            find(name)  # type: ignore[operator]
