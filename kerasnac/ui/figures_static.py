"""Figures as files, for papers: PNG and PDF, drawn by matplotlib."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure

from kerasnac.core.store.files import write_bytes
from kerasnac.ui.figures import DASHES, INK, SYMBOLS, Chart, Series, percent

#: Text of a PDF stays text, and the font is that of the figures of most papers.
STYLE: Any = {
    "pdf.fonttype": 42,
    "font.size": 9,
    "axes.titlesize": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "legend.fontsize": 7,
    "legend.frameon": False,
}

#: Letters below a horizontal axis beyond which they are slanted.
MOST_LETTERS = 50

#: Entries of a legend beyond which it stands beside the figure.
MOST = 6

#: Height of a figure, and of an entry of the legend beside it, in inches.
HEIGHT, ENTRY = 3.6, 0.17


def draw(chart: Chart) -> Figure:
    """Draw a figure, 5 inches wide, or 8 for a wide one; as high as the legend beside it."""
    with rc_context(STYLE):
        made = Figure(figsize=(8 if chart.wide else 5, HEIGHT), layout="constrained")
        axes = made.subplots()
        _fill(axes, chart)
        named = axes.get_legend_handles_labels()[1]
        if len(named) > MOST:
            made.legend(loc="outside right upper")
            made.set_figheight(max(HEIGHT, ENTRY * (len(named) + 1)))
        elif len(named) > 1:
            axes.legend()
    return made


def panels(charts: Sequence[Chart], columns: int = 3) -> Figure:
    """Draw figures with the same series side by side, with one legend for all."""
    columns = min(columns, len(charts))
    lines = -(-len(charts) // columns)
    with rc_context(STYLE):
        made = Figure(figsize=(3.4 * columns, 2.8 * lines + 0.2 * len(charts[0].series)), layout="constrained")
        axes = made.subplots(lines, columns, squeeze=False).ravel()
        for place, chart in zip(axes, charts, strict=False):
            _fill(place, chart)
        for rest in axes[len(charts) :]:
            rest.set_axis_off()
        made.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center")
    return made


def _fill(axes: Axes, chart: Chart) -> None:
    bottoms: dict[str, float] = {}
    for one in chart.series:
        _DRAWN[one.style](axes, one, "black" if one.color == INK else one.color, bottoms if chart.stacked else {})
    axes.set(xlabel=_plain(chart.x), ylabel=_plain(chart.y), title=_plain(chart.title))
    if not chart.is_matrix:
        axes.grid(alpha=0.25)
    if chart.log_x:
        axes.set_xscale("log")
    if chart.log_y:
        axes.set_yscale("log")
    if chart.range_y is not None:
        axes.set_ylim(*chart.range_y)
    if chart.categories and sum(len(str(name)) for name in {x for one in chart.series for x in one.x}) > MOST_LETTERS:
        axes.tick_params(axis="x", rotation=30)
        for name in axes.get_xticklabels():
            name.set(horizontalalignment="right", rotation_mode="anchor")


def _points(axes: Axes, one: Series, color: str, _: dict[str, float]) -> None:
    style: dict[str, Any] = {"s": 16, "c": color, "edgecolors": "none", "linewidths": 0.6, "label": _plain(one.name)}
    if one.symbol == "star":
        style |= {"s": 70, "edgecolors": "black", "zorder": 3}
    if one.symbol == "circle-open":
        style |= {"s": 90, "c": "none", "edgecolors": color, "linewidths": 1, "zorder": 3}
    if one.opacity:
        axes.scatter([], [], marker=_marker(one), **style)  # For the legend, which would have the opacity of the first point.
        style |= {"alpha": list(one.opacity), "label": None}
    axes.scatter(one.x, one.y, marker=_marker(one), **style)


def _line(axes: Axes, one: Series, color: str, _: dict[str, float]) -> None:
    axes.plot(one.x, one.y, color=color, ls=DASHES[one.dash], lw=1.2, label=_plain(one.name))


def _curve(axes: Axes, one: Series, color: str, _: dict[str, float]) -> None:
    style: dict[str, Any] = {"marker": _marker(one), "ms": 3.5, "lw": 1, "ls": DASHES[one.dash]}
    if one.opacity:  # The line is there for all points, their markers are of their own.
        axes.plot(one.x, one.y, color=color, **style | {"marker": "none", "alpha": 0.6})
        own: dict[str, Any] = {"s": 16, "c": color, "linewidths": 0, "alpha": list(one.opacity)}
        axes.scatter(one.x, one.y, marker=_marker(one), **own)
        axes.plot([], [], color=color, label=_plain(one.name), **style)
        return
    axes.plot(one.x, one.y, color=color, label=_plain(one.name), **style)


def _step(axes: Axes, one: Series, color: str, _: dict[str, float]) -> None:
    axes.step(one.x, one.y, where="post", color=color, lw=1.2, label=_plain(one.name))


def _bars(axes: Axes, one: Series, color: str, bottoms: dict[str, float]) -> None:
    names = [_plain(str(name)) for name in one.x]
    below = [bottoms.get(str(name), 0.0) for name in one.x]
    axes.bar(names, one.y, bottom=below, color=color, label=_plain(one.name), edgecolor="white", linewidth=0.3)
    for name, value in zip(one.x, one.y, strict=True):
        bottoms[str(name)] = bottoms.get(str(name), 0.0) + value


def _box(axes: Axes, one: Series, color: str, _: dict[str, float]) -> None:
    groups: dict[str, list[float]] = {}
    for name, value in zip(one.x, one.y, strict=True):
        groups.setdefault(_plain(str(name)), []).append(value)
    line = {"color": color}
    axes.boxplot(
        list(groups.values()),
        tick_labels=list(groups),
        boxprops=line,
        whiskerprops=line,
        capprops=line,
        medianprops=line,
        showfliers=False,
    )
    for place, values in enumerate(groups.values(), start=1):
        axes.scatter([place] * len(values), values, s=6, c=color, alpha=0.4, linewidths=0)


def _level(axes: Axes, one: Series, color: str, _: dict[str, float]) -> None:
    axes.axhline(one.y[0], color=color, ls=DASHES[one.dash], lw=0.9, label=_plain(one.name))


def _heat(axes: Axes, one: Series, color: str, _: dict[str, float]) -> None:
    columns, rows = list(dict.fromkeys(map(str, one.x))), list(dict.fromkeys(one.rows))
    values = np.full((len(rows), len(columns)), np.nan)
    for column, row, value in zip(one.x, one.rows, one.y, strict=True):
        values[rows.index(row), columns.index(str(column))] = value
        axes.text(columns.index(str(column)), rows.index(row), percent(value), ha="center", va="center", fontsize=6)
    scale = LinearSegmentedColormap.from_list("white to color", ["white", color])
    axes.imshow(values, cmap=scale, vmin=0, vmax=1, aspect="auto", alpha=0.75)
    axes.set_xticks(range(len(columns)), [_plain(name) for name in columns])
    axes.set_yticks(range(len(rows)), [_plain(name) for name in rows])


_DRAWN = {
    "heat": _heat,
    "points": _points,
    "line": _line,
    "curve": _curve,
    "step": _step,
    "bars": _bars,
    "box": _box,
    "level": _level,
}


def _plain(text: str) -> str:
    """Return a text in which a dollar begins no formula."""
    return text.replace("$", r"\$")


def _marker(one: Series) -> str:
    return {"star": "*", "circle-open": "o"}.get(one.symbol) or SYMBOLS[one.symbol]


def save(charts: Iterable[Chart], folder: Path) -> list[Path]:
    """Write figures as PNG (300 dpi) and PDF, and return the paths.

    Raises:
        EnvironmentProblem: If they cannot be written.
    """
    made = []
    for chart in charts:
        figure = draw(chart)
        for suffix in ("png", "pdf"):
            content = BytesIO()
            metadata = {"CreationDate": None} if suffix == "pdf" else None  # The same figure is the same file.
            with rc_context(STYLE):
                figure.savefig(content, format=suffix, dpi=300, metadata=metadata)
            write_bytes(folder / f"{chart.key}.{suffix}", content.getvalue())
            made.append(folder / f"{chart.key}.{suffix}")
    return made
