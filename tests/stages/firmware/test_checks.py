"""What can never become firmware is refused before anything is trained."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from kerasnac.core.network.precision import Precision
from kerasnac.core.settings import FirmwareSettings
from kerasnac.core.space.search_space import SearchSpace
from kerasnac.errors import ConfigError, EnvironmentProblem
from kerasnac.stages.firmware.checks import check_firmware
from tests.networks import mlp, toy_data

MLP = {"block": "mlp", "depth": [1, 2], "widths": [[3, 4], 3], "activation": ["relu", "tanh"], "norm": ["none", "batch"]}
CONV = {"block": "conv", "convolutions": 2, "channels": 2, "kernel": 1}
ATTENTION = {"block": "attention", "width": 2}
INTEL = {"backend": "Quartus", "part": "Arria10", "strategy": "resource"}


def space(*blocks: dict[str, Any], shape: tuple[int, ...] = (3,), firmware: str = "exact") -> SearchSpace:
    return SearchSpace.model_validate({"input": shape, "outputs": 3, "blocks": blocks, "firmware": firmware})


def check(made: SearchSpace, *, bits: int = 12, baselines: int = 0, **settings: Any) -> None:
    data = replace(toy_data().development, input_grid=Precision(bits, 3))
    networks = [mlp(3, *[2] * baselines)] if baselines else []
    check_firmware(FirmwareSettings.model_validate(settings), made, networks, data)


def layers(*names: str) -> dict[str, Any]:
    return {"layers": {name: {"reuse_factor": 2} for name in names}}


@pytest.mark.parametrize(
    ("blocks", "shape", "known", "unknown"),
    [
        ([MLP], (3,), "dense_2", "dense_3"),
        ([MLP, {**MLP, "repeat": 2}], (3,), "dense_6", "dense_7"),
        ([{"block": "choose", "options": [{"block": "none"}, MLP]}], (3,), "dense_2", "dense_3"),
        ([CONV, MLP], (5, 5, 1), "conv2d_1", "conv2d_2"),
        ([CONV, MLP], (5, 1), "conv1d_1", "conv2d_0"),
        ([{"block": "residual", "body": CONV}, ATTENTION], (4, 4, 2), "conv2d_5", "conv2d_6"),
    ],
)
def test_a_layer_that_no_network_can_have(
    blocks: list[dict[str, Any]], shape: tuple[int, ...], known: str, unknown: str
) -> None:
    for firmware in ("exact", "any"):
        check(space(*blocks, shape=shape, firmware=firmware), **layers(known))
        with pytest.raises(ConfigError, match=rf"^firmware\.layers\.{unknown}: no network .* at most .*dense_0"):
            check(space(*blocks, shape=shape, firmware=firmware), **layers(known, unknown))


def test_a_layer_of_a_baseline() -> None:
    check(space(MLP), baselines=5, **layers("dense_4"))
    with pytest.raises(ConfigError, match=r"dense_5: no network .* dense_0 to dense_2"):
        check(space(MLP), baselines=5, **layers("dense_5"))


def test_an_input_that_float32_does_not_hold() -> None:
    check(space(MLP), bits=24)
    with pytest.raises(ConfigError, match=r"ap_fixed<25,3>.*input_bits.*24"):
        check(space(MLP), bits=25)


def test_a_backend_without_the_layers_of_any_candidate() -> None:
    check(space(MLP), **INTEL)  # Those with ReLU.
    tables = {**MLP, "activation": "tanh"}
    with pytest.raises(ConfigError, match=r"none of 1000 .* activation_0: .* tanh .* Quartus"):
        check(space(tables), **INTEL)
    check(space(tables, firmware="any"), **INTEL)
    with pytest.raises(ConfigError, match=r"softmax_0: .* Quartus"):
        check(space(MLP), softmax="exact", **INTEL)
    with pytest.raises(ConfigError, match="io_parallel"):
        check(space(ATTENTION, MLP, shape=(2, 2, 1)), io_type="io_stream")


@pytest.mark.parametrize(("settings", "text"), [({"memory": 0.02}, "0.02 GiB"), ({"timeout": 0.01}, "within 0.01 s")])
def test_limits_that_let_nothing_compile(settings: dict[str, float], text: str) -> None:
    with pytest.raises(EnvironmentProblem, match=rf"compiles no firmware.*{text}"):
        check(space(MLP), **settings)


def test_a_compiler_that_compiles_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CXX", "/bin/false")
    with pytest.raises(EnvironmentProblem, match="/bin/false compiles no firmware"):
        check(space(MLP))
    check(space({**MLP, "activation": "relu"}), **INTEL | {"backend": "oneAPI"})  # Nothing is compiled for it.
