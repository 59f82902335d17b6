"""Files of recorded I/Q traces in the layouts that people have."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from kerasnac.core.data.dataset import Array
from kerasnac.datasets.files import read_npy
from kerasnac.datasets.options import listed
from kerasnac.errors import DataError

#: All layouts, for messages.
LAYOUTS = (
    "a folder with X_train*.npy, y_train*.npy and, for the test, X_test*.npy, y_test*.npy, whatever stands before these names "
    "(as of the QICK readout), one .npy file whose first or last column holds the states, or two, traces and states; traces "
    "are (traces, 2 * samples) with I0, Q0, I1, Q1, ... or (traces, samples, 2)"
)

_ROLE = re.compile(r"(?:^|[_-])([xy])[_-](train|test)(?:[_-]|$|\.)", re.IGNORECASE)


@dataclass(frozen=True)
class IqFile:
    """Traces as files have them.

    Attributes:
        path: The file or folder, for messages.
        traces: I and Q, shape (traces, samples, 2).
        states: Class indices (traces,), or one-hot (traces, states).
        test: How many traces at the end are those of a test split of its own; 0 for none.
        source: Where the states are, for messages.
        layout: What the files were taken for.
    """

    path: Path
    traces: Array
    states: Array
    test: int
    source: str
    layout: str


def read_iq(paths: str | Path | Sequence[str | Path]) -> IqFile:
    """Read recorded traces with the states in which the qubit was prepared.

    Args:
        paths: A folder, the file of traces in such a folder, one file, or a file of traces and one of states.

    Raises:
        DataError: With the file, if there is no such layout.
    """
    given = listed(paths)
    path = given[0]
    if missing := [one for one in given if not one.exists()]:
        raise DataError(f"{missing[0]}: there is no such file or folder; expected {LAYOUTS}")
    if len(given) > 2 or (len(given) == 2 and any(one.is_dir() for one in given)):
        raise DataError(f"{path}: {len(given)} paths; expected {LAYOUTS}")
    if len(given) == 2:
        return _two(*given)
    roles = _roles(path if path.is_dir() else path.parent, None if path.is_dir() else path)
    if roles:
        return _splits(path, roles)
    files = sorted(path.glob("*.npy")) if path.is_dir() else [path]
    if len(files) == 2:
        return _two(*sorted(files, key=lambda file: -read_npy(file).size))
    if len(files) != 1:
        held = ", ".join(file.name for file in files[:8]) or "no npy file"
        raise DataError(f"{path}: holds {held}; expected {LAYOUTS}")
    return _one(files[0])


def pairs(traces: Array, path: str | Path, source: str) -> Array:
    """Return traces with I and Q on a last axis, shape (traces, samples, 2).

    Args:
        traces: The same, or with I and Q in turns (traces, 2 * samples).
        path: The file, for messages.
        source: Where its states are, for messages.

    Raises:
        DataError: If they have another shape.
    """
    if traces.ndim == 2 and traces.shape[1] % 2 == 0:
        traces = traces.reshape(len(traces), -1, 2)
    if traces.ndim != 3 or traces.shape[2] != 2:
        raise DataError(
            f"{path} ({source}): the traces have shape {traces.shape}; "
            "expected (traces, 2 * samples) with I0, Q0, I1, Q1, ... or (traces, samples, 2)"
        )
    return traces


def _roles(folder: Path, chosen: Path | None) -> dict[str, Path]:
    """Return the files of a folder by what their names say, ``x_train`` and so on; nothing if none says anything.

    Args:
        folder: The folder.
        chosen: A file whose partners are to be found, those that differ from it in the role alone; None takes all files.

    Raises:
        DataError: If two have the same role.
    """
    roles: dict[str, Path] = {}
    rest = None if chosen is None else _ROLE.sub("", chosen.name)
    if chosen is not None and _ROLE.search(chosen.name) is None:
        return {}
    for file in sorted(folder.glob("*.npy")):
        match = _ROLE.search(file.name)
        if match is None or (rest is not None and _ROLE.sub("", file.name) != rest):
            continue
        role = f"{match[1].lower()}_{match[2].lower()}"
        if role in roles:
            both = f"{roles[role].name} and {file.name}"
            raise DataError(f"{folder}: {both} are both {role}: give one of them, its partners are found by their names")
        roles[role] = file
    return roles


def _splits(path: Path, roles: dict[str, Path]) -> IqFile:
    """Read files of splits."""
    for role in ("x_train", "y_train", *(("x_test", "y_test") if {"x_test", "y_test"} & set(roles) else ())):
        if role not in roles:
            held = ", ".join(file.name for file in roles.values())
            raise DataError(f"{path}: there is {held}, but no file with {role} in its name; expected {LAYOUTS}")
    source = ", ".join(file.name for file in roles.values())
    traces = [pairs(read_npy(roles["x_train"]), roles["x_train"], "traces")]
    states = [_states(read_npy(roles["y_train"]), roles["y_train"], len(traces[0]))]
    test = 0
    if "x_test" in roles:
        traces.append(pairs(read_npy(roles["x_test"]), roles["x_test"], "traces"))
        states.append(_states(read_npy(roles["y_test"]), roles["y_test"], len(traces[1])))
        test = len(traces[1])
        if traces[0].shape[1] != traces[1].shape[1]:
            lengths = f"{traces[0].shape[1]} and {traces[1].shape[1]} samples"
            raise DataError(f"{path}: the traces of {roles['x_train'].name} and {roles['x_test'].name} have {lengths}")
    layout = f"I/Q traces of {traces[0].shape[1]} samples ({source})"
    layout += f", {test:,} of them for the test" if test else ", no test split of its own"
    return IqFile(path, np.concatenate(traces), np.concatenate(states), test, source, layout)


def _two(traces_file: Path, states_file: Path) -> IqFile:
    source = f"labels in {states_file.name}"
    traces = pairs(read_npy(traces_file), traces_file, source)
    states = _states(read_npy(states_file), states_file, len(traces))
    return IqFile(traces_file, traces, states, 0, source, f"I/Q traces of {traces.shape[1]} samples, with {source}")


def _one(path: Path) -> IqFile:
    """Read a file with traces and, in its first or last column, states."""
    values = read_npy(path)
    if values.ndim != 2 or values.shape[1] % 2 == 0:
        raise DataError(
            f"{path}: has shape {values.shape}, which leaves no column for the states: give a second file of states, or a "
            f"folder; expected {LAYOUTS}"
        )
    fitting = [place for place in (-1, 0) if np.isin(values[:, place], (0, 1)).all()]
    if len(fitting) != 1:
        which = "both the first and the last" if fitting else "neither the first nor the last"
        raise DataError(f"{path}: {which} of its {values.shape[1]} columns hold 0 and 1, the states; expected {LAYOUTS}")
    source = f"labels in the {'last' if fitting[0] else 'first'} column"
    traces = pairs(np.delete(values, fitting[0], axis=1), path, source)
    return IqFile(path, traces, values[:, fitting[0]], 0, source, f"I/Q traces of {traces.shape[1]} samples, with {source}")


def _states(states: Array, path: Path, count: int) -> Array:
    """Return class indices (traces,), or as they are if they are one-hot.

    Raises:
        DataError: If there is not one per trace.
    """
    if len(states.shape) not in (1, 2) or len(states) != count:
        raise DataError(f"{path}: has shape {states.shape}; expected the states of {count} traces")
    return states[:, 0] if states.ndim == 2 and states.shape[1] == 1 else states
