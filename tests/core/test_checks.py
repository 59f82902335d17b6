"""Whatever comes from outside: every key of every setting meets values that nobody would give on purpose.

The tables are derived from the models, so that a new key is in them as soon as it exists.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from dataclasses import is_dataclass
from typing import Any, NotRequired, Required, get_args, get_origin, get_type_hints

import numpy as np
import pytest
from pydantic import ValidationError

from kerasnac.core.checks import Checked, Seed, check_arguments, checked, shown, valid_seed, with_options
from kerasnac.core.data.dataset import Task
from kerasnac.core.hardware.hls_options import HlsOptions
from kerasnac.core.network.architecture import Architecture
from kerasnac.core.network.kinds import KINDS
from kerasnac.core.network.layers import LayerSpec
from kerasnac.core.network.precision import Precision
from kerasnac.core.settings import CompressSettings, RunSettings, SearchSettings
from kerasnac.core.settings.yaml_files import dump
from kerasnac.core.space.blocks import BLOCKS
from kerasnac.core.space.search_space import SearchSpace
from kerasnac.datasets import DATASETS
from kerasnac.errors import ConfigError

Place = tuple[str, ...]

RUN: dict[str, Any] = {
    "space": {"input": 4, "outputs": 2, "blocks": [{"block": "mlp", "widths": [[4, 8]]}]},
    "dataset": {"source": "digits"},
}

#: What is written by mistake, by a bug, or by somebody who wants to see what happens.
HOSTILE: dict[str, Any] = {
    "None": None,
    "true": True,
    "text": "no",
    "number as text": "5",
    "code": "8; import os",
    "dunder": "__class__",
    "empty text": "",
    "long text": "x" * 100_000,
    "nan": float("nan"),
    "inf": float("inf"),
    "-inf": -float("inf"),
    "-1": -1,
    "0": 0,
    "half": 0.5,
    "huge": 10**18,
    "digits": 10**4000,
    "huge float": 1e300,
    "empty list": [],
    "nested list": [[[[[1]]]]],
    "nans": [float("nan"), float("nan")],
    "long list": [1] * 20_000,
    "mapping": {"a": {"b": 1}},
    "integer key": {1: 2},
    "bytes": b"\xff",
    "object": object(),
}


def models(hint: Any) -> Iterator[type]:
    """Models and dataclasses inside an annotation."""
    if get_args(hint):
        for part in get_args(hint):
            yield from models(part)
    elif isinstance(hint, type) and (issubclass(hint, Checked) or is_dataclass(hint)):
        yield hint


def keys(model: type, place: Place = ()) -> Iterator[Place]:
    """Every key of settings, at any depth."""
    for name, hint in get_type_hints(model, include_extras=True).items():
        if name in ("model_config", *getattr(model, "__class_vars__", ())) or name.startswith("_"):
            continue
        yield (*place, name)
        for inner in models(hint):
            if inner is not Architecture and get_origin(hint) is not tuple:
                yield from keys(inner, (*place, name))


KEYS = sorted(set(keys(RunSettings)))


def test_the_table_reaches_the_keys_of_keys() -> None:
    assert {("seed",), ("search", "training", "epochs"), ("search", "adder_graph", "sparsity"), ("space", "input")} <= set(KEYS)
    assert {("compress", "mixed", "max_drop"), ("firmware", "clock_period")} <= set(KEYS)
    assert len(KEYS) > 100


def with_value(data: dict[str, Any], place: Place, value: Any) -> dict[str, Any]:
    first, *rest = place
    inner = data.get(first, {"epochs": 1} if first == "halving" else {})
    return data | {first: with_value(inner, tuple(rest), value) if rest else value}


def refused(made: Callable[[], Any]) -> str:
    """The message of an error of the user, which is one short line without links; empty if there is none."""
    try:
        made()
    except ConfigError as error:
        message = str(error)
        assert message
        assert "\n" not in message
        assert len(message) < 500
        assert "pydantic" not in message
        assert "validation error" not in message
        return message
    return ""


@pytest.mark.parametrize("place", KEYS, ids=".".join)
def test_a_key_is_valid_or_named(place: Place) -> None:
    for value in HOSTILE.values():
        data = with_value(RUN, place, value)
        message = refused(lambda data=data: dump(RunSettings(**data)))  # type: ignore[misc]
        assert not message or place[-1] in message or place[0] in message


@pytest.mark.parametrize("place", KEYS, ids=".".join)
def test_no_number_is_infinite_and_nothing_is_another_type(place: Place) -> None:
    for value in (True, "5", 5, 0.5, float("inf"), float("nan"), 10**18, 1e300):
        try:
            made: Any = RunSettings.model_validate(with_value(RUN, place, value))
        except (ValidationError, ConfigError):
            continue
        for name in place:
            made = getattr(made, name)
        while isinstance(made, tuple):
            made = made[0]
        assert type(made) is type(value) or (isinstance(made, float) and type(value) is int) or isinstance(made, Checked)
        assert isinstance(made, str | bool | Checked) or abs(made) < 10**18 or place[-1] == "seed"


@pytest.mark.parametrize("tag", BLOCKS)
def test_blocks(tag: str) -> None:
    for name in BLOCKS[tag].model_fields:
        for value in HOSTILE.values():
            block = {"block": tag, "widths": [4], "channels": 4, "start": 0, "length": 2, "width": 2, "units": 2}
            block = {key: given for key, given in block.items() if key in BLOCKS[tag].model_fields} | {name: value}
            refused(lambda block=block: SearchSpace(input=(4, 4, 1), outputs=2, blocks=[block]).size())  # type: ignore[misc]


@pytest.mark.parametrize("kind", KINDS)
def test_layers(kind: str) -> None:
    good = {"units": 2, "filters": 2, "kernel": 1, "stride": 1, "padding": "same", "transpose": True, "axes": "all"}
    good |= {"fn": "relu", "shape": [2], "op": "max", "size": 2, "start": 0, "length": 1, "bits": 4}
    good |= {"grid": "ap_fixed<4,2>", "rounding": "half_up", "channel_bits": [4, 0], "channel_integer": [2, 0]}
    hints = get_type_hints(KINDS[kind].parameters, include_extras=True)
    layer: dict[str, Any] = {"kind": kind} | {name: value for name, value in good.items() if name in hints}
    layer["inputs"] = [-1] * KINDS[kind].reads
    assert LayerSpec.from_dict(layer).to_dict() == {k: v for k, v in layer.items() if k != "inputs" or v != [-1]}
    for name in (*layer, *hints, "weight_precision", "unheard_of"):
        for value in HOSTILE.values():
            message = refused(lambda data=layer | {name: value}: LayerSpec.from_dict(data))  # type: ignore[misc]
            assert message or name not in ("unheard_of", "kind", "weight_precision")
        if get_origin(hints.get(name)) is Required or (
            name in hints
            and name not in ("weight_bits", "sparsity", "activation_bits")
            and get_origin(hints[name]) is not NotRequired
        ):
            assert refused(lambda name=name: LayerSpec.from_dict({k: v for k, v in layer.items() if k != name}))  # type: ignore[misc]


@pytest.mark.parametrize("source", DATASETS)
def test_options_of_datasets(source: str) -> None:
    function = DATASETS[source]
    given = {"path": "a.npz", "label": "y", "labels": "b.npy", "frames_file": "a", "peaks_file": "b"}
    given = {name: value for name, value in given.items() if name in inspect.signature(function).parameters}
    names = list(inspect.signature(function).parameters)
    for name in [n for n in names if n != "options"] + (["standardize", "seed", "fractions"] if "options" in names else []):
        for value in HOSTILE.values():
            message = refused(lambda name=name, value=value: check_arguments(function, given | {name: value}, source))  # type: ignore[misc]
            assert not message or message.startswith(f"{source}: {name}")


def test_other_things_that_users_make() -> None:
    for value in HOSTILE.values():
        assert refused(lambda value=value: Task(value, 2))  # type: ignore[misc]
        refused(lambda value=value: Task("classification", value))  # type: ignore[misc]
        refused(lambda value=value: Precision(value, 2))  # type: ignore[misc]
        refused(lambda value=value: Precision(8, value))  # type: ignore[misc]
        assert refused(lambda value=value: Precision.parse(value))  # type: ignore[misc]
        assert refused(lambda value=value: Architecture.from_dict(value))  # type: ignore[misc]
        refused(lambda value=value: HlsOptions.of(clock_period=value))  # type: ignore[misc]
    for text in ("ap_fixed<100,2>", "ap_fixed<400,2>", "ap_fixed<8,1000>", f"ap_fixed<{'9' * 5000},2>"):
        assert refused(lambda text=text: Precision.parse(text))  # type: ignore[misc]


@pytest.mark.parametrize(
    ("kind", "options", "message"),
    [
        (SearchSettings, {"evaluation": 2}, "there is no setting 'evaluation': there are objectives, budgets"),
        (SearchSettings, {"population": "many"}, r"population: Input should be a valid integer .*got 'many'"),
        (SearchSettings, {"training": {"epochs": 0}}, "training.epochs: Input should be greater than 0"),
        (CompressSettings, {"prune_output": "no"}, "prune_output: Input should be true or false"),
    ],
)
def test_wrong_keyword_arguments_of_stages(kind: Any, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=f"^{message}"):
        with_options(kind, None, options)
    with pytest.raises(ConfigError, match=f"settings must be {kind.__name__}, not {{"):
        with_options(kind, options, {})  # type: ignore[type-var]


def test_a_single_value_stands_for_a_list() -> None:
    assert with_options(CompressSettings, None, {"bits": 8}).bits == ((8, 8),)
    assert with_options(SearchSettings, None, {"estimators": "rule4ml"}).estimators == ("rule4ml",)


def test_schedules_that_need_genes() -> None:
    message = refused(lambda: RunSettings(**RUN, compress={"schedule": "searched"}))
    assert "the space has no such genes" in message


def test_functions_are_checked_like_settings() -> None:
    @checked
    def function(a: Seed, *, flag: bool = False, values: tuple[int, ...] = ()) -> Any:
        return a, flag, values

    assert function(np.int64(3), values=2) == (3, False, (2,))  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match=r"^function: flag: Input should be true or false .got 'no'"):
        function(1, flag="no")  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match=r"^function: a: "):
        function(-1)
    with pytest.raises(TypeError):
        function()  # type: ignore[call-arg]


@pytest.mark.parametrize("seed", [True, "1", -1, 0.5, None, 2**63, float("nan")])
def test_what_is_no_seed(seed: Any) -> None:
    assert valid_seed(np.int64(3)) == 3
    with pytest.raises(ConfigError, match=r"^seed: "):
        valid_seed(seed)


def test_values_in_messages_are_short() -> None:
    class Rude:
        def __repr__(self) -> str:
            raise RuntimeError

    assert shown(Rude()) == "a value of type Rude"
    assert len(shown("x" * 1000)) == 60
    assert shown(10**5000) == "a value of type int"
