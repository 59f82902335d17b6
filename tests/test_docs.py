"""Pages under ``docs`` whose numbers are made by code are what the code makes."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

from kerasnac import baselines
from kerasnac.core.network.bops import costs

DOCS = Path(__file__).parents[1] / "docs"


@pytest.mark.skipif(not DOCS.is_dir(), reason="the pages are not installed")
def test_the_tables_of_bops_are_fresh() -> None:
    spec = importlib.util.spec_from_file_location("bops_page", DOCS / "bops.py")
    assert spec is not None
    assert spec.loader is not None
    made = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(made)
    page = made.PAGE.read_text(encoding="utf-8")
    assert made.written(page) == page, "run python docs/bops.py"
    # Numbers that stand in the text.
    braggnn, base = ({row.layer: row.bops / 1e6 for row in costs(baselines.get(name))} for name in made.PUBLISHED)
    total, small = sum(braggnn.values()), sum(base.values())
    without_norms = sum(value for layer, value in base.items() if not layer.startswith("layer_norm"))
    outside = braggnn["conv2d_0"] + braggnn["conv2d_5"] + braggnn["conv2d_6"]
    assert (f"{total:,.0f}", f"{without_norms:.0f}", f"{outside:,.0f}") == ("2,307", "235", "1,105")
    assert (f"{total / small:.1f}", f"{1106 / 85:.1f}") == ("9.6", "13.0")
