"""Jets in every layout that people have: a small file of each is recognised, and a bad one is named."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from kerasnac.core.data.dataset import Array, Dataset
from kerasnac.datasets import jets, toy_jets
from kerasnac.datasets.jet_files import HLS4ML_CLASSES, LHC_CLASSES, LHC_FEATURES, LHC_PARTICLE
from kerasnac.datasets.toy_jets import KEPT, ORIGINS, draw, features
from kerasnac.errors import ConfigError, DataError

JETS = 200
LABELS = np.arange(JETS) % 5
PARTICLES = draw(JETS, 3)[0]
FEATURES = features(PARTICLES)
HOT = np.eye(5)

#: Columns of particles as the LHC jet dataset has them.
NAMES = [
    *("j1_px", "j1_py", "j1_pz", "j1_e", "j1_erel", "j1_pt", "j1_ptrel", "j1_eta", "j1_etarel", "j1_etarot", "j1_phi"),
    *("j1_phirel", "j1_phirot", "j1_deltaR", "j1_costheta", "j1_costhetarel", "j1_pdgid"),
]


def lhc(path: Path, chosen: slice = slice(None), named: bool = True, **changes: Any) -> Path:
    """Write a file of the LHC jet dataset: 59 values per jet, 16 per particle, particles in any order."""
    count = len(PARTICLES[chosen])
    jet = np.zeros((count, 59))
    jet[:, list(LHC_FEATURES.values())] = FEATURES[chosen]
    jet[:, -6:-1] = HOT[LABELS[chosen]]
    particles = np.zeros((count, KEPT, 16))
    order = np.random.default_rng(0).permutation(KEPT)
    particles[..., list(LHC_PARTICLE.values())] = PARTICLES[chosen][:, order]
    names = np.array([f"j_{i}" for i in range(59)], dtype="S20")
    for name, place in {**LHC_FEATURES, **{f"j_{name}": 53 + i for i, name in enumerate(LHC_CLASSES)}}.items():
        names[place] = name.encode()
    arrays = {"jets": jet, "jetConstituentList": particles, "jetImage": np.zeros((count, 2, 2))}
    if named:
        arrays |= {"jetFeatureNames": names, "particleFeatureNames": np.array(NAMES, dtype="S20")}
    path.parent.mkdir(exist_ok=True)
    with h5py.File(path, "w") as file:
        for key, array in (arrays | changes).items():
            file[key] = array
    return path


def same(first: Dataset, second: Dataset) -> bool:
    """Tell whether two datasets have the same samples in the same splits, whatever order their classes have."""
    names = [np.array(one.task.names) for one in (first, second)]
    splits = [(one.development.train, one.development.validation, one.open_test()) for one in (first, second)]
    return all(np.array_equal(a.x, b.x) and np.array_equal(names[0][a.y], names[1][b.y]) for a, b in zip(*splits, strict=True))


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("own") / "jets.npz"
    np.savez(path, constituents=PARTICLES, features=FEATURES, label=LABELS, classes=np.array(LHC_CLASSES))
    return path


@pytest.mark.parametrize("constituents", [None, 8])
def test_every_layout_gives_the_same_jets(own: Path, tmp_path: Path, constituents: int | None) -> None:
    expected = jets(own, constituents=constituents)
    assert expected.taken_for.startswith("jets.npz was taken for jets with")
    half = JETS // 2
    files = lhc(tmp_path / "jetImage_0.h5"), lhc(tmp_path / "plain.h5", named=False)
    lhc(tmp_path / "several" / "jetImage_0.h5", slice(half))
    lhc(tmp_path / "several" / "jetImage_1.h5", slice(half, None))
    for path in (*files, tmp_path / "several"):
        found = jets(path, constituents=constituents)
        assert same(found, expected)
        assert "LHC jet dataset" in found.taken_for
    assert "2 of 2 files" in found.taken_for
    assert found.taken_for in found.describe()


def test_particles_named_otherwise(own: Path, tmp_path: Path) -> None:
    expected = jets(own, constituents=8)
    wider = np.concatenate([PARTICLES, np.ones((JETS, KEPT, 2))], axis=2)  # with further columns after pT, Δη, Δφ
    names = np.array(LHC_CLASSES)
    np.savez(tmp_path / "lists.npz", x=wider, y=HOT[LABELS], classes=names)
    with h5py.File(tmp_path / "lists.h5", "w") as file:
        file["particles"], file["labels"] = wider[:, np.random.default_rng(1).permutation(KEPT)], LABELS
        file["classes"] = names.astype("S1")
    for name in ("lists.npz", "lists.h5"):
        found = jets(tmp_path / name, constituents=8)
        assert same(found, expected)
        assert "particle lists" in found.taken_for


def test_tables_and_arrays_of_the_tutorial(own: Path, tmp_path: Path) -> None:
    kinds = np.array(LHC_CLASSES)[LABELS]
    rows = [",".join([*(f"{value:.9g}" for value in row), kind]) for row, kind in zip(FEATURES, kinds, strict=True)]
    attributes = [f"@attribute {name} real" for name in LHC_FEATURES] + ["@attribute class {g, q, w, z, t}"]
    (tmp_path / "jets.arff").write_text("\n".join(["@relation jets", *attributes, "@data", *rows]))
    (tmp_path / "jets.csv").write_text("\n".join([",".join([*LHC_FEATURES, "class"]), *rows]))
    for name, word in (("jets.arff", "ARFF"), ("jets.csv", "CSV")):
        found = jets(tmp_path / name)
        assert same(found, jets(own))
        assert f"OpenML's table of the hls4ml jets ({word})" in found.taken_for
    hot = HOT[[HLS4ML_CLASSES.index(kind) for kind in kinds]]
    arrays = {"X_train_val": FEATURES[:150], "y_train_val": hot[:150], "X_test": FEATURES[150:], "y_test": hot[150:]}
    for key, array in arrays.items():
        np.save(tmp_path / f"{key}.npy", array)
    np.save(tmp_path / "classes.npy", np.array(HLS4ML_CLASSES, dtype=object))  # pickled, as the tutorial does: never read
    found = jets(tmp_path, input_bits=20)
    assert (found.task.names, len(found.open_test())) == (HLS4ML_CLASSES, 50)
    assert "50 jets of X_test for the test" in found.taken_for
    np.testing.assert_array_equal(np.array(HLS4ML_CLASSES)[found.open_test().y], kinds[150:])
    assert len(found.development.validation) == round(150 * 0.15 / 0.85)
    np.save(tmp_path / "classes.npy", np.array(["a", *HLS4ML_CLASSES[1:]]))
    with pytest.raises(DataError, match=r"classes\.npy: holds a, q, t, w, z; expected the classes g, q, t, w, z"):
        jets(tmp_path)


def test_folders_with_a_test_of_their_own(tmp_path: Path) -> None:
    lhc(tmp_path / "train" / "jetImage_0.h5", slice(0, 120))
    lhc(tmp_path / "val" / "jetImage_1.h5", slice(120, None))
    found = jets(tmp_path, constituents=8, samples=100)
    assert (len(found.development.train) + len(found.development.validation), len(found.open_test())) == (100, 80)
    np.testing.assert_array_equal(found.open_test().y, LABELS[120:])
    assert "the 80 jets in val/ for the test" in found.taken_for


def test_jets_without_one_origin_are_dropped(tmp_path: Path) -> None:
    jet = np.zeros((JETS, 59))
    jet[:, -6:-1] = HOT[LABELS]
    jet[:3, -6:-1] = [[1, 1, 0, 0, 0], [0] * 5, [0.5, 0.5, 0, 0, 0]]
    path = lhc(tmp_path / "a.h5", jets=jet)
    with pytest.warns(UserWarning, match=r"a\.h5: dropped 3 of 200 jets without exactly one origin"):
        found = jets(path, constituents=4)
    assert len(found.development.train) + len(found.development.validation) + len(found.open_test()) == 197


WIDE = np.zeros((JETS, 10, 16))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"jets": np.zeros((JETS, 3))}, r"a\.h5: there is no column \(jetFeatureNames\) 'j_g'"),
        ({"jets": np.zeros((JETS, 59))}, r"a\.h5: no jet has exactly one of the origins g, q, w, z, t"),
        ({"jetConstituentList": WIDE[:5]}, r"a\.h5: jets has shape \(200, 59\), jetConstituentList \(5, 10, 16\)"),
        ({"jetConstituentList": WIDE[:, :4]}, r"a\.h5: constituents = 8, but there are only 4"),
        (
            {"particleFeatureNames": np.array(["j1_px"] * 16, dtype="S9")},
            r"there is no column \(particleFeatureNames\) 'j1_pt'",
        ),
    ],
)
def test_refused_files_of_the_lhc_jets(tmp_path: Path, changes: dict[str, Array], message: str) -> None:
    with pytest.raises(DataError, match=message):
        jets(lhc(tmp_path / "a.h5", **changes), constituents=8)


@pytest.mark.parametrize(
    ("arrays", "constituents", "message"),
    [
        ({"something": LABELS}, 8, r"a\.npz: holds something, which is no known layout; expected .*jetConstituentList"),
        ({"x": PARTICLES}, 8, r"a\.npz: there are particles 'x' but no labels \(label, labels, y, Y\); it holds x"),
        ({"x": PARTICLES[..., :2], "y": LABELS}, 8, r"a\.npz: x has shape \(200, 32, 2\).*pT in GeV, Δη, Δφ"),
        ({"x": PARTICLES[..., ::-1], "y": LABELS}, 8, r"a\.npz \(x, y\): a first column below 0 .*is not \(pT, Δη, Δφ\)"),
        ({"x": PARTICLES, "y": LABELS}, None, r"a\.npz: taken for particle lists .*no features: give constituents, such as 8"),
        ({"x": np.where(PARTICLES > 9, np.nan, PARTICLES), "y": LABELS}, 8, r"a\.npz \(x, y\): jets_8: sample 0 is NaN"),
        ({"x": PARTICLES, "y": LABELS}, 40, r"a\.npz: constituents = 40, but there are only 32"),
    ],
)
def test_refused_arrays(tmp_path: Path, arrays: dict[str, Array], constituents: int | None, message: str) -> None:
    np.savez(tmp_path / "a.npz", **arrays)
    with pytest.raises(DataError, match=message):
        jets(tmp_path / "a.npz", constituents=constituents)


def test_refused_paths(own: Path, tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("nothing of the kind")
    for path, message in (
        (tmp_path / "a.txt", r"a\.txt: is no known layout; expected"),
        (tmp_path, r": holds nothing, which is no known layout"),
        (tmp_path / "b.h5", r"b\.h5: there is no such file or folder; expected"),
    ):
        with pytest.raises(DataError, match=message):
            jets(path)
    (tmp_path / "b.h5").write_bytes(lhc(tmp_path / "c.h5").read_bytes()[:3000])
    with pytest.raises(DataError, match=r"b\.h5: cannot be read as HDF5"):
        jets(tmp_path / "b.h5")
    (tmp_path / "t.csv").write_text("\n".join([",".join([*LHC_FEATURES, "class"]), *[",".join(["1"] * 16 + ["g"])] * 9]))
    with pytest.raises(DataError, match=r"t\.csv: taken for OpenML's table .* no particles: leave out constituents"):
        jets(tmp_path / "t.csv", constituents=8)


def test_toy_jets_have_the_columns_of_jets() -> None:
    data, lists = toy_jets(2000), toy_jets(2000, constituents=8)
    assert (data.input_shape, lists.input_shape, data.task.names) == ((16,), (8, 3), tuple(ORIGINS))
    assert toy_jets(2000).development.fingerprint == data.development.fingerprint != toy_jets(2000, 1).development.fingerprint
    np.testing.assert_array_equal(draw(3000, 5)[0][:700], draw(700, 5)[0])
    particles, labels = draw(2000, 0)
    assert np.isfinite(particles).all()
    assert (np.diff(particles[..., 0]) <= 0).all()
    assert np.hypot(particles[..., 1], particles[..., 2]).max() <= 0.8 + 1e-6
    mass = features(particles)[:, 14]
    medians = [np.median(mass[labels == i]) for i in range(5)]
    assert medians[1] < medians[2] < medians[3] < medians[4]
    with pytest.raises(ConfigError, match="toy_jets: constituents = 33, but a toy jet has 32"):
        toy_jets(100, constituents=33)
