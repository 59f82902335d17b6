"""Reports of the vendor's tools, made small, and the tools' stand-ins."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from kerasnac.adapters.hls4ml.vendor import VendorReport, commands, project_of, read_reports, run_vendor
from kerasnac.errors import ConversionError, RunError

CSYNTH = """<?xml version="1.0" encoding="UTF-8"?>
<profile>
  <ReportVersion><Version>2023.2</Version></ReportVersion>
  <UserAssignments>
    <unit>ns</unit>
    <ProductFamily>virtexuplus</ProductFamily>
    <Part>xcvu13p-flga2577-2-e</Part>
    <TopModelName>myproject</TopModelName>
    <TargetClockPeriod>5.00</TargetClockPeriod>
    <ClockUncertainty>1.35</ClockUncertainty>
  </UserAssignments>
  <PerformanceEstimates>
    <SummaryOfTimingAnalysis><unit>ns</unit><EstimatedClockPeriod>3.612</EstimatedClockPeriod></SummaryOfTimingAnalysis>
    <SummaryOfOverallLatency>
      <unit>clock cycles</unit>
      <Best-caseLatency>9</Best-caseLatency>
      <Average-caseLatency>9</Average-caseLatency>
      <Worst-caseLatency>12</Worst-caseLatency>
      <Interval-min>1</Interval-min>
      <Interval-max>1</Interval-max>
    </SummaryOfOverallLatency>
  </PerformanceEstimates>
  <AreaEstimates>
    <Resources><BRAM_18K>4</BRAM_18K><DSP>12</DSP><FF>3456</FF><LUT>20765</LUT><URAM>0</URAM></Resources>
    <AvailableResources>
      <BRAM_18K>5376</BRAM_18K><DSP>12288</DSP><FF>3456000</FF><LUT>1728000</LUT><URAM>1280</URAM>
    </AvailableResources>
  </AreaEstimates>
</profile>
"""

SYNTH = """Copyright 1986-2022 Xilinx, Inc. All Rights Reserved. Copyright 2022-2023 Advanced Micro Devices, Inc.
---------------------------------------------------------------------------------------------------------
| Tool Version : Vivado v.2023.2 (lin64) Build 4029153 Fri Oct 13 20:13:54 MDT 2023
| Design       : myproject
| Device       : xcvu13p-flga2577-2-e
---------------------------------------------------------------------------------------------------------

Utilization Design Information

1. CLB Logic
------------

+----------------------------+-------+-------+------------+-----------+-------+
|          Site Type         |  Used | Fixed | Prohibited | Available | Util% |
+----------------------------+-------+-------+------------+-----------+-------+
| CLB LUTs*                  | 12345 |     0 |          0 |   1728000 |  0.71 |
|   LUT as Logic             | 12300 |     0 |          0 |   1728000 |  0.71 |
| CLB Registers              |  2345 |     0 |          0 |   3456000 |  0.07 |
|   Register as Flip Flop    |  2345 |     0 |          0 |   3456000 |  0.07 |
| CARRY8                     |   999 |     0 |          0 |    216000 |  0.46 |
+----------------------------+-------+-------+------------+-----------+-------+
* Warning! The Final LUT count, after physical optimizations, is typically lower.

2. BLOCKRAM
-----------

+-------------------+------+-------+------------+-----------+-------+
|     Site Type     | Used | Fixed | Prohibited | Available | Util% |
+-------------------+------+-------+------------+-----------+-------+
| Block RAM Tile    |  1.5 |     0 |          0 |      2688 |  0.06 |
|   RAMB36/FIFO*    |    1 |     0 |          0 |      2688 |  0.04 |
| URAM              |    0 |     0 |          0 |      1280 |  0.00 |
+-------------------+------+-------+------------+-----------+-------+

3. ARITHMETIC
-------------

+-----------+------+-------+------------+-----------+-------+
| Site Type | Used | Fixed | Prohibited | Available | Util% |
+-----------+------+-------+------------+-----------+-------+
| DSPs      |    7 |     0 |          0 |     12288 |  0.06 |
+-----------+------+-------+------------+-----------+-------+
"""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A synthesised project, with the report of one of its functions beside that of the whole."""
    reports = tmp_path / "myproject_prj/solution1/syn/report"
    reports.mkdir(parents=True)
    (reports / "myproject_csynth.xml").write_text(CSYNTH)
    (reports / "dense_latency_csynth.xml").write_text(CSYNTH.replace("20765", "1"))
    (tmp_path / "vivado_synth.rpt").write_text(SYNTH)
    (tmp_path / "project.tcl").write_text('set project_name "myproject"\nset backend "vitis"\n')
    return tmp_path


def tool(folder: Path, name: str, *lines: str) -> Path:
    path = folder / "bin" / name
    path.parent.mkdir(exist_ok=True)
    path.write_text("\n".join(["#!/bin/sh", *lines, ""]))
    path.chmod(0o755)
    return path


