"""Compiled once, found again, never mistaken for another; stopped when it takes too much."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from kerasnac.adapters.hls4ml import compile_cache, csim
from kerasnac.adapters.hls4ml.compiler import require_compiler
from kerasnac.adapters.hls4ml.csim import compile_project, emulate
from kerasnac.adapters.programs import Limits
from kerasnac.errors import ConversionError, EnvironmentProblem

SCRIPT = """set -e
echo said
${CXX:-g++} -shared -fPIC firmware/f.cpp -o firmware/f.so
"""


def project(folder: Path, body: str) -> Path:
    """A project whose firmware is some lines of C++."""
    (folder / "firmware").mkdir(parents=True)
    (folder / "firmware" / "f.cpp").write_text(
        f'#include <cstdlib>\n#include <vector>\nextern "C" void f(float *x, float *y) {{ {body} }}\n'
    )
    (folder / "build_lib.sh").write_text(SCRIPT)
    interface = {"inputs": 2, "outputs": 1, "function": "f", "library": "firmware/f.so"}
    (folder / csim.INTERFACE).write_text(json.dumps(interface))
    return folder


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("KERASNAC_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "emulation"


X = np.array([[3, 1], [1, 3]], np.float32)


def test_the_same_sources_are_compiled_once(cache: Path, tmp_path: Path) -> None:
    first, second, other = (
        project(tmp_path / name, f"y[0] = x[0] {sign} x[1];") for name, sign in (("a", "-"), ("b", "-"), ("c", "+"))
    )
    assert [compile_project(folder) for folder in (first, second, other, first)] == [True, False, True, False]
    assert [emulate(folder, X).tolist() for folder in (second, other)] == [[[2], [-2]], [[4], [4]]]
    assert len(list(cache.glob("*.so"))) == 2
    assert (second / "compile.log").read_text() == (first / "compile.log").read_text() == "said\n"


def test_a_library_of_other_sources_does_not_stay(cache: Path, tmp_path: Path) -> None:
    folder = project(tmp_path / "a", "y[0] = x[0];")
    compile_project(folder)
    (folder / "firmware" / "f.cpp").write_text("not C++")
    with pytest.raises(ConversionError, match="does not compile"):
        compile_project(folder)
    assert not (folder / "firmware" / "f.so").exists()


@pytest.mark.parametrize("damage", [b"", b"no library"])
def test_a_damaged_entry_is_not_used(cache: Path, tmp_path: Path, damage: bytes) -> None:
    compile_project(project(tmp_path / "a", "y[0] = x[0];"))
    (entry,) = cache.glob("*.so")
    entry.write_bytes(damage)
    second = project(tmp_path / "b", "y[0] = x[0];")
    assert compile_project(second) is True
    assert emulate(second, X).tolist() == [[3], [1]]
    assert compile_project(project(tmp_path / "c", "y[0] = x[0];")) is False


def test_another_compiler_makes_another_entry(cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert compile_project(project(tmp_path / "a", "y[0] = x[0];"))
    monkeypatch.setenv("CXX", "g++ -O1")
    assert compile_project(project(tmp_path / "b", "y[0] = x[0];"))


def test_writers_at_the_same_time_leave_whole_entries(cache: Path, tmp_path: Path) -> None:
    folders = [project(tmp_path / str(i), "y[0] = x[0];") for i in range(4)]
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(compile_project, folders))
    assert all(emulate(folder, X).tolist() == [[3], [1]] for folder in folders)
    assert not list(cache.glob(".*"))


def test_old_entries_go(cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compile_cache, "ENTRIES", 1)
    for i in range(2):
        compile_project(project(tmp_path / str(i), f"y[0] = {i};"))
    assert len(list(cache.glob("*.so"))) == 1
    assert compile_project(project(tmp_path / "again", "y[0] = 1;")) is False


def test_a_cache_that_cannot_be_written_is_a_warning(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("KERASNAC_CACHE", str(tmp_path / "file"))
    folder = project(tmp_path / "a", "y[0] = x[0];")
    with pytest.warns(UserWarning, match="KERASNAC_CACHE"):
        assert compile_project(folder)
    assert emulate(folder, X).tolist() == [[3], [1]]


def test_the_emulation_has_a_limit_of_memory(cache: Path, tmp_path: Path) -> None:
    folder = project(tmp_path / "a", "std::vector<char> v(6ull << 30, 1); y[0] = v[x[0]];")
    compile_project(folder)
    with pytest.raises(ConversionError, match=r"SIGABRT in 4 GiB .*bad_alloc"):
        emulate(folder, X, limits=Limits(memory=4))


def test_the_compiler_has_a_limit_of_memory(cache: Path, tmp_path: Path) -> None:
    folder = project(tmp_path / "a", "y[0] = x[0];")
    with pytest.raises(ConversionError, match="does not compile"):
        compile_project(folder, limits=Limits(memory=0.02))


@pytest.mark.parametrize("text", ["", "[]", "{", '{"inputs": 2}'])
def test_a_damaged_interface_is_an_error(cache: Path, tmp_path: Path, text: str) -> None:
    folder = project(tmp_path / "a", "y[0] = x[0];")
    (folder / csim.INTERFACE).write_text(text)
    with pytest.raises(ConversionError, match=r"emulation\.json"):
        compile_project(folder)


def test_a_library_outside_the_project_is_not_touched(cache: Path, tmp_path: Path) -> None:
    folder = project(tmp_path / "a", "y[0] = x[0];")
    other = tmp_path / "other.so"
    other.write_text("mine")
    data = json.loads((folder / csim.INTERFACE).read_text())
    (folder / csim.INTERFACE).write_text(json.dumps(data | {"library": "../other.so"}))
    with pytest.raises(ConversionError, match=r"\.\./other\.so"):
        compile_project(folder)
    assert other.read_text() == "mine"


@pytest.mark.parametrize("command", ["nonexistent -O1", "g++ 'x"])
def test_a_compiler_that_is_none_is_named(command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CXX", command)
    with pytest.raises(EnvironmentProblem, match=command.split()[0].replace("+", r"\+")):
        compile_project(project(tmp_path / "a", "y[0] = x[0];"))


def test_an_empty_name_of_a_compiler_is_none(cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CXX", " ")
    assert require_compiler() == ["g++"]


def test_the_compiler_has_a_limit_of_time(cache: Path, tmp_path: Path) -> None:
    folder = project(tmp_path / "a", "y[0] = x[0];")
    (folder / "build_lib.sh").write_text("echo warning: something else\nsleep 9\n")
    with pytest.raises(ConversionError, match=r"compiler .* 0\.2 s"):
        compile_project(folder, limits=Limits(seconds=0.2))


def test_a_damaged_entry_that_cannot_be_removed_is_not_used(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    compile_project(project(tmp_path / "a", "y[0] = x[0];"))
    (entry,) = cache.glob("*.so")
    entry.write_bytes(b"no library")

    def forbidden(path: Path, missing_ok: bool = False) -> None:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "unlink", forbidden)
    assert not compile_cache.fetch(entry.stem.split("-")[0], tmp_path / "target.so", tmp_path / "compile.log")
    assert not (tmp_path / "target.so").exists()


def test_one_line_of_an_emulation_that_fails_is_quoted(cache: Path, tmp_path: Path) -> None:
    folder = project(tmp_path / "a", "y[0] = x[0];")
    compile_project(folder)
    with pytest.raises(ConversionError, match="exit code 1: ValueError: 3 input values"):
        emulate(folder, np.zeros((2, 3), np.float32))
