"""Runs that are resumed, and folders that are not to be used."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from kerasnac.adapters.keras.member import Fit
from kerasnac.core.data.dataset import Dataset
from kerasnac.core.network.trained import Trained
from kerasnac.core.network.training import Training
from kerasnac.core.settings import CompressSettings, SearchSettings, TuneSettings
from kerasnac.core.space.search_space import SearchSpace
from kerasnac.core.store.journal import Journal
from kerasnac.errors import RunError
from kerasnac.stages.compress import qat
from kerasnac.stages.run import Run
from kerasnac.stages.run import session as run_stage
from tests.networks import mlp, normal_weights, toy_data
from tests.stages.search.instant import Instant, essence
from tests.stand_ins import Formula

ROOT = Path(__file__).parents[2]

#: A block of a user's own, as a script or a notebook defines it anew whenever it is started.
OWN_BLOCK = """
from typing import Literal

from kerasnac.core.network.layers import LayerSpec
from kerasnac.core.space.blocks import Block
from kerasnac.core.space.blocks.base import Choice, Values


class Twins(Block):
    block: Literal["twins"] = "twins"
    widths: Values[int]

    def choices(self):
        return (Choice("units", self.widths),)

    def layers(self, picks, shape):
        for _ in range(2):
            yield LayerSpec.of("dense", units=picks["units"])
            yield LayerSpec.of("activation", fn="relu")
"""

TRAINING = Training(epochs=1, batch_size=64)


def own_space() -> SearchSpace:
    names: dict[str, Any] = {"__name__": "mine"}
    exec(compile(OWN_BLOCK, "mine.py", "exec", dont_inherit=True), names)
    return SearchSpace(input=6, outputs=3, blocks=(names["Twins"](widths=tuple(range(2, 22))),))


def test_a_space_with_a_block_of_the_users_own_resumes(
    vector_classes: Dataset, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    workers: list[Instant] = []

    def search(folder: Path, fails_after: int | None = None) -> Any:
        workers.append(Instant(fails_after=fails_after))
        monkeypatch.setattr(run_stage, "LocalWorkers", lambda *arguments: workers[-1])
        with Run(folder, vector_classes, seed=5) as run:
            return run.search(own_space(), SearchSettings(population=4, evaluations=12, training=TRAINING))

    whole = search(tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        search(tmp_path / "cut", fails_after=7)
    resumed = search(tmp_path / "cut")
    again = search(tmp_path / "cut")
    assert essence(resumed) == essence(again) == essence(whole)
    assert [len(each.jobs) for each in workers] == [12, 7, 5, 0]
    assert "twins" not in str(whole.front[0].candidate), "the journal holds layers, not blocks"


class TestAnotherRun:
    """A folder belongs to one run."""

    @pytest.fixture
    def folder(self, vector_classes: Dataset, tmp_path: Path) -> Iterator[Path]:
        with Run(tmp_path, vector_classes, seed=3):
            pass
        before = (tmp_path / "run.json").read_bytes()
        yield tmp_path
        assert (tmp_path / "run.json").read_bytes() == before

    def test_the_same_data_and_seed(self, folder: Path, vector_classes: Dataset) -> None:
        with Run(folder, vector_classes, seed=3) as run:
            assert run.folder == folder

    def test_other_data(self, folder: Path, vector_values: Dataset) -> None:
        with pytest.raises(RunError, match=f"{folder}.*other data"):
            Run(folder, vector_values, seed=3)

    def test_one_other_sample(self, folder: Path) -> None:
        data = toy_data()
        with Run(folder / "toy", data):
            pass
        with pytest.raises(RunError, match="other data"):
            Run(folder / "toy", toy_data(seed=1))

    def test_another_seed(self, folder: Path, vector_classes: Dataset) -> None:
        with pytest.raises(RunError, match=r"another seed.*3.*4"):
            Run(folder, vector_classes, seed=4)


#: Keeps a run folder until it is ended.
HOLDER = """
import sys, time

from kerasnac.stages.run import Run
from tests.networks import toy_data

with Run(sys.argv[1], toy_data()):
    print("held", flush=True)
    time.sleep(600)
