"""Tables of ``docs/bops.md``: BOPs of published networks, here and as published. ``python docs/bops.py`` rewrites them."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from pathlib import Path

from kerasnac import baselines, bops
from kerasnac.core.network.architecture import Architecture, Node
from kerasnac.core.network.bops import costs

PAGE = Path(__file__).with_suffix(".md")

#: Width of weights and activations in the published tables, and the batch that their softmax is counted for.
BITS, BATCH = 32, 256

#: Published totals, in MBOPs: Table 1 of Weitz et al., arXiv:2501.05515.
PUBLISHED = {"braggnn": ("BraggNN", 1106), "nac_bragg": ("NAC's base network", 85)}

#: Positions and channels of the map that the attention of BraggNN reads.
POSITIONS, CHANNELS = 81, 64


def products(count: float, inputs: float) -> float:
    """Return the bit operations of some products whose sums have so many inputs, without zeros."""
    return count * (BITS * BITS + 2 * BITS + math.log2(inputs))


def as_published(node: Node) -> float:
    """Return the bit operations of a layer in the way that gives the published totals."""
    kind = node.layer.kind
    if kind == "conv2d":
        if node.inputs == (-1,):
            return 0.0  # The first convolution is left out.
        rows, columns, channels, filters = node.weights["kernel"].shape
        inputs = channels * (rows * columns) ** 2
        return products(inputs * filters, inputs)
    if kind == "dense":
        inputs, units = node.weights["kernel"].shape
        return products(inputs * units, inputs)
    if kind == "matmul":
        scores = node.output == (POSITIONS, POSITIONS)
        rows, inner = (CHANNELS, POSITIONS) if scores else (POSITIONS, CHANNELS)
        return rows * rows * (inner * BITS**2 + (inner - 1) * BITS)
    if kind == "softmax":
        return BATCH * (1.5 * POSITIONS**2 * (BITS - 1) + POSITIONS * (POSITIONS - 1) + POSITIONS**2)
    return 0.0


def rows(architecture: Architecture) -> Iterator[tuple[str, str, float, float]]:
    """Yield name, output, bit operations here and as published of every layer that has any."""
    here = {row.layer: row.bops for row in costs(architecture, weight_bits=BITS, activation_bits=BITS)}
    for node in architecture.nodes:
        pair = here.get(node.name, 0.0), as_published(node)
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
