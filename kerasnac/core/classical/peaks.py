"""Centres of peaks in small patches without a network: a centre of mass, and fits of a pseudo-Voigt profile."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]

#: Evaluations of the profile that a fit may take.
EVALUATIONS = 2000

#: Full width at half maximum, in pixels, of the two axes, where a fit begins; they differ, so that the angle matters.
_WIDTHS = (2.6, 2.4)


def centre_of_mass(patches: Array) -> Array:
    """Return the centres of mass of the intensity above the median of each patch.

    Args:
        patches: Shape (patches, rows, columns), any unit.

    Returns:
        (row, column) in pixels, float64 (patches, 2), where the first pixel is 0; of a flat patch its middle.
    """
    patches = np.asarray(patches, np.float64)
    above = np.clip(patches - np.median(patches, axis=(1, 2), keepdims=True), 0, None)
    above[above.sum(axis=(1, 2)) == 0] = 1.0
    total = above.sum(axis=(1, 2))
    row, column = (above.sum(axis=2 - axis) @ np.arange(patches.shape[1 + axis]) / total for axis in (0, 1))
    return np.stack([row, column], axis=1)


def pseudo_voigt(patches: Array) -> tuple[Array, int]:
    """Fit a rotated two-dimensional pseudo-Voigt profile with a constant background to each patch.

    The profile is ``f * Lorentzian + (1 - f) * Gaussian`` with two widths, shared by both parts; squares of the residuals are
    minimised with the Levenberg-Marquardt algorithm of MINPACK (``scipy.optimize.least_squares``) over eight parameters. A fit
    begins at the centre of mass.

    Args:
        patches: Shape (patches, rows, columns), any unit.

    Returns:
        (row, column) in pixels, float64 (patches, 2); and in how many patches the fit failed or left the patch, where they
        are the centre of mass.
    """
    patches = np.asarray(patches, np.float64)
    centres, failed = centre_of_mass(patches), 0
    for patch, centre in zip(patches, centres, strict=True):
        found = _fit(patch, centre)
        if found is None:
            failed += 1
        else:
            centre[:] = found
    return centres, failed


def _fit(patch: Array, start: Array) -> Array | None:
    """Return the centre of the best profile; None if there is none within the patch."""
    from scipy.optimize import least_squares  # takes a moment to load

    rows, columns = np.indices(patch.shape, np.float64)
    floor = float(np.median(patch))
    height = float(patch.max()) - floor
    if height <= 0:
        return None
    first = np.array([*start, *np.log(_WIDTHS), 0.3, 0.0, height, floor])
    profile = _Profile(rows.ravel(), columns.ravel(), patch.ravel())
    with np.errstate(over="ignore", invalid="ignore"):
        try:
            result = least_squares(profile.residuals, first, profile.jacobian, method="lm", max_nfev=EVALUATIONS)
        except ValueError:  # Residuals that are not finite.
            return None
    centre: Array = result.x[:2]
    inside = (centre >= -0.5).all() and (centre <= np.array(patch.shape) - 0.5).all()
    return centre if result.success and inside else None


@dataclass(frozen=True)
class _Profile:
    """The profile beside the values of a patch.

    Attributes:
        rows: Of the pixels.
        columns: Likewise.
        values: Likewise.
    """

    rows: Array
    columns: Array
    values: Array

    def residuals(self, parameters: Array) -> Array:
        """Return profile minus values, of row, column, logarithms of both widths, angle, logit of f, height and floor."""
        *_, squared, fraction = self._shape(parameters)
        shape = fraction / (1 + squared) + (1 - fraction) * np.exp2(-squared)
        found: Array = parameters[6] * shape + parameters[7] - self.values
        return found

    def jacobian(self, parameters: Array) -> Array:
        """Return the derivatives of the residuals, shape (pixels, 8)."""
        u, v, squared, fraction = self._shape(parameters)
        _, _, log_u, log_v, angle, _, height, _ = parameters
        cosine, sine, in_u, in_v = np.cos(angle), np.sin(angle), np.exp(-log_u), np.exp(-log_v)
        lorentzian, gaussian = 1 / (1 + squared), np.exp2(-squared)
        slope = -height * (fraction * lorentzian**2 + (1 - fraction) * np.log(2) * gaussian)
        along_u, along_v = 8 * slope * u, 8 * slope * v
        columns = (
            -along_u * cosine * in_u + along_v * sine * in_v,
            -along_u * sine * in_u - along_v * cosine * in_v,
            -along_u * u,
            -along_v * v,
            along_u * v * in_u / in_v - along_v * u * in_v / in_u,
            height * fraction * (1 - fraction) * (lorentzian - gaussian),
            fraction * lorentzian + (1 - fraction) * gaussian,
            np.ones_like(u),
        )
        return np.stack(columns, axis=1)

    def _shape(self, parameters: Array) -> tuple[Array, Array, Array, Any]:
        """Return the pixels in units of the two widths, the square that is 1 at half the maximum, and f."""
        row, column, log_u, log_v, angle, logit, *_ = parameters
        down, right = self.rows - row, self.columns - column
        cosine, sine = np.cos(angle), np.sin(angle)
        u, v = (cosine * down + sine * right) * np.exp(-log_u), (cosine * right - sine * down) * np.exp(-log_v)
        return u, v, 4 * (u * u + v * v), 1 / (1 + np.exp(-logit))
