"""Figures as files, for papers: PNG and PDF, drawn by matplotlib."""

from __future__ import annotations

from collections.abc import Iterable
from io import BytesIO
from pathlib import Path
from typing import Any

from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from kerasnac.core.store.files import write_bytes
from kerasnac.ui.figures import DASHES, INK, SYMBOLS, Chart, Series

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


def draw(chart: Chart) -> Figure:
    """Draw a figure, 5 inches wide, or 8 for a wide one."""
    with rc_context(STYLE):
        made = Figure(figsize=(8 if chart.wide else 5, 3.6), layout="constrained")
        axes = made.subplots()
        bottoms: dict[str, float] = {}
        for one in chart.series:
            _DRAWN[one.style](axes, one, "black" if one.color == INK else one.color, bottoms if chart.stacked else {})
        axes.set(xlabel=_plain(chart.x), ylabel=_plain(chart.y), title=_plain(chart.title))
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
        named = axes.get_legend_handles_labels()[1]
        if len(named) > MOST:
            made.legend(loc="outside right upper")
        elif len(named) > 1:
            axes.legend()
    return made


def _points(axes: Axes, one: Series, color: str, _: dict[str, float]) -> None:
    size = 70 if one.symbol == "star" else 16
    edge = "black" if one.symbol == "star" else "none"
    axes.scatter(one.x, one.y, s=size, c=color, marker=_marker(one), edgecolors=edge, linewidths=0.6, label=_plain(one.name))


def _line(axes: Axes, one: Series, color: str, _: dict[str, float]) -> None:
    axes.plot(one.x, one.y, color=color, ls=DASHES[one.dash], lw=1.2, label=_plain(one.name))


def _curve(axes: Axes, one: Series, color: str, _: dict[str, float]) -> None:
    style: dict[str, Any] = {"marker": _marker(one), "ms": 3.5, "lw": 1, "ls": DASHES[one.dash]}
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


_DRAWN = {"points": _points, "line": _line, "curve": _curve, "step": _step, "bars": _bars, "box": _box, "level": _level}


def _plain(text: str) -> str:
    """Return a text in which a dollar begins no formula."""
    return text.replace("$", r"\$")


def _marker(one: Series) -> str:
    return "*" if one.symbol == "star" else SYMBOLS[one.symbol]


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
