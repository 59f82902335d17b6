"""Classical methods of a run: scored, recorded, refused where they are for other data."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from kerasnac.core.settings import ReferenceSettings
from kerasnac.datasets import bragg_peaks, from_arrays, qubit_readout
from kerasnac.errors import ConfigError
from kerasnac.stages.references import classical
from kerasnac.stages.references.classical import best_of_each
from kerasnac.stages.results.saved import open_run
from kerasnac.stages.run import Run
from kerasnac.ui.references import classical_table
from kerasnac.ui.tables import as_text

pytestmark = pytest.mark.usefixtures("in_process")


def test_peaks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = bragg_peaks(400)
    settings = ReferenceSettings.model_validate({"centre_of_mass": None, "pseudo_voigt": {"samples": 20}})
    with Run(tmp_path / "run", data) as run:
        mass, fit = run.classical_methods(settings)
        mass_score, fit_score = run.test_classical([mass, fit])
        distances = run.curves([mass, fit])["pseudo_voigt"]
    assert [(p.name, p.samples) for p in (mass, fit)] == [("centre_of_mass", 60), ("pseudo_voigt", 20)]
    assert fit.metrics["distance"] < mass.metrics["distance"] < 0.4
    assert fit.microseconds > mass.microseconds > 0
    assert fit_score.value < mass_score.value
    assert distances.counts.sum() == 20  # type: ignore[union-attr]
    assert (tmp_path / "run" / "classical.csv").read_text().startswith("model,distance,microseconds,samples,note")
    records = (tmp_path / "run" / "classical.jsonl").read_bytes()
    assert [json.loads(line)["model"] for line in records.splitlines()] == ["centre_of_mass", "pseudo_voigt"]
    text = as_text(classical_table([mass, fit], data.task, {"pseudo_voigt": fit_score}))
    assert str(fit_score) in text

    def never(*arguments: object) -> None:
        raise AssertionError("it was computed again")

    monkeypatch.setattr(classical, "pseudo_voigt", never)
    with Run(tmp_path / "run", data) as run:
        again = run.classical_methods(settings)
        assert run.test_classical(again) == (mass_score, fit_score)
    saved = open_run(tmp_path / "run")
    assert [(p.name, p.method, p.note) for p in saved.classical] == [(p.name, p.method, p.note) for p in (mass, fit)]
    assert saved.test["pseudo_voigt"] == fit_score
    assert saved.curves["pseudo_voigt"].mean == pytest.approx(fit_score.value)  # type: ignore[union-attr]
    assert [(p.metrics, p.microseconds) for p in again] == [(p.metrics, p.microseconds) for p in (mass, fit)]
    assert (tmp_path / "run" / "classical.jsonl").read_bytes() == records


def test_filters_of_every_window(tmp_path: Path) -> None:
    data = qubit_readout(1200, samples=80, period=25.0, photons=20.0)
    with Run(tmp_path / "run", data) as run:
        points = run.classical_methods(matched_filter={"starts": [0, 40], "lengths": [40, 80]}, boxcar={})
        scores = run.test_classical(points)
    names = ["matched_filter[0:40]", "matched_filter[0:80]", "matched_filter[40:80]"]
    assert [p.name for p in points] == [*names, "boxcar[0:10]", "boxcar[0:20]", "boxcar[0:40]", "boxcar[0:80]"]
    assert points[1].metrics["accuracy"] > points[0].metrics["accuracy"]
    assert points[1].note == "80 samples, 160 products"
    assert {p.method for p in best_of_each(points, data.task)} == {"matched_filter", "boxcar"}
    assert scores[1].value > 0.9
    assert "boxcar[0:80]" in as_text(classical_table(points, data.task, {}))


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("pseudo_voigt", r"pseudo_voigt is for patches \(rows, columns, 1\) .*flat has samples of shape \(4,\)"),
        ("boxcar", r"boxcar is for traces \(samples, 2\) of I and Q .*is a classification with 2 outputs: leave it out"),
    ],
)
def test_refused_data(name: str, message: str, tmp_path: Path) -> None:
    data = from_arrays(np.random.default_rng(0).normal(size=(60, 4)), np.arange(60) % 2, name="flat")
    with Run(tmp_path / "run", data) as run, pytest.raises(ConfigError, match=message):
        run.classical_methods(ReferenceSettings.model_validate([name]))


def test_refused_windows() -> None:
    data = qubit_readout(60, samples=8)
    settings = ReferenceSettings.model_validate({"boxcar": {"starts": [4], "lengths": [6]}})
    with pytest.raises(ConfigError, match=r"boxcar: none of the windows \(starts \(4,\), lengths \(6,\)\) is within the 8"):
        classical.check_classical(settings, data.development)
