"""Clock periods, levels and latencies in nanoseconds."""

from __future__ import annotations

from typing import Any

import pytest

from kerasnac.core.hardware.boards import BOARDS
from kerasnac.core.hardware.estimators import SOURCES
from kerasnac.core.hardware.timing import TIMED, Clock, Delays, delays
from kerasnac.core.settings import AdderGraphSettings, CompressSettings, RunSettings, SearchSettings
from kerasnac.core.settings.run import FirmwareSettings
from kerasnac.errors import ConfigError

CLOCK = Clock(5.0, Delays("any", register=1.0, level=0.5))


def test_every_board_has_delays_and_other_parts_none() -> None:
    families = {entry.name: found.family for entry in BOARDS.values() if (found := delays(entry.part))}
    assert families == dict.fromkeys(BOARDS, "UltraScale+") | {"pynq-z2": "7 series"}
    assert Clock.of(5.0, "10AS066N3F40E2SG") is delays("xcku115-flvb2104-2-e") is None


def test_levels_that_a_period_holds_keep_it() -> None:
    assert CLOCK.levels == 8
    assert CLOCK.fastest(CLOCK.levels) == 5.0
    assert Clock(1.4, CLOCK.delays).levels == 0


def test_a_graph_that_is_too_deep_slows_the_clock_down() -> None:
    costs = {"adder_luts": 9.0, "adder_stages": 3.0, "adder_depth": 8.0}
    assert CLOCK.timed(costs) == costs | {"adder_latency_ns": 15.0, "adder_interval_ns": 5.0}
    assert CLOCK.timed(costs | {"adder_depth": 10.0})["adder_latency_ns"] == 18.0
    earlier = CLOCK.timed({"adder_stages": 3.0, **dict.fromkeys(TIMED, 1.0)})
    assert earlier == {"adder_stages": 3.0, "adder_latency_ns": 15.0, "adder_interval_ns": 5.0}
    assert CLOCK.timed({"accuracy": 0.5}) == {"accuracy": 0.5}
    assert {*TIMED} <= {*SOURCES["adder_graph"]}


def test_a_depth_by_the_clock_becomes_a_number_of_the_board() -> None:
    by_clock: dict[str, Any] = {"adder_graph": {"max_depth": "clock"}, "clock_period": 10.0}
    assert SearchSettings(**by_clock).adder_graph.max_depth == Clock.of(10.0, "xcvu13p").levels  # type: ignore[union-attr]
    assert CompressSettings(**by_clock, board="pynq-z2").adder_graph.max_depth == Clock.of(10.0, "xc7z").levels  # type: ignore[union-attr]
    assert FirmwareSettings(**by_clock, part="pynq-z2").adder_graph.depth_bound == 5
    assert AdderGraphSettings(max_depth=4).at(None).identity == {"max_depth": 4}


def test_a_clock_that_is_too_fast_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"adder_graph: max_depth: .*1 ns is too short .* UltraScale\+: use 1.2 ns"):
        SearchSettings(adder_graph={"max_depth": "clock"}, clock_period=1.0)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="known family"):
        FirmwareSettings(adder_graph={"max_depth": "clock"}, part="10AS066N3F40E2SG")  # type: ignore[arg-type]


SPACE = {"input": 16, "outputs": 5, "blocks": [{"block": "mlp", "depth": [1, 2], "widths": [[8, 16], [8]]}]}


def test_a_run_has_one_clock() -> None:
    run: dict[str, Any] = {"space": SPACE, "dataset": {"source": "jets"}}
    made = RunSettings.model_validate(run | {"firmware": {"clock_period": 2.5}, "compress": {"clock_period": 4.0}})
    assert (made.search.clock_period, made.compress.clock_period, made.firmware.clock_period) == (2.5, 4.0, 2.5)
    made = RunSettings.model_validate(run)
    assert (made.search.clock_period, made.compress.clock_period) == (5.0, 5.0)
    with pytest.raises(ConfigError, match=r"firmware.clock_period: Input should be greater than 0") as refused:
        RunSettings(**run, firmware={"clock_period": -1.0})  # type: ignore[arg-type]
    assert "search" not in str(refused.value)
