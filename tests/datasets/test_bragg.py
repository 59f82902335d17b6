"""Simulated Bragg peaks: determinism, scaling, and labels that are where the photons are."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from kerasnac.core.data import Array
from kerasnac.core.precision import Precision
from kerasnac.datasets.bragg import SIZE, bragg_peaks, simulate
from kerasnac.errors import ConfigError

RANGES: dict[str, Any] = {
    "offset": (-1.5, 1.5),
    "fwhm": (1.5, 4.5),
    "lorentzian": (0.0, 1.0),
    "amplitude": (50.0, 5000.0),
    "background": (5.0, 50.0),
}


def centre_of_mass(patches: Array) -> Array:
    """(row, column) of the intensity above the median, shape (n, 2), in pixels."""
    above = np.clip(patches - np.median(patches, axis=(1, 2), keepdims=True), 0, None)
    pixels, total = np.arange(SIZE), above.sum(axis=(1, 2))
    return np.stack([above.sum(axis=2) @ pixels / total, above.sum(axis=1) @ pixels / total], axis=1)


def test_what_the_dataset_declares() -> None:
    dataset = bragg_peaks(300, input_bits=6)
    assert dataset.input_shape == (11, 11, 1)
    assert dataset.input_grid == Precision(6, 0, signed=False)
    assert (dataset.task.kind, dataset.task.outputs, dataset.task.unit) == ("regression", 2, "px")
    assert dataset.task.names == ("row", "col")


def test_patches_fill_the_grid_and_only_the_brightest_pixels_saturate() -> None:
    dataset = bragg_peaks(1000)
    x = dataset.development.train.x
    np.testing.assert_array_equal(x.min(axis=(1, 2, 3)), 0)
    np.testing.assert_array_equal(x.max(axis=(1, 2, 3)), 1 - 2**-8)
    assert 1 / 121 <= dataset.development.saturated < 2 / 121


def test_centre_of_mass_agrees_with_the_labels() -> None:
    dataset = bragg_peaks(2000)
    train = dataset.development.train
    found = centre_of_mass(train.x[..., 0].astype(np.float64)) / SIZE
    for axis in (0, 1):
        assert np.corrcoef(found[:, axis], train.y[:, axis])[0, 1] > 0.97
    assert dataset.task.score(found, train.y) < 0.15  # pixels; always guessing the middle gives 1.15


def test_labels_stay_within_the_offset() -> None:
    labels = bragg_peaks(2000, offset=(-1.0, 2.0)).development.train.y * SIZE - 5
    assert labels.min() == pytest.approx(-1, abs=0.02)
    assert labels.max() == pytest.approx(2, abs=0.02)


def test_the_seed_fixes_everything() -> None:
    first, again, other = (bragg_peaks(100, seed).development.fingerprint for seed in (3, 3, 4))
    assert first == again
    assert first != other


def test_a_patch_does_not_depend_on_how_many_there_are() -> None:
    for few, many in zip(simulate(20, 7, **RANGES), simulate(50, 7, **RANGES), strict=True):
        np.testing.assert_array_equal(few, many[:20])


@pytest.mark.parametrize(("lorentzian", "at_twice_the_half_width"), [(0.0, 1 / 16), (1.0, 1 / 5)])
def test_profile(lorentzian: float, at_twice_the_half_width: float) -> None:
    """Half the maximum at half the width, and the tails of a Gaussian or a Lorentzian."""
    exact = {"offset": (0.0, 0.0), "fwhm": (4.0, 4.0), "amplitude": (1e9, 1e9), "background": (0.0, 0.0)}
    counts, centres = simulate(1, 0, lorentzian=(lorentzian, lorentzian), **exact)
    np.testing.assert_array_equal(centres, [[5, 5]])
    expected = [1, 0.5, at_twice_the_half_width]
    np.testing.assert_allclose(counts[0, 5, [5, 7, 9]] / 1e9, expected, rtol=1e-3)
    np.testing.assert_allclose(counts[0, [5, 7, 9], 5] / 1e9, expected, rtol=1e-3)


def test_noise_is_that_of_photons() -> None:
    dark = {**RANGES, "amplitude": (1.0, 1.0), "background": (400.0, 400.0)}
    corner = simulate(2000, 0, **dark)[0][:, 0, 0]
    assert corner.var() == pytest.approx(400, rel=0.15)


@pytest.mark.parametrize("options", [{"n": 0}, {"fwhm": (3.0, 2.0)}, {"lorentzian": (0.0, 1.5)}, {"amplitude": (0.0, 10.0)}])
def test_refused_options(options: Any) -> None:
    with pytest.raises(ConfigError, match=next(iter(options))):
        bragg_peaks(**options)
