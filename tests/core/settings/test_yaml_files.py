"""YAML: what is read, and where the messages point."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from kerasnac.core.network.trained import Trained
from kerasnac.core.network.training import Training
from kerasnac.core.settings import CompressSettings, DatasetSettings, HalvingSettings, RunSettings, SearchSettings
from kerasnac.core.settings.yaml_files import dump, load_run, load_space, names
from kerasnac.core.space.baselines import braggnn
from kerasnac.core.space.blocks import Block, Choose, Conv, Mlp, Nothing
from kerasnac.core.space.blocks.base import Kernel
from kerasnac.core.space.references import Reference
from kerasnac.core.space.search_space import SearchSpace
from kerasnac.errors import ConfigError

RUN = """\
name: toy
space:
  input: [8, 8, 1]
  outputs: 2
  blocks:
    - block: choose
      options:
        - block: none
        - block: conv
          channels: [2, 4]
    - block: mlp
      widths: [[8, 16], 4]
  training:
    learning_rate: [1e-3, 1E-2]
dataset:
  source: bragg_peaks
  samples: 100
search:
  population: 4
  budgets: {bops: 1e6}
  training:
    epochs: 2
    batch_size: 64
tune:
  select: [knee]
profiles:
  quick:
    search:
      evaluations: 4
      training: {epochs: 1}
    dataset:
      samples: 10
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "toy.yaml"
    path.write_text(RUN)
    return path


def change(file: Path, old: str, new: str) -> Path:
    assert old in RUN
    file.write_text(RUN.replace(old, new, 1))
    return file


def line_of(text: str, file: Path) -> int:
    return file.read_text().split("\n").index(next(line for line in file.read_text().split("\n") if text in line)) + 1


def test_a_run_file_is_read(file: Path) -> None:
    run = load_run(file)
    assert run.space == SearchSpace(
        input=(8, 8, 1),
        outputs=2,
        blocks=(Choose(options=(Nothing(), Conv(channels=(2, 4)))), Mlp(widths=((8, 16), 4))),
        training={"learning_rate": [0.001, 0.01]},
    )
    assert (run.dataset.source, run.dataset.options) == ("bragg_peaks", {"samples": 100})
    assert run.search == SearchSettings(population=4, budgets={"bops": 1e6}, training=Training(epochs=2, batch_size=64))
    assert run.compress == CompressSettings()


@pytest.mark.parametrize("text", ["1e-3", "1E-3", "1.e-3", "1.0e-3", "1e-03", "0.001", "+1e-3"])
def test_numbers_with_exponents_are_numbers(file: Path, text: str) -> None:
    assert load_run(change(file, "1e-3", text)).space.training["learning_rate"] == (0.001, 0.01)


def test_whole_numbers_stay_whole(file: Path) -> None:
    options = load_run(change(file, "samples: 100", "samples: 100\n  fraction: 2e-1\n  label: 1e5x")).dataset.options
    assert options == {"samples": 100, "fraction": 0.2, "label": "1e5x"}
    assert isinstance(options["samples"], int)


