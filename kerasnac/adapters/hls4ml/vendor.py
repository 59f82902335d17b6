"""Synthesis with AMD's tools, here or elsewhere, and the reports that come back."""

from __future__ import annotations

import re
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from pydantic import TypeAdapter, ValidationError

from kerasnac.adapters.programs import run_tool, tail
from kerasnac.core.checks import explained
from kerasnac.core.store.files import read_object, write_text
from kerasnac.errors import ConversionError, RunError

#: Which of the steps in hls4ml's ``build_prj.tcl`` are done, in the order of its arguments.
STEPS = {
    "reset": 1,
    "csim": 0,
    "synth": 1,
    "cosim": 0,
    "validation": 0,
    "export": 0,
    "vsynth": 1,
    "fifo_opt": 0,
}

#: Rows of Vivado's utilization tables, by start, and the resource and its number that they mean.
_VIVADO_ROWS = {
    "CLB LUTs": ("LUT", 1),
    "Slice LUTs": ("LUT", 1),
    "CLB Registers": ("FF", 1),
    "Slice Registers": ("FF", 1),
    "CARRY8": ("CARRY8", 1),
    "Block RAM Tile": ("BRAM_18K", 2),  # A tile is two memories of 18 kbit.
    "URAM": ("URAM", 1),
    "DSPs": ("DSP", 1),
}


@dataclass(frozen=True)
class Hls:
    """Estimates of high-level synthesis: ``csynth.xml``.

    Attributes:
        version: Of the tool.
        part: FPGA part.
        target_clock: Clock period that was asked for, ns.
        estimated_clock: Clock period that it expects, ns.
        latency: Clock cycles at best and at worst; None where the tool does not know.
        interval: Clock cycles between two samples, at best and at worst.
        used: Resources that the design takes.
        available: Resources of the part.
    """

    version: str
    part: str
    target_clock: float
    estimated_clock: float
    latency: tuple[int | None, int | None]
    interval: tuple[int | None, int | None]
    used: Mapping[str, int]
    available: Mapping[str, int]


@dataclass(frozen=True)
class Utilization:
    """Counts of logic synthesis: ``vivado_synth.rpt``.

    Attributes:
        version: Of Vivado.
        part: FPGA part.
        used: Resources that the design takes.
        available: Resources of the part.
    """

    version: str
    part: str
    used: Mapping[str, int]
    available: Mapping[str, int]


@dataclass(frozen=True)
class VendorReport:
    """The reports of a project.

    Attributes:
        hls: Of high-level synthesis, if it is there.
        vivado: Of logic synthesis, if it is there.
        files: Where they were read.
    """

    hls: Hls | None = None
    vivado: Utilization | None = None
    files: tuple[str, ...] = field(default=(), kw_only=True)

    def to_dict(self) -> dict[str, Any]:
        """Return a JSON-ready dictionary."""
        return asdict(self)

    @classmethod
    def load(cls, path: Path) -> VendorReport:
        """Read a file of :meth:`to_dict`.

        Raises:
            RunError: If it is damaged.
        """
        try:
            return _REPORT.validate_python(read_object(path))
        except ValidationError as error:
            raise RunError(f"{path} is damaged: {explained(error, 'report')}; import the reports again") from error


_REPORT = TypeAdapter(VendorReport)


def run_vendor(project: Path, *, timeout: float = 86400.0) -> VendorReport | None:
    """Synthesise a firmware project as hls4ml's ``build`` does; the log is ``vendor.log`` in the project.

    Args:
        project: A firmware folder, or another project of hls4ml for Vitis or Vivado.
        timeout: Seconds after which the tool is stopped.

    Returns:
        The reports; None if the tool is not on the path, and :func:`commands` says what to run elsewhere.

    Raises:
        RunError: If the folder is no such project.
        ConversionError: If the tool fails or takes too long; quotes the end of its log.
    """
    command = next((c for c in _commands(project) if shutil.which(c[0])), None)
    if command is None:
        return None
    log = project / "vendor.log"
    if run_tool(command, folder=project, log=log, timeout=timeout) != 0:
        raise ConversionError(f"{command[0]} failed in {project}: {tail(log)} (all of it in {log.name})")
    return read_reports(project)


def commands(project: Path) -> list[str]:
    """Return shell commands that synthesise a project; of several, one is enough: which depends on the tool's version.

    For Vitis it writes the steps to ``build_opt.tcl`` in the project, where hls4ml's script looks for them.

    Raises:
        RunError: If the folder is no project of hls4ml for Vitis or Vivado.
    """
    return [" ".join(f'"{word}"' if " " in word else word for word in command) for command in _commands(project)]


def _commands(project: Path) -> list[list[str]]:
    script = project / "project.tcl"
    text = script.read_text(encoding="utf-8") if script.is_file() else ""
    backend = re.search(r'set backend "(\w+)"', text)
    if backend is None or backend[1] not in ("vitis", "vivado"):
        raise RunError(f"{project} is no firmware project for Vitis or Vivado: {script.name} is missing or names another one")
    if backend[1] == "vivado":
        return [["vivado_hls", "-f", "build_prj.tcl", " ".join(f"{step}={done}" for step, done in STEPS.items())]]
    lines = ["array set opt {", *(f"    {step:10} {done}" for step, done in STEPS.items()), "}"]
    write_text(project / "build_opt.tcl", "\n".join(lines) + "\n")
    return [["vitis-run", "--mode", "hls", "--tcl", "build_prj.tcl"], ["vitis_hls", "-f", "build_prj.tcl"]]


