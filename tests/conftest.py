"""Tiny data, spaces and workers that all tests share."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import settings

from kerasnac.core.data.dataset import Dataset, Task, make_dataset
from kerasnac.core.space.blocks import Choose, Conv, Mlp, Nothing
from kerasnac.core.space.search_space import SearchSpace
from tests.stand_ins import Formula, InProcess

if TYPE_CHECKING:
    from pathlib import Path

    from kerasnac.adapters.workers import LocalWorkers
    from tests.damage import Whole

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

#: The C++ compiler of whoever runs the tests.
OWN_COMPILER = os.environ.get("CXX", "").strip() or "g++"

#: Most of the time that a small network takes is that of the headers of its fixed-point numbers. Those of the first project
#: are kept; where the compiler cannot use them, it reads the text.
QUICK_COMPILER = """#!/bin/bash
set -- "${@/-O3/-O0}"
set -- "${@/-std=c++23/-std=c++17}"
if [[ " $* " == *" -c "* && -f firmware/ap_types/ap_fixed.h ]]; then
    headers="HEADERS"
    if [[ ! -f $headers ]]; then
        printf '#include <%s>\\n' ap_fixed.h ap_int.h array cmath fstream iostream map sstream tuple > "$headers.$$"
        COMPILER ${*%% -c *} -x c++-header "$headers.$$" -o "$headers.gch.$$"
        mv "$headers.gch.$$" "$headers.gch"
        mv "$headers.$$" "$headers"
    fi
    set -- -include "$headers" "$@"
fi
exec COMPILER "$@"
"""

settings.register_profile("kerasnac", derandomize=True, deadline=None, max_examples=60)
settings.load_profile("kerasnac")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if not config.getoption("-m"):
        for item in items:
            if "slow" in item.keywords:
                item.add_marker(pytest.mark.skip(reason="slow: run with -m slow"))


def _shared(factory: pytest.TempPathFactory) -> Path:
    """A folder that all processes of a session share."""
    base = factory.getbasetemp()
    return base.parent if "PYTEST_XDIST_WORKER" in os.environ else base


@pytest.fixture(scope="session", autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Compiled emulations of the tests stay among the tests."""
    shared = _shared(tmp_path_factory)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("KERASNAC_CACHE", str(shared / "cache"))
        yield


@pytest.fixture(scope="session", autouse=True)
def quick_compiler(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """The C++ compiler without optimisation, with an older standard and precompiled headers: two fifths of the time."""
    script = tmp_path_factory.mktemp("compiler") / "c++"
    headers = _shared(tmp_path_factory) / "headers.h"
    script.write_text(QUICK_COMPILER.replace("COMPILER", OWN_COMPILER).replace("HEADERS", str(headers)))
    script.chmod(0o755)
    with pytest.MonkeyPatch.context() as patch:
        if shutil.which(OWN_COMPILER.split()[0]):
            patch.setenv("CXX", str(script))
        yield


@pytest.fixture
def own_compiler(monkeypatch: pytest.MonkeyPatch) -> None:
    """The C++ compiler as hls4ml calls it."""
    monkeypatch.setenv("CXX", OWN_COMPILER)


@pytest.fixture(scope="session")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Whole:
    """A finished run of all stages, whose trainings are formulas."""
    from tests.damage import make_whole

    return make_whole(tmp_path_factory.mktemp("whole"))


@pytest.fixture
def folder(whole: Whole, tmp_path: Path) -> Path:
    """A copy of its folder."""
    from tests.damage import FOLDER

    shutil.copytree(whole.place / FOLDER, tmp_path / "run", symlinks=True)
    return tmp_path / "run"


@pytest.fixture(scope="session")
def keras() -> Any:
    """Legacy Keras, on one thread and deterministic."""
    from kerasnac.adapters.keras.runtime import become_worker, tensorflow

    become_worker()
    return tensorflow().keras


@pytest.fixture(scope="session")
def da4ml() -> Any:
    """The package that makes adder graphs; tests of what it has a part in are skipped without."""
    return pytest.importorskip("da4ml")


@pytest.fixture
def in_process(keras: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs work in this process, where TensorFlow is already imported; tests of the workers are elsewhere."""
    monkeypatch.setattr("kerasnac.stages.run.session.LocalWorkers", InProcess)


@pytest.fixture
def formula(monkeypatch: pytest.MonkeyPatch) -> Formula:
    """Trainings cost nothing."""
    made = Formula()
    monkeypatch.setattr("kerasnac.adapters.keras.train.fit", made)
    return made


@pytest.fixture(scope="session")
def vector_classes() -> Dataset:
    """Three classes of vectors with six features."""
    rng = np.random.default_rng(0)
    y = np.arange(300) % 3
    centres = rng.normal(size=(3, 6))
    return make_dataset(centres[y] + 0.5 * rng.normal(size=(300, 6)), y, name="vectors", task=Task("classification", 3), seed=0)


@pytest.fixture(scope="session")
def vector_values() -> Dataset:
    """Two values that are linear in six features."""
    rng = np.random.default_rng(1)
    x = rng.normal(size=(300, 6))
    return make_dataset(x, x @ rng.normal(size=(6, 2)), name="values", task=Task("regression", 2, unit="mm"), seed=0)


@pytest.fixture(scope="session")
def map_positions() -> Dataset:
    """The centre of a bright spot on an 8x8 map."""
    rng = np.random.default_rng(2)
    y = rng.uniform(2, 5, size=(300, 2))
    rows, columns = np.mgrid[:8, :8]
    x = np.exp(-((rows - y[:, :1, None]) ** 2) - (columns - y[:, 1:, None]) ** 2)
    return make_dataset(x[..., None], y / 8, name="spots", task=Task("regression", 2, scale=8, unit="px"), seed=0)


@pytest.fixture(scope="session")
def map_classes(map_positions: Dataset) -> Dataset:
    """Whether the bright spot is left or right."""
    train = map_positions.development.train
    left = (train.y[:, 1] < np.median(train.y[:, 1])).astype(int)
    return make_dataset(train.x, left, name="sides", task=Task("classification", 2), seed=0)


@pytest.fixture(scope="session")
def mlp_space() -> SearchSpace:
    """24 candidates for ``vector_classes``."""
    return SearchSpace(
        input=6,
        outputs=3,
        blocks=(Mlp(widths=((4, 8, 12), (4, 6, 8)), depth=(1, 2), activation=("relu", "tanh"), shared=True),),
    )


@pytest.fixture(scope="session")
def conv_space() -> SearchSpace:
    """Convolutions, or none, before a small MLP for ``map_positions``."""
    early = Choose(options=(Conv(channels=(2, 4), norm=("none", "batch")), Nothing()), repeat=2)
    return SearchSpace(input=(8, 8, 1), outputs=2, blocks=(early, Mlp(widths=((4, 8),))))


@pytest.fixture(scope="session")
def workers(vector_classes: Dataset) -> Iterator[LocalWorkers]:
    """Two processes that hold ``vector_classes``."""
    from kerasnac.adapters.workers import LocalWorkers

    with LocalWorkers(vector_classes.development, 2) as pool:
        yield pool
