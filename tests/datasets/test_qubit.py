"""Qubit readout: the physics of simulated traces, and recorded traces in every layout."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kerasnac.core.data.dataset import Array, Dataset, Task
from kerasnac.core.network.precision import Precision
from kerasnac.datasets import from_arrays, iq_readout, qubit_readout
from kerasnac.datasets.qubit import Resonator, simulate
from kerasnac.errors import ConfigError, DataError

TIMES = (np.arange(770) + 0.5) * 2.6e-3
RESONATOR = Resonator(kappa=6.0, chi=-3.0, detuning=0.5, photons=5.0)
DEFAULTS: dict[str, Any] = {"times": TIMES, "efficiency": 0.1, "t1": 40.0, "preparation_error": 0.01, "phase": 0.8}


@pytest.fixture(scope="module")
def readout() -> Dataset:
    return qubit_readout(4000)


def test_what_the_dataset_declares(readout: Dataset) -> None:
    assert readout.input_shape == (770, 2)
    assert readout.input_grid == Precision(8, 3)
    assert readout.development.train.x.dtype == np.float32
    assert readout.development.saturated < 1e-3
    assert readout.task == Task("classification", 2, names=("ground", "excited"))
    assert readout.development.train.x.var() == pytest.approx(1, abs=0.02)


def test_a_matched_filter_reaches_a_realistic_fidelity(readout: Dataset) -> None:
    train, test = readout.development.train, readout.open_test()
    ground, excited = (train.x[train.y == state].mean(axis=0) for state in (0, 1))
    weights = excited - ground
    called = np.tensordot(test.x - (ground + excited) / 2, weights, 2) > 0
    right = [np.mean(called[test.y == state] == state) for state in (0, 1)]
    assert 0.9 < np.mean(right) < 0.98
    assert right[0] > right[1] - 0.02  # only the excited state decays


def test_the_seed_fixes_everything() -> None:
    first, again, other = (qubit_readout(100, seed, samples=20).development.fingerprint for seed in (3, 3, 4))
    assert first == again
    assert first != other


def test_a_trace_does_not_depend_on_how_many_there_are() -> None:
    decaying = {**DEFAULTS, "times": TIMES[:50], "t1": 0.1}
    for few, many in zip(simulate(20, 7, RESONATOR, **decaying), simulate(1500, 7, RESONATOR, **decaying), strict=True):
        np.testing.assert_array_equal(few, many[:20])


@given(
    kappa=st.floats(0.1, 100),
    chi=st.floats(-50, 50),
    detuning=st.floats(-50, 50),
    photons=st.floats(0.01, 100),
    moment=st.floats(0.05, 1.9),
)
def test_fields_obey_the_equation_of_motion(kappa: float, chi: float, detuning: float, photons: float, moment: float) -> None:
    """Against the equation of motion, with the drive ε and the derivatives from the definition alone."""
    resonator = Resonator(kappa, chi, detuning, photons)
    rates = kappa / 2 + 1j * np.array([detuning - chi, detuning + chi])
    drive = 1j * resonator.steady[0] * rates[0]
    np.testing.assert_allclose(np.mean(np.abs(resonator.steady) ** 2), photons)
    times, step = np.linspace(0.01, 2, 40), 1e-6
    for state, since, field in (
        (0, 0.0, lambda t: resonator.ring_up(0, t)),
        (1, 0.0, lambda t: resonator.ring_up(1, t)),
        (0, moment + step, lambda t: resonator.decay(np.array([moment]), t)[0]),
    ):
        after, before = field(times + step), field(times - step)
        residual = (after - before) / (2 * step) + rates[state] * (after + before) / 2 + 1j * drive
        assert np.abs(residual[times > since]).max(initial=0) < 1e-4 * np.abs(drive) * (1 + np.abs(rates[state]))


def test_the_field_is_continuous_and_changes_course_at_the_decay() -> None:
    moments = np.array([0.0, 0.7, 5.0])
    fields = RESONATOR.decay(moments, TIMES)
    stays = RESONATOR.ring_up(1, TIMES)
    np.testing.assert_allclose(fields[0], RESONATOR.ring_up(0, TIMES))
    np.testing.assert_array_equal(fields[1][TIMES < 0.7], stays[TIMES < 0.7])
    np.testing.assert_array_equal(fields[2], stays)
    assert np.abs(np.diff(fields[1])).max() < 0.1
    late = RESONATOR.decay(moments[1:2], np.array([50.0]))[0, 0]
    assert late == pytest.approx(RESONATOR.steady[0])
    assert abs(RESONATOR.ring_up(0, np.zeros(1))[0]) == 0


def signals(**options: Any) -> Array:
    """Noise-free difference of excited traces to those that stay excited: the noise is that of the seed."""
    stable = {**DEFAULTS, "t1": np.inf, "preparation_error": 0.0}
    changed, prepared = simulate(3000, 0, RESONATOR, **{**stable, **options})
    difference: Array = (changed - simulate(3000, 0, RESONATOR, **stable)[0]) @ [1, 1j]
    if "t1" in options:
        assert not difference[prepared == 0].any()  # the ground state does not decay
    return difference[prepared == 1]


def to_trace(difference: Array) -> Array:
    """A difference of fields as it is in a trace, with the gain of :data:`DEFAULTS`."""
    amplitude = np.sqrt(0.1 * RESONATOR.kappa * 2.6e-3)
    power = np.mean([np.abs(RESONATOR.ring_up(state, TIMES)) ** 2 for state in (0, 1)])
    traced: Array = difference * amplitude * np.exp(0.8j) / np.sqrt(0.5 + amplitude**2 * power / 2)
    return traced


def test_excited_traces_decay_at_exponential_moments() -> None:
    found = signals(t1=0.3)
    moments = np.random.default_rng(1).exponential(0.3, 5000)
    expected = to_trace(RESONATOR.decay(moments, TIMES).mean(axis=0) - RESONATOR.ring_up(1, TIMES))
    assert np.abs(found.mean(axis=0) - expected).max() < 0.05 * np.abs(expected).max()
    assert np.mean(found[:, -1] == 0) == pytest.approx(np.exp(-TIMES[-1] / 0.3), abs=0.003)


def test_preparation_errors_swap_the_states() -> None:
    swapped = to_trace(RESONATOR.ring_up(0, TIMES) - RESONATOR.ring_up(1, TIMES))
    np.testing.assert_allclose(signals(preparation_error=1.0), np.tile(swapped, (1500, 1)), atol=1e-5)
    changed = signals(preparation_error=0.2).any(axis=1)
    assert changed.mean() == pytest.approx(0.2, abs=0.04)


def test_noise_is_that_of_the_efficiency() -> None:
    """Summed with the best weights, an ideal detector sees η κ ∫ |Δα|² dt photons of difference, over 1/2 of noise."""
    quiet = {**DEFAULTS, "t1": np.inf, "preparation_error": 0.0, "efficiency": 0.25}
    traces, prepared = simulate(4000, 0, RESONATOR, **quiet)
    difference = RESONATOR.ring_up(1, TIMES) - RESONATOR.ring_up(0, TIMES)
    weights = difference * np.exp(0.8j)
    called = traces[..., 0] @ weights.real + traces[..., 1] @ weights.imag
    ground, excited = (called[prepared == state] for state in (0, 1))
    ratio = (excited.mean() - ground.mean()) ** 2 / np.mean([ground.var(), excited.var()])
    expected = 0.25 * RESONATOR.kappa * 2.6e-3 * np.sum(np.abs(difference) ** 2) / 0.5
    assert ratio == pytest.approx(expected, rel=0.1)


@pytest.mark.parametrize(
    "options",
    [{"n": 0}, {"samples": 0}, {"kappa": 0.0}, {"efficiency": 1.5}, {"t1": 0.0}, {"preparation_error": -0.1}, {"chi": np.nan}],
)
def test_refused_options(options: Any) -> None:
    with pytest.raises(ConfigError, match=f"qubit_readout: {next(iter(options))}( = |: )"):
        qubit_readout(**options)


N = 120
PAIRS = np.random.default_rng(5).normal(scale=300, size=(N, 6, 2)).astype(np.int16)
STATES = np.arange(N) % 2


def save(path: Path, array: Array) -> Path:
    np.save(path, array)
    return path


def test_every_layout_gives_the_same(tmp_path: Path) -> None:
    states = save(tmp_path / "y.npy", STATES)
    flat = PAIRS.reshape(N, -1)
    expected = from_arrays(PAIRS, STATES, input_bits=10).development
    for dataset in (
        iq_readout(save(tmp_path / "pairs.npy", PAIRS), labels=states, input_bits=10),
        iq_readout(save(tmp_path / "flat.npy", flat), labels=states, input_bits=10),
        iq_readout(save(tmp_path / "last.npy", np.column_stack([flat, STATES])), labels=-1, input_bits=10),
        iq_readout(save(tmp_path / "first.npy", np.column_stack([STATES, flat])), labels=0, input_bits=10),
        iq_readout(tmp_path / "flat.npy", labels=save(tmp_path / "hot.npy", np.eye(2)[STATES]), input_bits=10),
    ):
        assert dataset.task.names == ("ground", "excited")
        assert dataset.input_shape == (6, 2)
        np.testing.assert_array_equal(dataset.development.train.x, expected.train.x)
        np.testing.assert_array_equal(dataset.development.train.y, expected.train.y)
    assert iq_readout(tmp_path / "flat.npy", labels=states).name == "flat"


def test_more_states_than_two(tmp_path: Path) -> None:
    path = save(tmp_path / "three.npy", np.column_stack([PAIRS.reshape(N, -1), np.arange(N) % 3]))
    assert iq_readout(path, labels=-1, task="classification").task.outputs == 3
    with pytest.raises(DataError, match=r"three\.npy \(labels in column -1\): three: label 2 of sample 2"):
        iq_readout(path, labels=-1)


def test_refused_recordings(tmp_path: Path) -> None:
    states = save(tmp_path / "y.npy", STATES)
    with pytest.raises(DataError, match=r"none\.npy: there is no such file"):
        iq_readout(tmp_path / "none.npy", labels=states)
    odd = save(tmp_path / "odd.npy", PAIRS.reshape(N, -1)[:, 1:])
    with pytest.raises(DataError, match=r"odd\.npy \(labels in .*y\.npy\): .*\(120, 11\).*I0, Q0"):
        iq_readout(odd, labels=states)
    with pytest.raises(DataError, match=r"odd\.npy: .*\(120, 11\) .*column 11"):
        iq_readout(odd, labels=11)
    pairs = save(tmp_path / "pairs.npy", PAIRS)
    with pytest.raises(DataError, match=r"pairs\.npy: .*\(120, 6, 2\) .*column -1"):
        iq_readout(pairs, labels=-1)
    with pytest.raises(DataError, match=r"shape \(120, 2, 6\)"):
        iq_readout(save(tmp_path / "turned.npy", PAIRS.transpose(0, 2, 1)), labels=states)
    with pytest.raises(DataError, match=r"pairs\.npy .*120 .*\(119,\)"):
        iq_readout(pairs, labels=save(tmp_path / "few.npy", STATES[1:]))
    pairs.write_bytes(b"nothing of the kind")
    with pytest.raises(DataError, match=r"pairs\.npy: cannot be read as npy"):
        iq_readout(pairs, labels=states)
