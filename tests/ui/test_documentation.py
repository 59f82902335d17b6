"""README and pages under ``docs`` say what is so."""

from __future__ import annotations

import inspect
import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from kerasnac import SearchSpace, baselines
from kerasnac.adapters.hls4ml.backends import BACKENDS
from kerasnac.adapters.keras.losses import try_loss
from kerasnac.core.data.dataset import Task
from kerasnac.core.hardware.boards import BOARDS
from kerasnac.core.hardware.estimators import SOURCES
from kerasnac.core.network.activations import ACTIVATIONS
from kerasnac.core.search.objectives import resolve
from kerasnac.core.settings import (
    TUNED,
    BoostedTreesSettings,
    CompressSettings,
    FirmwareSettings,
    ReferenceSettings,
    SearchSettings,
    TuneSettings,
)
from kerasnac.core.settings.references import CLASSICAL
from kerasnac.core.settings.yaml_files import load_run, load_space
from kerasnac.core.space.blocks import BLOCKS
from kerasnac.datasets import DATASETS, load
from kerasnac.stages.search.global_search import check_search

ROOT = Path(__file__).parents[2]
PAGES = {path: path.read_text(encoding="utf-8") for path in (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")))}
README = PAGES[ROOT / "README.md"]
TEXT = "\n".join(PAGES.values())

#: Settings of the compression that the docstring alone explains.
UNSAID = ("learning_rate", "adder_graph")


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", TEXT, re.DOTALL | re.MULTILINE)


@pytest.mark.parametrize("text", [text for text in blocks("yaml") if text.startswith("space:") and "dataset:" not in text])
def test_the_spaces_can_be_loaded(text: str, tmp_path: Path) -> None:
    (tmp_path / "space.yaml").write_text(text)
    assert load_space(tmp_path / "space.yaml").genes


@pytest.mark.parametrize("text", [text for text in blocks("yaml") if text.startswith("search:")])
def test_the_settings_of_the_search_are_settings(text: str, tmp_path: Path) -> None:
    (tmp_path / "mine.json").write_text(json.dumps(baselines.get("hls4ml_jets").to_dict()))
    settings = SearchSettings.model_validate(yaml.safe_load(text)["search"], context={"folder": tmp_path})
    assert [seed.name for seed in settings.seeds] in (["hls4ml_jets", "mine"], [])
    resolve(settings.objectives, settings.budgets, Task("classification", 5))


@pytest.mark.parametrize("text", [text for text in blocks("yaml") if text.startswith("compress:")])
def test_the_settings_of_the_compression_are_settings(text: str) -> None:
    settings = CompressSettings.model_validate(yaml.safe_load(text)["compress"])
    assert settings.adder_graphs
    assert all(f"`{name}" in TEXT or f"  {name}:" in TEXT for name in CompressSettings.model_fields if name not in UNSAID)


def test_the_settings_of_the_tuning_are_settings(tmp_path: Path) -> None:
    (text,) = (text for text in blocks("yaml") if text.startswith("tune:"))
    (tmp_path / "mine.json").write_text(json.dumps(baselines.get("deep_sets_tiny").to_dict()))
    settings = TuneSettings.model_validate(yaml.safe_load(text)["tune"], context={"folder": tmp_path})
    assert [baseline.name for baseline in settings.baselines] == ["hls4ml_jets", "mine"]
    assert {*settings.searched, *settings.fixed} == set(TUNED)
    assert settings.model_fields_set == set(TuneSettings.model_fields), "every key is shown"


def test_the_settings_of_the_firmware_are_settings() -> None:
    (text,) = (text for text in blocks("yaml") if text.startswith("firmware:"))
    settings = FirmwareSettings.model_validate(yaml.safe_load(text)["firmware"])
    assert settings.model_fields_set == set(FirmwareSettings.model_fields), "every key is shown"
    assert all(f"`{backend}`" in TEXT for backend in BACKENDS)


def test_the_references_have_their_defaults() -> None:
    every = [yaml.safe_load(text)["references"] for text in blocks("yaml") if text.startswith("references:")]
    short, long = (given for given in every if "boosted_trees" in given)
    assert {name for given in every for name in ReferenceSettings.model_validate(given).classical} == set(CLASSICAL)
    settings = ReferenceSettings.model_validate(long).boosted_trees
    assert settings is not None
    assert settings.model_fields_set == set(BoostedTreesSettings.model_fields), "every key is shown"
    assert ReferenceSettings.model_validate(short).boosted_trees == settings == BoostedTreesSettings()


def test_boards_and_metrics_are_explained() -> None:
    assert all(f"`{name}`" in TEXT for name in BOARDS)
    metrics = {metric.removesuffix("_percent") for recorded in SOURCES.values() for metric in recorded} - {"adder", "average"}
    assert all(f"`{metric}`" in TEXT for metric in metrics)


@pytest.mark.parametrize("text", blocks("python"))
def test_python_is_python(text: str) -> None:
    compile(text, "a page", "exec")


def test_the_parts_of_your_own_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, keras: object) -> None:
    marks = ("blocks.Block", "def hits", "kn.Metric(margin", "CostModel)")
    parts = [text for text in blocks("python") if any(mark in text for mark in marks)]
    (tmp_path / "my_parts.py").write_text("\n".join(parts))
    (text,) = (text for text in blocks("yaml") if "my_parts" in text)
    (tmp_path / "run.yaml").write_text(text)
    settings = load_run(tmp_path / "run.yaml")
    data = load(settings.dataset.source, **settings.dataset.options)
    assert data.task.senses == {"accuracy": "max", "margin": "max"}
    check_search(settings.space, data.development, settings.search)
    try_loss(data.task, data.development.train)
    monkeypatch.syspath_prepend(tmp_path)
    contracts: dict[str, Any] = {"__name__": "contracts"}
    exec(next(text for text in blocks("python") if "kerasnac.testing" in text), contracts)
    for name in ("TestTwins", "TestHits", "TestMargin", "TestEnergy"):
        contract = contracts[name]()
        for test in (getattr(contract, test) for test in dir(contract) if test.startswith("test_") and "exact" not in test):
            test(**{"tmp_path": tmp_path} if "tmp_path" in inspect.signature(test).parameters else {})
    (space,) = re.findall(r"`kn\.(SearchSpace\(.*?\))`", TEXT, re.DOTALL)
    made = eval(space, contracts | {"SearchSpace": SearchSpace})
    assert str(made.decode((1,)).architecture) == "dense-32 relu dense-32 relu dense-5"


def headings(text: str) -> set[str]:
    return {title.lower().replace(" ", "-").replace(",", "") for title in re.findall(r"^#+ (.*)$", text, re.MULTILINE)}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)]+)\)", PAGES[page]):
        name, _, heading = target.partition("#")
        found = (page.parent / name).resolve() if name else page
        assert found.exists(), target
        assert not heading or heading in headings(PAGES[found]), target


def test_the_readme_names_all_pages() -> None:
    assert all(f"](docs/{page.name})" in README for page in PAGES if page.parent.name == "docs")


def test_make_targets_exist() -> None:
    targets = set(re.findall(r"^(\w+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    assert {"demo", "test"} <= {*re.findall(r"^make (\w+)", README, re.MULTILINE)}
    assert set(re.findall(r"[`^]make (\w+)", README)) <= targets


@pytest.mark.parametrize("name", [*BLOCKS, *ACTIVATIONS, *DATASETS])
def test_every_name_of_a_file_is_explained(name: str) -> None:
    assert f"`{name}`" in TEXT
