"""Tuning: what is promised, resumed and recorded; most tests train by a formula."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from kerasnac.adapters.keras import train
from kerasnac.adapters.keras.member import Fit
from kerasnac.core.data.dataset import Dataset
from kerasnac.core.network.architecture import Architecture
from kerasnac.core.network.origin import TuningOrigin
from kerasnac.core.network.trained import Trained
from kerasnac.core.network.training import Training
from kerasnac.core.search.evaluation import Evaluation, Fidelity
from kerasnac.core.settings import TuneSettings
from kerasnac.core.space.references import Reference
from kerasnac.core.space.search_space import Candidate
from kerasnac.core.store.progress import Step
from kerasnac.core.store.seeding import derive_seed
from kerasnac.errors import ConfigError, DataError, TrialError
from kerasnac.stages.context import Context
from kerasnac.stages.tune import check_tune, tune
from tests.events import counted
from tests.networks import mlp
from tests.stand_ins import Formula, InProcess

START = Training(epochs=2, learning_rate=0.01, batch_size=64)
#: As few trials as keras-tuner draws at random: its Gaussian process takes seconds for every further one.
SETTINGS = TuneSettings(trials=4, epochs=3, patience=None)


def evaluation(architecture: Architecture, seed: int = 7) -> Evaluation:
    return Evaluation(0, 0, (0,), "ok", Candidate(architecture), {}, Fidelity(2, 1.0, 1, ""), seed, search_training=START)


def tuned(data: Dataset, folder: Path, settings: TuneSettings = SETTINGS, **options: Any) -> tuple[Trained, ...]:
    chosen = options.pop("chosen", [evaluation(mlp(6, 4, 3))])
    workers: Any = InProcess(data.development)
    return tune(chosen, settings, Context(data.development, workers, folder, **options))


def changed(settings: TuneSettings = SETTINGS, **changes: Any) -> TuneSettings:
    return TuneSettings.model_validate(settings.model_dump(exclude_unset=True) | changes)


def records(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "tune.jsonl").read_text().splitlines()]


class TestTrials:
    def test_the_first_repeats_the_search_and_the_second_only_its_settings(
        self, formula: Formula, vector_classes: Dataset, tmp_path: Path
    ) -> None:
        tuned(vector_classes, tmp_path)
        (_, _, first, seed), (_, _, second, _), *_ = formula.calls
        assert (first, seed) == (START, 7)
        assert second == replace(START, epochs=3, weight_decay=1e-6)
        assert len(formula.calls) == 4

    def test_the_best_on_validation_is_kept(self, formula: Formula, vector_classes: Dataset, tmp_path: Path) -> None:
        (model,) = tuned(vector_classes, tmp_path)
        trials = [r["accuracy"] for r in records(tmp_path)]
        assert model.metrics == {"accuracy": max(trials), "loss": 1 - max(trials)}
        assert model.origin == TuningOrigin(mlp(6, 4, 3).id, tuple(trials))
        assert model.weights["dense_0/kernel"][0, 0] == np.float32(max(trials))
        saved = Trained.load(tmp_path / "tuned" / model.name)
        assert saved == model
        assert np.array_equal(saved.weights["dense_0/kernel"], model.weights["dense_0/kernel"])

    def test_a_trial_that_diverged_is_beaten_by_any_other(
        self, formula: Formula, vector_classes: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def diverging(*arguments: Any, **options: Any) -> Fit:
            fit = formula(*arguments, **options)
            return replace(fit, metric=float("nan"), loss=float("nan")) if len(formula.calls) in (1, 2) else fit

        monkeypatch.setattr(train, "fit", diverging)
        (model,) = tuned(vector_classes, tmp_path)
        assert model.metrics["accuracy"] == max(r["accuracy"] for r in records(tmp_path)[2:])

    def test_hyperparameters_that_are_given_are_set_and_others_stay(
        self, formula: Formula, vector_classes: Dataset, tmp_path: Path
    ) -> None:
        tuned(vector_classes, tmp_path, changed(optimizer="sgd", label_smoothing=0.1, batch_size=None))
        for _, _, training, _ in formula.calls[1:]:
            assert (training.optimizer, training.label_smoothing, training.batch_size, training.l1) == ("sgd", 0.1, 64, 0.0)

    def test_a_failure_shows_the_architecture(
        self, vector_classes: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def broken(*arguments: Any, **options: Any) -> None:
            raise RuntimeError("no")

        monkeypatch.setattr(train, "fit", broken)
        with pytest.raises(TrialError, match=r"tuning \[dense-4 relu dense-3\] with Training"):
            tuned(vector_classes, tmp_path)


FULL = changed(repeats=3, baselines=[{"name": "wide", "architecture": mlp(6, 9, 3).to_dict()}])


class TestResume:
    @pytest.mark.parametrize("after", [0, 1, 4, 6, 9, 13])
    @pytest.mark.parametrize("folds", [1, 2])
    def test_an_interrupted_tuning_ends_as_one_that_never_was(
        self, folds: int, after: int, formula: Formula, vector_classes: Dataset, tmp_path: Path
    ) -> None:
        settings = changed(FULL, folds=folds)
        whole = tuned(vector_classes, tmp_path / "whole", settings)
        trainings = len(formula.calls)
        assert trainings == 2 * (4 * folds + (folds > 1) + 3)
        formula.left = after
        with pytest.raises(KeyboardInterrupt):
            tuned(vector_classes, tmp_path / "cut", settings)
        path = tmp_path / "cut" / "tune.jsonl"
        if path.exists():  # A crash may tear the last record.
            path.write_bytes(path.read_bytes() + b'{"key": "')
        formula.left = None
        assert tuned(vector_classes, tmp_path / "cut", settings) == whole
        assert records(tmp_path / "cut") == records(tmp_path / "whole")
        assert len(formula.calls) <= 2 * trainings + (folds - 1)

        assert tuned(vector_classes, tmp_path / "cut", settings) == whole
        assert len(formula.calls) <= 2 * trainings + (folds - 1)  # Nothing is trained again.

    def test_repeats_and_baselines_can_be_added_later(self, formula: Formula, vector_classes: Dataset, tmp_path: Path) -> None:
        (before,) = tuned(vector_classes, tmp_path)
        after, _ = tuned(vector_classes, tmp_path, FULL)
        assert len(formula.calls) == 4 + 3 + 4 + 3
        assert before.metrics.items() <= after.metrics.items()
        more, _ = tuned(vector_classes, tmp_path, changed(FULL, repeats=4))
        assert len(formula.calls) == 14 + 2
        assert more.metrics["accuracy_mean"] != after.metrics["accuracy_mean"]

    def test_other_settings_in_the_same_folder_do_not_mix_up_the_models(
        self, formula: Formula, vector_classes: Dataset, tmp_path: Path
    ) -> None:
        first = tuned(vector_classes, tmp_path)
        assert tuned(vector_classes, tmp_path, changed(dropout=0.1)) != first
        again = tuned(vector_classes, tmp_path)
        assert again == first
        assert np.array_equal(again[0].weights["dense_0/kernel"], first[0].weights["dense_0/kernel"])


class TestRepeats:
    def test_they_are_trained_with_other_seeds_and_recorded(
        self, formula: Formula, vector_classes: Dataset, tmp_path: Path
    ) -> None:
        (model,) = tuned(vector_classes, tmp_path, changed(repeats=3))
        repeats = [r for r in records(tmp_path) if r["kind"] == "repeat"]
        values = [r["accuracy"] for r in repeats]
        assert [r["number"] for r in repeats] == [1, 2, 3]
        assert model.metrics["accuracy_mean"] == repeats[-1]["accuracy_mean"] == pytest.approx(np.mean(values))
        assert model.metrics["accuracy_std"] == repeats[-1]["accuracy_std"] == pytest.approx(np.std(values, ddof=1))
        assert model.metrics["accuracy"] == max(model.origin_as(TuningOrigin).trials), "the best trial's model is kept"
        assert {training for _, _, training, _ in formula.calls[4:]} == {model.training}
        assert len({seed for *_, seed in formula.calls}) == 7


class TestFolds:
    def test_trials_are_scored_by_the_mean_and_the_best_is_trained_once(
        self, formula: Formula, vector_classes: Dataset, tmp_path: Path
    ) -> None:
        (model,) = tuned(vector_classes, tmp_path, changed(folds=3))
        development = vector_classes.development
        everything = len(development.train) + len(development.validation)
        sizes = [size for _, size, *_ in formula.calls]
        assert sizes == [everything * 2 // 3] * 12 + [len(development.train)]
        best = max(records(tmp_path), key=lambda r: r["accuracy"])
        assert (model.training.to_dict().items()) <= best.items()
        assert best["accuracy_std"] > 0
        assert model.seed == formula.calls[3 * best["number"]][3] == formula.calls[-1][3]
        assert model.metrics.keys() == {"accuracy", "loss"}


class TestBaselines:
    def test_they_get_the_same_trials_from_the_same_start(
        self, formula: Formula, vector_classes: Dataset, tmp_path: Path
    ) -> None:
        steps: list[Step] = []
        models = tuned(vector_classes, tmp_path, FULL, progress=steps.append)
        assert [model.name for model in models] == [mlp(6, 4, 3).id, "wide"]
        calls = {units: [call for call in formula.calls if call[0] == mlp(6, units, 3)] for units in (4, 9)}
        assert len(calls[4]) == len(calls[9]) == 4 + 3
        assert [c[2] for c in calls[4][:2]] == [c[2] for c in calls[9][:2]]
        assert calls[9][0][3] == derive_seed(0, "train", mlp(6, 9, 3).id), "the seed that the search would have used"
        assert (counted(steps)[-1].done, counted(steps)[-1].total) == (14, 14)

    def test_one_that_was_chosen_is_tuned_once_under_its_name(
        self, formula: Formula, vector_classes: Dataset, tmp_path: Path
    ) -> None:
        (model,) = tuned(vector_classes, tmp_path, FULL, chosen=[evaluation(mlp(6, 9, 3))])
        assert (model.name, model.origin_as(TuningOrigin).candidate) == ("wide", mlp(6, 9, 3).id)
        assert formula.calls[0][3] == 7

    @pytest.mark.parametrize(
        ("architecture", "message"),
        [
            (mlp(5, 4, 3), r"odd: it takes inputs of shape \(5,\), the samples of vectors have \(6,\)"),
            (mlp(6, 4, 2), r"odd: its outputs have shape \(2,\), vectors needs \(3,\)"),
        ],
    )
    def test_what_does_not_fit_is_refused_before_any_training(
        self, architecture: Architecture, message: str, formula: Formula, vector_classes: Dataset, tmp_path: Path
    ) -> None:
        settings = SETTINGS.model_copy(update={"baselines": (Reference(name="odd", architecture=architecture),)})
        with pytest.raises(ConfigError, match=message) as error:
            tuned(vector_classes, tmp_path, settings)
        assert str(error.value).startswith("tune.baselines: odd: ")
        assert formula.calls == []

    @pytest.mark.parametrize(
        ("names", "units", "message"),
        [
            (["a", "a"], [4, 5], "another baseline has this name"),
            (["a", "b"], [4, 4], "the same network as a"),
            (["../a", "b"], [4, 5], "the name of a folder"),
        ],
    )
    def test_every_baseline_has_a_name_of_its_own(
        self, names: list[str], units: list[int], message: str, vector_classes: Dataset
    ) -> None:
        baselines = tuple(Reference(name=n, architecture=mlp(6, u, 3)) for n, u in zip(names, units, strict=True))
        with pytest.raises(ConfigError, match=message):
            check_tune(vector_classes.development, SETTINGS.model_copy(update={"baselines": baselines}))


def test_labels_of_a_regression_cannot_be_smoothed(vector_values: Dataset) -> None:
    check_tune(vector_values.development, changed(label_smoothing=0))
    with pytest.raises(ConfigError, match=r"tune\.label_smoothing: "):
        check_tune(vector_values.development, changed(label_smoothing=[0, 0.1]))


def test_there_are_as_many_samples_as_folds(vector_classes: Dataset) -> None:
    check_tune(vector_classes.development, changed(folds=50))
    with pytest.raises(DataError, match=r"tune\.folds: vectors: 200 folds need as many samples of every class"):
        check_tune(vector_classes.development, changed(folds=200))


@pytest.mark.usefixtures("keras")
def test_a_real_tuning_is_deterministic_and_never_worse(vector_classes: Dataset, tmp_path: Path) -> None:
    settings = changed(trials=3, optimizer=["adam", "sgd"], l1=[1e-6, 1e-3], label_smoothing=[0, 0.2])
    (first,), (again,) = (tuned(vector_classes, tmp_path / name, settings) for name in ("first", "again"))
    assert first == again
    assert all(np.array_equal(first.weights[key], again.weights[key]) for key in first.weights)
    searched = train.fit(mlp(6, 4, 3), vector_classes.development, START, seed=7)
    assert records(tmp_path / "first")[0]["accuracy"] == searched.metric <= first.metrics["accuracy"]
