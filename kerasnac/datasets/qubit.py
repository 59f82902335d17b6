"""Dispersive readout of superconducting qubits: simulated traces of I and Q, and recorded ones."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Unpack

import numpy as np

from kerasnac.core.checks import AnyPath, Count, Seed, Size, checked
from kerasnac.core.data.dataset import Array, Dataset, Task, make_dataset
from kerasnac.core.network.precision import Precision
from kerasnac.datasets.files import read_npy
from kerasnac.datasets.iq_files import pairs, read_iq
from kerasnac.datasets.loaders import from_file, located
from kerasnac.datasets.options import Fractions, InputBits, Labels, Options, Paths
from kerasnac.datasets.unpacking import split_of
from kerasnac.errors import ConfigError, DataError

#: Ground or excited, as prepared.
TASK = Task("classification", 2, names=("ground", "excited"))

#: Traces, and samples of each, that are simulated by default.
TRACES, TRACE = 20_000, 770

#: Variance of either quadrature of an ideal heterodyne record, with amplitudes in square roots of photons.
VACUUM = 0.5

#: Traces that are worked on at a time, so that no second array of the size of the result is needed.
BLOCK = 1024


@checked
def qubit_readout(
    n: Count | None = None,
    seed: Seed = 0,
    *,
    input_bits: InputBits = 8,
    samples: Size | None = None,
    period: float = 2.6,
    kappa: float = 1.0,
    chi: float = -0.5,
    detuning: float = 0.0,
    photons: float = 5.0,
    efficiency: float = 0.1,
    t1: float = 40.0,
    preparation_error: float = 0.01,
    phase: float = 0.8,
    fractions: Fractions = (0.7, 0.15, 0.15),
    path: Paths | None = None,
) -> Dataset:
    """Simulate traces of a transmon's readout resonator; the task is to tell in which state the qubit was prepared.

    The field in the resonator obeys the linear equation of dispersive readout (Blais et al., "Circuit quantum
    electrodynamics", Rev. Mod. Phys. 93, 025005, 2021) and rings up from vacuum when the drive is switched on with the
    first sample. An excited qubit decays at a random time, after which the field relaxes to that of the ground state
    (Gambetta et al., "Protocols for optimal readout of qubits using a continuous quantum nondemolition measurement",
    Phys. Rev. A 76, 012325, 2007). The noise is white and Gaussian. 770 samples in 2 µs are
    modelled on the readout with QICK in Di Guglielmo et al., "End-to-end workflow for machine learning-based qubit
    readout with QICK and hls4ml", arXiv:2501.14663, 2025. The other defaults are typical, with the optimal ratio
    ``2 |chi| = kappa``: a matched filter assigns about 96% of the traces correctly, and decay, preparation and noise
    share the rest.

    With ``path``, recorded traces take their place, see :func:`recorded_iq`; the parameters of the simulation then mean
    nothing.

    Args:
        n: Number of traces, 20,000 by default; ground and excited take turns. Of files, the first so many at most, by
            default all, beside those of a test split of its own.
        seed: Seed of the traces and of the split.
        input_bits: Width of the signed input grid, which reaches four standard deviations.
        samples: Number of samples per trace, 770 by default. Of files, the first so many of each; by default all.
        period: Length of a sample, in ns.
        kappa: Linewidth κ/2π of the resonator, in MHz.
        chi: Dispersive shift χ/2π in MHz: excitation of the qubit moves the resonator by twice this.
        detuning: Mean frequency of the resonator minus that of the drive, in MHz.
        photons: Mean number of photons in the resonator after ring-up, the mean over both states. Sets the drive.
        efficiency: Quantum efficiency of the amplifiers and all before them, from 0 to 1. Sets the noise.
        t1: Lifetime T1 of the excited state, in µs.
        preparation_error: Probability that the qubit starts in the state opposite to the label.
        phase: Rotation of the I/Q plane by cables and mixers, in rad.
        fractions: Train, validation and test fractions; must add up to 1.
        path: ``.npy`` files of recorded traces, or their folder.

    Returns:
        float32 samples of shape (samples, 2) with I and Q; the signal and its noise together have variance 1, from a
        gain that follows from the parameters alone. Labels: 0 prepared in the ground state, 1 in the excited state.

    Raises:
        ConfigError: If a parameter is out of its range.
        DataError: If there are too few traces for a split, or as :func:`recorded_iq`.
    """
    if path is not None:
        return recorded_iq(path, n=n, samples=samples, seed=seed, input_bits=input_bits, fractions=fractions)
    n, samples = n or TRACES, samples or TRACE
    for name, value, least, most in (
        ("period", period, 1e-3, 1e6),
        ("kappa", kappa, 1e-6, 1e6),
        ("chi", chi, -1e6, 1e6),
        ("detuning", detuning, -1e6, 1e6),
        ("photons", photons, 0.0, 1e9),
        ("efficiency", efficiency, 1e-9, 1.0),
        ("t1", t1, 1e-9, 1e9),
        ("preparation_error", preparation_error, 0.0, 1.0),
    ):
        if not least <= value <= most:
            raise ConfigError(f"qubit_readout: {name} = {value:g} must be within {least:g} to {most:g}")
    to_angular = 2 * np.pi  # from MHz to rad / µs
    traces, prepared = simulate(
        n,
        seed,
        Resonator(to_angular * kappa, to_angular * chi, to_angular * detuning, photons),
        times=(np.arange(samples) + 0.5) * period * 1e-3,
        efficiency=efficiency,
        t1=t1,
        preparation_error=preparation_error,
        phase=phase,
    )
    # Three integer bits reach from -4 to 4: of Gaussian noise of variance 1, less than 0.01% saturates.
    grid = Precision(input_bits, 3)
    return make_dataset(traces, prepared, name="qubit_readout", task=TASK, seed=seed, fractions=fractions, input_grid=grid)


@dataclass(frozen=True)
class Resonator:
    """Field in a driven resonator that a qubit shifts, in the frame of the drive.

    The mean amplitude α obeys dα/dt = -(κ/2 + i(δ ± χ)) α - iε, with the upper sign for the excited qubit.

    Attributes:
        kappa: κ, in rad/µs.
        chi: χ, in rad/µs.
        detuning: δ, in rad/µs.
        photons: Square of the modulus of α long after the drive has been switched on, the mean over both states; it sets ε.
    """

    kappa: float
    chi: float
    detuning: float
    photons: float

    @property
    def rates(self) -> Array:
        """κ/2 + i(δ ± χ) for ground and excited, complex128 (2,)."""
        return self.kappa / 2 + 1j * (self.detuning + self.chi * np.array([-1, 1]))

    @property
    def steady(self) -> Array:
        """α long after the drive has been switched on, for ground and excited, complex128 (2,)."""
        drive = np.sqrt(self.photons / np.mean(1 / np.abs(self.rates) ** 2))
        field: Array = -1j * drive / self.rates
        return field

    def ring_up(self, state: int, times: Array) -> Array:
        """Return α of a qubit that stays in its state.

        Args:
            state: 0 ground, 1 excited.
            times: Since the drive has been switched on with no field, in µs, any shape.

        Returns:
            complex128, of the same shape.
        """
        field: Array = -self.steady[state] * np.expm1(-self.rates[state] * times)
        return field

    def decay(self, moments: Array, times: Array) -> Array:
        """Return α of a qubit that is excited up to some moment and in the ground state from then on.

        Args:
            moments: Of the decay, in µs, shape (traces,).
            times: As for :meth:`ring_up`, shape (samples,).

        Returns:
            complex128 (traces, samples).
        """
        since = np.maximum(times - moments[:, np.newaxis], 0)
        start = self.ring_up(1, moments)[:, np.newaxis] - self.steady[0]
        relaxing = self.steady[0] + start * np.exp(-self.rates[0] * since)
        return np.where(since > 0, relaxing, self.ring_up(1, times))


def simulate(
    n: int,
    seed: int,
    resonator: Resonator,
    *,
    times: Array,
    efficiency: float,
    t1: float,
    preparation_error: float,
    phase: float,
) -> tuple[Array, Array]:
    """Simulate heterodyne records of the field that leaks out of a resonator.

    A sample of length Δt holds the amplitude √(η κ Δt) α plus the noise of an ideal heterodyne detector, which is what
    an efficiency η amounts to. The field is taken in the middle of the sample: it changes within microseconds,
    samples last nanoseconds. A trace depends on the seed and on its index, not on ``n``.

    Args:
        n: Number of traces.
        seed: Seed.
        resonator: The resonator and its drive.
        times: Middles of the samples, evenly spaced from half a sample on, in µs, shape (samples,).
        efficiency: See :func:`qubit_readout`, as all that follow.
        t1: In µs.
        preparation_error: From 0 to 1.
        phase: In rad.

    Returns:
        Traces, float32 (n, samples, 2), and the states that were to be prepared, int64 (n,).

    Raises:
        ConfigError: If ``n`` is not positive.
    """
    # Two streams, each used trace by trace, so that the first traces stay the same for any n.
    events, noise = np.random.default_rng(seed).spawn(2)
    unit = events.random((n, 2))
    prepared = np.arange(n) % 2
    excited = (prepared == 1) != (unit[:, 0] < preparation_error)
    moments = np.where(excited, -t1 * np.log1p(-unit[:, 1]), np.inf)

    to_record = np.sqrt(efficiency * resonator.kappa * 2 * times[0])
    stable = np.stack([resonator.ring_up(state, times) for state in (0, 1)])
    gain = 1 / np.sqrt(VACUUM + np.mean(np.abs(to_record * stable) ** 2) / 2)
    to_trace = gain * to_record * np.exp(1j * phase)
    means = _quadratures(to_trace * stable)

    traces = np.empty((n, len(times), 2), np.float32)
    noise.standard_normal(out=traces, dtype=np.float32)
    traces *= np.float32(gain * np.sqrt(VACUUM))
    for first in range(0, n, BLOCK):
        block = slice(first, first + BLOCK)
        signal = means[excited[block].astype(np.int64)]
        decays = np.flatnonzero(moments[block] < times[-1])
        signal[decays] = _quadratures(to_trace * resonator.decay(moments[block][decays], times))
        traces[block] += signal
    return traces, prepared


@checked
def iq_readout(path: AnyPath, *, labels: Labels, **options: Unpack[Options]) -> Dataset:
    """Load recorded I/Q traces with the states in which the qubit was prepared.

    Args:
        path: ``.npy`` file with I and Q in turns (traces, 2 * samples), that is I0, Q0, I1, Q1, ..., or with pairs
            (traces, samples, 2).
        labels: ``.npy`` file with the labels of the traces, see :func:`kerasnac.datasets.from_arrays`; or the index of
            the column of a two-dimensional ``path`` that holds them, where -1 is the last.
        **options: As for :func:`kerasnac.datasets.from_arrays`. The name is by default that of the file, the task to
            tell ground (0) from excited (1); for more states, give ``task`` and ``outputs``.

    Returns:
        Samples of shape (samples, 2) with I and Q.

    Raises:
        ConfigError: As from_arrays.
        DataError: If a file is missing, or its array is not as described; as from_arrays.
    """
    traces = read_npy(path)
    if isinstance(labels, int):
        if traces.ndim != 2 or not -traces.shape[1] <= labels < traces.shape[1]:
            raise DataError(f"{path}: an array of shape {traces.shape} has no column {labels} of labels")
        states, source = traces[:, labels], f"labels in column {labels}"
        traces = np.delete(traces, labels, axis=1)
    else:
        states, source = read_npy(labels), f"labels in {labels}"
    options.setdefault("task", TASK)
    return from_file(path, pairs(traces, path, source), states, source, **options)


def recorded_iq(
    path: str | Path | Sequence[str | Path],
    *,
    n: int | None,
    samples: int | None,
    seed: int,
    input_bits: int,
    fractions: tuple[float, float, float],
) -> Dataset:
    """Load recorded traces in the layouts of :func:`kerasnac.datasets.iq_files.read_iq`.

    They are divided by the power of two nearest to their root mean square in the training split: on the chip this is another
    place of the binary point, and no operation.

    Args:
        path: Files or a folder.
        n: Use the first so many traces, at most, and all of a test split of its own.
        samples: Use the first so many samples of each; None for all.
        seed: Seed of the split.
        input_bits: Width of the input grid, which is fitted to the training split.
        fractions: Train, validation and test fractions.

    Raises:
        DataError: As read_iq, if there are fewer samples, or if the traces cannot be used.
    """
    found = read_iq(path)
    kept = np.r_[: len(found.traces) - found.test][:n]
    chosen = np.r_[kept, len(found.traces) - found.test : len(found.traces)]
    traces, states = found.traces[chosen], found.states[chosen]
    if samples is not None:
        if samples > traces.shape[1]:
            raise DataError(f"{found.path}: samples = {samples}, but the traces have only {traces.shape[1]}")
        traces = traces[:, :samples]
    with located(found.path, found.source):
        split = split_of(np.repeat(["train", "test"], [len(kept), found.test]), fractions, seed, "iq")
        train = split(len(traces))[0]
        size = float(np.sqrt(np.mean(np.square(traces[train], dtype=np.float64)))) if len(train) else 0.0
        exponent = round(np.log2(size)) if 0 < size < np.inf else 0
        scaled = traces.astype(np.float32) * np.float32(2.0**-exponent)
        made = make_dataset(scaled, states, name="iq", task=TASK, seed=seed, split=split, input_bits=input_bits)
    return replace(made, taken_for=f"{found.path.name} was taken for {found.layout}, divided by 2^{exponent}")


def _quadratures(field: Array) -> Array:
    """Return I and Q on a last axis, float32."""
    return np.stack([field.real, field.imag], axis=-1).astype(np.float32)
