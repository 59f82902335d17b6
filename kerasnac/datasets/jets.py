"""Simulated jets of five origins, as a few high-level features or as lists of particles."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from kerasnac.core.data import Array, Dataset, Task
from kerasnac.datasets.loaders import from_file, read_npz
from kerasnac.errors import ConfigError, DataError

#: Jet radius R of the anti-kT clustering.
RADIUS = 0.8

#: A power of two above log(1 + pT) of the hardest particles (7.4 at 1.6 TeV).
LOG_PT_SCALE = 8.0

_EXPECTED = "constituents (jets, particles, 3), features (jets, features), label (jets,) and classes (classes,)"


def jets(
    path: str | Path,
    *,
    constituents: int | None = None,
    samples: int | None = None,
    standardize: bool = True,
    seed: int = 0,
    input_bits: int = 12,
) -> Dataset:
    """Classifies jets by what they come from: gluon, light quark, W, Z or top.

    Args:
        path: An ``.npz`` file with the arrays ``constituents`` (jets, particles, 3), the hardest particles with
            transverse momentum in GeV and the two angles to the jet axis, zero padded; ``features``
            (jets, features); ``label`` (jets,), indices into ``classes`` (classes,), the names. Jets are shuffled.
        constituents: Use this many of the hardest particles; by default the features.
        samples: Use only that many jets, the first of the file.
        standardize: Shift and scale the features to mean 0 and deviation 1 on the training split. Particles have
            a fixed scaling instead, which leaves the padding at zero.
        seed: Seed of the random split; the file has no official one.
        input_bits: Width of the input grid.

    Returns:
        Samples of shape (features,), or (constituents, 3): log(1 + pT / GeV) / 8 and the angles Δη and Δφ in
        units of the jet radius.

    Raises:
        ConfigError: If ``constituents`` or ``samples`` is not positive.
        DataError: If the file or an array is missing, or has fewer jets or particles than asked for.
    """
    source = "features" if constituents is None else "constituents"
    try:
        values, label, classes = read_npz(path, (source, "label", "classes"))
    except DataError as error:
        raise DataError(f"{error}; expected an npz file with the arrays {_EXPECTED}") from error
    good = values.ndim == 2 if constituents is None else values.ndim == 3 and values.shape[2] == 3
    if not good or label.ndim != 1 or classes.ndim != 1:
        shapes = f"{source} {values.shape}, label {label.shape}, classes {classes.shape}"
        raise DataError(f"{path}: the arrays {shapes} are not {_EXPECTED}")
    if samples is not None:
        values, label = _first(values, samples, 0, path, "samples"), label[:samples]
    if constituents is not None:
        values = _scaled(_first(values, constituents, 1, path, "constituents"))
    names = tuple(classes.tolist())
    return from_file(
        path,
        values,
        label,
        source,
        task=Task("classification", len(names), names=names),
        name="jets" if constituents is None else f"jets_{constituents}",
        seed=seed,
        standardize=standardize and constituents is None,
        input_bits=input_bits,
    )


def _first(values: Array, count: int, axis: int, path: str | Path, what: str) -> Array:
    if count < 1:
        raise ConfigError(f"jets: {what} = {count} must be positive")
    if count > values.shape[axis]:
        raise DataError(f"{path}: {what} = {count}, but there are only {values.shape[axis]}")
    return values[:count] if axis == 0 else values[:, :count]


def _scaled(particles: Array) -> Array:
    """(pT in GeV, Δη, Δφ) at similar scales of order one; zero stays zero."""
    momentum, angles = particles[..., :1].astype(np.float32), particles[..., 1:].astype(np.float32)
    return np.concatenate([np.log1p(momentum) / LOG_PT_SCALE, angles / RADIUS], axis=-1)