#: What is replaced, by what, in which line the message points, and what it says.
MISTAKES = {
    "unknown key": ("population: 4", "populaton: 4", "populaton", "search.populaton: unknown key"),
    "unknown key of the file": ("tune:", "tunes:", "tunes:", "tunes: unknown key"),
    "unknown key of a block": (
        "widths: [[8, 16], 4]",
        "widths: [[8, 16], 4]\n      deep: 2",
        "deep",
        "space.blocks.1.deep: unknown key",
    ),
    "unknown key of the training": ("batch_size: 64", "batchsize: 64", "batchsize", "search.training.batchsize: unknown key"),
    "missing key": ("  outputs: 2\n", "", "space:", "space.outputs: required key is missing"),
    "missing key of the file": ("  source: bragg_peaks\n", "", "dataset:", "dataset.source: required key is missing"),
    "missing key of a block": (
        "widths: [[8, 16], 4]",
        "norm: batch",
        "- block: mlp",
        "space.blocks.1.widths: required key is missing",
    ),
    "wrong value": (
        "population: 4",
        "population: 1",
        "population",
        "search.population: Input should be greater than or equal to 2 (got 1)",
    ),
    "wrong type": (
        "batch_size: 64",
        "batch_size: many",
        "batch_size",
        "search.training.batch_size: Input should be a valid integer",
    ),
    "out of range": (
        "epochs: 2",
        "epochs: 0",
        "epochs: 0",
        "search.training.epochs: Input should be greater than 0 (got 0)",
    ),
    "infinite": (
        "batch_size: 64",
        "learning_rate: .inf",
        "learning_rate: .inf",
        "search.training.learning_rate: Input should be a finite number (got inf)",
    ),
    "no such hyperparameter": (
        "batch_size: 64",
        "batches: 64",
        "batches: 64",
        "search.training.batches: unknown key",
    ),
    "no such optimizer": (
        "batch_size: 64",
        "optimizer: adamw",
        "optimizer",
        "search.training.optimizer: Input should be 'adam', 'sgd', 'rmsprop' or 'nadam' (got 'adamw')",
    ),
    "wrong value in a list": (
        "[[8, 16], 4]",
        "[[8, -16], 4]",
        "-16",
        "space.blocks.1.widths.0.1: Input should be greater than 0 (got -16)",
    ),
    "empty list": ("[[8, 16], 4]", "[[], 4]", "[[]", "space.blocks.1.widths.0: an empty list leaves nothing to choose from"),
    "value twice": ("[[8, 16], 4]", "[[8, 8], 4]", "[[8, 8]", "space.blocks.1.widths.0: a value stands twice in [8, 8]"),
    "unknown block": ("block: mlp", "block: mpl", "mpl", "space.blocks.1: unknown block 'mpl': one of mlp, conv, attention"),
    "no block": ("block: mlp", "blok: mlp", "blok", "space.blocks.1: a block is a mapping with the key block"),
    "unknown nested block": ("block: conv", "block: conf", "conf", "space.blocks.0.options.1: unknown block 'conf'"),
    "wrong value in a nested block": (
        "channels: [2, 4]",
        "channels: [2, 0]",
        "channels",
        "space.blocks.0.options.1.channels.1: Input should be",
    ),
    "repeat in an option": (
        "channels: [2, 4]",
        "channels: 2\n          repeat: 2",
        "- block: choose",
        "space.blocks.0: repeat stands on the choose",
    ),
    "one option": ("        - block: none\n", "", "options", "space.blocks.0.options: Input should have at least 2 entries"),
    "halving that is not briefer": (
        "population: 4",
        "population: 4\n  halving: {epochs: 2}",
        "search:",
        "search: halving: 2 epochs are not fewer than the 2 of the training",
    ),
    "halving in steady mode": (
        "population: 4",
        "population: 4\n  mode: steady\n  halving: {epochs: 1}",
        "search:",
        "search: halving: it compares the candidates of a generation; leave it out, or use mode: generational",
    ),
    "lag of generations": (
        "population: 4",
        "population: 4\n  lag: 8",
        "search:",
        "search: lag: it is for mode: steady; leave it out, or use that mode",
    ),
    "fraction that is none": (
        "population: 4",
        "population: 4\n  halving: {epochs: 1, keep: 1.0}",
        "halving",
        "search.halving.keep: Input should be less than 1 (got 1.0)",
    ),
    "unknown algorithm": (
        "population: 4",
        "population: 4\n  algorithm: greedy",
        "algorithm",
        "search.algorithm: Input should be 'nsga2' or 'random' (got 'greedy')",
    ),
    "no hours": (
        "population: 4",
        "population: 4\n  max_hours: 0",
        "max_hours",
        "search.max_hours: Input should be greater than 0 (got 0)",
    ),
    "no folds": ("population: 4", "population: 4\n  folds: 0", "folds", "search.folds: Input should be greater than 0 (got 0)"),
    "unknown gene": (
        "learning_rate: [1e-3, 1E-2]",
        "epochs: [1, 2]",
        "  training:\n    epochs: [",
        "space.training: 'epochs' cannot be a gene",
    ),
    "wrong gene": ("[1e-3, 1E-2]", "[slow, fast]", "slow", "space.training.learning_rate: Input should be a valid number"),
    "unknown rule": (
        "[knee]",
        "[elbow]",
        "elbow",
        "tune.select.0: unknown selection 'elbow': one of front (all of it), best, knee",
    ),
    "key twice": ("  outputs: 2", "  outputs: 2\n  outputs: 3", "outputs: 3", "outputs stands twice (first in line 4)"),
    "key twice in a flow": ("{bops: 1e6}", "{bops: 1e6, bops: 2}", "bops", "bops stands twice (first in line 20)"),
    "unclosed bracket": ("[8, 8, 1]", "[8, 8, 1", "outputs", "not valid YAML"),
    "tab": ("  outputs: 2", "\toutputs: 2", "outputs", "not valid YAML"),
    "template": ("name: toy", "name: {{name}}", "name", "a key must be a text"),
    "unknown tag": ("name: toy", "name: !!python/object:os.system x", "name", "not valid YAML"),
    "no space": (
        RUN[RUN.index("space:") : RUN.index("dataset:")],
        "space:\n",
        "space",
        "space: Input should be keys and values",
    ),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_messages_name_file_line_and_key(file: Path, mistake: str) -> None:
    old, new, pointed, message = MISTAKES[mistake]
    text = change(file, old, new).read_text()
    line = text[: text.index(pointed)].count("\n") + 1
    with pytest.raises(ConfigError) as error:
        load_run(file)
    assert str(error.value).startswith(
        f"{file}:{line}: {message}" if "YAML" not in message else f"{file}:{line}: not valid YAML: "
    )
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("text", ["", "- 1\n- 2\n", "just text\n", "# nothing\n"])
def test_a_file_without_keys_is_refused(file: Path, text: str) -> None:
    file.write_text(text)
    with pytest.raises(ConfigError, match=r"toy.yaml:1: expected keys and values"):
        load_run(file)


def test_all_mistakes_are_reported_at_once(file: Path) -> None:
    text = RUN.replace("outputs: 2", "outputs: 0").replace("population: 4", "population: x").replace("name: toy", "nam: toy")
    file.write_text(text.replace("  source: bragg_peaks\n", ""))
    with pytest.raises(ConfigError) as error:
        load_run(file)
    lines = str(error.value).split("\n")
    assert len(lines) == 4
    for key in ("space.outputs", "search.population", "dataset.source: required", "nam: unknown"):
        assert sum(f": {key}" in line for line in lines) == 1


def test_profiles_replace_single_values(file: Path) -> None:
    quick, full = load_run(file, profile="quick"), load_run(file)
    assert (quick.search.evaluations, full.search.evaluations) == (4, 100)
    assert quick.search.training == Training(epochs=1, batch_size=64)
    assert quick.search.budgets == full.search.budgets
    assert quick.dataset == DatasetSettings(source="bragg_peaks", samples=10)
    assert quick.space == full.space


#: Profiles, which are to be wrong, and the message.
BAD_PROFILES = {
    "unknown key": ("evaluations: 4", "evaluatons: 4", "evaluatons", "search.evaluatons: unknown key"),
    "wrong value": ("evaluations: 4", "evaluations: 0", "evaluations: 0", "search.evaluations: Input should be greater than 0"),
    "wrong value that is right outside": (
        "evaluations: 4",
        "population: 0",
        "population: 0",
        "search.population: Input should be",
    ),
    "unknown profile": ("quick:", "slow:", "profiles", "no profile 'quick'; it has slow"),
    "empty": (RUN[RUN.index("  quick:\n") :], "  quick:\n", "  quick", "profiles.quick: expected keys and values"),
    "list": (RUN[RUN.index("  quick:\n") :], "  [quick]\n", "profiles", "profiles: expected names and their changes"),
}


@pytest.mark.parametrize("mistake", BAD_PROFILES)
@pytest.mark.parametrize("first", [False, True])
def test_mistakes_in_a_profile_point_into_the_profile(file: Path, mistake: str, *, first: bool) -> None:
    old, new, pointed, message = BAD_PROFILES[mistake]
    text = RUN.replace(old, new, 1)
    head, tail = text[: text.index("profiles:")], text[text.index("profiles:") :]
    file.write_text(tail + head if first else text)
    line = file.read_text()[: file.read_text().index(pointed)].count("\n") + 1
    with pytest.raises(ConfigError) as error:
        load_run(file, profile="quick")
    assert str(error.value).startswith(f"{file}:{line}: {message}")


def test_mistakes_outside_a_profile_point_outside(file: Path) -> None:
    change(file, "population: 4", "population: 1")
    with pytest.raises(ConfigError, match=rf"toy.yaml:{line_of('population', file)}: search.population"):
        load_run(file, profile="quick")


def test_a_file_that_is_missing_names_those_that_come_with_kerasnac() -> None:
    with pytest.raises(ConfigError, match=r"nowhere.yaml: .*jets_mlp"):
        load_run("nowhere.yaml")


@pytest.mark.parametrize("name", names())
def test_the_files_that_come_with_kerasnac_are_valid(name: str) -> None:
    assert load_run(name).space == load_space(name)
    assert load_space(name).size() > 1


def test_a_folder_is_not_a_file(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="Is a directory"):
        load_run(tmp_path)


def test_a_space_is_read_from_a_run_file_or_alone(file: Path, tmp_path: Path) -> None:
    alone = tmp_path / "space.yaml"
    alone.write_text(dump(load_run(file).space))
    assert load_space(file) == load_space(alone) == load_run(file).space


def test_messages_about_a_space_of_a_run_file_name_the_line_of_the_file(file: Path) -> None:
    change(file, "[[8, 16], 4]", "[[8, 0], 4]")
    with pytest.raises(ConfigError, match=rf"toy.yaml:{line_of('widths', file)}: blocks.1.widths.0.1"):
        load_space(file)


def test_messages_about_a_space_alone_name_the_line(tmp_path: Path) -> None:
    path = tmp_path / "space.yaml"
    path.write_text("input: 6\noutputs: 2\nblocks:\n  - {block: mlp, width: 3}\n")
    with pytest.raises(ConfigError) as error:
        load_space(path)
    assert sorted(str(error.value).split("\n")) == [
        f"{path}:4: blocks.0.width: unknown key",
        f"{path}:4: blocks.0.widths: required key is missing",
    ]


SPACES = [
    SearchSpace(
        input=6,
        outputs=3,
        blocks=(Mlp(widths=((4, 8), 2), depth=(1, 2), shared=True, repeat=2),),
        training={"dropout": [0.0, 1e-5]},
    ),
    SearchSpace(
        input=6,
        outputs=3,
        firmware="exact",
        blocks=(Mlp(widths=(4,), weight_bits=(3, 5), sparsity=(0.25, 0.5)),),
        output_layer=Kernel(weight_bits=(3, 4), sparsity=0.5),
    ),
    SearchSpace(
        input=(8, 8, 1), outputs=2, blocks=(Choose(options=(Nothing(), Choose(options=(Conv(channels=2), Mlp(widths=(3,)))))),)
    ),
]


@pytest.mark.parametrize("space", SPACES)
def test_a_space_made_in_python_survives_yaml(space: SearchSpace, tmp_path: Path) -> None:
    path = tmp_path / "space.yaml"
    path.write_text(dump(space))
    assert load_space(path) == space


@pytest.mark.parametrize("profile", [None, "quick"])
def test_run_settings_survive_yaml(file: Path, profile: str | None, tmp_path: Path) -> None:
    run = load_run(file, profile=profile)
    (tmp_path / "again.yaml").write_text(dump(run))
    assert load_run(tmp_path / "again.yaml") == run


def test_seeds_of_a_run_file_are_relative_to_its_folder(file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    network = SearchSpace(input=(8, 8, 1), outputs=2, blocks=(Mlp(widths=(8, 4)),)).decode(()).architecture
    (tmp_path / "seeds").mkdir()
    (tmp_path / "seeds" / "mine.json").write_text(json.dumps(network.to_dict()))
    Trained("best", network, {}, Training(), {}, 0).save(tmp_path / "saved")
    text = f"population: 4\n  seeds: [braggnn, seeds/mine.json, saved, {tmp_path / 'saved' / 'model.json'}]"
    run = load_run(change(file, "population: 4", text), profile="quick")
    assert [seed.name for seed in run.search.seeds] == ["braggnn", "mine", "best", "best"]
    assert [seed.architecture for seed in run.search.seeds] == [braggnn(), network, network, network]


def test_seeds_that_are_nowhere_are_named_with_their_line(file: Path) -> None:
    change(file, "population: 4", "population: 4\n  seeds:\n    - braggnn\n    - bragnn")
    with pytest.raises(ConfigError) as error:
        load_run(file)
    assert str(error.value).startswith(f"{file}:{line_of('- bragnn', file)}: search.seeds.1: ")
    assert f"{file.parent / 'bragnn'} is neither a JSON file nor a baseline: braggnn, nac_bragg" in str(error.value)


def test_seeds_survive_yaml_and_baselines_stay_names(file: Path, tmp_path: Path) -> None:
    network = SearchSpace(input=(8, 8, 1), outputs=2, blocks=(Mlp(widths=(8, 4)),)).decode(()).architecture
    (tmp_path / "mine.json").write_text(json.dumps(network.to_dict()))
    run = load_run(change(file, "population: 4", "population: 4\n  seeds: [nac_bragg, mine.json]"))
    text = dump(run)
    (tmp_path / "mine.json").unlink()  # what is dumped holds the architecture itself
    (tmp_path / "again.yaml").write_text(text)
    assert load_run(tmp_path / "again.yaml") == run
    written = yaml.safe_load(text)["search"]["seeds"]
    assert written == ["nac_bragg", {"name": "mine", "architecture": network.to_dict()}]


def test_an_architecture_that_is_called_as_a_baseline_but_differs_is_written_out(tmp_path: Path) -> None:
    network = SearchSpace(input=(8, 8, 1), outputs=2, blocks=(Mlp(widths=(8, 4)),)).decode(()).architecture
    seed = Reference(name="braggnn", architecture=network)
    run = RunSettings(
        name="made", space=SPACES[1], dataset=DatasetSettings(source="jets"), search=SearchSettings(seeds=(seed,))
    )
    (tmp_path / "made.yaml").write_text(dump(run))
    assert load_run(tmp_path / "made.yaml").search.seeds == (seed,)


settings = st.fixed_dictionaries(
    {},
    optional={
        "population": st.integers(2, 99),
        "algorithm": st.sampled_from(("nsga2", "random")),
        "max_hours": st.none() | st.floats(1e-3, 1e3),
        "stagnation": st.none() | st.integers(1, 9),
        "reference_point": st.dictionaries(st.sampled_from(("bops", "metric")), st.floats(-1e3, 1e9)),
        "folds": st.integers(1, 9),
        "halving": st.none() | st.builds(HalvingSettings, epochs=st.integers(1, 4), keep=st.floats(0.01, 0.99)),
        "seeds": st.lists(st.sampled_from(("braggnn", "hls4ml_jets"))).map(tuple),
        "steady": st.none() | st.integers(1, 99),
        "budgets": st.dictionaries(st.sampled_from(("bops", "parameters")), st.floats(1e-3, 1e9)),
        "training": st.builds(
            Training, learning_rate=st.floats(1e-9, 1), patience=st.none() | st.integers(1, 9), schedule=st.just("cosine")
        ),
    },
)


@given(
    search=settings,
    bits=st.lists(st.tuples(st.integers(2, 16), st.integers(2, 16)), min_size=1),
    seed=st.integers(0, 2**63 - 1),
)
def test_settings_made_in_python_survive_yaml(
    tmp_path_factory: pytest.TempPathFactory, search: dict[str, Any], bits: Any, seed: int
) -> None:
    if (lag := search.pop("steady", 0)) != 0 and not search.get("halving"):
        search |= {"mode": "steady", "lag": lag}
    run = RunSettings(
        name="made",
        space=SPACES[0],
        dataset=DatasetSettings(source="jets"),
        search=SearchSettings(**search),
        compress=CompressSettings(bits=tuple(bits)),
        seed=seed,
    )
    path = tmp_path_factory.mktemp("settings") / "made.yaml"
    path.write_text(dump(run))
    assert load_run(path) == run


def test_blocks_of_every_kind_are_read_by_their_tag(tmp_path: Path) -> None:
    blocks: tuple[Block, ...] = (Conv(channels=2), Nothing(), Choose(options=(Nothing(), Conv(channels=1))), Mlp(widths=(4,)))
    path = tmp_path / "space.yaml"
    path.write_text(dump(SearchSpace(input=(8, 8, 1), outputs=1, blocks=blocks)))
    assert [type(block) for block in load_space(path).blocks] == [Conv, Nothing, Choose, Mlp]


#: Content of files that are no run files, and what is said of them.
NO_RUN_FILES: dict[str, tuple[bytes, str]] = {
    "Latin-1": (RUN.replace("toy", "Müller").encode("latin-1"), r":1: not UTF-8"),
    "UTF-16": (RUN.encode("utf-16"), r":1: not UTF-8"),
    "binary": (bytes(range(256)), "not valid YAML|not UTF-8"),
    "nothing": (b"", ":1: expected keys and values"),
    "an anchor in itself": (b"name: &a [*a]\n", ":1: .*an anchor holds itself"),
    "many brackets": (b"name: " + b"[" * 3000 + b"]" * 3000, "nested too deeply"),
    "sixty brackets": (b"name: " + b"[" * 60 + b"]" * 60, "nested more than 50 deep"),
    "aliases of aliases": (
        b"a: &a [x, x, x, x, x, x, x, x, x]\n"
        + b"".join(b"%c: &%c [%s]\n" % (i, i, b", ".join([b"*%c" % (i - 1)] * 9)) for i in range(ord("b"), ord("k"))),
        "with its aliases, the file has over",
    ),
    "too large": (b"# " + b"x" * 2_000_000, "larger than 1 MB"),
    "no such day": (b"name: 2020-13-45\n", ":1: not valid YAML: month must be in"),
    "a number of 5,000 digits": (b"seed: " + b"9" * 5000, ":1: not valid YAML"),
    "a list as a key": (b"? [a]\n: 1\n", ":1: a key must be a text"),
    "endless repeats": (RUN.replace("- block: mlp", "- block: mlp\n      repeat: 1000000").encode(), "repeat: .*equal to 100"),
}


@pytest.mark.parametrize(("content", "message"), NO_RUN_FILES.values(), ids=NO_RUN_FILES)
def test_what_is_no_run_file_is_one_line(file: Path, content: bytes, message: str) -> None:
    file.write_bytes(content)
    with pytest.raises(ConfigError, match=f"^{file}.*({message})") as error:
        load_run(file)
    assert "\n" not in str(error.value)


def test_a_folder_is_no_run_file(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="Is a directory"):
        load_run(tmp_path)


def test_the_name_is_by_default_that_of_the_file(file: Path) -> None:
    assert load_run(change(file, "name: toy\n", "")).name == "toy"
    assert "name: toy" in dump(load_run(file))
