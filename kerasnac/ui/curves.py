"""What is quoted of ROC curves and distances on the test split, as a table."""

from __future__ import annotations

from collections.abc import Mapping

from rich.table import Table

from kerasnac.core.data.bootstrap import number
from kerasnac.core.data.curves import EFFICIENCIES, QUANTILES, Curves, Distances, Roc

#: Classes beyond which each has a line of its own for every model.
MOST_COLUMNS = 6

#: Signal efficiency whose background rejection stands in tables.
SHOWN = EFFICIENCIES[1]


def table(curves: Mapping[str, Curves]) -> Table:
    """Return the areas and background rejections of every model, or the quantiles of its distances."""
    first = next(iter(curves.values()))
    if isinstance(first, Distances):
        unit = f", {first.unit}" if first.unit else ""
        made = Table(title=f"Distances on the test split{unit}", title_justify="left")
        columns = ("mean", "median", *(f"{q:.0%}" for q in QUANTILES[1:]))
    elif len(first) > MOST_COLUMNS:
        return _by_class({model: found for model, found in curves.items() if not isinstance(found, Distances)})
    else:
        made = Table(title="ROC on the test split: area, and background rejection", title_justify="left")
        columns = tuple(values(first))
    for heading in ("model", *columns):
        made.add_column(heading, justify="left" if heading == "model" else "right", overflow="fold", no_wrap=heading == "model")
    for model, found in curves.items():
        if isinstance(found, Distances) == isinstance(first, Distances):
            made.add_row(model, *map(number, values(found).values()))
    return made


def _by_class(curves: Mapping[str, tuple[Roc, ...]]) -> Table:
    """Return the same with a line for every class, and two columns for every model."""
    made = Table(title="ROC on the test split: area, and background rejection", title_justify="left")
    made.add_column("class")
    for model in curves:
        made.add_column(f"{model} AUC", justify="right", overflow="fold")
        made.add_column(f"1/ε_B at {SHOWN:.0%}", justify="right")
    for place, roc in enumerate(next(iter(curves.values()))):
        own = [found[place] for found in curves.values()]
        made.add_row(roc.signal, *(number(value) for one in own for value in (one.auc, one.rejection[SHOWN])))
    return made


def values(found: Curves) -> dict[str, float]:
    """Return what is quoted of curves, by its heading: areas and background rejections by class, or mean and quantiles."""
    if isinstance(found, Distances):
        quantiles = {"median" if level == 0.5 else f"{level:.0%}": value for level, value in found.quantiles.items()}
        return {f"mean{f', {found.unit}' if found.unit else ''}": found.mean, **quantiles}
    areas = {f"AUC {roc.signal}": roc.auc for roc in found}
    return areas | {f"1/ε_B at {SHOWN:.0%} {roc.signal}": roc.rejection[SHOWN] for roc in found}
