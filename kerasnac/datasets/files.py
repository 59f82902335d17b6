"""Arrays and tables from files, with one clear error for all that can be wrong with a file."""

from __future__ import annotations

import importlib
import re
import warnings
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from kerasnac.core.data.dataset import Array
from kerasnac.errors import DataError, EnvironmentProblem

_ATTRIBUTE = re.compile(r"""@attribute\s+(?:'([^']+)'|"([^"]+)"|([^\s'"]+))\s+\S""", re.IGNORECASE)


def read_arrays(path: str | Path, keys: Sequence[str]) -> list[Array]:
    """Read some arrays of a folder of ``.npy`` files, an ``.npz`` file or an HDF5 file.

    Args:
        path: The folder or file; its content tells the format.
        keys: Names of the arrays: of the ``.npy`` files without the ending, or paths inside an HDF5 file.

    Returns:
        The arrays, in the order of the keys.

    Raises:
        DataError: If the file or an array is missing or cannot be read.
        EnvironmentProblem: If it is no folder or ``.npz`` file, and h5py is not installed.
    """
    folder = Path(path)
    if folder.is_dir():
        require(keys, sorted(file.stem for file in folder.glob("*.npy")), path, "npy file")
        return [read_npy(folder / f"{key}.npy") for key in keys]
    if zipfile.is_zipfile(existing(path)):
        return read_npz(path, keys)
    if optional("h5py").is_hdf5(path):
        return read_hdf5(path, keys)
    raise DataError(f"{path}: is neither a folder of npy files nor an npz or HDF5 file")


def array_names(path: str | Path) -> list[str] | None:
    """Return the names of the arrays of a folder of ``.npy`` files, an ``.npz`` file or an HDF5 file; None for anything else.

    Raises:
        DataError: If it is a damaged file of one of these.
        EnvironmentProblem: If it is no folder or ``.npz`` file, and h5py is not installed.
    """
    folder = Path(path)
    if folder.is_dir():
        return sorted(file.stem for file in folder.glob("*.npy"))
    if zipfile.is_zipfile(existing(path)):
        with zipfile.ZipFile(path) as file:
            return [name.removesuffix(".npy") for name in file.namelist()]
    h5py = optional("h5py")
    if not h5py.is_hdf5(path):
        return None
    try:
        with h5py.File(path) as file:
            return _hdf5_datasets(file, (), h5py)
    except OSError as error:
        raise DataError(f"{path}: cannot be read as HDF5 ({error})") from error


def read_npy(path: str | Path) -> Array:
    """Read an ``.npy`` file.

    Args:
        path: The file.

    Returns:
        The array.

    Raises:
        DataError: If the file is missing, cannot be read or holds something other than an array.
    """
    try:
        with existing(path).open("rb") as file:
            array: Array = np.lib.format.read_array(file, allow_pickle=False)
            return array
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: cannot be read as npy ({error})") from error


def read_npz(path: str | Path, keys: Sequence[str]) -> list[Array]:
    """Read some arrays of an ``.npz`` file.

    Args:
        path: The file.
        keys: Names of the arrays.

    Returns:
        The arrays, in the order of the keys.

    Raises:
        DataError: If the file or an array is missing or cannot be read.
    """
    if not zipfile.is_zipfile(existing(path)):
        raise DataError(f"{path}: is not an npz file")
    try:
        with np.load(path, allow_pickle=False) as file:
            require(keys, file.files, path, "array")
            return [file[key] for key in keys]
    except (OSError, ValueError, EOFError, RuntimeError, zipfile.BadZipFile, zlib.error) as error:
        raise DataError(f"{path}: cannot be read as npz ({error})") from error


def read_hdf5(path: str | Path, keys: Sequence[str]) -> list[Array]:
    """Read some arrays of an HDF5 file.

    Args:
        path: The file.
        keys: Paths of the HDF5 datasets inside the file.

    Returns:
        The arrays, in the order of the keys; strings as text.

    Raises:
        DataError: If the file or an HDF5 dataset is missing or cannot be read.
        EnvironmentProblem: If h5py is not installed.
    """
    text = optional("h5py").check_string_dtype
    with open_hdf5(path, keys) as nodes:
        # Strings come out as bytes unless asked for as text.
        return [np.asarray((node.asstr() if text(node.dtype) else node)[()]) for node in nodes]


@contextmanager
def open_hdf5(path: str | Path, keys: Sequence[str]) -> Iterator[list[Any]]:
    """Open some HDF5 datasets of a file without reading them.

    Args:
        path: The file.
        keys: Paths of the HDF5 datasets inside the file.

    Yields:
        The ``h5py.Dataset`` objects, in the order of the keys; they can be read until the context ends.

    Raises:
        DataError: If the file or an HDF5 dataset is missing or cannot be read, also while the context lasts.
        EnvironmentProblem: If h5py is not installed.
    """
    h5py = optional("h5py")
    try:
        with h5py.File(existing(path)) as file:
            require(keys, _hdf5_datasets(file, keys, h5py), path, "HDF5 dataset")
            yield [file[key] for key in keys]
    except OSError as error:
        raise DataError(f"{path}: cannot be read as HDF5 ({error})") from error


