"""Counts of networks by Yosys, beside those of boosted trees."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from kerasnac.adapters.rtl import yosys
from kerasnac.core.network.trained import Trained
from kerasnac.core.network.training import Training
from kerasnac.core.settings import AdderGraphSettings
from kerasnac.errors import ConversionError, TimeLimitExceeded
from kerasnac.stages.context import Context
from kerasnac.stages.references import networks
from kerasnac.stages.references.networks import count_networks
from tests.networks import mlp, normal_weights
from tests.stand_ins import InProcess
from tests.trees import steps


def test_counts_are_recorded_and_failures_are_warnings(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    architecture = mlp(4, 3, 3)
    models = [Trained(name, architecture, normal_weights(architecture), Training(), {}, 0) for name in ("good", "bad", "slow")]
    asked: list[str] = []

    def write_design(graph: Any, name: str, folder: Path) -> str:
        asked.append(name)
        if name == "bad":
            raise ConversionError("it is too large")
        if name == "slow":
            raise TimeLimitExceeded("yosys took too long")
        return name

    monkeypatch.setattr(networks, "unroll", lambda *arguments: None)
    monkeypatch.setattr(networks, "write_design", write_design)
    monkeypatch.setattr(networks, "synthesise", lambda design, timeout: yosys.Synthesis(77, 0, 0, 0, 0, 0, {}))
    data = steps().development
    workers: Any = InProcess(data)
    context = Context(data, workers, tmp_path)
    assert count_networks(models, AdderGraphSettings(), context) == {"good": 77}
    assert "bad: its LUTs are not counted: it is too large" in caplog.text
    assert sorted(asked) == ["bad", "good", "slow"]
    caplog.clear()
    assert count_networks(models, AdderGraphSettings(), context) == {"good": 77}
    assert "slow: its LUTs are not counted: yosys took too long" in caplog.text
    assert asked[3:] == ["bad"]
    assert count_networks(models[:1], AdderGraphSettings(effort="full"), context) == {"good": 77}
    assert asked[3:] == ["bad", "good"]
