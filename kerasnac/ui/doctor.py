"""Check of a machine: versions, compiler, frameworks, disk and memory, with a remedy for everything that is missing."""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Literal

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version
from rich.console import Console
from rich.table import Table
from rich.text import Text

from kerasnac.adapters.hls4ml.compiler import REMEDY, check_compiler, require_compiler
from kerasnac.adapters.programs import Answer, ask, ending
from kerasnac.errors import EnvironmentProblem

GIGABYTE = 1e9

#: Free disk space for a run and for the firmware's compilation, bytes.
DISK = 2 * GIGABYTE

#: Memory of one worker process with TensorFlow, bytes.
MEMORY_PER_WORKER = 1 * GIGABYTE

#: Seconds that an import may take on a cold, slow disk.
PATIENCE = 300.0

INSTALL = 'in the checkout of kerasnac: pip install ".[all]" -c constraints.txt'

#: The tested versions, in a checkout.
CONSTRAINTS = Path(__file__).parents[2] / "constraints.txt"

#: Imported, and used a little, in another process, so that a crash there is a row of the table.
_FRAMEWORKS = {
    "TensorFlow": """
from kerasnac.adapters.keras.runtime import legacy_keras, qkeras, tensorflow
tf = tensorflow()
tf.keras.Sequential([tf.keras.layers.Dense(1)])(tf.ones((1, 2)))
import tf_keras
say(f"{tf.__version__} with tf_keras {tf_keras.__version__}")""",
    "QKeras": """
assert float(qkeras().quantized_bits(4, 1, alpha=1)(tf.constant(0.3))) == 0.25, "quantized_bits rounds wrongly"
say(qkeras().__version__)""",
    "hls4ml": """
with legacy_keras():
    import hls4ml
say(hls4ml.__version__)""",
}
_RULE4ML = {
    "rule4ml": """
from kerasnac.adapters.keras.runtime import legacy_keras
with legacy_keras():
    import rule4ml, torch
from importlib.metadata import version
say(f"{version('rule4ml')} with torch {torch.__version__}")"""
}

#: What optional things would give.
RULE4ML = "estimates of LUT, FF, DSP, BRAM and clock cycles as objectives and in `kerasnac costs`"
EXTRAS = {
    "da4ml": ("adder graphs: LUTs as objectives, in `kerasnac costs` and `kerasnac rtl`, and distributed arithmetic", INSTALL),
    "distributed": ("searches on the workers of a Dask cluster: --scheduler", INSTALL),
    "tensorboard": ("curves of the tuning in TensorBoard: tune: {callbacks: [tensorboard]}", "pip install tensorboard"),
    "pyarrow": ("tables as Parquet: `kerasnac report --tables`", "pip install pyarrow"),
}
TOOLS = {
    "verilator": ("--version", "simulations of Verilog: `kerasnac rtl`, boosted trees"),
    "yosys": ("-V", "counts of LUTs by synthesis: `kerasnac rtl`, boosted trees"),
}

#: Programs of the vendor.
VENDOR = ("vitis-run", "vitis_hls", "vivado_hls")


@dataclass(frozen=True)
class Row:
    """One result of the check.

    Attributes:
        what: Name of the package, program or resource.
        state: ``warning`` for something optional or unusual; only ``missing`` keeps kerasnac from working.
        found: The version or the amount on this machine, or the problem.
        remedy: Advice for the user, such as a command to type.
    """

    what: str
    state: Literal["ok", "warning", "missing"]
    found: str
    remedy: str = ""


def check(console: Console | None = None) -> int:
    """Check everything and print a table.

    Returns:
        The exit code: 0, or 2 if something that kerasnac needs is missing.
    """
    found = list(rows())
    _show(found, console or Console())
    return 2 if any(row.state == "missing" for row in found) else 0


def rows() -> Iterator[Row]:
    """Check everything, one row per result; the slow imports run at the same time."""
    with ThreadPoolExecutor() as pool:
        needed, optional = pool.submit(_try_imports, _FRAMEWORKS), pool.submit(_try_imports, _RULE4ML)
        yield python()
        yield from packages()
        yield from frameworks(needed.result())
        yield compiler()
        yield rule4ml(optional.result())
        yield from extras()
        yield from hardware_tools()
        yield vendor()
        yield from disk()
        yield memory()


