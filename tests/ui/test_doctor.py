"""The doctor on machines that lack something."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections import namedtuple
from importlib import metadata
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from kerasnac.ui import doctor
from kerasnac.ui.doctor import Row

Usage = namedtuple("Usage", "total used free")


def script(path: Path, *lines: str) -> Path:
    path.write_text("\n".join(["#!/bin/sh", *lines, ""]))
    path.chmod(0o755)
    return path


def test_here_everything_is_there(tmp_path: Path) -> None:
    done = subprocess.run([sys.executable, "-m", "kerasnac", "doctor"], capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    found = {line[9:].split(":")[0]: line[:9].strip() for line in done.stdout.splitlines() if ": " in line}
    for what in ("Python", "TensorFlow", "QKeras", "hls4ml", "C++ compiler", "this folder", "temporary files"):
        assert found[what] == "ok"
    assert "rule4ml" in found
    assert done.stdout.splitlines()[-1] == "Everything that kerasnac needs is here."
    assert done.stdout.isascii()  # No frames and no colours in a pipe.


class TestPython:
    def test_old(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(sys, "version_info", (3, 10, 13))
        row = doctor.python()
        assert (row.state, row.found) == ("missing", "3.10.13")
        assert "3.11" in row.remedy

    def test_new(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(sys, "version_info", (3, 14, 0))
        assert doctor.python().state == "missing"


class TestPackages:
    @pytest.fixture(autouse=True)
    def distributions(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> dict[str, str]:
        versions = {"numpy": "2.4.6", "tf-keras": "2.21.0"}

        def version(name: str) -> str:
            if name not in versions:
                raise metadata.PackageNotFoundError(name)
            return versions[name]

        wanted = ["numpy>=2.0", "tf-keras<2.22,>=2.19", 'rule4ml==0.2.*; extra == "rule4ml"']
        monkeypatch.setattr(metadata, "version", version)
        monkeypatch.setattr(metadata, "requires", lambda name: wanted)
        (tmp_path / "constraints.txt").write_text("# Tested.\nnumpy==2.4.6\ntf_keras==2.21.0\n")
        monkeypatch.setattr(doctor, "CONSTRAINTS", tmp_path / "constraints.txt")
        return versions

    def test_as_required(self) -> None:
        assert [*doctor.packages()] == [Row("packages", "ok", "numpy 2.4.6, tf-keras 2.21.0")]

    def test_missing(self, distributions: dict[str, str]) -> None:
        del distributions["numpy"]
        row, _ = doctor.packages()
        assert (row.what, row.state, row.found) == ("numpy", "missing", "not installed")
        assert "pip install" in row.remedy

    def test_too_old(self, distributions: dict[str, str]) -> None:
        distributions["numpy"] = "1.26.4"
        row, _ = doctor.packages()
        assert (row.state, row.found) == ("missing", "1.26.4, but kerasnac needs >=2.0")

    def test_untested(self, distributions: dict[str, str]) -> None:
        distributions["tf-keras"] = "2.20.1"
        row, _ = doctor.packages()
        assert (row.what, row.state, row.found) == ("tf-keras", "warning", "2.20.1; tested with 2.21.0")

    def test_a_local_build_is_the_tested_version(self, distributions: dict[str, str]) -> None:
        distributions["numpy"] = "2.4.6+cpu"
        assert [row.state for row in doctor.packages()] == ["ok"]

    def test_without_constraints(self, distributions: dict[str, str], tmp_path: Path) -> None:
        (tmp_path / "constraints.txt").unlink()
        distributions["tf-keras"] = "2.20.1"
        assert [row.state for row in doctor.packages()] == ["ok"]

    def test_kerasnac_is_not_installed(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def requires(name: str) -> list[str]:
            raise metadata.PackageNotFoundError(name)

        monkeypatch.setattr(metadata, "requires", requires)
        (row,) = doctor.packages()
        assert row.state == "warning"

    def test_hgq2_hides_qkeras(self, distributions: dict[str, str]) -> None:
        distributions["HGQ2"] = "0.3.0"
        row, _ = doctor.packages()
        assert (row.what, row.state) == ("HGQ2", "warning")
        assert "qkeras" in row.found


class TestFrameworks:
    def test_what_comes_after_the_first_failure_is_missing_too(self) -> None:
        rows = [*doctor.frameworks({"TensorFlow": "2.21.0", "error": "ImportError: no qkeras"})]
        assert [row.state for row in rows] == ["ok", "missing", "missing"]
        assert [row.found for row in rows] == ["2.21.0", "ImportError: no qkeras", "not tried"]

    def test_an_exception_ends_in_its_last_line(self) -> None:
        found = doctor._try_imports({"one": "say('1.0')", "two": "import no_such_package"})
        assert found == {"one": "1.0", "error": "ModuleNotFoundError: No module named 'no_such_package'"}

    def test_a_crash_is_named(self) -> None:
        assert doctor._try_imports({"one": "import os; os.abort()"}) == {"error": "stopped by SIGABRT"}

    def test_a_hang_ends(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(doctor, "PATIENCE", 0.2)
        assert doctor._try_imports({"one": "import time; time.sleep(60)"}) == {"error": "did not finish within 0.2 s"}

    def test_rule4ml_is_optional(self) -> None:
        row = doctor.rule4ml({"error": "ModuleNotFoundError: No module named 'torch'"})
        assert row.state == "warning"
        assert "torch" in row.remedy


class TestCompiler:
    def test_here(self) -> None:
        assert doctor.compiler().state == "ok"

    def test_none(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        monkeypatch.delenv("CXX", raising=False)
        monkeypatch.setenv("PATH", str(tmp_path))
        row = doctor.compiler()
        assert (row.state, row.found) == ("missing", "the C++ compiler 'g++' is not installed")
        assert "apt install g++" in row.remedy

    def test_cxx_is_not_there(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("CXX", "no-such-compiler -O2")
        assert doctor.compiler().found == "the C++ compiler 'no-such-compiler -O2' is not installed"

    def test_cxx_with_options(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("CXX", "g++ -O1")
        assert doctor.compiler().state == "ok"

    def test_it_cannot_compile(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        broken = script(tmp_path / "broken", "echo 'fatal error: cstdio: No such file or directory' >&2", "exit 1")
        monkeypatch.setenv("CXX", str(broken))
        row = doctor.compiler()
        assert row.state == "missing"
        assert "cstdio" in row.found

    def test_what_it_compiles_does_not_run(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        monkeypatch.setenv("CXX", str(script(tmp_path / "lazy", "exit 0")))  # Writes no program.
        assert doctor.compiler().state == "missing"

    def test_it_says_no_word(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("CXX", "/bin/false")
        row = doctor.compiler()
        assert row.found == "/bin/false compiles no firmware, it failed with exit code 1 (it said nothing)"
        assert row.remedy == "apt install g++, or set CXX to another compiler"

    def test_its_numbers_are_wrong(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        compiler = script(tmp_path / "wrong", 'for last; do :; done; printf "#!/bin/sh\necho 42" > "$last"; chmod +x "$last"')
        monkeypatch.setenv("CXX", str(compiler))
        row = doctor.compiler()
        assert (row.state, "wrong result (42" in row.found) == ("missing", True)


def test_missing_extras_say_what_they_would_give(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(doctor, "_version", lambda name: "1.0" if name == "da4ml" else None)
    monkeypatch.setenv("PATH", str(tmp_path))
    rows = [*doctor.extras(), *doctor.hardware_tools(), doctor.vendor(), doctor.rule4ml({"error": "none"})]
    assert rows[0] == Row("da4ml", "ok", "1.0")
    assert len(rows) == 8
    for row in rows[1:]:
        assert row.state == "warning"
        assert "optional, not there" in row.found
        assert "it would give " in row.found
        assert row.remedy


class TestHardwareTools:
    def test_missing_ones_are_optional(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        monkeypatch.setenv("PATH", str(tmp_path))
        rows = [*doctor.hardware_tools()]
        assert [(row.what, row.state) for row in rows] == [("verilator", "warning"), ("yosys", "warning")]
        assert [row.remedy for row in rows] == ["apt install verilator", "apt install yosys"]
        assert all("kerasnac rtl" in row.found for row in rows)

    def test_here(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        script(tmp_path / "verilator", "echo Verilator 5.006 2023-01-22")
        script(tmp_path / "yosys", "exit 1")
        monkeypatch.setenv("PATH", f"{tmp_path}:/bin")
        found = [(row.state, row.found) for row in doctor.hardware_tools()]
        assert found == [("ok", "Verilator 5.006 2023-01-22"), ("warning", "optional, does not run: no message")]


class TestMachine:
    def test_full_disk(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(shutil, "disk_usage", lambda folder: Usage(10e9, 9e9, 1e9))
        assert [row.state for row in doctor.disk()] == ["missing", "missing"]
        assert all("2 GB" in row.remedy for row in doctor.disk())

    def test_a_folder_that_cannot_be_written(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(Path, "cwd", lambda: Path("/proc"))  # Root may write everywhere else.
        first, second = doctor.disk()
        assert (first.state, second.state) == ("missing", "ok")
        assert "cannot write to /proc" in first.found

    def test_little_memory(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(doctor, "_free_memory", lambda: 2.5e9)
        monkeypatch.setattr(os, "cpu_count", lambda: 8)
        row = doctor.memory()
        assert row.state == "warning"
        assert "--workers 2" in row.remedy


class TestCheck:
    @pytest.mark.parametrize(("states", "code"), [(["ok", "warning"], 0), (["ok", "missing"], 2)])
    def test_exit_code(self, monkeypatch: pytest.MonkeyPatch, states: list[Any], code: int) -> None:
        monkeypatch.setattr(doctor, "rows", lambda: [Row("this", state, "found [it]", "do that") for state in states])
        console = Console(file=StringIO(), force_terminal=True, width=120)
        with console.capture() as text:
            assert doctor.check(console) == code
        assert "found [it]" in text.get()
        assert "do that" in text.get()
