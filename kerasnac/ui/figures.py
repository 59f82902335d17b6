"""Figures as data: described once, drawn by plotly in the report and by matplotlib in files."""

from __future__ import annotations

import colorsys
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

#: One hue per stage, from the palette of Okabe and Ito, which colour-blind people can tell apart, on white and on black.
COLORS: Mapping[str, str] = {
    "search": "#0072B2",
    "tune": "#E69F00",
    "compress": "#009E73",
    "firmware": "#D55E00",
    "trees": "#CC79A7",
    "classical": "#56B4E9",
}

#: Colour of what belongs to no stage: that of the text.
INK = "ink"

#: Markers, in the order in which series of one hue get them: plotly's name, and matplotlib's.
SYMBOLS: Mapping[str, str] = {"circle": "o", "square": "s", "diamond": "D", "triangle-up": "^", "cross": "P", "x": "X"}

#: Dashes of lines without markers, likewise.
DASHES: Mapping[str, str] = {"solid": "-", "dash": "--", "dot": ":", "dashdot": "-."}

#: Values beyond which a box no longer shows each.
MOST_DOTS = 400

Style = Literal["points", "line", "curve", "step", "bars", "box", "level", "heat"]


@dataclass(frozen=True)
class Series:
    """Points of a figure that belong together.

    Attributes:
        name: For the legend.
        x: Numbers, or names where :attr:`Chart.categories` is set; of bars the names.
        y: As many numbers; NaN leaves a gap.
        style: ``points``, ``line``, ``curve`` (a line with points), ``step``, ``bars``, ``box`` (``x`` is the group of every
            ``y``), ``level``, a horizontal line at the first ``y``, or ``heat``, cells of a matrix with fractions.
        color: A colour, or :data:`INK`.
        symbol: A key of :data:`SYMBOLS`, ``star``, or ``circle-open``, a ring around other points.
        dash: A key of :data:`DASHES`.
        texts: What is shown of every point when the mouse is over it.
        rows: Of ``heat``, the row of every value of ``y``; ``x`` is the column.
        opacity: Of every point, from 0 to 1; by default all are opaque.
    """

    name: str
    x: Sequence[float | str]
    y: Sequence[float]
    style: Style = "points"
    color: str = INK
    symbol: str = "circle"
    dash: str = "solid"
    texts: Sequence[str] = ()
    rows: Sequence[str] = ()
    opacity: Sequence[float] = ()


@dataclass(frozen=True)
class Chart:
    """A figure.

    Attributes:
        key: Name of its file, and of its place on a page.
        title: What it shows.
        x: Label of the horizontal axis.
        y: Label of the vertical one.
        series: What is drawn, in this order.
        log_x: True for a logarithmic horizontal axis.
        log_y: True for a logarithmic vertical one.
        categories: True if the horizontal axis has names.
        stacked: True if bars stand on each other.
        range_y: Ends of the vertical axis; None for all that there is.
        note: What else has to be said.
        wide: True for a figure that needs the width of a page.
    """

    key: str
    title: str
    x: str
    y: str
    series: tuple[Series, ...]
    log_x: bool = False
    log_y: bool = False
    categories: bool = False
    stacked: bool = False
    range_y: tuple[float, float] | None = None
    note: str = ""
    wide: bool = False

    @property
    def is_matrix(self) -> bool:
        """True if both axes have names, the vertical one from top to bottom."""
        return any(one.style == "heat" for one in self.series)


def shades(color: str, count: int) -> list[str]:
    """Return so many shades of one hue, from dark to light."""
    red, green, blue = (int(color[place : place + 2], 16) / 255 for place in (1, 3, 5))
    hue, _, saturation = colorsys.rgb_to_hls(red, green, blue)
    found = []
    for number in range(count):
        light = 0.24 + 0.4 * (number / (count - 1) if count > 1 else 0.25)
        parts = colorsys.hls_to_rgb(hue, light, 0.8 * saturation)
        found.append("#" + "".join(f"{round(255 * part):02X}" for part in parts))
    return found


def looks(color: str, count: int) -> list[tuple[str, str]]:
    """Return colour and symbol of so many series of one stage."""
    symbols = list(SYMBOLS)
    return [(shade, symbols[number % len(symbols)]) for number, shade in enumerate(shades(color, count))]