def python() -> Row:
    """Check that all packages exist for this version of Python."""
    version = ".".join(map(str, sys.version_info[:3]))
    if (3, 11) <= sys.version_info < (3, 14):
        return Row("Python", "ok", version)
    return Row("Python", "missing", version, "use Python 3.11, 3.12 or 3.13: make clean, then make demo PYTHON=python3.12")


def packages() -> Iterator[Row]:
    """Compare the installed versions with the required ones and, in a checkout, with the tested ones."""
    if (rival := _version("HGQ2")) is not None:
        yield Row("HGQ2", "warning", f"{rival} brings another package named qkeras", "pip uninstall HGQ2; reinstall QKeras")
    try:
        wanted = [Requirement(text) for text in metadata.requires("kerasnac") or ()]
    except metadata.PackageNotFoundError:
        yield Row("packages", "warning", "not checked: kerasnac is not installed, only found on the path", INSTALL)
        return
    tested = _tested()
    good = []
    for requirement in (r for r in wanted if r.marker is None or r.marker.evaluate({"extra": ""})):
        name, version = requirement.name, _version(requirement.name)
        pinned = tested.get(canonicalize_name(name))
        if version is None:
            yield Row(name, "missing", "not installed", INSTALL)
        elif not requirement.specifier.contains(version, prereleases=True):
            yield Row(name, "missing", f"{version}, but kerasnac needs {requirement.specifier}", INSTALL)
        elif pinned is not None and Version(version).public != pinned:
            yield Row(name, "warning", f"{version}; tested with {pinned}", INSTALL)
        else:
            good.append(f"{name} {version}")
    if good:
        yield Row("packages", "ok", ", ".join(good))


def frameworks(found: dict[str, str]) -> Iterator[Row]:
    """Report the imports of TensorFlow with legacy Keras, QKeras and hls4ml; each needs the one before.

    Args:
        found: Result of :func:`_try_imports`.
    """
    for name in _FRAMEWORKS:
        said = found.get(name)
        if said is None:
            yield Row(name, "missing", found.get("error", "not tried"), INSTALL)
            found = {}  # The next ones need it.
        else:
            yield Row(name, "ok", said)


def compiler() -> Row:
    """Check that ``$CXX``, or g++, compiles the fixed-point numbers of the firmware, and that they compute."""
    try:
        command = require_compiler()
        check_compiler()
    except EnvironmentProblem as error:
        found, _, more = str(error).partition(f": {REMEDY}")
        return Row("C++ compiler", "missing", found, f"{REMEDY}{more}")
    return Row("C++ compiler", "ok", _last(_run(*command, "--version").output.partition("\n")[0]))


def rule4ml(found: dict[str, str]) -> Row:
    """Report the import of the optional resource estimator.

    Args:
        found: Result of :func:`_try_imports`.
    """
    if (said := found.get("rule4ml")) is not None:
        return Row("rule4ml", "ok", said)
    return Row(
        "rule4ml",
        "warning",
        f"optional, not there ({found.get('error')}); it would give {RULE4ML}",
        f"the CPU build of torch==2.13.0 first, then {INSTALL}",
    )


def extras() -> Iterator[Row]:
    """Look for the optional packages."""
    for name, (gives, remedy) in EXTRAS.items():
        version = _version(name)
        if version is None:
            yield Row(name, "warning", f"optional, not there; it would give {gives}", remedy)
        else:
            yield Row(name, "ok", version)


def hardware_tools() -> Iterator[Row]:
    """Look for the optional programs that simulate and synthesise Verilog."""
    for name, (option, gives) in TOOLS.items():
        if shutil.which(name) is None:
            yield Row(name, "warning", f"optional, not there; it would give {gives}", f"apt install {name}")
            continue
        done = _run(name, option)
        if done.code == 0:
            yield Row(name, "ok", _last(done.output))
        else:
            yield Row(name, "warning", f"optional, does not run: {_last(done.errors)}", f"apt install --reinstall {name}")


