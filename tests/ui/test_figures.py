"""Figures as data, and as files."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import pytest

from kerasnac.ui import figures_static
from kerasnac.ui.figures import COLORS, Chart, Series, good_range, looks, plotly, shades


def test_colors_are_of_one_hue_and_told_apart() -> None:
    assert len(set(COLORS.values())) == len(COLORS)
    made = shades(COLORS["compress"], 5)
    assert len(set(made)) == 5
    assert [int(one[3:5], 16) for one in made] == sorted(int(one[3:5], 16) for one in made)
    assert len(set(looks(COLORS["tune"], 12))) == 12


@pytest.mark.parametrize(
    ("values", "sense", "ends"),
    [
        ([0.9] * 10 + [0.91] * 9 + [0.1], "max", (0.895, 0.9112)),
        ([0.2] * 10 + [0.1] * 9 + [30.0], "min", (0.088, 0.25)),
        ([0.5, 0.6, 0.7], "max", None),
        ([math.nan], "max", None),
        ([0.5] * 20, "min", None),
    ],
)
def test_bad_values_do_not_squeeze_the_others(values: list[float], sense: str, ends: tuple[float, float] | None) -> None:
    found = good_range(values, sense)
    assert found == (None if ends is None else pytest.approx(ends))


@pytest.mark.parametrize("style", ["points", "line", "curve", "step", "bars", "box", "level", "heat"])
def test_every_style_is_drawn_twice(style: str, tmp_path: Path) -> None:
    names = style in ("bars", "box", "heat")
    x: list[float | str] = ["$a", "$a", "b$^"] if names else [1.0, 2.0, 3.0]
    one = Series("a $name^", x if style != "bars" else ["$a", "b$^", "c"], [0.5, math.nan, 0.7], style)  # type: ignore[arg-type]
    one = replace(one, x=["$a", "b$^", "c"], rows=["$a"] * 3, color="#009E73") if style == "heat" else one
    chart = Chart("made", "50 $ and 60 $", "x_1", "y", (one,), log_x=not names, categories=names, stacked=style == "bars")
    endless = replace(chart, series=(replace(one, x=[math.inf, *x[1:]]),))
    json.dumps(plotly(endless), allow_nan=False)
    paths = figures_static.save([chart], tmp_path)
    assert [path.name for path in paths] == ["made.png", "made.pdf"]
    assert paths[0].read_bytes()[:4] == b"\x89PNG"
    before = paths[1].read_bytes()
    figures_static.save([chart], tmp_path)
    assert paths[1].read_bytes() == before


@pytest.mark.parametrize("count", [2, 7, 40])
def test_a_legend_is_shown_whole(count: int) -> None:
    series = [Series(f"network {number}, 8-bit weights", [1.0, 2.0], [0.1, 0.2], "curve") for number in range(count)]
    figure = figures_static.draw(Chart("made", "title", "x", "y", tuple(series), wide=True))
    figure.draw_without_rendering()
    (legend,) = figure.legends or [figure.axes[0].get_legend()]
    assert legend is not None
    ends = legend.get_window_extent()
    assert ends.y0 >= 0
    assert ends.y1 <= figure.bbox.height
