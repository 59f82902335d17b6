"""A toy of jets, to try a run where there is no file: columns like those of real ones, and no physics to quote."""

from __future__ import annotations

from dataclasses import replace
from itertools import combinations

import numpy as np

from kerasnac.core.checks import Count, Seed, Size, checked
from kerasnac.core.data.dataset import Array, Dataset, Task
from kerasnac.datasets.jets import RADIUS, scaled_particles
from kerasnac.datasets.loaders import from_arrays
from kerasnac.datasets.options import Columns, Fractions, InputBits, Saturation
from kerasnac.errors import ConfigError

#: Origins, with the masses in GeV of what decays, and the number of prongs of its decay.
ORIGINS = {"g": (0.0, 1), "q": (0.0, 1), "w": (80.4, 2), "z": (91.2, 2), "t": (172.8, 3)}

#: Particles of a toy jet that are kept, and those that the features with three particles see.
KEPT, SEEN = 32, 10

#: Mean number of particles of a prong, and the spread of its angles at 1 GeV, for gluons and for all others.
_PARTICLES, _SPREAD = {"g": 26.0, "": 14.0}, {"g": 0.9, "": 0.55}

#: Jets that are worked on at a time.
_BLOCK = 2048


@checked
def toy_jets(
    samples: Count = 20_000,
    seed: Seed = 0,
    *,
    constituents: Size | None = None,
    standardize: bool = True,
    fractions: Fractions = (0.7, 0.15, 0.15),
    input_bits: InputBits = 12,
    max_saturation: Saturation = 1e-3,
    background: Columns | None = None,
) -> Dataset:
    """Draw toy jets with the columns of :func:`kerasnac.datasets.jets`, to try a run without any file.

    An origin has one, two or three prongs at angles that its mass asks for; a prong is a number of particles with random
    shares of its momentum, and angles that fall with them. Nothing radiates, hadronises or is measured: accuracies on these
    jets say nothing about real ones.

    Args:
        samples: Number of jets; the five origins take turns.
        seed: Seed of the jets and of the split.
        constituents: Use this many of the hardest particles, at most 32; by default the 16 features.
        standardize: See :func:`kerasnac.datasets.jets`, as all that follow.
        fractions: Train, validation and test fractions.
        input_bits: Width of the input grid.
        max_saturation: Fraction of the values that may be clipped to the grid's range.
        background: Origins that are background.

    Returns:
        Samples of shape (16,) or (constituents, 3), with the classes g, q, w, z, t.

    Raises:
        ConfigError: If there are not so many particles.
        DataError: If there are too few jets for a split.
    """
    if constituents is not None and constituents > KEPT:
        raise ConfigError(f"toy_jets: constituents = {constituents}, but a toy jet has {KEPT} particles at most")
    particles, labels = draw(samples, seed)
    made = from_arrays(
        features(particles) if constituents is None else scaled_particles(particles[:, :constituents]),
        labels,
        task=Task("classification", len(ORIGINS), names=tuple(ORIGINS)),
        name="toy_jets" if constituents is None else f"toy_jets_{constituents}",
        seed=seed,
        fractions=fractions,
        standardize=standardize and constituents is None,
        input_bits=input_bits,
        max_saturation=max_saturation,
        background=background,
    )
    return replace(made, taken_for="toy jets, drawn: accuracies on them say nothing about real ones")


