"""Types and bounds of the options of datasets, each declared once; :func:`kerasnac.core.checks.checked` keeps them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, TypedDict, cast

from pydantic import Field, PlainValidator

from kerasnac.core.checks import Seed, Size
from kerasnac.core.data.task import Task, task_kind
from kerasnac.core.network.precision import Precision

#: Width of the input grid, in bits.
InputBits = Annotated[int, Field(ge=1, le=32)]

#: A number between 0 and 1, both excluded.
Fraction = Annotated[float, Field(gt=0, lt=1)]

#: Train, validation and test fractions.
Fractions = tuple[Fraction, Fraction, Fraction]

#: Fraction of values that a grid may clip.
Saturation = Annotated[float, Field(ge=0, le=1)]


def _task_or_kind(value: Any) -> str | Task:
    if not isinstance(value, Task):
        task_kind(value)
    return cast(str | Task, value)


def _grid(value: Any) -> Precision | None:
    if not isinstance(value, Precision | str | None):
        raise ValueError("write a number format, such as ap_fixed<12,4>")
    return Precision.parse(value) if isinstance(value, str) else value


#: A task, in one word or in full.
AnyTask = Annotated[str | Task, PlainValidator(_task_or_kind)]

#: A number format, or its name.
Grid = Annotated[Precision | str | None, PlainValidator(_grid)]


def _columns(value: Any) -> tuple[str, ...] | None:
    if value is None:
        return None
    names = (value,) if isinstance(value, str) else value
    if not isinstance(names, list | tuple) or not all(isinstance(name, str) for name in names):
        raise ValueError("expected the name of a column, or a list of names")
    return tuple(names)


#: One column of a table, or several.
Columns = Annotated[str | Sequence[str], PlainValidator(_columns)]


def _labels(value: Any) -> str | Path | int:
    whole = isinstance(value, int) and not isinstance(value, bool)
    if not whole and not (isinstance(value, str | Path) and str(value)):
        raise ValueError("expected the path of a file, or the index of a column")
    return cast(str | Path | int, value)


#: A file of labels, or the index of a column that holds them.
Labels = Annotated[str | Path | int, PlainValidator(_labels)]


def _paths(value: Any) -> str | Path | tuple[str | Path, ...]:
    several = isinstance(value, list | tuple)
    listed = tuple(value) if several else (value,)
    if not listed or not all(isinstance(one, str | Path) and str(one) and "\0" not in str(one) for one in listed):
        raise ValueError("expected the path of a file or folder, or a list of paths")
    return listed if several else cast(str | Path, value)


#: A file or folder, or several.
Paths = Annotated[str | Path | Sequence[str | Path], PlainValidator(_paths)]


def listed(paths: str | Path | Sequence[str | Path]) -> tuple[Path, ...]:
    """Return one path or several as a tuple."""
    return (Path(paths),) if isinstance(paths, str | Path) else tuple(map(Path, paths))


class Options(TypedDict, total=False):
    """Arguments that the loaders of files hand on to :func:`from_arrays`, which says what they mean."""

    task: AnyTask
    outputs: Size | None
    name: str
    seed: Seed
    fractions: Fractions
    standardize: bool
    input_bits: InputBits
    input_grid: Grid
    max_saturation: Saturation
    background: Columns | None