"""


def test_a_folder_is_one_process_at_a_time_and_free_after_a_kill(tmp_path: Path) -> None:
    command = [sys.executable, "-c", HOLDER, str(tmp_path)]
    holder = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    try:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(RunError, match=f"{tmp_path}.*in use"):
            Run(tmp_path, toy_data())
        second = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
        assert second.returncode != 0
        assert "in use" in second.stderr
        assert second.stdout == ""
    finally:
        holder.kill()
        holder.communicate()
    with Run(tmp_path, toy_data()):
        pass


@contextmanager
def killed_before_record(number: int, journal: str) -> Iterator[None]:
    """The block ends where a record with this number, from 0, would be appended to a journal."""
    append, left = Journal.append, number

    def dying(self: Journal, record: Any) -> None:
        nonlocal left
        if self.path.name == journal:
            if left == 0:
                raise KeyboardInterrupt
            left -= 1
        append(self, record)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Journal, "append", dying)
        with pytest.raises(KeyboardInterrupt):
            yield


def saved(folder: Path) -> dict[str, tuple[Trained, dict[str, Any]]]:
    """All models in a folder, with their weights as lists, which can be compared."""
    models = {path.parent.name: Trained.load(path.parent) for path in folder.glob("*/model.json")}
    return {name: (model, {key: value.tolist() for key, value in model.weights.items()}) for name, model in models.items()}


def records(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


NETWORK = mlp(6, 5, 3)
START = Trained("small", NETWORK, normal_weights(NETWORK, scale=0.5), TRAINING, {"accuracy": 0.8, "loss": 1.0}, 0)


@pytest.mark.usefixtures("in_process")
class TestBetweenSavingAndRecording:
    @pytest.mark.parametrize("recorded", range(6))
    def test_in_the_tuning(self, recorded: int, formula: Formula, vector_classes: Dataset, tmp_path: Path) -> None:
        baseline = {"name": "known", "architecture": NETWORK.to_dict()}
        settings = TuneSettings.model_validate({"trials": 4, "epochs": 2, "repeats": 2, "baselines": [baseline]})

        def tune(folder: Path) -> tuple[Trained, ...]:
            with Run(folder, vector_classes) as run:
                return run.tune((), settings)

        whole = tune(tmp_path / "whole")
        assert len(formula.calls) == 6
        with killed_before_record(recorded, "tune.jsonl"):
            tune(tmp_path / "cut")
        assert len(records(tmp_path / "cut/tune.jsonl")) == recorded
        assert saved(tmp_path / "cut/tuned"), "a model is saved before its record"
        formula.calls.clear()
        assert tune(tmp_path / "cut") == whole
        assert len(formula.calls) == 6 - recorded, "what is recorded is not trained again"
        assert records(tmp_path / "cut/tune.jsonl") == records(tmp_path / "whole/tune.jsonl")
        assert saved(tmp_path / "cut/tuned") == saved(tmp_path / "whole/tuned")

    @pytest.mark.parametrize("recorded", range(3))
    def test_in_the_compression(
        self, recorded: int, monkeypatch: pytest.MonkeyPatch, vector_classes: Dataset, tmp_path: Path
    ) -> None:
        trained: list[int] = []

        def fit(data: Any, job: Any, start: Any, training: Any, before: Sequence[Trained]) -> Fit:
            """Prune another weight of the point before; the metric follows from the weights."""
            trained.append(len(before))
            weights = dict(before[-1].weights if before else start.weights)
            kernel = weights["dense_0/kernel"].copy()
            kernel.flat[len(before)] = 0
            return Fit({**weights, "dense_0/kernel": kernel}, float(np.abs(kernel).mean()), 1.0, 1, 0.1)

        def compress(folder: Path) -> Any:
            with Run(folder, vector_classes) as run:
                return run.compress([START], CompressSettings(bits=(6,), iterations=2, epochs=1))

        monkeypatch.setattr(qat, "_fit", fit)
        whole = compress(tmp_path / "whole")
        with killed_before_record(recorded, "compress.jsonl"):
            compress(tmp_path / "cut")
        assert len(records(tmp_path / "cut/compress.jsonl")) == recorded
        assert len(saved(tmp_path / "cut/compressed")) == recorded + 1, "a model is saved before its record"
        assert compress(tmp_path / "cut") == whole
        assert trained == [0, 1, 2, *range(recorded + 1), *range(recorded, 3)], "what is recorded is not trained again"
        assert records(tmp_path / "cut/compress.jsonl") == records(tmp_path / "whole/compress.jsonl")
        assert saved(tmp_path / "cut/compressed") == saved(tmp_path / "whole/compressed")
