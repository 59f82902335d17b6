"""Centres of peaks by fits and by the centre of mass."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.optimize import check_grad

from kerasnac.core.classical.peaks import _Profile, centre_of_mass, pseudo_voigt
from kerasnac.datasets.bragg import simulate

RANGES = {
    "offset": (-1.5, 1.5),
    "fwhm": (1.5, 4.5),
    "lorentzian": (0.0, 1.0),
    "amplitude": (1e5, 1e6),
    "background": (5.0, 50.0),
}


def test_fits_find_bright_peaks_and_begin_at_the_centre_of_mass() -> None:
    patches, centres = simulate(60, 0, **RANGES)
    found, failed = pseudo_voigt(patches)
    assert failed <= 1
    assert np.quantile(np.linalg.norm(found - centres, axis=1), 0.9) < 0.01
    weak, centres = simulate(100, 0, **{**RANGES, "amplitude": (20.0, 500.0)})
    fitted, rough = (np.linalg.norm(one - centres, axis=1) for one in (pseudo_voigt(weak)[0], centre_of_mass(weak)))
    assert fitted.mean() < 0.7 * rough.mean()
    assert rough.mean() < 0.35


def test_scale_and_offset_of_a_patch_do_not_matter() -> None:
    patches, _ = simulate(5, 1, **RANGES)
    scaled = patches / patches.max(axis=(1, 2), keepdims=True)
    np.testing.assert_allclose(pseudo_voigt(scaled + 1)[0], pseudo_voigt(patches)[0], atol=1e-3)
    np.testing.assert_allclose(centre_of_mass(scaled + 1), centre_of_mass(patches), atol=1e-9)


def test_flat_patches_and_noise_have_their_centre_of_mass() -> None:
    flat = np.ones((2, 5, 7))
    found, failed = pseudo_voigt(flat)
    assert failed == 2
    np.testing.assert_allclose(found, [[2, 3]] * 2)
    noise = np.random.default_rng(0).random((20, 11, 11))
    found, failed = pseudo_voigt(noise)
    assert np.isfinite(found).all()
    assert ((found > -0.5) & (found < 10.5)).all()


@pytest.mark.parametrize("seed", range(3))
def test_the_derivatives_are_those_of_the_profile(seed: int) -> None:
    rng = np.random.default_rng(seed)
    rows, columns = np.indices((11, 11), float)
    profile = _Profile(rows.ravel(), columns.ravel(), rng.random(121))
    parameters = np.array([5, 4.6, 1.0, 0.7, 0.4, 0.3, 2.0, 0.1]) + 0.1 * rng.normal(size=8)
    for pixel in rng.integers(121, size=4):
        error = check_grad(lambda p, i=pixel: profile.residuals(p)[i], lambda p, i=pixel: profile.jacobian(p)[i], parameters)
        assert error < 1e-5
