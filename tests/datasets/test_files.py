"""Readers of files: formats told apart by content, and tables with a header of either kind."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import pytest

from kerasnac.datasets.files import open_hdf5, read_arrays, read_npy, read_table
from kerasnac.errors import DataError

A, B = np.arange(6).reshape(3, 2), np.array(["x", "y", "z"])

ARFF = """% A comment
@RELATION 'some name'

@ATTRIBUTE a REAL
@attribute 'b c'\tnumeric
@Attribute class {g, 'w z'}

@DATA
% another comment
1.5, -2,g
?,3e-2,'w z'
"""


def test_folder_npz_and_hdf5_hold_the_same_arrays(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", A)
    np.save(tmp_path / "b.npy", B)
    np.savez(tmp_path / "npz_by_content", a=A, b=B)
    with h5py.File(tmp_path / "hdf5_by_content", "w") as file:
        file["a"], file["b"] = A, B.tolist()
    for path in (tmp_path, tmp_path / "npz_by_content.npz", tmp_path / "hdf5_by_content"):
        b, a = read_arrays(path, ("b", "a"))
        np.testing.assert_array_equal(a, A)
        np.testing.assert_array_equal(b, B)
        with pytest.raises(DataError, match=f"{path.name}: .*'c'.* a, b"):
            read_arrays(path, ("a", "c"))


def test_refused_array_files(tmp_path: Path) -> None:
    path = tmp_path / "a.bin"
    with pytest.raises(DataError, match=r"a\.bin: there is no such file"):
        read_arrays(path, ("a",))
    path.write_bytes(b"nothing of the kind")
    with pytest.raises(DataError, match=r"a\.bin: .*npy.*npz.*HDF5"):
        read_arrays(path, ("a",))
    for content in (b"", b"\x93NUMPY\x01\x00"):
        path.write_bytes(content)
        with pytest.raises(DataError, match=r"a\.bin: cannot be read as npy"):
            read_npy(path)
    np.save(tmp_path / "o.npy", np.array([{}, {}]))
    with pytest.raises(DataError, match=r"o\.npy: .*allow_pickle"):
        read_npy(tmp_path / "o.npy")


def test_hdf5_is_read_lazily_and_late_errors_name_the_file(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["a"] = A
    with open_hdf5(tmp_path / "a.h5", ("a",)) as (node,):
        np.testing.assert_array_equal(node[1], A[1])
    with pytest.raises(DataError, match=r"a\.h5: .*HDF5 \(torn\)"), open_hdf5(tmp_path / "a.h5", ("a",)):
        raise OSError("torn")


def test_arff(tmp_path: Path) -> None:
    path = tmp_path / "table"
    path.write_text(ARFF)
    frame = read_table(path)
    assert list(frame.columns) == ["a", "b c", "class"]
    np.testing.assert_array_equal(frame["a"], [1.5, np.nan])
    np.testing.assert_array_equal(frame["b c"], [-2, 0.03])
    assert list(frame["class"]) == ["g", "w z"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (ARFF.replace("@DATA\n", ""), "the ARFF header ends in line 9 without @data"),
        (ARFF[: ARFF.index("@DATA")], "the ARFF header ends in line 7 without @data"),
        (ARFF.replace(" REAL", ""), "line 4 is no ARFF attribute: '@ATTRIBUTE a'"),
        (ARFF.replace("-2,", "-2,0,"), "cannot be read as ARFF"),
        (ARFF[: ARFF.index("@ATTRIBUTE a")] + "@DATA\n", "cannot be read as ARFF"),
        ("a,b\n1,2,3\n4,5,6\n", "cannot be read as CSV .*does not match length of data"),
        ("a,b\n1,2\n4,5,6\n", "cannot be read as CSV"),
        ("a,b\n0,1,2\n1,4,5\n", "cannot be read as CSV .*does not match length of data"),
        ("", "cannot be read as CSV"),
    ],
)
def test_refused_tables(tmp_path: Path, content: str, message: str) -> None:
    (tmp_path / "table").write_text(content)
    with pytest.raises(DataError, match=f"table: .*{message}"):
        read_table(tmp_path / "table")


def test_binary_content_is_no_table(tmp_path: Path) -> None:
    (tmp_path / "table").write_bytes(bytes(range(128, 256)))
    with pytest.raises(DataError, match="table: cannot be read as CSV"):
        read_table(tmp_path / "table")
