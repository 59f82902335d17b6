from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from kerasnac.core.hardware.hls_options import HlsOptions
from kerasnac.core.settings import FirmwareSettings
from kerasnac.errors import ConfigError

OWN = {"part": "zcu102", "layers": {"dense_1": {"strategy": "resource", "reuse_factor": 4}, "conv2d_10": {"reuse_factor": 2}}}


def test_layers_have_what_is_theirs_and_else_what_the_network_has() -> None:
    options = HlsOptions.of(**OWN, reuse_factor=3)
    asked = [(options.strategy_of(name), options.reuse_factor_of(name)) for name in ("dense_0", "dense_1", "conv2d_10")]
    assert asked == [("latency", 3), ("resource", 4), ("latency", 2)]
    assert options.strategies == {"latency", "resource"}
    assert options.part == "xczu9eg-ffvb1156-2-e"


def test_they_survive_json_and_the_settings_of_a_run() -> None:
    settings = FirmwareSettings.model_validate(OWN | {"samples": 5})
    assert settings.options == HlsOptions.of(**OWN) == HlsOptions.of(**settings.options.to_dict())
    assert "dense_1 strategy resource reuse_factor 4" in str(settings.options)


def test_single_options_replace_those_of_an_object() -> None:
    assert HlsOptions.of(HlsOptions.of(**OWN), strategy="resource").to_dict() == HlsOptions.of(**OWN).to_dict() | {
        "strategy": "resource"
    }


@pytest.mark.parametrize(
    ("single", "message"),
    [
        ({"io": "io_stream"}, "'io': there are part, backend, clock_period"),
        ({"clock_period": 0}, "clock_period: .*greater than 0"),
        ({"clock_period": float("inf")}, "clock_period: .*finite"),
        ({"backend": "Vitis HLS"}, "backend: .*'Vitis', 'Vivado', 'Catapult', 'Quartus' or 'oneAPI'"),
        ({"layers": {"flatten_0": {"reuse_factor": 2}}}, "layers.flatten_0"),
        ({"layers": {"dense_0": {"reuse": 2}}}, "layers.dense_0.reuse"),
    ],
)
def test_what_cannot_be_is_named(single: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        HlsOptions.of(**single)


def test_a_run_file_with_another_kind_of_layer_is_refused() -> None:
    with pytest.raises(ValidationError, match="layers"):
        FirmwareSettings.model_validate({"layers": {"relu_1": {"reuse_factor": 2}}})
