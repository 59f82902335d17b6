"""ROC curves and distances on the test split, as a table and as a figure."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from matplotlib.figure import Figure
from rich.table import Table

from kerasnac.core.data.bootstrap import number
from kerasnac.core.data.curves import EFFICIENCIES, QUANTILES, Curves, Distances, Roc

#: Signal efficiency whose background rejection stands in tables.
SHOWN = EFFICIENCIES[1]


def table(curves: Mapping[str, Curves]) -> Table:
    """Return the areas and background rejections of every model, or the quantiles of its distances."""
    first = next(iter(curves.values()))
    if isinstance(first, Distances):
        unit = f", {first.unit}" if first.unit else ""
        made = Table(title=f"Distances on the test split{unit}", title_justify="left")
        columns = ("mean", "median", *(f"{q:.0%}" for q in QUANTILES[1:]))
        rows = {
            model: [found.mean, *found.quantiles.values()] for model, found in curves.items() if isinstance(found, Distances)
        }
    else:
        made = Table(title="ROC on the test split: area, and background rejection", title_justify="left")
        columns = tuple(f"{what} {roc.signal}" for what in ("AUC", f"1/ε_B at {SHOWN:.0%}") for roc in first)
        rows = {model: _quoted(found) for model, found in curves.items() if not isinstance(found, Distances)}
    for heading in ("model", *columns):
        made.add_column(heading, justify="left" if heading == "model" else "right", overflow="fold", no_wrap=heading == "model")
    for model, values in rows.items():
        made.add_row(model, *map(number, values))
    return made


def figure(curves: Mapping[str, Curves]) -> Figure:
    """Plot the ROC curves of every class, all models in one picture, or the distributions of the distances."""
    rocs = {model: found for model, found in curves.items() if not isinstance(found, Distances)}
    return _rocs(rocs) if rocs else _distances({m: found for m, found in curves.items() if isinstance(found, Distances)})


def _quoted(found: tuple[Roc, ...]) -> list[float]:
    return [*(roc.auc for roc in found), *(roc.rejection[SHOWN] for roc in found)]


def _rocs(curves: Mapping[str, tuple[Roc, ...]]) -> Figure:
    signals = [roc.signal for roc in next(iter(curves.values()))]
    columns = min(3, len(signals))
    lines = -(-len(signals) // columns)
    made = Figure(figsize=(4.5 * columns, 3.8 * lines + 0.35 * len(curves)), layout="constrained")
    axes = made.subplots(lines, columns, squeeze=False).ravel()
    for place, signal in enumerate(signals):
        for color, (model, found) in enumerate(curves.items()):
            roc = found[place]
            shown = roc.mistaken > 0
            axes[place].plot(roc.efficiency[shown], roc.mistaken[shown], color=f"C{color % 10}", lw=1.2, label=model)
        axes[place].set(xlabel=f"efficiency for {signal}", ylabel="efficiency for all others", yscale="log", title=signal)
        axes[place].grid(alpha=0.3)
    for rest in axes[len(signals) :]:
        rest.set_axis_off()
    made.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", fontsize="small")
    return made


def _distances(curves: Mapping[str, Distances]) -> Figure:
    made = Figure(figsize=(8, 5), layout="constrained")
    axes = made.subplots()
    for color, (model, found) in enumerate(curves.items()):
        # Per bin width, since models have bins of their own; the last one holds what is beyond and is left out.
        density = found.counts / found.counts.sum() / np.diff(found.edges)
        median, most = found.quantiles[0.5], found.quantiles[0.95]
        axes.stairs(
            density[:-1], found.edges[:-1], color=f"C{color % 10}", label=f"{model}: median {median:.3f}, 95 % {most:.3f}"
        )
        axes.axvline(median, color=f"C{color % 10}", ls=":", lw=1)
    unit = next(iter(curves.values())).unit
    axes.set(
        xlabel="distance" + (f" [{unit}]" if unit else ""),
        ylabel="fraction of the test samples per unit",
        title="distances (dotted: medians)",
    )
    axes.grid(alpha=0.3)
    axes.legend(fontsize="small")
    return made
