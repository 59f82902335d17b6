"""Bragg peaks of high-energy diffraction microscopy (HEDM), simulated or cut out of detector frames."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from kerasnac.core.checks import AnyPath, Count, Seed, checked
from kerasnac.core.data.dataset import Array, Dataset, Task, make_dataset
from kerasnac.core.network.precision import Precision
from kerasnac.datasets.files import array_names, open_hdf5
from kerasnac.datasets.loaders import located
from kerasnac.datasets.options import Fractions, InputBits, Paths, listed
from kerasnac.errors import ConfigError, DataError

#: Rows and columns of a patch.
SIZE = 11

#: Patches that are simulated by default.
PATCHES = 20_000

#: Arrays of the file of peaks.
PEAK_KEYS = ("peak_row", "peak_col", "peak_fidx")

_PAIR = f"two HDF5 files as of BraggNN, one with frames (frames, rows, cols), one with {', '.join(PEAK_KEYS)}, or their folder"

#: A range to draw from, (low, high).
Range = tuple[float, float]


@checked
def bragg_peaks(
    n: Count | None = None,
    seed: Seed = 0,
    *,
    input_bits: InputBits = 8,
    offset: Range = (-1.5, 1.5),
    fwhm: Range = (1.5, 4.5),
    lorentzian: Range = (0.0, 1.0),
    amplitude: Range = (20.0, 500.0),
    background: Range = (5.0, 50.0),
    fractions: Fractions = (0.7, 0.15, 0.15),
    path: Paths | None = None,
) -> Dataset:
    """Simulate patches of 11 x 11 pixels with one Bragg peak each; the task is to find its centre.

    Patches are scaled, and centres divided by the patch size, as in BraggNN (Liu et al., "BraggNN: fast X-ray
    Bragg peak analysis using deep learning", IUCrJ 9, 104, 2022). The metric is the mean distance in pixels.
    The default ranges imitate far-field HEDM: spots a few pixels wide, stretched by mosaicity along a direction
    that depends on the grain, from barely above the background to well exposed: weak spots are where a centre of
    mass fails and a network pays.

    With ``path``, measured patches take their place, see :func:`braggnn`; the ranges then mean nothing.

    Args:
        n: Number of patches, 20,000 by default. Of files, the first so many peaks at most, by default all.
        seed: Seed of the peaks and of the split.
        input_bits: Width of the unsigned input grid, which has no integer bits.
        offset: Peak centre minus patch centre, for rows and columns alike, in pixels.
        fwhm: Full width at half maximum along either main axis of the peak, in pixels.
        lorentzian: Lorentzian fraction of the profile, 0 to 1.
        amplitude: Photons per pixel in the peak's maximum; log-uniform, all other ranges are uniform.
        background: Photons per pixel below the peak.
        fractions: Train, validation and test fractions; must add up to 1.
        path: The two HDF5 files that BraggNN is trained with, or their folder; one of them, if the other lies beside it.

    Returns:
        Samples of shape (11, 11, 1) in [0, 1); labels (row, column) / 11, where the central pixel is (5, 5).

    Raises:
        ConfigError: If ``n`` is not positive or a range is not one.
        DataError: If there are too few patches for a split, or as :func:`braggnn`.
        EnvironmentProblem: If there are files, and h5py is not installed.
    """
    if path is not None:
        frames_file, peaks_file = bragg_files(path)
        return braggnn(frames_file, peaks_file, n=n, seed=seed, input_bits=input_bits, fractions=fractions)
    patches, centres = simulate(
        n or PATCHES, seed, offset=offset, fwhm=fwhm, lorentzian=lorentzian, amplitude=amplitude, background=background
    )
    return _dataset(patches, centres, "bragg_peaks", seed, input_bits, fractions)


@checked
def braggnn(
    frames_file: AnyPath,
    peaks_file: AnyPath,
    *,
    seed: Seed = 0,
    input_bits: InputBits = 8,
    fractions: Fractions = (0.7, 0.15, 0.15),
    n: Count | None = None,
) -> Dataset:
    """Cut patches of 11 x 11 pixels around the peaks of measured frames; the task is that of :func:`bragg_peaks`.

    Reads the two HDF5 files that BraggNN is trained with. As there, patches
    hold a single peak each: where the second file has the arrays ``npeaks`` and ``deviations``, as the public one
    does, only peaks with ``npeaks`` 1 and ``deviations`` in [0, 1) are kept. Unlike there, a patch is centred on the
    nearest pixel instead of the one to the upper left, has no random shift, and is never padded: peaks nearer than
    5 pixels to the border of the frame are dropped. Only frames with peaks are read, one at a time.

    Args:
        frames_file: HDF5 file with ``frames`` (frames, rows, cols), any number dtype.
        peaks_file: HDF5 file with ``peak_row`` and ``peak_col`` (peaks,), in pixels, whole numbers in the middle
            of a pixel, and ``peak_fidx`` (peaks,), indices of the frames.
        seed: Seed of the random split.
        input_bits: Width of the unsigned input grid, which has no integer bits.
        fractions: Train, validation and test fractions; must add up to 1.
        n: Use the first so many of the peaks that are kept, at most; by default all.

    Returns:
        Samples of shape (11, 11, 1) in [0, 1), each scaled from its own minimum and maximum; labels
        (row, column) / 11, where the central pixel is (5, 5).

    Raises:
        ConfigError: If ``input_bits`` is not positive.
        DataError: If a file or an array is missing, the arrays do not fit together, or too few peaks are left.
        EnvironmentProblem: If h5py is not installed.

    Warns:
        UserWarning: With the number of peaks that were dropped, by reason.
    """
    row, col, frame = _peaks(peaks_file)
    with open_hdf5(frames_file, ("frames",)) as (frames,):
        if frames.ndim != 3 or min(frames.shape[1:]) < SIZE or frames.dtype.kind not in "iuf":
            raise DataError(
                f"{frames_file}: frames has shape {frames.shape} and dtype {frames.dtype}; "
                f"expected numbers (frames, rows, cols) of at least {SIZE} x {SIZE} pixels"
            )
        outside = (frame < 0) | (frame >= len(frames))
        if outside.any():
            raise DataError(
                f"{peaks_file}: peak_fidx of peak {outside.argmax()} is {frame[outside.argmax()]}; "
                f"{frames_file} has the frames 0 to {len(frames) - 1}"
            )
        top, left = (np.floor(position + 0.5).astype(np.int64) - SIZE // 2 for position in (row, col))
        fits = (top >= 0) & (left >= 0) & (top <= frames.shape[1] - SIZE) & (left <= frames.shape[2] - SIZE)
        _warn_of_dropped(fits, f"are nearer than {SIZE // 2} px to the border", peaks_file)
        row, col, frame, top, left = (values[fits][:n] for values in (row, col, frame, top, left))
        patches = np.empty((len(frame), SIZE, SIZE))
        order = np.argsort(frame, kind="stable")
        used, first = np.unique(frame[order], return_index=True)
        for index, here in zip(used, np.split(order, first[1:]), strict=True):
            windows = np.lib.stride_tricks.sliding_window_view(frames[index], (SIZE, SIZE))
            patches[here] = windows[top[here], left[here]]
    centres = np.stack([row - top, col - left], axis=1)
    with located(peaks_file, f"peaks, frames in {frames_file}"):
        made = _dataset(patches, centres, "braggnn", seed, input_bits, fractions)
    names = f"{Path(frames_file).name} and {Path(peaks_file).name}"
    return replace(made, taken_for=f"{names} were taken for the frames and peaks of BraggNN: {len(patches):,} peaks used")


def bragg_files(paths: str | Path | Sequence[str | Path]) -> tuple[Path, Path]:
    """Return the file of frames and that of peaks.

    Args:
        paths: Both in any order, their folder, or one of them, where the other lies beside it.

    Raises:
        DataError: If there is not exactly one of each.
        EnvironmentProblem: If h5py is not installed.
    """
    given = listed(paths)
    if missing := [path for path in given if not path.exists()]:
        raise DataError(f"{missing[0]}: there is no such file or folder; expected {_PAIR}")
    place = given[0] if given[0].is_dir() else given[0].parent
    beside = sorted(file for file in place.iterdir() if file.suffix in (".h5", ".hdf5"))
    files = dict.fromkeys(given) if len(given) > 1 else beside if given[0].is_dir() else dict.fromkeys((*given, *beside))
    names = {file: set(array_names(file) or ()) for file in files}
    found: list[Path] = []
    for keys in (("frames",), PEAK_KEYS):
        fitting = [file for file in files if set(keys) <= names[file]]
        fitting = fitting[:1] if fitting[:1] == [given[0]] else fitting
        if len(fitting) != 1:
            here = "; ".join(f"{file.name} has {', '.join(sorted(names[file])[:8]) or 'none'}" for file in files)
            what = f"none of {len(names)} files has" if not fitting else f"{', '.join(f.name for f in fitting)} all have"
            raise DataError(f"{given[0]}: {what} {', '.join(keys)}; expected {_PAIR} ({here or 'there is no HDF5 file'})")
        found.append(fitting[0])
    return found[0], found[1]


def simulate(
    n: int, seed: int, *, offset: Range, fwhm: Range, lorentzian: Range, amplitude: Range, background: Range
) -> tuple[Array, Array]:
    """Simulate photon counts of rotated two-dimensional pseudo-Voigt peaks, with the true centres.

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


def _peaks(path: str | Path) -> tuple[Array, Array, Array]:
    """Return rows and columns in pixels, float64, and frame indices, int64, of the single peaks of a file."""
    keys = PEAK_KEYS
    with open_hdf5(path, keys) as nodes:
        row, col, frame = (np.asarray(node[()]) for node in nodes)
        quality = {key: np.asarray(nodes[0].file[key][()]) for key in ("npeaks", "deviations") if key in nodes[0].file}
    if row.ndim != 1 or not row.shape == col.shape == frame.shape:
        raise DataError(f"{path}: {', '.join(keys)} have the shapes {row.shape}, {col.shape}, {frame.shape}; expected (peaks,)")
    for key, values in zip(keys, (row, col, frame), strict=True):
        if values.dtype.kind not in "iuf" or not np.isfinite(values).all():
            raise DataError(f"{path}: {key} must be finite numbers")
    if not np.array_equal(frame, np.rint(frame)):
        raise DataError(f"{path}: peak_fidx must be whole numbers, the indices of the frames")
    single = np.ones(len(row), bool)
    for key, values in quality.items():
        if values.shape != row.shape:
            raise DataError(f"{path}: {key} has shape {values.shape}; expected one number for each of the {len(row)} peaks")
        single &= values == 1 if key == "npeaks" else (values >= 0) & (values < 1)
    _warn_of_dropped(single, "are not alone in their patch or deviate too much (npeaks, deviations)", path)
    return row[single].astype(np.float64), col[single].astype(np.float64), frame[single].astype(np.int64)


def _warn_of_dropped(kept: Array, reason: str, path: str | Path) -> None:
    if not kept.any():
        raise DataError(f"{path}: no peak is left, all {len(kept)} {reason}")
    if not kept.all():
        warnings.warn(f"{path}: dropped {np.sum(~kept)} of {len(kept)} peaks, which {reason}", stacklevel=3)


def _dataset(patches: Array, centres: Array, name: str, seed: int, input_bits: int, fractions: Fractions) -> Dataset:
    """Make the dataset of patches (n, 11, 11) and of centres (n, 2) in pixels."""
    return make_dataset(
        _scaled(patches)[..., np.newaxis],
        centres / SIZE,
        name=name,
        task=Task("regression", outputs=2, scale=SIZE, unit="px", names=("row", "col")),
        seed=seed,
        fractions=fractions,
        input_grid=Precision(input_bits, 0, signed=False),
        # Scaled pixels never leave [0, 1]. The brightest of each patch is 1 and loses one step of the grid to
        # saturation, which is harmless: it costs no integer bit that all other values would leave unused.
        max_saturation=1.0,
    )


def _scaled(patches: Array) -> Array:
    """Map every patch to [0, 1] from its own minimum and maximum; a flat one becomes zero."""
    low = patches.min(axis=(1, 2), keepdims=True)
    span = patches.max(axis=(1, 2), keepdims=True) - low
    scaled: Array = (patches - low) / np.where(span == 0, 1, span)
    return scaled


def _between(unit: Array, limits: Range) -> Array:
    low, high = limits
    return low + (high - low) * unit


def _check(name: str, limits: Range, least: float, most: float) -> None:
    low, high = limits
    if not least <= low <= high <= most:
        raise ConfigError(f"bragg_peaks: {name} = ({low:g}, {high:g}) must be a range within {least:g} to {most:g}")