def read_table(path: str | Path) -> Any:
    """Read a table with one sample per row.

    Args:
        path: A comma-separated file with a header, or an ARFF file.

    Returns:
        A pandas data frame; infinite numbers count as gaps.

    Raises:
        DataError: If the file is missing or cannot be read.
        EnvironmentProblem: If pandas is not installed.
    """
    pandas = optional("pandas")
    header = _arff_header(existing(path))
    options: dict[str, Any] = {"index_col": False}  # else surplus first columns would become names of the rows
    if header is not None:
        names, lines = header
        options |= {"header": None, "names": names, "skiprows": lines, "na_values": "?"}
        options |= {"quotechar": "'", "comment": "%", "skipinitialspace": True}
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", pandas.errors.ParserWarning)  # rows longer than the header lose values
            return pandas.read_csv(path, **options).replace([np.inf, -np.inf], np.nan)
    except (OSError, ValueError, pandas.errors.ParserWarning) as error:
        raise DataError(f"{path}: cannot be read as {'CSV' if header is None else 'ARFF'} ({error})") from error


def column(series: Any, path: str | Path, *, text: bool = False) -> Array:
    """Return the values of a table's column, which has no gaps.

    Args:
        series: The column.
        path: Its file, for messages.
        text: Accept strings as well as numbers.

    Returns:
        The values, shape (samples,).

    Raises:
        DataError: If there are gaps, or strings unless ``text``.
    """
    gaps = series.isna().to_numpy()
    if gaps.any():
        where = f"{gaps.sum()} of {len(gaps)} samples, first in sample {gaps.argmax()}"
        raise DataError(f"{path}: column {series.name!r} is empty or infinite in {where}: fill or drop them")
    if series.dtype.kind not in "biuf" and not text:
        raise DataError(f"{path}: column {series.name!r} is not numeric: drop it, or list the columns to use as features")
    return np.asarray(series)


def existing(path: str | Path) -> Path:
    """Return the path of a file that exists.

    Raises:
        DataError: If it is not.
    """
    if not Path(path).is_file():
        raise DataError(f"{path}: {'it is a folder, no file' if Path(path).is_dir() else 'there is no such file'}")
    return Path(path)


def require(wanted: Sequence[str], available: Sequence[str], path: str | Path, what: str) -> None:
    """Check that a file holds all that is wanted.

    Args:
        wanted: Names.
        available: All names of the file.
        path: The file, for messages.
        what: Kind of thing that they name, for messages.

    Raises:
        DataError: With the first name that is missing, and all that there are.
    """
    for key in wanted:
        if key not in available:
            raise DataError(f"{path}: there is no {what} {key!r}; there is {', '.join(available) or 'none at all'}")


def optional(module: str, package: str | None = None) -> Any:
    """Import a package that only one dataset or file format needs.

    Args:
        module: The module.
        package: The package that pip installs, if its name is another one.

    Returns:
        The module.

    Raises:
        EnvironmentProblem: If it is not installed.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        package = package or module
        raise EnvironmentProblem(f"this dataset needs the package {package}: pip install {package}") from error


def _hdf5_datasets(file: Any, wanted: Sequence[str], h5py: Any) -> list[str]:
    """Return the paths of all HDF5 datasets, and the wanted ones even behind a link, which ``visititems`` does not follow."""
    found: list[str] = []
    file.visititems(lambda key, node: found.append(key) if isinstance(node, h5py.Dataset) else None)
    return found + [key for key in wanted if key not in found and isinstance(file.get(key), h5py.Dataset)]


def _arff_header(path: Path) -> tuple[list[str], int] | None:
    """Return the names of the columns of an ARFF file and the number of lines above its data; nothing if it is none."""
    names: list[str] = []
    with path.open(encoding="utf-8", errors="replace") as lines:
        number = 0
        for number, line in enumerate(lines, 1):
            word = line.split(maxsplit=1)[0].lower() if line.strip() else "%"
            if word == "@data":
                return names, number
            if word == "@attribute":
                match = _ATTRIBUTE.match(line.strip())
                if match is None:
                    raise DataError(f"{path}: line {number} is no ARFF attribute: {line.strip()[:60]!r}")
                names.append(match[1] or match[2] or match[3])
            elif word != "@relation" and not word.startswith("%"):
                break
    if names:
        raise DataError(f"{path}: the ARFF header ends in line {number} without @data")
    return None