class TestReports:
    def test_a_project(self, project: Path) -> None:
        report = read_reports(project)
        assert report.hls is not None
        assert report.vivado is not None
        assert (report.hls.version, report.hls.part) == ("2023.2", "xcvu13p-flga2577-2-e")
        assert (report.hls.target_clock, report.hls.estimated_clock) == (5.0, 3.612)
        assert (report.hls.latency, report.hls.interval) == ((9, 12), (1, 1))
        assert report.hls.used == {"BRAM_18K": 4, "DSP": 12, "FF": 3456, "LUT": 20765, "URAM": 0}
        assert report.hls.available["LUT"] == 1728000
        assert (report.vivado.version, report.vivado.part) == ("2023.2", "xcvu13p-flga2577-2-e")
        assert report.vivado.used == {"LUT": 12345, "FF": 2345, "CARRY8": 999, "BRAM_18K": 3, "URAM": 0, "DSP": 7}
        assert report.vivado.available["BRAM_18K"] == 5376
        assert len(report.files) == 2
        json.dumps(report.to_dict())

    def test_single_files(self, project: Path) -> None:
        xml = project / "myproject_prj/solution1/syn/report/myproject_csynth.xml"
        whole = read_reports(project)
        assert read_reports(xml) == VendorReport(whole.hls, files=(str(xml),))
        rpt = project / "vivado_synth.rpt"
        assert read_reports(rpt) == VendorReport(vivado=whole.vivado, files=(str(rpt),))

    def test_a_folder_that_reports_were_copied_to(self, tmp_path: Path) -> None:
        (tmp_path / "csynth.xml").write_text(CSYNTH)
        assert read_reports(tmp_path).hls is not None

    def test_vivado_hls_and_a_loop_without_bound(self, tmp_path: Path) -> None:
        old = CSYNTH.replace("DSP>", "DSP48E>").replace("<Worst-caseLatency>12<", "<Worst-caseLatency>undef<")
        (tmp_path / "csynth.xml").write_text(old)
        found = read_reports(tmp_path).hls
        assert found is not None
        assert found.used["DSP"] == 12
        assert found.latency == (9, None)

    def test_an_older_vivado(self, tmp_path: Path) -> None:
        table = ["| Site Type | Used | Fixed | Available | Util% |", "| Slice LUTs* | 5 | 0 | 100 | 5.0 |"]
        (tmp_path / "a.rpt").write_text("\n".join([*table, "| Slice Registers | 6 | 0 | 200 | 3.0 |"]))
        found = read_reports(tmp_path / "a.rpt").vivado
        assert found is not None
        assert (found.used, found.available) == ({"LUT": 5, "FF": 6}, {"LUT": 100, "FF": 200})
        assert (found.version, found.part) == ("unknown", "unknown")

    @pytest.mark.parametrize(
        ("name", "text"),
        [
            ("csynth.xml", CSYNTH[:900]),
            ("csynth.xml", ""),
            ("csynth.xml", "<html></html>"),
            ("csynth.xml", CSYNTH.replace("20765", "many")),
            ("vivado_synth.rpt", ""),
            ("vivado_synth.rpt", SYNTH[:800]),
            ("vivado_synth.rpt", SYNTH.replace("12345", "many")),
            ("vivado_synth.rpt", "\x00\x01"),
        ],
    )
    def test_what_is_no_report_is_named(self, tmp_path: Path, name: str, text: str) -> None:
        (tmp_path / name).write_text(text)
        with pytest.raises(RunError, match=rf"{tmp_path / name} "):
            read_reports(tmp_path / name)

    def test_binary(self, tmp_path: Path) -> None:
        (tmp_path / "vivado_synth.rpt").write_bytes(b"\xff\xfe\x80")
        with pytest.raises(RunError, match="cannot be read"):
            read_reports(tmp_path)

    def test_nothing(self, tmp_path: Path) -> None:
        with pytest.raises(RunError, match="holds no report"):
            read_reports(tmp_path)
        with pytest.raises(RunError, match="is not there"):
            read_reports(tmp_path / "fw")

    def test_the_project_of_a_report(self, project: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
        assert project_of(project / "myproject_prj/solution1/syn/report/myproject_csynth.xml") == project
        assert project_of(tmp_path_factory.mktemp("elsewhere")) is None


class TestTools:
    def test_vitis(self, project: Path) -> None:
        assert commands(project) == ["vitis-run --mode hls --tcl build_prj.tcl", "vitis_hls -f build_prj.tcl"]
        assert "    vsynth     1\n" in (project / "build_opt.tcl").read_text()

    def test_vivado(self, project: Path) -> None:
        (project / "project.tcl").write_text('set backend "vivado"\n')
        (command,) = commands(project)
        assert command.startswith('vivado_hls -f build_prj.tcl "reset=1 csim=0 synth=1 cosim=0 ')
        assert not (project / "build_opt.tcl").exists()

    def test_no_project(self, tmp_path: Path) -> None:
        with pytest.raises(RunError, match=r"project\.tcl"):
            commands(tmp_path)

    def test_without_the_tools(self, project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("PATH", str(project))
        assert run_vendor(project) is None

    def test_with_the_tools(self, project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        bin_folder = tool(project, "vitis_hls", 'echo "$@"').parent
        monkeypatch.setenv("PATH", f"{bin_folder}:/bin")
        assert run_vendor(project) == read_reports(project)
        assert (project / "vendor.log").read_text() == "-f build_prj.tcl\n"

    def test_a_failing_tool(self, project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        bin_folder = tool(project, "vitis-run", "echo 'ERROR: no license'", "exit 1").parent
        monkeypatch.setenv("PATH", f"{bin_folder}:/bin")
        with pytest.raises(ConversionError, match=r"vitis-run .*: ERROR: no license"):
            run_vendor(project)
