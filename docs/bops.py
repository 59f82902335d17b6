"""Tables of ``docs/bops.md``: BOPs of published networks, here and as published. ``python docs/bops.py`` rewrites them."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from pathlib import Path

from kerasnac import baselines, bops
from kerasnac.core.network.architecture import Architecture
from kerasnac.core.network.bops import costs
from kerasnac.core.network.published_bops import published_by_layer

PAGE = Path(__file__).with_suffix(".md")

#: Width of weights and activations in the published tables.
BITS = 32

#: Published totals, in MBOPs: Table 1 of Weitz et al., arXiv:2501.05515.
PUBLISHED = {"braggnn": ("BraggNN", 1106), "nac_bragg": ("NAC's base network", 85)}


def rows(architecture: Architecture) -> Iterator[tuple[str, str, float, float]]:
    """Yield name, output, bit operations here and as published of every layer that has any."""
    found = costs(architecture, weight_bits=BITS, activation_bits=BITS)
    here = {row.layer: row.bops for row in found}
    there = published_by_layer("nac", architecture, found)
    assert there is not None
    for node in architecture.nodes:
        pair = here.get(node.name, 0.0), there.get(node.name, 0.0)
        if any(pair):
            yield node.name, " x ".join(map(str, node.output)), *pair


def table(name: str) -> str:
    """Return the table of a network as Markdown."""
    title, published = PUBLISHED[name]
    lines = [
        f"| {title}, layer | output | here | as published | here / published | published / here |",
        "|---|---|---|---|---|---|",
    ]
    found = list(rows(baselines.get(name)))
    ours, theirs = (sum(row[i] for row in found) for i in (2, 3))
    assert round(theirs / 1e6) == published, f"{name}: {theirs / 1e6:.1f} MBOPs are not the published {published}"
    assert math.isclose(ours, bops(baselines.get(name)))
    for layer, output, first, second in (*found, ("**all**", "", ours, theirs)):
        ratios = (f"{first / second:.2f}", f"{second / first:.2f}") if first and second else ("", "")
        lines.append(f"| {layer} | {output} | {_mega(first)} | {_mega(second)} | {ratios[0]} | {ratios[1]} |")
    return "\n".join(lines)


def written(page: str) -> str:
    """Return the text of a page with its tables made anew."""
    for name in PUBLISHED:
        begin, end = f"<!-- {name}: begin -->", f"<!-- {name}: end -->"
        page = re.sub(f"{begin}.*?{end}", f"{begin}\n{table(name)}\n{end}", page, flags=re.DOTALL)
    return page


def _mega(amount: float) -> str:
    return f"{amount / 1e6:,.3f}" if amount else ""


if __name__ == "__main__":
    PAGE.write_text(written(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