def good_range(values: Sequence[float], sense: str) -> tuple[float, float] | None:
    """Return ends of an axis that leave the worst few values out, so that the others can be told apart; None to show all.

    Args:
        values: Values of a metric; those that are not finite do not count.
        sense: ``max`` or ``min``: which end is the good one.
    """
    sign = 1 if sense == "max" else -1
    good = sorted(sign * value for value in values if math.isfinite(value))
    if not good:
        return None
    low, high = good[int(0.1 * (len(good) - 1))], good[-1]
    floor = low - 0.5 * (high - low)
    if good[0] >= floor or high == low:
        return None
    ends = (sign * floor, sign * (high + 0.08 * (high - floor)))
    return (min(ends), max(ends))


def hidden_note(values: Sequence[float], ends: tuple[float, float] | None) -> str:
    """Return how many values an axis with such ends leaves out; empty if it shows all."""
    hidden = 0 if ends is None else sum(not ends[0] <= value <= ends[1] for value in values if math.isfinite(value))
    return f"{hidden} worse {'is' if hidden == 1 else 'are'} not shown." if hidden else ""


def plotly(chart: Chart) -> dict[str, Any]:
    """Return a figure as plotly's JSON, without its theme; NaN and infinity are null."""
    scale = {True: "log", False: "linear"}
    layout: dict[str, Any] = {
        "xaxis": {"title": {"text": chart.x}, "type": "category" if chart.categories else scale[chart.log_x]},
        "yaxis": {"title": {"text": chart.y}, "type": scale[chart.log_y]},
    }
    if chart.range_y is not None:
        layout["yaxis"]["range"] = list(chart.range_y)
    if chart.is_matrix:
        layout["yaxis"] |= {"type": "category", "autorange": "reversed"}
    if chart.stacked:
        layout["barmode"] = "stack"
    levels = [one for one in chart.series if one.style == "level"]
    layout["shapes"] = [
        {
            "type": "line",
            "xref": "paper",
            "x0": 0,
            "x1": 1,
            "y0": one.y[0],
            "y1": one.y[0],
            "line": {"color": one.color, "width": 1, "dash": one.dash},
        }
        for one in levels
    ]
    return {"data": [_trace(one) for one in chart.series], "layout": layout}


def _trace(one: Series) -> dict[str, Any]:
    line = {"color": one.color, "width": 1.5, "dash": one.dash}
    common: dict[str, Any] = {"name": one.name, "x": [plain(value) for value in one.x], "y": [plain(value) for value in one.y]}
    if one.texts:
        common |= {"text": list(one.texts), "hoverinfo": "text"}
    if one.style == "heat":
        red, green, blue = (int(one.color[place : place + 2], 16) for place in (1, 3, 5))
        return {
            "type": "heatmap",
            "name": one.name,
            "x": common["x"],
            "y": list(one.rows),
            "z": common["y"],
            "zmin": 0,
            "zmax": 1,
            # On any background, with letters of one colour in all cells.
            "colorscale": [[0, f"rgba({red},{green},{blue},0)"], [1, f"rgba({red},{green},{blue},0.75)"]],
            "showscale": False,
            "text": [percent(value) for value in one.y],
            "texttemplate": "%{text}",
            "textfont": {"color": INK},
            "hovertext": list(one.texts),
            "hoverinfo": "text",
        }
    if one.style == "bars":
        return common | {"type": "bar", "marker": {"color": one.color}}
    if one.style == "box":
        return common | {
            "type": "box",
            "marker": {"color": one.color, "size": 4, "opacity": 0.6},
            "line": {"width": 1.2},
            "boxpoints": "all" if len(one.y) <= MOST_DOTS else "outliers",
            "jitter": 0.5,
            "pointpos": 0,
        }
    if one.style == "level":  # The line itself is a shape: an entry of the legend is left.
        return {"type": "scatter", "name": one.name, "x": [None], "y": [None], "mode": "lines", "line": line}
    mode = {"points": "markers", "line": "lines", "curve": "lines+markers", "step": "lines"}[one.style]
    marker: dict[str, Any] = {
        "color": one.color,
        "symbol": one.symbol,
        "size": {"star": 12, "circle-open": 14}.get(one.symbol, 6),
    }
    marker |= {"opacity": list(one.opacity)} if one.opacity else {}
    shape = {"shape": "hv"} if one.style == "step" else {}
    return common | {"type": "scatter", "mode": mode, "marker": marker, "line": line | shape}


def percent(fraction: float) -> str:
    """Return the text of a cell of ``heat``: empty where it would be 0 %."""
    return f"{fraction:.0%}" if fraction >= 0.005 else ""


def plain(value: Any) -> Any:
    """Return a number as JSON has it: null where it is not finite."""
    if isinstance(value, bool) or value is None or isinstance(value, str):
        return value
    number = float(value)
    return number if math.isfinite(number) else None
