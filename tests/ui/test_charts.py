"""Figures of results."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from kerasnac.stages.compress.points import point_origin
from kerasnac.stages.results.saved import open_run
from kerasnac.ui import charts


def test_curves_of_a_model_share_a_shade_and_those_of_a_width_a_symbol(folder: Path) -> None:
    outcome = open_run(folder).outcome
    assert outcome is not None
    found = outcome.compressed
    twins = tuple(replace(model, origin=replace(point_origin(model), parent="twin")) for model in found.models)
    chart = next(charts.compression(replace(found, models=(*found.models, *twins))))
    looks = {series.name: (series.color, series.symbol) for series in chart.series if series.style in ("curve", "points")}
    half = len(looks) // 2
    names, others = list(looks)[:half], list(looks)[half:]
    assert half > 1
    assert all(name.startswith("twin, ") for name in others)
    assert len({looks[name][0] for name in names}) == len({looks[name][0] for name in others}) == 1
    assert looks[names[0]][0] != looks[others[0]][0]
    assert [looks[name][1] for name in names] == [looks[name][1] for name in others]
    assert len({looks[name][1] for name in names}) == half

    (*alone,) = (series for series in next(charts.compression(found)).series if series.name in names)
    assert len({series.color for series in alone}) == len({series.symbol for series in alone}) == half
