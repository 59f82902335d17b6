"""Bragg peaks: determinism, scaling, labels that are where the photons are, and cutting them out of frames."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from kerasnac.core.data.dataset import Array
from kerasnac.core.network.precision import Precision
from kerasnac.datasets.bragg import SIZE, bragg_peaks, braggnn, simulate
from kerasnac.errors import ConfigError, DataError

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
    dataset = bragg_peaks(2000, amplitude=(50, 5000))  # bright, so that the labels are what is tested
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


def write_pair(folder: Path, frames: Array, peaks: dict[str, Any]) -> tuple[Path, Path]:
    for name, arrays in (("frames.h5", {"frames": frames}), ("peaks.h5", peaks)):
        with h5py.File(folder / name, "w") as file:
            for key, array in arrays.items():
                file[key] = array
    return folder / "frames.h5", folder / "peaks.h5"


def measured(peaks: int = 60) -> tuple[Array, dict[str, Any]]:
    """Frames of 30 x 40 pixels with one narrow peak each, and the positions in random order; two frames are empty."""
    rng = np.random.default_rng(4)
    row, col = rng.uniform(4.6, 24.4, peaks), rng.uniform(4.6, 34.4, peaks)
    frame = rng.permutation(peaks + 2)[:peaks]
    frames = np.full((peaks + 2, 30, 40), 3.0)
    distance = (np.arange(30)[:, np.newaxis] - row[:, None, None]) ** 2 + (np.arange(40) - col[:, None, None]) ** 2
    frames[frame] += 1000 * np.exp(-distance / 4)
    return frames.astype(np.uint16), {"peak_row": row, "peak_col": col, "peak_fidx": frame.astype(np.uint32)}


def test_braggnn_finds_every_peak_at_its_label(tmp_path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        dataset = braggnn(*write_pair(tmp_path, *measured()), input_bits=10)
    simulated = bragg_peaks(100)
    assert (dataset.name, dataset.task, dataset.input_shape) == ("braggnn", simulated.task, simulated.input_shape)
    assert dataset.input_grid == Precision(10, 0, signed=False)
    for split in (dataset.development.train, dataset.development.validation, dataset.open_test()):
        assert np.abs(split.y * SIZE - 5).max() <= 0.5 + 1e-5
        np.testing.assert_allclose(centre_of_mass(split.x[..., 0].astype(np.float64)), split.y * SIZE, atol=0.03)
        np.testing.assert_array_equal(split.x.min(axis=(1, 2, 3)), 0)
        np.testing.assert_array_equal(split.x.max(axis=(1, 2, 3)), 1 - 2**-10)


def test_braggnn_reads_several_peaks_of_a_frame_and_small_numbers(tmp_path: Path) -> None:
    """Normalised frames span less than 1, and all peaks may be in one frame."""
    frames, peaks = measured()
    top = frames.max(axis=0, keepdims=True) / 2000
    sizes = braggnn(*write_pair(tmp_path, top, {**peaks, "peak_fidx": np.zeros(60)})).development.train.x
    np.testing.assert_array_equal(sizes.max(axis=(1, 2, 3)), 1 - 2**-8)


def test_braggnn_says_what_it_drops(tmp_path: Path) -> None:
    frames, peaks = measured()
    peaks["peak_row"][:2], peaks["peak_col"][2] = [4.4, 24.6], 34.7
    with pytest.warns(UserWarning, match=r"peaks\.h5: .*3 of 60"):
        dataset = braggnn(*write_pair(tmp_path, frames, peaks))
    assert len(dataset.development.train) + len(dataset.development.validation) + len(dataset.open_test()) == 57
    npeaks, deviations = np.ones(60), np.zeros(60)
    npeaks[3:5], deviations[5:8] = 2, [-1, 1, 0.99]
    with pytest.warns(UserWarning, match="dropped") as caught:
        braggnn(*write_pair(tmp_path, frames, {**peaks, "npeaks": npeaks, "deviations": deviations}))
    assert "dropped 4 of 60 peaks, which are not alone" in str(caught[0].message)
    assert "dropped 3 of 56 peaks, which are nearer" in str(caught[1].message)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"peak_row": np.ones(59)}, r"peaks\.h5: peak_row, peak_col, peak_fidx have the shapes \(59,\), \(60,\), \(60,\)"),
        ({"peak_col": np.full(60, np.nan)}, r"peaks\.h5: peak_col must be finite numbers"),
        ({"peak_fidx": np.full(60, 0.5)}, r"peaks\.h5: peak_fidx must be whole numbers"),
        ({"peak_fidx": np.full(60, 62)}, r"peaks\.h5: peak_fidx of peak 0 is 62; .*frames\.h5 has the frames 0 to 61"),
        ({"peak_row": np.full(60, 29.0)}, r"peaks\.h5: no peak is left, all 60 are nearer than 5 px"),
        ({"npeaks": np.full(60, 2)}, r"peaks\.h5: no peak is left, all 60 are not alone"),
        ({"npeaks": np.ones(3)}, r"peaks\.h5: npeaks has shape \(3,\); expected one number for each of the 60 peaks"),
        ({"frames": np.ones((62, 30))}, r"frames\.h5: frames has shape \(62, 30\) and dtype float64; expected"),
        ({"frames": np.ones((62, 30, 10))}, "at least 11 x 11 pixels"),
        ({"frames": np.full((62, 30, 40), np.nan)}, r"peaks\.h5 \(peaks, frames in .*frames\.h5\): braggnn: sample 0 is NaN"),
    ],
)
def test_refused_pairs(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    frames, peaks = measured()
    arrays = {"frames": frames, **peaks, **changes}
    with pytest.raises(DataError, match=message):
        braggnn(*write_pair(tmp_path, arrays.pop("frames"), arrays))


def test_missing_arrays_of_pairs(tmp_path: Path) -> None:
    frames_file, peaks_file = write_pair(tmp_path, *measured())
    with pytest.raises(DataError, match=r"peaks\.h5: .*'frames'.*peak_col"):
        braggnn(peaks_file, peaks_file)
    with pytest.raises(DataError, match=r"frames\.h5: .*'peak_row'.*frames"):
        braggnn(frames_file, frames_file)
    with pytest.raises(DataError, match="nowhere: there is no such file"):
        braggnn(frames_file, tmp_path / "nowhere")


def test_bragg_peaks_take_measured_files(tmp_path: Path) -> None:
    frames_file, peaks_file = write_pair(tmp_path, *measured())
    expected = braggnn(frames_file, peaks_file)
    for path in (tmp_path, frames_file, peaks_file, [peaks_file, frames_file]):
        found = bragg_peaks(path=path)
        assert found.development.fingerprint == expected.development.fingerprint
        assert found.taken_for == "frames.h5 and peaks.h5 were taken for the frames and peaks of BraggNN: 60 peaks used"
    few = bragg_peaks(30, path=tmp_path)
    assert len(few.development.train) + len(few.development.validation) + len(few.open_test()) == 30
    assert bragg_peaks(30, path=tmp_path).describe() == few.describe()


def test_refused_files_of_bragg_peaks(tmp_path: Path) -> None:
    frames, peaks = measured()
    frames_file, peaks_file = write_pair(tmp_path, frames, peaks)
    with pytest.raises(DataError, match=r"none: there is no such file or folder; expected two HDF5 files as of BraggNN"):
        bragg_peaks(path=tmp_path / "none")
    with pytest.raises(
        DataError, match=r"none of 1 files has frames; expected .*\(peaks\.h5 has peak_col, peak_fidx, peak_row\)"
    ):
        bragg_peaks(path=[peaks_file, peaks_file])
    (tmp_path / "more.h5").write_bytes(frames_file.read_bytes())
    with pytest.raises(DataError, match=r"frames\.h5, more\.h5 all have frames|more\.h5, frames\.h5 all have frames"):
        bragg_peaks(path=tmp_path)
    assert bragg_peaks(path=[frames_file, peaks_file]).name == "braggnn"
    assert bragg_peaks(path=frames_file).name == "braggnn"
    peaks_file.unlink()
    with pytest.raises(DataError, match="none of 2 files has peak_row, peak_col, peak_fidx"):
        bragg_peaks(path=frames_file)
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match=r"empty: none of 0 files has frames; .*\(there is no HDF5 file\)"):
        bragg_peaks(path=tmp_path / "empty")