def vendor() -> Row:
    """Look for the vendor's programs, one of which is enough."""
    if found := next(filter(None, map(shutil.which, VENDOR)), None):
        return Row("Vitis or Vivado", "ok", found)
    gives = "resources and timing for a part, by synthesis: `kerasnac firmware synth`"
    remedy = "install it, or run what `kerasnac firmware synth` prints where it is"
    return Row("Vitis or Vivado", "warning", f"optional, not there; it would give {gives}", remedy)


def disk() -> Iterator[Row]:
    """Check the free space in this folder and in that of temporary files, and the permission to write there."""
    for what, folder in (("this folder", Path.cwd()), ("temporary files", Path(tempfile.gettempdir()))):
        free = shutil.disk_usage(folder).free
        try:
            with tempfile.TemporaryFile(dir=folder):
                pass
        except OSError as error:
            yield Row(what, "missing", f"cannot write to {folder}: {error.strerror}", "work in a folder of your own")
            continue
        found = f"{free / GIGABYTE:.1f} GB free in {folder}"
        if free >= DISK:
            yield Row(what, "ok", found)
        else:
            yield Row(what, "missing", found, f"make room: {DISK / GIGABYTE:.0f} GB are needed")


def memory() -> Row:
    """Check that the memory suffices for one worker on every core."""
    cores, free = os.cpu_count() or 1, _free_memory()
    found = f"{cores} cores, {free / GIGABYTE:.1f} GB of memory free"
    if free >= cores * MEMORY_PER_WORKER:
        return Row("cores", "ok", found)
    workers = max(1, int(free / MEMORY_PER_WORKER))
    return Row("cores", "warning", found, f"use --workers {workers}: a worker takes about a gigabyte")


def _try_imports(snippets: dict[str, str]) -> dict[str, str]:
    """Run snippets one after the other in one other process.

    Args:
        snippets: Python code by name; each calls ``say`` with the version that it has found.

    Returns:
        The text that every snippet said, by name, and under ``error`` the reason if not all of them came to their end.
    """
    say = "def say(text): print(name, text, sep='\\t', file=sys.stderr, flush=True)"
    code = "\n".join(["import sys", say, *(f"name = {name!r}\n{snippet}" for name, snippet in snippets.items())])
    done = _run(sys.executable, "-c", code)
    lines = (line.partition("\t") for line in done.errors.splitlines())
    found = {name: said for name, _, said in lines if name in snippets}
    if done.code is None or done.code < 0:
        # TensorFlow needs a processor with AVX, and ends with an illegal instruction on others.
        found["error"] = ending(done.code, PATIENCE).removeprefix("was ")
    elif done.code:
        found["error"] = _last(done.errors)
    return found


def _run(*command: str) -> Answer:
    return ask(command, seconds=PATIENCE)


def _tested() -> dict[str, str]:
    if not CONSTRAINTS.is_file():
        return {}
    lines = CONSTRAINTS.read_text(encoding="utf-8").splitlines()
    return {canonicalize_name(name): version for name, same, version in (line.partition("==") for line in lines) if same}


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _free_memory() -> float:
    try:
        lines = Path("/proc/meminfo").read_text(encoding="utf-8").splitlines()
        return next(1024.0 * int(line.split()[1]) for line in lines if line.startswith("MemAvailable:"))
    except (OSError, StopIteration):
        return float(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))


def _last(text: str) -> str:
    """Return the last line that is not empty; in a traceback this is the message."""
    return next((line.strip() for line in reversed(text.splitlines()) if line.strip()), "no message")


_COLORS = {"ok": "green", "warning": "yellow", "missing": "bold red"}


def _show(found: list[Row], console: Console) -> None:
    missing = sum(row.state == "missing" for row in found)
    summary = f"{missing} of {len(found)} things are missing" if missing else "Everything that kerasnac needs is here."
    if not console.is_terminal:  # Plain lines for pipes and logs.
        for row in found:
            console.print(f"{row.state:8} {row.what}: {row.found}", markup=False, highlight=False, soft_wrap=True)
            if row.remedy:
                console.print(f"{'':8} -> {row.remedy}", markup=False, highlight=False, soft_wrap=True)
        console.print(summary, highlight=False)
        return
    table = Table("", "", "found", "what to do")
    for row in found:
        table.add_row(Text(row.state, _COLORS[row.state]), row.what, Text(row.found), Text(row.remedy))
    console.print(table, summary, highlight=False)