def draw(n: int, seed: int) -> tuple[Array, Array]:
    """Draw toy jets.

    Args:
        n: Number of jets.
        seed: Seed; a jet depends on it and on the block of jets that it is in, not on ``n``.

    Returns:
        The hardest particles (n, 32, 3), float32: pT in GeV, Δη, Δφ, zero padded; indices of :data:`ORIGINS` (n,).
    """
    labels = np.arange(n) % len(ORIGINS)
    streams = np.random.default_rng(seed).spawn(-(-n // _BLOCK))
    blocks = [_block(np.arange(_BLOCK) % len(ORIGINS), i * _BLOCK, rng) for i, rng in enumerate(streams)]
    return np.concatenate(blocks)[:n], labels


def _block(labels: Array, first: int, rng: np.random.Generator) -> Array:
    """Return the particles of as many jets as there are labels, which begin with jet ``first`` of all."""
    names = np.array(list(ORIGINS))[(labels + first) % len(ORIGINS)]
    masses, prongs = (np.array([ORIGINS[name][i] for name in names], float) for i in (0, 1))
    gluon = names == "g"
    momentum = rng.uniform(950, 1150, len(names))
    shares, axes = _prongs(masses / momentum, prongs, rng)
    count = rng.poisson(np.where(gluon, _PARTICLES["g"], _PARTICLES[""])[:, None] * shares**0.3 * (shares > 0), shares.shape)
    most = 3 * KEPT
    # A row of particle slots for each prong, of which as many are taken as the prong has particles.
    taken = np.arange(most) < np.maximum(count, shares > 0)[..., None]
    part = rng.exponential(1.0, taken.shape) ** 1.6 * taken
    pt = part / np.maximum(part.sum(axis=2, keepdims=True), 1e-9) * (shares * momentum[:, None])[..., None]
    width = np.where(gluon, _SPREAD["g"], _SPREAD[""])[:, None, None] / np.sqrt(np.maximum(pt, 0.5))
    angles = axes[:, :, None, :] + rng.normal(0, 1, (*pt.shape, 2)) * width[..., None]
    jets = np.concatenate([pt[..., None], angles], axis=3).reshape(len(names), -1, 3)
    jets[(jets[..., 0] < 0.5) | (np.hypot(jets[..., 1], jets[..., 2]) > RADIUS)] = 0
    order = np.argsort(-jets[..., 0], axis=1, kind="stable")[:, :KEPT]
    return np.take_along_axis(jets, order[..., None], axis=1).astype(np.float32)


def _prongs(mass: Array, prongs: Array, rng: np.random.Generator) -> tuple[Array, Array]:
    """Return the shares of momentum (jets, 3) of the prongs and their axes (jets, 3, 2) around that of the jet.

    Args:
        mass: Mass over momentum of what decays (jets,).
        prongs: Their number (jets,), 1 to 3.
        rng: Source of randomness.
    """
    first = np.where(prongs > 1, rng.uniform(0.2, 0.8, len(mass)), 1.0)
    inner = rng.uniform(0.2, 0.8, len(mass))
    shares = np.stack([first, (1 - first) * np.where(prongs > 2, inner, 1), (1 - first) * (1 - inner) * (prongs > 2)], axis=1)
    turn = rng.uniform(0, 2 * np.pi, (2, len(mass)))
    # Two prongs with shares z and 1 - z of a mass m are m / (pT sqrt(z (1 - z))) apart.
    opening = mass / np.sqrt(np.maximum(first * (1 - first), 1e-2)) * (prongs > 1)
    second = 80.4 / 172.8 * mass / (1 - first + 1e-9) / np.sqrt(inner * (1 - inner)) * (prongs > 2)
    outer, between = (
        size[:, None] * np.stack([np.cos(a), np.sin(a)], 1) for size, a in zip((opening, second), turn, strict=True)
    )
    axes = np.stack([outer * (1 - first)[:, None], -outer * first[:, None], -outer * first[:, None]], axis=1)
    axes[:, 1] += between * (1 - inner)[:, None]
    axes[:, 2] -= between * inner[:, None]
    return shares, axes


def features(particles: Array) -> Array:
    """Return 16 features of the kind that the hls4ml jets have, of particles (jets, particles, 3), float32 (jets, 16).

    Σ z log z; ratios of energy correlations C1 (β = 0, 1, 2), C2, D2, D2 with α = 1, M2 and N2 (β = 1, 2 each), see Moult,
    Necib and Thaler, "New angles on energy correlation functions", JHEP 12, 153 (2016), of the ten hardest particles without
    any grooming; mass in GeV; number of particles.
    """
    parts = [_features(particles[i : i + _BLOCK].astype(np.float64)) for i in range(0, len(particles), _BLOCK)]
    return np.concatenate(parts).astype(np.float32)


def _features(particles: Array) -> Array:
    pt = particles[..., 0]
    z = pt / pt.sum(axis=1, keepdims=True)
    seen, angles = z[:, :SEEN], particles[:, :SEEN, 1:]
    i, j = np.array(list(combinations(range(SEEN), 2))).T
    apart = np.hypot(*np.moveaxis(angles[:, i] - angles[:, j], 2, 0))
    place = np.zeros((SEEN, SEEN), int)
    place[i, j] = np.arange(len(i))
    a, b, c = np.array(list(combinations(range(SEEN), 3))).T
    triple = np.sort(np.stack([apart[:, place[a, b]], apart[:, place[a, c]], apart[:, place[b, c]]]), axis=0)
    pairs, triples = seen[:, i] * seen[:, j], seen[:, a] * seen[:, b] * seen[:, c]

    def e2(beta: float) -> Array:
        correlation: Array = np.maximum((pairs * apart**beta).sum(axis=1), 1e-6)
        return correlation

    def e3(angles_used: int, beta: float) -> Array:
        """Return the correlation of three particles with the product of so many of their smallest angles."""
        correlation: Array = (triples * np.prod(triple[:angles_used], axis=0) ** beta).sum(axis=1)
        return correlation

    columns = [np.sum(z * np.log(np.maximum(z, 1e-9)), axis=1), *(e2(beta) for beta in (0, 1, 2))]
    columns += [e3(3, beta) / e2(beta) ** 2 for beta in (1, 2)]
    columns += [np.minimum(e3(3, beta) / e2(beta) ** 3, 50) for beta in (1, 2)]
    columns += [np.minimum(e3(3, 1) / e2(beta) ** (3 / beta), 50) for beta in (1, 2)]
    columns += [e3(1, beta) / e2(beta) for beta in (1, 2)]
    columns += [e3(2, beta) / e2(beta) ** 2 for beta in (1, 2)]
    return np.stack([*columns, _mass(particles), (pt > 0).sum(axis=1)], axis=1)


def _mass(particles: Array) -> Array:
    """Return the masses (jets,) in GeV of jets of massless particles."""
    pt, eta, phi = np.moveaxis(particles, 2, 0)
    components = pt * np.cosh(eta), pt * np.cos(phi), pt * np.sin(phi), pt * np.sinh(eta)
    e, x, y, w = (part.sum(axis=1) for part in components)
    mass: Array = np.sqrt(np.maximum(e**2 - x**2 - y**2 - w**2, 0))
    return mass
