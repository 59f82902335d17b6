"""Keys that must never change by accident: run folders, models and caches are found by them.

A value here changes only with :data:`kerasnac.core.store.keys.SCHEMA`. Renaming a class, adding a field with a default or
reordering fields must leave all of them as they are.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydantic import BaseModel

from kerasnac.adapters.rtl.estimator import AdderGraphEstimator
from kerasnac.core.data.dataset import Dataset, Task, make_dataset
from kerasnac.core.hardware.boards import board
from kerasnac.core.network import training
from kerasnac.core.network.architecture import Architecture
from kerasnac.core.network.layers import LayerSpec
from kerasnac.core.network.origin import CompressionOrigin, TuningOrigin
from kerasnac.core.network.precision import Precision
from kerasnac.core.network.trained import Trained
from kerasnac.core.network.training import Training
from kerasnac.core.settings import (
    AdderGraphSettings,
    CandidateGraphSettings,
    CompressSettings,
    HalvingSettings,
    LearnedSettings,
    MixedSettings,
    QuantizedSettings,
    RampSettings,
    SearchSettings,
    TuneSettings,
)
from kerasnac.core.space.blocks import Conv, Mlp
from kerasnac.core.space.layer_bits import LayerBits
from kerasnac.core.space.search_space import Candidate, SearchSpace
from kerasnac.core.store.keys import SCHEMA, content_key, decisive
from kerasnac.stages import tune
from kerasnac.stages.compress import qat
from kerasnac.stages.compress.learned import LearnedJob
from kerasnac.stages.compress.mixed_precision import PointJob
from kerasnac.stages.compress.qat import CompressJob
from kerasnac.stages.compress.sensitivity import MixedStart
from kerasnac.stages.search import global_search
from kerasnac.stages.search.problem import SearchProblem
from kerasnac.stages.tune import TuneJob

NETWORK = Architecture(
    (4,), (LayerSpec.of("dense", units=3), LayerSpec.of("activation", fn="relu"), LayerSpec.of("dense", units=2))
)
ORIGIN = TuningOrigin("golden", (0.5, 0.75))
MODEL = Trained("golden", NETWORK, {}, Training(epochs=7, patience=2), {"accuracy": 0.75, "loss": 0.5}, 11, ORIGIN)


def quantized() -> Trained:
    formats = [
        replace(layer, weight=Precision(6, 1), bias=Precision(8, 2), activation=Precision(6, 2, signed=False))
        if layer.kind == "dense"
        else layer
        for layer in NETWORK.layers
    ]
    network = replace(NETWORK, layers=tuple(formats), input=Precision(8, 3))
    rng = np.random.default_rng(0)
    weights = {f"{n.name}/{part}": rng.normal(size=w.shape) for n in network.nodes for part, w in n.weights.items()}
    origin = CompressionOrigin("golden", 6, 6, 1)
    return Trained("golden-w6a6-i01", network, weights, Training(), {"accuracy": 0.7}, 3, origin)


@pytest.fixture(scope="module")
def data() -> Dataset:
    x = np.arange(240, dtype=np.float32).reshape(60, 4) % 7
    return make_dataset(x, np.arange(60) % 2, name="golden", task=Task("classification", 2), seed=0, input_grid=Precision(8, 4))


def test_the_schema() -> None:
    assert SCHEMA == 2


def test_of_networks() -> None:
    assert NETWORK.id == "caf85d6a0225"
    assert quantized().architecture.id == "f9469ae502fb"
    assert Candidate(NETWORK, (("learning_rate", 0.01),)).id == "caf85d6a0225-adb927"


def test_of_data(data: Dataset) -> None:
    assert data.development.fingerprint == "a512ccf87c77cb97"


def test_of_trainings_and_models() -> None:
    assert Training().identity == {}
    assert content_key("training", **Training(epochs=7, patience=2).identity) == "33d8ee860839"
    assert content_key("model", **MODEL.identity) == "6c6ff97fe18d"


def test_of_a_space() -> None:
    space = SearchSpace(
        input=(8, 8, 1),
        outputs=2,
        blocks=(Conv(channels=(2, 4), kernel=3, norm=("none", "batch"), repeat=2), Mlp(widths=((4, 8),))),
        training={"learning_rate": (0.001, 0.002)},
    )
    assert content_key("space", **space.identity) == "3223e96495bc"


def test_of_the_stages(data: Dataset) -> None:
    development, folder = data.development, Path("anywhere")
    tuning = TuneJob("golden", Candidate(NETWORK), Training(epochs=3), 5, TuneSettings(trials=4), 1, folder)
    assert tuning.key(development) == "856a682eece6"
    compression = CompressJob(MODEL, 6, 6, CompressSettings(rewind="early", epochs=4), 0, folder)
    assert compression.key(development) == "6a6a76a362a0"
    learned = LearnedJob(MODEL, CompressSettings(schedule="learned", learned=LearnedSettings(epochs=40)), 0, folder)
    assert learned.key(development) == "8274bed9069b"
    start = MixedStart(MODEL, quantized(), CompressSettings(mixed=MixedSettings()), 0, folder)
    assert PointJob(start, LayerBits((("dense_0", 4), ("dense_1", 6)))).key(development) == "05a08f4ce014"


def test_of_a_search_with_learned_widths(data: Dataset) -> None:
    graph = CandidateGraphSettings(weights="trained")
    settings = SearchSettings(learned=RampSettings(epochs=60, points=4), adder_graph=graph)
    assert content_key("search", **decisive(settings, global_search.KEY_FIELDS)) == "222940bc7400"
    space = SearchSpace(input=4, outputs=2, blocks=(Mlp(widths=((3, 4),)),))
    task, fingerprint = data.task, data.development.fingerprint
    fidelities = [
        SearchProblem.of(space, one, task, fingerprint, 1).fidelity(one.training) for one in (settings, SearchSettings())
    ]
    assert [fidelity.key for fidelity in fidelities] == ["eb1f891631ca", "c220f57ce2ba"]
    assert {name: getattr(RampSettings(), name) for name in ("epochs", "cycle", "points")} == {
        "epochs": 120,
        "cycle": 10,
        "points": 8,
    }


def test_of_the_estimators() -> None:
    small = replace(board("vu13p"), lut=1000)
    assert AdderGraphEstimator(CandidateGraphSettings(sparsity=0.75), small, 0).key == "725dc61b7d55"
    assert content_key("adder graph", board="vu13p", settings=AdderGraphSettings(effort="full").identity) == "86ac0d8519c3"


#: Fields of settings that are in a key, and those that change no result: how many there are, when to stop, what else to
#: record, which models to take.
DECIDED: dict[type, tuple[set[str], set[str]]] = {
    SearchSettings: (
        {*global_search.KEY_FIELDS, "training"},
        {"evaluations", "max_hours", "stagnation", "reference_point", "estimators", "clock_period"},
    ),
    TuneSettings: (set(tune.KEY_FIELDS), {"select", "baselines", "repeats"}),
    CompressSettings: (
        {*qat.KEY_FIELDS, "fraction", "sparsities", "rewind_epochs"},
        {
            "bits",
            "iterations",
            "tolerance",
            "patience",
            "cost",
            "estimators",
            "board",
            "clock_period",
            "adder_graph",
            "mixed",
            "learned",
        },
    ),
}


@pytest.mark.parametrize("settings", DECIDED)
def test_every_setting_is_in_the_key_or_known_not_to_matter(settings: type[BaseModel]) -> None:
    inside, outside = DECIDED[settings]
    assert not inside & outside
    assert inside | outside == set(settings.model_fields)


def test_every_hyperparameter_is_in_the_key() -> None:
    assert set(training.KEY_FIELDS) == set(Training.__dataclass_fields__)


#: Fields that came later, with defaults that keep the behaviour: of any settings, and of the search.
LATER = {"max_depth": None, "clock_period": 5.0, "tie_free": False, "smoothness": 3e-5}
LATER_OF_SEARCH = {**LATER, "learned": None}


def _without(later: Mapping[str, Any], settings: dict[str, Any]) -> dict[str, Any]:
    """Return settings, and those inside them, without some fields, which must have some values."""
    assert all(settings.get(name, value) == value for name, value in later.items())
    kept = {name: value for name, value in settings.items() if name not in later}
    return {name: _without(later, value) if isinstance(value, dict) else value for name, value in kept.items()}


def test_defaults_are_no_part_of_a_key_and_so_may_not_change() -> None:
    """A default that changes needs another schema: the keys of old records would mean something else."""
    settings = (SearchSettings, TuneSettings, CompressSettings, CandidateGraphSettings, QuantizedSettings, HalvingSettings)
    later = {kind: LATER_OF_SEARCH if kind is SearchSettings else LATER for kind in settings}
    plain = {kind.__name__: _without(later[kind], kind.model_construct().model_dump(mode="json")) for kind in settings}
    assert content_key("defaults", **plain, training=Training().to_dict()) == "24258c50fec0"


def test_a_key_knows_no_classes_and_no_order() -> None:
    @dataclass(frozen=True)
    class Old:
        a: int
        b: float = 1.0

    @dataclass(frozen=True)
    class Renamed:
        new: str = "added later"
        b: float = 1.0
        a: int = 0

    before, after = decisive(Old(3), ("a", "b")), decisive(Renamed(a=3), ("a", "b", "new"))
    assert content_key("toy", **before) == content_key("toy", **after)
    assert content_key("toy", a=1, b=2) == content_key("toy", b=2, a=1)
    assert content_key("toy", a=1) != content_key("other", a=1)


def test_what_is_no_json_has_no_key() -> None:
    with pytest.raises(TypeError):
        content_key("toy", model=MODEL)
