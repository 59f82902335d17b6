"""Simulated jets of five origins, as a few high-level features or as lists of particles."""

from __future__ import annotations

import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Literal, Unpack

import numpy as np

from kerasnac.core.checks import AnyPath, Count, Seed, Size, checked
from kerasnac.core.data.dataset import Array, Dataset, Task, make_dataset
from kerasnac.datasets.files import read_arrays, read_npy
from kerasnac.datasets.jet_files import HLS4ML_CLASSES, TUTORIAL, read_jets, table, tutorial
from kerasnac.datasets.labels import anomalies
from kerasnac.datasets.loaders import from_file, located
from kerasnac.datasets.options import Columns, Fraction, Fractions, InputBits, Options, Saturation
from kerasnac.errors import DataError

#: Jet radius R of the anti-kT clustering.
RADIUS = 0.8

#: A power of two above log(1 + pT) of the hardest particles (7.4 at 1.6 TeV).
LOG_PT_SCALE = 8.0

#: Fraction of all jets that the hls4ml tutorial sets aside for the test.
_TEST = 0.2


@checked
def jets(
    path: AnyPath,
    *,
    constituents: Size | None = None,
    samples: Count | None = None,
    standardize: bool = True,
    seed: Seed = 0,
    fractions: Fractions = (0.7, 0.15, 0.15),
    input_bits: InputBits = 12,
    max_saturation: Saturation = 1e-3,
    background: Columns | None = None,
) -> Dataset:
    """Simulate jets with a few features, to be classified by origin: gluon, light quark, W, Z or top.

    Args:
        path: A file or folder of any of these layouts, which are recognised by their content: an ``.npz`` file with the
            arrays ``constituents`` (jets, particles, 3), transverse momentum in GeV and the two angles to the jet axis, zero
            padded, ``features`` (jets, features), ``label`` (jets,), indices into ``classes`` (classes,), the names; OpenML's
            table or the tutorial's arrays of the hls4ml jets, see :func:`hls4ml_jets`; HDF5 files of the LHC jet dataset
            (Pierini et al., https://doi.org/10.5281/zenodo.3602260) with ``jets`` and ``jetConstituentList``, one, a folder
            of them, or a folder with the folders ``train`` and ``val`` or ``test``; or particles (jets, particles, 3 or more)
            named ``particles``, ``constituents`` or ``x``, pT, Δη and Δφ first, with labels ``label`` or ``y``.
        constituents: Use this many of the hardest particles; by default the features.
        samples: Use only that many jets, the first of the file, beside those of a test split of its own.
        standardize: Shift and scale the features to mean 0 and deviation 1 on the training split. Particles have
            a fixed scaling instead, which leaves the padding at zero.
        seed: Seed of the random split. Where files have a test split of their own, the others are split.
        fractions: Train, validation and test fractions; must add up to 1.
        input_bits: Width of the input grid.
        max_saturation: Fraction of the values that may be clipped to the grid's range: features with long tails gain
            resolution by it.
        background: Origins that are background; the task is then to detect all others as anomalies, see
            :func:`kerasnac.datasets.from_arrays`.

    Returns:
        Samples of shape (features,), or (constituents, 3): log(1 + pT / GeV) / 8 and the angles Δη and Δφ in
        units of the jet radius. ``taken_for`` says which layout it was.

    Raises:
        ConfigError: If ``constituents`` or ``samples`` is not positive.
        DataError: If the file or an array is missing, or has fewer jets or particles than asked for.
    """
    found = read_jets(path, constituents, samples)
    made = from_file(
        path,
        found.values if constituents is None else scaled_particles(found.values),
        found.labels,
        found.source,
        split=np.repeat(["train", "test"], [len(found.values) - found.test, found.test]) if found.test else None,
        task=Task("classification", len(found.classes), names=found.classes) if found.classes else "classification",
        name="jets" if constituents is None else f"jets_{constituents}",
        seed=seed,
        fractions=fractions,
        standardize=standardize and constituents is None,
        input_bits=input_bits,
        max_saturation=max_saturation,
        background=background,
    )
    return replace(made, taken_for=f"{Path(path).name} was taken for {found.layout}")


