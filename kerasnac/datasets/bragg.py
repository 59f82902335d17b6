"""Simulated Bragg peaks of high-energy diffraction microscopy (HEDM)."""

from __future__ import annotations

import numpy as np

from kerasnac.core.data import Array, Dataset, Task, make_dataset
from kerasnac.core.precision import Precision
from kerasnac.errors import ConfigError

#: Rows and columns of a patch.
SIZE = 11

#: A range to draw from, (low, high).
Range = tuple[float, float]


def bragg_peaks(
    n: int = 20_000,
    seed: int = 0,
    *,
    input_bits: int = 8,
    offset: Range = (-1.5, 1.5),
    fwhm: Range = (1.5, 4.5),
    lorentzian: Range = (0.0, 1.0),
    amplitude: Range = (50.0, 5000.0),
    background: Range = (5.0, 50.0),
) -> Dataset:
    """Patches of 11 x 11 pixels with one Bragg peak each; the task is to find its centre.

    Patches are scaled, and centres divided by the patch size, as in BraggNN (Liu et al., "BraggNN: fast X-ray
    Bragg peak analysis using deep learning", IUCrJ 9, 104, 2022). The metric is the mean distance in pixels.
    The default ranges imitate far-field HEDM: spots a few pixels wide, stretched by mosaicity along a direction
    that depends on the grain, between barely and very well exposed.

    Args:
        n: Number of patches.
        seed: Seed of the peaks and of the split.
        input_bits: Width of the unsigned input grid, which has no integer bits.
        offset: Peak centre minus patch centre, for rows and columns alike, in pixels.
        fwhm: Full width at half maximum along either main axis of the peak, in pixels.
        lorentzian: Lorentzian fraction of the profile, 0 to 1.
        amplitude: Photons per pixel in the peak's maximum; log-uniform, all other ranges are uniform.
        background: Photons per pixel below the peak.

    Returns:
        Samples of shape (11, 11, 1) in [0, 1); labels (row, column) / 11, where the central pixel is (5, 5).

    Raises:
        ConfigError: If ``n`` is not positive or a range is not one.
        DataError: If there are too few patches for a split.
    """
    patches, centres = simulate(
        n, seed, offset=offset, fwhm=fwhm, lorentzian=lorentzian, amplitude=amplitude, background=background
    )
    return make_dataset(
        _scaled(patches)[..., np.newaxis],
        centres / SIZE,
        name="bragg_peaks",
        task=Task("regression", outputs=2, scale=SIZE, unit="px", names=("row", "col")),
        seed=seed,
        input_grid=Precision(input_bits, 0, signed=False),
        # Scaled pixels never leave [0, 1]. The brightest of each patch is 1 and loses one step of the grid to
        # saturation, which is harmless: it costs no integer bit that all other values would leave unused.
        max_saturation=1.0,
    )


def simulate(
    n: int, seed: int, *, offset: Range, fwhm: Range, lorentzian: Range, amplitude: Range, background: Range
) -> tuple[Array, Array]:
    """Photon counts of rotated two-dimensional pseudo-Voigt peaks, and the true centres.

    The profile ``f * Lorentzian + (1 - f) * Gaussian`` has one width for both parts and is taken at the pixel
    centres. A patch depends on the seed and on its index, not on ``n``.

    Args:
        n: Number of patches.
        seed: Seed.
        offset: See :func:`bragg_peaks`, as the other ranges.
        fwhm: In pixels.
        lorentzian: From 0 to 1.
        amplitude: In photons.
        background: In photons.

    Returns:
        Counts, int64 (n, 11, 11), and centres (row, column) in pixels, float64 (n, 2).

    Raises:
        ConfigError: If ``n`` is not positive or a range is not one.
    """
    if n < 1:
        raise ConfigError(f"bragg_peaks: n = {n} must be positive")
    _check("offset", offset, -SIZE / 2, SIZE / 2)
    _check("fwhm", fwhm, 0.5, SIZE)
    _check("lorentzian", lorentzian, 0.0, 1.0)
    _check("amplitude", amplitude, 1.0, 1e9)
    _check("background", background, 0.0, 1e9)

    # Two streams, each used patch by patch, so that the first patches stay the same for any n.
    shapes, noise = np.random.default_rng(seed).spawn(2)
    # One row per quantity, each of the shape (n, 1, 1).
    unit = shapes.random((n, 8)).T[:, :, np.newaxis, np.newaxis]
    row = (SIZE - 1) / 2 + _between(unit[0], offset)
    column = (SIZE - 1) / 2 + _between(unit[1], offset)
    width_u, width_v = _between(unit[2], fwhm), _between(unit[3], fwhm)
    angle = unit[4] * np.pi / 2  # a quarter turn swaps the two widths, so that no orientation is missing
    fraction = _between(unit[5], lorentzian)
    height = np.exp(_between(unit[6], (np.log(amplitude[0]), np.log(amplitude[1]))))
    floor = _between(unit[7], background)

    down, right = np.arange(SIZE)[:, np.newaxis] - row, np.arange(SIZE) - column
    u = (np.cos(angle) * down + np.sin(angle) * right) / width_u
    v = (np.cos(angle) * right - np.sin(angle) * down) / width_v
    squared = 4 * (u**2 + v**2)  # 1 on the ellipse of half the maximum
    profile = fraction / (1 + squared) + (1 - fraction) * np.exp2(-squared)
    counts = noise.poisson(floor + height * profile)
    return counts, np.stack([row.ravel(), column.ravel()], axis=1)


def _scaled(patches: Array) -> Array:
    """Every patch mapped to [0, 1] from its own minimum and maximum."""
    low = patches.min(axis=(1, 2), keepdims=True)
    span = patches.max(axis=(1, 2), keepdims=True) - low
    scaled: Array = (patches - low) / np.maximum(span, 1)  # counts are whole: only a flat patch spans less; it becomes zero
    return scaled


def _between(unit: Array, limits: Range) -> Array:
    low, high = limits
    return low + (high - low) * unit


def _check(name: str, limits: Range, least: float, most: float) -> None:
    low, high = limits
    if not least <= low <= high <= most:
        raise ConfigError(f"bragg_peaks: {name} = ({low:g}, {high:g}) must be a range within {least:g} to {most:g}")