def read_reports(path: Path) -> VendorReport:
    """Read the reports of a project, or a single one.

    Args:
        path: A project of hls4ml, a folder with reports, ``*csynth.xml`` or Vivado's utilization report.

    Raises:
        RunError: If there is none, or one is broken; names the file.
    """
    if not path.exists():
        raise RunError(f"{path} is not there")
    files = [path] if path.is_file() else _found(path)
    if not files:
        raise RunError(
            f"{path} holds no report: neither csynth.xml, in it or in *_prj/solution*/syn/report, nor vivado_synth.rpt"
        )
    hls, vivado = None, None
    for file in files:
        if file.suffix == ".xml":
            hls = _read_hls(file)
        else:
            vivado = _read_utilization(file)
    return VendorReport(hls, vivado, files=tuple(map(str, files)))


def project_of(path: Path) -> Path | None:
    """Return the hls4ml project that a report lies in, if it does."""
    path = path.resolve()
    return next((folder for folder in (path, *path.parents) if (folder / "project.tcl").is_file()), None)


def _found(folder: Path) -> list[Path]:
    """Return the report of the whole design of every kind; there is one of every function besides."""
    files = []
    for reports in (folder, *sorted(folder.glob("*_prj/solution*/syn/report"))):
        top = reports.parents[2].name.removesuffix("_prj")
        files += [file for file in (reports / f"{top}_csynth.xml", reports / "csynth.xml") if file.is_file()]
    return files[:1] + [file for file in (folder / "vivado_synth.rpt",) if file.is_file()]


def _read_hls(file: Path) -> Hls:
    try:
        root = ElementTree.parse(file).getroot()
        overall = root.find("./PerformanceEstimates/SummaryOfOverallLatency")
        used, available = root.find("./AreaEstimates/Resources"), root.find("./AreaEstimates/AvailableResources")
        if overall is None or used is None or available is None:
            raise RunError(f"{file} is no report of high-level synthesis: it has no estimates of latency and area")
        return Hls(
            version=root.findtext("./ReportVersion/Version", "unknown"),
            part=root.findtext("./UserAssignments/Part", "unknown"),
            target_clock=float(root.findtext("./UserAssignments/TargetClockPeriod", "nan")),
            estimated_clock=float(root.findtext("./PerformanceEstimates/SummaryOfTimingAnalysis/EstimatedClockPeriod", "nan")),
            latency=(_cycles(overall, "Best-caseLatency"), _cycles(overall, "Worst-caseLatency")),
            interval=(_cycles(overall, "Interval-min"), _cycles(overall, "Interval-max")),
            used=_resources(used),
            available=_resources(available),
        )
    except (ElementTree.ParseError, ValueError, OSError) as error:
        raise RunError(f"{file} cannot be read as a report of high-level synthesis: {error}") from error


def _cycles(element: ElementTree.Element, name: str) -> int | None:
    text = element.findtext(name, "")
    return int(text) if text.isdigit() else None  # "undef" for a loop without a bound


def _resources(element: ElementTree.Element) -> dict[str, int]:
    """Read numbers by resource; Vivado HLS calls DSP blocks by their generation."""
    return {
        "DSP" if child.tag.startswith("DSP") else child.tag: int(child.text or "") for child in element if child.tag != "unit"
    }


def _read_utilization(file: Path) -> Utilization:
    try:
        lines = file.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise RunError(f"{file} cannot be read as a utilization report: {error}") from error
    head, used, available = {}, {}, {}
    columns: list[str] = []
    for line in lines:
        if not line.startswith("|"):
            continue
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if match := re.match(r"\|\s*(Tool Version|Device)\s*:\s*(.*)", line):
            head[match[1]] = match[2].strip(" |")
        elif "Used" in cells and "Available" in cells:
            columns = cells
        elif columns and len(cells) == len(columns):
            row = dict(zip(columns, cells, strict=True))
            found = next((meaning for start, meaning in _VIVADO_ROWS.items() if cells[0].startswith(start)), None)
            if found is not None and found[0] not in used:  # Later tables repeat rows, for parts of them.
                try:
                    used[found[0]] = round(float(row["Used"]) * found[1])
                    available[found[0]] = round(float(row["Available"]) * found[1])
                except ValueError as error:
                    raise RunError(f"{file} has a row that is no utilization: {line}") from error
    if not {"LUT", "FF"} <= used.keys():
        raise RunError(f"{file} is no utilization report of Vivado, or not all of it: it has no rows for LUTs and registers")
    version = re.search(r"v\.?(\d+\.\d+)", head.get("Tool Version", ""))
    return Utilization(version[1] if version else "unknown", head.get("Device", "unknown"), used, available)