@checked
def hls4ml_jets(
    path: AnyPath,
    *,
    samples: Count | None = None,
    validation: Fraction = 0.25,
    standardize: bool = True,
    seed: Seed = 0,
    input_bits: InputBits = 12,
    background: Columns | None = None,
) -> Dataset:
    """Load the jets of the hls4ml tutorial with 16 features, to be classified: gluon, light quark, top, W or Z.

    The 830,000 jets are ``hls4ml_lhc_jets_hlf`` on https://www.openml.org (number 42468); see Duarte et al.,
    "Fast inference of deep neural networks in FPGAs for particle physics", JINST 13, P07027, 2018.

    Args:
        path: OpenML's table, ARFF or CSV, with the class ``g``, ``q``, ``t``, ``w`` or ``z`` in the last column; or a
            folder of ``.npy`` files, or an ``.npz`` file, with the arrays of the tutorial: ``X_train_val`` and ``X_test``
            (jets, 16), ``y_train_val`` and ``y_test`` (jets, 5), one-hot in alphabetical order of the classes.
        samples: Use only that many jets, the first of the table or of ``X_train_val``. ``X_test`` stays whole.
        validation: Fraction of the jets outside the test split that are for validation, at random.
        standardize: Shift and scale the features to mean 0 and deviation 1 on the training split.
        seed: Seed of the split.
        input_bits: Width of the input grid.
        background: Origins that are background, see :func:`jets`.

    Returns:
        Samples of shape (16,). The test split is ``X_test``, or a fifth of the table at random.

    Raises:
        ConfigError: If ``samples`` is not positive, or ``validation`` is not between 0 and 1.
        DataError: If the file, an array or a column is missing, or is not as described.
        EnvironmentProblem: If pandas, which reads the tables, is not installed.
    """
    test: list[Array] = []
    if Path(path).is_dir() or zipfile.is_zipfile(path):
        x, y, *test = tutorial(path)
        source = ", ".join(TUTORIAL)
    else:
        x, y = table(path)
        source = "features, class"
    if samples is not None:
        x, y = _first(x, samples, 0, path, "samples"), y[:samples]
    split: Callable[[int], tuple[Array, Array, Array]] | None = None
    if test:
        split = _given_test(len(x), validation, seed)
        x, y = (np.concatenate(pair) for pair in zip((x, y), test, strict=True))
    with located(path, source):
        task = Task("classification", len(HLS4ML_CLASSES), names=HLS4ML_CLASSES)
        if background is not None:
            y, task = anomalies(x, y, task, tuple(background), "hls4ml_jets")
        return make_dataset(
            x,
            y,
            name="hls4ml_jets",
            task=task,
            seed=seed,
            fractions=((1 - _TEST) * (1 - validation), (1 - _TEST) * validation, _TEST),
            standardize=standardize,
            input_bits=input_bits,
            split=split,
        )


@checked
def particle_jets(
    path: AnyPath,
    *,
    x: str = "x",
    y: AnyPath = "y",
    particles: Size = 8,
    scaling: Literal["none", "physical"] = "none",
    **options: Unpack[Options],
) -> Dataset:
    """Simulate jets as lists of their first particles, to be classified by origin.

    Args:
        path: An ``.npz`` file, an HDF5 file or a folder of ``.npy`` files; or one ``.npy`` file with the particles.
        x: Name of the array of particles (jets, particles, 3), for example the hardest first, zero padded. It does
            not matter for an ``.npy`` file.
        y: Name of the array of labels, see :func:`kerasnac.datasets.from_arrays`; for an ``.npy`` file of particles
            the path of another one.
        particles: Use this many of the first particles.
        scaling: ``"physical"`` if the columns are the transverse momentum in GeV and the angles Δη and Δφ to the jet
            axis, which become log(1 + pT / GeV) / 8 and the angles in units of R = 0.8, as in :func:`jets`;
            padding stays zero. ``"none"`` leaves the columns as they are.
        **options: As for :func:`kerasnac.datasets.from_arrays`; the name is by default that of the file.

    Returns:
        Samples of shape (particles, 3).

    Raises:
        ConfigError: If ``particles`` is not positive or there is no such scaling; as from_arrays.
        DataError: If the file or an array is missing, there are too few particles, or the columns cannot be what
            the scaling takes them for; as from_arrays.
        EnvironmentProblem: If h5py is needed but not installed.
    """
    if Path(path).suffix == ".npy":
        values, labels = read_npy(path), read_npy(y)
        source = f"labels in {y}"
    else:
        values, labels = read_arrays(path, (x, str(y)))
        source = f"particles {x!r}, labels {str(y)!r}"
    if values.ndim != 3 or values.shape[2] != 3 or values.dtype.kind not in "iuf":
        raise DataError(
            f"{path} ({source}): the particles have shape {values.shape} and dtype {values.dtype}; "
            "expected numbers (jets, particles, 3)"
        )
    values = _first(values, particles, 1, path, "particles")
    if scaling == "physical":
        if (values[..., 0] < 0).any() or (np.abs(values[..., 1:]) > np.pi).any():
            raise DataError(
                f"{path} ({source}): a first column below 0 or another one beyond ±π is not (pT, Δη, Δφ): use scaling none"
            )
        values = scaled_particles(values)
    return from_file(path, values, labels, source, **options)


def _given_test(development: int, validation: float, seed: int) -> Callable[[int], tuple[Array, Array, Array]]:
    """Split the first jets at random into training and validation, and leave all others as the test split."""
    order = np.random.default_rng(seed).permutation(development)
    training = round(development * (1 - validation))
    return lambda count: (order[:training], order[training:], np.arange(development, count))


def _first(values: Array, count: int, axis: int, path: str | Path, what: str) -> Array:
    if count > values.shape[axis]:
        raise DataError(f"{path}: {what} = {count}, but there are only {values.shape[axis]}")
    return values[:count] if axis == 0 else values[:, :count]


def scaled_particles(particles: Array) -> Array:
    """Return (pT in GeV, Δη, Δφ) at similar scales of order one; zero stays zero."""
    momentum, angles = particles[..., :1].astype(np.float32), particles[..., 1:].astype(np.float32)
    return np.concatenate([np.log1p(momentum) / LOG_PT_SCALE, angles / RADIUS], axis=-1)
