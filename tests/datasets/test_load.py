"""Datasets by name, with options checked against the function that the name stands for."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from kerasnac.datasets import DATASETS, bragg_peaks, load
from kerasnac.errors import ConfigError


def test_load_calls_the_function() -> None:
    loaded = load("bragg_peaks", n=100, seed=5, input_bits=6)
    assert loaded.development.fingerprint == bragg_peaks(100, 5, input_bits=6).development.fingerprint


def test_files_take_the_options_of_arrays(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", x=np.random.default_rng(0).normal(size=(60, 2)), y=np.arange(60) % 2)
    dataset = load("npz", path=tmp_path / "a.npz", name="mine", input_grid="ap_fixed<10,4>")
    assert (dataset.name, str(dataset.input_grid)) == ("mine", "ap_fixed<10,4>")


def test_unknown_name_lists_all() -> None:
    with pytest.raises(ConfigError, match=f"unknown dataset 'mnist'.*{', '.join(DATASETS)}"):
        load("mnist")


@pytest.mark.parametrize(
    ("name", "allowed"),
    [
        ("bragg_peaks", "n, seed, input_bits, offset"),
        ("jets", "path, constituents, samples, standardize, seed, fractions, input_bits"),
        ("qubit_readout", "n, seed, input_bits, samples, period, kappa"),
        ("braggnn", "frames_file, peaks_file, seed, input_bits"),
        ("iq_readout", "path, labels, task, outputs, name"),
        ("csv", "path, label, features, weight, split, validation_path, test_path, task, outputs, name"),
        ("npz", "path, x, y, weight, split, validation_path, test_path, task, outputs, name, seed, fractions"),
    ],
)
def test_unknown_option_lists_the_allowed_ones(name: str, allowed: str) -> None:
    with pytest.raises(ConfigError, match=f"{name} .*'colour'.*{allowed}"):
        load(name, colour="red")


def test_missing_option_is_named() -> None:
    with pytest.raises(ConfigError, match=r"csv .*'label'"):
        load("csv", path="a.csv")


def test_any_dataset_takes_metrics() -> None:
    data = load("digits", metric="auc", metrics=["accuracy:each"])
    assert data.task.metric == "auc"
    assert len(data.task.metrics) == 10
    plain, same = load("digits"), load("digits", metric="accuracy")
    assert plain.development.fingerprint == same.development.fingerprint != data.development.fingerprint
    with pytest.raises(ConfigError, match="unknown metric 'gini'"):
        load("digits", metric="gini")
