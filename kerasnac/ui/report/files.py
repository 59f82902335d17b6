"""Tables that the end of a run leaves in its folder: curves on the test split, classical methods."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from io import StringIO
from pathlib import Path

#: Names of the files.
CURVES, SUMMARY, CLASSICAL = "curves.csv", "curves_summary.csv", "classical.csv"


@dataclass(frozen=True)
class Curve:
    """ROC curve of a model for one class: fractions of the class, and of all others, that are taken for it."""

    model: str
    signal: str
    efficiency: tuple[float, ...]
    mistaken: tuple[float, ...]


@dataclass(frozen=True)
class Bins:
    """Histogram of the distances of a model: lower ends of the bins, and samples in each."""

    model: str
    low: tuple[float, ...]
    samples: tuple[float, ...]


@dataclass(frozen=True)
class CsvTable:
    """A table as a file has it, numbers as numbers."""

    columns: tuple[str, ...]
    rows: tuple[tuple[str | float, ...], ...]

    def column(self, name: str) -> list[str | float]:
        """Return the values of a column."""
        place = self.columns.index(name)
        return [row[place] for row in self.rows]


def read_table(path: Path, problems: list[str]) -> CsvTable | None:
    """Return a table; None if there is none, or, with a problem, if it is damaged."""
    if not path.is_file():
        return None
    try:
        lines = list(csv.reader(StringIO(path.read_text(encoding="utf-8")), strict=True))
        columns, rows = tuple(lines[0]), lines[1:]
        if not columns or len(set(columns)) < len(columns) or any(len(row) != len(columns) for row in rows):
            raise ValueError("its rows are not of one length, or columns have the same name")
    except (OSError, ValueError, IndexError, csv.Error) as error:
        problems.append(f"{path} is damaged: {error}")
        return None
    return CsvTable(columns, tuple(tuple(_value(cell) for cell in row) for row in rows))


def read_curves(folder: Path, problems: list[str]) -> tuple[list[Curve], list[Bins]]:
    """Return the ROC curves and the histograms of distances of a run; problems are added to a list."""
    table = read_table(folder / CURVES, problems)
    if table is None:
        return [], []
    known, groups = set(table.columns), dict[tuple[str, ...], list[tuple[float, float]]]()
    if {"model", "class", "efficiency", "background_efficiency"} <= known:
        names, x, y = ["model", "class"], "efficiency", "background_efficiency"
    elif {"model", "low", "samples"} <= known:
        names, x, y = ["model"], "low", "samples"
    else:
        problems.append(f"{folder / CURVES}: the columns are those of no curves: {', '.join(table.columns)}")
        return [], []
    owners = zip(*(map(str, table.column(name)) for name in names), strict=True)
    for owner, a, b in zip(owners, table.column(x), table.column(y), strict=True):
        if isinstance(a, float) and isinstance(b, float) and math.isfinite(a) and math.isfinite(b):
            groups.setdefault(owner, []).append((a, b))
    sides = {owner: (tuple(a for a, _ in pairs), tuple(b for _, b in pairs)) for owner, pairs in groups.items()}
    if len(names) == 2:
        return [Curve(owner[0], owner[1], *both) for owner, both in sides.items()], []
    return [], [Bins(owner[0], *both) for owner, both in sides.items()]


def read_text(path: Path) -> str:
    """Return a text file, with what is no UTF-8 replaced; empty if it cannot be read."""
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def for_script(data: Mapping[str, object]) -> str:
    """Return JSON that may stand in an HTML script element, whatever texts are in it."""
    text = json.dumps(data, allow_nan=False, separators=(",", ":"))
    for sign in "<>&":
        text = text.replace(sign, f"\\u{ord(sign):04x}")
    return text


def _value(cell: str) -> str | float:
    try:
        return float(cell)
    except ValueError:
        return cell
