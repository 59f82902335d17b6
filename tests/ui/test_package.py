"""What is in the package that pip installs."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tarfile
import zipfile
from importlib import resources
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
NEEDED = ("kerasnac", "searchspaces", "LICENSE", "NOTICE", "README.md", "pyproject.toml", "setup.cfg")


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[str]]:
    """Names of the files in a wheel and in a source distribution."""
    source, target = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("dist")
    for name in NEEDED:  # A copy, since setuptools leaves folders behind where it builds.
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(ROOT / name, source / name)
    code = f"from setuptools import build_meta as b; b.build_sdist({str(target)!r}); b.build_wheel({str(target)!r})"
    done = subprocess.run([sys.executable, "-c", code], cwd=source, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    with zipfile.ZipFile(next(target.glob("*.whl"))) as wheel, tarfile.open(next(target.glob("*.tar.gz"))) as sdist:
        return {"wheel": wheel.namelist(), "sdist": [name.split("/", 1)[-1] for name in sdist.getnames()]}


def test_the_wheel_holds_every_module(built: dict[str, list[str]]) -> None:
    modules = {str(path.relative_to(ROOT)) for path in (ROOT / "kerasnac").rglob("*.py")}
    assert modules <= set(built["wheel"])
    assert {"kerasnac/py.typed", "kerasnac/stages/results/published.yaml"} <= set(built["wheel"])
    templates = {str(path.relative_to(ROOT)) for path in (ROOT / "kerasnac" / "ui" / "report" / "templates").iterdir()}
    assert templates
    assert templates <= set(built["wheel"])


def test_run_files_come_along(built: dict[str, list[str]]) -> None:
    for path in (ROOT / "searchspaces").glob("*.yaml"):
        assert f"kerasnac/searchspaces/{path.name}" in built["wheel"]
        assert f"searchspaces/{path.name}" in built["sdist"]


def test_licences_come_along(built: dict[str, list[str]]) -> None:
    for name in ("LICENSE", "NOTICE"):
        assert name in built["sdist"]
        assert any(path.endswith(f".dist-info/licenses/{name}") for path in built["wheel"])


def test_run_files_are_resources_where_kerasnac_is_installed() -> None:
    folder = pytest.importorskip("kerasnac.searchspaces", reason="a checkout that is not installed")
    assert resources.files(folder).joinpath("bragg_exact.yaml").is_file()
