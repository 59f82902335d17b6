"""A small network and its firmware, which several files look at; it is compiled once."""

from __future__ import annotations

import pytest

from kerasnac.core.settings import AdderGraphSettings
from kerasnac.stages.firmware.delivery import make_firmware
from kerasnac.stages.firmware.result import Firmware
from tests.stages.firmware.cases import PART, Case, small_case


@pytest.fixture(scope="session")
def case() -> Case:
    return small_case()


@pytest.fixture(scope="session")
def firmware(case: Case, tmp_path_factory: pytest.TempPathFactory) -> Firmware:
    folder, graph = tmp_path_factory.mktemp("firmware") / "small", AdderGraphSettings(latency_cutoff=2)
    return make_firmware(case.trained, case.split, case.task, folder=folder, part=PART, softmax="chip", adder_graph=graph)
