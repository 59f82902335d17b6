"""The floors of the house: who imports whom, and what is not loaded before it is needed."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import kerasnac

ROOT = Path(kerasnac.__path__[0])
HEAVY = (
    "tensorflow",
    "keras",
    "tf_keras",
    "qkeras",
    "torch",
    "hls4ml",
    "rule4ml",
    "pymoo",
    "keras_tuner",
    "tensorflow_model_optimization",
    "matplotlib",
)

#: What the modules of each floor may import of kerasnac.
FLOORS = {
    "core": ("core", "errors"),
    "datasets": ("datasets", "core", "errors"),
    "adapters": ("adapters", "core", "errors"),
    "stages": ("stages", "adapters", "datasets", "core", "errors"),
}

#: Public functions that a floor may call upstairs: a constructor belongs to its class, wherever it does its work.
ENTRANCES = ("kerasnac.from_keras", "kerasnac.progress_bar")

#: The rooms of each floor; a room imports those before it, and never one after it.
ROOMS = {
    "core": (
        "checks",
        "display",
        "plugins",
        "store",
        "network",
        "trees",
        "space",
        "data",
        "classical",
        "hardware",
        "search",
        "settings",
    ),
    "adapters": ("programs", "keras", "trees", "search", "hls4ml", "rtl", "rule4ml", "workers"),
    "stages": ("context", "search", "tune", "compress", "firmware", "references", "results", "run"),
}


def modules(floor: str) -> list[str]:
    files = sorted((ROOT / floor).rglob("*.py"))
    return [".".join(("kerasnac", *path.relative_to(ROOT).with_suffix("").parts)).removesuffix(".__init__") for path in files]


def imported(path: Path) -> Iterator[str]:
    """Full names of everything of kerasnac that a file imports, anywhere in it."""
    package = ("kerasnac", *path.relative_to(ROOT).parts[:-1])
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name.split(".")[0] == "kerasnac")
        elif isinstance(node, ast.ImportFrom):
            base = ".".join(package[: len(package) - node.level + 1]) if node.level else ""
            module = ".".join(filter(None, (base, node.module)))
            if module.split(".")[0] == "kerasnac":
                yield from (f"{module}.{alias.name}" for alias in node.names)


def loaded_after(statement: str) -> set[str]:
    """Top-level names in ``sys.modules`` of a new interpreter after a statement."""
    code = f"import sys\n{statement}\nprint(*{{name.split('.')[0] for name in sys.modules}})"
    return set(subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout.split())


@pytest.mark.parametrize("floor", ["core", "datasets"])
def test_a_floor_loads_no_framework(floor: str) -> None:
    loaded = loaded_after("\n".join(f"import {module}" for module in modules(floor)))
    assert "numpy" in loaded
    assert loaded.isdisjoint(HEAVY)


def test_the_search_loads_no_tensorflow_in_the_main_process() -> None:
    loaded = loaded_after("import kerasnac.stages.search.global_search, kerasnac.adapters.workers")
    assert loaded.isdisjoint(("tensorflow", "keras", "tf_keras", "qkeras", "torch", "hls4ml"))


def test_the_package_itself_loads_nothing() -> None:
    assert loaded_after("import kerasnac").isdisjoint((*HEAVY, "numpy", "pydantic", "yaml", "pandas", "scipy"))


@pytest.mark.parametrize(
    "path", [p for floor in FLOORS for p in sorted((ROOT / floor).rglob("*.py"))], ids=lambda p: str(p.relative_to(ROOT))
)
def test_floors_import_only_what_is_below(path: Path) -> None:
    allowed = tuple(f"kerasnac.{below}." for below in FLOORS[path.relative_to(ROOT).parts[0]])
    above = [name for name in imported(path) if not f"{name}.".startswith(allowed) and name not in ENTRANCES]
    assert not above


@pytest.mark.parametrize(
    "path",
    [p for floor in ROOMS for p in sorted((ROOT / floor).rglob("*.py")) if p.parent != ROOT / floor or p.stem != "__init__"],
    ids=lambda p: str(p.relative_to(ROOT)),
)
def test_rooms_import_only_rooms_before_them(path: Path) -> None:
    floor, room = path.relative_to(ROOT).with_suffix("").parts[:2]
    rooms = ROOMS[floor]
    own = [name.split(".")[2] for name in imported(path) if name.startswith(f"kerasnac.{floor}.")]
    assert set(own) <= set(rooms[: rooms.index(room) + 1])


def test_public_names_exist() -> None:
    assert loaded_after("import kerasnac\n[getattr(kerasnac, name) for name in kerasnac.__all__]") >= {"kerasnac", "numpy"}
